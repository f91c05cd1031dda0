//! `/health`: is the pipeline well, for people. Machines ask `/healthz`, `/readyz` and `/metrics`.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::overview::Books;
use crate::html::parts;
use crate::html::shell::Frame;
use crate::html::table::{Column, Table};
use crate::model::{CheckState, HealthCheck};
use crate::text;

/// The books of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceBooks {
    /// The source.
    pub source: String,
    /// What became of its events.
    pub books: Books,
    /// The newest hour of arrival.
    pub newest_hour: DateTime<Utc>,
}

/// The page's values.
#[derive(Clone, Debug)]
pub struct View {
    /// The shell.
    pub frame: Frame,
    /// Checks, worst first.
    pub checks: Vec<HealthCheck>,
    /// Books per source, over all time.
    pub sources: Vec<SourceBooks>,
}

impl View {
    /// The worst state of all checks.
    pub fn worst(&self) -> CheckState {
        let states = || self.checks.iter().map(|check| check.state);
        match (
            states().any(|state| state == CheckState::Fail),
            states().any(|state| state == CheckState::Warn),
        ) {
            (true, _) => CheckState::Fail,
            (false, true) => CheckState::Warn,
            (false, false) => CheckState::Ok,
        }
    }
}

/// The page's body.
pub fn render(view: &View) -> Markup {
    let verdict = match view.worst() {
        CheckState::Ok => "All is well.",
        CheckState::Warn => "Running, with something worth a look.",
        CheckState::Fail => "Something is broken.",
    };
    html! {
        h1 { "Health" }
        p.lead { (state_badge(view.worst())) " " (verdict) }
        section { (checks(view)) }
        section {
            h2 { "Books by source" }
            p.quiet { "Over all time. Accepted must be what was stored, seen before or rejected." }
            @if view.sources.is_empty() {
                (parts::nothing_yet("No event has arrived yet.", "rentroll send events.jsonl"))
            } @else {
                (sources(view))
            }
        }
    }
}

fn state_badge(state: CheckState) -> Markup {
    match state {
        CheckState::Ok => parts::badge("ok", "ok"),
        CheckState::Warn => parts::badge("warn", "warn"),
        CheckState::Fail => parts::badge("fail", "fail"),
    }
}

fn checks(view: &View) -> Markup {
    let columns = vec![
        Column::text("Check"),
        Column::text("State"),
        Column::text("Detail"),
        Column::text("What to do"),
    ];
    let rows = view.checks.iter().map(|check| {
        vec![
            html! { (check.name) },
            state_badge(check.state),
            html! { (check.detail) },
            html! { (check.remedy) },
        ]
    });
    Table { caption: "Checks".to_owned(), columns, rows: rows.collect(), foot: Vec::new() }.render()
}

fn sources(view: &View) -> Markup {
    let columns = vec![
        Column::text("Source"),
        Column::number("Accepted", "events"),
        Column::number("Stored", "events"),
        Column::number("Duplicate", "events"),
        Column::number("Rejected", "events"),
        Column::text("Balance"),
        Column::number("Newest hour", "UTC"),
    ];
    let rows = view.sources.iter().map(|source| {
        let books = source.books;
        let balance =
            if books.balance() { parts::badge("ok", "balanced") } else { parts::badge("fail", "off") };
        vec![
            html! { bdi { (source.source) } },
            html! { (text::count(books.accepted)) },
            html! { (text::count(books.stored)) },
            html! { (text::count(books.duplicate)) },
            html! { (text::count(books.rejected)) },
            balance,
            html! { (source.newest_hour.format("%Y-%m-%d %H:%M")) },
        ]
    });
    Table { caption: "Books by source".to_owned(), columns, rows: rows.collect(), foot: Vec::new() }.render()
}
