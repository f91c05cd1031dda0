//! Whether a reader of the log keeps up. Pure: what was measured goes in, a verdict comes out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rentroll_schemas::topics::Topic;

/// When lag means *not ready*: see [`LagWatch::verdict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LagRule {
    /// How long a position may stand still while events wait, and over how long lag must shrink. Shorter than the
    /// longest batch and a busy reader is called stuck; much longer and a stuck one is found late.
    pub window: Duration,
    /// Lag that does not shrink is borne until the oldest event has waited for this long.
    pub age_max: Duration,
}

impl Default for LagRule {
    fn default() -> Self {
        LagRule { window: Duration::from_secs(60), age_max: Duration::from_secs(300) }
    }
}

/// One partition as it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// Where the group would resume.
    pub committed: u64,
    /// Records that wait. What is decided is decided by these: they are counted, not estimated.
    pub records: u64,
    /// About how many events they carry.
    pub events: u64,
    /// How long the record at the committed position has waited; zero if none waits.
    pub age: Duration,
}

/// What the last minutes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing waits, or what waits gets done.
    Keeps(String),
    /// Why it is not ready.
    Stuck(String),
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    records: u64,
    events: u64,
    age: Duration,
}

/// Remembers what was measured over the window.
#[derive(Debug)]
pub struct LagWatch {
    rule: LagRule,
    /// Per partition: its position, and since when it has stood there with events waiting.
    standing: BTreeMap<(Topic, u32), (u64, Option<Instant>)>,
    /// Per topic, oldest first, over the window and the one measurement before it.
    history: BTreeMap<Topic, VecDeque<Sample>>,
}

impl LagWatch {
    /// Nothing measured yet.
    pub fn new(rule: LagRule) -> Self {
        LagWatch { rule, standing: BTreeMap::new(), history: BTreeMap::new() }
    }

    /// Takes note of a measurement of all partitions.
    pub fn observe(&mut self, at: Instant, measured: &[Measured]) {
        let mut topics: BTreeMap<Topic, Sample> = BTreeMap::new();
        for one in measured {
            let standing = self.standing.entry((one.topic, one.partition)).or_insert((one.committed, None));
            *standing = match (*standing, one.records) {
                (_, 0) => (one.committed, None),
                ((position, Some(since)), _) if position == one.committed => (position, Some(since)),
                // It moved, or something has just come: from now on it has work to do.
                _ => (one.committed, Some(at)),
            };
            let sum =
                topics.entry(one.topic).or_insert(Sample { at, records: 0, events: 0, age: Duration::ZERO });
            sum.records += one.records;
            sum.events += one.events;
            sum.age = sum.age.max(one.age);
        }
        for (topic, sample) in topics {
            let history = self.history.entry(topic).or_default();
            history.push_back(sample);
            while history.get(1).is_some_and(|second| at.duration_since(second.at) >= self.rule.window) {
                history.pop_front();
            }
        }
    }

    /// A reader is not ready if
    /// 1. a partition of its own (`own`) **stands still**: over the whole window events waited and its position
    ///    did not move. A reader that owns nothing answers for the whole group: it is not ready if events wait
    ///    and *no* partition moves;
    /// 2. a topic **sinks**: its oldest event waits for longer than `age_max`, and over the window neither the
    ///    number of records that wait nor the time that the oldest has waited has become less.
    ///
    /// A backlog that is being worked off is ready, however long: its positions move, and it grows shorter or
    /// younger. So is a burst, until its oldest event has waited for `age_max`.
    pub fn verdict(&self, at: Instant, own: &BTreeSet<(Topic, u32)>) -> Verdict {
        let stands =
            |since: &Option<Instant>| since.is_some_and(|since| at.duration_since(since) >= self.rule.window);
        let still: Vec<_> = self.standing.iter().filter(|(_, (_, since))| stands(since)).collect();
        let seconds = self.rule.window.as_secs();
        if let Some(((topic, partition), (position, _))) = still.iter().find(|(key, _)| own.contains(key)) {
            return Verdict::Stuck(format!(
                "events wait in {topic}/{partition}, whose position {position} has not moved for {seconds} s"
            ));
        }
        let waiting = self.standing.values().filter(|(_, since)| since.is_some()).count();
        if own.is_empty() && waiting > 0 && still.len() == waiting {
            return Verdict::Stuck(format!(
                "has no partition, and events wait that nobody has taken for {seconds} s"
            ));
        }
        for (topic, history) in &self.history {
            let (Some(first), Some(last)) = (history.front(), history.back()) else { continue };
            let shrinks = last.records < first.records || last.age < first.age;
            if !shrinks
                && last.age > self.rule.age_max
                && last.at.duration_since(first.at) >= self.rule.window
            {
                return Verdict::Stuck(format!(
                    "{topic} falls behind: {} events wait in {} records, {} records more than {seconds} s ago, \
                     the oldest for {} s",
                    last.events,
                    last.records,
                    last.records - first.records,
                    last.age.as_secs()
                ));
            }
        }
        let newest = self.history.values().filter_map(VecDeque::back);
        let (events, age) = newest
            .fold((0, Duration::ZERO), |(events, age), sample| (events + sample.events, age.max(sample.age)));
        Verdict::Keeps(match events {
            0 => "nothing waits".to_owned(),
            _ => format!("{events} events wait, the oldest for {} s", age.as_secs()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: LagRule = LagRule { window: Duration::from_secs(60), age_max: Duration::from_secs(300) };

    /// Measures every two seconds for `seconds`: committed position, end and age of partition 0 by the second.
    fn watch(seconds: u64, own: &[(Topic, u32)], of: impl Fn(u64) -> (u64, u64, u64)) -> Verdict {
        let start = Instant::now();
        let mut watch = LagWatch::new(RULE);
        let mut at = start;
        for second in (0..=seconds).step_by(2) {
            at = start + Duration::from_secs(second);
            let (committed, end, age) = of(second);
            let records = end - committed;
            let age = Duration::from_secs(age);
            let one =
                Measured { topic: Topic::Usage, partition: 0, committed, records, events: records * 9, age };
            watch.observe(at, &[one]);
        }
        watch.verdict(at, &own.iter().copied().collect())
    }

    const OWN: &[(Topic, u32)] = &[(Topic::Usage, 0)];

    fn is_stuck(verdict: &Verdict, word: &str) -> bool {
        matches!(verdict, Verdict::Stuck(reason) if reason.contains(word))
    }

    #[test]
    fn standing_still_with_events_waiting_is_not_ready_after_the_window() {
        assert!(matches!(watch(58, OWN, |at| (7, 9, at)), Verdict::Keeps(_)));
        assert!(is_stuck(&watch(60, OWN, |at| (7, 9, at)), "usage/0, whose position 7"));
        // Nothing waits.
        assert_eq!(watch(600, OWN, |_| (9, 9, 0)), Verdict::Keeps("nothing waits".into()));
        // It moved a moment ago.
        assert!(matches!(watch(100, OWN, |at| (if at < 50 { 7 } else { 8 }, 9, at)), Verdict::Keeps(_)));
        // Idle for an hour, then one event: the window begins with the event.
        assert!(matches!(watch(3600, OWN, |at| (9, if at < 3590 { 9 } else { 10 }, 1)), Verdict::Keeps(_)));
    }

    #[test]
    fn another_members_partition_is_its_own_matter_unless_nobody_moves() {
        assert!(matches!(watch(100, &[(Topic::Usage, 1)], |at| (7, 9, at)), Verdict::Keeps(_)));
        assert!(is_stuck(&watch(100, &[], |at| (7, 9, at)), "nobody has taken"));
        assert!(matches!(watch(100, &[], |at| (at, at + 5, 1)), Verdict::Keeps(_)));
    }

    #[test]
    fn a_backlog_that_shrinks_is_ready_and_one_that_grows_is_not() {
        // A million behind, an hour old: worked off by number, or by age.
        assert!(matches!(watch(600, OWN, |at| (at * 1_000, 1_000_000 + at * 900, 3_600)), Verdict::Keeps(_)));
        assert!(matches!(
            watch(600, OWN, |at| (at * 1_000, 1_000_000 + at * 2_000, 3_600 - at)),
            Verdict::Keeps(_)
        ));
        // As much and as old as it was: it will never be done.
        assert!(is_stuck(&watch(600, OWN, |at| (at, at + 9, 3_600)), "9 records, 0 records more"));
        assert!(matches!(watch(600, OWN, |at| (at, at + 9, 300)), Verdict::Keeps(_)));
        // Growing, but young: a burst.
        assert!(matches!(watch(200, OWN, |at| (at, at * 3, at)), Verdict::Keeps(_)));
        assert!(is_stuck(
            &watch(400, OWN, |at| (at, at * 3, at)),
            "usage falls behind: 7200 events wait in 800 records, 120 records more"
        ));
    }
}
