//! accepted = stored + duplicate + rejected, per source and hour of arrival, and the rows that are there. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

/// What the batches that are done say of one source and hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Events taken from the log.
    pub accepted: u64,
    /// New, and now in the store.
    pub stored: u64,
    /// There before.
    pub duplicate: u64,
    /// Of the duplicates, those with other content than what is stored.
    pub conflict: u64,
    /// Kept as rejects.
    pub rejected: u64,
}

/// What the tables hold of one source and hour, distinct by identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In `events`.
    pub events: u64,
    /// In `rejects`.
    pub rejects: u64,
}

/// By source and hour.
pub type ByHour<T> = BTreeMap<(String, DateTime<Utc>), T>;

/// One source and hour of arrival.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hour {
    /// The source.
    pub source: String,
    /// First second of the hour.
    pub hour: DateTime<Utc>,
    /// By the batches that are done.
    #[serde(flatten)]
    pub tally: Tally,
    /// Distinct events in the store; absent where they are past their retention.
    pub found: Option<u64>,
    /// Distinct rejects in the store.
    pub found_rejects: u64,
    /// Batches of this hour were being written while it was counted.
    pub in_motion: bool,
    /// What does not hold; empty if all does.
    pub faults: Vec<String>,
}

impl Hour {
    /// Whether it balances, and the store has what the books say.
    pub fn balances(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Two readings of the books with a count of the tables between them.
#[derive(Debug, Default)]
pub struct Readings {
    /// The books before the count.
    pub before: ByHour<Tally>,
    /// Rows of batches that were planned and not done before the count.
    pub unfinished_before: ByHour<Found>,
    /// All rows.
    pub found: ByHour<Found>,
    /// Rows of batches that were planned and not done after the count.
    pub unfinished_after: ByHour<Found>,
    /// The books after the count.
    pub after: ByHour<Tally>,
    /// Events of hours before this one may be past their retention.
    pub kept_since: Option<DateTime<Utc>>,
}

impl Readings {
    /// The hours, each with what does not hold of it.
    pub fn hours(&self) -> Vec<Hour> {
        let mut keys: Vec<&(String, DateTime<Utc>)> =
            self.before.keys().chain(self.after.keys()).chain(self.found.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().map(|key| self.hour(key)).collect()
    }

    fn hour(&self, key: &(String, DateTime<Utc>)) -> Hour {
        let of = |map: &ByHour<Tally>| map.get(key).copied().unwrap_or_default();
        let rows = |map: &ByHour<Found>| map.get(key).copied().unwrap_or_default();
        let (before, after) = (of(&self.before), of(&self.after));
        let (unfinished_before, unfinished_after) =
            (rows(&self.unfinished_before), rows(&self.unfinished_after));
        let all = rows(&self.found);
        let in_motion = before != after || unfinished_before != unfinished_after;
        // Rows of a batch that is not done are no part of the books yet.
        let found = Found {
            events: all.events.saturating_sub(unfinished_after.events),
            rejects: all.rejects.saturating_sub(unfinished_after.rejects),
        };
        let is_kept = self.kept_since.is_none_or(|since| key.1 >= since);
        let mut faults = Vec::new();
        if after.accepted != after.stored + after.duplicate + after.rejected {
            faults.push("accepted is not stored + duplicate + rejected".to_owned());
        }
        let mut compare = |what: &str, before: u64, found: u64, all: u64, after: u64| {
            let holds = match in_motion {
                false => found == after,
                // What was there at the moment of the count: at least the books before it, at most the books
                // after it and what is not done yet.
                true => before <= all && found <= after,
            };
            if !holds {
                let direction = if found < after { "missing" } else { "too many" };
                faults.push(format!("{} {what} {direction}", found.abs_diff(after)));
            }
        };
        if is_kept {
            compare("events", before.stored, found.events, all.events, after.stored);
        }
        compare("rejects", before.rejected, found.rejects, all.rejects, after.rejected);
        let (source, hour) = key.clone();
        let found_events = is_kept.then_some(found.events);
        Hour {
            source,
            hour,
            tally: after,
            found: found_events,
            found_rejects: found.rejects,
            in_motion,
            faults,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> (String, DateTime<Utc>) {
        ("web".to_owned(), DateTime::from_timestamp(3_600, 0).unwrap())
    }

    fn tally(stored: u64, duplicate: u64) -> ByHour<Tally> {
        let tally = Tally { accepted: stored + duplicate, stored, duplicate, ..Tally::default() };
        [(key(), tally)].into()
    }

    fn events(events: u64) -> ByHour<Found> {
        [(key(), Found { events, rejects: 0 })].into()
    }

    fn faults(readings: &Readings) -> Vec<String> {
        readings.hours().remove(0).faults
    }

    #[test]
    fn what_rests_must_be_equal() {
        let at_rest = |found| Readings {
            before: tally(10, 2),
            after: tally(10, 2),
            found: events(found),
            ..Readings::default()
        };
        assert_eq!(faults(&at_rest(10)), [""; 0]);
        assert_eq!(faults(&at_rest(9)), ["1 events missing"]);
        assert_eq!(faults(&at_rest(12)), ["2 events too many"]);
        let expired = Readings { kept_since: DateTime::from_timestamp(7_200, 0), ..at_rest(4) };
        assert_eq!((faults(&expired).len(), expired.hours()[0].found), (0, None));
    }

    #[test]
    fn what_moves_must_lie_between_the_books_before_and_after() {
        let moving = |found, unfinished| Readings {
            before: tally(10, 0),
            after: tally(20, 0),
            found: events(found),
            unfinished_after: events(unfinished),
            ..Readings::default()
        };
        for found in [10, 15, 20] {
            assert_eq!(faults(&moving(found, 0)), [""; 0], "{found}");
        }
        assert_eq!(faults(&moving(25, 5)), [""; 0]);
        assert_eq!(faults(&moving(9, 0)), ["11 events missing"]);
        assert_eq!(faults(&moving(26, 5)), ["1 events too many"]);
    }

    #[test]
    fn rows_without_books_and_books_without_rows_show() {
        let rows = Readings { found: events(3), ..Readings::default() };
        assert_eq!(faults(&rows), ["3 events too many"]);
        let unfinished = Readings {
            found: events(3),
            unfinished_before: events(3),
            unfinished_after: events(3),
            ..Readings::default()
        };
        assert_eq!(faults(&unfinished), [""; 0]);
        let books = Readings { before: tally(3, 0), after: tally(3, 0), ..Readings::default() };
        assert_eq!(faults(&books), ["3 events missing"]);
    }
}
