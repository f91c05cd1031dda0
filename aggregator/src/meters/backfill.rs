//! The hours that a change of meters is felt in: marked, so that their rollups are brought to what the events make of
//! them by the meters in force.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use clickhouse::Row;
use rentroll_engines::store::{Store, StoreError};
use rentroll_schemas::meter::{Meter, Meters};
use serde::{Deserialize, Serialize};

use crate::repair::dirty;

/// Why hours are marked: rollups that differ are not wrong then, but not up to the meters yet.
pub const WHY: &str = "meter";
/// A process that ended before it had marked its own part of a change did so at most this long after others had theirs.
const SURE_AFTER: TimeDelta = TimeDelta::minutes(10);

const COLUMNS: [&str; 4] = ["name", "version", "hours", "marked_at"];

/// Events that a change concerns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Concerned {
    /// Their type.
    pub event_type: String,
    /// From when on; `None` for all times.
    pub from: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    version: u32,
    hours: u64,
    marked_at: String,
}

/// A version that was marked for.
#[derive(Row, Deserialize)]
struct Marked {
    name: String,
    version: u32,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    marked_at: DateTime<Utc>,
}

/// What concerns events in which `after` counts otherwise than `before`.
pub fn concerned(before: &Meters, after: &Meters) -> BTreeSet<Concerned> {
    let lacks = |meters: &Meters, one: &Meter| {
        !meters.meters.iter().any(|other| {
            other.counts_as(one)
                && (other.effective_from, other.effective_to) == (one.effective_from, one.effective_to)
        })
    };
    let of = |meter: &Meter| Concerned { event_type: meter.event_type.clone(), from: meter.effective_from };
    let came = after.meters.iter().filter(|meter| lacks(before, meter));
    let went = before.meters.iter().filter(|meter| lacks(after, meter));
    came.chain(went).map(of).collect()
}

/// Marks the hours of the events that are concerned; returns how many.
///
/// # Errors
/// The store's.
pub async fn mark(store: &Store, concerned: &BTreeSet<Concerned>) -> Result<u64, StoreError> {
    // Of one type the earliest time holds all.
    let mut by_type: BTreeMap<&str, Option<DateTime<Utc>>> = BTreeMap::new();
    for one in concerned {
        let from = by_type.entry(&one.event_type).or_insert(one.from);
        *from = (*from).min(one.from);
    }
    let mut hours = BTreeSet::new();
    for (event_type, from) in by_type {
        let sql = "SELECT DISTINCT toUnixTimestamp(toStartOfHour(time)) FROM events WHERE type = {type:String} \
                   AND time >= fromUnixTimestamp64Micro({from:Int64})";
        let from = from.map_or(0, |from| from.timestamp_micros());
        let query = store.client().query(sql).param("type", event_type).param("from", from);
        let found: Vec<u32> = query.fetch_all().await.map_err(|error| store.error(error))?;
        hours.extend(found.into_iter().filter_map(|hour| DateTime::from_timestamp(i64::from(hour), 0)));
    }
    let marked = hours.len() as u64;
    dirty::mark(store, hours, WHY).await?;
    Ok(marked)
}

/// Marks the hours of the events that had no meter when they were stored: a store whose rollups did not count them yet.
///
/// # Errors
/// The store's.
pub async fn mark_unmatched(store: &Store) -> Result<u64, StoreError> {
    let sql = "SELECT DISTINCT toUnixTimestamp(toStartOfHour(time)) FROM events WHERE meters = 0 AND correction != 'voids'";
    let hours: Vec<u32> = store.client().query(sql).fetch_all().await.map_err(|error| store.error(error))?;
    let marked = hours.len() as u64;
    dirty::mark(
        store,
        hours.into_iter().filter_map(|hour| DateTime::from_timestamp(i64::from(hour), 0)),
        WHY,
    )
    .await?;
    Ok(marked)
}

/// Writes down that the hours of these versions were marked.
///
/// # Errors
/// The store's.
pub async fn note(store: &Store, meters: &Meters, hours: u64, now: DateTime<Utc>) -> Result<(), StoreError> {
    let mut body = Vec::new();
    for meter in &meters.meters {
        let line = Line {
            name: &meter.name,
            version: meter.version,
            hours,
            marked_at: now.format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        };
        // Texts and numbers always serialise, and a Vec takes all of them.
        let _ = serde_json::to_writer(&mut body, &line);
        body.push(b'\n');
    }
    match body.is_empty() {
        true => Ok(()),
        false => store.insert("meter_backfills", &COLUMNS, "JSONEachRow", Bytes::from(body), None).await,
    }
}

/// The meters whose hours are known to be marked, by whoever was to: those of `meters` that others need not be held
/// against.
///
/// # Errors
/// The store's.
pub async fn settled(store: &Store, meters: &Meters, now: DateTime<Utc>) -> Result<Meters, StoreError> {
    let sql = "SELECT name, version, min(marked_at) AS marked_at FROM meter_backfills GROUP BY name, version";
    let marked: Vec<Marked> =
        store.client().query(sql).fetch_all().await.map_err(|error| store.error(error))?;
    let is_settled = |meter: &&Meter| {
        marked.iter().any(|one| {
            (&one.name, one.version) == (&meter.name, meter.version) && one.marked_at + SURE_AFTER < now
        })
    };
    Ok(Meters { meters: meters.meters.iter().filter(is_settled).cloned().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(name: &str, kind: &str, from: Option<i64>) -> Meter {
        let from = from.map(|seconds| DateTime::from_timestamp(seconds, 0).unwrap());
        Meter { name: name.into(), event_type: kind.into(), effective_from: from, ..Meter::default() }
    }

    #[test]
    fn a_change_concerns_the_events_that_it_counts_otherwise() {
        let of = |meters: &[Meter]| Meters { meters: meters.to_vec() };
        let before = of(&[meter("a", "t", None), meter("b", "u", None)]);
        assert!(concerned(&before, &before).is_empty());
        let described = Meter { description: "new words".into(), version: 2, ..meter("a", "t", None) };
        assert!(concerned(&before, &of(&[described, meter("b", "u", None)])).is_empty());
        let changed = of(&[meter("a", "t", None), meter("b", "u", None), meter("b", "v", Some(60))]);
        let one = Concerned { event_type: "v".into(), from: DateTime::from_timestamp(60, 0) };
        assert_eq!(concerned(&before, &changed), BTreeSet::from([one]));
        let gone = of(&[meter("a", "t", None)]);
        assert_eq!(
            concerned(&before, &gone),
            BTreeSet::from([Concerned { event_type: "u".into(), from: None }])
        );
    }
}
