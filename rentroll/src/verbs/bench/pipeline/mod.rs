//! Topic to queryable raw rows and rollups, beside ClickHouse's own Kafka table engine on the same topic.
//!
//! Every side runs in a process of its own, one after the other, with an engine of its own on an empty folder;
//! what counts is the CPU time of that process from the first record to the last row that can be queried. The
//! broker's CPU time is nobody's: all sides read the same records.

use std::path::Path;

use anyhow::Context as _;
use rentroll_collector::outgoing::Encoding;
use serde::Serialize;

use super::events::{self, Shape};
use super::kafka::{self, Cluster};
use super::process::Cost;
use super::{Scratch, part};
use crate::cli::Exit;
use crate::config::Config;

mod alone;
mod check;
mod limit;
mod own;
mod peer;
mod report;
mod steps;

pub(super) use alone::part_main as alone_part;
pub(super) use check::part_main as check_part;
pub(super) use limit::part_main as limit_part;
pub(super) use own::part_main as own_part;
pub(super) use peer::part_main as peer_part;

/// Arguments of `rentroll bench pipeline`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll bench pipeline                              5 million events through a broker of its own
  rentroll bench pipeline --events 200000 --runs 3     smaller, three times, medians
  rentroll bench pipeline --encoding compact           as our own collector sends them
  rentroll bench pipeline --brokers 127.0.0.1:9092     through this cluster; leaves topics named bench-…

Exits with 3 if what we stored does not add up to what was sent; where the peer's rows do not, it is said.")]
pub(super) struct Args {
    /// Events in the topic. With few of them the merges of the tables are yet to come, and what a process takes to
    /// begin with is a part of each.
    #[arg(long, default_value_t = 5_000_000)]
    events: u64,
    /// Tenants, drawn by a Zipf law…
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    tenants: u32,
    /// …with this exponent.
    #[arg(long, default_value_t = 1.1)]
    zipf: f64,
    /// The events' times span so many minutes.
    #[arg(long, default_value_t = 180)]
    minutes: u32,
    /// How the events travel: one in a record, as JSON, or many, as the collector does by default. The peer reads
    /// JSON alone, so that with `compact` there is none.
    #[arg(long, value_parser = encoding, default_value = "json")]
    encoding: Encoding,
    /// Events that come at once, and so share a compact record in each partition.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    together: u64,
    /// Partitions of the topics.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Runs of each side, in turn; the medians are compared.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// A Kafka cluster; without it a broker is started from the jars of `cargo xtask install`.
    #[arg(long)]
    brokers: Option<String>,
    /// Without the peer: only this program.
    #[arg(long)]
    alone: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Our own side's name.
const OWN: &str = "rentroll aggregate";

/// One side of the comparison, one run.
#[derive(Clone, Debug, Serialize)]
struct Run {
    side: &'static str,
    /// From the first record to the last row.
    work: Cost,
    /// Before: loading and opening the engine, making the tables.
    startup: Cost,
    rss_peak_bytes: u64,
    threads: Vec<(String, u64)>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Exit> {
    let cluster = Cluster::of(args.brokers.as_deref())?;
    let scratch = Scratch::new("pipeline")?;
    let shape = Shape {
        events: args.events,
        tenants: args.tenants,
        zipf: args.zipf,
        minutes: args.minutes,
        ends_at_ms: chrono::Utc::now().timestamp_millis(),
        seed: 1,
    };
    let prefix = format!("bench-{}-", std::process::id());
    let log = cluster.log(&prefix, args.partitions).await?;
    eprintln!("filling the topic…");
    let filled = kafka::fill(&log, &shape, args.encoding, args.together as usize).await?;
    drop(log);

    let mut runs = Vec::new();
    let mut checks = Vec::new();
    let mut steps = steps::Steps::default();
    for number in 0..args.runs {
        let folder = scratch.path().join(format!("own-{number}"));
        let partitions = args.partitions;
        let own = own::Own { folder: &folder, brokers: &cluster.brokers, prefix: &prefix, partitions };
        let (run, inside) = own.run()?;
        runs.push(run);
        steps = inside;
        checks.push(Some(own.check(&shape)?));
        remove(&folder)?;
        if args.alone || args.encoding == Encoding::Compact {
            continue;
        }
        let blocks = scratch.path().join(format!("blocks-{number}"));
        for rollups in [peer::Rollups::Minute, peer::Rollups::MinuteHourDay] {
            let folder = scratch.path().join(format!("peer-{number}-{}", rollups.name()));
            let spec = peer::PeerSpec {
                folder: folder.clone(),
                brokers: cluster.brokers.clone(),
                topic: format!("{prefix}usage"),
                group: format!("peer-{number}-{}", rollups.name()),
                rollups,
                shape: shape.clone(),
                blocks: (rollups == peer::Rollups::Minute).then(|| blocks.clone()),
            };
            let (run, check) = peer::run(spec)?;
            runs.push(run);
            checks.push(Some(check));
            remove(&folder)?;
        }
        let folder = scratch.path().join(format!("limit-{number}"));
        runs.push(limit::run(&folder, &blocks, shape.events)?);
        checks.push(None);
        remove(&folder)?;
        remove(&blocks)?;
    }
    let alone = alone::run(&alone::AloneSpec {
        folder: scratch.path().join("alone"),
        brokers: cluster.brokers.clone(),
        prefix: prefix.clone(),
        partitions: args.partitions,
        records: filled.records,
        batch_events: Config::default().aggregator.batch_records_max,
    })?;
    let report = report::Report {
        shape,
        encoding: args.encoding,
        filled: (filled.records, filled.bytes),
        kafka: cluster.about.clone(),
        runs,
        checks,
        inside: steps,
        alone,
    };
    report.print(args.json)?;
    Ok(if report.adds_up() { Exit::Done } else { Exit::DoesNotHold })
}

fn encoding(text: &str) -> Result<Encoding, String> {
    match text {
        "json" => Ok(Encoding::Json),
        "compact" => Ok(Encoding::Compact),
        other => Err(format!("`{other}` is neither json nor compact")),
    }
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}
