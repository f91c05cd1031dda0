//! Rentroll from outside: the real binary, the real engine, a real Kafka broker, real files.

mod bad_input;
mod billing;
mod chain;
mod crash;
mod full_disk;
mod health;
mod house;
mod rig;
