//! Progress of long work, on a terminal only.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rentroll_collector::collect::Progress;
use rentroll_engines::store::Store;

/// Shows how far the collectors are until it is dropped.
#[derive(Debug)]
pub struct Shown {
    bar: ProgressBar,
    task: tokio::task::JoinHandle<()>,
    started: Instant,
    progress: Arc<Progress>,
}

impl Shown {
    /// Begins.
    pub fn start(progress: Arc<Progress>) -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {msg} ETA {eta}") {
            bar.set_style(style);
        }
        let started = Instant::now();
        let (shown, read) = (bar.clone(), progress.clone());
        let task = tokio::spawn(async move {
            loop {
                shown.set_length(read.bytes_total.load(Ordering::Relaxed));
                shown.set_position(read.bytes.load(Ordering::Relaxed));
                let lines = read.accepted.load(Ordering::Relaxed) + read.rejected.load(Ordering::Relaxed);
                let rate = lines as f64 / started.elapsed().as_secs_f64().max(0.001);
                shown.set_message(format!("{lines} lines, {rate:.0} lines/s"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Shown { bar, task, started, progress }
    }

    /// Begins, for a chain that will have stored `rows_total` events: shows how many the store holds.
    pub fn of_rows(progress: Arc<Progress>, store: Store, rows_total: u64) -> Self {
        let started = Instant::now();
        let (bar, task) = match std::io::stderr().is_terminal() {
            false => (ProgressBar::hidden(), tokio::spawn(async {})),
            true => {
                let bar = rows_bar(rows_total);
                let shown = bar.clone();
                let task = tokio::spawn(async move {
                    loop {
                        // A question that fails is no reason to end: what it asks after goes on.
                        let asked = store.client().query("SELECT count() FROM events").fetch_one::<u64>();
                        if let Ok(rows) = asked.await {
                            shown.set_position(rows);
                        }
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                });
                (bar, task)
            }
        };
        Shown { bar, task, started, progress }
    }

    /// Ends; returns a sentence of what was done.
    pub fn finish(self) -> String {
        let accepted = self.progress.accepted.load(Ordering::Relaxed);
        let rejected = self.progress.rejected.load(Ordering::Relaxed);
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let rate = (accepted + rejected) as f64 / seconds;
        format!(
            "{} lines read in {seconds:.1} s ({rate:.0} lines/s): {accepted} accepted, {rejected} rejected",
            accepted + rejected
        )
    }
}

/// A bar over rows, with their rate and when they will be done.
pub fn rows_bar(rows_total: u64) -> ProgressBar {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(rows_total),
        false => ProgressBar::hidden(),
    };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} rows {per_sec} ETA {eta}") {
        bar.set_style(style);
    }
    bar
}

/// Says that something is being done whose length is not known, until it is cleared.
pub fn spinner(doing: String) -> ProgressBar {
    let spinner = match std::io::stderr().is_terminal() {
        true => ProgressBar::new_spinner(),
        false => ProgressBar::hidden(),
    };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.set_message(doing);
    spinner.enable_steady_tick(Duration::from_millis(200));
    spinner
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}
