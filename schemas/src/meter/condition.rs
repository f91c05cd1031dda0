//! What an event must be for a meter to count it.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::sql::sql_string;
use crate::{Event, Quantity};

/// What one key of an event's `data` must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Condition {
    /// The dimension is one of these texts; one alone needs no list.
    In(#[schemars(schema_with = "texts_schema")] Vec<String>),
    /// Everything that is given here holds.
    Rule(Rule),
}

/// A condition in words. Everything that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The dimension is none of these texts; one that is missing is none of them. One alone needs no list.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "texts")]
    #[schemars(schema_with = "texts_schema")]
    pub not: Vec<String>,
    /// The dimension begins with this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The number is at least this: a measure, or a dimension in plain decimal notation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Number>,
    /// The number is less than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<Number>,
}

/// An exact number of a condition; written as a number or as a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Number(#[schemars(with = "serde_json::Value")] pub Quantity);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number(deserializer).map(Number)
    }
}

/// A number, or a text that is one. The shortest text of a number is what was written.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Quantity, D::Error> {
    struct Read;

    impl Visitor<'_> for Read {
        type Value = Quantity;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number, or a text that is one")
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<Quantity, E> {
            self.visit_str(&number.to_string())
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
            self.visit_str(&number.to_string())
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<Quantity, E> {
            self.visit_str(&number.to_string())
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_any(Read)
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Condition;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{TEXTS}, or `not`, `prefix`, `from` and `below` with theirs")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Condition, E> {
                Texts.visit_str(text).map(Condition::In)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Condition, A::Error> {
                Texts.visit_seq(list).map(Condition::In)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Condition, A::Error> {
                Rule::deserialize(MapAccessDeserializer::new(map)).map(Condition::Rule)
            }
        }

        deserializer.deserialize_any(Read)
    }
}

/// What [`Texts`] takes. A number is none of a dimension's texts: taken for one, `[500]` would pass over events that have
/// the number 500.
const TEXTS: &str = "a text or a list of texts";
const TEXT: &str = "a text, such as \"500\" in quotes; a number is met by `from` and `below`";

/// Reads a text, or a list of them.
struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TEXTS)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let mut texts = Vec::new();
        while let Some(Text(text)) = list.next_element()? {
            texts.push(text);
        }
        Ok(texts)
    }
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(Texts)
}

fn texts_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "array"], "items": { "type": "string" } })
}

/// A text that is written as one: YAML would take a number for a text where a text is asked for.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(TEXT)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

/// What an event has under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given<'a> {
    /// Nothing.
    Nothing,
    /// A text.
    Text(&'a [u8]),
    /// A number.
    Number(Quantity),
}

impl<'a> Given<'a> {
    /// What `event` has under `key`.
    pub fn of(event: &'a Event<'_>, key: &str) -> Self {
        match (event.dimension(key), event.measure(key)) {
            (Some(text), _) => Given::Text(text.as_bytes()),
            (None, Some(number)) => Given::Number(number),
            (None, None) => Given::Nothing,
        }
    }

    /// The text that it is.
    pub fn text(self) -> Option<&'a [u8]> {
        match self {
            Given::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number that it is: a measure, or a text in plain decimal notation.
    pub fn number(self) -> Option<Quantity> {
        match self {
            Given::Nothing => None,
            Given::Number(number) => Some(number),
            Given::Text(text) => plain_number(text),
        }
    }
}

/// The number that a text is in plain decimal notation: digits, at most twenty, and at most nine decimals. The same as
/// the pattern of [`NUMBER_PATTERN`].
fn plain_number(text: &[u8]) -> Option<Quantity> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, decimals) = match digits.iter().position(|byte| *byte == b'.') {
        None => (digits, None),
        Some(point) => (&digits[..point], Some(&digits[point + 1..])),
    };
    let are_digits =
        |part: &[u8], most: usize| (1..=most).contains(&part.len()) && part.iter().all(u8::is_ascii_digit);
    if !are_digits(whole, 20) || decimals.is_some_and(|part| !are_digits(part, 9)) {
        return None;
    }
    // A number in JSON has no leading zeros; a text may.
    let first = whole.iter().position(|byte| *byte != b'0').unwrap_or(whole.len() - 1);
    let mut plain = String::new();
    if text.len() != digits.len() {
        plain.push('-');
    }
    plain.push_str(std::str::from_utf8(&whole[first..]).ok()?);
    if let Some(decimals) = decimals {
        plain.push('.');
        plain.push_str(std::str::from_utf8(decimals).ok()?);
    }
    plain.parse().ok()
}

/// Texts that are numbers, for the store.
pub(super) const NUMBER_PATTERN: &str = r"^-?[0-9]{1,20}(\\.[0-9]{1,9})?$";

impl Condition {
    /// Whether `given` fulfils it.
    pub fn holds(&self, given: Given<'_>) -> bool {
        match self {
            Condition::In(values) => {
                given.text().is_some_and(|text| values.iter().any(|value| value.as_bytes() == text))
            }
            Condition::Rule(Rule { not, prefix, from, below }) => {
                let is = |value: &String| given.text() == Some(value.as_bytes());
                !not.iter().any(is)
                    && prefix.as_ref().is_none_or(|prefix| {
                        given.text().is_some_and(|text| text.starts_with(prefix.as_bytes()))
                    })
                    && from.is_none_or(|from| given.number().is_some_and(|number| number >= from.0))
                    && below.is_none_or(|below| given.number().is_some_and(|number| number < below.0))
            }
        }
    }

    /// The rules that the shape alone cannot express.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Condition::In(values) if values.is_empty() => {
                Err("an empty list lets nothing through".to_owned())
            }
            Condition::In(_) => Ok(()),
            Condition::Rule(rule) if *rule == Rule::default() => {
                Err("says nothing: give not, prefix, from or below".to_owned())
            }
            Condition::Rule(Rule { from: Some(from), below: Some(below), .. }) if from >= below => {
                Err(format!("from {} up to {} holds nothing", from.0, below.0))
            }
            Condition::Rule(_) => Ok(()),
        }
    }

    /// The ClickHouse condition on a row of `events`, the same as [`Condition::holds`].
    pub(super) fn sql(&self, key: &str) -> String {
        let key = sql_string(key);
        let text = format!("dimensions[{key}]");
        let list =
            |values: &[String]| values.iter().map(|value| sql_string(value)).collect::<Vec<_>>().join(", ");
        // A missing dimension reads as an empty one.
        let is_there = format!("mapContains(dimensions, {key})");
        let among = |values: &[String]| match values.iter().any(String::is_empty) {
            true => format!("({is_there} AND {text} IN ({}))", list(values)),
            false => format!("{text} IN ({})", list(values)),
        };
        match self {
            Condition::In(values) => among(values),
            Condition::Rule(Rule { not, prefix, from, below }) => {
                let mut parts = Vec::new();
                if !not.is_empty() {
                    parts.push(format!("NOT {}", among(not)));
                }
                if let Some(prefix) = prefix {
                    parts.push(format!("{is_there} AND startsWith({text}, {})", sql_string(prefix)));
                }
                let of_text = format!("match({text}, '{NUMBER_PATTERN}') AND toDecimal128OrZero({text}, 9) ");
                let of_measure = format!("mapContains(measures, {key}) AND measures[{key}] ");
                for (sign, bound) in [(">=", from), ("<", below)] {
                    if let Some(bound) = bound {
                        let bound = format!("{sign} toDecimal128('{}', 9)", bound.0);
                        parts.push(format!("if({is_there}, {of_text}{bound}, {of_measure}{bound})"));
                    }
                }
                format!("({})", parts.join(" AND "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_hold_as_written() {
        let condition = |json: &str| serde_json::from_str::<Condition>(json).unwrap();
        let text = |text: &'static str| Given::Text(text.as_bytes());
        for (json, given, holds) in [
            (r#"["GET"]"#, text("GET"), true),
            (r#"["GET"]"#, Given::Nothing, false),
            (r#"{"not":["GET"]}"#, text("GET"), false),
            (r#"{"not":["GET"]}"#, Given::Nothing, true),
            (r#"{"prefix":"/api"}"#, text("/api/v1"), true),
            (r#"{"prefix":"/api"}"#, Given::Nothing, false),
            (r#"{"from":500,"below":600}"#, text("500"), true),
            (r#"{"from":500,"below":600}"#, text("600"), false),
            (r#"{"from":500,"below":600}"#, text("0599.5"), true),
            (r#"{"from":500}"#, text("5e2"), false),
            (r#"{"from":"0.5"}"#, Given::Number(Quantity::from_int(1)), true),
            (r#"{"below":-1}"#, Given::Number(Quantity::from_int(-2)), true),
            (r#"{"from":0}"#, Given::Nothing, false),
        ] {
            assert_eq!(condition(json).holds(given), holds, "{json} {given:?}");
        }
    }

    #[test]
    fn what_cannot_hold_is_refused() {
        for json in ["[]", "{}", r#"{"from":2,"below":2}"#] {
            assert!(serde_json::from_str::<Condition>(json).unwrap().check().is_err(), "{json}");
        }
        for (json, said) in [
            (r#"{"nto":["x"]}"#, "unknown field `nto`, expected one of `not`, `prefix`, `from`, `below`"),
            ("[500]", "integer `500`, expected a text, such as \"500\" in quotes"),
            (r#"{"not":[true]}"#, "boolean `true`, expected a text"),
            ("500", "integer `500`, expected a text or a list of texts, or `not`"),
            (r#"{"from":[1]}"#, "expected a number, or a text that is one"),
        ] {
            let error = serde_json::from_str::<Condition>(json).unwrap_err().to_string();
            assert!(error.contains(said), "{json}: {error}");
        }
    }

    #[test]
    fn one_text_is_a_list_of_one() {
        for (given, kept) in [
            (r#""GET""#, r#"["GET"]"#),
            (r#"{"not":"GET"}"#, r#"{"not":["GET"]}"#),
            (r#"["GET"]"#, r#"["GET"]"#),
        ] {
            let condition: Condition = serde_json::from_str(given).unwrap();
            assert_eq!(serde_json::to_string(&condition).unwrap(), kept);
        }
        let of_yaml = |yaml: &str| serde_saphyr::from_str::<Condition>(yaml);
        assert_eq!(of_yaml("GET").unwrap(), Condition::In(vec!["GET".to_owned()]));
        assert_eq!(of_yaml("\"500\"").unwrap(), of_yaml("['500']").unwrap());
        for yaml in ["[500]", "{not: 500}", "{not: [500]}", "500"] {
            assert!(of_yaml(yaml).unwrap_err().to_string().contains("a text"), "{yaml}");
        }
    }
}
