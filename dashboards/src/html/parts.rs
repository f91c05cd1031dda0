//! Small pieces that pages share.

use maud::{Markup, html};
use rentroll_schemas::currency::Currency;
use rust_decimal::Decimal;

use crate::text;

/// A figure at the head of a page: its name, its value, and a note below.
#[derive(Clone, Debug)]
pub struct Stat {
    /// What it is.
    pub label: String,
    /// The value, as text.
    pub value: String,
    /// What follows the value, smaller: a unit or a currency.
    pub unit: String,
    /// A line below it.
    pub note: Option<Markup>,
}

impl Stat {
    /// A figure with a unit.
    pub fn new(label: impl Into<String>, value: impl Into<String>, unit: impl Into<String>) -> Self {
        Stat { label: label.into(), value: value.into(), unit: unit.into(), note: None }
    }

    /// With a line below it.
    #[must_use]
    pub fn note(mut self, note: Markup) -> Self {
        self.note = Some(note);
        self
    }
}

/// The row of figures.
pub fn stats(stats: &[Stat]) -> Markup {
    html! {
        dl.stats {
            @for stat in stats {
                div.stat {
                    dt { (stat.label) }
                    dd {
                        span.value { (stat.value) }
                        @if !stat.unit.is_empty() { " " span.unit { (stat.unit) } }
                        @if let Some(note) = &stat.note { div.note { (note) } }
                    }
                }
            }
        }
    }
}

/// Money to the last digit, the digits below the minor unit muted.
pub fn exact(amount: Decimal, currency: Currency) -> Markup {
    let (head, fine) = text::exact_money(amount, currency);
    html! { (head) span.fine { (fine) } }
}

/// Money at the minor unit, with the exact amount behind it.
pub fn rounded(amount: Decimal, currency: Currency) -> Markup {
    html! { span title=(format!("exactly {} {currency}", text::decimal(amount.normalize()))) { (text::money(amount, currency)) } }
}

/// What is not known: never shown as zero.
pub fn unknown(why: &str) -> Markup {
    html! { span.unknown title=(why) { (text::UNKNOWN) } }
}

/// A small mark beside a name: a plan, a state.
pub fn badge(kind: &'static str, label: &str) -> Markup {
    html! { span class={ "badge " (kind) } { (label) } }
}

/// There is nothing yet: what will be here, and the command that fills it.
pub fn nothing_yet(what: &str, command: &str) -> Markup {
    html! {
        div.state {
            p.state-title { (what) }
            p { "Next: " code { (command) } }
        }
    }
}

/// There is something, but not for what was asked: the way back.
pub fn nothing_matches(what: &str, clear: &str) -> Markup {
    html! {
        div.state {
            p.state-title { (what) }
            p { a href=(clear) { "Clear the filter" } }
        }
    }
}

/// Pages of a long list.
pub fn pager(page: u64, pages: u64, address: &dyn Fn(u64) -> String) -> Markup {
    html! {
        @if pages > 1 {
            nav.pager aria-label="Pages" {
                @if page > 1 { a rel="prev" href=(address(page - 1)) { "← Previous" } } @else { span.off { "← Previous" } }
                span { "Page " (text::count(page)) " of " (text::count(pages)) }
                @if page < pages { a rel="next" href=(address(page + 1)) { "Next →" } } @else { span.off { "Next →" } }
            }
        }
    }
}
