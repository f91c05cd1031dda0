//! Catalogue to invoices, cost pools to cost per tenant.
//!
//! What decides is pure and stands apart: [`rating`], [`assignment`], [`draft`], [`allocation::split`].

pub mod allocation;
pub mod assignment;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
mod digest;
pub mod draft;
pub mod error;
pub mod explain;
pub mod invoices;
pub mod overview;
pub mod rating;
pub mod run;
pub mod usage;

pub use allocation::{AllocateOptions, AllocationReport, allocate};
pub use error::BillingError;
pub use explain::explain;
pub use overview::overview;
pub use run::{RunOptions, RunReport, run};
