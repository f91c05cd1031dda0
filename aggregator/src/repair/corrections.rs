//! Corrections that have come, and the hours that they change.
//!
//! A correction may come before its original. It waits then: it is looked at again until the original is there, and the
//! hour of the original is checked once it is. Nothing is remembered in this process: what was seen to is a row of
//! `corrections_applied`, written after the hours were marked.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::Identity;
use rentroll_schemas::effective::DEPTH;
use serde::Deserialize;

use super::{RepairError, dirty};

/// Why their hours are marked.
pub(crate) const CORRECTION: &str = "correction";

/// Corrections seen to in one pass. The rest follows in the next one.
const AT_ONCE: usize = 10_000;

/// A correction whose original is there and that nobody has seen to yet.
#[derive(Clone, Debug, Row, Deserialize)]
struct Due {
    /// Identity of the correction, hexadecimal.
    correction: String,
    tenant: String,
    /// Identity of the original, hexadecimal.
    original: String,
}

#[derive(Row, Deserialize)]
struct Original {
    #[serde(with = "clickhouse::serde::chrono::datetime64::micros")]
    time: DateTime<Utc>,
    /// Identity that it corrects itself, hexadecimal; empty if it is no correction.
    corrects: String,
}

/// Not seen to yet.
const PENDING: &str = "FROM events WHERE correction != 'none' \
    AND identity NOT IN (SELECT identity FROM corrections_applied)";

/// Marks the hours that new corrections change; returns how many corrections were seen to.
///
/// # Errors
/// The store's.
pub async fn mark_hours(store: &Store) -> Result<usize, RepairError> {
    let failed = |error| RepairError::from(store.error(error));
    // The sort key begins with the tenant, which an original shares with its corrections.
    let sql = format!(
        "SELECT lower(hex(pending)) AS correction, tenant, lower(hex(named)) AS original FROM (\
           SELECT identity AS pending, tenant, corrects AS named {PENDING}) \
         WHERE named IN (SELECT identity FROM events WHERE tenant IN (SELECT tenant {PENDING}) \
           AND (identity_high, identity_low) IN (SELECT reinterpretAsUInt64(substring(corrects, 1, 8)), \
             reinterpretAsUInt64(substring(corrects, 9, 8)) {PENDING})) \
         LIMIT {AT_ONCE}"
    );
    let due: Vec<Due> = store.client().query(&sql).fetch_all().await.map_err(failed)?;
    if due.is_empty() {
        return Ok(0);
    }
    let mut hours: BTreeSet<DateTime<Utc>> = BTreeSet::new();
    let tenants: BTreeSet<String> = due.iter().map(|due| due.tenant.clone()).collect();
    let mut named: BTreeSet<String> = due.iter().map(|due| due.original.clone()).collect();
    // A correction that is corrected changes the hour of what it corrects in turn.
    for _ in 0..DEPTH {
        if named.is_empty() {
            break;
        }
        let originals = originals(store, &tenants, &named).await?;
        hours.extend(originals.iter().map(|original| dirty::hour_of(original.time)));
        named = originals.into_iter().map(|original| original.corrects).filter(|id| !id.is_empty()).collect();
    }
    dirty::mark(store, hours, CORRECTION).await?;
    note_applied(store, &due).await?;
    Ok(due.len())
}

async fn originals(
    store: &Store,
    tenants: &BTreeSet<String>,
    identities: &BTreeSet<String>,
) -> Result<Vec<Original>, RepairError> {
    let sql = "SELECT time, if(correction = 'none', '', lower(hex(corrects))) AS corrects FROM events \
               WHERE tenant IN {tenants:Array(String)} \
               AND identity IN (SELECT toFixedString(unhex(arrayJoin({identities:Array(String)})), 16))";
    let query = store.client().query(sql).with_setting("max_query_size", "16777216");
    let query = query.param("tenants", tenants.iter().collect::<Vec<_>>());
    let query = query.param("identities", identities.iter().collect::<Vec<_>>());
    Ok(query.fetch_all().await.map_err(|error| store.error(error))?)
}

async fn note_applied(store: &Store, due: &[Due]) -> Result<(), RepairError> {
    let now_ms = Utc::now().timestamp_millis();
    let mut body = Vec::with_capacity(due.len() * 24);
    for identity in due.iter().filter_map(|due| Identity::from_hex(&due.correction)) {
        body.extend_from_slice(&identity.0);
        body.extend_from_slice(&now_ms.to_le_bytes());
    }
    let columns = ["identity", "applied_at"];
    Ok(store.insert("corrections_applied", &columns, "RowBinary", body.into(), None).await?)
}
