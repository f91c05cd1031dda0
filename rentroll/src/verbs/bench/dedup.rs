//! Dedup at a hundred million events: the filters' memory, how often they raise a false alarm, what a check, an
//! insertion and a lookup cost, and how long a rebuild from the store takes.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::{DateTime, Duration, Utc};
use rentroll_aggregator::dedup::{self, Seen};
use rentroll_engines::store::{Store, StoreConfig};
use rentroll_schemas::migrations::MIGRATIONS;
use rentroll_schemas::{Identity, window};
use serde::{Deserialize, Serialize};

use super::events::Random;
use super::process::{Clock, Cost, own_rss_peak};
use super::{Scratch, part};
use crate::cli::Exit;
use crate::output::{self, Sheet, grouped};

/// Identities that are asked for.
const PROBES: u64 = 1_000_000;
/// Identities that are looked up in the store: what false alarms of a batch come to.
const LOOKUPS: u64 = 2_000;
/// Rows per statement when the store is filled.
const FILL_ROWS: u64 = 1_000_000;
/// More false alarms than this, and lookups cost more than the filters save: two in a hundred.
const FALSE_ALARMS_MAX: f64 = 0.02;

/// Arguments of `rentroll bench dedup`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll bench dedup                                     a hundred million identities, ten million in the store
  rentroll bench dedup --events 1000000 --rows 1000000     a small one

Exits with 3 if a known identity is called new, or false alarms are too many.")]
pub(super) struct Args {
    /// Identities in the filters, spread over the window of arrival.
    #[arg(long, default_value_t = 100_000_000)]
    events: u64,
    /// Rows in the store from which the filters are rebuilt.
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What the process is told that fills filters.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FilterSpec {
    events: u64,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FilterAnswer {
    bytes: u64,
    rss_peak_bytes: u64,
    insert: Cost,
    check_new: Cost,
    check_known: Cost,
    /// Of [`PROBES`] new identities, those called *maybe*.
    false_alarms: u64,
    /// Of [`PROBES`] known identities, those called *new*: must be none.
    missed: u64,
}

/// What the process is told that rebuilds filters.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RebuildSpec {
    folder: PathBuf,
    rows: u64,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RebuildAnswer {
    rows: u64,
    rebuild: Cost,
    /// Of the first rows' identities, at most [`PROBES`], those that the rebuilt filters call *new*: must be none.
    missed: u64,
    /// Of [`LOOKUPS`] identities that the store does not have.
    lookup: Cost,
    /// Of [`LOOKUPS`] that it has, those that a lookup does not find: must be none.
    lookup_missed: u64,
    rss_peak_bytes: u64,
}

#[derive(Serialize)]
struct Report {
    events: u64,
    probes: u64,
    lookups: u64,
    filters: FilterAnswer,
    store: RebuildAnswer,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    eprintln!("{} identities into the filters…", grouped(&args.events.to_string()));
    let (filters, _) = part::<_, FilterAnswer>("dedup-filters", &FilterSpec { events: args.events })?;
    let scratch = Scratch::new("dedup")?;
    eprintln!("{} rows into a store, and the filters rebuilt from it…", grouped(&args.rows.to_string()));
    let spec = RebuildSpec { folder: scratch.path().to_owned(), rows: args.rows };
    let (store, _) = part::<_, RebuildAnswer>("dedup-rebuild", &spec)?;
    let report = Report { events: args.events, probes: PROBES, lookups: LOOKUPS, filters, store };
    if args.json {
        output::json(&report)?;
    } else {
        report.print()?;
    }
    let rate = report.filters.false_alarms as f64 / PROBES as f64;
    let missed = report.filters.missed + report.store.missed + report.store.lookup_missed;
    let holds = missed == 0 && rate <= FALSE_ALARMS_MAX && report.store.rows == args.rows;
    Ok(if holds { Exit::Done } else { Exit::DoesNotHold })
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        let Report { events, filters, store, .. } = self;
        let mut sheet = Sheet::new(&["what", ">value"]);
        let us = |cost: Cost, count: u64| format!("{:.3} µs CPU", cost.us_per_event(count));
        sheet.row(&["identities in the filters", &grouped(&events.to_string())]);
        sheet.row(&["memory", &format!("{} MiB", filters.bytes >> 20)]);
        sheet.row(&["memory per event", &format!("{:.2} bytes", filters.bytes as f64 / *events as f64)]);
        sheet.row(&["peak memory of the process", &format!("{} MiB", filters.rss_peak_bytes >> 20)]);
        let alarms = filters.false_alarms as f64 * 100.0 / PROBES as f64;
        sheet.row(&["false alarms", &format!("{alarms:.2} %")]);
        sheet.row(&["known ones called new", &filters.missed.to_string()]);
        sheet.row(&["stored ones called new after a rebuild", &store.missed.to_string()]);
        sheet.row(&["stored ones that a lookup does not find", &store.lookup_missed.to_string()]);
        sheet.row(&["an insertion", &us(filters.insert, *events)]);
        sheet.row(&["a check of a new identity", &us(filters.check_new, PROBES)]);
        sheet.row(&["a check of a known identity", &us(filters.check_known, PROBES)]);
        let rows = grouped(&store.rows.to_string());
        sheet.row(&[
            &format!("rebuild from {rows} rows"),
            &format!(
                "{:.1} s, {:.1} CPU s",
                store.rebuild.elapsed_us as f64 / 1e6,
                store.rebuild.cpu_us as f64 / 1e6
            ),
        ]);
        let seconds = store.rebuild.elapsed_us as f64 / 1e6 * *events as f64 / store.rows.max(1) as f64;
        sheet.row(&[
            &format!("…of {} rows, in proportion", grouped(&events.to_string())),
            &format!("{seconds:.0} s"),
        ]);
        sheet.row(&[
            &format!("a lookup in the store, {} at once", grouped(&LOOKUPS.to_string())),
            &format!("{:.1} µs CPU", store.lookup.us_per_event(LOOKUPS)),
        ]);
        sheet.print()
    }
}

/// The process that fills filters.
pub(super) fn filter_part(spec: &FilterSpec) -> anyhow::Result<FilterAnswer> {
    let now = Utc::now();
    let mut seen = Seen::default();
    let clock = Clock::start();
    let mut random = Random(1);
    for number in 0..spec.events {
        let arrived_at = arrival(now, number, spec.events);
        seen.insert(&identity(&mut random), arrived_at);
    }
    let insert = clock.cost();
    let bytes = seen.bytes() as u64;
    let (check_known, known) = probe(&seen, Random(1), PROBES.min(spec.events));
    let (check_new, false_alarms) = probe(&seen, Random(u64::MAX), PROBES);
    Ok(FilterAnswer {
        bytes,
        rss_peak_bytes: own_rss_peak(),
        insert,
        check_new,
        check_known,
        false_alarms,
        missed: PROBES.min(spec.events) - known,
    })
}

fn probe(seen: &Seen, mut random: Random, count: u64) -> (Cost, u64) {
    let clock = Clock::start();
    let maybes = (0..count).filter(|_| seen.maybe(&identity(&mut random))).count() as u64;
    (clock.cost(), maybes)
}

/// Arrivals come in order, evenly over the window.
fn arrival(now: DateTime<Utc>, number: u64, events: u64) -> DateTime<Utc> {
    let window_s = window::WINDOW.num_seconds() as f64;
    let ago = window_s * (1.0 - number as f64 / events.max(1) as f64);
    now - Duration::seconds(ago as i64)
}

fn identity(random: &mut Random) -> Identity {
    let (high, low) = (random.next(), random.next());
    of_halves(high, low)
}

/// As the store keeps them.
fn of_halves(high: u64, low: u64) -> Identity {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_le_bytes());
    bytes[8..].copy_from_slice(&low.to_le_bytes());
    Identity(bytes)
}

/// The process that fills a store, and rebuilds filters from it.
pub(super) async fn rebuild_part(spec: RebuildSpec) -> anyhow::Result<RebuildAnswer> {
    let store = open_and_fill(&spec.folder, spec.rows).await?;
    let now = Utc::now();
    let clock = Clock::start();
    let seen = Seen::rebuild(&store, 0, now).await?;
    let rebuild = clock.cost();
    let rows: u64 = store.client().query("SELECT count() FROM events").fetch_one().await?;
    let kept = stored(&store, PROBES.min(rows)).await?;
    let missed = kept.iter().filter(|identity| !seen.maybe(identity)).count() as u64;
    let some = &kept[..kept.len().min(LOOKUPS as usize)];
    let lookup_missed = some.len() as u64 - dedup::stored_events(&store, some, None, now).await?.len() as u64;
    let mut random = Random(7);
    let candidates: Vec<Identity> = (0..LOOKUPS).map(|_| identity(&mut random)).collect();
    let clock = Clock::start();
    let found = dedup::stored_events(&store, &candidates, None, now).await?;
    let lookup = clock.cost();
    anyhow::ensure!(found.is_empty(), "the store claims {} identities that nobody sent", found.len());
    store.close().await;
    Ok(RebuildAnswer { rows, rebuild, missed, lookup, lookup_missed, rss_peak_bytes: own_rss_peak() })
}

/// The first identities that the store was filled with, as their bytes.
async fn stored(store: &Store, count: u64) -> anyhow::Result<Vec<Identity>> {
    let sql = "SELECT sipHash64(number), cityHash64(number) FROM numbers({count:UInt64})";
    let halves: Vec<(u64, u64)> = store.client().query(sql).param("count", count).fetch_all().await?;
    Ok(halves.into_iter().map(|(high, low)| of_halves(high, low)).collect())
}

/// Rows of one partition of the log, with identities that the engine makes up, arriving within the window.
async fn open_and_fill(folder: &Path, rows: u64) -> anyhow::Result<Store> {
    let store = Store::open(&StoreConfig::embedded(folder)).await?;
    store.migrate(MIGRATIONS).await?;
    let mut from = 0;
    while from < rows {
        let count = FILL_ROWS.min(rows - from);
        let sql = format!(
            "INSERT INTO events (tenant, type, time, identity_high, identity_low, id_text, source, arrived_at, log_topic, log_partition, log_batch) \
             SELECT concat('tenant-', toString(number % 9973)), 'api.request', now64(6), \
             sipHash64(number), cityHash64(number), toString(number), 'bench', \
             now64(3) - toIntervalSecond(number % 2500000), 'usage', 0, 0 FROM numbers({from}, {count}) \
             SETTINGS insert_deduplicate = 0"
        );
        store.client().query(&sql).execute().await.context("cannot fill the store")?;
        from += count;
    }
    Ok(store)
}
