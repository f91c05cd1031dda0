//! The collector alone at a steady rate, as it runs beside an application: following a log that is written, and taking
//! events over HTTP. How much memory it takes, and whether it keeps up.

use std::time::Duration;

use serde::Serialize;

use super::Scratch;
use super::kafka::Cluster;
use crate::cli::Exit;
use crate::output::{self, Sheet, grouped};

mod http;
mod lines;

/// How far the collector may be behind, and still keep up.
const BEHIND_MAX: Duration = Duration::from_secs(2);

/// Arguments of `rentroll bench sidecar`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll bench sidecar                       50,000 events a second for 30 s, to a Kafka broker of its own
  rentroll bench sidecar --brokers kafka:9092
  rentroll bench sidecar --rate 100000 --json

Exits with 3 if the collector takes more memory than --rss-mib-max, or does not keep up.")]
pub(super) struct Args {
    /// Events a second: lines of a log, then events over HTTP.
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
    /// For how long, each.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Events of a request.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Connections that send at the same time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// The most memory that the process may ever hold, MiB.
    #[arg(long, default_value_t = 32)]
    rss_mib_max: u64,
    /// A Kafka cluster; without it a broker is started.
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// One way in.
#[derive(Debug, Serialize)]
struct Run {
    input: String,
    events: u64,
    events_per_second: u64,
    /// Requests that were told to come again; a log never is.
    refused: u64,
    /// A log: from the last line written to the last one in Kafka. HTTP: from when a request was due to its answer,
    /// of all requests the longest.
    behind_ms: u64,
    cpu_ms: u64,
    rss_peak_bytes: u64,
}

impl Run {
    fn holds(&self, rss_bytes_max: u64) -> bool {
        self.rss_peak_bytes <= rss_bytes_max
            && u128::from(self.behind_ms) <= BEHIND_MAX.as_millis()
            && self.refused == 0
    }

    fn cpu_us_per_event(&self) -> f64 {
        self.cpu_ms as f64 * 1e3 / self.events.max(1) as f64
    }
}

#[derive(Debug, Serialize)]
struct Report {
    log: String,
    runs: [Run; 2],
    rss_bytes_max: u64,
    holds: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<Exit> {
    let scratch = Scratch::new("sidecar")?;
    let cluster = Cluster::of(args.brokers.as_deref())?;
    let lines = lines::run(args, &cluster, scratch.path()).await?;
    let http = http::run(args, &cluster, scratch.path()).await?;
    let rss_bytes_max = args.rss_mib_max << 20;
    let runs = [lines, http];
    let holds = runs.iter().all(|run| run.holds(rss_bytes_max));
    let report = Report { log: cluster.about.clone(), runs, rss_bytes_max, holds };
    show(&report, args.json)?;
    Ok(if holds { Exit::Done } else { Exit::DoesNotHold })
}

/// Topics' names begin with it.
fn prefix(input: &str) -> String {
    format!("sidecar-{input}-{}.", std::process::id())
}

fn show(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(report);
    }
    let mut sheet = Sheet::new(&[
        "from",
        ">events/s",
        ">µs CPU/event",
        ">events/CPU-s",
        ">behind ms",
        ">refused",
        ">peak RSS MiB",
    ]);
    for run in &report.runs {
        let events_per_cpu_second = 1e6 / run.cpu_us_per_event().max(1e-3);
        sheet.row(&[
            &run.input,
            &grouped(&run.events_per_second.to_string()),
            &format!("{:.2}", run.cpu_us_per_event()),
            &grouped(&format!("{events_per_cpu_second:.0}")),
            &run.behind_ms.to_string(),
            &run.refused.to_string(),
            &format!("{:.1}", run.rss_peak_bytes as f64 / f64::from(1 << 20)),
        ]);
    }
    sheet.print()?;
    eprintln!(
        "to {}; {}: at most {} MiB, at most {} s behind",
        report.log,
        if report.holds { "holds" } else { "DOES NOT HOLD" },
        report.rss_bytes_max >> 20,
        BEHIND_MAX.as_secs()
    );
    Ok(())
}
