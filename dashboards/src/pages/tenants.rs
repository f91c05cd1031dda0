//! `/tenants`: everybody, sortable, searchable, paged.

use maud::{Markup, html};

use super::overview::money_note;
use super::tenant_table::{Sorting, TenantTable};
use crate::address::Address;
use crate::html::parts;
use crate::html::shell::Frame;
use crate::model::{MeterColumn, MonthState, TenantRow, TenantTotals};

/// Rows on a page: a screenful or three, quick to load with 100,000 tenants behind it.
pub const ROWS_PER_PAGE: u64 = 100;

/// The page's values.
#[derive(Clone, Debug)]
pub struct View {
    /// The shell.
    pub frame: Frame,
    /// The meters.
    pub meters: Vec<MeterColumn>,
    /// The month's billing, if the window is a month.
    pub month: Option<MonthState>,
    /// What the name must contain; empty for everybody.
    pub search: String,
    /// How it is sorted.
    pub sorting: Sorting,
    /// The page, from 1.
    pub page: u64,
    /// Its rows.
    pub rows: Vec<TenantRow>,
    /// Totals over all that match.
    pub totals: TenantTotals,
}

impl View {
    /// This page's address with everything that it shows.
    fn address(&self) -> Address {
        let mut address = Address::new("/tenants").with_all(&self.frame.window_params());
        if !self.search.is_empty() {
            address = address.with("q", &self.search);
        }
        address.with("sort", &self.sorting.by).with("order", self.sorting.direction.word())
    }
}

/// The page's body.
pub fn render(view: &View) -> Markup {
    let params = view.frame.window_params();
    let address = view.address();
    html! {
        div.section-head {
            h1 { "Tenants" }
            a href=(address.clone().at("/tenants.csv")) download { "Download CSV" }
        }
        (search_form(view))
        @if view.totals.tenants == 0 && view.search.is_empty() {
            (parts::nothing_matches("No tenant used anything in this window.", "/tenants"))
        } @else if view.totals.tenants == 0 {
            (parts::nothing_matches(
                &format!("No tenant whose name contains “{}” used anything in this window.", view.search),
                &address.without("q").to_string(),
            ))
        } @else {
            (TenantTable {
                caption: "Tenants".to_owned(),
                meters: &view.meters,
                month: view.month.as_ref(),
                rows: &view.rows,
                totals: &view.totals,
                sorting: &view.sorting,
                sort_address: Some(&address),
                window_params: &params,
            }.render())
            (parts::pager(view.page, view.totals.tenants.div_ceil(ROWS_PER_PAGE), &|page| {
                address.clone().with("page", page.to_string()).to_string()
            }))
            @match &view.month {
                Some(month) => (money_note(&view.frame, month)),
                None => p.quiet { "Invoices and allocated costs are made per month: choose a month to see them." },
            }
        }
    }
}

fn search_form(view: &View) -> Markup {
    let kept = view.address().without("q");
    html! {
        form.search method="get" action="/tenants" role="search" {
            @for (name, value) in kept.params() { input type="hidden" name=(name) value=(value); }
            label.hidden for="q" { "Tenant's name contains" }
            input #q type="search" name="q" value=(view.search) placeholder="Tenant’s name contains…" autocomplete="off" spellcheck="false";
            button type="submit" { "Search" }
            @if !view.search.is_empty() { a href=(kept) { "Clear" } }
        }
    }
}
