//! What people see: the console's pages, served by the `rentroll` binary.
//!
//! | module | what it is |
//! |---|---|
//! | [`server`] | routes, headers, failures: the only place that knows HTTP |
//! | [`read`] | one query per file; values are always bound parameters |
//! | [`model`] | what pages show, as plain values |
//! | [`pages`] | a view and a pure function to markup, per page |
//! | [`html`] | shell, tables, charts: what pages are built from |
//! | [`window`], [`address`] | the state of a page is its address |
//! | [`csv`] | exports |
//!
//! The console works without script and fetches nothing from elsewhere. It shows every tenant's data to
//! whoever can reach it: it is the operator's, and listens on loopback unless it is told otherwise.
//!
//! Beside the crate stand `grafana/`, `prometheus/`: dashboards and rules for the tools that people run
//! already.

pub mod address;
pub mod assets;
pub mod csv;
pub mod html;
pub mod model;
pub mod pages;
pub mod read;
pub mod server;
pub mod text;
pub mod window;

pub use server::{ConsoleState, router};
