//! A JSON object a line, with the fields that the operator names. `res.bytes` is the field `bytes` of the object
//! `res`, or the field `res.bytes` itself, as many loggers flatten their objects.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Refusal;
use super::fields::{Mapping, Value};

/// The values of the fields wanted, in their order.
pub(super) fn values<'a>(mapping: &Mapping, line: &'a [u8]) -> Result<Vec<Option<Value<'a>>>, Refusal> {
    let text = std::str::from_utf8(line)
        .map_err(|error| Refusal::unreadable("line", format!("not UTF-8: {error}")))?;
    let wanted: Vec<(&str, usize)> =
        mapping.wanted.iter().enumerate().map(|(index, path)| (path.as_str(), index)).collect();
    let mut found = vec![None; wanted.len()];
    pick(text, &wanted, &mut found)
        .map_err(|error| Refusal::unreadable("line", format!("not a JSON object: {error}")))?;
    found.into_iter().map(|raw| raw.map_or(Ok(None), value)).collect()
}

fn value(raw: &RawValue) -> Result<Option<Value<'_>>, Refusal> {
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b'"') => {
            let Text(text) = serde_json::from_str(text)
                .map_err(|error| Refusal::unreadable("line", format!("not a JSON text: {error}")))?;
            Some(Value::Text(text))
        }
        Some(b'{' | b'[') => Some(Value::Other),
        Some(b't' | b'f') => Some(Value::Truth(text)),
        Some(b'n') | None => None,
        Some(_) => Some(Value::Number(text)),
    })
}

/// Walks one object, and down into those that hold something wanted.
fn pick<'a>(
    text: &'a str,
    wanted: &[(&str, usize)],
    found: &mut [Option<&'a RawValue>],
) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    Picking { wanted, found }.deserialize(&mut json)?;
    json.end()
}

struct Picking<'w, 'f, 'a> {
    /// What is left of the path, and whose it is.
    wanted: &'w [(&'w str, usize)],
    found: &'f mut [Option<&'a RawValue>],
}

/// A text, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> DeserializeSeed<'a> for Picking<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Picking<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let mut below = Vec::new();
        while let Some(Text(key)) = map.next_key()? {
            let mut here = false;
            below.clear();
            for (path, index) in self.wanted {
                match path.strip_prefix(key.as_ref()) {
                    Some("") => here = true,
                    Some(rest) => below.extend(rest.strip_prefix('.').map(|rest| (rest, *index))),
                    None => {}
                }
            }
            if !here && below.is_empty() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let raw: &'a RawValue = map.next_value()?;
            for (path, index) in self.wanted {
                if *path == key {
                    self.found[*index] = Some(raw);
                }
            }
            if !below.is_empty() && raw.get().starts_with('{') {
                pick(raw.get(), &below, self.found).map_err(serde::de::Error::custom)?;
            }
        }
        Ok(())
    }
}
