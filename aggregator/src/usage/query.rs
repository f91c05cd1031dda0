//! What can be asked of usage, and what is answered.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::{Aggregation, Number, Per};
use serde::{Deserialize, Serialize};

/// How usage is cut in time. All but the billing period are cut in the zone of the query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// One window: the whole span.
    #[default]
    Whole,
    /// Minutes.
    Minute,
    /// Hours of the zone's clocks.
    Hour,
    /// Days, from midnight to midnight: 23 or 25 hours where clocks change.
    Day,
    /// Weeks, from Monday (ISO 8601).
    Week,
    /// Calendar months.
    Month,
    /// Billing periods: calendar months of the catalogue's zone.
    BillingPeriod,
}

/// By what rows are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// The tenant.
    Tenant,
    /// Its organisation, as the registry had it at the time.
    Organisation,
    /// Its tier, as the registry had it at the time: usage before and after a change is of different rows.
    Tier,
    /// One of its tags, as the registry had it at the time.
    Tag(String),
    /// A dimension of the events.
    Dimension(String),
}

/// A condition on a key of the events' data: a dimension, or a measure for ranges. Several hold together. A dimension that is
/// missing is the empty text, as it is among the groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Filter {
    /// The key.
    pub key: String,
    /// What it must be.
    #[serde(flatten)]
    pub test: Test,
}

/// What a key must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// One of these texts.
    In(Vec<String>),
    /// None of these texts.
    Not(Vec<String>),
    /// It begins with this.
    Prefix(String),
    /// A number of at least `from` and less than `below`, as [`Rule`](rentroll_schemas::meter::Rule) has it.
    Range {
        /// The least.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Number>,
        /// The first that is too great.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        below: Option<Number>,
    },
}

/// What is shown for a window without events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// No row: a gap.
    #[default]
    None,
    /// A row without a quantity.
    Null,
    /// A row with zero.
    Zero,
    /// A row with the quantity of the window before; none before the first.
    Previous,
}

/// A question about one meter.
///
/// [`Query::new`] asks for the whole span in one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The meter's name.
    pub meter: String,
    /// First instant, a whole minute.
    pub from: DateTime<Utc>,
    /// First instant after it, a whole minute.
    pub to: DateTime<Utc>,
    /// How it is cut. Windows at the ends may be parts: an answer's rows say from when to when they are.
    pub window: Window,
    /// In which zone.
    pub zone: Tz,
    /// Each window looks back so far from its end instead of to its beginning: a whole multiple of the minute, hour or day
    /// that `window` is, and then as many of those. All are whole, but for the last one if `to` cuts it.
    pub rolling: Option<TimeDelta>,
    /// Only these tenants; empty for all.
    pub tenants: Vec<String>,
    /// Only tenants of these organisations, as the registry had them at the time; empty for all.
    pub organisations: Vec<String>,
    /// Only events of which all of these hold.
    pub filters: Vec<Filter>,
    /// By what rows are told apart, beside the window.
    pub group_by: Vec<Group>,
    /// What is shown for windows without events.
    pub fill: Fill,
    /// Values that differ are counted about right, in less memory: of a meter of `unique_count` alone.
    pub approximate: bool,
}

impl Query {
    /// All of a meter in [from, to).
    pub fn new(meter: impl Into<String>, from: DateTime<Utc>, to: DateTime<Utc>) -> Query {
        Query {
            meter: meter.into(),
            from,
            to,
            window: Window::Whole,
            zone: Tz::UTC,
            rolling: None,
            tenants: Vec::new(),
            organisations: Vec::new(),
            filters: Vec::new(),
            group_by: Vec::new(),
            fill: Fill::None,
            approximate: false,
        }
    }
}

/// What an answer was read from: the coarsest that answers exactly, for each part of the span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Rollups by day.
    Day,
    /// Rollups by hour.
    Hour,
    /// Rollups by minute.
    Minute,
    /// Raw events.
    Events,
}

/// How quantities were counted about right, where that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Approximation {
    /// The store's function.
    pub method: &'static str,
    /// Of a hundred quantities some 68 are off by no more than so many percent; small ones are exact.
    pub standard_error_percent: &'static str,
}

/// Usage of one window and group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// First instant of the window, or of the part of it that was asked for.
    pub from: DateTime<Utc>,
    /// First instant after it.
    pub to: DateTime<Utc>,
    /// The tenant, if rows are told apart by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The organisation, if rows are told apart by it; empty for tenants that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// The tier, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Tags, likewise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Dimensions, likewise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dimensions: BTreeMap<String, String>,
    /// The quantity; none for a window that was filled with nothing.
    pub quantity: Option<Quantity>,
    /// Events behind it.
    pub events: u64,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The meter.
    pub meter: String,
    /// Its unit, singular.
    pub unit: String,
    /// How values became quantities.
    pub aggregation: Aggregation,
    /// Per which time, of a rate or a level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per: Option<Per>,
    /// First instant that was asked for.
    pub from: DateTime<Utc>,
    /// First instant after it.
    pub to: DateTime<Utc>,
    /// How it is cut.
    pub window: Window,
    /// In which zone.
    pub zone: String,
    /// What it was read from, the coarsest first.
    pub read_from: Vec<Source>,
    /// How far its quantities may be off; none, without this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approximation: Option<Approximation>,
    /// Whether more may come in the ordinary course: the span has not ended.
    pub is_open: bool,
    /// When the newest event arrived that is stored, of any tenant: how fresh the store is.
    pub data_as_of: Option<DateTime<Utc>>,
    /// In the order of time, then of the groups.
    pub rows: Vec<Row>,
}
