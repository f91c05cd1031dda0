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

use super::Arrivals;

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
    /// When its first batch's records arrived.
    pub opens: Arrivals,
    /// When its last batch's records arrived.
    pub closes: Arrivals,
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
    /// When what is missing may have arrived: as the batches before and behind it, and between them.
    #[serde(flatten)]
    pub arrived: Arrivals,
    /// It cannot be of what was selected.
    pub elsewhere: bool,
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
    /// When those that it had arrived.
    #[serde(flatten)]
    pub arrived: Arrivals,
    /// What it lost cannot be of what was selected.
    pub elsewhere: bool,
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
    /// Whether nothing is missing that may be of what was selected.
    pub fn holds(&self) -> bool {
        self.gaps.iter().all(|gap| gap.elsewhere) && self.short.iter().all(|batch| batch.elsewhere)
    }

    /// Positions that are missing, elsewhere too.
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
    /// When the records of the batch that ends there arrived.
    end_arrived: Option<Arrivals>,
    /// When the records of the batch that was done last arrived.
    last_arrived: Option<Arrivals>,
    /// Open gaps of the newest log, by their beginning.
    open: BTreeMap<u64, Hole>,
    closed: Vec<Gap>,
}

/// An open gap, and the batches around it.
#[derive(Clone, Copy, Debug)]
struct Hole {
    to: u64,
    seen_at: DateTime<Utc>,
    /// `None` where the first log begins.
    before: Option<Arrivals>,
    behind: Arrivals,
}

impl Hole {
    /// What is missing before a run.
    fn before(run: &Run, before: Option<Arrivals>) -> Hole {
        Hole { to: run.first, seen_at: run.done_at, before, behind: run.opens }
    }

    fn gap(self, from: u64) -> Gap {
        let Hole { to, seen_at, before, behind } = self;
        let arrived = match before {
            Some(before) => before.hull(behind),
            None => Arrivals { from: None, ..behind },
        };
        Gap { from, to, seen_at, arrived, elsewhere: false }
    }
}

impl Linker {
    /// The next run.
    pub fn add(&mut self, run: &Run) {
        if self.logs == 0 {
            self.start(run);
        } else if run.first >= self.end {
            self.miss(self.end, Hole::before(run, self.end_arrived));
            self.end_with(run);
        } else if self.fills(run) || (run.first > 0 && run.known_before) {
            self.cover(run);
            if run.next > self.end {
                self.end_with(run);
            }
        } else {
            self.start(run);
        }
        self.last_arrived = Some(run.closes);
    }

    /// What it comes to.
    pub fn finish(mut self, topic: String, partition: u16, short: Vec<Short>) -> Chain {
        self.close();
        Chain { topic, partition, logs: self.logs, next: self.end, gaps: self.closed, short }
    }

    fn start(&mut self, run: &Run) {
        self.close();
        self.logs += 1;
        self.end_with(run);
        // A log is made anew after the former one was read for the last time.
        self.miss(0, Hole::before(run, self.last_arrived));
    }

    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.closed.extend(open.into_iter().map(|(from, hole)| hole.gap(from)));
    }

    fn end_with(&mut self, run: &Run) {
        self.end = run.next;
        self.end_arrived = Some(run.closes);
    }

    fn miss(&mut self, from: u64, hole: Hole) {
        if from < hole.to {
            self.open.insert(from, hole);
        }
    }

    /// Whether the run lies in one open gap: batches that were done at the same time, one noted before the other.
    fn fills(&self, run: &Run) -> bool {
        self.open
            .range(..=run.first)
            .next_back()
            .is_some_and(|(from, hole)| *from <= run.first && run.next <= hole.to)
    }

    /// Takes the run out of the open gaps.
    fn cover(&mut self, run: &Run) {
        let touched: Vec<u64> = self
            .open
            .range(..run.next)
            .filter(|(_, hole)| hole.to > run.first)
            .map(|(from, _)| *from)
            .collect();
        for from in touched {
            if let Some(hole) = self.open.remove(&from) {
                self.miss(from, Hole { to: run.first.min(hole.to), behind: run.opens, ..hole });
                self.miss(run.next.max(from), Hole { before: Some(run.closes), ..hole });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(first: u64, next: u64, known_before: bool) -> Run {
        let anytime = Arrivals::default();
        Run { first, next, done_at: DateTime::UNIX_EPOCH, known_before, opens: anytime, closes: anytime }
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

    #[test]
    fn what_is_missing_arrived_as_the_batches_around_it_did() {
        const HOUR: u32 = 3_600;
        let arrived = |first, next, (opens, closes): (u32, u32)| Run {
            opens: Arrivals::of_hours(opens * HOUR, opens * HOUR),
            closes: Arrivals::of_hours(closes * HOUR, closes * HOUR),
            ..run(first, next, false)
        };
        let gaps = |runs: &[Run]| {
            let mut linker = Linker::default();
            runs.iter().for_each(|run| linker.add(run));
            let hours = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp() / i64::from(HOUR));
            let gaps = linker.finish("usage".to_owned(), 0, Vec::new()).gaps;
            let told = |gap: &Gap| (gap.from, gap.to, hours(gap.arrived.from), hours(gap.arrived.before));
            gaps.iter().map(told).collect::<Vec<_>>()
        };
        // Nothing is before the first batch.
        assert_eq!(gaps(&[arrived(5, 10, (7, 9))]), [(0, 5, None, Some(8))]);
        let runs = [arrived(0, 10, (7, 9)), arrived(20, 50, (12, 14))];
        assert_eq!(gaps(&runs), [(10, 20, Some(9), Some(13))]);
        // A part of it was done later.
        let filled = [&runs[..], &[arrived(13, 15, (10, 10))]].concat();
        assert_eq!(gaps(&filled), [(10, 13, Some(9), Some(11)), (15, 20, Some(10), Some(13))]);
        // The end stays where it is, and the next gap lies behind it.
        let further = [&filled[..], &[arrived(60, 70, (20, 21))]].concat();
        assert_eq!(gaps(&further)[2], (50, 60, Some(14), Some(21)));
        // A log made anew lost its beginning after the former one was read.
        let anew = [arrived(0, 10, (7, 9)), arrived(3, 5, (11, 12))];
        assert_eq!(gaps(&anew), [(0, 3, Some(9), Some(12))]);
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
