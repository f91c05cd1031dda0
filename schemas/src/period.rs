//! Billing periods: half-open, cut in a named time zone.

use chrono::{DateTime, Datelike, NaiveDate, TimeZone, Utc};
use chrono_tz::Tz;

/// One calendar month in a billing time zone, as the half-open UTC interval `[from, to)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Calendar year.
    pub year: i32,
    /// Calendar month, 1 to 12.
    pub month: u32,
    /// The zone in which the month's first midnights were taken.
    pub zone: Tz,
    /// First instant of the month.
    pub from: DateTime<Utc>,
    /// First instant of the next month.
    pub to: DateTime<Utc>,
}

/// Why a text is not a period.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a month: write it as YYYY-MM, for example 2015-05")]
pub struct PeriodError(pub String);

impl Period {
    /// The month written `YYYY-MM`, in `zone`.
    pub fn parse(text: &str, zone: Tz) -> Result<Self, PeriodError> {
        let error = || PeriodError(text.to_owned());
        let (year, month) = text.split_once('-').ok_or_else(error)?;
        if year.len() != 4 || month.len() != 2 {
            return Err(error());
        }
        let (year, month) = (year.parse().map_err(|_| error())?, month.parse().map_err(|_| error())?);
        Self::month(year, month, zone).ok_or_else(error)
    }

    /// The month that `instant` falls into, in `zone`.
    pub fn containing(instant: DateTime<Utc>, zone: Tz) -> Option<Self> {
        let local = instant.with_timezone(&zone);
        Self::month(local.year(), local.month(), zone)
    }

    /// Its days, each with its first instant and the first one after it: contiguous, 23 or 25 hours where clocks change.
    pub fn days(&self) -> Vec<(NaiveDate, DateTime<Utc>, DateTime<Utc>)> {
        let Some(first) = NaiveDate::from_ymd_opt(self.year, self.month, 1) else { return Vec::new() };
        let starts: Vec<(NaiveDate, DateTime<Utc>)> = first
            .iter_days()
            .take_while(|day| day.month() == self.month)
            .filter_map(|day| Some((day, start_of_day(day, self.zone)?)))
            .collect();
        let ends = starts.iter().skip(1).map(|(_, start)| *start).chain([self.to]);
        starts.iter().zip(ends).map(|((day, from), to)| (*day, *from, to)).collect()
    }

    fn month(year: i32, month: u32, zone: Tz) -> Option<Self> {
        let first = NaiveDate::from_ymd_opt(year, month, 1)?;
        let next = first.checked_add_months(chrono::Months::new(1))?;
        Some(Period { year, month, zone, from: start_of_day(first, zone)?, to: start_of_day(next, zone)? })
    }
}

/// The first instant of a day. Where midnight is skipped by a daylight-saving change the day begins at the
/// first instant after the gap; where it happens twice, at the earlier one: days stay contiguous. `None` for a day that
/// the zone left out.
pub fn start_of_day(day: NaiveDate, zone: Tz) -> Option<DateTime<Utc>> {
    let midnight = day.and_hms_opt(0, 0, 0)?;
    (0..=180)
        .find_map(|minutes| {
            zone.from_local_datetime(&(midnight + chrono::Duration::minutes(minutes))).earliest()
        })
        .map(|instant| instant.with_timezone(&Utc))
}

impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_contiguous_in_every_zone() {
        for zone in chrono_tz::TZ_VARIANTS {
            let mut previous: Option<Period> = None;
            for year in 2014..2027 {
                for month in 1..=12 {
                    let period = Period::month(year, month, zone).unwrap();
                    assert!(period.from < period.to);
                    if let Some(previous) = previous {
                        assert_eq!(previous.to, period.from, "{zone} {period}");
                    }
                    previous = Some(period);
                }
            }
        }
    }

    #[test]
    fn days_are_the_month() {
        for (zone, month, lengths) in [
            (Tz::UTC, "2024-02", (29, 24, 24)),
            (Tz::Europe__Amsterdam, "2015-03", (31, 23, 24)),
            (Tz::Europe__Amsterdam, "2015-10", (31, 24, 25)),
        ] {
            let period = Period::parse(month, zone).unwrap();
            let days = period.days();
            let hours = |(_, from, to): &(NaiveDate, DateTime<Utc>, DateTime<Utc>)| (*to - *from).num_hours();
            let (least, most) =
                (days.iter().map(hours).min().unwrap(), days.iter().map(hours).max().unwrap());
            assert_eq!((days.len(), least, most), lengths, "{month}");
            assert_eq!((days[0].1, days[days.len() - 1].2), (period.from, period.to));
            assert!(days.windows(2).all(|pair| pair[0].2 == pair[1].1));
        }
    }

    #[test]
    fn only_year_and_month_are_a_period() {
        for text in ["", "2015", "2015-13", "2015-5", "2015-00", "15-05", "2015-05-01", "may"] {
            assert!(Period::parse(text, Tz::UTC).is_err(), "{text}");
        }
        assert_eq!(Period::parse("2015-05", Tz::UTC).unwrap().to_string(), "2015-05");
    }
}
