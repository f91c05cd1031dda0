//! Meters: how events become usage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::yaml::{self, FileError};
use crate::{Event, Quantity};

/// `meters.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meters {
    /// The meters; an event may match several.
    pub meters: Vec<Meter>,
}

/// One way of turning events into usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meter {
    /// Stable name, used in the catalogue and in queries: lower case, digits, `_`.
    pub name: String,
    /// What it measures, for people.
    #[serde(default)]
    pub description: String,
    /// The unit of its quantity, singular: `request`, `byte`, `ms`.
    pub unit: String,
    /// The CloudEvents `type` it counts.
    pub event_type: String,
    /// How values become one quantity.
    pub aggregation: Aggregation,
    /// The measure in `data` it takes; not for `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Only events whose dimension is one of these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filter: BTreeMap<String, Vec<String>>,
    /// Dimensions that the rollups keep apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_by: Vec<String>,
}

/// How the values of a window become one quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// The number of events.
    Count,
    /// The sum of `value`.
    Sum,
    /// The smallest `value`.
    Min,
    /// The largest `value`.
    Max,
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

    /// The meter of that name.
    pub fn get(&self, name: &str) -> Option<&Meter> {
        self.meters.iter().find(|meter| meter.name == name)
    }

    /// The rules that the shape alone cannot express; the error is (field, reason).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), (String, String)> {
        let mut names = BTreeSet::new();
        for (index, meter) in self.meters.iter().enumerate() {
            let fail = |field: &str, reason: String| Err((format!("meters[{index}].{field}"), reason));
            if !is_name(&meter.name) {
                return fail(
                    "name",
                    format!("`{}`: only a-z, 0-9 and _, beginning with a letter, at most 64", meter.name),
                );
            }
            if !names.insert(&meter.name) {
                return fail("name", format!("`{}` is defined twice", meter.name));
            }
            if meter.unit.is_empty() {
                return fail("unit", "must not be empty".to_owned());
            }
            if meter.event_type.is_empty() {
                return fail("event_type", "must not be empty".to_owned());
            }
            match (meter.aggregation, &meter.value) {
                (Aggregation::Count, Some(_)) => return fail("value", "a count takes no value".to_owned()),
                (Aggregation::Count, None) | (_, Some(_)) => {}
                (_, None) => return fail("value", "missing: only a count needs none".to_owned()),
            }
            if let Some((key, _)) = meter.filter.iter().find(|(_, values)| values.is_empty()) {
                return fail(&format!("filter.{key}"), "an empty list lets nothing through".to_owned());
            }
        }
        Ok(())
    }
}

impl Meter {
    /// What this meter makes of `event`.
    pub fn read(&self, event: &Event<'_>) -> Reading {
        if event.kind != self.event_type {
            return Reading::NotMine;
        }
        let passes = |(key, values): (&String, &Vec<String>)| {
            event.dimension(key).is_some_and(|given| values.iter().any(|value| value == given))
        };
        if !self.filter.iter().all(passes) {
            return Reading::NotMine;
        }
        match &self.value {
            None => Reading::Value(Quantity::ONE),
            Some(name) => event.measure(name).map_or(Reading::NoValue, Reading::Value),
        }
    }

    /// The rollup's key for the dimensions that this meter groups by: canonical JSON, `{}` for none.
    pub fn group_key(&self, event: &Event<'_>) -> String {
        if self.group_by.is_empty() {
            return "{}".to_owned();
        }
        let group: BTreeMap<&str, &str> =
            self.group_by.iter().map(|key| (key.as_str(), event.dimension(key).unwrap_or(""))).collect();
        // A map of strings always serialises.
        serde_json::to_string(&group).unwrap_or_default()
    }

    /// The ClickHouse expression of this meter over raw events; aggregates `events` rows of its type.
    ///
    /// A row without the value adds nothing, exactly as [`Meter::read`] has it.
    pub fn raw_aggregate_sql(&self) -> String {
        let value = self.value.as_deref().map(sql_string).unwrap_or_default();
        let has = format!("mapContains(measures, {value})");
        let of = format!("measures[{value}]");
        match self.aggregation {
            Aggregation::Count => "toDecimal128(count(), 9)".to_owned(),
            Aggregation::Sum => format!("sum({of})"),
            Aggregation::Min => format!("minIf({of}, {has})"),
            Aggregation::Max => format!("maxIf({of}, {has})"),
        }
    }

    /// The ClickHouse expression of this meter over rollup rows.
    pub fn rollup_aggregate_sql(&self) -> &'static str {
        match self.aggregation {
            Aggregation::Count | Aggregation::Sum => "sum(total)",
            Aggregation::Min => "min(least_value)",
            Aggregation::Max => "max(greatest_value)",
        }
    }

    /// The ClickHouse condition that selects this meter's raw events.
    pub fn raw_condition_sql(&self) -> String {
        let mut sql = format!("type = {}", sql_string(&self.event_type));
        for (key, values) in &self.filter {
            let quoted: Vec<String> = values.iter().map(|value| sql_string(value)).collect();
            let key = sql_string(key);
            sql.push_str(&format!(" AND dimensions[{key}] IN ({})", quoted.join(", ")));
            // A missing dimension reads as an empty one.
            if values.iter().any(String::is_empty) {
                sql.push_str(&format!(" AND mapContains(dimensions, {key})"));
            }
        }
        sql
    }

    /// The ClickHouse condition that selects the raw events that this meter counts: its own, with a value.
    pub fn raw_counts_sql(&self) -> String {
        let mut sql = self.raw_condition_sql();
        if let Some(value) = &self.value {
            sql.push_str(&format!(" AND mapContains(measures, {})", sql_string(value)));
        }
        sql
    }

    /// The ClickHouse expression of what one raw event adds.
    pub fn raw_value_sql(&self) -> String {
        match &self.value {
            None => "toDecimal128(1, 9)".to_owned(),
            Some(value) => format!("measures[{}]", sql_string(value)),
        }
    }

    /// The ClickHouse expression of [`group_key`](Meter::group_key) of a raw event.
    pub fn group_key_sql(&self) -> String {
        let keys: BTreeSet<&str> = self.group_by.iter().map(String::as_str).collect();
        if keys.is_empty() {
            return "'{}'".to_owned();
        }
        let mut parts = Vec::new();
        for (index, key) in keys.into_iter().enumerate() {
            let before = if index == 0 { "{" } else { "," };
            // Serialising a str cannot fail.
            let name = serde_json::to_string(key).unwrap_or_default();
            parts.push(sql_string(&format!("{before}{name}:\"")));
            parts.push(json_escaped_sql(&format!("dimensions[{}]", sql_string(key))));
            parts.push("'\"'".to_owned());
        }
        parts.push("'}'".to_owned());
        format!("concat({})", parts.join(", "))
    }
}

/// The ClickHouse expression of a text as serde_json writes it between quotation marks: `\` and `"` with a `\` before
/// them, control characters by letter or as `\u00xx`, everything else as it is.
fn json_escaped_sql(text: &str) -> String {
    let mut sql = format!(r#"replaceAll(replaceAll({text}, '\\', '\\\\'), '"', '\\"')"#);
    let mut rare = sql.clone();
    for control in 0..0x20_u8 {
        // Serialising a char cannot fail.
        let escaped = serde_json::to_string(&char::from(control)).unwrap_or_default();
        let escaped = sql_string(escaped.trim_matches('"'));
        rare = format!("replaceAll({rare}, '\\x{control:02x}', {escaped})");
    }
    sql = format!("if(match({text}, '[\\x00-\\x1f]'), {rare}, {sql})");
    sql
}

/// A name that is safe as a metric label, a file name and an identifier in a query.
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// A ClickHouse string literal. Only for text from the operator's own files: what comes from a request is
/// always a bound parameter.
fn sql_string(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
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
        assert_eq!(read(r#"{"method":"GET","bytes":"7"}"#), Reading::NoValue);
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

    #[test]
    fn literals_cannot_be_left() {
        assert_eq!(sql_string(r"a'b\"), r"'a\'b\\'");
    }
}
