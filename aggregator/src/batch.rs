//! One batch: from records to the bytes of its inserts. Pure but for what it is told of duplicates.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use foldhash::{HashMap, HashSet, HashSetExt as _};
use rentroll_engines::log::{Positioned, Record};
use rentroll_schemas::Identity;
use rentroll_schemas::event::CorrectionKind;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::reject::Reject;
use rentroll_schemas::topics::{Topic, headers};

use crate::block::Block;
use crate::columns::Columns;
use crate::event_rows::EventRows;
use crate::judge::{self, LogPlace};
use crate::plan::Plan;
use crate::rollup::Rollup;
use crate::rows::Rows;

/// Columns of `rejects`, in the order of the rows here.
pub const REJECT_COLUMNS: [&str; 13] = [
    "identity",
    "source",
    "place",
    "tenant",
    "reason",
    "field",
    "detail",
    "rejected_at",
    "backfill",
    "log_topic",
    "log_partition",
    "log_batch",
    "bytes",
];
/// Columns of `conflicts`, in the order of the rows here.
pub const CONFLICT_COLUMNS: [&str; 9] =
    ["identity", "tenant", "source", "id", "arrived_at", "event", "log_topic", "log_partition", "log_batch"];

/// Rows that are brought into the cache together.
const FETCHED_ROWS: usize = 32;

/// What became of the records of one source that arrived in one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events taken from the log.
    pub accepted: u64,
    /// New, and now in the store.
    pub stored: u64,
    /// There before.
    pub duplicate: u64,
    /// Kept as rejects.
    pub rejected: u64,
    /// Of the duplicates, those with other content than the event that was there before.
    pub conflicts: u64,
}

/// By source and start of the hour of arrival, in seconds since the epoch.
pub type Tallies = BTreeMap<(String, u32), Tally>;

/// The records of a batch after [`judge`], before dedup.
pub struct Intake {
    topic: Topic,
    partition: u32,
    partitions: u32,
    first_arrived_at_ms: Option<i64>,
    /// Good events.
    pub columns: Columns,
    /// Refused, here or by the collector, with their arrival.
    pub rejects: Vec<(Box<Reject>, i64)>,
}

impl Intake {
    /// Of no records yet. `partitions` is how many the topic has.
    pub fn new(topic: Topic, partition: u32, partitions: u32) -> Self {
        let (columns, rejects) = (Columns::default(), Vec::new());
        Intake { topic, partition, partitions, first_arrived_at_ms: None, columns, rejects }
    }

    /// Judges the records of a batch. `partitions` is how many the topic has.
    pub fn of(plan: &Plan, records: &[Positioned], partitions: u32) -> Self {
        let mut intake = Intake::new(plan.topic, plan.partition, partitions);
        records.iter().for_each(|record| intake.add(record));
        intake
    }

    /// How many events the records carried, good or refused.
    pub(crate) fn events(&self) -> usize {
        self.columns.rows.len() + self.rejects.len()
    }

    /// Judges the next record.
    pub fn add(&mut self, Positioned { position, record }: &Positioned) {
        self.first_arrived_at_ms.get_or_insert(record.arrived_at_ms);
        let Intake { topic, partition, partitions, columns, rejects, .. } = self;
        let place = LogPlace { topic: *topic, partition: *partition, position: *position };
        match topic {
            Topic::Rejects => rejects.push((Box::new(judge::reject(place, record)), record.arrived_at_ms)),
            Topic::Usage | Topic::Overflow => {
                judge::events(place, record, *partitions, |verdict| match verdict {
                    Ok((event, identity)) => columns.push(&event, identity, record.arrived_at_ms),
                    Err(reject) => rejects.push((reject, record.arrived_at_ms)),
                });
            }
        }
    }

    /// When the first record arrived.
    pub fn first_arrival(&self) -> Option<DateTime<Utc>> {
        self.first_arrived_at_ms.map(judge::moment)
    }

    /// Forgets the records, and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.first_arrived_at_ms = None;
        self.columns.clear();
        self.rejects.clear();
    }
}

/// How many events a record says that it carries: what a batch is measured by.
pub fn events_in(record: &Record) -> usize {
    // Records of one event carry no such header; looking for it in each of a million costs.
    match record.header(headers::EVENTS) {
        None => 1,
        Some(text) => text.parse().unwrap_or(1),
    }
}

/// What a batch inserts, and what to tell of it.
#[derive(Default)]
pub struct Batch {
    /// Rows of `events`.
    pub events: Block,
    /// Rows of the rollup tables.
    pub rollups: [(&'static str, Block); 3],
    /// Rows of `rejects`.
    pub rejects: Rows,
    /// Rows of `conflicts`.
    pub conflicts: Rows,
    /// For the books.
    pub tallies: Tallies,
    /// New identities and their arrivals.
    pub new: Vec<(Identity, DateTime<Utc>)>,
    /// Stored events that no meter matched.
    pub unmatched: u64,
    /// Events of a meter whose value was missing or not a number, by meter.
    pub without_value: HashMap<String, u64>,
    /// Rejects by reason.
    pub by_reason: BTreeMap<String, u64>,
    /// Stored events by tenant.
    pub by_tenant: Vec<(String, u64)>,
}

impl Batch {
    /// Puts it together. `known_events` are the identities that earlier batches stored, with their content;
    /// `known_rejects` those of rejects.
    pub fn assemble(
        plan: &Plan,
        intake: &Intake,
        meters: &Meters,
        known_events: &HashMap<Identity, u32>,
        known_rejects: &HashSet<Identity>,
    ) -> Self {
        let mut batch = Batch::default();
        let mut tallies = Tallying::default();
        let new = batch.sort_out_events(plan, &intake.columns, known_events, &mut tallies);
        batch.take_rejects(plan, intake, known_rejects, &mut tallies);
        batch.add_events(plan, &intake.columns, new, meters);
        batch.tallies = tallies.finish(&intake.columns);
        batch
    }

    /// The places of the events that are new.
    fn sort_out_events(
        &mut self,
        plan: &Plan,
        columns: &Columns,
        known: &HashMap<Identity, u32>,
        tallies: &mut Tallying,
    ) -> Vec<u32> {
        let mut new = Vec::with_capacity(columns.rows.len());
        let mut repeats = columns.repeats.iter().peekable();
        for (place, row) in columns.rows.iter().enumerate() {
            let repeated = repeats.next_if(|(repeat, _)| *repeat as usize == place);
            let before = match known.get(&row.identity) {
                Some(content) => Some(*content),
                None => repeated.map(|(_, first)| columns.rows[*first as usize].content),
            };
            let tally = tallies.of(row.source, row.arrived_at_ms);
            tally.accepted += 1;
            match before {
                None => {
                    tally.stored += 1;
                    new.push(place as u32);
                }
                Some(content) => {
                    tally.duplicate += 1;
                    // Rows that were stored before contents were told apart have none.
                    if content != 0 && content != row.content {
                        tally.conflicts += 1;
                        self.add_conflict(plan, columns, place);
                    }
                }
            }
        }
        new
    }

    fn take_rejects(
        &mut self,
        plan: &Plan,
        intake: &Intake,
        known: &HashSet<Identity>,
        tallies: &mut Tallying,
    ) {
        let mut here = HashSet::new();
        for (reject, arrived_at_ms) in &intake.rejects {
            let identity = reject.identity();
            let tally = tallies.of_named(&reject.source, *arrived_at_ms);
            tally.accepted += 1;
            if known.contains(&identity) || !here.insert(identity) {
                tally.duplicate += 1;
            } else {
                tally.rejected += 1;
                *self.by_reason.entry(reject.reason.clone()).or_default() += 1;
                self.add_reject(plan, reject, identity);
            }
        }
    }

    fn add_events(&mut self, plan: &Plan, columns: &Columns, new: Vec<u32>, meters: &Meters) {
        let mut rollup = Rollup::default();
        let mut rows = EventRows::new(columns, new.len());
        let mut by_tenant = vec![0_u64; columns.tenants.len()];
        self.new.reserve_exact(new.len());
        let sorted = columns.sorted(new);
        for places in sorted.chunks(FETCHED_ROWS) {
            columns.fetch(places);
            for place in places {
                let row = &columns.rows[*place as usize];
                let counts = !matches!(columns.correction(row), Some((CorrectionKind::Voids, _)));
                let matched = if counts { rollup.add(meters, columns, row) } else { 0 };
                self.unmatched += u64::from(counts && matched == 0);
                by_tenant[row.tenant as usize] += 1;
                let arrival = DateTime::from_timestamp_millis(row.arrived_at_ms).unwrap_or_default();
                self.new.push((row.identity, arrival));
                rows.push(row, matched);
            }
        }
        self.by_tenant = by_tenant
            .into_iter()
            .enumerate()
            .filter(|(_, events)| *events > 0)
            .map(|(tenant, events)| (columns.tenants.str(tenant as u32).to_owned(), events))
            .collect();
        self.without_value = std::mem::take(&mut rollup.without_value);
        self.events = rows.finish(plan);
        self.rollups = rollup.tables(columns);
    }

    fn add_conflict(&mut self, plan: &Plan, columns: &Columns, place: usize) {
        let event = columns.event(place);
        let row = &columns.rows[place];
        self.conflicts
            .fixed(&row.identity.0)
            .text(event.tenant.as_bytes())
            .text(event.source.as_bytes())
            .text(event.id.as_bytes())
            .i64(row.arrived_at_ms)
            .text(&event.to_json())
            .text(plan.topic.name().as_bytes())
            .u16(plan.partition as u16)
            .u64(plan.first)
            .end_row();
    }

    fn add_reject(&mut self, plan: &Plan, reject: &Reject, identity: Identity) {
        self.rejects
            .fixed(&identity.0)
            .text(reject.source.as_bytes())
            .text(reject.place.as_bytes())
            .text(reject.tenant.as_bytes())
            .text(reject.reason.as_bytes())
            .text(reject.field.as_bytes())
            .text(reject.detail.as_bytes())
            .i64(reject.rejected_at.timestamp_millis())
            .u8(u8::from(reject.backfill))
            .text(plan.topic.name().as_bytes())
            .u16(plan.partition as u16)
            .u64(plan.first)
            .text(&reject.bytes)
            .end_row();
    }
}

/// Tallies by numbers, since most records are of the source and hour of the one before.
#[derive(Default)]
struct Tallying {
    places: HashMap<(u32, u32), usize>,
    by_number: Vec<((u32, u32), Tally)>,
    last: usize,
    by_name: Tallies,
}

impl Tallying {
    fn of(&mut self, source: u32, arrived_at_ms: i64) -> &mut Tally {
        let key = (source, hour(arrived_at_ms));
        if self.by_number.get(self.last).is_none_or(|(last, _)| *last != key) {
            self.last = *self.places.entry(key).or_insert(self.by_number.len());
            if self.last == self.by_number.len() {
                self.by_number.push((key, Tally::default()));
            }
        }
        &mut self.by_number[self.last].1
    }

    fn of_named(&mut self, source: &str, arrived_at_ms: i64) -> &mut Tally {
        self.by_name.entry((source.to_owned(), hour(arrived_at_ms))).or_default()
    }

    fn finish(self, columns: &Columns) -> Tallies {
        let mut tallies = self.by_name;
        for ((source, hour), tally) in self.by_number {
            let sum = tallies.entry((columns.sources.str(source).to_owned(), hour)).or_default();
            sum.accepted += tally.accepted;
            sum.stored += tally.stored;
            sum.duplicate += tally.duplicate;
            sum.rejected += tally.rejected;
            sum.conflicts += tally.conflicts;
        }
        tallies
    }
}

/// Start of the hour, seconds since the epoch, as far as a DateTime reaches.
fn hour(arrived_at_ms: i64) -> u32 {
    arrived_at_ms.div_euclid(3_600_000).clamp(0, i64::from(u32::MAX / 3_600)) as u32 * 3_600
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rentroll_engines::log::Headers;

    fn event(id: u8, content: u8) -> Positioned {
        let source = format!("s{}", id % 3);
        let json = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"{source}","type":"t","subject":"acme","time":"2023-11-14T22:00:00Z","data":{{"n":{content}}}}}"#
        );
        let key = Identity::of("acme", &source, &id.to_string());
        let record =
            Record { key, headers: Headers::default(), value: json.into(), arrived_at_ms: 1_700_000_000_000 };
        Positioned { position: 0, record }
    }

    proptest! {
        /// The books balance, whatever comes in whatever order; an identity is stored once; a resend with other
        /// content than the first is a conflict.
        #[test]
        fn accepted_is_stored_plus_duplicate_plus_rejected(
            ids in proptest::collection::vec((any::<u8>(), 0_u8..2), 1..300),
            known in proptest::collection::hash_map(any::<u8>(), 0_u8..2, 0..50),
        ) {
            let records: Vec<Positioned> = ids
                .iter()
                .enumerate()
                .map(|(position, (id, content))| {
                    let mut positioned = event(*id, *content);
                    positioned.position = position as u64;
                    if id % 7 == 0 {
                        positioned.record.value = vec![*id].into();
                    }
                    positioned
                })
                .collect();
            let plan = Plan::of(Topic::Usage, 0, &records).unwrap();
            let content = |id: u8, content: u8| {
                let positioned = event(id, content);
                let event = rentroll_schemas::Event::from_json(&positioned.record.value).unwrap();
                (positioned.record.key, event.content())
            };
            let stored: HashMap<Identity, u32> = known.iter().map(|(id, of)| content(*id, *of)).collect();
            let intake = Intake::of(&plan, &records, 1);
            let batch = Batch::assemble(&plan, &intake, &Meters::default(), &stored, &HashSet::new());
            let mut sum = Tally::default();
            for tally in batch.tallies.values() {
                prop_assert_eq!(tally.accepted, tally.stored + tally.duplicate + tally.rejected);
                sum.accepted += tally.accepted;
                sum.conflicts += tally.conflicts;
            }
            prop_assert_eq!(sum.accepted, ids.len() as u64);
            let mut first = known.clone();
            let (mut new, mut conflicts) = (0, 0);
            for (id, content) in ids.iter().filter(|(id, _)| id % 7 != 0) {
                match first.entry(*id) {
                    std::collections::hash_map::Entry::Occupied(held) => conflicts += u64::from(held.get() != content),
                    std::collections::hash_map::Entry::Vacant(free) => {
                        free.insert(*content);
                        new += 1;
                    }
                }
            }
            prop_assert_eq!(batch.events.rows, new);
            prop_assert_eq!(batch.new.len(), new);
            prop_assert_eq!(batch.unmatched, new as u64);
            prop_assert_eq!(sum.conflicts, conflicts);
            prop_assert_eq!(batch.conflicts.count(), conflicts);
        }
    }
}
