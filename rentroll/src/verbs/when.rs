//! Times as people type them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone as _, Timelike as _, Utc};
use chrono_tz::Tz;

/// No clocks skip more than a day: where a country changed sides of the date line.
const SKIPPED_MINUTES_MAX: i64 = 24 * 60;

/// A time as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// With its offset from UTC.
    Instant(DateTime<Utc>),
    /// What the clocks show, wherever they are; a day begins at midnight.
    Clocks(NaiveDateTime),
}

impl Typed {
    /// The instant, by the clocks of `zone` unless it was typed with its offset. Of a time that they show twice it is the
    /// first, and of one that they skip the first instant after it.
    pub fn at(self, zone: Tz) -> DateTime<Utc> {
        match self {
            Typed::Instant(time) => time,
            Typed::Clocks(time) => (0..=SKIPPED_MINUTES_MAX)
                .filter_map(|minutes| time.checked_add_signed(TimeDelta::minutes(minutes)))
                .find_map(|time| zone.from_local_datetime(&time).earliest())
                .map_or_else(|| time.and_utc(), |time| time.with_timezone(&Utc)),
        }
    }
}

/// Reads `2026-11-24`, `2026-11-24T10:00`, `2026-11-24 10:00:30`, or an RFC 3339 time with its offset, with or without
/// seconds.
///
/// # Errors
/// Says what is understood.
pub fn typed(text: &str) -> Result<Typed, String> {
    let with_offset = text.strip_suffix(['Z', 'z']).map(|start| format!("{start}+00:00"));
    let with_offset = with_offset.as_deref().unwrap_or(text);
    let time = DateTime::parse_from_rfc3339(with_offset)
        .or_else(|_| DateTime::parse_from_str(with_offset, "%Y-%m-%dT%H:%M%:z"));
    if let Ok(time) = time {
        return Ok(Typed::Instant(time.with_timezone(&Utc)));
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(Typed::Clocks(day.and_time(NaiveTime::MIN)));
    }
    ["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .map(Typed::Clocks)
        .ok_or_else(|| {
            format!("`{text}` is no time: write 2026-11-24, 2026-11-24T10:00 or 2026-11-24T10:00:00+01:00")
        })
}

/// A [`typed`] time, in UTC where no offset was typed.
///
/// # Errors
/// As [`typed`].
pub fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    Ok(typed(text)?.at(Tz::UTC))
}

/// A [`moment`] at which an hour begins: what the books are kept by.
///
/// # Errors
/// As [`moment`], and if it is within an hour.
pub fn full_hour(text: &str) -> Result<DateTime<Utc>, String> {
    let time = moment(text)?;
    match (time.minute(), time.second(), time.nanosecond()) {
        (0, 0, 0) => Ok(time),
        _ => Err(format!("`{text}` is within an hour of UTC: the books are kept by the hour")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        for text in ["2026-11-24", "2026-11-24T00:00", "2026-11-24 00:00:00", "2026-11-24T01:00:00+01:00"] {
            assert_eq!(full_hour(text).unwrap().to_rfc3339(), "2026-11-24T00:00:00+00:00", "{text}");
        }
        assert!(moment("yesterday").unwrap_err().contains("2026-11-24T10:00"));
        assert!(full_hour("2026-11-24T10:30").unwrap_err().contains("by the hour"));
    }

    #[test]
    fn what_has_no_offset_is_by_the_clocks_of_the_zone() {
        for (text, zone, expected) in [
            ("2026-11-24", Tz::Europe__Berlin, "2026-11-23T23:00:00+00:00"),
            ("2026-11-24T10:00", Tz::Europe__Berlin, "2026-11-24T09:00:00+00:00"),
            ("2026-11-24T10:00Z", Tz::Europe__Berlin, "2026-11-24T10:00:00+00:00"),
            ("2026-11-24T10:00:00Z", Tz::Europe__Berlin, "2026-11-24T10:00:00+00:00"),
            // Shown twice; skipped; a midnight that was skipped; a day that was.
            ("2026-10-25T02:30", Tz::Europe__Berlin, "2026-10-25T00:30:00+00:00"),
            ("2026-03-29T02:30", Tz::Europe__Berlin, "2026-03-29T01:00:00+00:00"),
            ("2018-11-04", Tz::America__Sao_Paulo, "2018-11-04T03:00:00+00:00"),
            ("2011-12-30", Tz::Pacific__Apia, "2011-12-30T10:00:00+00:00"),
        ] {
            assert_eq!(typed(text).unwrap().at(zone).to_rfc3339(), expected, "{text}");
        }
    }
}
