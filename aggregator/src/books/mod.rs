//! The books: what became of every record that was taken from the log.
//!
//! Two proofs, each of which finds what the other cannot:
//! - per source and hour of arrival ([`hours`]): accepted = stored + duplicate + rejected, and what is stored and
//!   rejected by the books is what is found in the tables, distinct by identity;
//! - per log partition ([`chain`]): the positions of the batches that are done form an unbroken chain, and each
//!   batch has as many records as its positions say. A record lost inside the log shows here and nowhere else.
//!
//! Both may be read while aggregators work. An hour that is being written is held against the books before and
//! after it was counted, so that work in progress is never called an error.

pub mod chain;
pub mod hours;
mod read;

use chrono::{DateTime, Utc};
use serde::Serialize;

pub use chain::{Chain, Gap, Short};
pub use hours::Hour;
pub(crate) use read::UNFINISHED;
pub use read::read;

/// Which part of the books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Hours of arrival from this one on; all for `None`.
    pub from: Option<DateTime<Utc>>,
    /// Hours of arrival before this one; all for `None`.
    pub to: Option<DateTime<Utc>>,
    /// Of this source alone. The chains are of all sources: a log partition has them mixed.
    pub source: Option<String>,
}

/// A batch that was planned and not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unfinished {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u16,
    /// Its first position.
    pub first: u64,
    /// The position after its last record.
    pub next: u64,
    /// When it was planned.
    pub planned_at: DateTime<Utc>,
    /// Batches behind it are done, so that nobody will come back for it.
    pub passed_over: bool,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Books {
    /// By source, then hour.
    pub hours: Vec<Hour>,
    /// By topic, then partition.
    pub chains: Vec<Chain>,
    /// By topic, partition and position.
    pub unfinished: Vec<Unfinished>,
}

impl Books {
    /// Whether all of it holds. A batch that waits to be finished is no error; one that was passed over is.
    pub fn hold(&self) -> bool {
        self.hours.iter().all(Hour::balances)
            && self.chains.iter().all(Chain::holds)
            && !self.unfinished.iter().any(|batch| batch.passed_over)
    }
}
