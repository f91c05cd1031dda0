//! Usage, asked for: how much of what, by whom, when.

use chrono_tz::Tz;
use rentroll_engines::store::Store;

use crate::meters::LiveMeters;

mod answer;
mod ask;
mod cells;
mod cover;
mod error;
pub mod events;
mod exact;
mod filters;
mod levels;
mod lists;
pub mod overview;
mod plan;
pub mod query;
mod raw;
mod registry;
mod rollups;
mod scope;
pub mod text;
pub mod top;
mod windows;

pub use error::UsageError;
pub use query::{Answer, Fill, Filter, Group, Query, Row, Source, Test, Window};
pub use scope::Scope;
pub use windows::WINDOWS_MAX;

use answer::Freshness;
use lists::KnownLists;

/// How much one question may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds until it is given up.
    pub seconds_max: u64,
    /// Memory of the store.
    pub memory_bytes_max: u64,
    /// Rows that the store reads.
    pub rows_read_max: u64,
    /// Rows of the answer.
    pub rows_answered_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            seconds_max: 30,
            memory_bytes_max: 512 << 20,
            rows_read_max: 50_000_000,
            rows_answered_max: 100_000,
        }
    }
}

/// Answers questions about usage.
#[derive(Clone, Debug)]
pub struct Usage {
    store: Store,
    meters: LiveMeters,
    billing_zone: Tz,
    limits: Limits,
    lists: KnownLists,
    freshness: Freshness,
}

impl Usage {
    /// From this store, by these meters. Billing periods are months of `billing_zone`.
    pub fn new(store: Store, meters: LiveMeters, billing_zone: Tz, limits: Limits) -> Usage {
        Usage {
            store,
            meters,
            billing_zone,
            limits,
            lists: KnownLists::default(),
            freshness: Freshness::default(),
        }
    }

    /// For one who may see this much.
    pub fn scoped(&self, scope: Scope) -> Scoped {
        Scoped { usage: self.clone(), scope }
    }

    /// The meters in force.
    pub fn meters(&self) -> &LiveMeters {
        &self.meters
    }
}

/// Answers questions of one who may see a part, or all.
#[derive(Clone, Debug)]
pub struct Scoped {
    usage: Usage,
    scope: Scope,
}

impl Scoped {
    /// With other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Scoped {
        self.usage.limits = limits;
        self
    }

    /// Whose usage may be seen.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}
