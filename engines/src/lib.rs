//! The two seams on which Rentroll stands, each with an embedded and a distributed side:
//!
//! - [`log`]: the event log — Apache Kafka, or segments on disk;
//! - [`store`]: ClickHouse over HTTP — a server, or the engine in this process behind an HTTP face.

#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod health;
pub mod log;
pub mod store;
