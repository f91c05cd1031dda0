//! The chain of log positions: what was done of each partition, without a hole. Pure.
//!
//! Batches are looked at in the order in which they were done. One that begins where the former ended goes on; one
//! that begins further on leaves a gap, which a later one may fill. One that begins before the end is
//! - **a log made anew**, if it begins at 0: positions start again, and what the old log had says nothing of the new
//!   one. (The same log is not done twice from its beginning: batches that are done are recognised by the digest in
//!   their plan, and passed over.)
//! - **the same log read again** from some position, if all of its first batch was there before;
//! - **a log made anew** whose beginning was never read, otherwise: that beginning is missing.
//!
//! A log begins at 0. What its retention deleted before it was read is missing, and shows.
//!
//! When a batch was done is told by the clock of the aggregator that did it. A clock that steps, or two that disagree,
//! change the order in which batches of one log are looked at, and nothing else: each lies in the gap that the later
//! ones have left. That holds from the beginning of the chain on; what begins within it could be an older batch that was
//! dated late, or a log made anew. So the whole chain is linked, whichever part of the books is asked for.
//!
//! Limit: in a topic that foreign *transactional* producers write to, Kafka's own markers take positions; they
//! show as gaps. Rentroll's producer is idempotent and leaves none.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Batches done one after the other, each beginning where the former ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// First position.
    pub first: u64,
    /// Position after the last record.
    pub next: u64,
    /// When its first batch was done.
    pub done_at: DateTime<Utc>,
    /// Everything in its first batch was there before.
    pub known_before: bool,
}

/// Positions that no batch has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// First position missing.
    pub from: u64,
    /// Position after the last one missing.
    pub to: u64,
    /// When the batch behind it was done.
    pub seen_at: DateTime<Utc>,
}

/// A batch with another number of records than its positions say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Short {
    /// First position of the batch.
    pub first: u64,
    /// Position after its last record.
    pub next: u64,
    /// Records it had.
    pub records: u64,
}

/// One partition of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u16,
    /// How often the log was made anew, and once for the first one.
    pub logs: u32,
    /// Position after the last record that was done, in the newest log.
    pub next: u64,
    /// What is missing, in all logs.
    pub gaps: Vec<Gap>,
    /// Batches that lost records inside.
    pub short: Vec<Short>,
}

impl Chain {
    /// Whether nothing is missing.
    pub fn holds(&self) -> bool {
        self.gaps.is_empty() && self.short.is_empty()
    }

    /// Positions that are missing.
    pub fn missing(&self) -> u64 {
        let gaps: u64 = self.gaps.iter().map(|gap| gap.to - gap.from).sum();
        let short: u64 =
            self.short.iter().map(|batch| (batch.next - batch.first).abs_diff(batch.records)).sum();
        gaps + short
    }
}

/// Links a partition's runs, all of them, given in the order in which they were done.
#[derive(Debug, Default)]
pub struct Linker {
    logs: u32,
    /// After the last position of the newest log.
    end: u64,
    /// Open gaps of the newest log, by their beginning.
    open: BTreeMap<u64, Gap>,
    closed: Vec<Gap>,
}

impl Linker {
    /// The next run.
    pub fn add(&mut self, run: &Run) {
        if self.logs == 0 {
            self.start(run);
        } else if run.first >= self.end {
            self.miss(self.end, run.first, run.done_at);
            self.end = run.next;
        } else if self.fills(run) || (run.first > 0 && run.known_before) {
            self.cover(run.first, run.next);
            self.end = self.end.max(run.next);
        } else {
            self.start(run);
        }
    }

    /// What it comes to.
    pub fn finish(self, topic: String, partition: u16, short: Vec<Short>) -> Chain {
        let mut gaps = self.closed;
        gaps.extend(self.open.into_values());
        Chain { topic, partition, logs: self.logs, next: self.end, gaps, short }
    }

    fn start(&mut self, run: &Run) {
        self.closed.extend(std::mem::take(&mut self.open).into_values());
        self.logs += 1;
        self.end = run.next;
        self.miss(0, run.first, run.done_at);
    }

    fn miss(&mut self, from: u64, to: u64, seen_at: DateTime<Utc>) {
        if from < to {
            self.open.insert(from, Gap { from, to, seen_at });
        }
    }

    /// Whether the run lies in one open gap: batches that were done at the same time, one noted before the other.
    fn fills(&self, run: &Run) -> bool {
        self.open
            .range(..=run.first)
            .next_back()
            .is_some_and(|(_, gap)| gap.from <= run.first && run.next <= gap.to)
    }

    /// Takes [from, to) out of the open gaps.
    fn cover(&mut self, from: u64, to: u64) {
        let touched: Vec<u64> =
            self.open.range(..to).filter(|(_, gap)| gap.to > from).map(|(key, _)| *key).collect();
        for key in touched {
            if let Some(gap) = self.open.remove(&key) {
                self.miss(gap.from, from.min(gap.to), gap.seen_at);
                self.miss(to.max(gap.from), gap.to, gap.seen_at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(first: u64, next: u64, known_before: bool) -> Run {
        Run { first, next, done_at: DateTime::UNIX_EPOCH, known_before }
    }

    fn link(runs: &[Run]) -> (u32, u64, Vec<(u64, u64)>) {
        let mut linker = Linker::default();
        runs.iter().for_each(|run| linker.add(run));
        let chain = linker.finish("usage".to_owned(), 0, Vec::new());
        (chain.logs, chain.next, chain.gaps.iter().map(|gap| (gap.from, gap.to)).collect())
    }

    #[test]
    fn gaps_show_with_their_positions() {
        assert_eq!(link(&[run(0, 10, false), run(10, 30, false)]), (1, 30, vec![]));
        assert_eq!(link(&[run(0, 10, false), run(12, 30, false)]), (1, 30, vec![(10, 12)]));
        // Deleted by the log's retention before it was read.
        assert_eq!(link(&[run(5, 10, false)]), (1, 10, vec![(0, 5)]));
    }

    #[test]
    fn a_log_made_anew_is_no_gap_and_hides_none() {
        let anew = [run(0, 100, false), run(0, 20, true), run(30, 40, false)];
        assert_eq!(link(&anew), (2, 40, vec![(20, 30)]));
        let anew_past_its_beginning = [run(0, 100, false), run(7, 20, false)];
        assert_eq!(link(&anew_past_its_beginning), (2, 20, vec![(0, 7)]));
    }

    #[test]
    fn the_same_log_read_again_fills_gaps_and_makes_none() {
        let again = [run(0, 100, false), run(37, 80, true), run(80, 150, false)];
        assert_eq!(link(&[again[0].clone(), run(37, 150, true)]), (1, 150, vec![]));
        let late = [run(0, 10, false), run(20, 30, false), run(10, 15, false), run(15, 20, false)];
        assert_eq!(link(&late), (1, 30, vec![]));
    }

    proptest! {
        /// Whatever batches are taken out of a log of any batches, their positions are missing and nothing else.
        #[test]
        fn what_is_lost_is_what_is_missing(lengths in proptest::collection::vec((1_u64..50, any::<bool>()), 1..60)) {
            let (mut position, mut runs, mut lost) = (0, Vec::new(), 0);
            let last = lengths.len() - 1;
            for (index, (length, is_kept)) in lengths.iter().enumerate() {
                // What is lost at the end cannot be seen before something follows it.
                if *is_kept || index == last {
                    runs.push(run(position, position + length, false));
                } else {
                    lost += length;
                }
                position += length;
            }
            let (logs, next, gaps) = link(&runs);
            prop_assert_eq!(logs, 1);
            prop_assert_eq!(next, position);
            prop_assert_eq!(gaps.iter().map(|(from, to)| to - from).sum::<u64>(), lost);
        }

        /// Batches of one log, dated by clocks that step by an hour either way, whenever they like: what was lost is
        /// missing, and nothing else.
        #[test]
        fn clocks_that_step_change_nothing(
            batches in proptest::collection::vec((1_u64..50, 1_i64..600, -1_i64..=1, 0_u8..10), 1..80)
        ) {
            let (mut position, mut seconds, mut dated, mut lost) = (0, 1_800_000_000, Vec::new(), Vec::new());
            let last = batches.len() - 1;
            for (index, (length, took_seconds, clock_hours, fate)) in batches.iter().enumerate() {
                seconds += took_seconds;
                let next = position + length;
                if *fate == 0 && index != last {
                    lost.extend(position..next);
                } else {
                    let done_at = DateTime::from_timestamp(seconds + clock_hours * 3_600, 0).unwrap();
                    dated.push(Run { done_at, ..run(position, next, false) });
                }
                position = next;
            }
            dated.sort_by_key(|run| (run.done_at, run.first));
            let (logs, next, gaps) = link(&dated);
            prop_assert_eq!((logs, next), (1, position));
            let missing: Vec<u64> = gaps.into_iter().flat_map(|(from, to)| from..to).collect();
            prop_assert_eq!(missing, lost);
        }
    }
}
