//! Catalogue to invoices, cost pools to cost per tenant.
//!
//! What decides is pure and stands apart: [`rating`], [`assignment`], [`allocation::split`].

pub mod allocation;
pub mod assignment;
pub mod rating;
