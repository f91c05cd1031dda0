//! `/costs`: where every cent of the platform's cost went, and what each tenant leaves over.

use maud::{Markup, html};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::overview::allocate_command;
use super::tenant_table::{amount, signed};
use crate::address::Address;
use crate::html::chart::split_bar;
use crate::html::parts::{self, Stat};
use crate::html::shell::Frame;
use crate::html::table::{Column, Table};
use crate::model::{AllocationRun, Amount, PoolRow, TenantRow};
use crate::text;

/// Tenants that get a row of their own; the others share one, so that the column still adds up.
pub const TENANTS_SHOWN: u64 = 50;

/// The tenants' side of the split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenants {
    /// Those with the highest cost; usage is not filled.
    pub top: Vec<TenantRow>,
    /// How many others there are.
    pub others: u64,
    /// Cost of the others.
    pub others_cost: Decimal,
    /// What the others were invoiced.
    pub others_invoiced: Option<Amount>,
}

/// The page's values, where there is an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The run.
    pub run: AllocationRun,
    /// The pools shown: all, or the one that was asked for.
    pub pools: Vec<PoolRow>,
    /// Every pool's name, for the filter.
    pub pool_names: Vec<String>,
    /// The pool that was asked for.
    pub pool: Option<String>,
    /// The tenants.
    pub tenants: Tenants,
    /// Everything that was invoiced for the month.
    pub invoiced: Option<Amount>,
}

/// The page.
#[derive(Clone, Debug)]
pub struct View {
    /// The shell.
    pub frame: Frame,
    /// The split, once there is one.
    pub split: Option<Split>,
}

impl Split {
    /// The sum of one part over the pools shown.
    fn sum(&self, of: fn(&PoolRow) -> Decimal) -> Decimal {
        self.pools.iter().map(of).sum()
    }

    /// Whether tenants + idle + unallocated is the pools' total, to the last digit.
    pub fn ties_out(&self) -> bool {
        let tenants: Option<Decimal> = self
            .tenants
            .top
            .iter()
            .map(|row| row.cost.map_or(Decimal::ZERO, |cost| cost.value))
            .try_fold(self.tenants.others_cost, Decimal::checked_add);
        let apart = self.sum(|pool| pool.idle) + self.sum(|pool| pool.unallocated);
        let total = self.sum(|pool| pool.total);
        let whole = self.pool.is_some() || total == self.run.total.value;
        whole && self.pools.iter().all(PoolRow::ties_out) && tenants.map(|sum| sum + apart) == Some(total)
    }
}

/// The page's body.
pub fn render(view: &View) -> Markup {
    html! {
        @match (&view.split, view.frame.window.as_ref().and_then(|bar| bar.window.period)) {
            (Some(split), _) => (render_split(view, split)),
            (None, Some(_)) => {
                h1 { "Costs" }
                (parts::nothing_yet("No cost has been allocated for this month.", &allocate_command(&view.frame)))
            }
            (None, None) => {
                h1 { "Costs" }
                (parts::nothing_matches("Costs are allocated per month, and this window is not one.", "/costs"))
            }
        }
    }
}

fn render_split(view: &View, split: &Split) -> Markup {
    let address = Address::new("/costs").with_all(&view.frame.window_params());
    let with_pool = |address: Address| match &split.pool {
        Some(pool) => address.with("pool", pool),
        None => address,
    };
    html! {
        div.section-head {
            h1 { "Costs" }
            a href=(with_pool(address.clone()).at("/costs.csv")) download { "Download CSV" }
        }
        (parts::stats(&stats(split)))
        section {
            h2 { "Where it went" }
            (filter(split, &address))
            (pools(split, &address))
            p {
                @if split.ties_out() {
                    (parts::badge("ok", "ties out"))
                    " Tenants, idle and unallocated come to the total, to the last digit."
                } @else {
                    (parts::badge("fail", "does not tie out"))
                    " Tenants, idle and unallocated do not come to the total. Run " code { (allocate_command(&view.frame)) } " again and report it."
                }
            }
        }
        section {
            h2 { @match &split.pool { Some(pool) => { "Cost of " (pool) " per tenant" }, None => "Cost and margin per tenant" } }
            (tenants(view, split))
        }
        p.quiet {
            "Allocation " code { (split.run.run_id.chars().take(12).collect::<String>()) } " of "
            (text::minute_utc(split.run.created_at)) ". Digits below the minor unit are muted."
        }
    }
}

fn stats(split: &Split) -> Vec<Stat> {
    let currency = split.run.total.currency;
    let total = split.sum(|pool| pool.total);
    let stat = |label: &str, value: Decimal| {
        Stat::new(label, text::money(value, currency), currency.to_string())
            .note(html! { (text::percent(value, total)) " of the total" })
    };
    let mut stats = vec![Stat::new("Total cost", text::money(total, currency), currency.to_string())];
    stats.push(stat("Borne by tenants", split.sum(|pool| pool.direct) + split.sum(|pool| pool.idle_spread)));
    stats.push(stat("Idle, kept apart", split.sum(|pool| pool.idle)));
    stats.push(stat("Unallocated", split.sum(|pool| pool.unallocated)));
    if let Some(invoiced) = split.invoiced.filter(|_| split.pool.is_none()) {
        stats.push(Stat::new(
            "Invoiced",
            text::money(invoiced.value, invoiced.currency),
            invoiced.currency.to_string(),
        ));
    }
    stats
}

fn filter(split: &Split, address: &Address) -> Markup {
    let current = |pool: Option<&str>| (split.pool.as_deref() == pool).then_some("true");
    html! {
        nav.tabs aria-label="Pool" {
            a href=(address) aria-current=[current(None)] { "All pools" }
            @for pool in &split.pool_names {
                a href=(address.clone().with("pool", pool)) aria-current=[current(Some(pool))] { (pool) }
            }
        }
    }
}

fn pools(split: &Split, address: &Address) -> Markup {
    let currency = split.run.total.currency;
    let unit = currency.to_string();
    let exact = |value| parts::exact(value, currency);
    let columns = vec![
        Column::text("Pool"),
        Column::text("Split"),
        Column::number("Used by tenants", &unit),
        Column::number("Idle, spread", &unit),
        Column::number("Idle, kept apart", &unit),
        Column::number("Unallocated", &unit),
        Column::number("Total", &unit),
    ];
    let rows = split.pools.iter().map(|pool| {
        vec![
            html! { a href=(address.clone().with("pool", &pool.pool)) { (pool.pool) } },
            bar(pool),
            exact(pool.direct),
            exact(pool.idle_spread),
            exact(pool.idle),
            exact(pool.unallocated),
            exact(pool.total),
        ]
    });
    let foot = vec![
        html! { "Total" },
        html! {},
        exact(split.sum(|pool| pool.direct)),
        exact(split.sum(|pool| pool.idle_spread)),
        exact(split.sum(|pool| pool.idle)),
        exact(split.sum(|pool| pool.unallocated)),
        exact(split.sum(|pool| pool.total)),
    ];
    html! {
        (Table { caption: "Cost pools".to_owned(), columns, rows: rows.collect(), foot: vec![foot] }.render())
        ul.legend {
            @for (label, class) in [("used by tenants", "s0"), ("idle, spread", "s2"), ("idle, kept apart", "s4"), ("unallocated", "rest")] {
                li { svg.swatch width="10" height="10" aria-hidden="true" { rect class=(class) width="10" height="10" {} } span { (label) } }
            }
        }
    }
}

fn bar(pool: &PoolRow) -> Markup {
    // Lengths only: the numbers beside it are exact.
    let length = |value: Decimal| value.to_f64().unwrap_or(0.0);
    let parts = [
        ("used by tenants", pool.direct, "s0"),
        ("idle, spread", pool.idle_spread, "s2"),
        ("idle, kept apart", pool.idle, "s4"),
        ("unallocated", pool.unallocated, "rest"),
    ];
    let labelled: Vec<(String, f64, &'static str)> = parts
        .into_iter()
        .map(|(label, value, class)| {
            (format!("{label}: {}", text::percent(value, pool.total)), length(value), class)
        })
        .collect();
    split_bar(&format!("How {} was split", pool.pool), &labelled)
}

fn tenants(view: &View, split: &Split) -> Markup {
    let params = view.frame.window_params();
    let currency = split.run.total.currency;
    let unit = currency.to_string();
    let total = split.sum(|pool| pool.total);
    let with_margin = split.pool.is_none();
    let mut columns =
        vec![Column::text("Tenant"), Column::number("Cost", &unit), Column::number("Share", "of the total")];
    if with_margin {
        let invoiced = split.invoiced.map(|amount| amount.currency.to_string()).unwrap_or_default();
        columns.push(Column::number("Invoice", &invoiced));
        columns.push(Column::number("Margin", &invoiced));
    }
    let row = |name: Markup, cost: Decimal, money: Option<[Markup; 2]>| {
        let mut cells = vec![name, parts::exact(cost, currency), html! { (text::percent(cost, total)) }];
        if with_margin {
            cells.extend(money.unwrap_or_else(|| [html! {}, html! {}]));
        }
        cells
    };
    let mut rows: Vec<Vec<Markup>> = split
        .tenants
        .top
        .iter()
        .map(|tenant| {
            let address = Address::tenant(&tenant.tenant).with_all(&params);
            let cost = tenant.cost.map_or(Decimal::ZERO, |cost| cost.value);
            let money = [
                amount(tenant.invoiced, "not invoiced yet"),
                signed(tenant.margin(), "needs an invoice in the cost's currency"),
            ];
            row(html! { a href=(address) { bdi { (tenant.tenant) } } }, cost, Some(money))
        })
        .collect();
    if split.tenants.others > 0 {
        let all = Address::new("/tenants").with_all(&params).with("sort", "cost").with("order", "desc");
        let cost = Amount::new(split.tenants.others_cost, currency);
        let margin = split.tenants.others_invoiced.and_then(|invoiced| invoiced.minus(cost));
        let money =
            [amount(split.tenants.others_invoiced, "not invoiced yet"), signed(margin, "not invoiced yet")];
        let name = html! { a href=(all) { (text::count(split.tenants.others)) " other tenants" } };
        rows.push(row(name, cost.value, Some(money)));
    }
    rows.push(row(html! { em { "Idle, kept apart" } }, split.sum(|pool| pool.idle), None));
    rows.push(row(html! { em { "Unallocated" } }, split.sum(|pool| pool.unallocated), None));
    let whole_margin = split.invoiced.and_then(|invoiced| invoiced.minus(Amount::new(total, currency)));
    let foot = row(
        html! { "Total" },
        total,
        Some([amount(split.invoiced, "not invoiced yet"), signed(whole_margin, "not invoiced yet")]),
    );
    Table { caption: "Cost per tenant".to_owned(), columns, rows, foot: vec![foot] }.render()
}
