//! Values over time in buckets of one length, without holes.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Duration, Months, NaiveDate, Timelike, Utc};
use rentroll_schemas::Quantity;

/// The length of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// One minute.
    Minute,
    /// One hour.
    Hour,
    /// One UTC day.
    Day,
    /// One UTC calendar month.
    Month,
}

impl Grain {
    /// The grain that gives a readable number of bars: at most some two hundred, mostly far fewer.
    pub fn for_span(from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        let span = to - from;
        match span {
            _ if span <= Duration::hours(3) => Grain::Minute,
            _ if span <= Duration::days(8) => Grain::Hour,
            _ if span <= Duration::days(200) => Grain::Day,
            _ => Grain::Month,
        }
    }

    /// The start of the bucket that holds `time`.
    pub fn floor(self, time: DateTime<Utc>) -> DateTime<Utc> {
        let day = match self {
            Grain::Month => {
                NaiveDate::from_ymd_opt(time.year(), time.month(), 1).unwrap_or(time.date_naive())
            }
            _ => time.date_naive(),
        };
        let (hour, minute) = match self {
            Grain::Minute => (time.hour(), time.minute()),
            Grain::Hour => (time.hour(), 0),
            Grain::Day | Grain::Month => (0, 0),
        };
        // Hour and minute were taken from a time of day, so they make one.
        day.and_hms_opt(hour, minute, 0).map_or(time, |start| start.and_utc())
    }

    /// The start of the bucket after the one that starts at `start`.
    pub fn next(self, start: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Grain::Minute => start + Duration::minutes(1),
            Grain::Hour => start + Duration::hours(1),
            Grain::Day => start + Duration::days(1),
            Grain::Month => start.checked_add_months(Months::new(1)).unwrap_or(start + Duration::days(31)),
        }
    }

    /// Orders grains by their length.
    pub const fn length_rank(self) -> u8 {
        match self {
            Grain::Minute => 0,
            Grain::Hour => 1,
            Grain::Day => 2,
            Grain::Month => 3,
        }
    }

    /// `hour`, for "per hour".
    pub const fn word(self) -> &'static str {
        match self {
            Grain::Minute => "minute",
            Grain::Hour => "hour",
            Grain::Day => "day",
            Grain::Month => "month",
        }
    }
}

/// One bucket: its start, and a value per series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// First instant.
    pub start: DateTime<Utc>,
    /// One value per series; `None` where there was nothing.
    pub values: Vec<Option<Quantity>>,
}

/// Buckets from one end of a window to the other, those without usage included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Length of a bucket.
    pub grain: Grain,
    /// In time order, contiguous.
    pub buckets: Vec<Bucket>,
}

impl Timeline {
    /// Lays `points` (bucket start, series, value) over `[from, to)`; points outside are left out.
    pub fn new(
        grain: Grain,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        series: usize,
        points: impl IntoIterator<Item = (DateTime<Utc>, usize, Quantity)>,
    ) -> Self {
        let mut by_start: BTreeMap<DateTime<Utc>, Vec<Option<Quantity>>> = BTreeMap::new();
        let mut start = grain.floor(from);
        while start < to {
            by_start.insert(start, vec![None; series]);
            start = grain.next(start);
        }
        for (time, index, value) in points {
            let Some(values) = by_start.get_mut(&grain.floor(time)) else {
                continue;
            };
            let Some(slot) = values.get_mut(index) else {
                continue;
            };
            *slot = slot.map_or(Some(value), |held| held.checked_add(value));
        }
        let buckets = by_start.into_iter().map(|(start, values)| Bucket { start, values }).collect();
        Timeline { grain, buckets }
    }

    /// Whether no bucket holds anything.
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.values.iter().all(Option::is_none))
    }

    /// How many buckets hold something.
    pub fn filled(&self) -> usize {
        self.buckets.iter().filter(|bucket| bucket.values.iter().any(Option::is_some)).count()
    }
}

impl Bucket {
    /// The values together; `None` where there was nothing, or where they cannot be added.
    pub fn total(&self) -> Option<Quantity> {
        self.values.iter().flatten().copied().try_fold(None, |sum: Option<Quantity>, value| {
            sum.map_or(Some(Some(value)), |sum| sum.checked_add(value).map(Some))
        })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn days_without_usage_keep_their_place() {
        let window = (at("2015-05-01T00:00:00Z"), at("2015-06-01T00:00:00Z"));
        let one = Quantity::ONE;
        let points = [(at("2015-05-17T10:00:00Z"), 0, one), (at("2015-05-17T11:00:00Z"), 0, one)];
        let timeline = Timeline::new(Grain::Day, window, 1, points);
        assert_eq!(timeline.buckets.len(), 31);
        assert_eq!(timeline.filled(), 1);
        assert_eq!(timeline.buckets[16].total(), Some(Quantity::from_int(2)));
        assert_eq!(timeline.buckets[0].total(), None);
    }

    #[test]
    fn months_follow_the_calendar_and_a_cut_bucket_is_kept_whole() {
        let window = (at("2015-01-15T00:00:00Z"), at("2016-03-01T00:00:00Z"));
        let timeline = Timeline::new(Grain::Month, window, 1, []);
        assert_eq!(timeline.buckets.len(), 14);
        assert_eq!(timeline.buckets[0].start, at("2015-01-01T00:00:00Z"));
        assert_eq!(timeline.buckets[13].start, at("2016-02-01T00:00:00Z"));
    }

    #[test]
    fn points_outside_are_left_out() {
        let window = (at("2015-05-17T10:00:00Z"), at("2015-05-17T12:00:00Z"));
        let outside =
            [(at("2015-05-17T12:00:00Z"), 0, Quantity::ONE), (at("2015-05-17T10:00:00Z"), 7, Quantity::ONE)];
        assert!(Timeline::new(Grain::Hour, window, 1, outside).is_empty());
    }
}
