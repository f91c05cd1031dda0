//! The table of tenants, as on the overview and on the tenants page.

use maud::{Markup, html};

use crate::address::Address;
use crate::html::chart::cell_bar;
use crate::html::parts;
use crate::html::table::{Column, Direction, Table};
use crate::model::{Amount, MeterColumn, MonthState, TenantRow, TenantTotals};
use crate::text;

/// What the rows are sorted by: a column's name in the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sorting {
    /// `tenant`, `plan`, a meter's name, `invoice`, `cost` or `margin`.
    pub by: String,
    /// Which way.
    pub direction: Direction,
}

/// What the table is made of.
#[derive(Clone, Debug)]
pub struct TenantTable<'a> {
    /// Read aloud as the table's name.
    pub caption: String,
    /// The usage columns.
    pub meters: &'a [MeterColumn],
    /// The month's billing; `None` for a window that is no month, which has no money columns.
    pub month: Option<&'a MonthState>,
    /// The rows, in order.
    pub rows: &'a [TenantRow],
    /// What the total row says.
    pub totals: &'a TenantTotals,
    /// How it is sorted.
    pub sorting: &'a Sorting,
    /// The address that sorts it, or `None` if it cannot be sorted.
    pub sort_address: Option<&'a Address>,
    /// What links to a tenant carry along.
    pub window_params: &'a [(&'static str, String)],
}

impl TenantTable<'_> {
    /// The markup.
    pub fn render(&self) -> Markup {
        Table {
            caption: self.caption.clone(),
            columns: self.columns(),
            rows: self.rows.iter().map(|row| self.row(row)).collect(),
            foot: vec![self.foot()],
        }
        .render()
    }

    fn columns(&self) -> Vec<Column> {
        let mut columns = vec![self.sortable(Column::text("Tenant"), "tenant", Direction::Ascending)];
        if self.month.is_some() {
            columns.push(self.sortable(Column::text("Plan"), "plan", Direction::Ascending));
        }
        for meter in self.meters {
            let column = Column::number(&meter.title, &meter.unit);
            columns.push(self.sortable(column, &meter.name, Direction::Descending));
        }
        if let Some(month) = self.month {
            let invoiced = month.invoice_currency.map(|currency| currency.to_string()).unwrap_or_default();
            let allocated =
                month.allocation.as_ref().map(|run| run.total.currency.to_string()).unwrap_or_default();
            for (title, unit, name) in [
                ("Invoice", &invoiced, "invoice"),
                ("Allocated cost", &allocated, "cost"),
                ("Margin", &invoiced, "margin"),
            ] {
                columns.push(self.sortable(Column::number(title, unit), name, Direction::Descending));
            }
        }
        columns
    }

    /// The first click sorts the natural way of that column, the next one turns it round.
    fn sortable(&self, column: Column, name: &str, natural: Direction) -> Column {
        let Some(address) = self.sort_address else {
            return column;
        };
        let active = (self.sorting.by == name).then_some(self.sorting.direction);
        let next = active.map_or(natural, Direction::reversed);
        let address = address.clone().without("page").with("sort", name).with("order", next.word());
        column.sorted_by(address.to_string(), active)
    }

    fn row(&self, row: &TenantRow) -> Vec<Markup> {
        let address = Address::tenant(&row.tenant).with_all(self.window_params);
        let mut cells = vec![html! { a href=(address) { bdi { (row.tenant) } } }];
        if self.month.is_some() {
            cells.push(html! { @match &row.plan { Some(plan) => (plan), None => (parts::unknown("not billed yet")) } });
        }
        for (index, meter) in self.meters.iter().enumerate() {
            let value = row.usage.get(index).copied().flatten();
            let bar = (self.sorting.by == meter.name).then(|| (value, self.largest(index)));
            cells.push(html! {
                @match value { Some(value) => (text::quantity(value)), None => span.unknown { "none" } }
                @if let Some((Some(value), largest)) = bar { (cell_bar(value.nanos() as f64, largest)) }
            });
        }
        if self.month.is_some() {
            cells.push(amount(row.invoiced, "not invoiced yet"));
            cells.push(amount(row.cost, "no cost allocated"));
            cells.push(signed(row.margin(), "needs an invoice and an allocated cost in one currency"));
        }
        cells
    }

    /// The largest value of a meter on this page, as a length.
    fn largest(&self, index: usize) -> f64 {
        let values = self.rows.iter().filter_map(|row| row.usage.get(index).copied().flatten());
        values.map(|value| value.nanos() as f64).fold(0.0, f64::max)
    }

    fn foot(&self) -> Vec<Markup> {
        let tenants = self.totals.tenants;
        let label = if tenants == 1 {
            "1 tenant".to_owned()
        } else {
            format!("All {} tenants", text::count(tenants))
        };
        let mut cells = vec![html! { (label) }];
        if self.month.is_some() {
            cells.push(html! {});
        }
        for (index, meter) in self.meters.iter().enumerate() {
            let total = self.totals.usage.get(index).copied().flatten();
            cells.push(match (total, meter.additive) {
                (Some(total), true) => html! { (text::quantity(total)) },
                _ => parts::unknown("this meter's values do not add up"),
            });
        }
        if self.month.is_some() {
            cells.push(amount(self.totals.invoiced, "not invoiced yet"));
            cells.push(amount(self.totals.cost, "no cost allocated"));
            cells.push(signed(self.totals.margin(), "needs invoices and an allocation in one currency"));
        }
        cells
    }
}

/// An amount at the minor unit, or that it is not known and why.
pub fn amount(amount: Option<Amount>, why_unknown: &str) -> Markup {
    match amount {
        Some(amount) => parts::rounded(amount.value, amount.currency),
        None => parts::unknown(why_unknown),
    }
}

/// An amount whose sign matters: a loss is marked, and not by colour alone since its minus stands there.
pub fn signed(given: Option<Amount>, why_unknown: &str) -> Markup {
    let loss = given.is_some_and(|amount| amount.value.is_sign_negative() && !amount.value.is_zero());
    html! { span.loss[loss] { (amount(given, why_unknown)) } }
}
