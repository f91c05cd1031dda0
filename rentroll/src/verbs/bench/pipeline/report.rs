//! What a pipeline run came to: tables for people, JSON for machines.

use serde::Serialize;

use super::Run;
use super::check::Check;
use super::steps::Steps;
use crate::output::{self, Sheet, grouped};
use crate::verbs::bench::events::Shape;

/// Everything.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) shape: Shape,
    /// Records in the topic, and bytes of their values.
    pub(super) filled: (u64, u64),
    pub(super) kafka: String,
    pub(super) runs: Vec<Run>,
    pub(super) checks: Vec<Check>,
    /// Of our last run, inside.
    pub(super) steps: Steps,
}

impl Report {
    /// Whether every side stored what was sent.
    pub(super) fn adds_up(&self) -> bool {
        self.checks.iter().all(|check| check.differences.is_empty())
    }

    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        for difference in self.checks.iter().flat_map(|check| &check.differences) {
            eprintln!("DIFFERS: {difference}");
        }
        if json {
            return output::json(self);
        }
        let events = self.shape.events;
        let (records, bytes) = self.filled;
        eprintln!(
            "{} events of {} bytes in {} records, {} tenants by Zipf {}, {} minutes; {}; {} cores",
            grouped(&events.to_string()),
            bytes / events.max(1),
            grouped(&records.to_string()),
            grouped(&self.shape.tenants.to_string()),
            self.shape.zipf,
            self.shape.minutes,
            self.kafka,
            std::thread::available_parallelism().map_or(1, usize::from),
        );
        let own = self.median(super::OWN);
        let mut sheet = Sheet::new(&[
            "side",
            ">events/CPU-s",
            ">µs CPU/event",
            ">rentroll ÷ it",
            ">events/s",
            ">peak MiB",
            ">startup CPU s",
            ">startup s",
        ]);
        for side in self.sides() {
            let run = self.median(side);
            let rate = run.work.per_cpu_second(events);
            sheet.row(&[
                side,
                &whole(rate),
                &format!("{:.2}", run.work.us_per_event(events)),
                &format!("{:.2}", own.work.per_cpu_second(events) / rate),
                &whole(run.work.per_second(events)),
                &(run.rss_peak_bytes >> 20).to_string(),
                &format!("{:.2}", run.startup.cpu_us as f64 / 1e6),
                &format!("{:.2}", run.startup.elapsed_us as f64 / 1e6),
            ]);
        }
        sheet.print()?;
        self.print_threads()?;
        self.print_sizes()
    }

    fn sides(&self) -> Vec<&'static str> {
        let mut sides = Vec::new();
        for run in &self.runs {
            if !sides.contains(&run.side) {
                sides.push(run.side);
            }
        }
        sides
    }

    /// The run of a side whose CPU time is in the middle.
    fn median(&self, side: &str) -> &Run {
        let mut runs: Vec<&Run> = self.runs.iter().filter(|run| run.side == side).collect();
        runs.sort_by_key(|run| run.work.cpu_us);
        runs[(runs.len() - 1) / 2]
    }

    fn print_threads(&self) -> anyhow::Result<()> {
        let run = self.median(super::OWN);
        let mut sheet = Sheet::new(&["threads of rentroll aggregate", ">CPU s", ">µs/event"]);
        for (name, ms) in run.threads.iter().take(12) {
            let us = *ms as f64 * 1e3 / self.shape.events.max(1) as f64;
            sheet.row(&[name, &format!("{:.2}", *ms as f64 / 1e3), &format!("{us:.2}")]);
        }
        sheet.print()
    }

    fn print_sizes(&self) -> anyhow::Result<()> {
        let mut sheet = Sheet::new(&[
            "side",
            "table",
            ">rows",
            ">bytes/event",
            ">rows merged",
            ">bytes/event merged",
            "largest columns, bytes/event",
        ]);
        let per_event = |bytes: u64| format!("{:.1}", bytes as f64 / self.shape.events.max(1) as f64);
        for side in self.sides() {
            let Some(at) = self.runs.iter().position(|run| run.side == side) else { continue };
            for size in &self.checks[at].sizes {
                let columns: Vec<String> = size
                    .columns
                    .iter()
                    .take(4)
                    .map(|(name, bytes)| format!("{name} {}", per_event(*bytes)))
                    .collect();
                sheet.row(&[
                    side,
                    &size.table,
                    &grouped(&size.rows[0].to_string()),
                    &per_event(size.bytes[0]),
                    &grouped(&size.rows[1].to_string()),
                    &per_event(size.bytes[1]),
                    &columns.join(", "),
                ]);
            }
        }
        sheet.print()
    }
}

fn whole(number: f64) -> String {
    grouped(&format!("{number:.0}"))
}
