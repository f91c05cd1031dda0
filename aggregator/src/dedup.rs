//! Duplicates: exact over the whole window, in bounded memory.
//!
//! A filter without false negatives says *new* or *maybe*. Each *maybe* is looked up by identity in the store,
//! so a false alarm costs a lookup and never an event. Filters are kept per week of arrival and forgotten when
//! the window has passed them. They are rebuilt from the store when a partition is taken over, and an identity
//! enters one only once its row is durable.
//!
//! Memory: about 16 bits per event at some false alarms in a thousand, in filters that grow fourfold as a week fills.
//! Fewer bits would cost more than they save: each alarm reads a granule of the store.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use fastbloom::BloomFilter;
use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use rentroll_engines::store::{Store, StoreError};
use rentroll_schemas::{Identity, window};

use crate::plan::Plan;

const WEEK_SECONDS: i64 = 7 * 86_400;
/// The first filter of a week. Small, because most partitions of most installations are.
const FIRST_CAPACITY: usize = 1 << 16;
/// Each further filter of a week holds so many times as many: a lookup asks every filter.
const GROWTH: usize = 4;
/// Asked false alarm rate of one filter: each alarm costs a share of one lookup.
const FALSE_ALARMS: f64 = 0.0005;
/// Identities per lookup. The query is some 20 bytes for each.
const LOOKUP_MAX: usize = 50_000;

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

impl Filter {
    fn is_full(&self) -> bool {
        self.held >= self.capacity
    }
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
        let full = self.weeks.get(&week).and_then(|filters| filters.last()).is_none_or(Filter::is_full);
        if full {
            let capacity = self.next_capacity(week);
            self.make_room(week, capacity);
        }
        if let Some(filter) = self.weeks.get_mut(&week).and_then(|filters| filters.last_mut()) {
            filter.bits.insert(&identity.0);
            filter.held += 1;
        }
    }

    /// A week begins with room for as many events as the one before it had: each further filter is one more that
    /// every event asks, with false alarms of its own.
    fn next_capacity(&self, week: i64) -> usize {
        match self.weeks.get(&week).and_then(|filters| filters.last()) {
            Some(last) => last.capacity * GROWTH,
            None => {
                let before = self.weeks.range(..week).next_back();
                let held = before.map_or(0, |(_, filters)| filters.iter().map(|filter| filter.held).sum());
                FIRST_CAPACITY.max(held)
            }
        }
    }

    fn make_room(&mut self, week: i64, capacity: usize) {
        let bits = BloomFilter::with_false_pos(FALSE_ALARMS).expected_items(capacity);
        self.weeks.entry(week).or_default().push(Filter { bits, capacity, held: 0 });
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
        let mut seen = Seen::default();
        let sql = "SELECT toInt64(intDiv(toUInt32(toDateTime(arrived_at)), 604800)) AS week, count() FROM events \
                   WHERE log_partition = {partition:UInt16} AND arrived_at >= fromUnixTimestamp64Milli({since:Int64}) \
                   GROUP BY week ORDER BY week";
        let query = store
            .client()
            .query(sql)
            .param("partition", partition)
            .param("since", (now - window::WINDOW).timestamp_millis());
        let weeks: Vec<(i64, u64)> = query.fetch_all().await.map_err(|error| store.error(error))?;
        for (week, events) in weeks {
            // With some room to spare for the week that is still filling.
            seen.make_room(week, FIRST_CAPACITY.max(events as usize * 5 / 4));
        }
        let sql = "SELECT identity_high, identity_low, toUInt32(intDiv(toUInt32(toDateTime(arrived_at)), 604800)) FROM events \
                   WHERE log_partition = {partition:UInt16} AND arrived_at >= fromUnixTimestamp64Milli({since:Int64})";
        let query = store
            .client()
            .query(sql)
            .param("partition", partition)
            .param("since", (now - window::WINDOW).timestamp_millis());
        let mut cursor = query.fetch_bytes("RowBinary").map_err(|error| store.error(error))?;
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

/// Those of `candidates` that events of the window have, with their content. For a batch that is repeated, `own`
/// leaves its own rows out: what it stored before it was interrupted does not make its repetition a duplicate.
///
/// # Errors
/// What the store says.
pub async fn stored_events(
    store: &Store,
    candidates: &[Identity],
    own: Option<&Plan>,
    arrived_at: DateTime<Utc>,
) -> Result<HashMap<Identity, u32>, StoreError> {
    let mut found = HashMap::new();
    for chunk in candidates.chunks(LOOKUP_MAX) {
        let wanted: HashSet<Identity> = chunk.iter().copied().collect();
        let numbers: Vec<String> = chunk.iter().map(|identity| high(identity).to_string()).collect();
        // Answered by the projection alone, unless rows of one batch are left out.
        let condition = format!(
            "identity_high IN ({}) AND toDate(arrived_at) >= toDate({{since:Int64}})",
            numbers.join(",")
        );
        let not_own = "NOT (log_topic = {topic:String} AND log_partition = {partition:UInt16} AND log_batch = {first:UInt64})";
        let condition = if own.is_some() { format!("{condition} AND {not_own}") } else { condition };
        let sql = format!("SELECT identity_high, identity_low, content FROM events WHERE {condition}");
        let mut query = store
            .client()
            .query(&sql)
            .with_setting("max_query_size", "16777216")
            .param("since", (arrived_at - window::WINDOW).timestamp().div_euclid(86_400));
        if let Some(own) = own {
            query = query
                .param("topic", own.topic.name())
                .param("partition", own.partition)
                .param("first", own.first);
        }
        let bytes = query
            .fetch_bytes("RowBinary")
            .map_err(|error| store.error(error))?
            .collect()
            .await
            .map_err(|error| store.error(error))?;
        for [identity @ .., c0, c1, c2, c3] in bytes.as_chunks::<20>().0 {
            let identity = Identity(*identity);
            // The query compared one half only.
            if wanted.contains(&identity) {
                found.insert(identity, u32::from_le_bytes([*c0, *c1, *c2, *c3]));
            }
        }
    }
    Ok(found)
}

/// Those of `candidates` that rejects of the window have, but for those of the batch `own`.
///
/// # Errors
/// What the store says.
pub async fn stored_rejects(
    store: &Store,
    candidates: &[Identity],
    own: &Plan,
    arrived_at: DateTime<Utc>,
) -> Result<HashSet<Identity>, StoreError> {
    let mut found = HashSet::new();
    for chunk in candidates.chunks(LOOKUP_MAX) {
        let list: Vec<String> = chunk.iter().map(|identity| format!("unhex('{identity}')")).collect();
        let sql = format!(
            "SELECT identity FROM rejects WHERE identity IN ({}) \
             AND rejected_at >= fromUnixTimestamp64Milli({{since:Int64}}) \
             AND NOT (log_topic = {{topic:String}} AND log_partition = {{partition:UInt16}} AND log_batch = {{first:UInt64}})",
            list.join(",")
        );
        let query = store
            .client()
            .query(&sql)
            .with_setting("max_query_size", "16777216")
            .param("since", (arrived_at - window::WINDOW).timestamp_millis())
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

/// What the store sorts identities by.
fn high(identity: &Identity) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = identity.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
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
    fn stays_near_sixteen_bits_an_event_and_one_false_alarm_in_a_thousand() {
        let mut seen = Seen::default();
        let count = FIRST_CAPACITY as u64 * 5;
        for n in 0..count {
            seen.insert(&Identity::of("t", "s", &n.to_string()), at(0));
        }
        let bits = seen.bytes() as f64 * 8.0 / count as f64;
        assert!(bits < 19.0, "{bits} bits an event");
        let alarms = (0..10_000).filter(|n| seen.maybe(&Identity::of("t", "other", &n.to_string()))).count();
        assert!(alarms < 50, "{alarms} false alarms in 10,000");
    }
}
