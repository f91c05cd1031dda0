//! `/`: what was used, by whom, what it brings in and what it costs.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use rentroll_schemas::Quantity;

use super::tenant_table::{Sorting, TenantTable};
use crate::address::Address;
use crate::html::chart::{self, Chart};
use crate::html::parts::{self, Stat};
use crate::html::shell::Frame;
use crate::html::table::{Column, Table};
use crate::model::{MeterColumn, MonthState, PoolRow, TenantRow, TenantTotals};
use crate::text;

/// What became of everything that was received, over all time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Taken from the event log.
    pub accepted: u64,
    /// Stored.
    pub stored: u64,
    /// Seen before.
    pub duplicate: u64,
    /// Refused by the aggregator.
    pub rejected: u64,
}

impl Books {
    /// Whether accepted = stored + duplicate + rejected.
    pub fn balance(self) -> bool {
        self.stored.checked_add(self.duplicate).and_then(|sum| sum.checked_add(self.rejected))
            == Some(self.accepted)
    }
}

/// The page's values.
#[derive(Clone, Debug)]
pub struct View {
    /// The shell.
    pub frame: Frame,
    /// The meters, in the order of `meters.yaml`.
    pub meters: Vec<MeterColumn>,
    /// Totals of the window.
    pub totals: TenantTotals,
    /// Charts, one per meter.
    pub charts: Vec<Chart>,
    /// The largest tenants by the first meter.
    pub top: Vec<TenantRow>,
    /// The month's billing, if the window is a month.
    pub month: Option<MonthState>,
    /// The cost pools of the month's newest allocation.
    pub pools: Vec<PoolRow>,
    /// What became of everything received.
    pub books: Books,
    /// How many rejects are kept.
    pub rejects: u64,
    /// The newest event's own time, over all.
    pub newest_event: Option<DateTime<Utc>>,
}

/// The page's body.
pub fn render(view: &View) -> Markup {
    let params = view.frame.window_params();
    html! {
        h1.hidden { "Overview" }
        (parts::stats(&stats(view)))
        section.charts {
            @for chart in &view.charts { (chart::figure(chart)) }
        }
        section {
            (top_tenants(view, &params))
        }
        @if let Some(month) = &view.month {
            section { (money(view, month, &params)) }
        }
        section {
            (books(view, &params))
        }
    }
}

fn stats(view: &View) -> Vec<Stat> {
    let mut stats = vec![Stat::new("Tenants with usage", text::count(view.totals.tenants), "")];
    for (index, meter) in view.meters.iter().enumerate() {
        let Some(total) = view.totals.usage.get(index).copied().flatten().filter(|_| meter.additive) else {
            continue;
        };
        stats.push(meter_stat(meter, total));
    }
    if let Some(invoiced) = view.totals.invoiced {
        stats.push(Stat::new(
            "Invoiced",
            text::money(invoiced.value, invoiced.currency),
            invoiced.currency.to_string(),
        ));
    }
    if let Some(run) = view.month.as_ref().and_then(|month| month.allocation.as_ref()) {
        let total = run.total;
        stats.push(Stat::new(
            "Platform cost",
            text::money(total.value, total.currency),
            total.currency.to_string(),
        ));
    }
    stats.extend(margin_stat(view));
    stats
}

/// A meter's total: at a glance where the unit has a usual scale, in full below it.
pub fn meter_stat(meter: &MeterColumn, total: Quantity) -> Stat {
    let full = format!("{} {}", text::quantity(total), meter.unit);
    match meter.glance(total) {
        Some(glance) => {
            let (value, unit) = glance.split_once(' ').unwrap_or((&glance, ""));
            Stat::new(&meter.title, value, unit).note(html! { (full) })
        }
        None if text::names_another_unit(&meter.title, &meter.unit) => {
            Stat::new(&meter.title, text::quantity(total), &meter.unit)
        }
        None => Stat::new(&meter.title, text::quantity(total), ""),
    }
}

fn top_tenants(view: &View, params: &[(&'static str, String)]) -> Markup {
    let by = view.meters.first().map(|meter| meter.name.clone()).unwrap_or_default();
    let title = view.meters.first().map(|meter| meter.title.to_lowercase()).unwrap_or_default();
    let sorting = Sorting { by, direction: crate::html::table::Direction::Descending };
    let table = TenantTable {
        caption: format!("Tenants with the most {title}"),
        meters: &view.meters,
        month: view.month.as_ref(),
        rows: &view.top,
        totals: &view.totals,
        sorting: &sorting,
        sort_address: None,
        window_params: params,
    };
    html! {
        div.section-head {
            h2 { "Tenants with the most " (title) }
            a href=(Address::new("/tenants").with_all(params)) { "All " (text::count(view.totals.tenants)) " tenants →" }
        }
        (table.render())
        @if view.month.is_none() {
            p.quiet { "Invoices and allocated costs are made per month: choose a month to see them." }
        }
    }
}

fn money(view: &View, month: &MonthState, params: &[(&'static str, String)]) -> Markup {
    html! {
        div.section-head {
            h2 { "Where the cost went" }
            @if month.allocation.is_some() { a href=(Address::new("/costs").with_all(params)) { "Cost per tenant →" } }
        }
        @match &month.allocation {
            Some(run) => (pools(&view.pools, run.total)),
            None => (parts::nothing_yet("No cost has been allocated for this month.", &allocate_command(&view.frame))),
        }
    }
}

/// The command that allocates the month shown.
pub fn allocate_command(frame: &Frame) -> String {
    let month = frame.window.as_ref().and_then(|bar| bar.window.period).map(|period| period.to_string());
    format!("rentroll allocate run --period {}", month.unwrap_or_else(|| "YYYY-MM".to_owned()))
}

/// The command that bills the month shown.
pub fn bill_command(frame: &Frame) -> String {
    let month = frame.window.as_ref().and_then(|bar| bar.window.period).map(|period| period.to_string());
    format!("rentroll bill run --period {}", month.unwrap_or_else(|| "YYYY-MM".to_owned()))
}

fn pools(pools: &[PoolRow], total: crate::model::Amount) -> Markup {
    let currency = total.currency;
    let unit = currency.to_string();
    let cell = |value| parts::rounded(value, currency);
    let columns = vec![
        Column::text("Pool"),
        Column::number("Used by tenants", &unit),
        Column::number("Idle, spread", &unit),
        Column::number("Idle, kept apart", &unit),
        Column::number("Unallocated", &unit),
        Column::number("Total", &unit),
    ];
    let sum = |of: fn(&PoolRow) -> rust_decimal::Decimal| pools.iter().map(of).sum::<rust_decimal::Decimal>();
    let rows = pools.iter().map(|pool| {
        vec![
            html! { (pool.pool) },
            cell(pool.direct),
            cell(pool.idle_spread),
            cell(pool.idle),
            cell(pool.unallocated),
            cell(pool.total),
        ]
    });
    let foot = vec![
        html! { "All pools" },
        cell(sum(|pool| pool.direct)),
        cell(sum(|pool| pool.idle_spread)),
        cell(sum(|pool| pool.idle)),
        cell(sum(|pool| pool.unallocated)),
        cell(total.value),
    ];
    Table { caption: "Cost pools".to_owned(), columns, rows: rows.collect(), foot: vec![foot] }.render()
}

fn books(view: &View, params: &[(&'static str, String)]) -> Markup {
    let books = view.books;
    let balance = if books.balance() { ("ok", "balanced") } else { ("fail", "do not balance") };
    html! {
        div.section-head {
            h2 { "Books" }
            a href=(Address::new("/health").with_all(params)) { "Pipeline health →" }
        }
        p {
            "Of " strong { (text::count(books.accepted)) } " records taken from the log over all time, "
            strong { (text::count(books.stored)) } " were stored, "
            strong { (text::count(books.duplicate)) } " were duplicates and "
            strong { (text::count(books.rejected)) } " were rejected. "
            (parts::badge(balance.0, balance.1))
        }
        p {
            @if view.rejects == 0 { "No reject is kept." }
            @else {
                a href=(Address::new("/rejects").with_all(params)) { (text::count(view.rejects)) " rejects" }
                " are kept with their bytes and the reason."
            }
            @if let Some(time) = view.newest_event { " The newest event happened at " (text::minute_utc(time)) "." }
        }
    }
}

/// Any page about usage when nothing was ever metered.
pub fn render_empty(title: &str) -> Markup {
    html! {
        h1 { (title) }
        (parts::nothing_yet("No usage has been stored yet.", "rentroll demo"))
        p.quiet {
            "Or send your own: " code { "rentroll send events.jsonl" } ", or point " code { "rentroll collect" }
            " at a log. This page shows it as soon as the aggregator has stored it."
        }
    }
}

/// The line under the table on pages with money columns.
pub fn money_note(frame: &Frame, month: &MonthState) -> Markup {
    let (invoiced, allocated) = (month.invoice_currency.is_some(), month.allocation.is_some());
    html! {
        @if !invoiced { p.quiet { "Not billed yet. Next: " code { (bill_command(frame)) } } }
        @if !allocated { p.quiet { "No cost allocated yet. Next: " code { (allocate_command(frame)) } } }
    }
}

/// What was invoiced less everything that was spent, tenants' or not.
fn margin_stat(view: &View) -> Option<Stat> {
    let invoiced = view.totals.invoiced?;
    let margin = invoiced.minus(view.month.as_ref()?.allocation.as_ref()?.total)?;
    let share = text::percent(margin.value, invoiced.value);
    let stat = Stat::new("Margin", text::money(margin.value, margin.currency), margin.currency.to_string());
    Some(stat.note(html! { "after all cost, " (share) }))
}
