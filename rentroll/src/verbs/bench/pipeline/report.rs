//! What a pipeline run came to: tables for people, JSON for machines.

use rentroll_collector::outgoing::Encoding;
use serde::Serialize;

use super::Run;
use super::alone::AloneAnswer;
use super::check::Check;
use super::steps::Steps;
use crate::output::{self, Sheet, grouped};
use crate::verbs::bench::events::Shape;

/// Everything.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) shape: Shape,
    pub(super) encoding: Encoding,
    /// Records in the topic, and bytes of their values.
    pub(super) filled: (u64, u64),
    pub(super) kafka: String,
    pub(super) runs: Vec<Run>,
    /// Of each run, if it has one.
    pub(super) checks: Vec<Option<Check>>,
    /// Of our last run, inside.
    pub(super) inside: Steps,
    /// Each step by itself.
    pub(super) alone: AloneAnswer,
}

impl Report {
    /// Whether we stored what was sent, every time. The peer promises no more than at least once.
    pub(super) fn adds_up(&self) -> bool {
        self.checked()
            .filter(|(run, _)| run.side == super::OWN)
            .all(|(_, check)| check.differences.is_empty())
    }

    fn checked(&self) -> impl Iterator<Item = (&Run, &Check)> {
        self.runs.iter().zip(&self.checks).filter_map(|(run, check)| Some((run, check.as_ref()?)))
    }

    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        for (run, check) in self.checked() {
            for difference in &check.differences {
                eprintln!("DIFFERS: {}: {difference}", run.side);
            }
        }
        if json {
            return output::json(self);
        }
        let events = self.shape.events;
        let (records, bytes) = self.filled;
        eprintln!(
            "{} events of {} bytes in {} records ({}), {} tenants by Zipf {}, {} minutes; {}; {} cores",
            grouped(&events.to_string()),
            bytes / events.max(1),
            grouped(&records.to_string()),
            if self.encoding == Encoding::Json { "JSON" } else { "compact" },
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
            ">least to most",
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
                &self.spread(side),
                &format!("{:.2}", own.work.per_cpu_second(events) / rate),
                &whole(run.work.per_second(events)),
                &(run.rss_peak_bytes >> 20).to_string(),
                &format!("{:.2}", run.startup.cpu_us as f64 / 1e6),
                &format!("{:.2}", run.startup.elapsed_us as f64 / 1e6),
            ]);
        }
        sheet.print()?;
        self.print_steps()?;
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

    /// The runs of a side, the cheapest first.
    fn by_cost(&self, side: &str) -> Vec<&Run> {
        let mut runs: Vec<&Run> = self.runs.iter().filter(|run| run.side == side).collect();
        runs.sort_by_key(|run| run.work.cpu_us);
        runs
    }

    /// The run of a side whose CPU time is in the middle.
    fn median(&self, side: &str) -> &Run {
        let runs = self.by_cost(side);
        runs[(runs.len() - 1) / 2]
    }

    /// Of a side's runs, the cheapest and the dearest.
    fn spread(&self, side: &str) -> String {
        let runs = self.by_cost(side);
        let us = |run: Option<&&Run>| run.map_or(0.0, |run| run.work.us_per_event(self.shape.events));
        format!("{:.2} to {:.2}", us(runs.first()), us(runs.last()))
    }

    /// Beside each step alone, the same step inside the whole. What the workers' threads do not take is the client
    /// of Kafka, by its threads' names, and the store.
    fn print_steps(&self) -> anyhow::Result<()> {
        let whole = self.runs.iter().rfind(|run| run.side == super::OWN);
        let Some(whole) = whole else { return Ok(()) };
        let inside_us = |cpu_s: f64| cpu_s * 1e6 / self.shape.events.max(1) as f64;
        let alone_us = |step: &str| self.alone.steps.of(step) * 1e6 / self.alone.events.max(1) as f64;
        let client: u64 =
            whole.threads.iter().filter(|(name, _)| name.starts_with("rdk:")).map(|(_, ms)| ms).sum();
        let consume = self.inside.of("consume") + client as f64 / 1e3;
        let [judge, dedup, encode] = ["judge", "dedup", "encode"].map(|step| self.inside.of(step));
        let all = whole.work.cpu_us as f64 / 1e6;
        let insert = all - consume - judge - dedup - encode;
        let mut sheet = Sheet::new(&["step", ">alone, µs CPU/event", ">inside the whole"]);
        let row = |sheet: &mut Sheet, name: &str, alone: f64, inside: String| {
            sheet.row(&[name, &format!("{alone:.2}"), &inside]);
        };
        let inside = |cpu_s: f64| format!("{:.2}", inside_us(cpu_s));
        row(&mut sheet, "consume", alone_us("consume"), inside(consume));
        row(&mut sheet, "parse", alone_us("parse"), String::new());
        row(&mut sheet, "verdict", alone_us("judge") - alone_us("parse"), String::new());
        row(&mut sheet, "parse and verdict", alone_us("judge"), inside(judge));
        row(&mut sheet, "dedup", alone_us("dedup"), inside(dedup));
        row(&mut sheet, "encode", alone_us("encode"), inside(encode));
        row(&mut sheet, "insert, events and three rollups", alone_us("insert"), inside(insert));
        let sum: f64 =
            ["consume", "judge", "dedup", "encode", "insert"].iter().map(|step| alone_us(step)).sum();
        row(&mut sheet, "sum", sum, inside(all));
        row(
            &mut sheet,
            "the whole ÷ the sum of the steps alone",
            1.0,
            format!("{:.2}", inside_us(all) / sum),
        );
        sheet.print()
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
            for size in self.checks[at].iter().flat_map(|check| &check.sizes) {
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
