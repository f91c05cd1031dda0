//! From rows to versions.

use chrono::{DateTime, Utc};
use rentroll_schemas::tenant::{Origin, TenantRecord};
use serde::Serialize;

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is known, with `valid_from` as `None` for the beginning.
    pub record: TenantRecord,
    /// When it was written.
    pub recorded_at: DateTime<Utc>,
    /// Where it comes from.
    pub origin: Origin,
}

/// What is known of a tenant in a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantVersion {
    /// What is known, and from when on; `valid_from` is `None` for the beginning.
    #[serde(flatten)]
    pub record: TenantRecord,
    /// First instant at which the next version holds; `None` if there is none.
    pub valid_to: Option<DateTime<Utc>>,
    /// Where it comes from.
    pub origin: Origin,
    /// When it was written.
    pub recorded_at: DateTime<Utc>,
}

impl TenantVersion {
    /// Whether it holds at `time`.
    pub fn holds_at(&self, time: DateTime<Utc>) -> bool {
        self.record.starts_at().is_none_or(|from| from <= time) && self.valid_to.is_none_or(|to| time < to)
    }
}

/// All rows of one tenant.
#[derive(Clone, Debug, Default)]
pub struct History {
    entries: Vec<Entry>,
}

impl History {
    /// Adds a row.
    pub fn add(&mut self, entry: Entry) {
        let key = |entry: &Entry| (entry.record.starts_at(), entry.recorded_at);
        let place = self.entries.partition_point(|other| key(other) <= key(&entry));
        self.entries.insert(place, entry);
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The row that holds at `time`, `None` being the beginning. It may say that the tenant was removed.
    pub fn at(&self, time: Option<DateTime<Utc>>) -> Option<&Entry> {
        // `None` is less than any time, and rows are in the order of time, then of recording.
        self.entries.iter().rfind(|entry| entry.record.starts_at() <= time)
    }

    /// What is known at `time`: as [`History::at`], without removals.
    pub fn known_at(&self, time: Option<DateTime<Utc>>) -> Option<&TenantRecord> {
        self.at(time).map(|entry| &entry.record).filter(|record| !record.removed)
    }

    /// When the version that holds at `time` gives way to the next.
    pub fn until(&self, time: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        self.entries.iter().map(|entry| entry.record.starts_at()).find(|start| *start > time).flatten()
    }

    /// The row that was recorded last.
    pub fn newest(&self) -> Option<&Entry> {
        self.entries.iter().max_by_key(|entry| entry.recorded_at)
    }

    /// The row that was recorded last of the file, of all or of those from `start` on alone.
    pub fn newest_of_file(&self, start: Option<Option<DateTime<Utc>>>) -> Option<&Entry> {
        let of_file = self.entries.iter().filter(|entry| entry.origin == Origin::File);
        of_file
            .filter(|entry| start.is_none_or(|start| entry.record.starts_at() == start))
            .max_by_key(|entry| entry.recorded_at)
    }

    /// The versions, in the order of time, removals too.
    pub fn versions(&self) -> Vec<TenantVersion> {
        let mut versions: Vec<TenantVersion> = Vec::new();
        for Entry { record, recorded_at, origin } in &self.entries {
            if let Some(last) = versions.last_mut() {
                if last.record.starts_at() == record.starts_at() {
                    versions.pop();
                } else {
                    last.valid_to = record.starts_at();
                }
            }
            let (record, recorded_at, origin) = (record.clone(), *recorded_at, *origin);
            versions.push(TenantVersion { record, valid_to: None, origin, recorded_at });
        }
        versions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<DateTime<Utc>> {
        Some(text.parse().unwrap())
    }

    fn entry(tier: &str, from: Option<DateTime<Utc>>, recorded_at: i64) -> Entry {
        Entry {
            record: TenantRecord {
                tenant: "acme".into(),
                tier: tier.into(),
                valid_from: from,
                removed: tier.is_empty(),
                ..TenantRecord::default()
            },
            recorded_at: DateTime::from_timestamp(recorded_at, 0).unwrap(),
            origin: Origin::Api,
        }
    }

    #[test]
    fn versions_hold_until_the_next_and_the_last_that_was_recorded_wins() {
        let mut history = History::default();
        let (may, june) = (at("2026-05-17T10:01:00Z"), at("2026-06-01T00:00:00Z"));
        for entry in [
            entry("", june, 5),
            entry("pro", may, 3),
            entry("free", None, 1),
            entry("trial", may, 2),
            entry("enterprise", may, 4),
        ] {
            history.add(entry);
        }
        let found: Vec<_> = history
            .versions()
            .into_iter()
            .map(|version| (version.record.tier, version.record.valid_from, version.valid_to))
            .collect();
        let expected =
            [("free".into(), None, may), ("enterprise".into(), may, june), (String::new(), june, None)];
        assert_eq!(found, expected);
        for (time, tier) in [
            (None, Some("free")),
            (at("2026-05-17T10:00:59Z"), Some("free")),
            (may, Some("enterprise")),
            (at("2026-05-31T23:59:59Z"), Some("enterprise")),
            (june, None),
        ] {
            assert_eq!(history.known_at(time).map(|record| record.tier.as_str()), tier, "{time:?}");
            if let Some(time) = time {
                let holds: Vec<TenantVersion> =
                    history.versions().into_iter().filter(|version| version.holds_at(time)).collect();
                assert_eq!(holds.len(), 1);
                assert_eq!(holds[0].record, history.at(Some(time)).unwrap().record);
            }
        }
        assert_eq!((history.until(None), history.until(may), history.until(june)), (may, june, None));
        assert_eq!(history.newest().unwrap().record.valid_from, june);
    }
}
