//! A line that a regular expression takes apart: its named captures are the fields.

use std::borrow::Cow;

use regex::bytes::{Regex, RegexBuilder};

use super::Refusal;
use super::fields::{Mapping, Value};
use crate::source::{FieldMap, Names};

/// Bytes of memory for a compiled pattern, and for what it remembers while it runs. A pattern for a log line takes
/// some ten thousand.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// For each field wanted, the number of its capture.
    captures: Vec<usize>,
    pub(super) mapping: Mapping,
}

impl Pattern {
    /// The error is (field, reason).
    pub(super) fn new(pattern: &str, fields: &FieldMap) -> Result<Self, (String, String)> {
        let regex = RegexBuilder::new(pattern)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .build()
            .map_err(|error| ("pattern".to_owned(), error.to_string()))?;
        let names: Vec<&str> = regex.capture_names().flatten().collect();
        let mut fields = fields.clone();
        if fields.dimensions.pairs().next().is_none() {
            let used = [Some(&fields.tenant), Some(&fields.time), fields.id.as_ref(), fields.kind.as_ref()];
            let measures: Vec<&str> = fields.measures.pairs().map(|(_, from)| from).collect();
            let free = names
                .iter()
                .filter(|name| !measures.contains(name) && !used.iter().flatten().any(|used| used == *name));
            fields.dimensions = Names::List(free.map(|name| (*name).to_owned()).collect());
        }
        let mapping = Mapping::new(&fields)?;
        let number = |name: &String| {
            regex.capture_names().position(|capture| capture == Some(name)).ok_or_else(|| {
                let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                ("pattern".to_owned(), format!("has no capture `(?P<{name}>…)`; its captures: {known}"))
            })
        };
        let captures = mapping.wanted.iter().map(number).collect::<Result<_, _>>()?;
        Ok(Pattern { regex, captures, mapping })
    }

    /// The values of the fields wanted, in their order.
    pub(super) fn values<'a>(&self, line: &'a [u8]) -> Result<Vec<Option<Value<'a>>>, Refusal> {
        let found = self
            .regex
            .captures(line)
            .ok_or_else(|| Refusal::unreadable("line", "does not match the source's pattern"))?;
        let value = |(capture, name): (&usize, &String)| {
            let Some(found) = found.get(*capture) else { return Ok(None) };
            match std::str::from_utf8(found.as_bytes()) {
                Ok(text) => Ok(Some(Value::Text(Cow::Borrowed(text)))),
                Err(error) => Err(Refusal::unreadable(name, format!("not UTF-8: {error}"))),
            }
        };
        self.captures.iter().zip(&self.mapping.wanted).map(value).collect()
    }
}
