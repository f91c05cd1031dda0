//! What there is: meters and whether they are alive, events that no meter counts, tenants, values of dimensions.

use chrono::{DateTime, Utc};
use rentroll_schemas::meter::Aggregation;
use serde::Serialize;

use super::{Scoped, UsageError};

/// A span of time, [from, to), whole minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// First instant.
    pub from: DateTime<Utc>,
    /// First instant after it.
    pub to: DateTime<Utc>,
}

/// Whether a meter is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MeterState {
    /// Its name.
    pub meter: String,
    /// Its newest version.
    pub version: u32,
    /// How values become quantities.
    pub aggregation: Aggregation,
    /// Its unit, singular.
    pub unit: String,
    /// The type of event that it counts.
    pub event_type: String,
    /// Events that it counted in the span.
    pub events: u64,
    /// Tenants that had some.
    pub tenants: u64,
    /// Beginning of the first bucket with events, of the rollup that was read.
    pub first: Option<DateTime<Utc>>,
    /// Beginning of the last bucket with events, likewise.
    pub last: Option<DateTime<Utc>>,
    /// Events that it matches and could not count, since their value is missing or not a number.
    pub without_value: u64,
}

/// Events that were stored and not counted, by type or by meter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotCounted {
    /// Of all tenants, most events first: every type, or every meter.
    pub totals: Vec<NotCountedTotal>,
    /// By tenant, most events first; no more than were asked for.
    pub rows: Vec<NotCountedRow>,
    /// Whether there are more rows.
    pub is_cut: bool,
}

/// Events of one type, or of one meter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotCountedTotal {
    /// The type, or the meter.
    pub key: String,
    /// Events.
    pub events: u64,
    /// Tenants that sent some.
    pub tenants: u64,
    /// Beginning of the last bucket with such events.
    pub last: DateTime<Utc>,
}

/// Events of one type, or of one meter, and one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotCountedRow {
    /// The type, or the meter.
    pub key: String,
    /// The tenant.
    pub tenant: String,
    /// Events.
    pub events: u64,
    /// Beginning of the last bucket with such events.
    pub last: DateTime<Utc>,
}

/// A tenant that has usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantSeen {
    /// The tenant.
    pub tenant: String,
    /// Its events that are kept, whatever became of them.
    pub events: u64,
    /// The last minute with an event; of events that are not kept any more, the last day.
    pub last: DateTime<Utc>,
}

/// Some tenants, in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantPage {
    /// The tenants.
    pub tenants: Vec<TenantSeen>,
    /// What to give as `after` to go on; `None` at the end.
    pub next: Option<String>,
}

/// A value of a dimension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupValue {
    /// The value; empty for events without the dimension.
    pub value: String,
    /// Events that have it.
    pub events: u64,
}

impl Scoped {
    /// The meters that may be seen, in the order of their names, and what they counted in the span.
    ///
    /// # Errors
    /// As [`Scoped::query`].
    pub async fn meter_states(&self, span: Span) -> Result<Vec<MeterState>, UsageError> {
        Err(UsageError::parameter("from", span.from, "not yet"))
    }

    /// The stored events of the span that no meter matches, by type and tenant; at most `rows` of the latter. For a scope with some
    /// meters alone: nothing.
    ///
    /// # Errors
    /// As [`Scoped::query`].
    pub async fn unmatched(&self, span: Span, rows: usize) -> Result<NotCounted, UsageError> {
        Err(UsageError::parameter("rows", rows, format!("not yet {}", span.from)))
    }

    /// The events of the span that a meter matches and could not count, since their value is missing or not a number, by meter and
    /// tenant; at most `rows` of the latter.
    ///
    /// # Errors
    /// As [`Scoped::query`].
    pub async fn without_value(&self, span: Span, rows: usize) -> Result<NotCounted, UsageError> {
        Err(UsageError::parameter("rows", rows, format!("not yet {}", span.from)))
    }

    /// The tenants that have usage, in the order of their names: `limit` of those that contain `search`, whatever the case, after the
    /// name `after`.
    ///
    /// # Errors
    /// As [`Scoped::query`].
    pub async fn tenants(
        &self,
        search: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<TenantPage, UsageError> {
        Err(UsageError::parameter("limit", limit, format!("not yet {search:?} {after:?}")))
    }

    /// The values that a dimension has in the events that a meter counts in the span, most events first.
    ///
    /// # Errors
    /// As [`Scoped::query`].
    pub async fn group_values(
        &self,
        meter: &str,
        dimension: &str,
        span: Span,
    ) -> Result<Vec<GroupValue>, UsageError> {
        Err(UsageError::parameter("dimension", dimension, format!("not yet {meter} {}", span.from)))
    }
}
