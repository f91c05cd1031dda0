//! Ready means that it makes progress, not that a port is open.
//!
//! A process is ready if every part of it is. A part is not ready
//! - while it fails: it says why ([`Part::failing`]);
//! - if it has work to do and has got nothing done for [`STALL`];
//! - if it reads the log and its lag does not shrink: [`lag::LagWatch::verdict`] says exactly when. A backlog that is
//!   being worked off is ready.
//!
//! Beside the parts a process tells its lag, in events and in seconds ([`Health::lag`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub mod lag;

/// A part with work to do that has not moved for this long is not ready. Shorter than a load balancer's
/// patience, longer than a slow insert.
pub const STALL: Duration = Duration::from_secs(30);

/// The health of the parts of this process.
#[derive(Clone, Debug, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<String, State>>>,
    lag: Arc<Mutex<Vec<TopicLag>>>,
}

#[derive(Clone, Debug)]
struct State {
    moved_at: Instant,
    working: bool,
    failing: Option<String>,
    /// What it says of itself while all is well.
    detail: Option<String>,
}

/// How far the aggregators are behind in one topic.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TopicLag {
    /// The topic.
    pub topic: &'static str,
    /// Records that wait. One carries an event, or many.
    pub records: u64,
    /// Events that wait, by how many the records of the last batches carried.
    pub events: u64,
    /// How long the oldest of them has waited; 0 if none waits.
    pub seconds: f64,
}

impl State {
    fn new(working: bool, detail: Option<String>) -> Self {
        State { moved_at: Instant::now(), working, failing: None, detail }
    }
}

/// One part as a report tells it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PartHealth {
    /// Its name, such as `collector/web` or `aggregator/usage/3`.
    pub part: String,
    /// Whether it makes progress.
    pub ready: bool,
    /// What it does, or why it is not ready.
    pub detail: String,
}

impl Health {
    /// Registers a part; it counts as working until it says otherwise.
    pub fn part(&self, name: impl Into<String>) -> Part {
        let name = name.into();
        self.lock().insert(name.clone(), State::new(true, None));
        Part { name, health: self.clone() }
    }

    /// Every part's state.
    pub fn report(&self) -> Vec<PartHealth> {
        let describe = |(part, state): (&String, &State)| {
            let still = state.moved_at.elapsed();
            let (ready, detail) = match (&state.failing, state.working) {
                (Some(reason), _) => (false, reason.clone()),
                (None, true) if still > STALL => {
                    (false, format!("has work to do, but has not moved for {} s", still.as_secs()))
                }
                (None, working) => {
                    let word = if working { "working" } else { "idle" };
                    (true, state.detail.clone().unwrap_or_else(|| word.to_owned()))
                }
            };
            PartHealth { part: part.clone(), ready, detail }
        };
        self.lock().iter().map(describe).collect()
    }

    /// The lag as it was measured last, by topic; empty where nobody measures it.
    pub fn lag(&self) -> Vec<TopicLag> {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the lag.
    pub fn set_lag(&self, lag: Vec<TopicLag>) {
        *self.lag.lock().unwrap_or_else(PoisonError::into_inner) = lag;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        // Entries are replaced whole, so a panic elsewhere leaves the map usable.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part's own handle. Dropping it takes the part off the report.
#[derive(Debug)]
pub struct Part {
    name: String,
    health: Health,
}

impl Part {
    /// It got something done.
    pub fn progress(&self) {
        self.set(State::new(true, None));
    }

    /// It has nothing to do.
    pub fn idle(&self) {
        self.set(State::new(false, None));
    }

    /// It has nothing to do until something comes about that is none of its faults. It is ready.
    pub fn waiting(&self, reason: impl Into<String>) {
        self.set(State::new(false, Some(reason.into())));
    }

    /// It is well, and has this to say. It must say so again within [`STALL`].
    pub fn well(&self, detail: impl Into<String>) {
        self.set(State::new(true, Some(detail.into())));
    }

    /// It tries and fails.
    pub fn failing(&self, reason: impl Into<String>) {
        if let Some(state) = self.health.lock().get_mut(&self.name) {
            state.failing = Some(reason.into());
        }
    }

    fn set(&self, state: State) {
        if let Some(slot) = self.health.lock().get_mut(&self.name) {
            *slot = state;
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.health.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_stands_still_with_work_to_do_is_not_ready() {
        let health = Health::default();
        let part = health.part("aggregator");
        assert!(health.report()[0].ready);
        let long_ago = Instant::now().checked_sub(STALL + Duration::from_secs(1)).unwrap();
        part.set(State { moved_at: long_ago, ..State::new(true, None) });
        assert!(!health.report()[0].ready);
        part.set(State { moved_at: long_ago, ..State::new(false, None) });
        assert!(health.report()[0].ready);
        part.failing("store away");
        assert_eq!(health.report()[0].detail, "store away");
        part.progress();
        assert!(health.report()[0].ready);
        part.well("7 events wait");
        assert_eq!(health.report()[0].detail, "7 events wait");
        part.set(State { moved_at: long_ago, ..State::new(true, Some("7 events wait".into())) });
        assert!(!health.report()[0].ready);
        drop(part);
        assert!(health.report().is_empty());
    }
}
