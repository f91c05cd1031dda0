//! From rows of the table to versions with their times. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use rentroll_schemas::meter::{Meter, Meters};

/// A row of the table: one version of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The meter's name.
    pub name: String,
    /// From 1.
    pub version: u32,
    /// What it is; `None` if the meter ends.
    pub definition: Option<Meter>,
    /// From when on; `None` for all times.
    pub effective_from: Option<DateTime<Utc>>,
    /// Where it came from: `file` or `api`.
    pub origin: String,
    /// When it was written.
    pub written_at: DateTime<Utc>,
}

/// The versions that count anything at any time, those of one name in their order, names in the order in which they were
/// first written: that of the file. `rows` in the order of name and version. A version that begins no later than an earlier
/// one replaces it whole.
pub fn versions(rows: &[Stored]) -> Meters {
    let mut meters: Vec<Meter> = Vec::new();
    for (nth, row) in rows.iter().enumerate() {
        let later = rows[nth + 1..].iter().take_while(|later| later.name == row.name);
        let ends = later.map(|later| later.effective_from).min_by_key(|from| micros(*from));
        let Some(definition) = &row.definition else { continue };
        if ends.is_some_and(|end| micros(end) <= micros(row.effective_from)) {
            continue;
        }
        meters.push(Meter {
            version: row.version,
            effective_from: row.effective_from,
            effective_to: ends.flatten(),
            ..definition.clone()
        });
    }
    let first_written =
        |meter: &Meter| rows.iter().find(|row| row.name == meter.name).map(|row| row.written_at);
    meters.sort_by_key(first_written);
    Meters { meters }
}

/// The next whole minute after `now`: a change that says nothing else holds from then on.
pub fn next_minute(now: DateTime<Utc>) -> DateTime<Utc> {
    let into = now.timestamp_micros().rem_euclid(60_000_000);
    now + TimeDelta::microseconds(60_000_000 - into)
        - TimeDelta::nanoseconds(i64::from(now.timestamp_subsec_nanos() % 1_000))
}

/// In the order of times; all times begin before any.
fn micros(time: Option<DateTime<Utc>>) -> i64 {
    time.map_or(i64::MIN, |time| time.timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(60 * minute, 0).unwrap()
    }

    fn row(name: &str, version: u32, from: Option<i64>, ends: bool) -> Stored {
        let definition = Meter { name: name.into(), unit: format!("u{version}"), ..Meter::default() };
        Stored {
            name: name.into(),
            version,
            definition: (!ends).then_some(definition),
            effective_from: from.map(at),
            origin: "file".into(),
            written_at: at(0),
        }
    }

    /// Name, version, from and to.
    type Span = (String, u32, Option<DateTime<Utc>>, Option<DateTime<Utc>>);

    fn spans(rows: &[Stored]) -> Vec<Span> {
        let span = |meter: Meter| (meter.name, meter.version, meter.effective_from, meter.effective_to);
        versions(rows).meters.into_iter().map(span).collect()
    }

    #[test]
    fn each_version_ends_where_a_later_one_begins() {
        let rows = [
            row("a", 1, None, false),
            row("a", 2, Some(10), false),
            row("a", 3, Some(20), true),
            row("b", 1, None, false),
        ];
        let expected = [
            ("a".to_owned(), 1, None, Some(at(10))),
            ("a".to_owned(), 2, Some(at(10)), Some(at(20))),
            ("b".to_owned(), 1, None, None),
        ];
        assert_eq!(spans(&rows), expected);
    }

    #[test]
    fn names_are_in_the_order_in_which_they_came() {
        let later = |row: Stored| Stored { written_at: at(1), ..row };
        let rows =
            [later(row("a", 1, None, false)), row("b", 1, None, false), later(row("b", 2, Some(10), false))];
        let names: Vec<_> =
            versions(&rows).meters.into_iter().map(|meter| (meter.name, meter.version)).collect();
        assert_eq!(names, [("b".to_owned(), 1), ("b".to_owned(), 2), ("a".to_owned(), 1)]);
    }

    #[test]
    fn a_version_that_begins_earlier_replaces_what_came_after() {
        let rows = [row("a", 1, None, false), row("a", 2, Some(10), false), row("a", 3, Some(5), false)];
        assert_eq!(
            spans(&rows),
            [("a".to_owned(), 1, None, Some(at(5))), ("a".to_owned(), 3, Some(at(5)), None)]
        );
        let rows = [row("a", 1, None, false), row("a", 2, None, false)];
        assert_eq!(spans(&rows), [("a".to_owned(), 2, None, None)]);
    }

    #[test]
    fn a_change_holds_from_the_next_minute() {
        assert_eq!(next_minute(at(3)), at(4));
        assert_eq!(next_minute(at(3) + TimeDelta::nanoseconds(59_999_999_999)), at(4));
    }
}
