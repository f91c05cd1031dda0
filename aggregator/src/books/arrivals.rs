//! When records arrived of which nothing but their positions is known: when those of the batches around them did. Pure.
//!
//! A log is appended to in the order of arrival, so that what is missing between two batches arrived between what they
//! hold, by the hours that their tallies name. Limit: what waited in a collector's spool arrived there before what was
//! appended directly meanwhile; of it the batches around tell only if they hold some of it too.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

/// Hours of arrival, half-open; without an end where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Arrivals {
    /// Not before this hour.
    #[serde(rename = "arrived_from")]
    pub from: Option<DateTime<Utc>>,
    /// Before this hour.
    #[serde(rename = "arrived_before")]
    pub before: Option<DateTime<Utc>>,
}

impl Arrivals {
    /// From the first hour to the end of the last one, as seconds since the epoch; at any time if there are none (0).
    pub(super) fn of_hours(first: u32, last: u32) -> Self {
        let hour = |seconds: u32| DateTime::from_timestamp(i64::from(seconds), 0).filter(|_| seconds > 0);
        Arrivals { from: hour(first), before: hour(last).map(|hour| hour + TimeDelta::hours(1)) }
    }

    /// Both, and what lies between them.
    #[must_use]
    pub fn hull(self, other: Arrivals) -> Self {
        Arrivals {
            from: self.from.zip(other.from).map(|(one, other)| one.min(other)),
            before: self.before.zip(other.before).map(|(one, other)| one.max(other)),
        }
    }

    /// Whether an hour may be in both.
    pub fn overlaps(self, other: Arrivals) -> bool {
        let begins_in_time = |one: Arrivals, other: Arrivals| {
            one.from.zip(other.before).is_none_or(|(from, before)| from < before)
        };
        begins_in_time(self, other) && begins_in_time(other, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(from: Option<u32>, before: Option<u32>) -> Arrivals {
        let hour = |hour: u32| DateTime::from_timestamp(i64::from(hour) * 3_600, 0).unwrap();
        Arrivals { from: from.map(hour), before: before.map(hour) }
    }

    #[test]
    fn they_are_half_open_and_without_an_end_where_none_is_known() {
        let three_to_five = Arrivals::of_hours(3 * 3_600, 4 * 3_600);
        assert_eq!(three_to_five, hours(Some(3), Some(5)));
        for (from, before, overlaps) in [
            (Some(1), Some(3), false),
            (Some(1), Some(4), true),
            (Some(4), Some(9), true),
            (Some(5), Some(9), false),
            (None, Some(3), false),
            (None, Some(4), true),
            (Some(5), None, false),
            (Some(4), None, true),
            (None, None, true),
        ] {
            let other = hours(from, before);
            assert_eq!(three_to_five.overlaps(other), overlaps, "{from:?} to {before:?}");
            assert_eq!(other.overlaps(three_to_five), overlaps, "{from:?} to {before:?}");
        }
        assert_eq!(Arrivals::of_hours(0, 0), hours(None, None));
    }

    #[test]
    fn a_hull_is_known_where_both_ends_are() {
        assert_eq!(hours(Some(1), Some(2)).hull(hours(Some(4), Some(5))), hours(Some(1), Some(5)));
        assert_eq!(hours(Some(1), Some(2)).hull(hours(None, Some(5))), hours(None, Some(5)));
        assert_eq!(hours(Some(1), Some(2)).hull(hours(None, None)), hours(None, None));
    }
}
