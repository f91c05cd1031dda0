//! From judged events to the records that the log takes.

use std::time::Instant;

use rentroll_engines::log::Record;
use rentroll_schemas::reject::Reject;
use rentroll_schemas::topics::{CLOUDEVENTS_JSON, COMPACT_BATCH, SCHEMA_VERSION, Topic, headers};
use rentroll_schemas::{Event, Identity, compact};
use serde::{Deserialize, Serialize};

use crate::overflow::Lanes;

/// Longest value of a record, in bytes. A Kafka broker takes a batch of 1 MiB by default.
pub const VALUE_BYTES_MAX: usize = 900_000;

/// Records to append together, by topic.
pub type Load = Vec<(Topic, Vec<Record>)>;

/// What `records` hold in memory.
pub fn bytes_of(records: &[Record]) -> usize {
    let bytes = |record: &Record| size_of::<Record>() + record.headers.as_bytes().len() + record.value.len();
    records.iter().map(bytes).sum()
}

/// How events travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Many in a record, as columns: see [`compact`].
    #[default]
    Compact,
    /// One in a record, as a CloudEvent in JSON: dearer, and readable by any Kafka client.
    Json,
}

/// Puts events into records. Clones decide on lanes together.
#[derive(Clone, Debug)]
pub struct Packer {
    /// Which lane an event takes.
    pub lanes: Lanes,
    /// How it travels.
    pub encoding: Encoding,
    /// How many partitions the log has: the events of a compact record are of one.
    pub partitions: u32,
}

impl Packer {
    /// The records that carry `events`, all of which arrived at `arrived_at_ms`, in the lanes that their tenants'
    /// shares leave them.
    pub fn load(&self, events: &[Event<'_>], arrived_at_ms: i64, backfill: bool) -> Load {
        let now = Instant::now();
        let (mut usage, mut overflow) = (Vec::with_capacity(events.len()), Vec::new());
        for event in events {
            match self.lanes.lane(&event.tenant, now, 1) {
                Topic::Overflow => overflow.push(event),
                _ => usage.push(event),
            }
        }
        [(Topic::Usage, usage), (Topic::Overflow, overflow)]
            .into_iter()
            .filter(|(_, events)| !events.is_empty())
            .map(|(topic, events)| (topic, self.pack(&events, arrived_at_ms, backfill)))
            .collect()
    }

    fn pack(&self, events: &[&Event<'_>], arrived_at_ms: i64, backfill: bool) -> Vec<Record> {
        if self.encoding == Encoding::Json {
            return events.iter().map(|event| record(event, arrived_at_ms, backfill)).collect();
        }
        let mut by_partition: Vec<Vec<(Identity, &Event<'_>)>> =
            vec![Vec::new(); self.partitions.max(1) as usize];
        for event in events {
            let identity = event.identity();
            by_partition[identity.partition(self.partitions) as usize].push((identity, event));
        }
        let mut records = Vec::new();
        for events in by_partition {
            let mut rest = &events[..];
            while let Some(((key, _), _)) = rest.split_first() {
                let (now, later) = rest.split_at(fitting(rest));
                records.push(batch(*key, now, arrived_at_ms, backfill));
                rest = later;
            }
        }
        records
    }
}

/// How many of `events`, at least one, certainly fit into one record.
fn fitting(events: &[(Identity, &Event<'_>)]) -> usize {
    let mut bytes = 0;
    let fits = |(_, event): &&(Identity, &Event<'_>)| {
        bytes += compact::bytes_at_most(event);
        bytes <= VALUE_BYTES_MAX
    };
    events.iter().take(compact::EVENTS_MAX).take_while(fits).count().max(1)
}

fn batch(key: Identity, events: &[(Identity, &Event<'_>)], arrived_at_ms: i64, backfill: bool) -> Record {
    let count = events.len().to_string();
    let headers = [
        (headers::SCHEMA, SCHEMA_VERSION),
        (headers::CONTENT_TYPE, COMPACT_BATCH),
        (headers::EVENTS, &count),
    ];
    let backfill = backfill.then_some((headers::BACKFILL, "1"));
    let headers = headers.into_iter().chain(backfill).collect();
    let value = compact::encode(events.iter().map(|(_, event)| *event));
    Record { key, headers, value: value.into(), arrived_at_ms }
}

/// The record that carries `event` alone.
pub fn record(event: &Event<'_>, arrived_at_ms: i64, backfill: bool) -> Record {
    let headers = [
        (headers::TENANT, event.tenant.as_ref()),
        (headers::TYPE, &event.kind),
        (headers::SCHEMA, SCHEMA_VERSION),
        (headers::CONTENT_TYPE, CLOUDEVENTS_JSON),
    ];
    let backfill = backfill.then_some((headers::BACKFILL, "1"));
    let headers = headers.into_iter().chain(backfill).collect();
    Record { key: event.identity(), headers, value: event.to_json().into(), arrived_at_ms }
}

/// The record that keeps `reject`.
pub fn reject(reject: &Reject) -> Record {
    let headers = [(headers::SCHEMA, SCHEMA_VERSION)].into_iter().collect();
    // Serialising strings and times cannot fail.
    let value = serde_json::to_vec(reject).unwrap_or_default();
    let arrived_at_ms = reject.rejected_at.timestamp_millis();
    Record { key: reject.identity(), headers, value: value.into(), arrived_at_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overflow::OverflowConfig;
    use prometheus::IntCounter;

    #[test]
    fn compact_records_hold_every_event_once_in_its_own_partition() {
        let texts: Vec<String> = (0..20_000)
            .map(|n| {
                format!(
                    r#"{{"specversion":"1.0","id":"{n}-{}","source":"s","type":"t","subject":"tenant-{}","time":"2023-11-14T22:00:00Z","data":{{"bytes":{n}}}}}"#,
                    "x".repeat(n % 400),
                    n % 17
                )
            })
            .collect();
        let events: Vec<Event<'_>> =
            texts.iter().map(|text| Event::from_json(text.as_bytes()).unwrap()).collect();
        let config = OverflowConfig { enabled: false, ..OverflowConfig::default() };
        let lanes = Lanes::new(&config, IntCounter::new("overflow", "overflow").unwrap());
        let packer = Packer { lanes, encoding: Encoding::Compact, partitions: 3 };
        let load = packer.load(&events, 7, true);
        assert_eq!(load.len(), 1);
        let mut found = Vec::new();
        for record in &load[0].1 {
            assert!(record.value.len() <= VALUE_BYTES_MAX);
            let decoded = compact::decode(&record.value).unwrap();
            assert_eq!(record.header(headers::EVENTS), Some(decoded.len().to_string().as_str()));
            assert_eq!(record.header(headers::BACKFILL), Some("1"));
            for (place, event) in decoded.events().enumerate() {
                assert_eq!(event.identity().partition(3), record.key.partition(3));
                assert!(place > 0 || event.identity() == record.key);
                found.push(String::from_utf8(event.to_json()).unwrap());
            }
        }
        let mut sent: Vec<String> =
            events.iter().map(|event| String::from_utf8(event.to_json()).unwrap()).collect();
        found.sort();
        sent.sort();
        assert_eq!(found, sent);
    }
}
