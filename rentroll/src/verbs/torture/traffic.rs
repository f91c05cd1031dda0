//! Those who send: a log file that grows.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use tokio::sync::Mutex;

use super::dice::Dice;
use super::items::Stream;
use super::model::Sent;

/// Name of the followed source, and `source` of its events.
pub(super) const LOG_SOURCE: &str = "torture-log";
/// Between two writes of the file.
const TICK: Duration = Duration::from_millis(20);
/// One write in so many is a burst, this many times as long.
const BURST: (u64, u64) = (150, 40);

/// All that is sent.
#[derive(Debug)]
pub(super) struct Traffic {
    /// By way of sending.
    pub(super) streams: Vec<Arc<Sent>>,
    /// Held while something is handed over.
    gates: Vec<Arc<Mutex<()>>>,
    tasks: Vec<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl Traffic {
    /// Begins to send, about `rate` items a second.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub(super) fn begin(seed: u64, rate: u64, begun: DateTime<Utc>, followed: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(followed);
        let file = file.with_context(|| format!("cannot write {}", followed.display()))?;
        let log = Arc::new(Sent::new(Stream { seed, source: LOG_SOURCE, begun }, false));
        let gate = Arc::new(Mutex::new(()));
        let tasks =
            vec![tokio::spawn(write_lines(file, log.clone(), gate.clone(), rate, Dice::new(seed, 3)))];
        Ok(Traffic { streams: vec![log], gates: vec![gate], tasks })
    }

    /// Items handed over so far.
    pub(super) fn sent(&self) -> u64 {
        self.streams.iter().map(|sent| sent.len()).sum()
    }

    /// The streams, for a comparison.
    pub(super) fn all(&self) -> Vec<&Sent> {
        self.streams.iter().map(AsRef::as_ref).collect()
    }

    /// Holds all back until the answer is dropped; what was begun is done first.
    pub(super) async fn hold(&self) -> Vec<tokio::sync::OwnedMutexGuard<()>> {
        let mut held = Vec::new();
        for gate in &self.gates {
            held.push(gate.clone().lock_owned().await);
        }
        held
    }

    /// Whether somebody who sends has failed.
    ///
    /// # Errors
    /// Why.
    pub(super) async fn check(&mut self) -> anyhow::Result<()> {
        for task in &mut self.tasks {
            if task.is_finished() {
                return task.await.context("a sender broke off")?;
            }
        }
        Ok(())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A program that writes its log. A line that is in the file is accepted: the file is not lost.
async fn write_lines(
    mut file: File,
    sent: Arc<Sent>,
    gate: Arc<Mutex<()>>,
    rate: u64,
    mut dice: Dice,
) -> anyhow::Result<()> {
    let each = (rate * TICK.as_millis() as u64 / 1_000).max(1);
    loop {
        let held = gate.lock().await;
        let count = if dice.below(BURST.0) == 0 { each * BURST.1 } else { dice.between(1, 2 * each + 1) };
        let first = sent.hand_over(count);
        let mut text = String::new();
        for n in first..first + count {
            text += &sent.stream.json(n);
            text.push('\n');
        }
        file.write_all(text.as_bytes()).context("cannot write the followed log")?;
        sent.acked(first, count);
        drop(held);
        tokio::time::sleep(TICK).await;
    }
}
