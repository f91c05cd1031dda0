//! Filters on the names of a meter. Pure.

use rentroll_schemas::Quantity;
use rentroll_schemas::meter::Number;
use serde_json::Value;

use super::fields::texts;
use super::literal;
use super::problem::cannot_be;
use crate::api::problem::Problem;
use crate::usage::Test;

/// Most tests of one question; each is a condition that every event is held against.
const TESTS_MAX: usize = 100;
pub(super) const SIMPLE: &str = "filterGroupBy";
pub(super) const ADVANCED: &str = "advancedMeterGroupByFilters";

/// What the value of a name must be.
pub(super) type Named = (String, Test);

/// `filterGroupBy[name]=value`, or all of them as one object.
pub(super) fn of_address(single: Vec<(String, String)>, whole: Option<&str>) -> Result<Vec<Named>, Problem> {
    let mut filters: Vec<Named> = Vec::new();
    for (name, value) in single {
        if filters.iter().any(|(other, _)| *other == name) {
            return Err(cannot_be(SIMPLE, &name, "each name once: an event has one value of it"));
        }
        filters.push((name, Test::In(vec![value])));
    }
    if let Some(text) = whole.filter(|text| !text.is_empty()) {
        let allowed = "filterGroupBy[name]=value, or an object of texts";
        let value = literal::read(text).ok_or_else(|| cannot_be(SIMPLE, text, allowed))?;
        filters.extend(simple(&value)?);
    }
    Ok(filters)
}

/// `filterGroupBy` as an object: of a text or an array of texts for each name.
pub(super) fn simple(value: &Value) -> Result<Vec<Named>, Problem> {
    let Value::Object(entries) = value else {
        return Err(cannot_be(SIMPLE, &value.to_string(), "an object of arrays of texts"));
    };
    let named = |(name, value): (&String, &Value)| {
        let values = match value {
            Value::String(text) => vec![text.clone()],
            value => texts(SIMPLE, value)?,
        };
        match values.is_empty() {
            true => Err(cannot_be(SIMPLE, "[]", "at least one text for each name")),
            false => Ok((name.clone(), Test::In(values))),
        }
    };
    entries.iter().map(named).collect()
}

/// `advancedMeterGroupByFilters` in an address.
pub(super) fn advanced_of_address(text: &str) -> Result<Vec<Named>, Problem> {
    let value = literal::read(text).ok_or_else(|| cannot_be(ADVANCED, text, "a JSON object"))?;
    advanced(&value)
}

/// `advancedMeterGroupByFilters` as an object.
pub(super) fn advanced(value: &Value) -> Result<Vec<Named>, Problem> {
    let Value::Object(entries) = value else {
        return Err(cannot_be(ADVANCED, &value.to_string(), "an object of filters"));
    };
    let mut named = Vec::new();
    for (name, filter) in entries {
        named.extend(tests(ADVANCED, filter, true)?.into_iter().map(|test| (name.clone(), test)));
    }
    match named.len() > TESTS_MAX {
        true => Err(cannot_be(ADVANCED, &format!("{} tests", named.len()), format!("at most {TESTS_MAX}"))),
        false => Ok(named),
    }
}

/// What a filter asks for: all of these hold.
fn tests(field: &str, filter: &Value, may_join: bool) -> Result<Vec<Test>, Problem> {
    let refused = || {
        let allowed = "one of $eq, $ne, $in, $nin, $like (`begins so%`), $gte and $lt (numbers as texts), or $and with an \
                       array of those";
        cannot_be(field, &filter.to_string(), allowed)
    };
    let Value::Object(entries) = filter else { return Err(refused()) };
    // Python's models have the operators that are not used as null.
    let given: Vec<(&str, &Value)> = entries
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(refused);
    let texts =
        |value: &Value| texts(field, value).ok().filter(|texts| !texts.is_empty()).ok_or_else(refused);
    let number = |value: &Value| {
        let quantity: Option<Quantity> = value.as_str().and_then(|text| text.parse().ok());
        quantity.map(|quantity| Some(Number(quantity))).ok_or_else(refused)
    };
    Ok(vec![match given.as_slice() {
        [("$eq", value)] => Test::In(vec![text(value)?]),
        [("$ne", value)] => Test::Not(vec![text(value)?]),
        [("$in", values)] => Test::In(texts(values)?),
        [("$nin", values)] => Test::Not(texts(values)?),
        [("$like", value)] => like(&text(value)?).ok_or_else(refused)?,
        [("$gte", from)] => Test::Range { from: number(from)?, below: None },
        [("$lt", below)] => Test::Range { from: None, below: number(below)? },
        [("$gte", from), ("$lt", below)] => Test::Range { from: number(from)?, below: number(below)? },
        [("$and", Value::Array(filters))] if may_join && !filters.is_empty() => {
            let tests = filters.iter().map(|filter| tests(field, filter, false));
            return Ok(tests.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect());
        }
        _ => return Err(refused()),
    }])
}

/// A beginning, as `$like` writes it: `%` stands last and nowhere else.
pub(super) fn like(pattern: &str) -> Option<Test> {
    match pattern.split_once('%') {
        None => Some(Test::In(vec![pattern.to_owned()])),
        Some((prefix, "")) => Some(Test::Prefix(prefix.to_owned())),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn filters_are_read_in_every_form() {
        let expected = vec![("model".to_owned(), Test::In(texts(&["gpt-4o"])))];
        let pair = vec![("model".to_owned(), "gpt-4o".to_owned())];
        assert_eq!(of_address(pair.clone(), None).unwrap(), expected);
        assert_eq!(of_address(vec![], Some("{'model': 'gpt-4o'}")).unwrap(), expected);
        assert_eq!(of_address(vec![], Some(r#"{"model":["gpt-4o"]}"#)).unwrap(), expected);
        assert!(of_address([pair.clone(), pair].concat(), None).is_err());
        for wrong in ["model", "[]", "{'model': []}", "{'model': {'$eq': 'a'}}"] {
            assert!(of_address(vec![], Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn operators_are_tests() {
        let number = |text: &str| Some(Number(text.parse().unwrap()));
        for (filter, expected) in [
            (json!({"$eq": "a"}), vec![Test::In(texts(&["a"]))]),
            (json!({"$eq": "a", "$in": null}), vec![Test::In(texts(&["a"]))]),
            (json!({"$nin": ["a", "b"]}), vec![Test::Not(texts(&["a", "b"]))]),
            (json!({"$like": "gpt-%"}), vec![Test::Prefix("gpt-".into())]),
            (json!({"$like": "gpt"}), vec![Test::In(texts(&["gpt"]))]),
            (
                json!({"$gte": "1.5", "$lt": "2"}),
                vec![Test::Range { from: number("1.5"), below: number("2") }],
            ),
            (
                json!({"$and": [{"$ne": "a"}, {"$ne": "b"}]}),
                vec![Test::Not(texts(&["a"])), Test::Not(texts(&["b"]))],
            ),
        ] {
            let named: Vec<Named> = expected.into_iter().map(|test| ("m".to_owned(), test)).collect();
            assert_eq!(advanced(&json!({"m": filter})).unwrap(), named, "{filter}");
        }
        for wrong in [
            json!({}),
            json!({"$ilike": "a"}),
            json!({"$eq": 1}),
            json!({"$eq": "a", "$ne": "b"}),
            json!({"$in": []}),
            json!({"$like": "%a"}),
            json!({"$like": "a%b%"}),
            json!({"$lt": "x"}),
            json!({"$lt": 1}),
            json!({"$and": []}),
            json!({"$and": [{"$and": [{"$eq": "a"}]}]}),
            json!("a"),
        ] {
            assert!(advanced(&json!({"m": wrong})).is_err(), "{wrong}");
        }
        assert!(advanced_of_address("{").is_err());
    }
}
