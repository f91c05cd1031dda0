//! One module per verb: its arguments, and what it does.
//!
//! A verb takes what it needs from [`crate::context`], does its work through the library crates, and prints
//! through [`crate::output`]. It returns [`crate::cli::Exit`]; a mistake of the user's is a
//! [`crate::cli::WrongUse`].

pub mod allocate;
pub mod bench;
pub mod bill;
pub mod books;
pub mod catalogue;
pub mod config;
pub mod costs;
pub mod demo;
pub mod doctor;
pub mod invoices;
pub mod meters;
pub mod migrate;
mod month;
pub mod rejects;
pub mod send;
pub mod tenants;
pub mod tokens;
pub mod topics;
pub mod torture;
pub mod up;
pub mod usage;
pub mod when;
