//! Inserts into the engine of this process.
//!
//! By its HTTP face the rows would be copied into a socket and out of it, through two runtimes, and cost as much
//! again as to write them down.

use std::sync::Arc;

use bytes::Bytes;

use super::chdb::{Engine, EngineError};
use super::quote::quote;

/// What an insert needs beside its rows.
pub(super) struct Statement {
    /// Without its `FORMAT`.
    pub(super) sql: String,
    pub(super) format: String,
    pub(super) settings: Vec<(String, String)>,
}

/// Stores the rows as one block; returns when that is done. Blocking.
pub(super) fn insert(engine: &Arc<Engine>, statement: &Statement, rows: &[Bytes]) -> Result<(), EngineError> {
    let mut connection = engine.connect()?;
    let settings = statement.settings.iter().map(|(name, value)| format!("{name} = {}", quote(value, '\'')));
    connection.prepare(&format!("SET {}", settings.collect::<Vec<_>>().join(", ")))?;
    let mut insert = connection.insert(statement.sql.as_bytes(), &statement.format, &[])?;
    for part in rows {
        insert.append(part)?;
    }
    insert.finish()?;
    Ok(())
}
