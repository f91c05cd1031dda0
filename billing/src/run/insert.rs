//! Inserts that claim something: rows as JSON lines, with a token.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rentroll_engines::store::Store;
use serde::Serialize;

use crate::error::{BillingError, Result};

/// Inserts `rows` as one block that the store takes once for each `token`. JSON keeps decimals as strings.
pub(crate) async fn insert<T: Serialize>(
    store: &Store,
    what: &'static str,
    table: &str,
    columns: &[&str],
    rows: &[T],
    token: &str,
) -> Result<()> {
    let mut body = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut body, row)
            .map_err(|error| BillingError::Content { what: what.to_owned(), reason: error.to_string() })?;
        body.push(b'\n');
    }
    store
        .insert(table, columns, "JSONEachRow", Bytes::from(body), Some(token))
        .await
        .map_err(|source| BillingError::Store { what, source })
}

/// An instant as ClickHouse reads it, to the millisecond, UTC.
pub(crate) fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// The same, to the second.
pub(crate) fn second(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
