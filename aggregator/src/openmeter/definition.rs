//! A meter in OpenMeter's words, and back. Pure.
//!
//! What OpenMeter calls a meter's `name` is its title, and `metadata` its labels. Its names to group by are our keys of `data`,
//! where both are the same; a name that differs is kept in a label, under [`ALIAS`].

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use rentroll_schemas::meter::{Aggregation, Meter};
use serde::Serialize;
use serde_json::{Value, json};

use super::fields::{Fields, written};
use super::path;
use super::problem::cannot_be;
use crate::api::problem::{Kind, Problem, one_of};
use crate::meters::MeterError;
use crate::meters::history::Stored;
use crate::meters::registry::FILE;

/// The beginning of the labels that keep names: `openmeter.group_by.model` is the key of `model`.
const ALIAS: &str = "openmeter.group_by.";
/// Names that mean something else in a query.
const TAKEN: [&str; 2] = ["subject", "customer_id"];
const NAME_LETTERS_MAX: usize = 256;
const DESCRIPTION_LETTERS_MAX: usize = 1_024;
const AGGREGATIONS: [(&str, Aggregation); 7] = [
    ("SUM", Aggregation::Sum),
    ("COUNT", Aggregation::Count),
    ("UNIQUE_COUNT", Aggregation::UniqueCount),
    ("AVG", Aggregation::Avg),
    ("MIN", Aggregation::Min),
    ("MAX", Aggregation::Max),
    ("LATEST", Aggregation::Latest),
];

/// A meter from when it was made until now, or until it was deleted: versions without an end between them.
#[derive(Clone, Debug)]
pub(super) struct Life {
    /// Its newest definition.
    pub(super) meter: Meter,
    /// Its first version.
    pub(super) first: Stored,
    /// Its newest version.
    pub(super) newest: Stored,
    /// Its end.
    pub(super) end: Option<Stored>,
}

/// The last life of each meter. `rows` in the order of name and version.
pub(super) fn lives(rows: &[Stored]) -> Vec<Life> {
    let mut lives: Vec<Life> = Vec::new();
    for row in rows {
        let last = lives.last_mut().filter(|life| life.newest.name == row.name);
        match (last, &row.definition) {
            (Some(life), None) => life.end = Some(row.clone()),
            (Some(life), Some(meter)) if life.end.is_none() => {
                life.meter = meter.clone();
                life.newest = row.clone();
            }
            (again, Some(meter)) => {
                let life = Life { meter: meter.clone(), first: row.clone(), newest: row.clone(), end: None };
                match again {
                    Some(before) => *before = life,
                    None => lives.push(life),
                }
            }
            (None, None) => {}
        }
    }
    lives
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown<'a> {
    id: &'a str,
    pub(super) slug: &'a str,
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    pub(super) aggregation: String,
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_property: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    group_by: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_from: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'a str, &'a str>,
    annotations: Value,
    created_at: String,
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<String>,
}

impl Life {
    /// From when on usage under its name is its own: what was counted before it was made again is another meter's.
    pub(super) fn begins(&self) -> DateTime<Utc> {
        let since = self.first.effective_from.filter(|_| self.first.version > 1);
        since.unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Whether it was written in `meters.yaml`.
    pub(super) fn is_of_file(&self) -> bool {
        self.newest.origin == FILE
    }

    pub(super) fn shown(&self) -> Shown<'_> {
        let meter = &self.meter;
        let mut annotations = json!({ "unit": meter.unit, "version": self.newest.version });
        if !meter.filter.is_empty() {
            annotations["filter"] = json!(meter.filter);
        }
        let labels = meter.labels.iter().filter(|(key, _)| !key.starts_with(ALIAS));
        Shown {
            id: &meter.name,
            slug: &meter.name,
            name: meter.title.as_deref().unwrap_or(&meter.name),
            description: &meter.description,
            aggregation: meter.aggregation.name().to_uppercase(),
            event_type: &meter.event_type,
            value_property: meter.value.as_deref().map(path::of_key),
            group_by: names(meter).into_iter().map(|(name, key)| (name, path::of_key(&key))).collect(),
            event_from: self.first.effective_from.map(written),
            metadata: labels.map(|(key, text)| (key.as_str(), text.as_str())).collect(),
            annotations,
            created_at: written(self.first.written_at),
            updated_at: written(self.newest.written_at),
            deleted_at: self.end.as_ref().map(|end| written(end.written_at)),
        }
    }
}

/// The names to group a meter's usage by, each with its key of `data`.
pub(super) fn names(meter: &Meter) -> Vec<(String, String)> {
    let labels = || meter.labels.iter().filter_map(|(label, key)| Some((label.strip_prefix(ALIAS)?, key)));
    let mut names: Vec<(String, String)> = labels()
        .filter(|(_, key)| meter.group_by.contains(key))
        .map(|(name, key)| (name.to_owned(), key.clone()))
        .collect();
    for key in &meter.group_by {
        if names.iter().any(|(_, named)| named == key) {
            continue;
        }
        // One that OpenMeter did not make may be no name there.
        let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
        let plain: String = key.chars().map(letter).collect();
        let is_free = |name: &String| {
            !TAKEN.contains(&name.as_str())
                && names.iter().all(|(taken, _)| taken != name)
                && !name.is_empty()
        };
        let mut others = (2_usize..).map(|number| format!("{plain}_{number}"));
        let name = Some(plain.clone()).filter(is_free).or_else(|| others.find(is_free)).unwrap_or(plain);
        names.push((name, key.clone()));
    }
    names
}

fn group(meter: &mut Meter, fields: &Fields) -> Result<(), Problem> {
    let given = match (fields.map("groupBy")?, fields.is_null("groupBy")) {
        (Some(given), _) => given,
        (None, true) => BTreeMap::new(),
        (None, false) => return Ok(()),
    };
    meter.labels.retain(|label, _| !label.starts_with(ALIAS));
    meter.group_by.clear();
    let mut by_key: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for (name, path) in &given {
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || TAKEN.contains(&name.as_str()) {
            let allowed = "names of letters, digits and `_`, not `subject` and not `customer_id`";
            return Err(cannot_be("groupBy", name, allowed));
        }
        let key = path::key(path).ok_or_else(|| cannot_be("groupBy", path, path::ALLOWED))?;
        if !meter.group_by.contains(&key) {
            meter.group_by.push(key.clone());
        }
        by_key.entry(key).or_default().push(name);
    }
    for (key, names) in by_key.iter().filter(|(key, names)| **names != [*key]) {
        meter.labels.extend(names.iter().map(|name| (format!("{ALIAS}{name}"), key.clone())));
    }
    Ok(())
}

fn words(meter: &mut Meter, fields: &Fields) -> Result<(), Problem> {
    let text = |name, least, most| {
        let text = fields.text(name)?;
        let is_allowed = text.is_none_or(|text| (least..=most).contains(&text.chars().count()));
        let allowed = format!("{least} to {most} letters");
        if is_allowed { Ok(text) } else { Err(cannot_be(name, text.unwrap_or_default(), allowed)) }
    };
    match text("name", 1, NAME_LETTERS_MAX)? {
        Some(name) => meter.title = Some(name.to_owned()),
        None if fields.is_null("name") => meter.title = None,
        None => {}
    }
    match text("description", 0, DESCRIPTION_LETTERS_MAX)? {
        Some(description) => description.clone_into(&mut meter.description),
        None if fields.is_null("description") => meter.description.clear(),
        None => {}
    }
    if let Some(metadata) = fields.map("metadata")? {
        if let Some(key) = metadata.keys().find(|key| key.starts_with(ALIAS)) {
            return Err(cannot_be("metadata", key, format!("no key that begins with `{ALIAS}`")));
        }
        meter.labels.retain(|label, _| label.starts_with(ALIAS));
        meter.labels.extend(metadata);
    } else if fields.is_null("metadata") {
        meter.labels.retain(|label, _| label.starts_with(ALIAS));
    }
    Ok(())
}

const CREATE: [&str; 9] = [
    "slug",
    "name",
    "description",
    "aggregation",
    "eventType",
    "valueProperty",
    "groupBy",
    "metadata",
    "eventFrom",
];
const UPDATE: [&str; 4] = ["name", "description", "metadata", "groupBy"];

/// The meter that a body asks for.
pub(super) fn made(body: Value) -> Result<Meter, Problem> {
    let fields = Fields::of(body, &CREATE)?;
    let slugs = "a lower-case letter, then lower-case letters, digits and `_`, at most 64";
    let slug = fields.needed("slug", slugs)?;
    if !rentroll_schemas::meter::is_name(slug) {
        return Err(cannot_be("slug", slug, slugs));
    }
    let known: Vec<&str> = AGGREGATIONS.iter().map(|(name, _)| *name).collect();
    let given = fields.needed("aggregation", &one_of(&known))?;
    let aggregation =
        AGGREGATIONS.iter().find(|(name, _)| *name == given).map(|(_, aggregation)| *aggregation);
    let aggregation = aggregation.ok_or_else(|| cannot_be("aggregation", given, one_of(&known)))?;
    let value = match (aggregation, fields.text("valueProperty")?) {
        (Aggregation::Count, _) => None,
        (_, None) => return Err(Problem::missing("valueProperty", path::ALLOWED)),
        (_, Some(path)) => {
            Some(path::key(path).ok_or_else(|| cannot_be("valueProperty", path, path::ALLOWED))?)
        }
    };
    let mut meter = Meter {
        name: slug.to_owned(),
        event_type: fields.needed("eventType", "the `type` of the events")?.to_owned(),
        aggregation,
        effective_from: fields.time("eventFrom")?,
        ..Meter::default()
    };
    words(&mut meter, &fields)?;
    group(&mut meter, &fields)?;
    let last = value.as_deref().and_then(|key| key.rsplit('.').next()).unwrap_or("event");
    meter.unit =
        meter.labels.get("unit").filter(|unit| !unit.is_empty()).map_or(last, String::as_str).to_owned();
    meter.value = value;
    check(&meter)?;
    Ok(meter)
}

/// The meter as a body changes it.
pub(super) fn changed(meter: &Meter, body: Value) -> Result<Meter, Problem> {
    let fields = Fields::of(body, &UPDATE)?;
    let mut meter = meter.clone();
    words(&mut meter, &fields)?;
    group(&mut meter, &fields)?;
    check(&meter)?;
    Ok(meter)
}

fn check(meter: &Meter) -> Result<(), Problem> {
    meter.check().map_err(|(field, reason)| refused(MeterError::Definition { field, reason }, meter))
}

/// Why the registry does not take a meter, by the name that its field has here.
pub(super) fn refused(error: MeterError, meter: &Meter) -> Problem {
    match error {
        MeterError::Definition { field, reason } => {
            let (first, inner) = field.split_once('.').unwrap_or((&field, ""));
            let (name, given) = match first {
                "name" => ("slug", meter.name.clone()),
                "title" => ("name", meter.title.clone().unwrap_or_default()),
                "event_type" => ("eventType", meter.event_type.clone()),
                "aggregation" => ("aggregation", meter.aggregation.name().to_uppercase()),
                "value" => ("valueProperty", meter.value.as_deref().map(path::of_key).unwrap_or_default()),
                // It is taken of the path, where the metadata has none.
                "unit" => ("valueProperty", meter.unit.clone()),
                "group_by" => ("groupBy", meter.group_by.join(", ")),
                "labels" => ("metadata", inner.to_owned()),
                "effective_from" => ("eventFrom", meter.effective_from.map(written).unwrap_or_default()),
                other => (other, String::new()),
            };
            let problem = Problem::about(Kind::InvalidParameter, name, &given, reason.clone());
            match given.is_empty() {
                true => problem.saying(format!("`{name}`: {reason}")),
                false => problem,
            }
        }
        error => error.into(),
    }
}

/// Whether names are each there once: what the rows of an answer are told apart by.
pub(super) fn without_repeats(names: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(meter: Meter) -> Life {
        let row = Stored {
            name: meter.name.clone(),
            version: 1,
            definition: Some(meter.clone()),
            effective_from: None,
            origin: "api".into(),
            written_at: DateTime::from_timestamp(1_767_323_045, 678_000_000).unwrap(),
        };
        Life { meter, first: row.clone(), newest: row, end: None }
    }

    #[test]
    fn what_is_made_is_shown_as_it_was_asked_for() {
        let asked = json!({
            "slug": "tokens_total", "name": "Tokens", "description": "Tokens of all models", "aggregation": "SUM",
            "eventType": "prompt", "valueProperty": "$.usage.tokens", "metadata": {"team": "ai"},
            "groupBy": {"model": "$.model", "kind": "$.meta.kind", "sort": "$['meta']['kind']"},
        });
        let meter = made(asked.clone()).unwrap();
        assert_eq!(meter.unit, "tokens");
        assert_eq!(meter.group_by, ["meta.kind", "model"]);
        assert_eq!(meter.labels.len(), 3, "{:?}", meter.labels);
        let mut shown = serde_json::to_value(life(meter).shown()).unwrap();
        let mut expected = asked;
        expected["id"] = json!("tokens_total");
        expected["groupBy"]["sort"] = json!("$.meta.kind");
        expected["annotations"] = json!({"unit": "tokens", "version": 1});
        expected["createdAt"] = json!("2026-01-02T03:04:05.678Z");
        expected["updatedAt"] = expected["createdAt"].clone();
        assert_eq!(shown.take(), expected);
    }

    #[test]
    fn what_a_change_leaves_out_stays() {
        let meter = made(json!({
            "slug": "a", "aggregation": "COUNT", "eventType": "t", "valueProperty": 7.to_string(),
            "groupBy": {"model": "$.m"}, "metadata": {"x": "y"},
        }))
        .unwrap();
        let same = changed(&meter, json!({})).unwrap();
        assert_eq!(same, meter);
        let renamed = changed(&meter, json!({"name": "A", "metadata": null})).unwrap();
        assert_eq!((renamed.title.as_deref(), renamed.labels.len()), (Some("A"), 1));
        let regrouped = changed(&meter, json!({"groupBy": {"user": "$.user"}})).unwrap();
        assert_eq!(names(&regrouped), [("user".to_owned(), "user".to_owned())]);
        assert_eq!(regrouped.labels.len(), 1);
        assert!(changed(&meter, json!({"eventType": "u"})).is_err());
    }

    #[test]
    fn meters_that_were_made_elsewhere_have_names_as_well() {
        let keys = ["method", "http.route", "http_route", "subject"].map(str::to_owned);
        let meter = Meter { group_by: keys.to_vec(), ..Meter::default() };
        let names: Vec<String> = names(&meter).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["method", "http_route", "http_route_2", "subject_2"]);
    }

    #[test]
    fn a_meter_that_is_made_again_has_another_life() {
        let row = |version: u32, name: &str, ends: bool| {
            let meter = Meter { name: name.into(), unit: version.to_string(), ..Meter::default() };
            Stored { version, definition: (!ends).then_some(meter.clone()), ..life(meter).first }
        };
        let rows = [
            row(1, "a", false),
            row(2, "a", true),
            row(3, "a", false),
            row(4, "a", false),
            row(1, "b", false),
            row(2, "b", true),
        ];
        let lives = lives(&rows);
        let found: Vec<_> =
            lives.iter().map(|life| (life.first.version, life.newest.version, life.end.is_some())).collect();
        assert_eq!(found, [(3, 4, false), (1, 1, true)]);
    }
}
