//! Hours whose rollups somebody cannot vouch for: marked, checked, closed. A mark is durable before what it warns of
//! happens, so that a crash leaves it behind.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use clickhouse::Row;
use rentroll_engines::store::{Store, StoreError};
use serde::{Deserialize, Serialize};

use super::apply::{insert, instant};
use crate::plan::Plan;

const COLUMNS: [&str; 4] = ["hour", "marked_at", "why", "state"];

/// A mark that is open.
#[derive(Clone, Debug, PartialEq, Eq, Row, Deserialize)]
pub struct Mark {
    /// First second of the hour.
    #[serde(with = "clickhouse::serde::chrono::datetime")]
    pub hour: DateTime<Utc>,
    /// When it was marked.
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    pub marked_at: DateTime<Utc>,
    /// Why: a word.
    pub why: String,
}

#[derive(Serialize)]
struct MarkRow<'a> {
    hour: i64,
    marked_at: String,
    why: &'a str,
    state: u8,
}

/// Marks the hours that `moments` lie in.
///
/// # Errors
/// The store's.
pub async fn mark(
    store: &Store,
    moments: impl IntoIterator<Item = DateTime<Utc>>,
    why: &str,
) -> Result<(), StoreError> {
    let hours: BTreeSet<i64> = moments.into_iter().map(|moment| hour_of(moment).timestamp()).collect();
    let marked_at = instant(Utc::now());
    let row = |hour: &i64| MarkRow { hour: *hour, marked_at: marked_at.clone(), why, state: 0 };
    let rows: Vec<MarkRow<'_>> = hours.iter().map(row).collect();
    match rows.is_empty() {
        true => Ok(()),
        false => insert(store, "dirty_hours", &COLUMNS, &rows, None).await,
    }
}

/// Marks the hours of the events that a batch has stored: one that was broken off, and that nobody can finish.
///
/// # Errors
/// The store's.
pub async fn mark_batch(store: &Store, plan: &Plan, why: &str) -> Result<(), StoreError> {
    let sql = "SELECT DISTINCT toUnixTimestamp(toStartOfHour(time)) FROM events WHERE log_topic = {topic:String} \
               AND log_partition = {partition:UInt16} AND log_batch = {first:UInt64}";
    let query = store.client().query(sql).param("topic", plan.topic.name());
    let query = query.param("partition", plan.partition).param("first", plan.first);
    let hours: Vec<u32> = query.fetch_all().await.map_err(|error| store.error(error))?;
    let hours = hours.into_iter().filter_map(|hour| DateTime::from_timestamp(i64::from(hour), 0));
    mark(store, hours, why).await
}

/// The open marks by hour, oldest hour first.
///
/// # Errors
/// The store's.
pub async fn open(store: &Store) -> Result<BTreeMap<DateTime<Utc>, Vec<Mark>>, StoreError> {
    let sql = "SELECT hour, marked_at, toString(why) AS why FROM dirty_hours FINAL WHERE state = 0";
    let marks: Vec<Mark> = store.client().query(sql).fetch_all().await.map_err(|error| store.error(error))?;
    let mut by_hour: BTreeMap<DateTime<Utc>, Vec<Mark>> = BTreeMap::new();
    for mark in marks {
        by_hour.entry(mark.hour).or_default().push(mark);
    }
    Ok(by_hour)
}

/// Closes `marks`: what they warned of was checked after they were made.
///
/// # Errors
/// The store's.
pub async fn close(store: &Store, marks: &[Mark]) -> Result<(), StoreError> {
    let row = |mark: &'_ Mark| (mark.hour.timestamp(), instant(mark.marked_at), mark.why.clone());
    let closed: Vec<(i64, String, String)> = marks.iter().map(row).collect();
    let rows: Vec<MarkRow<'_>> = closed
        .iter()
        .map(|(hour, marked_at, why)| MarkRow { hour: *hour, marked_at: marked_at.clone(), why, state: 1 })
        .collect();
    match rows.is_empty() {
        true => Ok(()),
        false => insert(store, "dirty_hours", &COLUMNS, &rows, None).await,
    }
}

/// First second of the hour that `moment` lies in.
pub fn hour_of(moment: DateTime<Utc>) -> DateTime<Utc> {
    moment
        - TimeDelta::nanoseconds(moment.timestamp_subsec_nanos().into())
        - TimeDelta::seconds(moment.timestamp().rem_euclid(3_600))
}
