//! Usage queries, against what anybody would compute who has all events at hand.

mod aggregations;
mod events;
mod levels;
mod naive;
mod registry;
mod top;
mod windows;
mod world;
