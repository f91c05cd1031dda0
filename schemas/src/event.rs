//! Usage events: CloudEvents 1.0 in JSON, structured mode.
//!
//! | attribute | here |
//! |---|---|
//! | `id`, `source` | with the tenant, the event's [`Identity`] |
//! | `type` | the operation: `http.request`, `db.read`, `storage.snapshot` |
//! | `subject` | the tenant |
//! | `time` | when it happened; RFC 3339, kept to the microsecond |
//! | `data` | an object: numbers are measures, texts and booleans dimensions, nested objects flattened with dots |
//! | `voids`, `amends` | extension attributes: the `id` of an earlier event of this tenant and source, which then counts nothing, or is replaced by this one ([`Correction`]) |
//!
//! Source: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>.

use std::borrow::Cow;

use chrono::{DateTime, Datelike as _, Utc};

use crate::{Identity, Quantity};

mod read;
mod write;

/// Longest `id`, in bytes: room for any id scheme in use, and an index that stays small.
pub const ID_BYTES_MAX: usize = 512;
/// Longest `source`, `type` and `subject`, in bytes.
pub const NAME_BYTES_MAX: usize = 512;
/// Most keys in `data`, after flattening: more is a document, not a measurement.
pub const DATA_KEYS_MAX: usize = 64;
/// Longest text of a dimension, in bytes.
pub const DIMENSION_BYTES_MAX: usize = 4096;
/// Deepest nesting of objects in `data`.
pub const DATA_DEPTH_MAX: usize = 8;

/// Whether a time can be written as RFC 3339, which has four digits for the year: a zone's offset can carry a time
/// that was read over either end.
pub fn is_writable(time: DateTime<Utc>) -> bool {
    (0..=9999).contains(&time.year())
}

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
    /// The numbers of `data`, in the order of their names.
    pub measures: Vec<(Cow<'a, str>, Quantity)>,
    /// The texts of `data`, in the order of their names.
    pub dimensions: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The earlier event that it corrects.
    pub correction: Option<Correction<'a>>,
}

/// What an event does to an earlier one of the same tenant and source. Both stay in the store; usage and money
/// see the result, in whichever order they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction<'a> {
    /// What it does.
    pub kind: CorrectionKind,
    /// The `id` of the event that it corrects.
    pub id: Cow<'a, str>,
}

/// What a correction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CorrectionKind {
    /// The earlier event counts nothing, and neither does this one.
    Voids,
    /// This event counts in place of the earlier one.
    Amends,
}

impl Correction<'_> {
    fn content(&self, crc: u32) -> u32 {
        let crc = crc32c::crc32c_append(crc, self.kind.attribute().as_bytes());
        crc32c::crc32c_append(crc, self.id.as_bytes())
    }
}

/// Where [`Event::content`] begins for all events of a type with these names of measures and dimensions, in order.
pub fn content_of_class<'n>(kind: &str, names: impl Iterator<Item = &'n str>) -> u32 {
    names.fold(content_of_text(0, kind), content_of_text)
}

/// Goes on with a text; its end is told from the next one's beginning.
pub fn content_of_text(crc: u32, text: &str) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc, text.as_bytes()), &[0])
}

impl CorrectionKind {
    /// The name of the CloudEvents extension attribute.
    pub const fn attribute(self) -> &'static str {
        match self {
            CorrectionKind::Voids => "voids",
            CorrectionKind::Amends => "amends",
        }
    }
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
    /// Puts measures and dimensions in the order of their names, as [`Event::from_json`] has them: equal content is
    /// then equal bytes.
    pub fn sort_data(&mut self) {
        self.measures.sort_by(|a, b| a.0.cmp(&b.0));
        self.dimensions.sort_by(|a, b| a.0.cmp(&b.0));
    }

    /// What makes a second delivery of this event the same event.
    pub fn identity(&self) -> Identity {
        Identity::of(&self.tenant, &self.source, &self.id)
    }

    /// The identity of the event that it corrects.
    pub fn corrects(&self) -> Option<Identity> {
        self.correction.as_ref().map(|correction| Identity::of(&self.tenant, &self.source, &correction.id))
    }

    /// Whether it counts: an event that voids another one does not.
    pub fn counts(&self) -> bool {
        self.correction.as_ref().is_none_or(|correction| correction.kind != CorrectionKind::Voids)
    }

    /// CRC-32C of the type, the data and what it corrects: a resend with other content is told by it, whatever
    /// its time says. Pinned, since it is in the store.
    pub fn content(&self) -> u32 {
        let names =
            self.measures.iter().map(|(name, _)| name).chain(self.dimensions.iter().map(|(name, _)| name));
        let mut crc = content_of_class(&self.kind, names.map(AsRef::as_ref));
        for (_, quantity) in &self.measures {
            crc = crc32c::crc32c_append(crc, &quantity.nanos().to_le_bytes());
        }
        for (_, text) in &self.dimensions {
            crc = content_of_text(crc, text);
        }
        self.correction.as_ref().map_or(crc, |correction| correction.content(crc))
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
            (r#"time="9999-12-31T23:59:59-00:01""#, "time"),
            (r#"time="0000-01-01T00:00:00+00:01""#, "time"),
            (r#"data="text""#, "data"),
            (r#"data={"n":1e99}"#, "data.n"),
            (r#"data={"n":0.12345678901}"#, "data.n"),
            (r#"data={"a":{"b":[1]}}"#, "data.a.b"),
            (r#"data={"n":1,"n":2}"#, "data.n"),
            (r#"data={"a":{"b":"x"},"a.b":"y"}"#, "data.a.b"),
            (r#"data={"a\u0000":1}"#, "data"),
            (r#"data={"a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":{}}}}}}}}}"#, "data.a.b.c.d.e.f.g.h"),
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
        // An attribute that is null is not set.
        let unset = br#"{"specversion":null,"id":"1","source":"s","type":"t","subject":null,"time":null,"voids":null}"#;
        assert_eq!(Event::from_json_with(unset, &defaults).unwrap(), bare);
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
            voids in proptest::option::of("\\PC{1,20}"),
        ) {
            let event = Event {
                id: id.into(),
                source: "s".into(),
                kind: "t".into(),
                tenant: tenant.into(),
                time: DateTime::from_timestamp(seconds, 123_456_000).unwrap(),
                measures: vec![("m".into(), Quantity::from_nanos(nanos.into()))],
                dimensions: vec![("d".into(), text.into())],
                correction: voids.map(|id| Correction { kind: CorrectionKind::Voids, id: id.into() }),
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
