//! One suite over both event logs, and what only a cluster can do.

#[path = "log/common.rs"]
mod common;
#[path = "log/kafka.rs"]
mod kafka;
#[path = "log/suite.rs"]
mod suite;
