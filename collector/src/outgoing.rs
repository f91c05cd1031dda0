//! From judged events to the records that the log takes.

use std::time::Instant;

use rentroll_engines::log::Record;
use rentroll_schemas::Event;
use rentroll_schemas::reject::Reject;
use rentroll_schemas::topics::{CLOUDEVENTS_JSON, SCHEMA_VERSION, Topic, headers};

use crate::overflow::Lanes;

/// Longest value of a record, in bytes. A Kafka broker takes a batch of 1 MiB by default.
pub const VALUE_BYTES_MAX: usize = 900_000;

/// Records to append together, by topic.
pub type Load = Vec<(Topic, Vec<Record>)>;

/// The records that carry `events`, all of which arrived at `arrived_at_ms`, in the lanes that their tenants' shares
/// leave them.
pub fn load(events: &[Event<'_>], arrived_at_ms: i64, backfill: bool, lanes: &Lanes) -> Load {
    let now = Instant::now();
    let (mut usage, mut overflow) = (Vec::with_capacity(events.len()), Vec::new());
    for event in events {
        match lanes.lane(&event.tenant, now, 1) {
            Topic::Overflow => overflow.push(record(event, arrived_at_ms, backfill)),
            _ => usage.push(record(event, arrived_at_ms, backfill)),
        }
    }
    [(Topic::Usage, usage), (Topic::Overflow, overflow)]
        .into_iter()
        .filter(|(_, records)| !records.is_empty())
        .collect()
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
