//! One batch: from judged records to the bytes of its inserts. Pure but for what it is told of duplicates.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use foldhash::{HashSet, HashSetExt as _};
use rentroll_engines::log::{Positioned, Record};
use rentroll_schemas::meter::Meters;
use rentroll_schemas::reject::Reject;
use rentroll_schemas::{Event, Identity};

use crate::judge::{self, LogPlace};
use crate::plan::Plan;
use crate::rollup::Rollup;
use crate::rows::Rows;

/// Columns of `events`, in the order of the rows here.
pub const EVENT_COLUMNS: [&str; 13] = [
    "tenant",
    "type",
    "time",
    "identity",
    "id",
    "source",
    "arrived_at",
    "measures",
    "dimensions",
    "meters",
    "log_topic",
    "log_partition",
    "log_batch",
];
/// Columns of `rejects`, in the order of the rows here.
pub const REJECT_COLUMNS: [&str; 12] = [
    "identity",
    "source",
    "place",
    "tenant",
    "reason",
    "field",
    "detail",
    "rejected_at",
    "log_topic",
    "log_partition",
    "log_batch",
    "bytes",
];

/// What became of the records of one source that arrived in one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records taken from the log.
    pub accepted: u64,
    /// New, and now in the store.
    pub stored: u64,
    /// There before.
    pub duplicate: u64,
    /// Kept as rejects.
    pub rejected: u64,
}

/// By source and start of the hour of arrival, in seconds since the epoch.
pub type Tallies = BTreeMap<(String, u32), Tally>;

/// A record after [`judge`], before dedup.
pub enum Judged<'a> {
    /// A good event.
    Event(Event<'a>),
    /// Refused, here or by the collector.
    Reject(Box<Reject>),
}

impl Judged<'_> {
    fn source(&self) -> &str {
        match self {
            Judged::Event(event) => &event.source,
            Judged::Reject(reject) => &reject.source,
        }
    }
}

/// Judges the records of a usage topic.
pub fn judge_events<'a>(plan: &Plan, records: &'a [Positioned]) -> Vec<Judged<'a>> {
    let place = |position| LogPlace { topic: plan.topic, partition: plan.partition, position };
    records
        .iter()
        .map(|Positioned { position, record }| match judge::event(place(*position), record) {
            Ok(event) => Judged::Event(event),
            Err(reject) => Judged::Reject(reject),
        })
        .collect()
}

/// Judges the records of the rejects topic.
pub fn judge_rejects<'a>(plan: &Plan, records: &[Positioned]) -> Vec<Judged<'a>> {
    let place = |position| LogPlace { topic: plan.topic, partition: plan.partition, position };
    records
        .iter()
        .map(|Positioned { position, record }| {
            Judged::Reject(Box::new(judge::reject(place(*position), record)))
        })
        .collect()
}

/// What a batch inserts, and what to tell of it.
#[derive(Default)]
pub struct Batch {
    /// Rows of `events`.
    pub events: Rows,
    /// Rows of `rejects`.
    pub rejects: Rows,
    /// Usage.
    pub rollup: Rollup,
    /// For the books.
    pub tallies: Tallies,
    /// New identities and their arrivals.
    pub new: Vec<(Identity, DateTime<Utc>)>,
    /// Stored events that no meter matched.
    pub unmatched: u64,
    /// Rejects by reason.
    pub by_reason: BTreeMap<String, u64>,
}

impl Batch {
    /// Puts it together. `known_events` and `known_rejects` are the identities that earlier batches stored.
    pub fn assemble(
        plan: &Plan,
        records: &[Positioned],
        judged: &[Judged<'_>],
        meters: &Meters,
        known_events: &HashSet<Identity>,
        known_rejects: &HashSet<Identity>,
    ) -> Self {
        let value_bytes: usize = records.iter().map(|record| record.record.value.len()).sum();
        let mut batch = Batch { events: Rows::with_capacity(value_bytes), ..Batch::default() };
        let (mut events_here, mut rejects_here) = (HashSet::new(), HashSet::new());
        for (Positioned { record, .. }, judged) in records.iter().zip(judged) {
            let hour = record.arrived_at_ms.div_euclid(3_600_000).clamp(0, i64::from(u32::MAX / 3_600))
                as u32
                * 3_600;
            let mut tally = Tally { accepted: 1, ..Tally::default() };
            match judged {
                Judged::Event(event) => {
                    if known_events.contains(&record.key) || !events_here.insert(record.key) {
                        tally.duplicate = 1;
                    } else {
                        tally.stored = 1;
                        batch.add_event(plan, record, event, meters);
                    }
                }
                Judged::Reject(reject) => {
                    let identity = reject.identity();
                    if known_rejects.contains(&identity) || !rejects_here.insert(identity) {
                        tally.duplicate = 1;
                    } else {
                        tally.rejected = 1;
                        *batch.by_reason.entry(reject.reason.clone()).or_default() += 1;
                        batch.add_reject(plan, reject, identity);
                    }
                }
            }
            let sum = batch.tallies.entry((judged.source().to_owned(), hour)).or_default();
            sum.accepted += tally.accepted;
            sum.stored += tally.stored;
            sum.duplicate += tally.duplicate;
            sum.rejected += tally.rejected;
        }
        batch
    }

    fn add_event(&mut self, plan: &Plan, record: &Record, event: &Event<'_>, meters: &Meters) {
        let matched = self.rollup.add(meters, event);
        self.unmatched += u64::from(matched == 0);
        self.new.push((record.key, judge::arrival(record)));
        let rows = &mut self.events;
        rows.text(event.tenant.as_bytes())
            .text(event.kind.as_bytes())
            .i64(event.time.timestamp_micros())
            .fixed(&record.key.0)
            .text(event.id.as_bytes())
            .text(event.source.as_bytes())
            .i64(record.arrived_at_ms);
        rows.length(event.measures.len());
        for (name, quantity) in &event.measures {
            rows.text(name.as_bytes()).quantity(*quantity);
        }
        rows.length(event.dimensions.len());
        for (name, text) in &event.dimensions {
            rows.text(name.as_bytes()).text(text.as_bytes());
        }
        rows.u16(matched)
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
            .text(plan.topic.name().as_bytes())
            .u16(plan.partition as u16)
            .u64(plan.first)
            .text(&reject.bytes)
            .end_row();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rentroll_engines::log::Headers;
    use rentroll_schemas::topics::Topic;

    fn event(id: u8) -> Positioned {
        let json = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"s{}","type":"t","subject":"acme","time":"2023-11-14T22:00:00Z","data":{{}}}}"#,
            id % 3
        );
        let key = Identity::of("acme", &format!("s{}", id % 3), &id.to_string());
        let record =
            Record { key, headers: Headers::default(), value: json.into(), arrived_at_ms: 1_700_000_000_000 };
        Positioned { position: 0, record }
    }

    proptest! {
        /// The books balance, whatever comes in whatever order, and an identity is stored once.
        #[test]
        fn accepted_is_stored_plus_duplicate_plus_rejected(ids in proptest::collection::vec(any::<u8>(), 1..300), known in proptest::collection::hash_set(any::<u8>(), 0..50)) {
            let records: Vec<Positioned> = ids
                .iter()
                .enumerate()
                .map(|(position, id)| {
                    let mut positioned = event(*id);
                    positioned.position = position as u64;
                    if id % 7 == 0 {
                        positioned.record.value = vec![*id].into();
                    }
                    positioned
                })
                .collect();
            let plan = Plan::of(Topic::Usage, 0, &records).unwrap();
            let judged = judge_events(&plan, &records);
            let known: HashSet<Identity> = known.into_iter().map(|id| event(id).record.key).collect();
            let batch = Batch::assemble(&plan, &records, &judged, &Meters::default(), &known, &HashSet::new());
            let mut accepted = 0;
            for tally in batch.tallies.values() {
                prop_assert_eq!(tally.accepted, tally.stored + tally.duplicate + tally.rejected);
                accepted += tally.accepted;
            }
            prop_assert_eq!(accepted, ids.len() as u64);
            let good: HashSet<u8> = ids.iter().copied().filter(|id| id % 7 != 0).collect();
            let expected = good.iter().filter(|id| !known.contains(&event(**id).record.key)).count();
            prop_assert_eq!(batch.events.count(), expected as u64);
            prop_assert_eq!(batch.unmatched, expected as u64);
        }
    }
}
