//! A stored event, as it is listed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::fields::written;
use super::rows::Exact;
use crate::usage::events::{FoundEvent, Verdict};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed<'a> {
    event: Event<'a>,
    ingested_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_error: Option<String>,
}

#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    r#type: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    data: BTreeMap<&'a str, Node<'a>>,
}

/// A value of `data`.
#[derive(Serialize)]
#[serde(untagged)]
enum Node<'a> {
    Number(Exact),
    Text(&'a str),
    Object(BTreeMap<&'a str, Node<'a>>),
}

impl<'a> Listed<'a> {
    /// `values` are the keys that meters take their values from, by meter.
    pub(super) fn of(found: &'a FoundEvent, values: &BTreeMap<String, String>) -> Listed<'a> {
        Listed {
            event: Event {
                specversion: "1.0",
                id: &found.id,
                source: &found.source,
                r#type: &found.kind,
                subject: &found.tenant,
                time: found.time.map(written),
                data: nested(found),
            },
            ingested_at: written(found.arrived_at),
            stored_at: found.stored_at.map(written),
            validation_error: complaint(found, values),
        }
    }
}

/// Why it counts nowhere, or not everywhere.
fn complaint(found: &FoundEvent, values: &BTreeMap<String, String>) -> Option<String> {
    match found.verdict {
        Verdict::Unmatched => Some(format!("no meter counts events of type `{}`", found.kind)),
        Verdict::WithoutValue => {
            let without = found.meters.iter().filter(|counted| counted.value.is_none());
            let told = without.map(|counted| {
                let meter = &counted.meter;
                let key = values.get(meter).map_or("its value".to_owned(), |key| format!("`data.{key}`"));
                format!("meter `{meter}`: {key} is missing or not a number")
            });
            Some(told.collect::<Vec<_>>().join("; "))
        }
        _ => None,
    }
}

/// Objects in objects again. A key stays whole where the part before its dot is a value itself.
fn nested(found: &FoundEvent) -> BTreeMap<&str, Node<'_>> {
    let mut data = BTreeMap::new();
    let numbers = found.measures.iter().map(|(key, number)| (key.as_str(), Node::Number(Exact(*number))));
    let texts = found.dimensions.iter().map(|(key, text)| (key.as_str(), Node::Text(text.as_str())));
    let mut values: Vec<(&str, Node<'_>)> = numbers.chain(texts).collect();
    // The shorter first: what is a value cannot become an object later.
    values.sort_by_key(|(key, _)| (key.matches('.').count(), *key));
    for (key, value) in values {
        put(&mut data, key, value);
    }
    data
}

fn put<'a>(object: &mut BTreeMap<&'a str, Node<'a>>, key: &'a str, value: Node<'a>) {
    match key.split_once('.') {
        Some((first, rest)) if !first.is_empty() && !rest.is_empty() => {
            match object.entry(first).or_insert_with(|| Node::Object(BTreeMap::new())) {
                Node::Object(inner) => put(inner, rest, value),
                _ => drop(object.insert(key, value)),
            }
        }
        _ => drop(object.insert(key, value)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::usage::events::{Counted, LogPlace};

    pub(in super::super) fn found(id: &str, seconds: i64) -> FoundEvent {
        let at = DateTime::from_timestamp(seconds, 0).unwrap();
        FoundEvent {
            id: id.into(),
            source: "edge".into(),
            kind: "prompt".into(),
            tenant: "acme".into(),
            time: Some(at),
            arrived_at: at,
            stored_at: Some(at),
            verdict: Verdict::Counted,
            reason: String::new(),
            field: String::new(),
            detail: String::new(),
            place: String::new(),
            meters: Vec::new(),
            corrected_by: Vec::new(),
            measures: BTreeMap::new(),
            dimensions: BTreeMap::new(),
            identity: format!("identity of {id}"),
            log: LogPlace { topic: "usage".into(), partition: 0, batch: 0 },
        }
    }

    #[test]
    fn objects_are_nested_again() {
        let mut event = found("1", 0);
        event.measures = BTreeMap::from([
            ("tokens".to_owned(), "0.1".parse().unwrap()),
            ("a.b.c".to_owned(), "2".parse().unwrap()),
        ]);
        let texts = [("a.b.d", "x"), ("e", "y"), ("e.f", "z"), (".g", "w")];
        event.dimensions = texts.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        let text = serde_json::to_string(&nested(&event)).unwrap();
        assert_eq!(text, r#"{".g":"w","a":{"b":{"c":2,"d":"x"}},"e":"y","e.f":"z","tokens":0.1}"#);
    }

    #[test]
    fn what_counts_nowhere_says_why() {
        let mut event = found("1", 0);
        let values = BTreeMap::from([("m".to_owned(), "tokens".to_owned())]);
        assert_eq!(complaint(&event, &values), None);
        event.verdict = Verdict::Unmatched;
        assert_eq!(complaint(&event, &values).unwrap(), "no meter counts events of type `prompt`");
        event.verdict = Verdict::WithoutValue;
        let counted = |meter: &str, value: Option<&str>| Counted {
            meter: meter.into(),
            version: 1,
            unit: "x".into(),
            value: value.map(str::to_owned),
        };
        event.meters = vec![counted("m", None), counted("n", Some("1"))];
        assert_eq!(
            complaint(&event, &values).unwrap(),
            "meter `m`: `data.tokens` is missing or not a number"
        );
    }
}
