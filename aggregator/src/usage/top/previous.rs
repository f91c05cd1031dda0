//! The span that comes before another one, as people mean it: before October that is September, and not the 31 days before.

use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use chrono_tz::Tz;
use rentroll_schemas::period::start_of_day;

/// When the span before [from, to) begins, which ends at `from`: as many calendar months before, if these are whole ones of the zone;
/// as many days, whose hours differ where clocks are changed, if these are; else as long before.
pub(super) fn begins(from: DateTime<Utc>, to: DateTime<Utc>, zone: Tz) -> DateTime<Utc> {
    let by_calendar = || {
        let (first, end) = (whole_day(from, zone)?, whole_day(to, zone)?);
        let before = match (first.day(), end.day()) {
            (1, 1) => {
                let months = (end.year() - first.year()) * 12 + end.month() as i32 - first.month() as i32;
                first.checked_sub_months(Months::new(months.try_into().ok()?))?
            }
            _ => first.checked_sub_signed(end - first)?,
        };
        start_of_day(before, zone).filter(|begins| begins.timestamp() % 60 == 0)
    };
    by_calendar().unwrap_or_else(|| from - (to - from))
}

/// The day that begins then.
fn whole_day(at: DateTime<Utc>, zone: Tz) -> Option<NaiveDate> {
    let day = at.with_timezone(&zone).date_naive();
    (start_of_day(day, zone)? == at).then_some(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_and_days_are_those_of_the_zone() {
        let utc = Tz::UTC;
        let berlin = Tz::Europe__Berlin;
        for (from, to, zone, before) in [
            // October, which is longer than September; a quarter; February of a leap year.
            ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z", utc, "2026-09-01T00:00:00Z"),
            ("2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z", utc, "2026-07-01T00:00:00Z"),
            ("2028-03-01T00:00:00Z", "2028-04-01T00:00:00Z", utc, "2028-02-01T00:00:00Z"),
            ("2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z", berlin, "2026-09-30T22:00:00Z"),
            // Days, of which one has 25 hours; a week that has one.
            ("2026-10-25T23:00:00Z", "2026-10-26T23:00:00Z", berlin, "2026-10-24T22:00:00Z"),
            ("2026-10-25T23:00:00Z", "2026-11-01T23:00:00Z", berlin, "2026-10-18T22:00:00Z"),
            ("2026-10-08T00:00:00Z", "2026-10-15T00:00:00Z", utc, "2026-10-01T00:00:00Z"),
            // What is no whole days of the zone is as long.
            ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z", berlin, "2026-08-31T00:00:00Z"),
            ("2026-10-01T06:00:00Z", "2026-10-01T07:30:00Z", utc, "2026-10-01T04:30:00Z"),
        ] {
            let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
            assert_eq!(begins(at(from), at(to), zone), at(before), "{from} to {to} in {zone}");
        }
    }
}
