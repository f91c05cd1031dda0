//! What was sent, and what must therefore be stored: a byte for each item.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use rentroll_schemas::meter::UNMATCHED;

use super::items::{Content, Item, Stream, VERSIONS};

/// The item is acknowledged: it must be in.
const ACKED: u8 = 1 << 7;
/// A bad item was handed over, and may be among the rejects.
const BAD_SENT: u8 = 1;

/// The items of one stream.
#[derive(Debug)]
pub(super) struct Sent {
    /// What they are.
    pub(super) stream: Stream,
    /// A retry may make another reject of the same bytes, as it may in HTTP, where a request has no place.
    pub(super) rejects_may_repeat: bool,
    /// For a new event, a bit for each version that was sent.
    flags: Mutex<Vec<u8>>,
}

/// What must be in a store that holds all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Expected {
    /// Items handed over.
    pub(super) sent: u64,
    /// Items acknowledged, resends and bad ones included.
    pub(super) acked: u64,
    /// Distinct events acknowledged.
    pub(super) events: u64,
    /// Bad items acknowledged.
    pub(super) rejects: u64,
    /// Lines written that are known by their place.
    pub(super) lines: u64,
}

impl Sent {
    pub(super) fn new(stream: Stream, rejects_may_repeat: bool) -> Self {
        Sent { stream, rejects_may_repeat, flags: Mutex::default() }
    }

    fn flags(&self) -> MutexGuard<'_, Vec<u8>> {
        self.flags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next `count` items are about to be handed over; returns the number of the first.
    pub(super) fn hand_over(&self, count: u64) -> u64 {
        let mut flags = self.flags();
        let first = flags.len() as u64;
        flags.resize((first + count) as usize, 0);
        for n in first..first + count {
            let (at, bit) = match self.stream.item(n) {
                Item::New => (n, 1),
                Item::Resend { original, version } => (original, 1 << version),
                Item::Bad => (n, BAD_SENT),
            };
            flags[at as usize] |= bit;
        }
        first
    }

    /// Those items are acknowledged.
    pub(super) fn acked(&self, first: u64, count: u64) {
        let mut flags = self.flags();
        for n in first..first + count {
            // A resend that is acknowledged acknowledges its event.
            let at = match self.stream.item(n) {
                Item::Resend { original, .. } => original,
                Item::New | Item::Bad => n,
            };
            flags[at as usize] |= ACKED;
            flags[n as usize] |= ACKED;
        }
    }

    /// How many items were handed over.
    pub(super) fn len(&self) -> u64 {
        self.flags().len() as u64
    }

    /// What the store must hold now.
    pub(super) fn expected(&self) -> Expected {
        let flags = self.flags();
        let mut expected = Expected { sent: flags.len() as u64, ..Expected::default() };
        for (n, _) in flags.iter().enumerate().filter(|(_, flag)| **flag & ACKED != 0) {
            expected.acked += 1;
            match self.stream.item(n as u64) {
                Item::New => expected.events += 1,
                Item::Bad => expected.rejects += 1,
                Item::Resend { .. } => {}
            }
        }
        expected
    }

    /// Whether item `n` is acknowledged.
    pub(super) fn is_acked(&self, n: u64) -> bool {
        self.flags().get(n as usize).is_some_and(|flag| flag & ACKED != 0)
    }

    /// Whether bad item `n` was handed over.
    pub(super) fn is_bad_sent(&self, n: u64) -> bool {
        self.stream.item(n) == Item::Bad
            && self.flags().get(n as usize).is_some_and(|flag| flag & BAD_SENT != 0)
    }

    /// The versions of event `n` that were sent; none if there is no such event.
    pub(super) fn versions(&self, n: u64) -> Vec<Content> {
        let Some(flag) = self.flags().get(n as usize).copied() else { return Vec::new() };
        if self.stream.item(n) != Item::New {
            return Vec::new();
        }
        (0..VERSIONS)
            .filter(|version| flag & (1 << version) != 0)
            .map(|v| self.stream.content(n, v))
            .collect()
    }
}

/// A cell of a rollup: meter, tenant, start in seconds, dimensions.
pub(super) type CellKey = (&'static str, String, u32, String);

/// What a cell must hold, in units of 10⁻⁹ but for the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// Events.
    pub(super) events: i64,
    /// Sum of values.
    pub(super) total: i128,
    /// The least.
    pub(super) least: i128,
    /// The greatest.
    pub(super) greatest: i128,
}

impl Cell {
    /// Whether a meter's row says the same. An extreme is kept only by the meter that asks for it.
    pub(super) fn is_kept_by(&self, meter: &str, row: Cell) -> bool {
        let extreme_holds = match meter {
            "fastest" => self.least == row.least,
            "slowest" => self.greatest == row.greatest,
            _ => true,
        };
        extreme_holds && (self.events, self.total) == (row.events, row.total)
    }

    fn add(&mut self, other: Cell) {
        self.events += other.events;
        self.total += other.total;
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
    }
}

/// `meters.yaml` of the run; [`Usage::add`] says the same by other means.
pub(super) const METERS: &str = "\
meters:
- { name: requests, unit: request, event_type: http.request, aggregation: count }
- { name: bytes, unit: byte, event_type: http.request, aggregation: sum, value: bytes, group_by: [region] }
- { name: slowest, unit: ms, event_type: db.read, aggregation: max, value: ms }
- { name: fastest, unit: ms, event_type: db.read, aggregation: min, value: ms, group_by: [region] }
";

/// Usage per minute, of the events that are stored and count.
#[derive(Debug, Default)]
pub(super) struct Usage {
    minutes: HashMap<CellKey, Cell>,
}

impl Usage {
    /// Counts an event.
    pub(super) fn add(&mut self, content: &Content) {
        const ONE: i128 = 1_000_000_000;
        let by_region = format!("{{\"region\":\"{}\"}}", content.region);
        let ms = i128::from(content.ms) * ONE;
        let readings: &[(&'static str, &str, i128)] = match content.kind {
            "http.request" => &[("requests", "{}", ONE), ("bytes", &by_region, content.bytes_nanos)],
            "db.read" => &[("slowest", "{}", ms), ("fastest", &by_region, ms)],
            other => return self.add_unmatched(other, content.tenant.clone(), content.time),
        };
        // Times are after 1970 and before 2106.
        let minute = (content.time.timestamp() / 60 * 60) as u32;
        for (meter, dimensions, value) in readings {
            let cell = Cell { events: 1, total: *value, least: *value, greatest: *value };
            let key = (*meter, content.tenant.clone(), minute, (*dimensions).to_owned());
            self.minutes.entry(key).and_modify(|held| held.add(cell)).or_insert(cell);
        }
    }

    /// Counts an event that no meter counts.
    pub(super) fn add_unmatched(&mut self, kind: &str, tenant: String, time: DateTime<Utc>) {
        const ONE: i128 = 1_000_000_000;
        let cell = Cell { events: 1, total: ONE, least: ONE, greatest: ONE };
        // Times are after 1970 and before 2106.
        let minute = (time.timestamp() / 60 * 60) as u32;
        let key = (UNMATCHED, tenant, minute, format!("{{\"type\":\"{kind}\"}}"));
        self.minutes.entry(key).and_modify(|held| held.add(cell)).or_insert(cell);
    }

    /// In buckets of that many seconds.
    pub(super) fn per(&self, seconds: u32) -> HashMap<CellKey, Cell> {
        let mut coarse: HashMap<CellKey, Cell> = HashMap::new();
        for ((meter, tenant, bucket, dimensions), cell) in &self.minutes {
            let key = (*meter, tenant.clone(), bucket / seconds * seconds, dimensions.clone());
            coarse.entry(key).and_modify(|held| held.add(*cell)).or_insert(*cell);
        }
        coarse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Sent {
        let begun = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        Sent::new(Stream { seed: 9, source: "torture", begun, has_garbage: true }, false)
    }

    #[test]
    fn what_is_not_acknowledged_may_be_missing_and_what_was_not_sent_must_be() {
        let sent = sent();
        sent.hand_over(1_000);
        assert_eq!(sent.expected().events, 0);
        sent.acked(0, 900);
        let expected = sent.expected();
        assert_eq!(expected.sent, 1_000);
        let new = (0..900).filter(|n| sent.stream.item(*n) == Item::New).count() as u64;
        assert_eq!(expected.events, new);
        assert!(sent.versions(1_000).is_empty(), "an event that was never sent");
        let n = (0..900).rev().find(|n| sent.stream.item(*n) == Item::New).unwrap();
        assert!(!sent.versions(n).is_empty());
    }

    #[test]
    fn an_acknowledged_resend_of_an_unacknowledged_event_acknowledges_it() {
        let sent = sent();
        sent.hand_over(2_000);
        let (n, original) = (0..2_000)
            .find_map(|n| match sent.stream.item(n) {
                Item::Resend { original, .. } => Some((n, original)),
                _ => None,
            })
            .unwrap();
        sent.acked(n, 1);
        assert!(sent.is_acked(original));
        assert_eq!(sent.expected().events, 1);
    }

    #[test]
    fn hours_are_made_of_minutes() {
        let sent = sent();
        let mut usage = Usage::default();
        let mut counted = 0;
        for n in (0..2_000).filter(|n| sent.stream.item(*n) == Item::New) {
            let content = sent.stream.content(n, 0);
            counted += i64::from(content.kind == "http.request");
            usage.add(&content);
        }
        for seconds in [60, 3_600, 86_400] {
            let requests = |(key, cell): (&CellKey, &Cell)| (key.0 == "requests").then_some(cell.events);
            assert_eq!(usage.per(seconds).iter().filter_map(requests).sum::<i64>(), counted);
        }
    }
}
