//! Meters: how events become usage.
//!
//! A meter has versions: a change is a new one, from a whole minute on, and what was counted before stays as it was.
//! [`Meters`] lists them all, the versions of one name in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod aggregation;
mod condition;
mod live;
mod sql;

pub use aggregation::{Aggregation, FromRollup, Per, Percent};
pub use condition::{Condition, Given, Number, Rule};
pub use live::LiveMeters;
pub use sql::{LATEST_ORDER, json_object_sql};

use crate::yaml::{self, FileError};
use crate::{Event, Quantity};

/// `meters.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meters {
    /// The meters; an event may match several.
    pub meters: Vec<Meter>,
}

/// Counts the stored events that no meter matches, by their type: the rollups have it beside the meters. Its name is
/// none that a meter can have.
pub const UNMATCHED: &str = "__unmatched__";
/// Counts the events of a meter whose value is missing or not a number, by the meter's name.
pub const WITHOUT_VALUE: &str = "__without_value__";

/// Most labels of a meter.
pub const LABELS_MAX: usize = 64;
/// Longest key and longest text of a label, in bytes.
pub const LABEL_BYTES_MAX: usize = 1_024;

/// One way of turning events into usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meter {
    /// Stable name, used in the catalogue and in queries: lower case, digits, `_`.
    pub name: String,
    /// What it measures, for people.
    #[serde(default)]
    pub description: String,
    /// Its name for people, such as on invoices and pages; its name where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Texts of your own, by which meters are found and other systems keep what is theirs. They change nothing that counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The unit of its quantity, singular: `request`, `byte`, `ms`.
    pub unit: String,
    /// The CloudEvents `type` it counts.
    pub event_type: String,
    /// How values become one quantity.
    pub aggregation: Aggregation,
    /// The number in `data` it takes, or a text that is one in plain notation (`"12.5"`); or for `unique_count` the measure or dimension. Not for `count`; of a `rate` the
    /// number of events is taken without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Which percentile, in percent: for `percentile` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentile: Option<Percent>,
    /// Per which time: for `rate` and `time_weighted`. Seconds where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<Per>,
    /// For `time_weighted`: the dimensions by which a tenant's levels are told apart, such as its buckets; the levels of
    /// all series are added. Those of `group_by` tell them apart as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<String>,
    /// Only events of which these keys of `data` are as said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filter: BTreeMap<String, Condition>,
    /// Dimensions that the rollups keep apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_by: Vec<String>,
    /// Which version of its name it is, from 1. Given by the store, and not written in `meters.yaml`.
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    #[schemars(skip)]
    pub version: u32,
    /// It counts events from this time on, a whole minute; without it all earlier ones as well. In `meters.yaml` it says
    /// from when on a change holds: without it, from the next minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_from: Option<DateTime<Utc>>,
    /// It counts events before this time, a whole minute. Given by the store: the next version begins then, or the meter
    /// ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub effective_to: Option<DateTime<Utc>>,
}

impl Default for Meter {
    /// A count of nothing: a beginning for definitions in code.
    fn default() -> Self {
        Meter {
            name: String::new(),
            description: String::new(),
            title: None,
            labels: BTreeMap::new(),
            unit: String::new(),
            event_type: String::new(),
            aggregation: Aggregation::Count,
            value: None,
            percentile: None,
            per: None,
            series: Vec::new(),
            filter: BTreeMap::new(),
            group_by: Vec::new(),
            version: first_version(),
            effective_from: None,
            effective_to: None,
        }
    }
}

const fn first_version() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_first_version(version: &u32) -> bool {
    *version <= 1
}

/// What one meter makes of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Another type, or a filter does not let it through.
    NotMine,
    /// The value it adds.
    Value(Quantity),
    /// It is this meter's, but `value` is missing or not a number.
    NoValue,
}

impl Meters {
    /// Reads and checks `meters.yaml`.
    ///
    /// # Errors
    /// [`FileError`] names file, field and reason.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let meters: Meters = yaml::read(path)?;
        meters.check().map_err(|(field, reason)| FileError::Rule { path: path.to_owned(), field, reason })?;
        Ok(meters)
    }

    /// The newest version of the meter of that name.
    pub fn get(&self, name: &str) -> Option<&Meter> {
        self.versions(name).next_back()
    }

    /// The versions of the meter of that name, oldest first.
    pub fn versions(&self, name: &str) -> impl DoubleEndedIterator<Item = &Meter> {
        self.meters.iter().filter(move |meter| meter.name == name)
    }

    /// The newest version of each meter, in their order.
    pub fn newest(&self) -> impl Iterator<Item = &Meter> {
        let is_newest =
            |meter: &&Meter| self.get(&meter.name).is_some_and(|newest| newest.version == meter.version);
        self.meters.iter().filter(is_newest)
    }

    /// The rules that the shape alone cannot express, for a file: each name is there once; the error is (field, reason).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), (String, String)> {
        let mut names = BTreeSet::new();
        for (index, meter) in self.meters.iter().enumerate() {
            let fail = |(field, reason): (String, String)| (format!("meters[{index}].{field}"), reason);
            meter.check().map_err(fail)?;
            if !names.insert(&meter.name) {
                return Err(fail(("name".to_owned(), format!("`{}` is defined twice", meter.name))));
            }
        }
        Ok(())
    }
}

impl Meter {
    /// The rules of one meter that the shape alone cannot express; the error is (field, reason).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), (String, String)> {
        let fail = |field: &str, reason: String| Err((field.to_owned(), reason));
        let name = self.aggregation.name();
        if !is_name(&self.name) {
            return fail(
                "name",
                format!("`{}`: only a-z, 0-9 and _, beginning with a letter, at most 64", self.name),
            );
        }
        if self.unit.is_empty() {
            return fail("unit", "must not be empty".to_owned());
        }
        if self.event_type.is_empty() {
            return fail("event_type", "must not be empty".to_owned());
        }
        match (self.aggregation, &self.value) {
            (Aggregation::Count, Some(_)) => return fail("value", "a count takes no value".to_owned()),
            (_, Some(value)) if value.is_empty() => return fail("value", "must not be empty".to_owned()),
            (Aggregation::Count | Aggregation::Rate, None) | (_, Some(_)) => {}
            (_, None) => return fail("value", format!("missing: a {name} is taken of a value")),
        }
        match (self.aggregation, self.percentile) {
            (Aggregation::Percentile, None) => return fail("percentile", "missing: such as 95".to_owned()),
            (Aggregation::Percentile, Some(_)) | (_, None) => {}
            (_, Some(_)) => return fail("percentile", format!("a {name} takes none")),
        }
        let has_time = matches!(self.aggregation, Aggregation::Rate | Aggregation::TimeWeighted);
        if self.per.is_some() && !has_time {
            return fail("per", format!("a {name} is per nothing: rate and time_weighted are"));
        }
        if !self.series.is_empty() && self.aggregation != Aggregation::TimeWeighted {
            return fail("series", format!("a {name} has none: time_weighted has"));
        }
        for (key, condition) in &self.filter {
            if let Err(reason) = condition.check() {
                return fail(&format!("filter.{key}"), reason);
            }
        }
        if self.labels.len() > LABELS_MAX {
            return fail("labels", format!("{}, but at most {LABELS_MAX} are kept", self.labels.len()));
        }
        let too_long =
            |(key, text): &(&String, &String)| key.len() > LABEL_BYTES_MAX || text.len() > LABEL_BYTES_MAX;
        if let Some((key, _)) = self.labels.iter().find(too_long) {
            let key: String = key.chars().take(40).collect();
            return fail(
                &format!("labels.{key}"),
                format!("key and text have at most {LABEL_BYTES_MAX} bytes"),
            );
        }
        for (field, keys) in [("group_by", &self.group_by), ("series", &self.series)] {
            let mut seen = BTreeSet::new();
            if let Some(twice) = keys.iter().find(|key| !seen.insert(*key)) {
                return fail(field, format!("`{twice}` is there twice"));
            }
        }
        for (field, time) in [("effective_from", self.effective_from), ("effective_to", self.effective_to)] {
            if time.is_some_and(|time| time.timestamp_micros() % 60_000_000 != 0) {
                return fail(field, "must be a whole minute: usage is kept by the minute".to_owned());
            }
        }
        Ok(())
    }

    /// Whether the other one counts the same: everything but what is for people, the version and its time.
    pub fn counts_as(&self, other: &Meter) -> bool {
        let bare = |meter: &Meter| Meter {
            description: String::new(),
            title: None,
            labels: BTreeMap::new(),
            version: 1,
            effective_from: None,
            effective_to: None,
            ..meter.clone()
        };
        bare(self) == bare(other)
    }

    /// Whether it counts events of this time.
    pub fn is_effective(&self, time: DateTime<Utc>) -> bool {
        self.effective_from.is_none_or(|from| from <= time) && self.effective_to.is_none_or(|to| time < to)
    }

    /// What this meter makes of `event`.
    pub fn read(&self, event: &Event<'_>) -> Reading {
        let passes = |(key, condition): (&String, &Condition)| condition.holds(Given::of(event, key));
        let is_mine =
            event.kind == self.event_type && self.is_effective(event.time) && self.filter.iter().all(passes);
        if !is_mine {
            return Reading::NotMine;
        }
        let given = |name: &String| Given::of(event, name);
        match (&self.value, self.aggregation) {
            (None, _) => Reading::Value(Quantity::ONE),
            (Some(name), Aggregation::UniqueCount) => match given(name) {
                Given::Nothing => Reading::NoValue,
                Given::Text(_) | Given::Number(_) => Reading::Value(Quantity::ONE),
            },
            (Some(name), _) => given(name).number().map_or(Reading::NoValue, Reading::Value),
        }
    }

    /// The dimensions that its rollups keep apart, in order.
    pub fn key_dimensions(&self) -> BTreeSet<&str> {
        self.group_by.iter().chain(&self.series).map(String::as_str).collect()
    }

    /// The rollup's key for [`key_dimensions`](Meter::key_dimensions): canonical JSON, `{}` for none.
    pub fn group_key(&self, event: &Event<'_>) -> String {
        let group: BTreeMap<&str, &str> = self
            .key_dimensions()
            .into_iter()
            .map(|key| (key, event.dimension(key).unwrap_or_default()))
            .collect();
        // A map of strings always serialises.
        serde_json::to_string(&group).unwrap_or_default()
    }
}

/// A name that is safe as a metric label, a file name and an identifier in a query.
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(yaml: &str) -> Result<Meters, FileError> {
        let path = Path::new("meters.yaml");
        let meters: Meters = yaml::parse(yaml, path)?;
        meters.check().map_err(|(field, reason)| FileError::Rule { path: path.to_owned(), field, reason })?;
        Ok(meters)
    }

    const BYTES: &str = "meters:\n- {name: bytes, unit: byte, event_type: http.request, aggregation: sum, value: bytes, filter: {method: [GET]}, group_by: [method]}\n";

    #[test]
    fn reads_what_is_its_own() {
        let meters = meter(BYTES).unwrap();
        let meter = meters.get("bytes").unwrap();
        let event = |data: &str| {
            format!(
                r#"{{"specversion":"1.0","id":"1","source":"s","type":"http.request","subject":"t","time":"2015-05-17T10:05:03Z","data":{data}}}"#
            )
        };
        let read = |data: &str| meter.read(&Event::from_json(event(data).as_bytes()).unwrap());
        assert_eq!(read(r#"{"method":"GET","bytes":7}"#), Reading::Value(Quantity::from_int(7)));
        assert_eq!(read(r#"{"method":"GET","bytes":"7.50"}"#), Reading::Value("7.5".parse().unwrap()));
        assert_eq!(read(r#"{"method":"GET","bytes":"7 GB"}"#), Reading::NoValue);
        assert_eq!(read(r#"{"method":"GET"}"#), Reading::NoValue);
        assert_eq!(read(r#"{"method":"PUT","bytes":7}"#), Reading::NotMine);
        let text = event(r#"{"method":"GET"}"#);
        assert_eq!(meter.group_key(&Event::from_json(text.as_bytes()).unwrap()), r#"{"method":"GET"}"#);
    }

    #[test]
    fn mistakes_name_the_field() {
        for (yaml, named) in [
            ("meters:\n- {name: Bytes, unit: b, event_type: t, aggregation: count}\n", "meters[0].name"),
            ("meters:\n- {name: a, unit: b, event_type: t, aggregation: sum}\n", "meters[0].value"),
            (
                "meters:\n- {name: a, unit: b, event_type: t, aggregation: count, value: v}\n",
                "meters[0].value",
            ),
            (
                "meters:\n- {name: a, unit: b, event_type: t, aggregation: count, filter: {x: []}}\n",
                "filter.x",
            ),
            ("meters:\n- {name: a, unit: b, event_type: t, aggregation: median}\n", "median"),
            (
                "meters:\n- {name: a, unit: b, event_type: t, aggregation: percentile, value: v}\n",
                "percentile",
            ),
            ("meters:\n- {name: a, unit: b, event_type: t, aggregation: count, per: hour}\n", "per"),
            ("meters:\n- {name: a, unit: b, event_type: t, aggregation: count, series: [x]}\n", "series"),
            (
                "meters:\n- {name: a, unit: b, event_type: t, aggregation: count, group_by: [x, x]}\n",
                "group_by",
            ),
            (
                "meters:\n- {name: a, unit: b, event_type: t, aggregation: count, effective_from: 2026-01-01T00:00:01Z}\n",
                "effective_from",
            ),
            ("meters:\n- {name: a, unit: b, event_typo: t, aggregation: count}\n", "event_typo"),
            (
                "meters:\n- {name: a, unit: b, event_type: t, aggregation: count}\n- {name: a, unit: b, event_type: t, aggregation: count}\n",
                "meters[1].name",
            ),
        ] {
            let message = meter(yaml).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }
}
