//! From JSON to an event, in one pass: texts stay where they are, and nothing is read twice.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    Correction, CorrectionKind, DATA_DEPTH_MAX, DATA_KEYS_MAX, DIMENSION_BYTES_MAX, Defaults, Event,
    EventError, ID_BYTES_MAX, NAME_BYTES_MAX, is_writable,
};
use crate::Quantity;

impl<'a> Event<'a> {
    /// Reads one structured-mode CloudEvent.
    ///
    /// # Errors
    /// Names the first attribute that is missing or unusable. Numbers that a [`Quantity`] cannot hold exactly
    /// are refused rather than rounded, and so is a key that is given twice: readers differ in which one they take.
    pub fn from_json(bytes: &'a [u8]) -> Result<Self, EventError> {
        Event::from_json_with(bytes, &Defaults::default())
    }

    /// As [`from_json`](Event::from_json), with `defaults` for what is missing.
    ///
    /// # Errors
    /// As there.
    pub fn from_json_with(bytes: &'a [u8], defaults: &Defaults<'a>) -> Result<Self, EventError> {
        let text = simdutf8::compat::from_utf8(bytes)
            .map_err(|error| EventError::new("body", format!("not UTF-8: {error}")))?;
        // serde would also read a struct from an array, by position.
        if !text.trim_start().starts_with('{') {
            return Err(EventError::new("body", "not a JSON object"));
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let envelope = deserializer
            .deserialize_map(EnvelopeVisitor)
            .and_then(|envelope| deserializer.end().map(|()| envelope))
            .map_err(|error| EventError::new("body", format!("not a JSON object: {error}")))?;
        envelope.check(defaults)
    }
}

/// What was found, not checked yet: which attribute is at fault must not depend on their order.
#[derive(Default)]
struct Envelope<'a> {
    attributes: [Option<Attribute<'a>>; ATTRIBUTES.len()],
    data: Data<'a>,
}

/// Attributes that are read, in the order in which they are checked.
const ATTRIBUTES: [&str; 9] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    CorrectionKind::Voids.attribute(),
    CorrectionKind::Amends.attribute(),
    "data_base64",
];

/// The place of a name in [`ATTRIBUTES`]. A match compares lengths before texts; most keys are looked up in vain or
/// late in the list.
fn place_of(name: &str) -> Option<usize> {
    Some(match name {
        "specversion" => 0,
        "id" => 1,
        "source" => 2,
        "type" => 3,
        "subject" => 4,
        "time" => 5,
        "voids" => 6,
        "amends" => 7,
        "data_base64" => 8,
        _ => return None,
    })
}

/// The value of an attribute: a text, borrowed where it has no escapes, or what none may be.
enum Attribute<'a> {
    Text(Cow<'a, str>),
    /// Null: as if it were not there (section 2.2 of the format).
    Unset,
    Other,
}

impl<'de> serde::Deserialize<'de> for Attribute<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AttributeVisitor)
    }
}

struct AttributeVisitor;

/// What an attribute may not be.
macro_rules! no_text {
    ($($name:ident: $given:ty),*) => { $(
        fn $name<E>(self, _: $given) -> Result<Attribute<'de>, E> {
            Ok(Attribute::Other)
        }
    )* };
}

impl<'de> Visitor<'de> for AttributeVisitor {
    type Value = Attribute<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    no_text!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);

    fn visit_unit<E>(self) -> Result<Attribute<'de>, E> {
        Ok(Attribute::Unset)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Attribute<'de>, E> {
        Ok(Attribute::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Attribute<'de>, E> {
        Ok(Attribute::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Attribute<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Attribute::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attribute<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Attribute::Other)
    }
}

impl<'a> Envelope<'a> {
    fn check(self, defaults: &Defaults<'a>) -> Result<Event<'a>, EventError> {
        let is_set = |attribute: &Attribute<'a>| !matches!(attribute, Attribute::Unset);
        let [version, id, source, kind, tenant, time, voids, amends, data_base64] =
            self.attributes.map(|attribute| attribute.filter(is_set));
        let version = match version {
            None if defaults.specversion => Cow::Borrowed("1.0"),
            version => required("specversion", version, 16)?,
        };
        if version != "1.0" {
            return Err(EventError::new(
                "specversion",
                format!("`{version}` is not supported, only `1.0` is"),
            ));
        }
        let id = required("id", id, ID_BYTES_MAX)?;
        let source = required("source", source, NAME_BYTES_MAX)?;
        let kind = required("type", kind, NAME_BYTES_MAX)?;
        let tenant = match (tenant, defaults.tenant) {
            (None, Some(tenant)) => Cow::Borrowed(tenant),
            (subject, _) => required("subject", subject, NAME_BYTES_MAX)?,
        };
        let time = match (time, defaults.time) {
            (None, Some(time)) => time,
            (time, _) => {
                let text = required("time", time, 64)?;
                let time = match plain_time(text.as_bytes()) {
                    Some(time) => time,
                    None => DateTime::parse_from_rfc3339(&text)
                        .map_err(|error| {
                            EventError::new("time", format!("`{text}` is not an RFC 3339 time: {error}"))
                        })?
                        .with_timezone(&Utc),
                };
                if !is_writable(time) {
                    return Err(EventError::new(
                        "time",
                        format!("`{text}` is not in the years 0000 to 9999"),
                    ));
                }
                time
            }
        };
        if data_base64.is_some() {
            // Passed over, its event would be accepted and count nothing.
            return Err(EventError::new("data_base64", "binary data is not supported, use `data`"));
        }
        let correction = match (voids, amends) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                return Err(EventError::new("amends", "an event either voids or amends, not both"));
            }
            (Some(raw), None) => Some((CorrectionKind::Voids, raw)),
            (None, Some(raw)) => Some((CorrectionKind::Amends, raw)),
        };
        let correction = match correction {
            None => None,
            Some((kind, raw)) => {
                let corrected = required(kind.attribute(), Some(raw), ID_BYTES_MAX)?;
                if corrected == id {
                    return Err(EventError::new(kind.attribute(), "an event cannot correct itself"));
                }
                Some(Correction { kind, id: corrected })
            }
        };
        let Data { mut measures, mut dimensions, fault } = self.data;
        if let Some(fault) = fault {
            return Err(fault);
        }
        sort_by_name(&mut measures)?;
        sort_by_name(&mut dimensions)?;
        Ok(Event { id, source, kind, tenant, time, measures, dimensions, correction })
    }
}

/// In the order of their names, so that equal content is equal bytes; a name is there once.
fn sort_by_name<T>(entries: &mut [(Cow<'_, str>, T)]) -> Result<(), EventError> {
    if !entries.is_sorted_by(|a, b| a.0 < b.0) {
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(EventError::new(format!("data.{}", pair[0].0), "given twice"));
        }
    }
    Ok(())
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
        let mut envelope = Envelope::default();
        let mut has_data = false;
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            if key == "data" {
                if std::mem::replace(&mut has_data, true) {
                    return Err(A::Error::custom("`data` is given twice"));
                }
                map.next_value_seed(DataSeed { data: &mut envelope.data })?;
                continue;
            }
            match place_of(&key) {
                Some(index) => {
                    if envelope.attributes[index].replace(map.next_value()?).is_some() {
                        return Err(A::Error::custom(format_args!("`{key}` is given twice")));
                    }
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(envelope)
    }
}

/// A key, borrowed where it has no escapes. (serde's `Cow` is always owned.)
struct Key<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// `data`, as far as it could be read; the first fault is kept, and told if no attribute is at fault before it.
#[derive(Default)]
struct Data<'a> {
    measures: Vec<(Cow<'a, str>, Quantity)>,
    dimensions: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    fault: Option<EventError>,
}

struct DataSeed<'s, 'de> {
    data: &'s mut Data<'de>,
}

impl<'de> DeserializeSeed<'de> for DataSeed<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// What `data` may not be.
macro_rules! not_an_object {
    ($($name:ident: $given:ty),*) => { $(
        fn $name<E>(self, _: $given) -> Result<(), E> {
            self.data.refuse("", "must be a JSON object");
            Ok(())
        }
    )* };
}

impl<'de> Visitor<'de> for DataSeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    not_an_object!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<(), E> {
        self.data.refuse("", "must be a JSON object");
        Ok(())
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.data.refuse("", "must be a JSON object");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            self.data.take(key, map.next_value()?, 1);
        }
        Ok(())
    }
}

impl<'a> Data<'a> {
    fn refuse(&mut self, key: &str, reason: impl Into<String>) {
        if self.fault.is_none() {
            let field = if key.is_empty() { "data".to_owned() } else { format!("data.{key}") };
            self.fault = Some(EventError::new(field, reason));
        }
    }

    /// An entry at `depth` objects below the event.
    fn take(&mut self, key: Cow<'a, str>, value: &'a RawValue, depth: usize) {
        // What is kept is bounded even where much more is given.
        if self.fault.is_some() {
            return;
        }
        if key.contains('\0') {
            return self.refuse("", "a key must not hold a NUL");
        }
        let text = value.get();
        match text.as_bytes().first() {
            Some(b'{') if depth >= DATA_DEPTH_MAX => {
                self.refuse(&key, format!("nested more than {DATA_DEPTH_MAX} objects deep"));
            }
            Some(b'{') => {
                let mut nested = serde_json::Deserializer::from_str(text);
                // A raw value has been read before: it is well-formed.
                let _ = nested.deserialize_map(Nested { data: self, prefix: &key, depth: depth + 1 });
            }
            Some(b'"') => match string(text) {
                Some(text) if text.len() <= DIMENSION_BYTES_MAX => self.dimensions.push((key, text)),
                Some(_) => self.refuse(&key, format!("longer than {DIMENSION_BYTES_MAX} bytes")),
                None => self.refuse(&key, "not a valid JSON string"),
            },
            Some(b't' | b'f') => self.dimensions.push((key, Cow::Borrowed(text))),
            Some(b'n') => {}
            Some(b'[') => self.refuse(&key, "arrays are not supported"),
            _ => match text.parse() {
                Ok(quantity) => self.measures.push((key, quantity)),
                Err(error) => self.refuse(&key, format!("{error}")),
            },
        }
        if self.measures.len() + self.dimensions.len() > DATA_KEYS_MAX {
            self.refuse("", format!("more than {DATA_KEYS_MAX} keys"));
        }
    }
}

/// An object inside `data`.
struct Nested<'s, 'a> {
    data: &'s mut Data<'a>,
    prefix: &'s str,
    depth: usize,
}

impl<'a> Visitor<'a> for Nested<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key::<Key<'a>>()? {
            let key = Cow::Owned(format!("{}.{key}", self.prefix));
            self.data.take(key, map.next_value()?, self.depth);
        }
        Ok(())
    }
}

/// A non-empty string attribute of bounded length.
fn required<'a>(
    name: &str,
    given: Option<Attribute<'a>>,
    bytes_max: usize,
) -> Result<Cow<'a, str>, EventError> {
    let text = match given {
        None => return Err(EventError::new(name, "missing")),
        Some(Attribute::Other | Attribute::Unset) => return Err(EventError::new(name, "must be a string")),
        Some(Attribute::Text(text)) => text,
    };
    if text.is_empty() {
        return Err(EventError::new(name, "must not be empty"));
    }
    if text.len() > bytes_max {
        return Err(EventError::new(name, format!("longer than {bytes_max} bytes")));
    }
    Ok(text)
}

/// A time as most senders write it, `2026-11-24T15:04:05.123456Z`, without the many forms that RFC 3339 allows;
/// `None` for those, and for what is no time.
fn plain_time(text: &[u8]) -> Option<DateTime<Utc>> {
    let (head, rest) = text.split_at_checked(19)?;
    let [_, _, _, _, b'-', _, _, b'-', _, _, b'T', _, _, b':', _, _, b':', _, _] = head else {
        return None;
    };
    let year = i32::try_from(digits(&head[..4])?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, digits(&head[5..7])?, digits(&head[8..10])?)?;
    let fraction = match rest {
        [b'Z'] => &[][..],
        [b'.', fraction @ .., b'Z'] if (1..=9).contains(&fraction.len()) => fraction,
        _ => return None,
    };
    let nanos = digits(fraction)? * 10_u32.pow(9 - fraction.len() as u32);
    let (hour, minute, second) = (digits(&head[11..13])?, digits(&head[14..16])?, digits(&head[17..])?);
    // A leap second is for the long way.
    Some(date.and_hms_nano_opt(hour, minute, second, nanos)?.and_utc())
}

/// Up to nine digits.
fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
}

/// A JSON string, borrowed where it has no escapes.
fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str::<String>(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What the short way reads, the long way reads the same.
        #[test]
        fn a_plain_time_is_an_rfc_3339_time(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?(Z|z|\\+01:00)",
        ) {
            let long = DateTime::parse_from_rfc3339(&text).ok().map(|time| time.with_timezone(&Utc));
            if let Some(short) = plain_time(text.as_bytes()) {
                prop_assert_eq!(Some(short), long);
            }
        }
    }

    #[test]
    fn a_plain_time_has_its_fraction() {
        let time = plain_time(b"2026-11-24T15:04:05.123456Z").unwrap();
        assert_eq!(time.timestamp_micros(), 1_795_532_645_123_456);
        assert_eq!(plain_time(b"2026-11-24T15:04:60Z"), None);
    }
}
