//! Who uses most, and how that changed.

use chrono::{DateTime, Utc};
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::{Aggregation, Per};
use serde::Serialize;

use super::{Filter, Group, Scoped, Source, UsageError};

/// Most rows that can be asked for.
pub const TOP_ROWS_MAX: usize = 10_000;

/// The question who uses most of a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// The meter's name.
    pub meter: String,
    /// First instant, a whole minute.
    pub from: DateTime<Utc>,
    /// First instant after it, a whole minute. It is compared with the span of the same length that ends at `from`.
    pub to: DateTime<Utc>,
    /// Who: tenants, organisations, or the values of anything else that rows are told apart by.
    pub by: Group,
    /// How many rows, from 1 to [`TOP_ROWS_MAX`].
    pub rows: usize,
    /// As in [`Query`](super::Query).
    pub tenants: Vec<String>,
    /// As in [`Query`](super::Query).
    pub organisations: Vec<String>,
    /// As in [`Query`](super::Query).
    pub filters: Vec<Filter>,
}

/// One of the greatest, or the sum of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopRow {
    /// The tenant, the organisation, or whatever [`Top::by`] says; empty of total and remainder.
    pub key: String,
    /// How much; `None` of the total or the remainder where there were no events.
    pub quantity: Option<Quantity>,
    /// Events behind it.
    pub events: u64,
    /// `quantity` by that of the total, rounded half away from zero at nine decimals: 0.25 is a quarter. Absent where quantities of
    /// groups do not add up to that of all (min, max, avg, unique_count, latest, percentile), and where the total is zero.
    pub share: Option<Quantity>,
    /// The same quantity in the span before; `None` where there were no events.
    pub previous: Option<Quantity>,
    /// `quantity` less `previous`; where quantities add up, no events count as zero.
    pub change: Option<Quantity>,
    /// `change` in percent of `previous`, rounded like `share`; absent where that is zero or absent.
    pub change_percent: Option<Quantity>,
}

/// The answer to a [`Top`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopAnswer {
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
    /// First instant of the span that it is compared with; that ends at `from`.
    pub previous_from: DateTime<Utc>,
    /// What it was read from, the coarsest first.
    pub read_from: Vec<Source>,
    /// Whether more may come in the ordinary course: the span has not ended.
    pub is_open: bool,
    /// When the newest event was stored, of all tenants that may be seen.
    pub data_as_of: Option<DateTime<Utc>>,
    /// The greatest first; equal ones in the order of their keys.
    pub rows: Vec<TopRow>,
    /// What has no row of its own, together; `None` if everything has one.
    pub other: Option<TopRow>,
    /// How many keys have events in the span.
    pub keys: u64,
    /// Everything.
    pub total: TopRow,
}

impl Scoped {
    /// Who uses most.
    ///
    /// # Errors
    /// As [`Scoped::query`].
    pub async fn top(&self, top: &Top) -> Result<TopAnswer, UsageError> {
        Err(UsageError::parameter("top", &top.meter, "not yet"))
    }
}
