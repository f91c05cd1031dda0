//! Usage queries, against what anybody would compute who has all events at hand.

mod aggregations;
mod naive;
mod world;
