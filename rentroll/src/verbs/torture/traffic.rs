//! Those who send: two logs that grow and are rotated, and clients over HTTP.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use chrono::Utc;
use tokio::sync::Mutex;

use super::clients;
use super::dice::Dice;
use super::items::Stream;
use super::lines::{self, Written};
use super::model::Sent;
use super::rotate::RotatedLog;

/// Name of the followed source, and `source` of its events.
pub(super) const LOG_SOURCE: &str = "torture-log";
/// The trusted source that the clients are, and `source` of their events.
pub(super) const HTTP_SOURCE: &str = "torture-http";
/// Clients over HTTP.
const CLIENTS: u64 = 3;
/// Between two writes of the file.
const TICK: Duration = Duration::from_millis(20);
/// One write in so many is a burst, this many times as long.
const BURST: (u64, u64) = (150, 40);

/// All that is sent.
#[derive(Debug)]
pub(super) struct Traffic {
    /// By way of sending.
    pub(super) streams: Vec<Arc<Sent>>,
    /// Lines that are known by their place.
    pub(super) written: Arc<Written>,
    logs: Vec<Arc<StdMutex<RotatedLog>>>,
    /// Held while something is handed over.
    gates: Vec<Arc<Mutex<()>>>,
    tasks: Vec<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl Traffic {
    /// Begins to send, about `rate` items a second: half into the log `followed`, half to `url` with `token`; and half as
    /// many lines into the log `places`.
    ///
    /// # Errors
    /// If a log cannot be made.
    pub(super) fn begin(
        seed: u64,
        rate: u64,
        followed: &Path,
        places: &Path,
        url: &str,
        token: &str,
    ) -> anyhow::Result<Self> {
        let begun = Utc::now();
        let rotated = |path, purpose| -> anyhow::Result<_> {
            Ok(Arc::new(StdMutex::new(RotatedLog::new(path, Dice::new(seed, purpose))?)))
        };
        let logs = vec![rotated(followed, 4)?, rotated(places, 5)?];
        let log = Stream { seed, source: LOG_SOURCE, begun, has_garbage: true };
        let log = Arc::new(Sent::new(log, false));
        let gate = Arc::new(Mutex::new(()));
        let half = rate.div_ceil(2);
        let write = write_lines(logs[0].clone(), log.clone(), gate.clone(), half, Dice::new(seed, 3));
        let (mut gates, mut tasks) = (vec![gate], vec![tokio::spawn(write)]);
        let (written, gate) = (Arc::new(Written::default()), Arc::new(Mutex::new(())));
        let dice = Dice::new(seed, 6);
        let write =
            lines::write(logs[1].clone(), written.clone(), gate.clone(), half.div_ceil(2), begun, dice);
        gates.push(gate);
        tasks.push(tokio::spawn(write));
        // What is no JSON at all spoils a request, not an event of it.
        let http = Stream { seed: !seed, source: HTTP_SOURCE, begun, has_garbage: false };
        let http = Arc::new(Sent::new(http, true));
        for client in 0..CLIENTS {
            let gate = Arc::new(Mutex::new(()));
            let dice = Dice::new(seed, 100 + client);
            let each = half.div_ceil(CLIENTS);
            let (url, token) = (url.to_owned(), token.to_owned());
            tasks.push(tokio::spawn(clients::send(url, token, http.clone(), gate.clone(), each, dice)));
            gates.push(gate);
        }
        Ok(Traffic { streams: vec![log, http], written, logs, gates, tasks })
    }

    /// Items handed over so far.
    pub(super) fn sent(&self) -> u64 {
        self.streams.iter().map(|sent| sent.len()).sum()
    }

    /// The streams, for a comparison.
    pub(super) fn all(&self) -> Vec<&Sent> {
        self.streams.iter().map(AsRef::as_ref).collect()
    }

    /// Takes the oldest rotated files away. To be called while all are held back and all is stored.
    ///
    /// # Errors
    /// What could not be removed.
    pub(super) fn take_old_logs_away(&self) -> anyhow::Result<()> {
        let mut logs = self.logs.iter().map(|log| log.lock().unwrap_or_else(PoisonError::into_inner));
        logs.try_for_each(|log| log.take_old_away())
    }

    /// Rotates the logs from now on: they are followed.
    pub(super) fn rotate(&self) {
        for log in &self.logs {
            log.lock().unwrap_or_else(PoisonError::into_inner).set_followed();
        }
    }

    /// How often the logs were rotated, by step.
    pub(super) fn rotations(&self) -> BTreeMap<&'static str, u64> {
        let mut sum = BTreeMap::new();
        for log in &self.logs {
            for (step, count) in log.lock().unwrap_or_else(PoisonError::into_inner).done() {
                *sum.entry(*step).or_default() += count;
            }
        }
        sum
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
    log: Arc<StdMutex<RotatedLog>>,
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
        log.lock().unwrap_or_else(PoisonError::into_inner).append(&text, count)?;
        sent.acked(first, count);
        drop(held);
        tokio::time::sleep(TICK).await;
    }
}
