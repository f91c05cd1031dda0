//! The sidecar: reads sources, decides on each line or event, and appends it to the event log.
//!
//! - [`source`]: what can be followed, and how it is configured;
//! - [`format`]: from a line's bytes to an event, pure;
//! - [`lines`]: from a growing or compressed file to lines with a place;
//! - `sight`, `family`, `follow`: which files those are, through rotation, copytruncate and compression;
//! - `places`: how far each file has been read, kept over restarts;
//! - [`overflow`]: which lane an event takes;
//! - [`collect`]: the loop that ties them to the log;
//! - [`http`]: events that are sent, and who may send them;
//! - [`spool`]: where they wait while the log is away;
//! - [`outgoing`]: from events to the log's records.
//!
//! A place moves only after the log has the line durably. After a crash the lines since the last place are
//! sent again, with the same identities, and are counted as duplicates, never as usage.

pub mod collect;
mod edges;
mod family;
mod follow;
mod followed;
pub mod format;
pub mod http;
pub mod lines;
pub mod metrics;
pub mod outgoing;
pub mod overflow;
mod places;
mod reading;
pub mod replay;
mod sight;
pub mod source;
pub mod spool;
