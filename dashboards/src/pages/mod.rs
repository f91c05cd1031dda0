//! The pages: each a view, which is plain values, and a function from it to markup. No page asks the store.

pub mod costs;
pub mod failed;
pub mod health;
pub mod invoice;
pub mod invoices;
pub mod overview;
pub mod rejects;
pub mod tenant;
pub mod tenant_table;
pub mod tenants;
