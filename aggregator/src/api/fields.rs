//! Bodies that stand for a record: read with the path of the field that is not of its form.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::params;
use super::problem::{Problem, one_of};

/// Reads a record. The fields of `but` are known, and not to be given.
///
/// # Errors
/// A [`Problem`] that names the field at fault by its path (`filter.status[0]`), what is there, and what may be.
pub(super) fn read<T: DeserializeOwned>(body: &Value, but: &[&str]) -> Result<T, Problem> {
    serde_path_to_error::deserialize(body)
        .map_err(|error| problem(body, error.path(), &error.inner().to_string(), but))
}

/// What `body` has in a field that a rule names: `unit`, `filter.status`, `tags.region`.
pub(super) fn given(body: &Value, field: &str) -> Option<String> {
    let of_map = || {
        let (name, key) = field.split_once('.')?;
        body.get(name)?.get(key)
    };
    body.get(field).or_else(of_map).map(text)
}

/// `said` is serde's, of which the beginning says what is wrong and the end what was expected.
fn problem(body: &Value, path: &Path, said: &str, but: &[&str]) -> Problem {
    let field = path.to_string();
    let expected = said.rsplit_once(", expected ").map(|(_, expected)| expected);
    if said.starts_with("unknown field ") {
        let mut known = names(expected.unwrap_or_default());
        known.retain(|name| !but.contains(name));
        return params::unknown(&field, &known);
    }
    if let Some(name) = said.strip_prefix("missing field ") {
        let name = name.trim_matches('`');
        let field = if field == "." { name.to_owned() } else { format!("{field}.{name}") };
        return Problem::missing(&field, "it must be there");
    }
    let given = at(body, path).map(text).unwrap_or_default();
    match expected {
        Some(expected) if said.starts_with("unknown variant ") => {
            Problem::parameter(&field, &given, one_of(&names(expected)))
        }
        Some(expected) if said.starts_with("invalid ") => {
            Problem::parameter(&field, &given, in_json(expected))
        }
        // It is of its form, and what it says cannot be.
        _ => Problem::unanswerable(&field, &given, said),
    }
}

/// `a`, `b` of "one of `a`, `b`".
fn names(expected: &str) -> Vec<&str> {
    expected.split('`').skip(1).step_by(2).collect()
}

/// What serde calls by other names than JSON.
fn in_json(expected: &str) -> &str {
    match expected {
        "a string" | "string or map" | "unit variant" => "a text",
        "a sequence" => "an array",
        "a boolean" => "true or false",
        expected if expected == "a map" || expected.starts_with("struct ") => "an object",
        expected => expected,
    }
}

fn at<'a>(body: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter().try_fold(body, |value, segment| match segment {
        Segment::Map { key } => value.get(key),
        Segment::Seq { index } => value.get(index),
        Segment::Enum { .. } | Segment::Unknown => Some(value),
    })
}

/// A text as it is, anything else as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use rentroll_schemas::meter::Meter;
    use rentroll_schemas::tenant::TenantRecord;
    use serde_json::json;

    use super::*;

    fn said<T: DeserializeOwned>(body: Value) -> Value {
        let Err(problem) = read::<T>(&body, &[]) else { panic!("taken: {body}") };
        json!([problem.status().as_u16(), problem.about_parameter(), problem.given(), problem.allowed()])
    }

    #[test]
    fn faults_of_form_name_the_field() {
        let meter = |field: &str, value: Value| {
            let mut body = json!({ "name": "a", "unit": "b", "event_type": "t", "aggregation": "count" });
            body[field] = value;
            said::<Meter>(body)
        };
        assert_eq!(meter("unit", json!(5)), json!([400, "unit", "5", "a text"]));
        assert_eq!(meter("unit", json!(null)), json!([400, "unit", "null", "a text"]));
        assert_eq!(meter("group_by", json!("m")), json!([400, "group_by", "m", "an array"]));
        assert_eq!(meter("group_by", json!(["m", {}])), json!([400, "group_by[1]", "{}", "a text"]));
        assert_eq!(meter("labels", json!({ "a": true })), json!([400, "labels.a", "true", "a text"]));
        let allowed = "a text, such as \"500\" in quotes; a number is met by `from` and `below`";
        assert_eq!(
            meter("filter", json!({ "status": ["x", 500] })),
            json!([400, "filter.status[1]", "500", allowed])
        );
        assert_eq!(
            meter("filter", json!({ "status": { "nto": [] } })),
            json!([400, "filter.status.nto", "filter.status.nto", "one of not, prefix, from, below"])
        );
        assert_eq!(
            meter("per", json!("week")),
            json!([400, "per", "week", "one of second, minute, hour, window"])
        );
        let percent = meter("percentile", json!(101));
        assert_eq!(
            (&percent[0], &percent[1], &percent[2]),
            (&json!(422), &json!("percentile"), &json!("101"))
        );
        assert_eq!(said::<Meter>(json!({ "name": "a" })), json!([400, "unit", null, "it must be there"]));

        let unknown = said::<TenantRecord>(json!({ "tenant": "a", "teir": "x" }));
        assert_eq!((&unknown[0], &unknown[1]), (&json!(400), &json!("teir")));
        assert!(unknown[3].as_str().unwrap().contains("tier"), "{unknown}");
        let tag = json!({ "tenant": "a", "tags": { "x.y": ["z"] } });
        assert_eq!(said::<TenantRecord>(tag), json!([400, "tags.x.y", "[\"z\"]", "a text"]));
        let time = said::<TenantRecord>(json!({ "tenant": "a", "valid_from": "soon" }));
        assert_eq!((&time[0], &time[1], &time[2]), (&json!(422), &json!("valid_from"), &json!("soon")));
    }

    #[test]
    fn what_a_rule_is_broken_by_is_found() {
        let body = json!({ "unit": "", "tags": { "a.b": 7 } });
        assert_eq!(given(&body, "unit").as_deref(), Some(""));
        assert_eq!(given(&body, "tags.a.b").as_deref(), Some("7"));
        assert_eq!(given(&body, "value"), None);
    }
}
