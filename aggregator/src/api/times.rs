//! Times, zones and lengths of time, as they are written in requests.

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use rentroll_schemas::period;

use super::params::Params;
use super::problem::Problem;
use crate::meters::history::next_minute;
use crate::usage::overview::Span;
use crate::usage::text;

const ALLOWED: &str = "RFC 3339 with a zone, such as 2026-11-24T10:00:00Z, 2026-11-24T10:00Z or \
     2026-11-24T10:00:00+01:00, or a day, such as 2026-11-24";
const RANGE: &str = "a time from 1970 to 2105";

/// The time that `text` is. A day is its first instant in `zone`.
pub(crate) fn instant(name: &str, text: &str, zone: Tz) -> Result<DateTime<Utc>, Problem> {
    let Some(time) = parse(text, zone) else { return Err(Problem::parameter(name, text, ALLOWED)) };
    // What the store's times can hold.
    match (0..4_291_747_200).contains(&time.timestamp()) {
        true => Ok(time),
        false => Err(Problem::unanswerable(name, text, RANGE)),
    }
}

fn parse(text: &str, zone: Tz) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.with_timezone(&Utc));
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        // Dates of other lengths are not ours to guess at.
        return (text.len() == 10).then(|| start_of_day(day, zone)).flatten();
    }
    let with_offset = text.strip_suffix(['Z', 'z']).map(|start| format!("{start}+00:00"));
    let with_offset = with_offset.as_deref().unwrap_or(text);
    let time = DateTime::parse_from_str(with_offset, "%Y-%m-%dT%H:%M%:z").ok()?;
    (with_offset.len() == 22).then(|| time.with_timezone(&Utc))
}

/// The first instant of a day; of one that the zone left out, since its country changed sides of the date line, that of the
/// next.
fn start_of_day(day: NaiveDate, zone: Tz) -> Option<DateTime<Utc>> {
    period::start_of_day(day, zone).or_else(|| period::start_of_day(day.succ_opt()?, zone))
}

/// The zone of that name.
pub(crate) fn zone(params: &Params) -> Result<Tz, Problem> {
    let Some(text) = params.one("zone")? else { return Ok(Tz::UTC) };
    let allowed = "an IANA time zone, such as UTC or Europe/Berlin";
    let mut letters = text.chars();
    let is_name = letters.next().is_some_and(|letter| letter.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || "_+-/".contains(letter));
    if !is_name {
        return Err(Problem::parameter("zone", text, allowed));
    }
    text.parse().map_err(|_| Problem::unanswerable("zone", text, allowed))
}

/// The span of time from `from` to `to`, both of which must be there.
pub(crate) fn span(params: &Params, zone: Tz) -> Result<Span, Problem> {
    let from = instant("from", params.required("from", ALLOWED)?, zone)?;
    let to = instant("to", params.required("to", ALLOWED)?, zone)?;
    is_span(from, to, params)
}

/// As [`span`], but without `to` up to now, and without `from` `usual` before that.
pub(crate) fn recent(params: &Params, usual: Days, now: DateTime<Utc>) -> Result<Span, Problem> {
    let given =
        |name| params.one(name).and_then(|text| text.map(|text| instant(name, text, Tz::UTC)).transpose());
    let to = given("to")?.unwrap_or_else(|| next_minute(now));
    let from = given("from")?.unwrap_or(to - usual);
    is_span(from, to, params)
}

fn is_span(from: DateTime<Utc>, to: DateTime<Utc>, params: &Params) -> Result<Span, Problem> {
    for (name, time) in [("from", from), ("to", to)] {
        if time.timestamp_micros() % 60_000_000 != 0 {
            let given = params.one(name)?.unwrap_or_default();
            return Err(Problem::unanswerable(name, given, "a whole minute: usage is kept by the minute"));
        }
    }
    match from < to {
        true => Ok(Span { from, to }),
        false => {
            let given = params.one("to")?.unwrap_or("now");
            Err(Problem::unanswerable("to", given, format!("a time after `from`, {}", from.to_rfc3339())))
        }
    }
}

/// A length of time: see [`text::LENGTHS`].
pub(super) fn length(name: &str, text: &str) -> Result<TimeDelta, Problem> {
    let minutes = text::minutes(text).ok_or_else(|| Problem::parameter(name, text, text::LENGTHS))?;
    match text::MINUTES.contains(&minutes) {
        true => Ok(TimeDelta::minutes(minutes)),
        false => Err(Problem::unanswerable(name, text, text::LENGTHS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let berlin: Tz = "Europe/Berlin".parse().unwrap();
        for (text, zone, expected) in [
            ("2026-11-24", Tz::UTC, "2026-11-24T00:00:00+00:00"),
            ("2026-11-24", berlin, "2026-11-23T23:00:00+00:00"),
            ("2026-11-24T10:00Z", Tz::UTC, "2026-11-24T10:00:00+00:00"),
            ("2026-11-24T10:00:00.5Z", Tz::UTC, "2026-11-24T10:00:00.500+00:00"),
            ("2026-11-24T10:00+01:00", Tz::UTC, "2026-11-24T09:00:00+00:00"),
            ("2026-11-24T10:00:00-05:30", berlin, "2026-11-24T15:30:00+00:00"),
            // Clocks skipped midnight.
            ("2018-11-04", "America/Sao_Paulo".parse().unwrap(), "2018-11-04T03:00:00+00:00"),
        ] {
            assert_eq!(instant("from", text, zone).unwrap().to_rfc3339(), expected, "{text}");
        }
        for text in
            ["", "2026-11", "2026-13-01", "2026-11-24T10:00", "2026-11-24 10:00", "1795514400", "26-11-24"]
        {
            let problem = instant("from", text, Tz::UTC).unwrap_err();
            assert_eq!(problem.status(), 400, "{text}");
        }
        assert_eq!(instant("from", "1969-12-31", Tz::UTC).unwrap_err().status(), 422);
    }

    #[test]
    fn lengths_are_read_in_both_forms() {
        for (text, minutes) in [
            ("24h", 1_440),
            ("90m", 90),
            ("7d", 10_080),
            ("2w", 20_160),
            ("PT24H", 1_440),
            ("P7D", 10_080),
            ("P1W", 10_080),
            ("P1DT12H30M", 2_190),
        ] {
            assert_eq!(length("rolling", text).unwrap(), TimeDelta::minutes(minutes), "{text}");
        }
        for text in [
            "",
            "h",
            "24",
            "1.5h",
            "P",
            "PT",
            "P1M",
            "PT1M1H",
            "PT1S",
            "P1H",
            "-1h",
            "1é",
            "P1Dx",
            "1234567890h",
        ] {
            assert_eq!(length("rolling", text).unwrap_err().status(), 400, "{text}");
        }
        assert_eq!(length("rolling", "0h").unwrap_err().status(), 422);
        assert_eq!(length("rolling", "999999999w").unwrap_err().status(), 422);
    }
}
