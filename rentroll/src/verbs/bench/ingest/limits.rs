//! What the machine could do at most: syncs of the same bytes without any server, and Kafka's own load tool.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::load::Latency;
use crate::verbs::bench::process::{Clock, Cost, Watched};

/// What the syncing process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct SyncSpec {
    pub(super) folder: PathBuf,
    /// Bytes between two syncs: what all connections have in flight.
    pub(super) bytes: usize,
    pub(super) seconds: f64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct SyncAnswer {
    pub(super) syncs: u64,
    pub(super) latency: Latency,
    pub(super) cost: Cost,
}

/// The syncing process: writes and syncs, over and over, in a file that grows as a log's segment does.
pub(in crate::verbs::bench) fn part_main(spec: &SyncSpec) -> anyhow::Result<SyncAnswer> {
    /// As large as a segment of the embedded log.
    const FILE_BYTES_MAX: usize = 128 << 20;
    let path = spec.folder.join("sync");
    let open = || std::fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()));
    let bytes = vec![b'x'; spec.bytes];
    let mut file = open()?;
    let (mut written, mut latencies) = (0, Vec::new());
    let clock = Clock::start();
    let end = Instant::now() + Duration::from_secs_f64(spec.seconds);
    while Instant::now() < end {
        if written >= FILE_BYTES_MAX {
            file = open()?;
            written = 0;
        }
        let begun = Instant::now();
        file.write_all(&bytes).and_then(|()| file.sync_data()).context("cannot write and sync")?;
        written += bytes.len();
        latencies.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    let cost = clock.cost();
    Ok(SyncAnswer { syncs: latencies.len() as u64, latency: Latency::of(latencies), cost })
}

/// What Kafka's own load tool reached.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ProducerPerformance {
    pub(super) records: u64,
    pub(super) records_per_second: f64,
    pub(super) p50_us: u32,
    pub(super) p99_us: u32,
    /// Of its process, the start of its virtual machine included.
    pub(super) cost: Cost,
}

/// Runs it with acks=all, batches and compression like our producer's.
pub(super) fn producer_performance(
    tools: &Path,
    brokers: &str,
    topic: &str,
    records: u64,
    record_bytes: u64,
) -> anyhow::Result<ProducerPerformance> {
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-cp"]).arg(tools.join("*")).arg("org.apache.kafka.tools.ProducerPerformance");
    command.args(["--topic", topic, "--throughput", "-1"]);
    command.args(["--num-records", &records.to_string(), "--record-size", &record_bytes.to_string()]);
    command.args(["--producer-props", &format!("bootstrap.servers={brokers}"), "acks=all", "linger.ms=5"]);
    command.args(["batch.size=262144", "compression.type=lz4", "enable.idempotence=true"]);
    let taken = Watched::spawn(&mut command)?.wait()?;
    let said = &taken.stdout;
    let line = said
        .lines()
        .rev()
        .find(|line| line.contains("99th"))
        .context("ProducerPerformance gave no summary")?;
    let (records_per_second, p50_ms, p99_ms) =
        parse(line).with_context(|| format!("cannot read what ProducerPerformance said: {line}"))?;
    let us = |ms: f64| (ms * 1e3) as u32;
    Ok(ProducerPerformance {
        records,
        records_per_second,
        p50_us: us(p50_ms),
        p99_us: us(p99_ms),
        cost: taken.cost,
    })
}

/// `… 712301.5 records/sec (…), … ms avg latency, … ms max latency, 3 ms 50th, 9 ms 95th, 12 ms 99th, …`
fn parse(line: &str) -> Option<(f64, f64, f64)> {
    let before =
        |word: &str| line.split(word).next()?.split([',', ' ']).rfind(|text| !text.is_empty())?.parse().ok();
    Some((before(" records/sec")?, before(" ms 50th")?, before(" ms 99th")?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_the_summary_of_the_load_tool() {
        let line = "2000000 records sent, 712301.5 records/sec (169.83 MB/sec), 12.34 ms avg latency, 250.00 ms max latency, 3 ms 50th, 90 ms 95th, 121 ms 99th, 130 ms 99.9th.";
        assert_eq!(super::parse(line), Some((712_301.5, 3.0, 121.0)));
        assert_eq!(super::parse("no such thing"), None);
    }
}
