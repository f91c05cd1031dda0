//! What records come to, given what is known. Pure.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use rentroll_schemas::tenant::{Fault, Origin, TenantRecord, repeated, written};
use serde::Serialize;

use super::Refusal;
use super::history::{Entry, History};

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is known from then on.
    Added,
    /// Other things are known of it from then on.
    Changed,
    /// Nothing is known of it from then on.
    Removed,
    /// It says what is known: no row is added.
    Unchanged,
}

/// What a record does, and to which fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The tenant.
    pub tenant: String,
    /// What the record does.
    pub action: Action,
    /// From when on; `None` from the beginning.
    pub valid_from: Option<DateTime<Utc>>,
    /// The fields that differ from what was known at that time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// A field that differs; empty for nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `tier`, `tags.region`…
    pub field: String,
    /// What was known.
    pub before: String,
    /// What is known then.
    pub after: String,
}

/// A billing period that is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedPeriod {
    /// `2026-05`.
    pub period: String,
    /// Its first instant.
    pub starts_at: DateTime<Utc>,
    /// First instant after it.
    pub ends_at: DateTime<Utc>,
}

/// What records come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for each record that is taken, in their order.
    pub changes: Vec<Change>,
    /// Those that are not taken, in their order.
    pub refusals: Vec<Refusal>,
    /// The rows to be added.
    pub rows: Vec<Entry>,
}

/// What of the registry bears on some records.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The rows of their tenants.
    pub histories: BTreeMap<String, History>,
    /// The periods that do not change any more.
    pub closed: Vec<ClosedPeriod>,
}

/// The next whole minute after `now`: what is said now does not change what has been.
pub fn next_minute(now: DateTime<Utc>) -> DateTime<Utc> {
    let minute = TimeDelta::minutes(1);
    now.duration_trunc(minute).unwrap_or(now) + minute
}

impl Known {
    /// From when on each of the records holds: see [`TenantRecord::valid_from`].
    pub fn starts(&self, records: &[TenantRecord], now: DateTime<Utc>) -> Vec<Option<DateTime<Utc>>> {
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        for record in records {
            *count.entry(&record.tenant).or_default() += 1;
        }
        let start = |record: &TenantRecord| {
            let is_new = self.histories.get(&record.tenant).is_none_or(History::is_empty);
            match record.valid_from {
                None if is_new || count.get(record.tenant.as_str()) > Some(&1) => None,
                None => Some(next_minute(now)),
                Some(_) => record.starts_at(),
            }
        };
        records.iter().map(start).collect()
    }

    /// What `records` come to.
    pub fn plan(mut self, records: &[TenantRecord], origin: Origin, now: DateTime<Utc>) -> Plan {
        let starts = self.starts(records, now);
        let mut faults: BTreeMap<usize, Fault> = repeated(records).into_iter().collect();
        for (index, record) in records.iter().enumerate() {
            if let Err(fault) = record.check() {
                faults.insert(index, fault);
            }
        }
        // In the order of time, so that each is held against what the earlier ones make known.
        let mut order: Vec<usize> = (0..records.len()).filter(|index| !faults.contains_key(index)).collect();
        order.sort_by_key(|index| starts[*index]);

        let mut changes = BTreeMap::new();
        let mut rows = Vec::new();
        for index in order {
            let record = TenantRecord { valid_from: starts[index], ..records[index].clone() };
            let history = self.histories.entry(record.tenant.clone()).or_default();
            // Of the file's own entries, one without a time is whatever the file said last.
            let said_before = (origin == Origin::File)
                .then(|| {
                    let is_timeless = records[index].valid_from.is_none() && record.valid_from.is_some();
                    history.newest_of_file((!is_timeless).then_some(record.valid_from))
                })
                .flatten();
            let before = history.known_at(record.valid_from);
            let is_known = match before {
                Some(before) => before.says_the_same(&record),
                None => record.removed,
            };
            let is_unchanged = is_known || said_before.is_some_and(|said| said.record.says_the_same(&record));
            let action = match before {
                _ if is_unchanged => Action::Unchanged,
                _ if record.removed => Action::Removed,
                Some(_) => Action::Changed,
                None => Action::Added,
            };
            if action != Action::Unchanged
                && let Err(fault) = is_open(&self.closed, history, record.valid_from)
            {
                faults.insert(index, fault);
                continue;
            }
            let differences = match action {
                Action::Unchanged => Vec::new(),
                _ => differences(before.unwrap_or(&TenantRecord::default()), &record),
            };
            let (tenant, valid_from) = (record.tenant.clone(), record.valid_from);
            changes.insert(index, Change { tenant, action, valid_from, differences });
            if action != Action::Unchanged {
                let entry = Entry { recorded_at: after(history, now), record, origin };
                rows.push(entry.clone());
                history.add(entry);
            }
        }
        let refusals = faults.into_iter().map(|(index, fault)| Refusal {
            index,
            tenant: records[index].tenant.clone(),
            fault,
        });
        Plan { changes: changes.into_values().collect(), refusals: refusals.collect(), rows }
    }
}

/// When a row is recorded: later than those that are there, whatever the clock says, or it would not hold.
fn after(history: &History, now: DateTime<Utc>) -> DateTime<Utc> {
    let now = now.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(now);
    history.newest().map_or(now, |newest| now.max(newest.recorded_at + TimeDelta::microseconds(1)))
}

/// What is known of a closed period stays: only a tenant of which nothing was ever known may be known from the beginning.
fn is_open(closed: &[ClosedPeriod], history: &History, start: Option<DateTime<Utc>>) -> Result<(), Fault> {
    if start.is_none() && history.is_empty() {
        return Ok(());
    }
    let until = history.until(start);
    let is_within = |period: &&ClosedPeriod| {
        start.is_none_or(|start| start < period.ends_at) && until.is_none_or(|until| period.starts_at < until)
    };
    let Some(period) = closed.iter().find(is_within) else { return Ok(()) };
    let end = closed.iter().map(|period| period.ends_at).max().unwrap_or(period.ends_at);
    let reason = format!(
        "it would hold within the billing period {}, which is closed: a change can begin at {}",
        period.period,
        written(end)
    );
    Err(Fault::new("valid_from", reason))
}

fn differences(before: &TenantRecord, after: &TenantRecord) -> Vec<Difference> {
    let fields = |record: &TenantRecord| {
        let mut fields = BTreeMap::from([
            ("name".to_owned(), record.name.clone()),
            ("organisation".to_owned(), record.organisation.clone()),
            ("tier".to_owned(), record.tier.clone()),
        ]);
        fields.extend(record.tags.iter().map(|(key, value)| (format!("tags.{key}"), value.clone())));
        let ids = record.external_ids.iter();
        fields.extend(ids.map(|(system, id)| (format!("external_ids.{system}"), id.clone())));
        fields
    };
    let (before, after) = (fields(before), fields(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let of = |fields: &BTreeMap<String, String>, name| fields.get(name).cloned().unwrap_or_default();
    names
        .into_iter()
        .map(|name| Difference { field: name.clone(), before: of(&before, name), after: of(&after, name) })
        .filter(|difference| difference.before != difference.after)
        .collect()
}

#[cfg(test)]
mod tests;
