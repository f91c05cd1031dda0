//! The tally of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::check::{Difference, Found};
use super::model::Expected;
use super::schedule::{Kind, LogSide};
use crate::output::{self, Sheet, grouped};

/// What became of one kind of fault.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Counted {
    /// Done.
    pub(super) injected: u64,
    /// Of these: events were stored again afterwards.
    pub(super) survived: u64,
    /// Found nothing to hurt, such as a trap that no insert came to.
    pub(super) missed: u64,
    /// The longest time without a stored event, from the fault until one was; alone or with another.
    pub(super) silence_ms_max: u64,
}

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Decided everything but the timing.
    pub(super) seed: u64,
    /// Faults asked for.
    pub(super) faults: usize,
    /// Which log.
    pub(super) log: LogSide,
    /// How many brokers.
    pub(super) brokers: usize,
    /// How long it took.
    pub(super) seconds: f64,
    /// Whether everything holds.
    pub(super) holds: bool,
    /// By kind.
    pub(super) kinds: BTreeMap<Kind, Counted>,
    /// Kinds that could not be done here, and why.
    pub(super) not_run: BTreeMap<Kind, String>,
    /// Comparisons of the store with the model.
    pub(super) comparisons: u64,
    /// By the model.
    pub(super) expected: Expected,
    /// By the store, at the last comparison.
    pub(super) found: Found,
    /// Duplicates that were recognised, by the books.
    pub(super) duplicates: u64,
    /// Repairs of rollups.
    pub(super) repairs: u64,
    /// Rotations of the followed logs, by step.
    pub(super) rotations: BTreeMap<&'static str, u64>,
    /// Ends of processes that no fault asked for; each was started again.
    pub(super) ended_by_themselves: BTreeMap<String, u64>,
    /// What does not hold, beside differences.
    pub(super) complaints: Vec<String>,
    /// Logs and configuration, if they were kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kept: Option<String>,
}

impl Report {
    /// Counts a fault.
    pub(super) fn count(&mut self, kind: Kind, was_done: bool, survived: bool, silence: Duration) {
        let counted = self.kinds.entry(kind).or_default();
        if !was_done {
            counted.missed += 1;
            return;
        }
        counted.injected += 1;
        counted.survived += u64::from(survived);
        let silence_ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
        counted.silence_ms_max = counted.silence_ms_max.max(silence_ms);
    }

    /// Prints it.
    ///
    /// # Errors
    /// If stdout is closed.
    pub(super) fn print(&self, as_json: bool) -> anyhow::Result<()> {
        if as_json {
            return output::json(self);
        }
        let mut sheet = Sheet::new(&["fault", ">injected", ">survived", ">missed", ">longest silence (s)"]);
        let mut total = Counted::default();
        for (kind, counted) in &self.kinds {
            sheet.row(&row(&name(*kind), counted));
            total.injected += counted.injected;
            total.survived += counted.survived;
            total.missed += counted.missed;
            total.silence_ms_max = total.silence_ms_max.max(counted.silence_ms_max);
        }
        sheet.row(&row("all", &total));
        sheet.print()?;
        for (kind, reason) in &self.not_run {
            output::line(&format!("not run: {}: {reason}", name(*kind)))?;
        }
        let Report { expected, found, .. } = self;
        let counts = [
            ("items sent", expected.sent),
            ("acknowledged", expected.acked),
            ("distinct events among them", expected.events),
            ("events stored", found.stored),
            ("of these count, after corrections", found.counting),
            ("rows beyond one for each", found.doubled),
            ("lines written, known by their place", expected.lines),
            ("of these stored", found.lines),
            ("duplicates recognised", self.duplicates),
            ("rejects expected", expected.rejects),
            ("rejects kept", found.rejects),
            ("rollup repairs", self.repairs),
            ("comparisons to the event", self.comparisons),
            ("differences", found.differing),
        ];
        output::line("")?;
        for (what, count) in counts {
            output::line(&format!("{:>14}  {what}", grouped(&count.to_string())))?;
        }
        if !self.rotations.is_empty() {
            let steps: Vec<String> =
                self.rotations.iter().map(|(step, count)| format!("{step} {count}")).collect();
            output::line(&format!("followed logs rotated: {}", steps.join(", ")))?;
        }
        for (name, count) in &self.ended_by_themselves {
            output::line(&format!("{name} ended by itself {count} times, and was started again"))?;
        }
        for Difference { what, identity, model, store } in &found.differences {
            output::line(&format!("\n{what}: {identity}\n  model: {model}\n  store: {store}"))?;
        }
        for complaint in &self.complaints {
            output::line(&format!("\n{complaint}"))?;
        }
        let (seed, seconds) = (self.seed, self.seconds);
        output::line(&match self.holds {
            true => format!("\nseed {seed}: everything holds after {seconds:.0} s"),
            false => format!(
                "\nseed {seed}: IT DOES NOT HOLD, after {seconds:.0} s; again with --seed {seed} --faults {}",
                self.faults
            ),
        })?;
        match &self.kept {
            Some(folder) => output::line(&format!("logs and configuration are in {folder}")),
            None => Ok(()),
        }
    }
}

fn row(name: &str, counted: &Counted) -> [String; 5] {
    [
        name.to_owned(),
        counted.injected.to_string(),
        counted.survived.to_string(),
        counted.missed.to_string(),
        format!("{:.1}", counted.silence_ms_max as f64 / 1e3),
    ]
}

/// As the JSON names it, for people.
pub(super) fn name(kind: Kind) -> String {
    // An enum of plain names serialises to a string.
    serde_json::to_value(kind)
        .ok()
        .and_then(|name| Some(name.as_str()?.replace('_', " ")))
        .unwrap_or_default()
}
