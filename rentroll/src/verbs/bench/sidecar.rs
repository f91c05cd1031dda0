//! The collector alone, following a log that is written at a steady rate: its memory, and whether it keeps up.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Scratch;
use super::kafka::Cluster;
use super::process::Watched;
use super::writer::{Load, Writer};
use crate::cli::Exit;
use crate::output::{self, Sheet, grouped};

/// How long the collector may be behind once the log is written no more, and still have kept up.
const BEHIND_MAX: Duration = Duration::from_secs(2);
/// How long it is waited for in any case.
const PATIENCE: Duration = Duration::from_secs(120);

/// Arguments of `rentroll bench sidecar`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll bench sidecar                       50,000 lines a second for 30 s, to a Kafka broker of its own
  rentroll bench sidecar --brokers kafka:9092
  rentroll bench sidecar --rate 100000 --json

Exits with 3 if the collector takes more memory than --rss-mib-max, or does not keep up.")]
pub(super) struct Args {
    /// Lines a second.
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
    /// How long they are written.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
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

#[derive(Debug, Serialize)]
struct Report {
    log: String,
    lines: u64,
    bytes: u64,
    lines_per_second: u64,
    /// From the last line written to the last one in Kafka.
    behind_ms: u64,
    cpu_ms: u64,
    cpu_us_per_line: f64,
    lines_per_cpu_second: u64,
    rss_peak_bytes: u64,
    rss_bytes_max: u64,
    holds: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<Exit> {
    let scratch = Scratch::new("sidecar")?;
    let cluster = Cluster::of(args.brokers.as_deref())?;
    let prefix = format!("sidecar-{}.", std::process::id());
    // Opened once, so that the topics are there.
    drop(cluster.log(&prefix, 4).await?);
    let port = rentroll_testing::free_port()?;
    let config = configure(scratch.path(), &cluster.brokers, &prefix, port)?;
    let log = scratch.path().join("access.log");
    std::fs::write(&log, "")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--config").arg(&config).arg("collect").env("RENTROLL_LOG", "error");
    let mut collector = Watched::spawn(&mut command)?;
    let metrics = format!("127.0.0.1:{port}");
    wait_for(&mut collector, &metrics, 0).await?;

    eprintln!("{} lines a second for {} s…", grouped(&args.rate.to_string()), args.seconds);
    let (cpu_before, _) = collector.so_far();
    let started = Instant::now();
    let load = Load { per_second: args.rate, tenants: 10_000, zipf: 1.1, hot: None };
    let writer = Writer::start(&log, load)?;
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let lines = writer.finish()?;
    let written_at = Instant::now();
    wait_for(&mut collector, &metrics, lines).await?;
    let behind = written_at.elapsed();
    let (cpu, rss_peak_bytes) = collector.so_far();
    let cpu = cpu.saturating_sub(cpu_before);
    drop(collector);

    let rss_bytes_max = args.rss_mib_max << 20;
    let report = Report {
        log: cluster.about.clone(),
        lines,
        bytes: std::fs::metadata(&log)?.len(),
        lines_per_second: (lines as f64 / (written_at - started).as_secs_f64()) as u64,
        behind_ms: behind.as_millis() as u64,
        cpu_ms: cpu.as_millis() as u64,
        cpu_us_per_line: (cpu.as_secs_f64() * 1e8 / lines.max(1) as f64).round() / 100.0,
        lines_per_cpu_second: (lines as f64 / cpu.as_secs_f64().max(0.001)) as u64,
        rss_peak_bytes,
        rss_bytes_max,
        holds: rss_peak_bytes <= rss_bytes_max && behind <= BEHIND_MAX,
    };
    show(&report, args.json)?;
    Ok(if report.holds { Exit::Done } else { Exit::DoesNotHold })
}

fn show(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(report);
    }
    let mut sheet = Sheet::new(&[
        "to",
        ">lines/s",
        ">bytes/line",
        ">µs CPU/line",
        ">lines/CPU-s",
        ">behind ms",
        ">peak RSS MiB",
    ]);
    sheet.row(&[
        &report.log,
        &grouped(&report.lines_per_second.to_string()),
        &(report.bytes / report.lines.max(1)).to_string(),
        &format!("{:.2}", report.cpu_us_per_line),
        &grouped(&report.lines_per_cpu_second.to_string()),
        &report.behind_ms.to_string(),
        &format!("{:.1}", report.rss_peak_bytes as f64 / f64::from(1 << 20)),
    ]);
    sheet.print()?;
    eprintln!(
        "{}: at most {} MiB, at most {} s behind",
        if report.holds { "holds" } else { "DOES NOT HOLD" },
        report.rss_bytes_max >> 20,
        BEHIND_MAX.as_secs()
    );
    Ok(())
}

fn configure(folder: &Path, brokers: &str, prefix: &str, port: u16) -> anyhow::Result<std::path::PathBuf> {
    std::fs::write(folder.join("meters.yaml"), "meters: []\n")?;
    let config = folder.join("rentroll.toml");
    let text = format!(
        "[data]\ndir = \"data\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n[log]\nkind = \"kafka\"\npartitions = 4\n\
         [log.kafka]\nbrokers = {brokers:?}\nprefix = {prefix:?}\n\
         [[collector.sources]]\nname = \"web\"\nkind = \"log\"\npaths = [\"access.log\"]\n"
    );
    std::fs::write(&config, text)?;
    Ok(config)
}

/// Waits until the collector says that it has taken `lines` lines; 0 is when it says anything.
async fn wait_for(collector: &mut Watched, address: &str, lines: u64) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Ok(taken) = taken(address).await
            && taken >= lines
        {
            return Ok(());
        }
        anyhow::ensure!(!collector.has_ended()?, "the collector ended by itself");
        anyhow::ensure!(
            Instant::now() < until,
            "the collector has not taken {lines} lines in {} s",
            PATIENCE.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Lines that the collector has taken, by its own metrics.
async fn taken(address: &str) -> anyhow::Result<u64> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let of = |line: &str| {
        let (_, value) = line.strip_prefix("rentroll_collector_records_total{")?.split_once("} ")?;
        value.trim().parse::<f64>().ok()
    };
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "no metrics");
    Ok(answer.lines().filter_map(of).sum::<f64>() as u64)
}
