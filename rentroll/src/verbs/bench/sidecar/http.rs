//! The collector taking events over HTTP.

use std::path::Path;

use super::{Args, Run};
use crate::output::grouped;
use crate::verbs::bench::ingest::{self, Steady};
use crate::verbs::bench::kafka::Cluster;

pub(super) async fn run(args: &Args, cluster: &Cluster, scratch: &Path) -> anyhow::Result<Run> {
    let folder = scratch.join("http");
    std::fs::create_dir_all(&folder)?;
    let prefix = super::prefix("http");
    drop(cluster.log(&prefix, 4).await?);
    eprintln!("{} events a second over HTTP for {} s…", grouped(&args.rate.to_string()), args.seconds);
    let steady = Steady {
        events_per_second: args.rate as f64,
        batch: args.batch,
        connections: args.connections,
        seconds: args.seconds as f64,
    };
    let taken = ingest::steady(&steady, &folder, &cluster.brokers, &prefix)?;
    Ok(Run {
        input: format!("HTTP, {} events a request", args.batch),
        events: taken.events,
        events_per_second: (taken.events as f64 / taken.elapsed.as_secs_f64()) as u64,
        refused: taken.refused,
        behind_ms: taken.latency_max.as_millis() as u64,
        cpu_ms: taken.cpu.as_millis() as u64,
        rss_peak_bytes: taken.rss_peak_bytes,
    })
}
