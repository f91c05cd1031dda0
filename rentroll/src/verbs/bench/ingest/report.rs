//! What an ingest benchmark came to.

use serde::Serialize;

use super::limits::{ProducerPerformance, SyncAnswer};
use super::sides::Side;
use super::{Args, Run};
use crate::output::{self, Sheet, grouped};

/// Of an event, about: what the limits are measured with.
pub(super) const EVENT_BYTES: u64 = 250;

/// Everything.
#[derive(Serialize)]
pub(super) struct Report {
    kafka: String,
    connections: u32,
    pub(super) runs: Vec<Run>,
    /// By batch.
    pub(super) syncs: Vec<(u64, SyncAnswer)>,
    pub(super) producer: Option<ProducerPerformance>,
}

impl Report {
    pub(super) fn new(args: &Args, kafka: &str) -> Self {
        Report {
            kafka: kafka.to_owned(),
            connections: args.connections,
            runs: Vec::new(),
            syncs: Vec::new(),
            producer: None,
        }
    }

    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return output::json(self);
        }
        eprintln!(
            "{} connections; {}; {} cores",
            self.connections,
            self.kafka,
            std::thread::available_parallelism().map_or(1, usize::from)
        );
        let mut sheet = Sheet::new(&[
            ">batch",
            "side",
            ">events/CPU-s",
            ">÷ Benthos",
            ">events/s",
            ">p50 ms",
            ">p99 ms",
            ">steady events/s",
            ">p50 ms",
            ">p99 ms",
            ">peak MiB",
            ">broker µs/event",
            ">load µs/event",
            "not 2xx",
        ]);
        for run in &self.runs {
            let rate = run.server.per_cpu_second(run.events);
            let peer =
                self.runs.iter().find(|peer| peer.batch == run.batch && peer.side == Side::Benthos.name());
            let steady = run.steady.unwrap_or_default();
            let per_event = |us: u64| format!("{:.2}", us as f64 / run.events.max(1) as f64);
            let refused: u64 =
                run.answers.iter().filter(|(status, _)| !(200..300).contains(*status)).map(|(_, n)| n).sum();
            sheet.row(&[
                run.batch.to_string(),
                run.side.to_owned(),
                whole(rate),
                peer.map_or(String::new(), |peer| {
                    format!("{:.2}", rate / peer.server.per_cpu_second(peer.events))
                }),
                whole(run.server.per_second(run.events)),
                ms(run.latency.p50_us),
                ms(run.latency.p99_us),
                whole(steady.0),
                ms(steady.1.p50_us),
                ms(steady.1.p99_us),
                (run.rss_peak_bytes >> 20).to_string(),
                run.broker_cpu_us.map_or(String::new(), per_event),
                per_event(run.load_cpu_us),
                refused.to_string(),
            ]);
        }
        sheet.print()?;
        let mut sheet = Sheet::new(&["limit", ">events/s", ">events/CPU-s", ">p50 ms", ">p99 ms"]);
        for (batch, sync) in &self.syncs {
            let events = sync.syncs * batch * u64::from(self.connections);
            sheet.row(&[
                format!("write and fdatasync of {} batches of {batch}", self.connections),
                whole(sync.cost.per_second(events)),
                whole(sync.cost.per_cpu_second(events)),
                ms(sync.latency.p50_us),
                ms(sync.latency.p99_us),
            ]);
        }
        if let Some(producer) = &self.producer {
            sheet.row(&[
                "Kafka's ProducerPerformance 4.3.1, acks=all, lz4".to_owned(),
                whole(producer.records_per_second),
                whole(producer.cost.per_cpu_second(producer.records)),
                ms(producer.p50_us),
                ms(producer.p99_us),
            ]);
        }
        sheet.print()
    }
}

fn whole(number: f64) -> String {
    grouped(&format!("{number:.0}"))
}

fn ms(us: u32) -> String {
    format!("{:.2}", f64::from(us) / 1e3)
}
