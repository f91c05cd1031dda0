//! Ingest and spool over real sockets, real files and a real log.
#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod disk;
mod door;
mod forms;
mod limits;
mod memory;
mod places;
mod rig;
mod spool;
mod takeover;
mod tls;
mod who;
