//! Which rollups answer for which parts of a span: the coarsest whose buckets no edge cuts. Pure.

use super::Source;

/// Seconds of a bucket.
const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

/// The part of a span that one table answers for: stretches [from, to), in order, none next to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) source: Source,
    pub(super) stretches: Vec<(i64, i64)>,
}

/// Seconds of a bucket of rollups.
pub(super) fn bucket_seconds(source: Source) -> i64 {
    match source {
        Source::Day => DAY,
        Source::Hour => HOUR,
        Source::Minute | Source::Events => MINUTE,
    }
}

/// What the rollups answer for, the coarsest first. `None` if an edge is no whole minute: they have nothing finer.
pub(super) fn cover(edges: &[i64]) -> Option<Vec<Part>> {
    if edges.iter().any(|edge| edge % MINUTE != 0) {
        return None;
    }
    let mut parts =
        [Source::Day, Source::Hour, Source::Minute].map(|source| Part { source, stretches: Vec::new() });
    for window in edges.windows(2) {
        let (from, to) = (window[0], window[1]);
        let [days, hours, minutes] = &mut parts;
        let (day, day_end) = whole(from, to, DAY);
        if day < day_end {
            in_hours(from, day, hours, minutes);
            days.push(day, day_end);
            in_hours(day_end, to, hours, minutes);
        } else {
            in_hours(from, to, hours, minutes);
        }
    }
    Some(parts.into_iter().filter(|part| !part.stretches.is_empty()).collect())
}

fn in_hours(from: i64, to: i64, hours: &mut Part, minutes: &mut Part) {
    let (hour, hour_end) = whole(from, to, HOUR);
    if hour < hour_end {
        minutes.push(from, hour);
        hours.push(hour, hour_end);
        minutes.push(hour_end, to);
    } else {
        minutes.push(from, to);
    }
}

/// The whole buckets of [from, to): from the first one's beginning to the last one's end.
fn whole(from: i64, to: i64, bucket: i64) -> (i64, i64) {
    (from + (-from).rem_euclid(bucket), to - to.rem_euclid(bucket))
}

impl Part {
    /// Adds the stretch that comes next.
    fn push(&mut self, from: i64, to: i64) {
        if from >= to {
            return;
        }
        match self.stretches.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => self.stretches.push((from, to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_span_that_ends_now_is_days_hours_and_minutes() {
        let edges = [DAY + HOUR, 5 * DAY + 3 * HOUR + 120];
        let parts = cover(&edges).unwrap();
        assert_eq!(
            parts,
            [
                Part { source: Source::Day, stretches: vec![(2 * DAY, 5 * DAY)] },
                Part {
                    source: Source::Hour,
                    stretches: vec![(DAY + HOUR, 2 * DAY), (5 * DAY, 5 * DAY + 3 * HOUR)]
                },
                Part {
                    source: Source::Minute,
                    stretches: vec![(5 * DAY + 3 * HOUR, 5 * DAY + 3 * HOUR + 120)]
                },
            ]
        );
        assert_eq!(cover(&[0, 30]), None);
    }

    #[test]
    fn days_of_another_zone_are_hours_all_through() {
        let edges: Vec<i64> = (0..5).map(|day| day * DAY + 2 * HOUR).collect();
        let parts = cover(&edges).unwrap();
        assert_eq!(parts, [Part { source: Source::Hour, stretches: vec![(2 * HOUR, 4 * DAY + 2 * HOUR)] }]);
    }

    proptest! {
        #[test]
        fn each_minute_is_in_one_part_and_no_edge_in_a_bucket(
            minutes in proptest::collection::btree_set(0..10_000_i64, 2..20),
        ) {
            let edges: Vec<i64> = minutes.into_iter().map(|minute| minute * MINUTE).collect();
            let parts = cover(&edges).unwrap();
            let mut all: Vec<(i64, i64)> = Vec::new();
            for part in &parts {
                let size = bucket_seconds(part.source);
                for (from, to) in &part.stretches {
                    prop_assert!(from % size == 0 && to % size == 0);
                    // An edge in a stretch is at the beginning of a bucket.
                    prop_assert!(edges.iter().all(|edge| edge <= from || edge >= to || edge % size == 0));
                    all.push((*from, *to));
                }
            }
            all.sort_unstable();
            prop_assert_eq!((all[0].0, all[all.len() - 1].1), (edges[0], edges[edges.len() - 1]));
            prop_assert!(all.windows(2).all(|pair| pair[0].1 == pair[1].0));
        }
    }
}
