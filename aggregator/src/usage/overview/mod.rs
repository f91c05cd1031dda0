//! What there is: meters and whether they are alive, events that no meter counts, tenants, values of dimensions.

mod meters;
mod not_counted;
mod tenants;
mod used;
mod values;

use chrono::{DateTime, Utc};
use rentroll_schemas::meter::Aggregation;
use serde::{Deserialize, Serialize};

pub use tenants::TENANTS_MAX;
pub use used::TenantUsed;

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

/// The place of a row among those of [`NotCounted`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCountedPlace {
    /// Events.
    pub events: u64,
    /// The type, or the meter.
    pub key: String,
    /// The tenant.
    pub tenant: String,
}

impl NotCountedRow {
    /// Its place: rows after it are those of the next page.
    pub fn place(&self) -> NotCountedPlace {
        NotCountedPlace { events: self.events, key: self.key.clone(), tenant: self.tenant.clone() }
    }
}

/// A tenant that has usage, or had some that was taken back.
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
