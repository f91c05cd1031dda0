//! One suite over both event logs, and what only a cluster can do.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

#[path = "log/common.rs"]
mod common;
#[path = "log/groups.rs"]
mod groups;
#[path = "log/kafka.rs"]
mod kafka;
#[path = "log/suite.rs"]
mod suite;
#[cfg(feature = "kafka-tls")]
#[path = "log/tls.rs"]
mod tls;
