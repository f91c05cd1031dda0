//! `/invoices`: what was issued.

use chrono::NaiveDate;
use maud::{Markup, html};
use rust_decimal::Decimal;

use super::overview::bill_command;
use crate::address::Address;
use crate::html::parts;
use crate::html::shell::Frame;
use crate::html::table::{Column, Table};
use crate::model::Amount;
use crate::text;

/// Rows on a page.
pub const ROWS_PER_PAGE: u64 = 100;

/// One issued invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceRow {
    /// Its number.
    pub number: String,
    /// Who owes it.
    pub tenant: String,
    /// The plan it was billed on.
    pub plan: String,
    /// When it was issued.
    pub issue_date: NaiveDate,
    /// When it is due.
    pub due_date: NaiveDate,
    /// What is due.
    pub total: Amount,
}

/// The page's values.
#[derive(Clone, Debug)]
pub struct View {
    /// The shell.
    pub frame: Frame,
    /// What number or tenant must contain; empty for all.
    pub search: String,
    /// The page, from 1.
    pub page: u64,
    /// Its rows, by number.
    pub rows: Vec<InvoiceRow>,
    /// How many match.
    pub count: u64,
    /// What they come to, if they are in one currency.
    pub total: Option<Amount>,
    /// Whether any invoice was issued for this window's month.
    pub billed: bool,
}

/// The page's body.
pub fn render(view: &View) -> Markup {
    let params = view.frame.window_params();
    let mut address = Address::new("/invoices").with_all(&params);
    if !view.search.is_empty() {
        address = address.with("q", &view.search);
    }
    html! {
        h1 { "Invoices" }
        @if view.frame.window.as_ref().is_some_and(|bar| bar.window.period.is_none()) {
            p.quiet { "This window is not a billing month. Shown are the invoices of every month that begins in it." }
        }
        @if !view.billed {
            (parts::nothing_yet("No invoice has been issued for this month.", &bill_command(&view.frame)))
        } @else {
            form.search method="get" action="/invoices" role="search" {
                @for (name, value) in &params { input type="hidden" name=(name) value=(value); }
                label.hidden for="q" { "Number or tenant contains" }
                input #q type="search" name="q" value=(view.search) placeholder="Number or tenant contains…" autocomplete="off" spellcheck="false";
                button type="submit" { "Search" }
                @if !view.search.is_empty() { a href=(address.clone().without("q")) { "Clear" } }
            }
            @if view.count == 0 {
                (parts::nothing_matches(
                    &format!("No invoice whose number or tenant contains “{}”.", view.search),
                    &address.clone().without("q").to_string(),
                ))
            } @else {
                (table(&view.rows, &params, Some((view.count, view.total))))
                (parts::pager(view.page, view.count.div_ceil(ROWS_PER_PAGE), &|page| {
                    address.clone().with("page", page.to_string()).to_string()
                }))
            }
        }
    }
}

/// Invoices as a table. `all` is how many there are on all pages and what they come to; without it, the rows
/// are all.
pub fn table(
    rows: &[InvoiceRow],
    window_params: &[(&'static str, String)],
    all: Option<(u64, Option<Amount>)>,
) -> Markup {
    let (count, total) = all.unwrap_or_else(|| (rows.len() as u64, sum(rows)));
    let unit = total.map(|total| total.currency.to_string()).unwrap_or_default();
    let columns = vec![
        Column::text("Number"),
        Column::text("Tenant"),
        Column::text("Plan"),
        Column::text("Issued"),
        Column::text("Due"),
        Column::number("Total", &unit),
    ];
    let money = |amount: Amount| match unit.is_empty() {
        true => html! { (text::money_with_code(amount.value, amount.currency)) },
        false => html! { (text::money(amount.value, amount.currency)) },
    };
    let cells = rows.iter().map(|row| {
        vec![
            html! { a href=(Address::invoice(&row.number)) { (row.number) } },
            html! { a href=(Address::tenant(&row.tenant).with_all(window_params)) { bdi { (row.tenant) } } },
            html! { (row.plan) },
            html! { (row.issue_date) },
            html! { (row.due_date) },
            money(row.total),
        ]
    });
    let label =
        if count == 1 { "1 invoice".to_owned() } else { format!("All {} invoices", text::count(count)) };
    let foot = vec![
        html! { (label) },
        html! {},
        html! {},
        html! {},
        html! {},
        html! { @match total { Some(total) => (money(total)), None => (parts::unknown("several currencies")) } },
    ];
    Table { caption: "Invoices".to_owned(), columns, rows: cells.collect(), foot: vec![foot] }.render()
}

/// What invoices come to; `None` where they are in several currencies, or there are none.
fn sum(rows: &[InvoiceRow]) -> Option<Amount> {
    let currency = rows.first()?.total.currency;
    rows.iter().try_fold(Amount::new(Decimal::ZERO, currency), |sum, row| {
        let value = sum.value.checked_add(row.total.value)?;
        (row.total.currency == currency).then_some(Amount { value, currency })
    })
}
