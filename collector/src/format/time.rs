//! Times as logs write them.

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, NaiveDateTime, Utc};
use rentroll_schemas::Quantity;
use rentroll_schemas::event::is_writable;

/// How a field writes a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TimeFormat {
    /// `2015-05-17T10:05:03.5+02:00`.
    Rfc3339,
    /// So many of them passed since 1970 are a second; a fraction is allowed.
    Unix { per_second: i128 },
    /// A pattern of strftime. Without a zone it is UTC.
    Pattern { pattern: String, zoned: bool },
}

impl TimeFormat {
    /// Reads the setting; the error is the reason.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let per_second = match text {
            "rfc3339" => return Ok(TimeFormat::Rfc3339),
            "unix_s" => 1,
            "unix_ms" => 1_000,
            "unix_us" => 1_000_000,
            "unix_ns" => 1_000_000_000,
            pattern if pattern.contains('%') => return Self::pattern(pattern),
            other => {
                return Err(format!(
                    "`{other}` is none of rfc3339, unix_s, unix_ms, unix_us, unix_ns and a pattern such as `%d/%b/%Y:%H:%M:%S %z`"
                ));
            }
        };
        Ok(TimeFormat::Unix { per_second })
    }

    fn pattern(pattern: &str) -> Result<Self, String> {
        if StrftimeItems::new(pattern).any(|item| matches!(item, Item::Error)) {
            return Err(format!("`{pattern}` is not a pattern of strftime"));
        }
        // What it writes of a time must be enough to read the time back, to the second.
        let sample = DateTime::from_timestamp(1_431_857_103, 0).unwrap_or_default();
        let written = sample.format(pattern).to_string();
        for zoned in [true, false] {
            let format = TimeFormat::Pattern { pattern: pattern.to_owned(), zoned };
            if format.read(&written) == Ok(sample) {
                return Ok(format);
            }
        }
        Err(format!("`{pattern}` does not say a date and a time of day to the second"))
    }

    /// Reads a time; the error is the reason.
    pub(super) fn read(&self, text: &str) -> Result<DateTime<Utc>, String> {
        let time = match self {
            TimeFormat::Rfc3339 => DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()),
            TimeFormat::Unix { per_second } => return unix(text, *per_second),
            TimeFormat::Pattern { pattern, zoned: true } => {
                DateTime::parse_from_str(text, pattern).ok().map(|time| time.to_utc())
            }
            TimeFormat::Pattern { pattern, zoned: false } => {
                NaiveDateTime::parse_from_str(text, pattern).ok().map(|time| time.and_utc())
            }
        };
        time.filter(|time| is_writable(*time)).ok_or_else(|| {
            let example = match self {
                TimeFormat::Pattern { pattern, .. } => pattern,
                _ => "2015-05-17T10:05:03Z",
            };
            let shown: String = text.chars().take(64).collect();
            format!("`{shown}` is not like {example}")
        })
    }
}

/// Exactly, and cut to the nanosecond.
fn unix(text: &str, per_second: i128) -> Result<DateTime<Utc>, String> {
    let quantity: Quantity = text.parse().map_err(|error| format!("{error}"))?;
    let nanos = quantity.nanos().div_euclid(per_second);
    let (seconds, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| DateTime::from_timestamp(seconds, rest as u32))
        .filter(|time| is_writable(*time))
        .ok_or_else(|| format!("`{text}` is no time since 1970 in this unit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_logs_write() {
        for (format, text, utc) in [
            ("rfc3339", "2015-05-17T10:05:03.25+02:00", "2015-05-17T08:05:03.250+00:00"),
            ("unix_s", "1431857103", "2015-05-17T10:05:03+00:00"),
            ("unix_s", "1431857103.123456", "2015-05-17T10:05:03.123456+00:00"),
            ("unix_ms", "1431857103500", "2015-05-17T10:05:03.500+00:00"),
            ("unix_us", "1431857103000001", "2015-05-17T10:05:03.000001+00:00"),
            ("unix_ns", "1431857103000000001", "2015-05-17T10:05:03.000000001+00:00"),
            ("%d/%b/%Y:%H:%M:%S %z", "17/May/2015:12:05:03 +0200", "2015-05-17T10:05:03+00:00"),
            ("%Y-%m-%d %H:%M:%S,%3f", "2015-05-17 10:05:03,042", "2015-05-17T10:05:03.042+00:00"),
            ("%Y-%m-%dT%H:%M:%S%.f", "2015-05-17T10:05:03.5", "2015-05-17T10:05:03.500+00:00"),
            ("%s", "1431857103", "2015-05-17T10:05:03+00:00"),
        ] {
            let time = TimeFormat::new(format).unwrap().read(text).unwrap();
            assert_eq!(time.to_rfc3339(), utc, "{format} {text}");
        }
    }

    #[test]
    fn refuses_patterns_that_say_no_time_and_times_that_are_none() {
        for format in ["iso", "", "%Q", "%H:%M:%S", "%Y-%m-%d", "%Y-%m-%d %H:%M"] {
            assert!(TimeFormat::new(format).is_err(), "{format}");
        }
        for (format, text) in [
            ("rfc3339", "yesterday"),
            ("unix_s", "now"),
            ("unix_s", "99999999999999999999"),
            ("unix_s", "253402300800"),
            ("rfc3339", "9999-12-31T23:59:59-00:01"),
            ("%Y-%m-%d %H:%M:%S", "2015-05-17T10:05:03"),
            ("%Y-%m-%d %H:%M:%S", "2015-02-30 10:05:03"),
        ] {
            assert!(TimeFormat::new(format).unwrap().read(text).is_err(), "{format} {text}");
        }
    }
}
