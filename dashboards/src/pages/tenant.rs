//! `/tenants/{tenant}`: why it is billed what it is billed.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use rentroll_schemas::Quantity;
use rust_decimal::Decimal;

use super::invoices::InvoiceRow;
use super::overview::{allocate_command, bill_command, meter_stat};
use super::tenant_table::signed;
use crate::address::Address;
use crate::html::chart::{self, Chart};
use crate::html::parts::{self, Stat};
use crate::html::shell::Frame;
use crate::html::table::{Column, Table};
use crate::model::{MeterColumn, MonthState, TenantRow};
use crate::text;

/// One pool's cost for this tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolShare {
    /// The pool.
    pub pool: String,
    /// Weighted usage that drives it.
    pub driver_units: Quantity,
    /// By use.
    pub direct: Decimal,
    /// Its share of the idle cost.
    pub idle_share: Decimal,
    /// Both.
    pub total: Decimal,
}

/// Usage of one meter: how much, from how many events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterUsage {
    /// The meter.
    pub meter: MeterColumn,
    /// The window's quantity.
    pub quantity: Option<Quantity>,
    /// Events behind it.
    pub events: u64,
}

/// An event that does not count, since a later one corrects it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrected {
    /// When it happened.
    pub time: DateTime<Utc>,
    /// Its source.
    pub source: String,
    /// Its type.
    pub kind: String,
    /// The sender's id.
    pub id: String,
    /// The correction replaces it, rather than voids it.
    pub is_amended: bool,
    /// The correction's id, of the same source.
    pub by: String,
}

/// The page's values.
#[derive(Clone, Debug)]
pub struct View {
    /// The shell.
    pub frame: Frame,
    /// The tenant and its totals; the same query as on the tenants page.
    pub row: TenantRow,
    /// Usage by meter.
    pub usage: Vec<MeterUsage>,
    /// Charts, one per meter.
    pub charts: Vec<Chart>,
    /// The month's billing, if the window is a month.
    pub month: Option<MonthState>,
    /// Its invoices in the month.
    pub invoices: Vec<InvoiceRow>,
    /// Its cost by pool.
    pub pools: Vec<PoolShare>,
    /// Its newest events that do not count.
    pub corrected: Vec<Corrected>,
}

impl View {
    /// Whether the tenant has anything at all in the window.
    pub fn is_empty(&self) -> bool {
        self.usage.iter().all(|usage| usage.events == 0)
            && self.invoices.is_empty()
            && self.pools.is_empty()
            && self.corrected.is_empty()
    }
}

/// The page's body.
pub fn render(view: &View) -> Markup {
    let params = view.frame.window_params();
    html! {
        p.crumbs { a href=(Address::new("/tenants").with_all(&params)) { "Tenants" } }
        h1 { bdi { (view.row.tenant) } @if let Some(plan) = &view.row.plan { " " (parts::badge("plan", plan)) } }
        @if view.is_empty() {
            (parts::nothing_matches(
                "This tenant has no usage, invoice or cost in this window.",
                &Address::tenant(&view.row.tenant).to_string(),
            ))
        } @else {
            (parts::stats(&stats(view)))
            section.charts { @for chart in &view.charts { (chart::figure(chart)) } }
            section { h2 { "Usage" } (usage(view)) }
            @if !view.corrected.is_empty() {
                section { h2 { "Corrected events" } (corrected(view)) }
            }
            @if let Some(month) = &view.month {
                section { h2 { "Invoices" } (invoices(view)) }
                section { h2 { "Allocated cost" } (pools(view, month)) }
            } @else {
                p.quiet { "Invoices and allocated costs are made per month: choose a month to see them." }
            }
        }
    }
}

fn stats(view: &View) -> Vec<Stat> {
    let mut stats: Vec<Stat> = view
        .usage
        .iter()
        .filter_map(|usage| usage.quantity.map(|quantity| meter_stat(&usage.meter, quantity)))
        .collect();
    let named =
        [("Invoice", view.row.invoiced), ("Allocated cost", view.row.cost), ("Margin", view.row.margin())];
    for (label, amount) in named {
        let Some(amount) = amount else { continue };
        stats.push(Stat::new(label, text::money(amount.value, amount.currency), amount.currency.to_string()));
    }
    stats
}

fn usage(view: &View) -> Markup {
    let columns = vec![
        Column::text("Meter"),
        Column::number("Quantity", ""),
        Column::text("Unit"),
        Column::number("Events", ""),
        Column::text("What it measures"),
    ];
    let rows = view.usage.iter().map(|usage| {
        vec![
            html! { code { (usage.meter.name) } },
            html! { @match usage.quantity { Some(quantity) => (text::quantity(quantity)), None => span.unknown { "none" } } },
            html! { (usage.meter.unit) },
            html! { (text::count(usage.events)) },
            html! { (usage.meter.description) },
        ]
    });
    Table { caption: "Usage by meter".to_owned(), columns, rows: rows.collect(), foot: Vec::new() }.render()
}

fn corrected(view: &View) -> Markup {
    let columns = vec![
        Column::text("Time"),
        Column::text("Source"),
        Column::text("Type"),
        Column::text("Event"),
        Column::text("Counts nothing since"),
    ];
    let rows = view.corrected.iter().map(|event| {
        vec![
            html! { (text::minute_utc(event.time)) },
            html! { bdi { (event.source) } },
            html! { code { (event.kind) } },
            html! { code { (event.id) } },
            html! { code { (event.by) } @if event.is_amended { " counts in its place" } @else { " voids it" } },
        ]
    });
    let caption = "The newest events that were voided or amended".to_owned();
    Table { caption, columns, rows: rows.collect(), foot: Vec::new() }.render()
}

fn invoices(view: &View) -> Markup {
    html! {
        @if view.invoices.is_empty() {
            (parts::nothing_yet("Not billed for this month.", &bill_command(&view.frame)))
        } @else {
            (super::invoices::table(&view.invoices, &view.frame.window_params(), None))
        }
    }
}

fn pools(view: &View, month: &MonthState) -> Markup {
    let Some(run) = &month.allocation else {
        return parts::nothing_yet(
            "No cost has been allocated for this month.",
            &allocate_command(&view.frame),
        );
    };
    let currency = run.total.currency;
    let unit = currency.to_string();
    let columns = vec![
        Column::text("Pool"),
        Column::number("Driver", "weighted units"),
        Column::number("By use", &unit),
        Column::number("Share of idle", &unit),
        Column::number("Total", &unit),
    ];
    let exact = |value| parts::exact(value, currency);
    let rows = view.pools.iter().map(|share| {
        vec![
            html! { (share.pool) },
            html! { (text::quantity(share.driver_units)) },
            exact(share.direct),
            exact(share.idle_share),
            exact(share.total),
        ]
    });
    let sum = |of: fn(&PoolShare) -> Decimal| view.pools.iter().map(of).sum::<Decimal>();
    let foot = vec![
        html! { "All pools" },
        html! {},
        exact(sum(|share| share.direct)),
        exact(sum(|share| share.idle_share)),
        exact(sum(|share| share.total)),
    ];
    html! {
        (Table { caption: "Cost by pool".to_owned(), columns, rows: rows.collect(), foot: vec![foot] }.render())
        p.quiet {
            "Digits below the minor unit are muted. Margin is the invoice less this cost: "
            (signed(view.row.margin(), "needs an invoice")) " "
            @if view.row.margin().is_some() { (unit) }
            "."
        }
    }
}
