//! Rollups are proved against the raw events, and repaired where they differ.
//!
//! # The check
//! The minutes of an hour must be what the hour's events make: those that count ([`effective`]), each identity
//! once. The hour must be the sum of its minutes, the day the sum of its hours. [`check`] reads, in this order:
//! 1. **D**, the batches that have rows among the hour's events. All of them must be done: a batch inserts its events,
//!    then its rollups, then is written down as done, so the rollups of D are in;
//! 2. **the difference** of events and rollups, in one statement;
//! 3. **D again**. If nothing has changed, no batch has brought events of the hour in between, and as events come before
//!    rollups, no rollup of another batch was seen in 2. The difference is exact, while workers go on.
//!
//! Else it is read again, and after some attempts put off: an hour that is being written is checked later.
//!
//! # The repair
//! Sums and counts are ledgers: a correcting row is added, with the difference. A least or greatest value that is too low
//! or too high cannot be undone by adding: the cell's rows are deleted and what the events say is inserted. Either way
//! the insert has a token made of what was found, so that of two that repair the same thing one wins; and the check
//! is made again until it finds nothing, so that what a deletion took besides is put right too: a batch's row, or the
//! sums of meters that share a row with one that was made a meter of extremes later.
//!
//! Each check is a row of `rollup_checks`, each cell that was put right one of `repairs`.
//!
//! # When
//! [`keeper`] runs beside the workers: it checks each hour some minutes after it has ended, the hours of originals
//! whose corrections have come ([`corrections`]), and hours that are marked as dirty ([`dirty`]): by a worker that
//! repeats a batch, or by a repair that was broken off. `rentroll books --rollups` checks any span at any time.
//!
//! # Limits
//! Hours whose events may be past their retention cannot be checked, and never are. Copies of one identity whose times
//! lie in different hours are each the only one of their hour here, while billing takes the first of its period: it
//! then says that the two differ.
//!
//! [`effective`]: rentroll_schemas::effective

mod apply;
pub mod check;
pub mod corrections;
pub mod dirty;
pub mod keeper;
mod sql;

use chrono::{DateTime, Utc};
use rentroll_engines::store::StoreError;
use rentroll_schemas::Quantity;
use serde::Serialize;

pub use check::{Outcome, Proof};

/// A rollup table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Table {
    /// `usage_minute`, proved by events.
    #[serde(rename = "usage_minute")]
    Minute,
    /// `usage_hour`, proved by minutes.
    #[serde(rename = "usage_hour")]
    Hour,
    /// `usage_day`, proved by hours.
    #[serde(rename = "usage_day")]
    Day,
}

impl Table {
    /// From the finest to the coarsest, each proved by the one before.
    pub const ALL: [Table; 3] = [Table::Minute, Table::Hour, Table::Day];

    /// Its name in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Minute => "usage_minute",
            Table::Hour => "usage_hour",
            Table::Day => "usage_day",
        }
    }

    /// The name of the table with its rows, in which meters share some; that of [`Table::name`] shows one per meter.
    const fn rows(self) -> &'static str {
        match self {
            Table::Minute => "rollup_minute",
            Table::Hour => "rollup_hour",
            Table::Day => "rollup_day",
        }
    }
}

/// Usage of one cell: a meter, tenant, bucket and dimensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Events.
    pub events: i64,
    /// Sum of their values.
    pub total: Quantity,
    /// The least of their values; 0 without events.
    pub least: Quantity,
    /// The greatest of their values; 0 without events.
    pub greatest: Quantity,
}

/// A cell that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The table.
    pub table: Table,
    /// The meter.
    pub meter: String,
    /// The tenant.
    pub tenant: String,
    /// First second of the bucket.
    pub bucket: DateTime<Utc>,
    /// The meter's dimensions, canonical JSON.
    pub dimensions: String,
    /// What the rollup says.
    pub found: Cell,
    /// What it should say.
    pub expected: Cell,
    /// The rollup has a row of it, be it one that says nothing.
    #[serde(skip)]
    pub exists: bool,
    /// Adding a row does not mend it: its meter takes the least or the greatest, and has too little or too much.
    #[serde(skip)]
    pub replaces: bool,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The store did not answer, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value in a rollup is none that this program writes.
    #[error("{table}: meter `{meter}`, tenant `{tenant}`: `{value}` is no quantity: {reason}")]
    Value {
        /// The table.
        table: &'static str,
        /// The meter.
        meter: String,
        /// The tenant.
        tenant: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A sum does not fit 38 digits.
    #[error("{table}: meter `{meter}`, tenant `{tenant}`: the difference does not fit 38 digits")]
    TooLarge {
        /// The table.
        table: &'static str,
        /// The meter.
        meter: String,
        /// The tenant.
        tenant: String,
    },
}
