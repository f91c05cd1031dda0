//! Configuration, verbs and wiring of the `rentroll` command.
//!
//! - [`cli`]: what the user typed;
//! - [`config`]: `rentroll.toml` and the environment over it;
//! - [`context`]: opens what a verb needs;
//! - [`memory`]: how much of it a verb holds;
//! - [`services`]: the long-running parts;
//! - [`verbs`]: one module per verb;
//! - [`output`]: tables for people, JSON for machines.

pub mod cli;
pub mod config;
pub mod context;
pub mod memory;
pub mod output;
pub mod services;
pub mod verbs;
