//! Which rejects, and how they are read.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use clickhouse::Row;
use clickhouse::query::Query;
use rentroll_engines::store::Store;
use rentroll_schemas::Identity;
use rentroll_schemas::reject::Reject;
use serde::{Deserialize, Serialize};

use crate::cli::WrongUse;
use crate::verbs::when;

/// Filters that every action takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Filter {
    /// Only of this source.
    #[arg(long)]
    pub(super) source: Option<String>,
    /// Only with this reason: unreadable, invalid, too_large, too_old, in_future, identity_mismatch, forbidden.
    #[arg(long)]
    pub(super) reason: Option<String>,
    /// Only of this tenant, where the credential or the record named one.
    #[arg(long)]
    pub(super) tenant: Option<String>,
    /// Rejected at this time or later: 2026-11-24, 2026-11-24T10:00 (UTC).
    #[arg(long, value_parser = when::moment)]
    pub(super) from: Option<DateTime<Utc>>,
    /// Rejected before this time.
    #[arg(long, value_parser = when::moment)]
    pub(super) to: Option<DateTime<Utc>>,
    /// Only those that were not replayed.
    #[arg(long)]
    pub(super) open: bool,
}

impl Filter {
    pub(super) fn is_empty(&self) -> bool {
        let Filter { source, reason, tenant, from, to, open } = self;
        let texts = [source, reason, tenant].into_iter().all(Option::is_none);
        texts && from.is_none() && to.is_none() && !open
    }
}

#[derive(Debug, Row, Deserialize)]
struct RejectRow {
    id: String,
    source: String,
    place: String,
    tenant: String,
    reason: String,
    field: String,
    detail: String,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    rejected_at: DateTime<Utc>,
    backfill: bool,
    bytes_hex: String,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    replayed_at: DateTime<Utc>,
}

/// A reject as it is kept, and as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Kept {
    /// Its identity, hexadecimal.
    pub(super) id: String,
    pub(super) source: String,
    pub(super) place: String,
    pub(super) tenant: String,
    pub(super) reason: String,
    pub(super) field: String,
    pub(super) detail: String,
    pub(super) rejected_at: DateTime<Utc>,
    /// Its source had declared a backfill.
    pub(super) backfill: bool,
    /// When it was appended by a replay, the last time.
    pub(super) replayed_at: Option<DateTime<Utc>>,
    /// The bytes as text, with U+FFFD for what is not UTF-8.
    pub(super) text: String,
    /// The bytes themselves.
    pub(super) bytes_hex: String,
    #[serde(skip)]
    pub(super) bytes: Vec<u8>,
}

impl Kept {
    pub(super) fn identity(&self) -> Option<Identity> {
        Identity::from_hex(&self.id)
    }

    pub(super) fn reject(&self) -> Reject {
        Reject {
            source: self.source.clone(),
            place: self.place.clone(),
            tenant: self.tenant.clone(),
            reason: self.reason.clone(),
            field: self.field.clone(),
            detail: self.detail.clone(),
            rejected_at: self.rejected_at,
            backfill: self.backfill,
            bytes: self.bytes.clone(),
        }
    }
}

impl From<RejectRow> for Kept {
    fn from(row: RejectRow) -> Self {
        let digits = row.bytes_hex.as_bytes().chunks_exact(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Vec<u8> = digits.filter_map(byte).collect();
        Kept {
            id: row.id,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            source: row.source,
            place: row.place,
            tenant: row.tenant,
            reason: row.reason,
            field: row.field,
            detail: row.detail,
            rejected_at: row.rejected_at,
            backfill: row.backfill,
            replayed_at: (row.replayed_at != DateTime::UNIX_EPOCH).then_some(row.replayed_at),
            bytes_hex: row.bytes_hex,
            bytes,
        }
    }
}

/// A reject that was named by its id, or by the beginning of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Named {
    pub(super) id: String,
    /// When it was appended by a replay, the last time.
    pub(super) replayed_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Row, Deserialize)]
struct NamedRow {
    beginning: String,
    ids: Vec<String>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    replayed_at: DateTime<Utc>,
}

/// Rejects that the filters let through. Parameters: those of [`bound`].
const SELECTED: &str = "(SELECT *, lower(hex(identity)) AS id FROM rejects FINAL) AS kept \
    LEFT JOIN (SELECT reject, max(replayed_at) AS at FROM replays WHERE outcome = 'appended' \
      GROUP BY reject) AS replay ON kept.identity = replay.reject \
    WHERE ({source:String} = '' OR source = {source:String}) \
    AND ({reason:String} = '' OR reason = {reason:String}) \
    AND ({tenant:String} = '' OR tenant = {tenant:String}) \
    AND rejected_at >= fromUnixTimestamp64Milli({from:Int64}) \
    AND rejected_at < fromUnixTimestamp64Milli({to:Int64}) \
    AND (NOT {open:Bool} OR replay.at = toDateTime64(0, 3, 'UTC'))";

/// The end of what a DateTime64 holds.
const LAST_MS: i64 = 9_000_000_000_000;

fn bound(store: &Store, sql: &str, filter: &Filter, ids: &[String]) -> anyhow::Result<Query> {
    for id in ids {
        if id.is_empty() || id.len() > 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(
                WrongUse(format!("`{id}` is no id of a reject: `rentroll rejects list` shows them")).into()
            );
        }
    }
    let ids: Vec<String> = ids.iter().map(|id| id.to_ascii_lowercase()).collect();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let query = store
        .client()
        .query(sql)
        .param("source", text(&filter.source))
        .param("reason", text(&filter.reason))
        .param("tenant", text(&filter.tenant))
        .param("from", filter.from.map_or(0, |from| from.timestamp_millis()))
        .param("to", filter.to.map_or(LAST_MS, |to| to.timestamp_millis()))
        .param("open", filter.open)
        .param("ids", ids);
    Ok(query)
}

/// The rejects that `ids` name, each once, of those that `filter` lets through.
///
/// # Errors
/// Wrong use, if an id names none or more than one; what the store says.
pub(super) async fn named(store: &Store, filter: &Filter, ids: &[String]) -> anyhow::Result<Vec<Named>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT arrayJoin(arrayFilter(beginning -> startsWith(id, beginning), {{ids:Array(String)}})) AS beginning, \
           groupUniqArray(2)(id) AS ids, max(replay.at) AS replayed_at \
         FROM {SELECTED} GROUP BY beginning"
    );
    let rows: Vec<NamedRow> =
        bound(store, &sql, filter, ids)?.fetch_all().await.map_err(|error| store.error(error))?;
    let rows: BTreeMap<String, NamedRow> = rows.into_iter().map(|row| (row.beginning.clone(), row)).collect();
    let mut found: BTreeMap<String, Named> = BTreeMap::new();
    for typed in ids {
        let row = rows.get(&typed.to_ascii_lowercase());
        let id = match row.map(|row| row.ids.as_slice()) {
            None | Some([]) => {
                let of = if filter.is_empty() { "" } else { " of those that the filters let through" };
                return Err(WrongUse(format!("no reject{of} has an id that begins with `{typed}`")).into());
            }
            Some([id]) => id,
            Some(_) => {
                return Err(
                    WrongUse(format!("more than one id begins with `{typed}`: write more of it")).into()
                );
            }
        };
        let replayed_at = row.map(|row| row.replayed_at).filter(|at| *at != DateTime::UNIX_EPOCH);
        found.insert(id.clone(), Named { id: id.clone(), replayed_at });
    }
    Ok(found.into_values().collect())
}

/// Those that `filter` lets through and, with `ids`, whose id begins with one of them; newest first, behind `after`.
pub(super) async fn read(
    store: &Store,
    filter: &Filter,
    ids: &[String],
    after: Option<&Kept>,
    limit: u64,
) -> anyhow::Result<Vec<Kept>> {
    let sql = format!(
        "SELECT id, toString(source) AS source, place, tenant, toString(reason) AS reason, field, detail, \
           rejected_at, backfill, lower(hex(bytes)) AS bytes_hex, replay.at AS replayed_at FROM {SELECTED} \
         AND (empty({{ids:Array(String)}}) OR arrayExists(beginning -> startsWith(id, beginning), {{ids:Array(String)}})) \
         AND (rejected_at, id) < (fromUnixTimestamp64Milli({{before:Int64}}), {{before_id:String}}) \
         ORDER BY rejected_at DESC, id DESC LIMIT {{limit:UInt64}}"
    );
    let rows: Vec<RejectRow> = bound(store, &sql, filter, ids)?
        .param("before", after.map_or(LAST_MS, |kept| kept.rejected_at.timestamp_millis()))
        .param("before_id", after.map_or("", |kept| kept.id.as_str()))
        .param("limit", limit)
        .fetch_all()
        .await
        .map_err(|error| store.error(error))?;
    Ok(rows.into_iter().map(Kept::from).collect())
}
