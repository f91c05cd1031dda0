//! The aggregator on the real engine and a real log.
#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod books;
mod common;
mod lanes;
mod meters;
mod repair;
mod tenants;
mod usage;
mod window;
