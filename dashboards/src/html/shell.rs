//! What stands around every page: name, sections, the window, where the data stands.

use chrono::{DateTime, Utc};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use rentroll_schemas::period::Period;

use crate::address::Address;
use crate::text;
use crate::window::Window;

/// The sections of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// `/`
    Overview,
    /// `/tenants`
    Tenants,
    /// `/invoices`
    Invoices,
    /// `/costs`
    Costs,
    /// `/rejects`
    Rejects,
    /// `/health`
    Health,
}

const SECTIONS: [(Section, &str, &str); 6] = [
    (Section::Overview, "/", "Overview"),
    (Section::Tenants, "/tenants", "Tenants"),
    (Section::Invoices, "/invoices", "Invoices"),
    (Section::Costs, "/costs", "Costs"),
    (Section::Rejects, "/rejects", "Rejects"),
    (Section::Health, "/health", "Health"),
];

impl Section {
    /// The section that an address belongs to; the overview where it is none of the others.
    pub fn of_path(path: &str) -> Section {
        let first = path.split(['/', '.']).nth(1).unwrap_or_default();
        let found = SECTIONS.iter().find(|(_, address, _)| address[1..] == *first);
        found.map_or(Section::Overview, |(section, _, _)| *section)
    }
}

/// Where a page stands in time, and how fresh what it shows is.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The section that is marked.
    pub section: Section,
    /// The window, on pages that have one.
    pub window: Option<WindowBar>,
    /// When the newest batch was stored.
    pub data_as_of: Option<DateTime<Utc>>,
}

/// The window, and where else one could look.
#[derive(Clone, Debug)]
pub struct WindowBar {
    /// The window that is shown.
    pub window: Window,
    /// Months with usage, newest first.
    pub months: Vec<Period>,
    /// This page's address without its window: filters stay when the window changes.
    pub address: Address,
    /// Whether the window has not ended.
    pub open: bool,
}

impl Frame {
    /// A page without a window.
    pub fn bare(section: Section) -> Self {
        Frame { section, window: None, data_as_of: None }
    }

    /// What links to other pages carry along.
    pub fn window_params(&self) -> Vec<(&'static str, String)> {
        self.window.as_ref().map(|bar| bar.window.params()).unwrap_or_default()
    }
}

/// A whole page. `title` stands in the browser's tab, `body` between header and footer.
pub fn page(frame: &Frame, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Rentroll" }
                link rel="stylesheet" href=(crate::assets::CSS_ADDRESS);
                link rel="icon" href=(crate::assets::ICON_ADDRESS) type="image/svg+xml";
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header.top {
                    div.inner {
                        a.brand href=(Address::new("/").with_all(&frame.window_params())) { (mark()) "Rentroll" }
                        nav aria-label="Sections" {
                            @for (section, path, label) in SECTIONS {
                                @let current = (section == frame.section).then_some("page");
                                a href=(Address::new(path).with_all(&frame.window_params())) aria-current=[current] { (label) }
                            }
                        }
                    }
                }
                main #main {
                    @if let Some(bar) = &frame.window { (window_bar(bar)) }
                    (body)
                }
                footer.bottom {
                    div.inner {
                        @if let Some(time) = frame.data_as_of {
                            p { "Data as of " time datetime=(time.to_rfc3339()) { (text::second(time)) " UTC" } "." }
                        }
                        p { "All times are UTC unless a zone is named. A window includes its start and excludes its end." }
                        p { "Rentroll " (env!("CARGO_PKG_VERSION")) }
                    }
                }
            }
        }
    }
}

/// The window's name with the months before and after it, and a form for any other.
fn window_bar(bar: &WindowBar) -> Markup {
    let (earlier, later) = neighbours(bar);
    let month_address = |period: &Period| bar.address.clone().with("period", period.to_string());
    html! {
        div.window {
            div.window-now {
                strong { (bar.window.title()) }
                @if bar.open { " " (super::parts::badge("open", "in progress")) }
                span.quiet { (bar.window.sentence()) }
            }
            nav.window-nav aria-label="Time" {
                @match earlier {
                    Some(period) => a rel="prev" href=(month_address(&period)) { "← " (text::month(period.year, period.month)) },
                    None => span.off { "← Earlier" },
                }
                @match later {
                    Some(period) => a rel="next" href=(month_address(&period)) { (text::month(period.year, period.month)) " →" },
                    None => span.off { "Later →" },
                }
                details.picker {
                    summary { "Other window" }
                    div.picker-body { (month_form(bar)) (free_form(bar)) }
                }
            }
        }
    }
}

fn month_form(bar: &WindowBar) -> Markup {
    html! {
        form method="get" action=(bar.address.path()) {
            (hidden(&bar.address))
            label { "Month with usage"
                select name="period" {
                    @for period in &bar.months {
                        @let current = bar.window.period.is_some_and(|now| now.from == period.from);
                        option value=(period) selected[current] { (text::month(period.year, period.month)) }
                    }
                }
            }
            button type="submit" { "Show month" }
        }
    }
}

fn free_form(bar: &WindowBar) -> Markup {
    let time = |time: DateTime<Utc>| time.format("%Y-%m-%dT%H:%M").to_string();
    html! {
        form method="get" action=(bar.address.path()) {
            (hidden(&bar.address))
            label { "From (UTC, included)" input type="datetime-local" name="from" required value=(time(bar.window.from)); }
            label { "To (UTC, excluded)" input type="datetime-local" name="to" required value=(time(bar.window.to)); }
            button type="submit" { "Show window" }
        }
    }
}

fn hidden(address: &Address) -> Markup {
    html! { @for (name, value) in address.params() { input type="hidden" name=(name) value=(value); } }
}

/// The nearest months with usage on both sides of the window.
fn neighbours(bar: &WindowBar) -> (Option<Period>, Option<Period>) {
    let earlier =
        bar.months.iter().filter(|period| period.to <= bar.window.from).max_by_key(|period| period.from);
    let later =
        bar.months.iter().filter(|period| period.from >= bar.window.to).min_by_key(|period| period.from);
    (earlier.copied(), later.copied())
}

/// The mark: a roll, seen from its end.
fn mark() -> Markup {
    PreEscaped(include_str!("../../assets/mark.svg").trim().to_owned())
}
