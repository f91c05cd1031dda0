//! What is sent: item number `n` of a stream is the same bytes whenever it is asked for.
//!
//! Nothing is remembered of an item but that it was sent: from its number comes whether it is a new event (which may
//! correct another), a resend of an earlier one or a bad one, and all of its content. So the model of millions of events is a byte
//! for each.

use chrono::{DateTime, Duration, Utc};
use rentroll_schemas::Identity;

use super::corrections::Corrects;
use super::dice::{Dice, mix};

/// How far back a resend may reach, in items. Far enough for another batch, and another process.
const RESEND_REACH: u64 = 4_000;
/// Times that an event can come: with its first time and, as resends, with others.
pub(super) const VERSIONS: u64 = 4;
/// The version whose measures differ too: a client that reuses an id.
const CONFLICT: u64 = 3;
/// Old events lie in so many hours, this far apart.
const OLD_HOURS: u64 = 12;
const OLD_HOURS_APART_S: u64 = 64 * 3_600;
const TENANTS: u64 = 120;
const REGIONS: [&str; 3] = ["ap", "eu", "us"];
/// The meters of the run count these; the last is of no meter.
const KINDS: [&str; 3] = ["http.request", "db.read", "cache.miss"];

/// A stream of items, by one way of sending.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    /// Decides all content.
    pub(super) seed: u64,
    /// The events' `source`.
    pub(super) source: &'static str,
    /// Event times lie before this.
    pub(super) begun: DateTime<Utc>,
    /// Some bad items are not even JSON.
    pub(super) has_garbage: bool,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// An event that was not sent before.
    New,
    /// Item `original` again, as that version of it.
    Resend {
        /// A new event's number.
        original: u64,
        /// From 1.
        version: u64,
    },
    /// Bytes that must become a reject.
    Bad,
}

/// An event as it must come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// As which version it was sent.
    pub(super) version: u64,
    /// Its id.
    pub(super) id: String,
    /// Whose.
    pub(super) tenant: String,
    /// Its type.
    pub(super) kind: &'static str,
    /// When.
    pub(super) time: DateTime<Utc>,
    /// Of the measure `bytes`, in units of 10⁻⁹.
    pub(super) bytes_nanos: i128,
    /// Of the measure `ms`, whole.
    pub(super) ms: u64,
    /// Of the dimension `region`.
    pub(super) region: &'static str,
    /// What it corrects.
    pub(super) corrects: Option<Corrects>,
}

/// Why an item must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The reject's reason.
    pub(super) reason: &'static str,
    /// The reject's field.
    pub(super) field: &'static str,
}

impl Stream {
    /// Throws that item `n` has for itself. Purposes: 1 what it is, 2 its content, 4 and 5 what it corrects.
    pub(super) fn dice(&self, n: u64, purpose: u64) -> Dice {
        Dice::new(mix(self.seed, n), purpose)
    }

    /// What item `n` is.
    pub(super) fn item(&self, n: u64) -> Item {
        let mut dice = self.dice(n, 1);
        match dice.below(100) {
            0..=3 => Item::Bad,
            4..=17 if n > 0 => {
                let original = n - 1 - dice.below(n.min(RESEND_REACH));
                match self.item(original) {
                    Item::New => Item::Resend { original, version: 1 + dice.below(VERSIONS - 1) },
                    // A resend of a resend, or of nothing: this one is an event of its own.
                    _ => Item::New,
                }
            }
            _ => Item::New,
        }
    }

    /// The event that is new with item `n`, in that version.
    pub(super) fn content(&self, n: u64, version: u64) -> Content {
        // Two throws, the lower one: a few tenants have most of the events.
        let tenant = |dice: &mut Dice| dice.below(TENANTS).min(dice.below(TENANTS));
        let mut dice = self.dice(n, 2);
        let own = tenant(&mut dice);
        let tenant = match self.tenant_of(n) {
            of if of == n => own,
            of => tenant(&mut self.dice(of, 2)),
        };
        let kind = KINDS[[0, 0, 0, 0, 0, 0, 1, 1, 1, 2][dice.below(10) as usize]];
        // Never nearer than two hours to any end of the window: clocks step by more than one.
        let back_us = match dice.below(20) {
            // Some hours of the last month, and not all of them: each that a correction touches is proved by itself.
            0 => (dice.below(OLD_HOURS) * OLD_HOURS_APART_S + dice.between(2 * 3_600, 3 * 3_600)) * 1_000_000,
            _ => dice.between(2 * 3_600, 5 * 3_600) * 1_000_000 + dice.below(1_000_000),
        };
        let bytes_nanos = match dice.below(10) {
            0 => i128::from(dice.below(1_000_000_000_000)),
            _ => i128::from(dice.below(1_000_000)) * 1_000_000_000,
        };
        let (ms, region) = (dice.below(3_000), REGIONS[dice.below(3) as usize]);
        let later = Duration::seconds(61 * version as i64);
        let more = if version == CONFLICT { 1_000_000_000 } else { 0 };
        Content {
            version,
            id: Self::id(n),
            tenant: format!("tenant-{tenant}"),
            kind,
            time: self.begun - Duration::microseconds(back_us as i64) + later,
            bytes_nanos: bytes_nanos + more,
            ms,
            region,
            corrects: self.corrects(n),
        }
    }

    /// The id of the event that is new with item `n`.
    pub(super) fn id(n: u64) -> String {
        format!("e{n}")
    }

    /// The number of the event with that id.
    pub(super) fn number(id: &str) -> Option<u64> {
        id.strip_prefix('e')?.parse().ok()
    }

    /// The identity of an event of this stream.
    pub(super) fn identity(&self, content: &Content) -> Identity {
        Identity::of(&content.tenant, self.source, &content.id)
    }

    /// The identity that an event of this stream corrects.
    pub(super) fn corrected(&self, content: &Content) -> Option<Identity> {
        let target = content.corrects?.target;
        Some(Identity::of(&content.tenant, self.source, &Self::id(target)))
    }

    /// Item `n` as JSON on one line, without the line's end.
    pub(super) fn json(&self, n: u64) -> String {
        match self.item(n) {
            Item::New => self.event_json(&self.content(n, 0)),
            Item::Resend { original, version } => self.event_json(&self.content(original, version)),
            Item::Bad => self.bad(n).0,
        }
    }

    fn event_json(&self, content: &Content) -> String {
        let Content { id, tenant, kind, time, bytes_nanos, ms, region, .. } = content;
        let (whole, part) = (bytes_nanos / 1_000_000_000, bytes_nanos % 1_000_000_000);
        let time = time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let correction = content
            .corrects
            .map(|corrects| format!(r#""{}":"{}","#, corrects.kind.attribute(), Self::id(corrects.target)));
        let correction = correction.unwrap_or_default();
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"{}","type":"{kind}","subject":"{tenant}","time":"{time}",{correction}"data":{{"bytes":{whole}.{part:09},"ms":{ms},"region":"{region}","path":"/v1/items"}}}}"#,
            self.source
        )
    }

    /// The bad item `n`, and what must be said of it.
    pub(super) fn bad(&self, n: u64) -> (String, Refused) {
        let source = self.source;
        let json = |id: &str, subject: &str, time: DateTime<Utc>, bytes: &str| {
            let time = time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
            format!(
                r#"{{"specversion":"1.0","id":{id},"source":"{source}","type":"http.request","subject":"{subject}","time":"{time}","data":{{"bytes":{bytes},"n":{n}}}}}"#
            )
        };
        let id = format!("\"b{n}\"");
        let (good, before) = (self.begun - Duration::hours(3), self.begun - Duration::days(36));
        let ahead = self.begun + Duration::days(30);
        match mix(self.seed ^ 0xbad, n) % if self.has_garbage { 6 } else { 5 } {
            0 => (json(&id, "a", before, "1"), Refused { reason: "too_old", field: "time" }),
            1 => (json(&id, "a", ahead, "1"), Refused { reason: "in_future", field: "time" }),
            2 => (json("\"\"", "a", good, "1"), Refused { reason: "invalid", field: "id" }),
            3 => (json(&id, "a", good, "[1]"), Refused { reason: "invalid", field: "data.bytes" }),
            4 => (json(&id, "a", good, "1.0000000001"), Refused { reason: "invalid", field: "data.bytes" }),
            _ => (format!("{{\"bad item\":{n},"), Refused { reason: "unreadable", field: "body" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rentroll_schemas::{Event, Quantity, window};

    fn stream() -> Stream {
        let begun = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        Stream { seed: 5, source: "torture", begun, has_garbage: true }
    }

    #[test]
    fn what_is_sent_is_what_is_expected() {
        let stream = stream();
        let (mut new, mut resent, mut bad, mut corrections) = (0, 0, 0, 0);
        for n in 0..5_000 {
            let text = stream.json(n);
            let event = Event::from_json(text.as_bytes());
            let content = match stream.item(n) {
                Item::New => stream.content(n, 0),
                Item::Resend { original, version } => {
                    assert!(original < n && stream.item(original) == Item::New);
                    resent += 1;
                    stream.content(original, version)
                }
                Item::Bad => {
                    bad += 1;
                    let refused = event.is_err()
                        || event.is_ok_and(|event| window::check(event.time, stream.begun, false).is_err());
                    assert!(refused, "{text}");
                    continue;
                }
            };
            new += 1;
            let event = event.unwrap();
            assert_eq!((event.id.as_ref(), event.tenant.as_ref()), (&*content.id, &*content.tenant));
            assert_eq!((event.kind.as_ref(), event.time), (content.kind, content.time));
            assert_eq!(event.measure("bytes"), Some(Quantity::from_nanos(content.bytes_nanos)));
            assert_eq!(event.dimension("region"), Some(content.region));
            assert_eq!(event.identity(), stream.identity(&content));
            assert_eq!(event.corrects(), stream.corrected(&content));
            corrections += u64::from(event.corrects().is_some());
            for hours in [-2, 0, 2] {
                let arrival = stream.begun + Duration::hours(hours);
                assert!(window::check(event.time, arrival, false).is_ok(), "{text}");
            }
        }
        assert!(resent > 400 && bad > 100 && new > 4_000, "{new} {resent} {bad}");
        assert!(corrections > 200, "{corrections}");
    }
}
