//! How far a run is: a bar on a terminal, else a line now and then.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::grouped;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Shows it, on stderr.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    faults: u64,
    done: u64,
    begun: Instant,
    said: Instant,
}

impl Progress {
    /// For that many faults.
    pub(super) fn begin(faults: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(faults));
        if let (Some(bar), Ok(style)) =
            (&bar, ProgressStyle::with_template("{bar:30} {pos}/{len} faults, {msg}, ETA {eta}"))
        {
            bar.set_style(style);
        }
        Progress { bar, faults, done: 0, begun: Instant::now(), said: Instant::now() }
    }

    /// Some faults are done.
    pub(super) fn step(&mut self, faults: u64, sent: u64, stored: u64) {
        self.done += faults;
        let counts = format!(
            "{} items sent, {} events stored",
            grouped(&sent.to_string()),
            grouped(&stored.to_string())
        );
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
            bar.set_message(counts);
        } else if self.said.elapsed() >= LINE_EVERY {
            self.said = Instant::now();
            let each = self.begun.elapsed().as_secs_f64() / self.done.max(1) as f64;
            let left = each * self.faults.saturating_sub(self.done) as f64;
            eprintln!(
                "{}/{} faults, {counts}, ETA {left:.0} s ({each:.1} s a fault)",
                self.done, self.faults
            );
        }
    }

    /// What is being done now.
    pub(super) fn say(&self, what: &'static str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
