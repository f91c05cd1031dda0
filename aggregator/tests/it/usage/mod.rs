//! Usage queries, against what anybody would compute who has all events at hand.

mod aggregations;
mod events;
mod levels;
mod lists;
mod memory;
mod naive;
mod overview;
mod registry;
mod scope;
mod top;
mod windows;
mod world;
