//! `/rejects`: what could not be accepted, why, and the bytes themselves.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use crate::address::Address;
use crate::html::chart::cell_bar;
use crate::html::parts;
use crate::html::shell::Frame;
use crate::html::table::{Column, Table};
use crate::text;

/// Rejects on a page.
pub const ROWS_PER_PAGE: u64 = 50;
/// As many bytes of a reject as are shown; all of them are kept.
pub const BYTES_SHOWN: usize = 512;

/// How many rejects have one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasonCount {
    /// The reason, a stable word.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The newest of them.
    pub newest: DateTime<Utc>,
}

/// One reject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectRow {
    /// When it was refused.
    pub rejected_at: DateTime<Utc>,
    /// Where it came from.
    pub source: String,
    /// Its place there.
    pub place: String,
    /// The tenant, where one was named.
    pub tenant: String,
    /// Why, as a word.
    pub reason: String,
    /// The field at fault, empty if the whole is.
    pub field: String,
    /// Why, as a sentence.
    pub detail: String,
    /// The first of its bytes.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub size: u64,
}

/// The page's values.
#[derive(Clone, Debug)]
pub struct View {
    /// The shell.
    pub frame: Frame,
    /// All reasons.
    pub reasons: Vec<ReasonCount>,
    /// The reason that was asked for.
    pub reason: Option<String>,
    /// The page, from 1.
    pub page: u64,
    /// Its rows, newest first.
    pub rows: Vec<RejectRow>,
}

/// The page's body.
pub fn render(view: &View) -> Markup {
    let all: u64 = view.reasons.iter().map(|reason| reason.count).sum();
    let address = Address::new("/rejects");
    let matching = match &view.reason {
        Some(wanted) => {
            view.reasons.iter().find(|reason| reason.reason == *wanted).map_or(0, |reason| reason.count)
        }
        None => all,
    };
    let filtered = match &view.reason {
        Some(reason) => address.clone().with("reason", reason),
        None => address.clone(),
    };
    html! {
        h1 { "Rejects" }
        @if all == 0 {
            div.state {
                p.state-title { "Nothing was rejected." }
                p.quiet { "Lines and events that cannot be accepted are kept here, with their bytes, place and reason." }
            }
        } @else {
            section { (reasons(view, all, &address)) }
            section {
                h2 { @match &view.reason { Some(reason) => { "Newest with reason " code { (reason) } }, None => "Newest" } }
                @if view.rows.is_empty() {
                    (parts::nothing_matches("No reject has that reason, or there is no such page.", "/rejects"))
                } @else {
                    ol.rejects { @for row in &view.rows { li { (reject(row)) } } }
                    (parts::pager(view.page, matching.div_ceil(ROWS_PER_PAGE), &|page| {
                        filtered.clone().with("page", page.to_string()).to_string()
                    }))
                }
                p.quiet { "On the command line: " code { "rentroll rejects list" } "." }
            }
        }
    }
}

fn reasons(view: &View, all: u64, address: &Address) -> Markup {
    let columns =
        vec![Column::text("Reason"), Column::number("Rejects", ""), Column::number("Newest", "UTC")];
    let most = view.reasons.iter().map(|reason| reason.count).max().unwrap_or(0);
    let rows = view.reasons.iter().map(|reason| {
        let here = view.reason.as_deref() == Some(&reason.reason);
        vec![
            html! { a href=(address.clone().with("reason", &reason.reason)) aria-current=[here.then_some("true")] { (reason.reason) } },
            html! { (text::count(reason.count)) (cell_bar(reason.count as f64, most as f64)) },
            html! { (text::second(reason.newest)) },
        ]
    });
    let foot = vec![
        html! { @if view.reason.is_some() { a href=(address) { "All reasons" } } @else { "All reasons" } },
        html! { (text::count(all)) },
        html! {},
    ];
    Table { caption: "Rejects by reason".to_owned(), columns, rows: rows.collect(), foot: vec![foot] }
        .render()
}

fn reject(row: &RejectRow) -> Markup {
    let shown = text::bytes_escaped(&row.bytes, BYTES_SHOWN);
    html! {
        p.reject-head {
            (parts::badge("warn", &row.reason)) " "
            @if !row.field.is_empty() { code { (row.field) } " " }
            span { (row.detail) }
        }
        pre.bytes tabindex="0" { (shown) }
        p.quiet {
            time datetime=(row.rejected_at.to_rfc3339()) { (text::second(row.rejected_at)) " UTC" }
            " · " bdi { (text::bytes_escaped(row.source.as_bytes(), BYTES_SHOWN)) }
            " · " bdi { (text::bytes_escaped(row.place.as_bytes(), BYTES_SHOWN)) }
            @if !row.tenant.is_empty() { " · tenant " bdi { (row.tenant) } }
            " · " (text::count(row.size)) " bytes"
            @if row.size > BYTES_SHOWN as u64 { ", the first " (text::count(BYTES_SHOWN as u64)) " shown" }
        }
    }
}
