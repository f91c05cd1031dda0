//! Meters as they are in force: kept in the store in versions, and taken up by what runs without a restart.

mod live;

pub use live::LiveMeters;
