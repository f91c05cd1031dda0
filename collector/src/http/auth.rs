//! Who speaks: tokens, read again when their file changes, and client certificates.

pub use rentroll_schemas::token::{FileError, Keys, Reserved, Speaker};
