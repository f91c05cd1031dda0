//! Event log to ClickHouse, exactly once.
//!
//! One [`worker`] per partition takes batches and does, in this order:
//! 1. write the batch down as planned: topic, partition, exact range, digest of its records ([`plan`]);
//! 2. judge each record ([`judge`]) and find duplicates ([`dedup`]), which depends on nothing but the records
//!    and what earlier batches stored, so that a repetition gives the same verdicts;
//! 3. insert events, rollups and rejects ([`batch`]), each under a token made of the plan, so that a
//!    repetition inserts nothing twice;
//! 4. write the batch down as done, with its tallies: the books are made of these;
//! 5. commit the position in the log.
//!
//! After a crash between any two of these, the next owner of the partition finds the plan, reads the same
//! range again and goes through the same steps.

pub mod activity;
pub mod api;
mod arena;
pub mod batch;
pub mod block;
pub mod books;
pub mod columns;
pub mod dedup;
mod density;
pub mod event_rows;
pub mod judge;
mod lane;
pub mod meters;
pub mod metrics;
pub mod names;
pub mod openmeter;
pub mod plan;
pub mod repair;
pub mod rollup;
pub mod rows;
pub mod run;
pub mod steps;
pub mod tenants;
pub mod usage;
mod watch;
pub mod worker;
