//! Each step of the aggregator by itself, on the records of the same topic: what the whole can be held against.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use rentroll_aggregator::batch::{Batch, Intake};
use rentroll_aggregator::dedup::Seen;
use rentroll_aggregator::judge;
use rentroll_aggregator::plan::Plan;
use rentroll_engines::log::kafka::{KafkaConfig, KafkaLog};
use rentroll_engines::log::{EventLog as _, LogError, PartitionReader, Positioned};
use rentroll_engines::store::{Store, StoreConfig};
use rentroll_schemas::migrations::MIGRATIONS;
use rentroll_schemas::topics::Topic;
use rentroll_schemas::{Event, compact};
use serde::{Deserialize, Serialize};

use super::part;
use super::steps::Steps;
use crate::verbs::bench::events;
use crate::verbs::bench::process::{Clock, Cost};

/// As the aggregator's workers read.
const READ_RECORDS_MAX: usize = 1024;
const READ_WAIT: Duration = Duration::from_millis(100);

/// What the process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct AloneSpec {
    pub(super) folder: PathBuf,
    pub(super) brokers: String,
    pub(super) prefix: String,
    pub(super) partitions: u32,
    /// Records in the topic.
    pub(super) records: u64,
    /// Events of a batch.
    pub(super) batch_events: usize,
}

/// CPU seconds by step, as [`Steps`] has them, and how many events they are of.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct AloneAnswer {
    pub(super) events: u64,
    pub(super) steps: Steps,
}

/// Runs it.
pub(super) fn run(spec: &AloneSpec) -> anyhow::Result<AloneAnswer> {
    eprintln!("each step alone…");
    Ok(part("alone", spec)?.0)
}

/// The process.
pub(in crate::verbs::bench) async fn part_main(spec: AloneSpec) -> anyhow::Result<AloneAnswer> {
    let mut steps = Steps::default();
    let mut note = |step: &str, cost: Cost| {
        steps.0.insert(step.to_owned(), cost.cpu_us as f64 / 1e6);
    };
    // Twice: dropping what is read shows what reading costs, the second time it is kept for the other steps.
    let (cost, _) = tokio::task::block_in_place(|| consume(&spec, "alone-discard", false))?;
    note("consume", cost);
    let (_, records) = tokio::task::block_in_place(|| consume(&spec, "alone-keep", true))?;
    let batches = cut(&spec, records);

    let clock = Clock::start();
    let events = batches.iter().map(|(_, records)| parse(records)).sum::<u64>();
    let parsed = clock.cost();
    note("parse", parsed);

    let clock = Clock::start();
    let intakes: Vec<Intake> =
        batches.iter().map(|(plan, records)| Intake::of(plan, records, spec.partitions)).collect();
    let judged = clock.cost();
    note("judge", judged);

    let mut seen = Seen::default();
    let clock = Clock::start();
    for row in intakes.iter().flat_map(|intake| &intake.columns.rows) {
        anyhow::ensure!(!seen.maybe(&row.identity) || seen.bytes() > 0, "an empty filter knows something");
        seen.insert(
            &row.identity,
            chrono::DateTime::from_timestamp_millis(row.arrived_at_ms).unwrap_or_default(),
        );
    }
    note("dedup", clock.cost());

    let meters = events::meters();
    let (known, known_rejects) = (HashMap::new(), HashSet::new());
    let clock = Clock::start();
    let encoded: Vec<Batch> = batches
        .iter()
        .zip(&intakes)
        .map(|((plan, _), intake)| Batch::assemble(plan, intake, &meters, &known, &known_rejects))
        .collect();
    note("encode", clock.cost());

    let plans: Vec<Plan> = batches.into_iter().map(|(plan, _)| plan).collect();
    drop(intakes);
    note("insert", insert(&spec, &plans, encoded).await?);
    Ok(AloneAnswer { events, steps })
}

/// The records of each partition.
type ByPartition = Vec<(u32, Vec<Positioned>)>;

/// Reads the usage topic to its end, a thread for each partition.
fn consume(spec: &AloneSpec, group: &str, keep: bool) -> Result<(Cost, ByPartition), LogError> {
    let log = KafkaLog::open(KafkaConfig {
        brokers: spec.brokers.clone(),
        prefix: spec.prefix.clone(),
        partitions: spec.partitions,
        ..KafkaConfig::default()
    })?;
    let mut subscription = log.subscribe(group, &[Topic::Usage])?;
    let mut readers: Vec<Box<dyn PartitionReader>> = Vec::new();
    let clock = Clock::start();
    while readers.len() < spec.partitions as usize {
        readers.extend(subscription.gained(READ_WAIT)?);
    }
    let read = AtomicU64::new(0);
    let all = std::thread::scope(|scope| {
        let read = &read;
        let threads: Vec<_> = readers
            .iter_mut()
            .map(|reader| {
                scope.spawn(move || -> Result<(u32, Vec<Positioned>), LogError> {
                    let from = reader.committed()?;
                    reader.seek(from)?;
                    let mut kept = Vec::new();
                    while read.load(Ordering::Relaxed) < spec.records {
                        let records = reader.read(READ_RECORDS_MAX, READ_WAIT)?;
                        read.fetch_add(records.len() as u64, Ordering::Relaxed);
                        if keep {
                            kept.extend(records);
                        }
                    }
                    Ok((reader.partition(), kept))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<Vec<_>, _>>()
    })?;
    Ok((clock.cost(), all))
}

/// Batches as the aggregator cuts them.
fn cut(spec: &AloneSpec, partitions: Vec<(u32, Vec<Positioned>)>) -> Vec<(Plan, Vec<Positioned>)> {
    let mut batches = Vec::new();
    for (partition, records) in partitions {
        let mut batch: Vec<Positioned> = Vec::new();
        let mut held = 0;
        let mut close = |batch: &mut Vec<Positioned>| {
            let records = std::mem::take(batch);
            batches.extend(Plan::of(Topic::Usage, partition, &records).map(|plan| (plan, records)));
        };
        for record in records {
            held += rentroll_aggregator::batch::events_in(&record.record);
            batch.push(record);
            if held >= spec.batch_events {
                close(&mut batch);
                held = 0;
            }
        }
        close(&mut batch);
    }
    batches
}

/// Reads every event and drops it; returns how many there were.
fn parse(records: &[Positioned]) -> u64 {
    let mut events = 0;
    for Positioned { record, .. } in records {
        if judge::is_batch(record) {
            let decoded = compact::decode(&record.value);
            events += decoded.map_or(0, |decoded| decoded.events().map(std::hint::black_box).count() as u64);
        } else if let Ok(event) = Event::from_json(&record.value) {
            std::hint::black_box(event);
            events += 1;
        }
    }
    events
}

/// Prepared blocks into our own tables: events and three rollups, as many inserts at once as there are partitions.
async fn insert(spec: &AloneSpec, plans: &[Plan], batches: Vec<Batch>) -> anyhow::Result<Cost> {
    let store = Store::open(&StoreConfig::embedded(&spec.folder)).await?;
    store.migrate(MIGRATIONS).await?;
    let mut by_partition: HashMap<u32, Vec<(Plan, Batch)>> = HashMap::new();
    for (plan, batch) in plans.iter().zip(batches) {
        by_partition.entry(plan.partition).or_default().push((plan.clone(), batch));
    }
    let clock = Clock::start();
    let mut writers = tokio::task::JoinSet::new();
    for (_, batches) in by_partition {
        let store = store.clone();
        writers.spawn(async move {
            for (plan, batch) in batches {
                let blocks = std::iter::once(("events", batch.events)).chain(batch.rollups);
                for (table, block) in blocks.filter(|(_, block)| block.rows > 0) {
                    let token = plan.token(table);
                    store.insert_parts(table, &block.columns, "Native", block.parts, Some(&token)).await?;
                }
            }
            Ok::<_, rentroll_engines::store::StoreError>(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let cost = clock.cost();
    store.close().await;
    Ok(cost)
}
