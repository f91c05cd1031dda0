//! Filters and groups, as they are written in requests.
//!
//! A filter is a key, an operator and a value; the key ends where the operator begins.
//!
//! | written | holds if |
//! |---|---|
//! | `key=value` | it is the value; with the same key again: or the other one |
//! | `key!=value` | it is not the value, and none of those with the same key |
//! | `key^=prefix` | it begins so |
//! | `key>=number` | it is a number of at least that |
//! | `key<number` | it is a number less than that |
//!
//! An empty value stands for a key that is missing. Different filters hold together.

use rentroll_schemas::Quantity;
use rentroll_schemas::meter::Number;

use super::params::Params;
use super::problem::Problem;
use crate::usage::{Filter, Group, Test};

const FILTERS: &str = "key=value, key!=value, key^=prefix, key>=number or key<number";
const GROUPS: &str = "tenant, organisation, tier, tag:KEY, or the name of a dimension (dimension:NAME where it is one of \
     these words)";
/// Most filters of one question; each is a condition that every event is held against.
const FILTERS_MAX: usize = 100;

/// The filters of a request.
pub(super) fn filters(params: &Params) -> Result<Vec<Filter>, Problem> {
    let mut filters: Vec<Filter> = Vec::new();
    for (at, text) in params.all("filter").enumerate() {
        if at >= FILTERS_MAX {
            return Err(Problem::unanswerable("filter", text, format!("at most {FILTERS_MAX} of them")));
        }
        let new = filter(text)?;
        // Alternatives of one key are one test.
        let same = filters.iter_mut().find(|old| {
            old.key == new.key
                && matches!((&old.test, &new.test), (Test::In(_), Test::In(_)) | (Test::Not(_), Test::Not(_)))
        });
        match (same, new.test) {
            (
                Some(Filter { test: Test::In(old) | Test::Not(old), .. }),
                Test::In(values) | Test::Not(values),
            ) => {
                old.extend(values);
            }
            (_, test) => filters.push(Filter { key: new.key, test }),
        }
    }
    Ok(filters)
}

fn filter(text: &str) -> Result<Filter, Problem> {
    let invalid = || Problem::parameter("filter", text, FILTERS);
    let at = text
        .char_indices()
        .find(|(at, letter)| match letter {
            '=' | '<' | '>' => true,
            '!' | '^' => text[at + 1..].starts_with('='),
            _ => false,
        })
        .map(|(at, _)| at)
        .filter(|at| *at > 0)
        .ok_or_else(invalid)?;
    let (key, rest) = text.split_at(at);
    let number = |digits: &str| {
        let quantity: Option<Quantity> = digits.parse().ok();
        quantity.map(|quantity| Some(Number(quantity))).ok_or_else(invalid)
    };
    let test = if let Some(value) = rest.strip_prefix('=') {
        Test::In(vec![value.to_owned()])
    } else if let Some(value) = rest.strip_prefix("!=") {
        Test::Not(vec![value.to_owned()])
    } else if let Some(prefix) = rest.strip_prefix("^=") {
        Test::Prefix(prefix.to_owned())
    } else if let Some(digits) = rest.strip_prefix(">=") {
        Test::Range { from: number(digits)?, below: None }
    } else if let Some(digits) = rest.strip_prefix('<').filter(|digits| !digits.starts_with('=')) {
        Test::Range { from: None, below: number(digits)? }
    } else {
        return Err(Problem::parameter("filter", text, format!("{FILTERS}; ranges are half-open")));
    };
    Ok(Filter { key: key.to_owned(), test })
}

/// The groups of a request.
pub(super) fn groups(params: &Params, name: &str) -> Result<Vec<Group>, Problem> {
    let mut groups = Vec::new();
    for text in params.list(name) {
        let group = group(name, text)?;
        if groups.contains(&group) {
            return Err(Problem::unanswerable(name, text, "each only once"));
        }
        groups.push(group);
    }
    Ok(groups)
}

/// One group.
pub(super) fn group(name: &str, text: &str) -> Result<Group, Problem> {
    let of = |prefix: &str, make: fn(String) -> Group| {
        let key = text.strip_prefix(prefix)?;
        Some(match key.is_empty() {
            true => Err(Problem::parameter(name, text, GROUPS)),
            false => Ok(make(key.to_owned())),
        })
    };
    match text {
        "" => Err(Problem::parameter(name, text, GROUPS)),
        "tenant" => Ok(Group::Tenant),
        "organisation" => Ok(Group::Organisation),
        "tier" => Ok(Group::Tier),
        _ => of("tag:", Group::Tag)
            .or_else(|| of("dimension:", Group::Dimension))
            .unwrap_or_else(|| Ok(Group::Dimension(text.to_owned()))),
    }
}

/// A group, as [`group`] reads it.
pub(super) fn written(group: &Group) -> String {
    match group {
        Group::Tenant => "tenant".to_owned(),
        Group::Organisation => "organisation".to_owned(),
        Group::Tier => "tier".to_owned(),
        Group::Tag(key) => format!("tag:{key}"),
        Group::Dimension(name) if self::group("", name).ok().as_ref() == Some(group) => name.clone(),
        Group::Dimension(name) => format!("dimension:{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<Vec<Filter>, Problem> {
        let mut address = String::from("/x?");
        for part in query.split('&') {
            address.push_str(
                &form_urlencoded::Serializer::new(String::new()).append_pair("filter", part).finish(),
            );
            address.push('&');
        }
        filters(&Params::of_address(&address.trim_end_matches('&').parse().unwrap(), &["filter"]).unwrap())
    }

    #[test]
    fn filters_are_read_and_alternatives_put_together() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let number = |text: &str| Some(Number(text.parse().unwrap()));
        let filters = of("a=1&b!=x&a=2=3&b!=&c^=/v1&d>=1.5&d<20&e!^=&f!=").unwrap();
        let expected = [
            ("a", Test::In(texts(&["1", "2=3"]))),
            ("b", Test::Not(texts(&["x", ""]))),
            ("c", Test::Prefix("/v1".into())),
            ("d", Test::Range { from: number("1.5"), below: None }),
            ("d", Test::Range { from: None, below: number("20") }),
            ("e!", Test::Prefix(String::new())),
            ("f", Test::Not(texts(&[""]))),
        ];
        let expected: Vec<Filter> =
            expected.into_iter().map(|(key, test)| Filter { key: key.to_owned(), test }).collect();
        assert_eq!(filters, expected);
        for wrong in ["a", "=a", "a>1", "a<=1", "a<x", "a>=", "!", ""] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn groups_are_read_as_written() {
        for text in
            ["tenant", "organisation", "tier", "tag:region", "method", "dimension:tenant", "dimension:tag:x"]
        {
            assert_eq!(written(&group("group_by", text).unwrap()), text);
        }
        assert_eq!(written(&group("group_by", "dimension:method").unwrap()), "method");
        for wrong in ["", "tag:", "dimension:"] {
            assert!(group("group_by", wrong).is_err(), "{wrong}");
        }
    }
}
