//! Usage, asked for: how much of what, by whom, when.
//!
//! A question is checked (`plan`), its span cut into windows (`windows`), and read from what answers it exactly at the least cost:
//! - the rollups (`rollups`): for each part of the span the coarsest table whose buckets no edge cuts (`cover`), where the
//!   aggregation and all dimensions are in them;
//! - else raw events (`raw`), those that count and each once; levels that hold over time always (`levels`).
//!
//! What the store answered is remembered for as long as nothing came into what it was read from (`memory`).
//!
//! What was read makes cells (`cells`), which make windows and rows (`answer`). Quantities are exact throughout; what is divided is
//! rounded once, half away from zero at nine decimals (`exact`).
//!
//! Guarantees: whoever may see one tenant reads no row of another, in whatever is asked: all tables come from `scope`. Every value
//! from outside is bound (`ask`). What would read or give more than [`Limits`] is refused before, with how to ask for less.
//!
//! Limits: rollups follow corrections within minutes, and so do answers from them; answers from events follow at once. Raw events
//! are kept for 13 months: a question that needs older ones is refused. A question about all tenants in a short span reads the
//! rollups of its weeks, which are sorted by tenant.

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
mod memory;
pub mod overview;
mod plan;
pub mod query;
mod raw;
mod registry;
mod rollups;
mod rows;
mod scope;
pub mod text;
pub mod top;
mod windows;

pub use error::UsageError;
pub use plan::FILTERS_MAX;
pub use query::{Answer, Approximation, Fill, Filter, Group, Query, Row, Source, Test, Window};
pub use scope::Scope;
pub use windows::WINDOWS_MAX;

use answer::Freshness;
use lists::KnownLists;
use memory::Memory;

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
    memory: Memory,
    storings: events::Storings,
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
            memory: Memory::default(),
            storings: events::Storings::default(),
        }
    }

    /// For one who may see this much.
    pub fn scoped(&self, scope: Scope) -> Scoped {
        Scoped { usage: self.clone(), scope, recalls: true }
    }

    /// How many statements were answered from memory, as nothing had come into what they read.
    pub fn recalled(&self) -> u64 {
        self.memory.recalled()
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
    /// Whether answers may be what is remembered.
    recalls: bool,
}

impl Scoped {
    /// With other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Scoped {
        self.usage.limits = limits;
        self
    }

    /// Without what is remembered: all that an answer takes is asked of the store.
    #[must_use]
    pub fn afresh(self) -> Scoped {
        Scoped { recalls: false, ..self }
    }

    /// Whose usage may be seen.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}
