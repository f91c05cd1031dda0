//! Duplicates: exact over the whole window, in bounded memory.
//!
//! A filter without false negatives says *new* or *maybe*. Each *maybe* is looked up by identity in the store,
//! so a false alarm costs a lookup and never an event. Filters are kept per week of arrival and forgotten when
//! the window has passed them. They are rebuilt from the store when a partition is taken over, and an identity
//! enters one only once its row is durable.
//!
//! Memory: about 10 bits per event at one false alarm in a hundred, in filters that double as a week fills.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use fastbloom::BloomFilter;
use foldhash::{HashSet, HashSetExt as _};
use rentroll_engines::store::{Store, StoreError};
use rentroll_schemas::{Identity, window};

use crate::plan::Plan;

const WEEK_SECONDS: i64 = 7 * 86_400;
/// The first filter of a week. Small, because most partitions of most installations are.
const FIRST_CAPACITY: usize = 1 << 16;
/// Asked false alarm rate: each alarm costs a share of one lookup.
const FALSE_ALARMS: f64 = 0.01;
/// Identities per lookup. The query is some 70 bytes for each.
const LOOKUP_MAX: usize = 10_000;

/// What a partition has seen in the window.
#[derive(Default)]
pub struct Seen {
    weeks: BTreeMap<i64, Vec<Filter>>,
}

struct Filter {
    bits: BloomFilter,
    capacity: usize,
    held: usize,
}

impl Seen {
    /// Whether `identity` may have been stored. `false` is certain.
    pub fn maybe(&self, identity: &Identity) -> bool {
        self.weeks.values().flatten().any(|filter| filter.bits.contains(&identity.0))
    }

    /// Remembers a durable row that arrived at `arrived_at`.
    pub fn insert(&mut self, identity: &Identity, arrived_at: DateTime<Utc>) {
        self.insert_into_week(identity, arrived_at.timestamp().div_euclid(WEEK_SECONDS));
    }

    fn insert_into_week(&mut self, identity: &Identity, week: i64) {
        let filters = self.weeks.entry(week).or_default();
        if filters.last().is_none_or(|filter| filter.held >= filter.capacity) {
            let capacity = filters.last().map_or(FIRST_CAPACITY, |filter| filter.capacity * 2);
            let bits = BloomFilter::with_false_pos(FALSE_ALARMS).expected_items(capacity);
            filters.push(Filter { bits, capacity, held: 0 });
        }
        if let Some(filter) = filters.last_mut() {
            filter.bits.insert(&identity.0);
            filter.held += 1;
        }
    }

    /// Forgets what arrived before the window that ends at `now`.
    pub fn forget_before(&mut self, now: DateTime<Utc>) {
        let oldest = (now - window::WINDOW).timestamp().div_euclid(WEEK_SECONDS);
        self.weeks = self.weeks.split_off(&oldest);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.weeks.values().flatten().map(|filter| filter.bits.num_bits() / 8).sum()
    }

    /// Reads the window's identities of one log partition from the store.
    ///
    /// # Errors
    /// What the store says.
    pub async fn rebuild(store: &Store, partition: u32, now: DateTime<Utc>) -> Result<Self, StoreError> {
        let sql = "SELECT identity, toUInt32(intDiv(toUInt32(toDateTime(arrived_at)), 604800)) FROM events \
                   WHERE log_partition = {partition:UInt16} AND arrived_at >= fromUnixTimestamp64Milli({since:Int64})";
        let query = store
            .client()
            .query(sql)
            .param("partition", partition)
            .param("since", (now - window::WINDOW).timestamp_millis());
        let mut cursor = query.fetch_bytes("RowBinary").map_err(|error| store.error(error))?;
        let mut seen = Seen::default();
        let mut rest: Vec<u8> = Vec::new();
        while let Some(chunk) = cursor.next().await.map_err(|error| store.error(error))? {
            rest.extend_from_slice(&chunk);
            let (rows, tail) = rest.as_chunks::<20>();
            for [identity @ .., w0, w1, w2, w3] in rows {
                let week = u32::from_le_bytes([*w0, *w1, *w2, *w3]);
                seen.insert_into_week(&Identity(*identity), i64::from(week));
            }
            rest = tail.to_vec();
        }
        Ok(seen)
    }
}

/// Which table an identity is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `events`
    Events,
    /// `rejects`
    Rejects,
}

/// Those of `candidates` that are stored within the window, by another batch than `own`: what a batch stored
/// before it was interrupted does not make its repetition a duplicate.
///
/// # Errors
/// What the store says.
pub async fn stored(
    store: &Store,
    table: Table,
    candidates: &[Identity],
    own: &Plan,
    now: DateTime<Utc>,
) -> Result<HashSet<Identity>, StoreError> {
    let mut found = HashSet::new();
    let (table, arrival) = match table {
        Table::Events => ("events", "arrived_at"),
        Table::Rejects => ("rejects", "rejected_at"),
    };
    for chunk in candidates.chunks(LOOKUP_MAX) {
        let mut list = String::with_capacity(chunk.len() * 68);
        for identity in chunk {
            list.push_str(if list.is_empty() { "'" } else { ",'" });
            for byte in identity.0 {
                list.push_str(&format!("\\x{byte:02x}"));
            }
            list.push('\'');
        }
        let sql = format!(
            "SELECT identity FROM {table} WHERE identity IN ({list}) \
             AND {arrival} >= fromUnixTimestamp64Milli({{since:Int64}}) \
             AND NOT (log_topic = {{topic:String}} AND log_partition = {{partition:UInt16}} AND log_batch = {{first:UInt64}})"
        );
        let query = store
            .client()
            .query(&sql)
            .with_setting("max_query_size", "16777216")
            .param("since", (now - window::WINDOW).timestamp_millis())
            .param("topic", own.topic.name())
            .param("partition", own.partition)
            .param("first", own.first);
        let bytes = query
            .fetch_bytes("RowBinary")
            .map_err(|error| store.error(error))?
            .collect()
            .await
            .map_err(|error| store.error(error))?;
        found.extend(bytes.as_chunks::<16>().0.iter().map(|bytes| Identity(*bytes)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    proptest! {
        #[test]
        fn what_was_seen_in_the_window_is_never_called_new(ids in proptest::collection::vec((any::<[u8; 16]>(), 0_i64..80 * 86_400), 1..500)) {
            let now = at(80 * 86_400);
            let mut seen = Seen::default();
            for (id, arrival) in &ids {
                seen.insert(&Identity(*id), at(*arrival));
            }
            seen.forget_before(now);
            for (id, arrival) in &ids {
                if at(*arrival) >= now - window::WINDOW {
                    prop_assert!(seen.maybe(&Identity(*id)));
                }
            }
        }
    }

    #[test]
    fn stays_near_ten_bits_an_event_and_one_false_alarm_in_a_hundred() {
        let mut seen = Seen::default();
        let count = FIRST_CAPACITY as u64 * 7;
        for n in 0..count {
            seen.insert(&Identity::of("t", "s", &n.to_string()), at(0));
        }
        let bits = seen.bytes() as f64 * 8.0 / count as f64;
        assert!(bits < 11.0, "{bits} bits an event");
        let alarms = (0..10_000).filter(|n| seen.maybe(&Identity::of("t", "other", &n.to_string()))).count();
        assert!(alarms < 500, "{alarms} false alarms in 10,000");
    }
}
