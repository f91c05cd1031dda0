//! Meters as they are in force: kept in the store in versions, and taken up by what runs without a restart.
//!
//! - [`registry`]: the table, a change at a time;
//! - [`history`]: from rows to versions with their times, pure;
//! - [`backfill`]: the hours that a change is felt in are marked, and the [keeper](crate::repair::keeper) brings their
//!   rollups to what the events make of them;
//! - [`watch`]: a running aggregator looks for changes.
//!
//! # Why nothing is missed
//! A batch is counted by the meters of the moment at which it is put together, and holds them until it is stored. A
//! process that takes up a change waits until nobody holds the former meters, and only then marks the hours. So whatever
//! was counted by the former meters is in the store before the hours are checked. Each process does so for itself.

pub mod backfill;
pub mod history;
pub mod registry;
pub mod watch;

pub use registry::{Change, MeterError, load, seed};
pub use rentroll_schemas::meter::LiveMeters;
