//! Usage, asked for: how much of what, by whom, when.

pub mod query;

pub use query::{Answer, Fill, Filter, Group, Query, Row, Source, Test, Window};
