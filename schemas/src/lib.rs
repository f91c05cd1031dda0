//! The words all parts of Rentroll share.
//!
//! Nothing here does I/O but reading files that people write, and keeping the file of tokens: these are the types that
//! travel (events, rejects), the files people write (meters, catalogue, cost pools), and the SQL that the store is made
//! of. A rule that two parts must agree on — how an identity is hashed, how a quantity is written, where a period
//! begins — lives here once.

pub mod catalogue;
pub mod compact;
pub mod costs;
pub mod currency;
pub mod effective;
pub mod event;
pub mod identity;
pub mod invoice;
pub mod level;
pub mod meter;
pub mod migrations;
pub mod money;
pub mod period;
pub mod quantity;
pub mod reject;
pub mod retention;
pub mod tenant;
pub mod text;
pub mod token;
pub mod topics;
pub mod window;
pub mod yaml;

pub use event::{Defaults, Event, EventError};
pub use identity::Identity;
pub use quantity::Quantity;
