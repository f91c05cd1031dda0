//! Cost allocation.

pub mod split;
