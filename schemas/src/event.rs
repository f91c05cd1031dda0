//! Usage events: CloudEvents 1.0 in JSON, structured mode.
//!
//! | attribute | here |
//! |---|---|
//! | `id`, `source` | with the tenant, the event's [`Identity`] |
//! | `type` | the operation: `http.request`, `db.read`, `storage.snapshot` |
//! | `subject` | the tenant |
//! | `time` | when it happened; RFC 3339, kept to the microsecond |
//! | `data` | an object: numbers are measures, texts and booleans dimensions, nested objects flattened with dots |
//!
//! Source: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Identity, Quantity};

/// Longest `id`, in bytes: room for any id scheme in use, and an index that stays small.
pub const ID_BYTES_MAX: usize = 512;
/// Longest `source`, `type` and `subject`, in bytes.
pub const NAME_BYTES_MAX: usize = 512;
/// Most keys in `data`, after flattening: more is a document, not a measurement.
pub const DATA_KEYS_MAX: usize = 64;
/// Longest text of a dimension, in bytes.
pub const DIMENSION_BYTES_MAX: usize = 4096;
/// Deepest nesting of objects in `data`.
const DATA_DEPTH_MAX: usize = 8;

/// One operation of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The sender's id, unique within `source`.
    pub id: Cow<'a, str>,
    /// Who emitted it.
    pub source: Cow<'a, str>,
    /// The operation.
    pub kind: Cow<'a, str>,
    /// Whose it is.
    pub tenant: Cow<'a, str>,
    /// When it happened, UTC.
    pub time: DateTime<Utc>,
    /// The numbers of `data`.
    pub measures: Vec<(Cow<'a, str>, Quantity)>,
    /// The texts of `data`.
    pub dimensions: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// Why some bytes are not a usage event: the field at fault, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct EventError {
    /// Attribute name, `data.<key>`, or `body` if the whole is at fault.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl EventError {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        EventError { field: field.into(), reason: reason.into() }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    specversion: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    source: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    subject: Option<&'a RawValue>,
    #[serde(borrow, default)]
    time: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data_base64: Option<&'a RawValue>,
}

/// What the one who received an event may put where its sender put nothing. The default puts nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults<'a> {
    /// A missing `specversion` is taken for `1.0`.
    pub specversion: bool,
    /// A missing `subject`: the tenant of the credential.
    pub tenant: Option<&'a str>,
    /// A missing `time`: the arrival.
    pub time: Option<DateTime<Utc>>,
}

impl<'a> Event<'a> {
    /// Reads one structured-mode CloudEvent.
    ///
    /// # Errors
    /// Names the first attribute that is missing or unusable. Numbers that a [`Quantity`] cannot hold exactly
    /// are refused rather than rounded.
    pub fn from_json(bytes: &'a [u8]) -> Result<Self, EventError> {
        Event::from_json_with(bytes, &Defaults::default())
    }

    /// As [`from_json`](Event::from_json), with `defaults` for what is missing.
    ///
    /// # Errors
    /// As there.
    pub fn from_json_with(bytes: &'a [u8], defaults: &Defaults<'a>) -> Result<Self, EventError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| EventError::new("body", format!("not UTF-8: {error}")))?;
        // serde would also read a struct from an array, by position.
        if !text.trim_start().starts_with('{') {
            return Err(EventError::new("body", "not a JSON object"));
        }
        let envelope: Envelope<'a> = serde_json::from_str(text)
            .map_err(|error| EventError::new("body", format!("not a JSON object: {error}")))?;
        let version = match envelope.specversion {
            None if defaults.specversion => Cow::Borrowed("1.0"),
            version => required("specversion", version, 16)?,
        };
        if version != "1.0" {
            return Err(EventError::new(
                "specversion",
                format!("`{version}` is not supported, only `1.0` is"),
            ));
        }
        let id = required("id", envelope.id, ID_BYTES_MAX)?;
        let source = required("source", envelope.source, NAME_BYTES_MAX)?;
        let kind = required("type", envelope.kind, NAME_BYTES_MAX)?;
        let tenant = match (envelope.subject, defaults.tenant) {
            (None, Some(tenant)) => Cow::Borrowed(tenant),
            (subject, _) => required("subject", subject, NAME_BYTES_MAX)?,
        };
        let time = match (envelope.time, defaults.time) {
            (None, Some(time)) => time,
            (time, _) => {
                let time = required("time", time, 64)?;
                DateTime::parse_from_rfc3339(&time)
                    .map_err(|error| {
                        EventError::new("time", format!("`{time}` is not an RFC 3339 time: {error}"))
                    })?
                    .with_timezone(&Utc)
            }
        };
        if envelope.data_base64.is_some() {
            // Passed over, its event would be accepted and count nothing.
            return Err(EventError::new("data_base64", "binary data is not supported, use `data`"));
        }
        let mut event =
            Event { id, source, kind, tenant, time, measures: Vec::new(), dimensions: Vec::new() };
        if let Some(data) = envelope.data {
            event.read_data("", data, 0)?;
        }
        Ok(event)
    }

    fn read_data(&mut self, prefix: &str, raw: &'a RawValue, depth: usize) -> Result<(), EventError> {
        let field = |key: &str| {
            if key.is_empty() { "data".to_owned() } else { format!("data.{key}") }
        };
        if !raw.get().starts_with('{') {
            return Err(EventError::new(field(prefix), "must be a JSON object"));
        }
        if depth >= DATA_DEPTH_MAX {
            return Err(EventError::new(
                field(prefix),
                format!("nested more than {DATA_DEPTH_MAX} objects deep"),
            ));
        }
        let entries: BTreeMap<Cow<'a, str>, &'a RawValue> = serde_json::from_str(raw.get())
            .map_err(|error| EventError::new(field(prefix), format!("not a JSON object: {error}")))?;
        for (key, value) in entries {
            let key = if prefix.is_empty() { key } else { Cow::Owned(format!("{prefix}.{key}")) };
            let text = value.get();
            match text.as_bytes().first() {
                Some(b'{') => self.read_data(&key, value, depth + 1)?,
                Some(b'"') => {
                    let text: Cow<'a, str> = string(text)
                        .ok_or_else(|| EventError::new(field(&key), "not a valid JSON string"))?;
                    if text.len() > DIMENSION_BYTES_MAX {
                        return Err(EventError::new(
                            field(&key),
                            format!("longer than {DIMENSION_BYTES_MAX} bytes"),
                        ));
                    }
                    self.dimensions.push((key, text));
                }
                Some(b't' | b'f') => self.dimensions.push((key, Cow::Borrowed(text))),
                Some(b'n') => {}
                Some(b'[') => return Err(EventError::new(field(&key), "arrays are not supported")),
                _ => {
                    let quantity =
                        text.parse().map_err(|error| EventError::new(field(&key), format!("{error}")))?;
                    self.measures.push((key, quantity));
                }
            }
        }
        if self.measures.len() + self.dimensions.len() > DATA_KEYS_MAX {
            return Err(EventError::new("data", format!("more than {DATA_KEYS_MAX} keys")));
        }
        Ok(())
    }

    /// The event as a structured-mode CloudEvent.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = String::with_capacity(256);
        out.push_str(r#"{"specversion":"1.0""#);
        for (name, value) in
            [("id", &self.id), ("source", &self.source), ("type", &self.kind), ("subject", &self.tenant)]
        {
            let _ = write!(out, r#","{name}":"#);
            push_string(&mut out, value);
        }
        let time = self.time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let _ = write!(out, r#","time":"{time}","datacontenttype":"application/json","data":{{"#);
        let mut separator = "";
        for (key, quantity) in &self.measures {
            out.push_str(separator);
            push_string(&mut out, key);
            let _ = write!(out, ":{quantity}");
            separator = ",";
        }
        for (key, text) in &self.dimensions {
            out.push_str(separator);
            push_string(&mut out, key);
            out.push(':');
            push_string(&mut out, text);
            separator = ",";
        }
        out.push_str("}}");
        out.into_bytes()
    }

    /// What makes a second delivery of this event the same event.
    pub fn identity(&self) -> Identity {
        Identity::of(&self.tenant, &self.source, &self.id)
    }

    /// The measure of that name.
    pub fn measure(&self, name: &str) -> Option<Quantity> {
        self.measures.iter().find(|(key, _)| key == name).map(|(_, quantity)| *quantity)
    }

    /// The dimension of that name.
    pub fn dimension(&self, name: &str) -> Option<&str> {
        self.dimensions.iter().find(|(key, _)| key == name).map(|(_, text)| text.as_ref())
    }
}

/// A non-empty string attribute of bounded length.
fn required<'a>(name: &str, raw: Option<&'a RawValue>, bytes_max: usize) -> Result<Cow<'a, str>, EventError> {
    let raw = raw.ok_or_else(|| EventError::new(name, "missing"))?;
    let text = string(raw.get()).ok_or_else(|| EventError::new(name, "must be a string"))?;
    if text.is_empty() {
        return Err(EventError::new(name, "must not be empty"));
    }
    if text.len() > bytes_max {
        return Err(EventError::new(name, format!("longer than {bytes_max} bytes")));
    }
    Ok(text)
}

/// A JSON string, borrowed where it has no escapes.
fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str::<String>(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

fn push_string(out: &mut String, text: &str) {
    // Serialising a str into a String cannot fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(patch: &str) -> String {
        let fields = [
            ("specversion", r#""1.0""#),
            ("id", r#""1""#),
            ("source", r#""api""#),
            ("type", r#""http.request""#),
            ("subject", r#""acme""#),
            ("time", r#""2015-05-17T10:05:03Z""#),
            (
                "data",
                r#"{"bytes":12.5,"method":"GET","cached":true,"geo":{"country":"NL","km":3},"gone":null}"#,
            ),
        ];
        let (name, value) = patch.split_once('=').unwrap_or((patch, ""));
        let body: Vec<String> = fields
            .iter()
            .filter_map(|(key, given)| match (*key == name, value) {
                (true, "") => None,
                (true, value) => Some(format!(r#""{key}":{value}"#)),
                (false, _) => Some(format!(r#""{key}":{given}"#)),
            })
            .collect();
        format!("{{{}}}", body.join(","))
    }

    #[test]
    fn reads_measures_and_dimensions() {
        let text = json("none");
        let event = Event::from_json(text.as_bytes()).unwrap();
        assert_eq!(event.measure("bytes").unwrap().to_string(), "12.5");
        assert_eq!(event.measure("geo.km").unwrap().to_string(), "3");
        assert_eq!(event.dimension("method"), Some("GET"));
        assert_eq!(event.dimension("cached"), Some("true"));
        assert_eq!(event.dimension("geo.country"), Some("NL"));
        assert_eq!(event.dimension("gone"), None);
    }

    #[test]
    fn names_the_field_at_fault() {
        for (patch, field) in [
            ("specversion", "specversion"),
            (r#"specversion="0.3""#, "specversion"),
            ("id", "id"),
            ("id=7", "id"),
            (r#"id="""#, "id"),
            ("source", "source"),
            ("type=null", "type"),
            ("subject", "subject"),
            (r#"time="yesterday""#, "time"),
            (r#"data="text""#, "data"),
            (r#"data={"n":1e99}"#, "data.n"),
            (r#"data={"n":0.12345678901}"#, "data.n"),
            (r#"data={"a":{"b":[1]}}"#, "data.a.b"),
        ] {
            let error = Event::from_json(json(patch).as_bytes()).unwrap_err();
            assert_eq!(error.field, field, "{patch}: {error}");
        }
        assert_eq!(Event::from_json(b"[1]").unwrap_err().field, "body");
        assert_eq!(Event::from_json(b"\xff").unwrap_err().field, "body");
    }

    #[test]
    fn puts_defaults_where_there_is_nothing_and_nowhere_else() {
        let time = DateTime::from_timestamp(5, 0).unwrap();
        let defaults = Defaults { specversion: true, tenant: Some("own"), time: Some(time) };
        let bare = Event::from_json_with(br#"{"id":"1","source":"s","type":"t"}"#, &defaults).unwrap();
        assert_eq!((bare.tenant.as_ref(), bare.time), ("own", time));
        let text = json("none");
        let whole = Event::from_json_with(text.as_bytes(), &defaults).unwrap();
        assert_eq!(whole, Event::from_json(text.as_bytes()).unwrap());
        for patch in [r#"specversion="0.3""#, "subject=7", r#"time="now""#] {
            let text = json(patch);
            let error = Event::from_json_with(text.as_bytes(), &defaults).unwrap_err();
            assert!(patch.starts_with(&error.field), "{patch}: {error}");
        }
        let binary = br#"{"id":"1","source":"s","type":"t","data_base64":"AA=="}"#;
        assert_eq!(Event::from_json_with(binary, &defaults).unwrap_err().field, "data_base64");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            id in "\\PC{1,20}", tenant in "\\PC{1,20}", nanos in any::<i64>(), text in "\\PC{0,20}", seconds in 0_i64..4_000_000_000,
        ) {
            let event = Event {
                id: id.into(),
                source: "s".into(),
                kind: "t".into(),
                tenant: tenant.into(),
                time: DateTime::from_timestamp(seconds, 123_456_000).unwrap(),
                measures: vec![("m".into(), Quantity::from_nanos(nanos.into()))],
                dimensions: vec![("d".into(), text.into())],
            };
            let json = event.to_json();
            prop_assert_eq!(Event::from_json(&json).unwrap(), event);
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Event::from_json(&bytes);
        }
    }
}
