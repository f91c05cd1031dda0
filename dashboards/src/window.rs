//! The stretch of time that a page is about: half-open, UTC, named in the address.
//!
//! `?period=2015-05` is a calendar month in the billing time zone; `?from=…&to=…` is any stretch of whole
//! minutes. Invoices and allocated costs exist per month only, so a free window shows usage without them.

use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, Timelike, Utc};
use chrono_tz::Tz;
use rentroll_schemas::period::Period;

use crate::text;

/// The longest free window, in days: a bound on what one page may read.
const DAYS_MAX: i64 = 3_660;

/// A half-open stretch of time, `from` included and `to` excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First instant.
    pub from: DateTime<Utc>,
    /// First instant after it.
    pub to: DateTime<Utc>,
    /// The billing month that it is, if it is one.
    pub period: Option<Period>,
}

/// Why an address names no window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// `period` is not a month.
    #[error("period: {0}")]
    Period(#[from] rentroll_schemas::period::PeriodError),
    /// `from` or `to` is not a time.
    #[error("{name}: `{text}` is not a time: write 2015-05-17 or 2015-05-17T06:00Z (UTC)")]
    Time {
        /// The parameter.
        name: &'static str,
        /// What it said.
        text: String,
    },
    /// Only one end was given.
    #[error("{0} is missing: a window needs both from and to")]
    OneEnd(&'static str),
    /// The window is empty or runs backwards.
    #[error("from ({from}) must be before to ({to})")]
    Empty {
        /// Its start.
        from: String,
        /// Its end.
        to: String,
    },
    /// Longer than a page may read.
    #[error("a window of more than {DAYS_MAX} days is too long for one page")]
    TooLong,
    /// Usage is kept by the minute.
    #[error("{name}: `{text}`: usage is kept by the minute, give whole minutes")]
    Seconds {
        /// The parameter.
        name: &'static str,
        /// What it said.
        text: String,
    },
}

impl Window {
    /// The window of a billing month.
    pub fn of(period: Period) -> Self {
        Window { from: period.from, to: period.to, period: Some(period) }
    }

    /// What the address asks for; `None` where it asks for nothing.
    ///
    /// # Errors
    /// A window that is not one, with what to write instead.
    pub fn parse(
        period: Option<&str>,
        from: Option<&str>,
        to: Option<&str>,
        zone: Tz,
    ) -> Result<Option<Self>, WindowError> {
        let given =
            |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        match (given(period), given(from), given(to)) {
            (None, None, None) => Ok(None),
            (Some(period), None, None) => Ok(Some(Window::of(Period::parse(&period, zone)?))),
            (_, Some(from), Some(to)) => Self::free(&from, &to).map(Some),
            (_, Some(_), None) => Err(WindowError::OneEnd("to")),
            (_, None, Some(_)) => Err(WindowError::OneEnd("from")),
        }
    }

    fn free(from: &str, to: &str) -> Result<Self, WindowError> {
        let (from, to) = (parse_time("from", from)?, parse_time("to", to)?);
        if from >= to {
            return Err(WindowError::Empty { from: text::minute_utc(from), to: text::minute_utc(to) });
        }
        if to - from > Duration::days(DAYS_MAX) {
            return Err(WindowError::TooLong);
        }
        Ok(Window { from, to, period: None })
    }

    /// What puts this window into an address.
    pub fn params(&self) -> Vec<(&'static str, String)> {
        match self.period {
            Some(period) => vec![("period", period.to_string())],
            None => vec![("from", address_time(self.from)), ("to", address_time(self.to))],
        }
    }

    /// A title: `May 2015`, or both ends.
    pub fn title(&self) -> String {
        match self.period {
            Some(period) => text::month(period.year, period.month),
            None => format!("{} to {}", text::tick(self.from), text::tick(self.to)),
        }
    }

    /// Both ends, for the line that says what is included.
    pub fn sentence(&self) -> String {
        match self.rollup() {
            Rollup::Day => {
                let day = |time: DateTime<Utc>| time.format("%Y-%m-%d").to_string();
                format!("{} up to, not including, {}, UTC", day(self.from), day(self.to))
            }
            _ => {
                format!("{} up to, not including, {}", text::minute_utc(self.from), text::minute_utc(self.to))
            }
        }
    }

    /// Whether more may still arrive in the ordinary course.
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        now < self.to
    }

    /// The coarsest rollup whose buckets this window does not cut.
    pub fn rollup(&self) -> Rollup {
        let whole_hour = |time: DateTime<Utc>| time.minute() == 0;
        let whole_day = |time: DateTime<Utc>| whole_hour(time) && time.hour() == 0;
        match (self.from, self.to) {
            (from, to) if whole_day(from) && whole_day(to) => Rollup::Day,
            (from, to) if whole_hour(from) && whole_hour(to) => Rollup::Hour,
            _ => Rollup::Minute,
        }
    }
}

/// The rollup tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rollup {
    /// `usage_minute`.
    Minute,
    /// `usage_hour`.
    Hour,
    /// `usage_day`.
    Day,
}

impl Rollup {
    /// The table's name.
    pub const fn table(self) -> &'static str {
        match self {
            Rollup::Minute => "usage_minute",
            Rollup::Hour => "usage_hour",
            Rollup::Day => "usage_day",
        }
    }
}

fn parse_time(name: &'static str, given: &str) -> Result<DateTime<Utc>, WindowError> {
    let wrong = || WindowError::Time { name, text: given.chars().take(40).collect() };
    let time = match NaiveDate::parse_from_str(given, "%Y-%m-%d") {
        Ok(day) => day.and_hms_opt(0, 0, 0).ok_or_else(wrong)?,
        Err(_) => {
            let bare = given.trim_end_matches('Z');
            let formats = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"];
            let read = |format| NaiveDateTime::parse_from_str(bare, format).ok();
            formats.into_iter().find_map(read).ok_or_else(wrong)?
        }
    };
    if time.second() != 0 {
        return Err(WindowError::Seconds { name, text: given.to_owned() });
    }
    Ok(time.and_utc())
}

fn address_time(time: DateTime<Utc>) -> String {
    match (time.hour(), time.minute()) {
        (0, 0) => time.format("%Y-%m-%d").to_string(),
        _ => time.format("%Y-%m-%dT%H:%MZ").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(period: &str, from: &str, to: &str) -> Result<Option<Window>, WindowError> {
        Window::parse(Some(period), Some(from), Some(to), Tz::UTC)
    }

    #[test]
    fn the_address_holds_the_window() {
        for (period, from, to, rollup) in [
            ("2015-05", "", "", Rollup::Day),
            ("", "2015-05-17", "2015-05-21", Rollup::Day),
            ("", "2015-05-17T10:00Z", "2015-05-20T22:00Z", Rollup::Hour),
            ("", "2015-05-17T10:05", "2015-05-20", Rollup::Minute),
        ] {
            let window = parse(period, from, to).unwrap().unwrap();
            assert_eq!(window.rollup(), rollup);
            let params = window.params();
            let get = |name| params.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
            let again = Window::parse(get("period"), get("from"), get("to"), Tz::UTC).unwrap().unwrap();
            assert_eq!(again, window);
        }
        assert_eq!(parse("", "", "").unwrap(), None);
    }

    #[test]
    fn a_wrong_window_says_what_is_wrong() {
        for (period, from, to, named) in [
            ("2015-13", "", "", "period: `2015-13`"),
            ("", "2015-05-17", "", "to is missing"),
            ("", "", "2015-05-17", "from is missing"),
            ("", "may", "2015-05-17", "from: `may`"),
            ("", "2015-05-18", "2015-05-17", "must be before"),
            ("", "2015-05-18", "2015-05-18", "must be before"),
            ("", "1900-01-01", "2015-05-17", "too long"),
            ("", "2015-05-17T10:00:30Z", "2015-05-18", "whole minutes"),
        ] {
            let message = parse(period, from, to).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }
}
