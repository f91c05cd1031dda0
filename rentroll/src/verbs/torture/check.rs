//! The store against the model, to the event.

use std::collections::{HashMap, HashSet};

use clickhouse::{Client, Row};
use rentroll_schemas::meter::UNMATCHED;
use rentroll_schemas::{Quantity, effective};
use serde::{Deserialize, Serialize};

use super::corrections::Corrections;
use super::items::{Content, Stream};
use super::lines::Written;
use super::model::{Cell, CellKey, Sent, Usage};

/// So many differences are told; the rest are counted.
const TOLD_MAX: usize = 20;

/// Something in the store that the model does not say, or the other way round.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Difference {
    /// What is wrong, in a few words.
    pub(super) what: String,
    /// Of which event, cell or reject.
    pub(super) identity: String,
    /// What the model says.
    pub(super) model: String,
    /// What the store says.
    pub(super) store: String,
}

/// What a comparison found.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Found {
    /// Rows of events.
    pub(super) rows: u64,
    /// Distinct events.
    pub(super) stored: u64,
    /// Rows of events beyond the first of each.
    pub(super) doubled: u64,
    /// Events of these that count: neither voids nor corrected away.
    pub(super) counting: u64,
    /// Events that are lines, known by their place in a file that is rotated.
    pub(super) lines: u64,
    /// Rejects.
    pub(super) rejects: u64,
    /// Differences in all.
    pub(super) differing: u64,
    /// The first of them.
    pub(super) differences: Vec<Difference>,
}

impl Found {
    pub(super) fn differs(&mut self, what: &str, identity: String, model: String, store: String) {
        self.differing += 1;
        if self.differences.len() < TOLD_MAX {
            self.differences.push(Difference { what: what.to_owned(), identity, model, store });
        }
    }
}

#[derive(Debug, Row, Deserialize)]
struct EventRow {
    id: String,
    tenant: String,
    kind: String,
    source: String,
    identity: String,
    time_us: i64,
    bytes: String,
    ms: String,
    region: String,
    corrects: String,
    batch: String,
}

/// An event as it is stored, as far as it is needed later.
struct Kept {
    version: u64,
    batch: String,
}

#[derive(Debug, Row, Deserialize)]
struct CellRow {
    meter: String,
    tenant: String,
    bucket: u32,
    dimensions: String,
    events: i64,
    total: String,
    least: String,
    greatest: String,
}

#[derive(Debug, Row, Deserialize)]
struct RejectRow {
    source: String,
    reason: String,
    field: String,
    bytes: String,
    rejects: u64,
}

/// Compares everything.
///
/// # Errors
/// The store's.
pub(super) async fn compare(
    client: &Client,
    streams: &[&Sent],
    written: &Written,
) -> Result<Found, clickhouse::error::Error> {
    let mut found = Found::default();
    let kept = events(client, streams, &mut found).await?;
    let mut usage = counting(client, streams, &kept, &mut found).await?;
    if let Some(sent) = streams.first() {
        super::lines::count(written, sent.stream.begun, &mut usage);
    }
    super::lines::compare(client, written, &mut found).await?;
    for (table, seconds) in [("usage_minute", 60), ("usage_hour", 3_600), ("usage_day", 86_400)] {
        rollup(client, table, usage.per(seconds), &mut found).await?;
    }
    rejects(client, streams, &mut found).await?;
    Ok(found)
}

async fn events(
    client: &Client,
    streams: &[&Sent],
    found: &mut Found,
) -> Result<Vec<HashMap<u64, Kept>>, clickhouse::error::Error> {
    let sql = "SELECT id, tenant, toString(type), toString(source), lower(hex(identity)), \
                 toUnixTimestamp64Micro(time), toString(measures['bytes']), toString(measures['ms']), \
                 dimensions['region'], if(correction = 'none', '', concat(toString(correction), ' ', lower(hex(corrects)))), \
                 concat(toString(log_topic), '/', toString(log_partition), '/', toString(log_batch)) \
               FROM events WHERE source != {lines:String}";
    let mut rows_of: Vec<HashMap<u64, Kept>> = streams.iter().map(|_| HashMap::new()).collect();
    let mut cursor = client.query(sql).param("lines", super::lines::SOURCE).fetch::<EventRow>()?;
    while let Some(row) = cursor.next().await? {
        found.rows += 1;
        let index = streams.iter().position(|sent| sent.stream.source == row.source);
        let (Some(index), Some(n)) = (index, Stream::number(&row.id)) else {
            found.differs(
                "an event that was never sent",
                row.id.clone(),
                "nothing".into(),
                format!("{row:?}"),
            );
            continue;
        };
        let sent = streams[index];
        let versions = sent.versions(n);
        let content = versions.iter().find(|content| {
            content.tenant == row.tenant
                && content.kind == row.kind
                && content.time.timestamp_micros() == row.time_us
                && nanos(&row.bytes) == Some(content.bytes_nanos)
                && nanos(&row.ms) == Some(i128::from(content.ms) * 1_000_000_000)
                && content.region == row.region
                && sent.stream.identity(content).to_string() == row.identity
                && correction(&sent.stream, content) == row.corrects
        });
        match content {
            None if versions.is_empty() => {
                found.differs(
                    "an event that was never sent",
                    row.identity.clone(),
                    "nothing".into(),
                    format!("{row:?}"),
                );
            }
            None => {
                found.differs(
                    "an event with other content",
                    row.identity.clone(),
                    format!("{versions:?}"),
                    format!("{row:?}"),
                );
            }
            Some(content) => {
                match rows_of[index].insert(n, Kept { version: content.version, batch: row.batch.clone() }) {
                    None => found.stored += 1,
                    Some(before) => {
                        found.doubled += 1;
                        let store = format!("in batches {} and {}", before.batch, row.batch);
                        found.differs(
                            "an event stored twice",
                            format!("{} ({})", row.identity, row.id),
                            "one row".into(),
                            store,
                        );
                    }
                }
            }
        }
    }
    for (sent, rows) in streams.iter().zip(&rows_of) {
        for n in (0..sent.len()).filter(|n| sent.is_acked(*n)) {
            if let Some(content) = sent.versions(n).first()
                && !rows.contains_key(&n)
            {
                let identity = format!("{} ({})", sent.stream.identity(content), content.id);
                found.differs(
                    "an accepted event that is missing",
                    identity,
                    format!("{content:?}"),
                    "nothing".into(),
                );
            }
        }
    }
    Ok(rows_of)
}

/// As the store's row says it; empty for none.
fn correction(stream: &Stream, content: &Content) -> String {
    let named = content.corrects.zip(stream.corrected(content));
    named.map_or_else(String::new, |(corrects, identity)| format!("{} {identity}", corrects.kind.attribute()))
}

#[derive(Debug, Row, Deserialize)]
struct Counting {
    source: String,
    id: String,
}

/// Holds the events that count by the product's own words for it against those that count by the model; returns
/// their usage.
async fn counting(
    client: &Client,
    streams: &[&Sent],
    kept: &[HashMap<u64, Kept>],
    found: &mut Found,
) -> Result<Usage, clickhouse::error::Error> {
    let sql = format!(
        "SELECT toString(source), id FROM events WHERE source != {{lines:String}} AND {}",
        effective::condition_sql("1")
    );
    let mut by_store: HashSet<(usize, u64)> = HashSet::new();
    let mut cursor = client.query(&sql).param("lines", super::lines::SOURCE).fetch::<Counting>()?;
    while let Some(row) = cursor.next().await? {
        let index = streams.iter().position(|sent| sent.stream.source == row.source);
        // What was never sent is told already.
        if let (Some(index), Some(n)) = (index, Stream::number(&row.id)) {
            by_store.insert((index, n));
        }
    }
    found.counting = by_store.len() as u64;
    let mut usage = Usage::default();
    for (index, (sent, kept)) in streams.iter().zip(kept).enumerate() {
        let stream = &sent.stream;
        let tenant = |n: u64| stream.content(n, 0).tenant;
        let mut corrections = Corrections::default();
        for n in kept.keys() {
            if let Some(corrects) = stream.corrects(*n) {
                corrections.add(*n, corrects, |one, other| tenant(one) == tenant(other));
            }
        }
        for (n, row) in kept {
            let content = stream.content(*n, row.version);
            let (model, store) = (corrections.counts(*n, content.corrects), by_store.contains(&(index, *n)));
            if model != store {
                let say = |counts: bool| if counts { "counts" } else { "does not count" }.to_owned();
                let identity = format!("{} ({})", stream.identity(&content), content.id);
                found.differs("what corrections leave", identity, say(model), say(store));
            }
            if model {
                usage.add(&content);
            }
        }
    }
    Ok(usage)
}

async fn rollup(
    client: &Client,
    table: &str,
    mut expected: HashMap<CellKey, Cell>,
    found: &mut Found,
) -> Result<(), clickhouse::error::Error> {
    let sql = format!(
        "SELECT toString(meter), tenant, toUInt32(bucket) AS start, dimensions, toInt64(sum(events)), \
           toString(sum(total)), toString(min(least_value)), toString(max(greatest_value)) \
         FROM {table} GROUP BY meter, tenant, start, dimensions"
    );
    let mut cursor = client.query(&sql).fetch::<CellRow>()?;
    while let Some(row) = cursor.next().await? {
        let meter = ["requests", "bytes", "slowest", "fastest", UNMATCHED]
            .into_iter()
            .find(|meter| *meter == row.meter);
        let key = (meter.unwrap_or_default(), row.tenant.clone(), row.bucket, row.dimensions.clone());
        let cell = Cell {
            events: row.events,
            total: nanos(&row.total).unwrap_or(i128::MIN),
            least: nanos(&row.least).unwrap_or(i128::MIN),
            greatest: nanos(&row.greatest).unwrap_or(i128::MIN),
        };
        let name = || format!("{table} {} {} {} {}", row.meter, row.tenant, row.bucket, row.dimensions);
        match expected.remove(&key) {
            Some(model) if model.is_kept_by(key.0, cell) => {}
            // Rows that cancel each other are a repair, not usage.
            None if cell.events == 0 && cell.total == 0 => {}
            model => found.differs(
                "a rollup that is not its events",
                name(),
                format!("{model:?}"),
                format!("{cell:?}"),
            ),
        }
    }
    for (key, cell) in expected {
        found.differs(
            "usage that is in no rollup",
            format!("{table} {key:?}"),
            format!("{cell:?}"),
            "nothing".into(),
        );
    }
    Ok(())
}

async fn rejects(
    client: &Client,
    streams: &[&Sent],
    found: &mut Found,
) -> Result<(), clickhouse::error::Error> {
    let sql = "SELECT toString(source) AS origin, toString(reason), field, bytes, uniqExact(identity) \
               FROM rejects GROUP BY origin, reason, field, bytes";
    let mut seen: Vec<HashMap<u64, u64>> = streams.iter().map(|_| HashMap::new()).collect();
    let mut cursor = client.query(sql).fetch::<RejectRow>()?;
    while let Some(row) = cursor.next().await? {
        found.rejects += row.rejects;
        let index = streams.iter().position(|sent| sent.stream.source == row.source);
        let (Some(index), Some(n)) = (index, number_of_bad(&row.bytes)) else {
            found.differs(
                "a reject of nothing that was sent",
                row.bytes.clone(),
                "nothing".into(),
                format!("{row:?}"),
            );
            continue;
        };
        let sent = streams[index];
        let (bytes, refused) = sent.stream.bad(n);
        if !sent.is_bad_sent(n) || bytes != row.bytes {
            found.differs("a reject of nothing that was sent", row.bytes.clone(), bytes, format!("{row:?}"));
        } else if (refused.reason, refused.field) != (&*row.reason, &*row.field) {
            found.differs(
                "a reject for another reason",
                row.bytes.clone(),
                format!("{refused:?}"),
                format!("{row:?}"),
            );
        } else if row.rejects != 1 && !sent.rejects_may_repeat {
            found.differs("a reject kept twice", row.bytes.clone(), "one row".into(), format!("{row:?}"));
        }
        seen[index].insert(n, row.rejects);
    }
    for (sent, seen) in streams.iter().zip(&seen) {
        for n in (0..sent.len()).filter(|n| sent.is_bad_sent(*n) && sent.is_acked(*n)) {
            if !seen.contains_key(&n) {
                found.differs(
                    "a reject that is missing",
                    sent.stream.bad(n).0,
                    "one reject".into(),
                    "nothing".into(),
                );
            }
        }
    }
    Ok(())
}

fn nanos(text: &str) -> Option<i128> {
    text.parse::<Quantity>().ok().map(Quantity::nanos)
}

/// Every bad item carries its number.
fn number_of_bad(bytes: &str) -> Option<u64> {
    let rest = bytes.split_once("\"n\":").or_else(|| bytes.split_once("{\"bad item\":"))?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_item_is_known_by_its_bytes() {
        let begun = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let stream = Stream { seed: 3, source: "torture", begun, has_garbage: true };
        for n in 0..500 {
            assert_eq!(number_of_bad(&stream.bad(n).0), Some(n));
        }
    }
}
