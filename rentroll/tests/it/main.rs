//! Rentroll from outside: the real binary, the real engine, a real Kafka broker, real files.
#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod api;
mod bad_input;
mod bench;
mod billing;
mod books;
mod chain;
mod corrections;
mod crash;
mod full_disk;
mod functions;
mod health;
mod house;
mod ingest;
mod openmeter;
mod overflow;
mod power;
mod replay;
mod rig;
mod tenants;
mod topics;
mod torture;
mod usage;
mod verbs;
