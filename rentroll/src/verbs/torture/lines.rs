//! A second followed log, whose lines are events by their place alone: a line that is taken twice, under two ids, or
//! not at all shows here, where nothing else would make the two one.

use std::sync::Arc;
use std::sync::Mutex as StdMutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clickhouse::{Client, Row};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::check::Found;
use super::dice::{Dice, mix};
use super::model::Usage;
use super::rotate::RotatedLog;

/// Name of the source, and `source` of its events.
pub(super) const SOURCE: &str = "torture-lines";
/// Their type, which no meter counts.
pub(super) const EVENT_TYPE: &str = "log.line";
/// Between two writes.
const TICK: Duration = Duration::from_millis(25);
const TENANTS: u64 = 20;

/// How many lines were written, numbered from 0.
#[derive(Debug, Default)]
pub(super) struct Written(AtomicU64);

impl Written {
    pub(super) fn lines(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Writes about `rate` lines a second.
///
/// # Errors
/// If the log cannot be written or rotated.
pub(super) async fn write(
    log: Arc<StdMutex<RotatedLog>>,
    written: Arc<Written>,
    gate: Arc<Mutex<()>>,
    rate: u64,
    begun: DateTime<Utc>,
    mut dice: Dice,
) -> anyhow::Result<()> {
    let each = (rate * TICK.as_millis() as u64 / 1_000).max(1);
    loop {
        let held = gate.lock().await;
        let (first, count) = (written.lines(), dice.between(1, 2 * each + 1));
        let text: String = (first..first + count).map(|n| line(n, begun)).collect();
        log.lock().unwrap_or_else(PoisonError::into_inner).append(&text, count)?;
        written.0.store(first + count, Ordering::Release);
        drop(held);
        tokio::time::sleep(TICK).await;
    }
}

fn line(n: u64, begun: DateTime<Utc>) -> String {
    let time = time(n, begun).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    format!("{{\"tenant\":\"{}\",\"time\":\"{time}\",\"n\":{n}}}\n", tenant(n))
}

/// Hours from both ends of the window: clocks step by more than one.
fn time(n: u64, begun: DateTime<Utc>) -> DateTime<Utc> {
    begun - TimeDelta::seconds(3 * 3_600 + (n % 3_600) as i64)
}

fn tenant(n: u64) -> String {
    format!("tenant-{}", mix(1, n) % TENANTS)
}

/// What the rollups have of the lines: that no meter counts them.
pub(super) fn count(written: &Written, begun: DateTime<Utc>, usage: &mut Usage) {
    for n in 0..written.lines() {
        usage.add_unmatched(EVENT_TYPE, tenant(n), time(n, begun));
    }
}

#[derive(Debug, Row, Deserialize)]
struct LineRow {
    n: u64,
    events: u64,
    ids: String,
}

/// Every line that was written is one event, and there is no other.
pub(super) async fn compare(
    client: &Client,
    written: &Written,
    found: &mut Found,
) -> Result<(), clickhouse::error::Error> {
    let sql = "SELECT toUInt64(measures['n']) AS n, count() AS events, arrayStringConcat(groupArray(id), ' ') \
               FROM events WHERE source = {source:String} GROUP BY n";
    let mut seen = vec![false; written.lines() as usize];
    let mut cursor = client.query(sql).param("source", SOURCE).fetch::<LineRow>()?;
    while let Some(row) = cursor.next().await? {
        found.lines += row.events;
        match seen.get_mut(row.n as usize) {
            Some(seen) => *seen = true,
            None => found.differs(
                "a line that was never written",
                format!("{SOURCE} line {}", row.n),
                "nothing".into(),
                row.ids.clone(),
            ),
        }
        if row.events != 1 {
            let identity = format!("{SOURCE} line {}", row.n);
            found.differs("a line stored twice", identity, "one event".into(), row.ids);
        }
    }
    for n in (0..seen.len()).filter(|n| !seen[*n]) {
        let identity = format!("{SOURCE} line {n}");
        found.differs("a line that is missing", identity, "one event".into(), "nothing".into());
    }
    Ok(())
}
