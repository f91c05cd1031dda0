//! The store seam, from outside: the embedded engine behind its HTTP face, as the `clickhouse` crate and plain
//! HTTP see it. Needs the ClickHouse library (`cargo xtask install`).
//!
//! A process holds one engine: all tests share it, each in a database of its own.

// The modules are the files of one program; a helper that panics is a test that fails.
#![allow(unreachable_pub, clippy::unwrap_used)]

#[path = "store/common.rs"]
mod common;
#[path = "store/http.rs"]
mod http;
#[path = "store/inserts.rs"]
mod inserts;
#[path = "store/migrations.rs"]
mod migrations;
#[path = "store/processes.rs"]
mod processes;
