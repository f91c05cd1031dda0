//! HTTP ingest with a durable ack: our collector beside Benthos, the engine of several usage collectors, and beside
//! what the disk and Kafka can do at most.
//!
//! All servers get the same requests from the same load generator, one server after the other. First as fast as
//! answers come, which gives events per second of the server's CPU time; then at a steady rate that both can
//! bear, which gives latencies that can be compared.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::events::Shape;
use super::kafka::Cluster;
use super::process::Cost;
use super::{Scratch, part};
use crate::cli::{Exit, WrongUse};

mod limits;
mod load;
mod report;
mod sides;

pub(super) use limits::part_main as sync_part;
pub(super) use load::part_main as load_part;
use load::{Latency, LoadAnswer, LoadSpec};
use sides::{Place, Server, Side};

/// Of the rate that the slower of the two sides reaches, the share at which latencies are compared: busy, and
/// far enough from saturation that a queue does not grow by itself.
const STEADY_SHARE: f64 = 0.5;
const WARM_UP_SECONDS: f64 = 1.0;
/// Events' times: the last minutes.
const MINUTES: u32 = 5;

/// Arguments of `rentroll bench ingest`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll bench ingest                          batches of 1, 100 and 1,000; all sides
  rentroll bench ingest --batches 100 --alone    without Benthos and without Kafka's load tool

The peers are put into the cache by `cargo xtask bench --install`.")]
pub(super) struct Args {
    /// Events of a request.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1000])]
    batches: Vec<u64>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Connections that send at the same time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Partitions of the log.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// A Kafka cluster; without it a broker is started from the jars of `cargo xtask install`.
    #[arg(long)]
    brokers: Option<String>,
    /// Without the peers: only this program.
    #[arg(long)]
    alone: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// One server under one load.
#[derive(Clone, Debug, Serialize)]
struct Run {
    side: &'static str,
    batch: u64,
    /// Events acknowledged.
    events: u64,
    /// The server's CPU time, and the clock.
    server: Cost,
    rss_peak_bytes: u64,
    /// The broker's CPU time, µs, if it is our own.
    broker_cpu_us: Option<u64>,
    load_cpu_us: u64,
    latency: Latency,
    /// At a steady rate of so many events per second.
    steady: Option<(f64, Latency)>,
    answers: std::collections::BTreeMap<u16, u64>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Exit> {
    let cache = rentroll_testing::cache_folder();
    let benthos = cache.join("benthos-4.27.0/benthos");
    let tools = cache.join("kafka-tools-4.3.1/lib");
    let has_peers = benthos.is_file() && tools.is_dir();
    if !args.alone && !has_peers {
        let missing = if benthos.is_file() { &tools } else { &benthos };
        let what = format!(
            "{} is missing: `cargo xtask bench --install` puts it there; --alone does without",
            missing.display()
        );
        return Err(WrongUse(what).into());
    }
    let cluster = Cluster::of(args.brokers.as_deref())?;
    let scratch = Scratch::new("ingest")?;
    let prefix = format!("bench-{}-", std::process::id());
    drop(cluster.log(&prefix, args.partitions).await?);
    let place = Place {
        folder: scratch.path(),
        brokers: &cluster.brokers,
        prefix: &prefix,
        partitions: args.partitions,
        benthos,
    };
    let mut report = report::Report::new(&args, &cluster.about);
    if !args.alone {
        eprintln!("ProducerPerformance…");
        let records = 2_000_000;
        let topic = format!("{prefix}usage");
        report.producer = Some(limits::producer_performance(
            &tools,
            &cluster.brokers,
            &topic,
            records,
            report::EVENT_BYTES,
        )?);
    }
    for batch in &args.batches {
        let sides = if args.alone {
            &[Side::Embedded, Side::Kafka][..]
        } else {
            &[Side::Embedded, Side::Kafka, Side::Benthos]
        };
        let mut runs = Vec::new();
        for side in sides {
            eprintln!("{}, batches of {batch}…", side.name());
            let server = place.start(*side)?;
            runs.push(Measurement { args: &args, cluster: &cluster, batch: *batch }.closed(*side, server)?);
        }
        let slowest = runs.iter().map(|run| run.server.per_second(run.events)).fold(f64::INFINITY, f64::min);
        for (side, run) in sides.iter().zip(&mut runs) {
            eprintln!("{}, batches of {batch}, at a steady rate…", side.name());
            let server = place.start(*side)?;
            let rate = slowest * STEADY_SHARE;
            run.steady = Some((
                rate,
                Measurement { args: &args, cluster: &cluster, batch: *batch }.open(server, rate)?,
            ));
        }
        report.runs.extend(runs);
        report.syncs.push((*batch, sync(&scratch, &args, *batch)?));
    }
    report.print(args.json)?;
    Ok(Exit::Done)
}

fn sync(scratch: &Scratch, args: &Args, batch: u64) -> anyhow::Result<limits::SyncAnswer> {
    let bytes = (u64::from(args.connections) * batch * report::EVENT_BYTES) as usize;
    let spec = limits::SyncSpec { folder: scratch.path().to_owned(), bytes, seconds: args.seconds.min(3.0) };
    Ok(part("sync", &spec)?.0)
}

struct Measurement<'a> {
    args: &'a Args,
    cluster: &'a Cluster,
    batch: u64,
}

impl Measurement<'_> {
    /// Each connection sends as soon as it is answered.
    fn closed(&self, side: Side, mut server: Server) -> anyhow::Result<Run> {
        prime(&server, self.batch)?;
        let (cpu_before, _) = server.process.so_far();
        let broker_before = self.cluster.cpu();
        let answer = self.load(&server, None)?;
        let (cpu_after, rss_peak_bytes) = server.process.so_far();
        let broker =
            self.cluster.cpu().zip(broker_before).map(|(after, before)| after.saturating_sub(before));
        Ok(Run {
            side: side.name(),
            batch: self.batch,
            events: answer.events,
            server: Cost {
                cpu_us: cpu_after.saturating_sub(cpu_before).as_micros() as u64,
                elapsed_us: answer.cost.elapsed_us,
            },
            rss_peak_bytes,
            broker_cpu_us: broker.map(|cpu| cpu.as_micros() as u64).filter(|_| side != Side::Embedded),
            load_cpu_us: answer.cost.cpu_us,
            latency: answer.latency,
            steady: None,
            answers: answer.answers,
        })
    }

    /// Requests are due at a steady rate, whatever the answers do.
    fn open(&self, server: Server, events_per_second: f64) -> anyhow::Result<Latency> {
        prime(&server, self.batch)?;
        Ok(self.load(&server, Some(events_per_second / self.batch as f64))?.latency)
    }

    fn load(&self, server: &Server, requests_per_second: Option<f64>) -> anyhow::Result<LoadAnswer> {
        let spec = LoadSpec {
            connections: self.args.connections,
            seconds: self.args.seconds,
            warm_up_seconds: WARM_UP_SECONDS,
            requests_per_second,
            ..spec(server, self.batch)
        };
        let (answer, _) = part("load", &spec).context("the load generator failed")?;
        Ok(answer)
    }
}

/// The first acks of a producer take their time: it has to be given an identity by the cluster.
fn prime(server: &Server, batch: u64) -> anyhow::Result<()> {
    part::<_, LoadAnswer>("load", &spec(server, batch)).context("the server does not take events")?;
    Ok(())
}

/// One connection for half a second, as fast as answers come.
fn spec(server: &Server, batch: u64) -> LoadSpec {
    LoadSpec {
        address: server.address,
        path: server.path.clone(),
        headers: server.headers.clone(),
        batch,
        connections: 1,
        seconds: 0.5,
        warm_up_seconds: 0.0,
        requests_per_second: None,
        shape: Shape {
            events: batch,
            tenants: 100_000,
            zipf: 1.1,
            minutes: MINUTES,
            ends_at_ms: chrono::Utc::now().timestamp_millis(),
            seed: 1,
        },
    }
}

/// Events over HTTP at a steady rate.
pub(super) struct Steady {
    pub(super) events_per_second: f64,
    /// Events of a request.
    pub(super) batch: u64,
    pub(super) connections: u32,
    pub(super) seconds: f64,
}

/// What our collector made of them, and what it took for it.
pub(super) struct Taken {
    /// Acknowledged.
    pub(super) events: u64,
    pub(super) elapsed: Duration,
    /// Requests that were told to come again.
    pub(super) refused: u64,
    /// The longest that an answer took, from when its request was due.
    pub(super) latency_max: Duration,
    pub(super) cpu: Duration,
    pub(super) rss_peak_bytes: u64,
}

/// Our collector alone before a Kafka cluster, under such a load.
pub(super) fn steady(load: &Steady, folder: &Path, brokers: &str, prefix: &str) -> anyhow::Result<Taken> {
    let no_peer = PathBuf::new();
    let place = Place { folder, brokers, prefix, partitions: 4, benthos: no_peer };
    let mut server = place.start(Side::Kafka)?;
    prime(&server, load.batch)?;
    let (cpu_before, _) = server.process.so_far();
    let spec = LoadSpec {
        connections: load.connections,
        seconds: load.seconds,
        requests_per_second: Some(load.events_per_second / load.batch as f64),
        ..spec(&server, load.batch)
    };
    let (answer, _): (LoadAnswer, _) = part("load", &spec).context("the load generator failed")?;
    let (cpu, rss_peak_bytes) = server.process.so_far();
    let refused =
        answer.answers.iter().filter(|(status, _)| !(200..300).contains(*status)).map(|(_, n)| n).sum();
    Ok(Taken {
        events: answer.events,
        elapsed: Duration::from_micros(answer.cost.elapsed_us),
        refused,
        latency_max: Duration::from_micros(answer.latency.max_us.into()),
        cpu: cpu.saturating_sub(cpu_before),
        rss_peak_bytes,
    })
}
