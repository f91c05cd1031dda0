//! Events, looked for: did mine count, and if not, why not?
//!
//! What was stored, what was refused and what came under another one's identity are three tables, searched together in the order of
//! time. Of the latter two only keys are read until a page is full, and then what is on it.

mod cursor;
mod page;
mod search;
mod storing;
mod verdict;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rentroll_schemas::Quantity;
use serde::{Deserialize, Serialize};
pub(super) use storing::Storings;

/// Most events of one page.
pub const EVENTS_MAX: usize = 1_000;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Stored, and counted by every meter that it matches.
    Counted,
    /// Stored; no meter matches it.
    Unmatched,
    /// Stored; a meter matches it and does not find its value, or no number there.
    WithoutValue,
    /// Stored, and taken back by another event.
    Voided,
    /// Stored, and replaced by another event.
    Amended,
    /// Stored; takes back another event, and counts nothing itself.
    Void,
    /// Stored once more, with the same time, by an aggregator that did not know that it was succeeded; the first one counts.
    Copy,
    /// Refused.
    Rejected,
    /// Came under the identity of an earlier event, with other content: the earlier one counts.
    Conflict,
}

/// In which order events come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The newest first.
    #[default]
    NewestFirst,
    /// The oldest first.
    OldestFirst,
}

/// What events are looked for: of which everything that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only this tenant's.
    pub tenant: Option<String>,
    /// Only events that this meter matches, with its value or without it.
    pub meter: Option<String>,
    /// Only this type.
    pub kind: Option<String>,
    /// Only this source's.
    pub source: Option<String>,
    /// Only this id.
    pub id: Option<String>,
    /// First instant of their own time; of a reject, whose time may be what is wrong, of its arrival.
    pub from: Option<DateTime<Utc>>,
    /// First instant after it.
    pub to: Option<DateTime<Utc>>,
    /// Only these verdicts; empty for all.
    pub verdicts: Vec<Verdict>,
    /// In which order.
    pub order: Order,
    /// Goes on after a page: its [`EventPage::next`].
    pub cursor: Option<String>,
    /// How many, from 1 to [`EVENTS_MAX`].
    pub limit: usize,
}

/// What one meter made of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// The meter.
    pub meter: String,
    /// Its version that the event is of.
    pub version: u32,
    /// Its unit, singular.
    pub unit: String,
    /// The value that it takes: one of what is counted, a number, or the text that `unique_count` tells apart; `None` if there is
    /// none or it is not a number.
    pub value: Option<String>,
}

/// An event that took back or replaced another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CorrectedBy {
    /// Its id; its source is the same.
    pub id: String,
    /// Whether it replaces it, or takes it back.
    pub is_amendment: bool,
}

/// Where an event was read in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct LogPlace {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u16,
    /// The first position of the batch that it came with.
    pub batch: u64,
}

/// One event, stored or refused, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundEvent {
    /// Its id; empty of a reject that cannot be read.
    pub id: String,
    /// Its source.
    pub source: String,
    /// Its type; empty of a reject that cannot be read.
    #[serde(rename = "type")]
    pub kind: String,
    /// The tenant; empty of a reject that names none.
    pub tenant: String,
    /// When it happened; `None` of a reject that cannot be read.
    pub time: Option<DateTime<Utc>>,
    /// When it arrived.
    pub arrived_at: DateTime<Utc>,
    /// When its batch was stored; `None` if that is not known any more, or not yet.
    pub stored_at: Option<DateTime<Utc>>,
    /// What became of it.
    pub verdict: Verdict,
    /// Of a reject: why, as a word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Of a reject: the field at fault; empty if the whole is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// Of a reject: why, as a sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Of a reject: its place in its source.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// The meters that match it, in the order of their names: what they count of it, were it not corrected. None of a void, a reject or
    /// a conflict.
    pub meters: Vec<Counted>,
    /// The corrections in force that name it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub corrected_by: Vec<CorrectedBy>,
    /// Its numbers.
    pub measures: BTreeMap<String, Quantity>,
    /// Its texts.
    pub dimensions: BTreeMap<String, String>,
    /// Its identity, hexadecimal; of a reject that of the reject.
    pub identity: String,
    /// Where it was read in the log.
    pub log: LogPlace,
}

/// Some events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventPage {
    /// In the order that was asked for.
    pub events: Vec<FoundEvent>,
    /// What to give as [`EventQuery::cursor`] to go on; `None` at the end.
    pub next: Option<String>,
}
