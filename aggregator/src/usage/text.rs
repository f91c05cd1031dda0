//! Filters, groups and lengths of time, as people write them: on the command line, and in the addresses of the API.
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

use chrono::TimeDelta;
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::Number;

use super::{Filter, Group, Test};

/// What a filter can be.
pub const FILTERS: &str =
    "key=value, key!=value, key^=prefix, key>=number or key<number (ranges are half-open)";
/// What a group can be.
pub const GROUPS: &str = "tenant, organisation, tier, tag:KEY, or the name of a dimension (dimension:NAME where it is one of \
     these words)";
/// What a length of time can be.
pub const LENGTHS: &str =
    "a length of time in whole minutes, up to a year: 24h, 7d, 90m, or ISO 8601, such as PT24H or P7D";

/// What a column of quantities is called in CSV: one that is about right says so, in each file.
pub fn column(name: &str, is_about: bool) -> String {
    match (name, is_about) {
        ("quantity" | "previous" | "change" | "change_percent", true) => format!("approximate_{name}"),
        (name, _) => name.to_owned(),
    }
}

/// Filters, of which alternatives of one key are put together; the error is the text that is none.
///
/// # Errors
/// The first text that is no filter: see [`FILTERS`].
pub fn filters<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Vec<Filter>, &'t str> {
    let mut filters: Vec<Filter> = Vec::new();
    for text in texts {
        let new = filter(text).ok_or(text)?;
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

fn filter(text: &str) -> Option<Filter> {
    let begins = |(at, letter): &(usize, char)| match letter {
        '=' | '<' | '>' => true,
        '!' | '^' => text[at + 1..].starts_with('='),
        _ => false,
    };
    let (at, _) = text.char_indices().find(begins)?;
    let (key, rest) = text.split_at(at);
    let number = |digits: &str| Some(Some(Number(digits.parse::<Quantity>().ok()?)));
    let test = if let Some(value) = rest.strip_prefix('=') {
        Test::In(vec![value.to_owned()])
    } else if let Some(value) = rest.strip_prefix("!=") {
        Test::Not(vec![value.to_owned()])
    } else if let Some(prefix) = rest.strip_prefix("^=") {
        Test::Prefix(prefix.to_owned())
    } else if let Some(digits) = rest.strip_prefix(">=") {
        Test::Range { from: number(digits)?, below: None }
    } else {
        Test::Range { from: None, below: number(rest.strip_prefix('<')?)? }
    };
    (!key.is_empty()).then(|| Filter { key: key.to_owned(), test })
}

/// A group; `None` for what is none: see [`GROUPS`].
pub fn group(text: &str) -> Option<Group> {
    let of = |prefix: &str, make: fn(String) -> Group| {
        let key = text.strip_prefix(prefix)?;
        Some((!key.is_empty()).then(|| make(key.to_owned())))
    };
    match text {
        "" => None,
        "tenant" => Some(Group::Tenant),
        "organisation" => Some(Group::Organisation),
        "tier" => Some(Group::Tier),
        _ => of("tag:", Group::Tag)
            .or_else(|| of("dimension:", Group::Dimension))
            .unwrap_or_else(|| Some(Group::Dimension(text.to_owned()))),
    }
}

/// A group, as [`group`] reads it.
pub fn written(group: &Group) -> String {
    match group {
        Group::Tenant => "tenant".to_owned(),
        Group::Organisation => "organisation".to_owned(),
        Group::Tier => "tier".to_owned(),
        Group::Tag(key) => format!("tag:{key}"),
        Group::Dimension(name) if self::group(name).as_ref() == Some(group) => name.clone(),
        Group::Dimension(name) => format!("dimension:{name}"),
    }
}

/// A length of time: `24h`, `90m`, `7d`, `2w`, or ISO 8601: `PT24H`, `P7D`, `P1W`, `P1DT12H`. `None` for what is none:
/// see [`LENGTHS`].
pub fn length(text: &str) -> Option<TimeDelta> {
    minutes(text).filter(|minutes| MINUTES.contains(minutes)).map(TimeDelta::minutes)
}

/// A length of time, as [`length`] reads it: in the largest unit of which it is a whole number.
pub fn length_written(length: TimeDelta) -> String {
    let seconds = length.num_seconds();
    let units = [(604_800, 'w'), (86_400, 'd'), (3_600, 'h'), (60, 'm')];
    match units.into_iter().find(|(of, _)| seconds > 0 && seconds % of == 0) {
        Some((of, unit)) => format!("{}{unit}", seconds / of),
        None => format!("{seconds} s"),
    }
}

/// The minutes of a length of time that can be used.
pub const MINUTES: std::ops::RangeInclusive<i64> = 1..=366 * 1_440;

/// The minutes that are written, of whatever number; `None` for what is no length of time.
pub fn minutes(text: &str) -> Option<i64> {
    match text.strip_prefix(['P', 'p']) {
        Some(parts) => iso_minutes(&parts.to_ascii_uppercase()),
        None => {
            let unit = text.chars().next_back()?;
            let count = number(&text[..text.len() - unit.len_utf8()])?;
            let minutes = match unit {
                'm' => 1,
                'h' => 60,
                'd' => 1_440,
                'w' => 10_080,
                _ => return None,
            };
            count.checked_mul(minutes)
        }
    }
}

fn iso_minutes(parts: &str) -> Option<i64> {
    let (date, time) = match parts.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None => (parts, ""),
    };
    if date.is_empty() && time.is_empty() {
        return None;
    }
    let of_date = sum_of(date, &[('W', 10_080), ('D', 1_440)])?;
    of_date.checked_add(sum_of(time, &[('H', 60), ('M', 1)])?)
}

/// Numbers, each followed by one of the letters, in their order.
fn sum_of(mut text: &str, units: &[(char, i64)]) -> Option<i64> {
    let mut sum: i64 = 0;
    let mut units = units.iter();
    while !text.is_empty() {
        let end = text.find(|letter: char| !letter.is_ascii_digit())?;
        let letter = text[end..].chars().next()?;
        let (_, minutes) = units.find(|(unit, _)| *unit == letter)?;
        sum = sum.checked_add(number(&text[..end])?.checked_mul(*minutes)?)?;
        text = &text[end + 1..];
    }
    Some(sum)
}

fn number(digits: &str) -> Option<i64> {
    (digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_and_alternatives_put_together() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let number = |text: &str| Some(Number(text.parse().unwrap()));
        let found =
            filters(["a=1", "b!=x", "a=2=3", "b!=", "c^=/v1", "d>=1.5", "d<20", "e!^=", "f!="]).unwrap();
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
        assert_eq!(found, expected);
        for wrong in ["a", "=a", "a>1", "a<=1", "a<x", "a>=", "!", ""] {
            assert_eq!(filters(["a=1", wrong]), Err(wrong));
        }
    }

    #[test]
    fn groups_are_read_as_written() {
        for text in
            ["tenant", "organisation", "tier", "tag:region", "method", "dimension:tenant", "dimension:tag:x"]
        {
            assert_eq!(written(&group(text).unwrap()), text);
        }
        assert_eq!(written(&group("dimension:method").unwrap()), "method");
        for wrong in ["", "tag:", "dimension:"] {
            assert_eq!(group(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lengths_are_read_in_both_ways() {
        for (text, minutes) in [
            ("90m", 90),
            ("24h", 1_440),
            ("7d", 10_080),
            ("2w", 20_160),
            ("PT24H", 1_440),
            ("P1DT30M", 1_470),
            ("p1w", 10_080),
        ] {
            assert_eq!(length(text), Some(TimeDelta::minutes(minutes)), "{text}");
            assert_eq!(length(&length_written(TimeDelta::minutes(minutes))), length(text), "{text}");
        }
        assert_eq!(length_written(TimeDelta::minutes(90)), "90m");
        assert_eq!(length_written(TimeDelta::minutes(14 * 1_440)), "2w");
        assert_eq!(length_written(TimeDelta::seconds(90)), "90 s");
        for wrong in [
            "", "h", "1", "0h", "1y", "-1h", "1.5h", "P", "PT", "PT1D", "P1M", "P1H", "PT1M1H", "367d",
            "1\u{e9}",
        ] {
            assert_eq!(length(wrong), None, "{wrong}");
        }
    }
}
