//! How many events a record carries, as the last batches had it.
//!
//! The log tells how many records wait. How many events are in them would have to be read, record by record; what was
//! read last says it closely enough, since senders pack alike from one minute to the next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use rentroll_schemas::topics::Topic;

/// Batches remembered of each topic, of all partitions together. With half of them one odd batch would show, such as
/// the first after a night; with twice as many a change of what is sent would show late.
const BATCHES: usize = 16;

/// What the last batches of each topic held.
#[derive(Debug, Default)]
pub(crate) struct Density {
    last: Mutex<BTreeMap<Topic, VecDeque<Held>>>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    records: u64,
    events: u64,
}

impl Density {
    /// A batch held so many.
    pub(crate) fn note(&self, topic: Topic, records: u64, events: usize) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let batches = last.entry(topic).or_default();
        batches.push_back(Held { records, events: events as u64 });
        while batches.len() > BATCHES {
            batches.pop_front();
        }
    }

    /// The events that so many waiting records carry. Exact where each carries one; until a batch of the topic was
    /// seen here, no more than the records, which is what is known.
    pub(crate) fn events(&self, topic: Topic, records: u64) -> u64 {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |of: fn(&Held) -> u64| last.get(&topic).into_iter().flatten().map(of).sum::<u64>();
        let (records_before, events_before) = (sum(|held| held.records), sum(|held| held.events));
        if records_before == 0 {
            return records;
        }
        let events = u128::from(records) * u128::from(events_before) / u128::from(records_before);
        // No record is empty: one that cannot be read is one reject.
        u64::try_from(events).unwrap_or(u64::MAX).max(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_events_follow_what_the_last_batches_held() {
        let density = Density::default();
        assert_eq!(density.events(Topic::Usage, 7), 7, "nothing is known yet");
        density.note(Topic::Usage, 10, 1_000);
        density.note(Topic::Usage, 30, 1_000);
        assert_eq!(density.events(Topic::Usage, 7), 350);
        assert_eq!(density.events(Topic::Usage, 0), 0);
        assert_eq!(density.events(Topic::Overflow, 7), 7, "another topic's are other records");
        // Senders went over to a record for each event.
        for _ in 0..BATCHES {
            density.note(Topic::Usage, 500, 500);
        }
        assert_eq!(density.events(Topic::Usage, 7), 7);
        assert_eq!(density.events(Topic::Usage, u64::MAX), u64::MAX);
    }
}
