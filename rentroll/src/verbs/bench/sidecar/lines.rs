//! The collector following a log.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Args, Run};
use crate::output::grouped;
use crate::verbs::bench::kafka::Cluster;
use crate::verbs::bench::process::Watched;
use crate::verbs::bench::this_binary;
use crate::verbs::bench::writer::{Load, Writer};

/// How long it is waited for, however far behind it is.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn run(args: &Args, cluster: &Cluster, scratch: &Path) -> anyhow::Result<Run> {
    let folder = scratch.join("lines");
    std::fs::create_dir_all(&folder)?;
    let prefix = super::prefix("lines");
    // Opened once, so that the topics are there.
    drop(cluster.log(&prefix, 4).await?);
    let port = rentroll_testing::free_port()?;
    let config = configure(&folder, &cluster.brokers, &prefix, port)?;
    let log = folder.join("access.log");
    std::fs::write(&log, "")?;
    let mut command = this_binary()?;
    command.arg("--config").arg(&config).arg("collect");
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
    Ok(Run {
        input: "log lines".to_owned(),
        events: lines,
        events_per_second: (lines as f64 / (written_at - started).as_secs_f64()) as u64,
        refused: 0,
        behind_ms: behind.as_millis() as u64,
        cpu_ms: cpu.saturating_sub(cpu_before).as_millis() as u64,
        rss_peak_bytes,
    })
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
