//! Moments as people type them, in UTC.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike as _, Utc};

/// Reads `2026-11-24`, `2026-11-24T10:00`, `2026-11-24 10:00:30` (all UTC), or an RFC 3339 time with its zone.
///
/// # Errors
/// Says what is understood.
pub fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.with_timezone(&Utc));
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(day.and_time(NaiveTime::MIN).and_utc());
    }
    ["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .map(|time| time.and_utc())
        .ok_or_else(|| {
            format!(
                "`{text}` is no time: write 2026-11-24, 2026-11-24T10:00 (UTC) or 2026-11-24T10:00:00+01:00"
            )
        })
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
}
