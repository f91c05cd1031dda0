//! The fields of a JSON body.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde_json::{Map, Value};

use super::Face;
use super::problem::cannot_be;
use crate::api::body;
use crate::api::params::{self, json};
use crate::api::problem::{Kind, Problem};
use crate::api::times;

/// What a field is asked for and what it is, for one object.
pub(super) struct Fields(Map<String, Value>);

/// Reads a JSON body.
pub(super) async fn read(face: &Face, headers: &HeaderMap, body: Body) -> Result<Value, Problem> {
    json(&body::read(headers, body, &["application/json"], face.api.config().body_bytes_max).await?)
}

/// As [`read`], of one that may be left out: then nothing says what it is, either.
pub(super) async fn read_if_any(
    face: &Face,
    headers: &HeaderMap,
    body: Body,
) -> Result<Option<Value>, Problem> {
    let mut said = headers.clone();
    if !said.contains_key(CONTENT_TYPE) {
        said.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let bytes = body::read(&said, body, &["application/json"], face.api.config().body_bytes_max).await?;
    match (bytes.is_empty(), headers.contains_key(CONTENT_TYPE)) {
        (true, _) => Ok(None),
        (false, true) => json(&bytes).map(Some),
        (false, false) => {
            let detail = "the body has no content-type; supported: application/json";
            Err(Problem::new(Kind::UnsupportedBody, detail))
        }
    }
}

impl Fields {
    /// Those of an object, each of which must be among `known`.
    pub(super) fn of(value: Value, known: &[&str]) -> Result<Fields, Problem> {
        let Value::Object(fields) = value else {
            return Err(Problem::new(Kind::UnreadableBody, "the body must be a JSON object"));
        };
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(params::unknown(name, known)),
            None => Ok(Fields(fields)),
        }
    }

    /// Whether it is there, and nothing.
    pub(super) fn is_null(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(Value::is_null)
    }

    /// What is there, and not null.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(other) => Err(cannot_be(name, &other.to_string(), "a text")),
        }
    }

    /// A text that must be there.
    pub(super) fn needed(&self, name: &str, allowed: &str) -> Result<&str, Problem> {
        self.text(name)?.ok_or_else(|| Problem::missing(name, allowed))
    }

    /// An array of texts.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Problem> {
        self.get(name).map(|value| texts(name, value)).transpose()
    }

    /// An object of texts.
    pub(super) fn map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let wrong = |value: &Value| cannot_be(name, &value.to_string(), "an object of texts");
        let Value::Object(entries) = value else { return Err(wrong(value)) };
        let entry = |(key, value): (&String, &Value)| match value {
            Value::String(text) => Ok((key.clone(), text.clone())),
            other => Err(wrong(other)),
        };
        entries.iter().map(entry).collect::<Result<_, _>>().map(Some)
    }

    /// A time.
    pub(super) fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>, Problem> {
        self.text(name)?.map(|text| times::instant(name, text, Tz::UTC)).transpose()
    }
}

/// An array of texts.
pub(super) fn texts(name: &str, value: &Value) -> Result<Vec<String>, Problem> {
    let wrong = |value: &Value| cannot_be(name, &value.to_string(), "an array of texts");
    let Value::Array(values) = value else { return Err(wrong(value)) };
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(wrong(other)),
    };
    values.iter().map(text).collect()
}

/// A time as it is written in answers: UTC, with a fraction of 3 or 6 digits where there is one.
pub(super) fn written(time: DateTime<Utc>) -> String {
    use chrono::{DurationRound as _, SecondsFormat, TimeDelta};
    let time = time.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(time);
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
