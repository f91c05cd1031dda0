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
//!
//! A selection is answered for itself. What the chain lost names neither source nor hour: it counts for a selection if it
//! may be of it, by the hours in which the batches around it arrived ([`arrivals`]) and, for a source, from the first hour
//! on in which that source sent something. All else is listed as *elsewhere*.

pub mod arrivals;
pub mod chain;
pub mod hours;
mod positions;
mod read;

use chrono::{DateTime, Utc};
use serde::Serialize;

pub use arrivals::Arrivals;
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
    /// Of this source alone. A log partition has all sources mixed.
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
    /// When its records may have arrived: as the batches before and behind it, and between them.
    #[serde(flatten)]
    pub arrived: Arrivals,
    /// It cannot be of what was selected.
    pub elsewhere: bool,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Books {
    /// By source, then hour; those that were selected.
    pub hours: Vec<Hour>,
    /// By topic, then partition; all, with what is elsewhere marked.
    pub chains: Vec<Chain>,
    /// By topic, partition and position; all, with what is elsewhere marked.
    pub unfinished: Vec<Unfinished>,
}

impl Books {
    /// Whether all of what was selected holds. A batch that waits to be finished is no error; one that was passed over
    /// is.
    pub fn hold(&self) -> bool {
        self.hours.iter().all(Hour::balances)
            && self.chains.iter().all(Chain::holds)
            && !self.unfinished.iter().any(|batch| batch.passed_over && !batch.elsewhere)
    }

    /// Marks what cannot have arrived in `selected`.
    fn mark_elsewhere(&mut self, selected: Arrivals) {
        let is_elsewhere = |arrived: Arrivals| !arrived.overlaps(selected);
        for chain in &mut self.chains {
            chain.gaps.iter_mut().for_each(|gap| gap.elsewhere = is_elsewhere(gap.arrived));
            chain.short.iter_mut().for_each(|batch| batch.elsewhere = is_elsewhere(batch.arrived));
        }
        self.unfinished.iter_mut().for_each(|batch| batch.elsewhere = is_elsewhere(batch.arrived));
    }
}
