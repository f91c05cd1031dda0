//! The versions of one meter that count in a span of time, taken together. Pure.

use chrono::{DateTime, Utc};
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::{Aggregation, Meter, Meters, Per};
use rentroll_schemas::period::Period;

/// Versions of one meter that make no one quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "meter `{meter}` is a {before} until {at} and a {after} from then on: between {from} and {to} they make no one \
     quantity; let the change begin at {from} or earlier, or at {to}"
)]
pub struct MixedVersions {
    /// The meter.
    pub meter: String,
    /// What it was: `sum of bytes`.
    pub before: String,
    /// What it became.
    pub after: String,
    /// When.
    pub at: DateTime<Utc>,
    /// First instant of what was to be billed.
    pub from: DateTime<Utc>,
    /// First instant after it.
    pub to: DateTime<Utc>,
}

/// The versions of one meter that count in a span of time: at least one.
#[derive(Clone, Debug)]
pub(crate) struct Versions<'a> {
    /// All of the name, oldest first.
    all: Vec<&'a Meter>,
    /// Which of them count in the span.
    counting: std::ops::Range<usize>,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

/// One version of a level, and the time in which it counts.
#[derive(Clone, Debug)]
pub(crate) struct LevelVersion {
    /// The version, without its times: how samples are read, those that are carried in too.
    pub(crate) meter: Meter,
    /// First instant that it counts.
    pub(crate) from: DateTime<Utc>,
    /// First instant after it.
    pub(crate) to: DateTime<Utc>,
    /// What is older is not carried in: another version told series apart by other dimensions. `None` for all times.
    pub(crate) carries_since: Option<DateTime<Utc>>,
}

impl<'a> Versions<'a> {
    /// The versions of `name` that count in [from, to); `None` if none does.
    ///
    /// # Errors
    /// If what they count cannot be taken together.
    pub(crate) fn of(
        meters: &'a Meters,
        name: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Option<Self>, Box<MixedVersions>> {
        let all: Vec<&Meter> = meters.versions(name).collect();
        let counts = |meter: &&Meter| {
            meter.effective_from.is_none_or(|begins| begins < to)
                && meter.effective_to.is_none_or(|ends| from < ends)
        };
        let Some(first) = all.iter().position(counts) else { return Ok(None) };
        let last = all.iter().rposition(counts).unwrap_or(first);
        let versions = Versions { counting: first..last + 1, all, from, to };
        for pair in versions.counting().windows(2) {
            let (before, after) = (pair[0], pair[1]);
            if kind(before) != kind(after) {
                let at = after.effective_from.unwrap_or(from);
                let (before, after) = (words(before), words(after));
                let mixed = MixedVersions { meter: name.to_owned(), before, after, at, from, to };
                return Err(Box::new(mixed));
            }
        }
        Ok(Some(versions))
    }

    /// Those of each meter that count in the period, in the order of the meters. A meter whose versions make no one
    /// quantity is left out: [`check`] says so where it is priced.
    pub(crate) fn of_all(meters: &'a Meters, period: &Period) -> Vec<Versions<'a>> {
        let of = |meter: &Meter| Self::of(meters, &meter.name, period.from, period.to).ok().flatten();
        meters.newest().filter_map(of).collect()
    }

    fn counting(&self) -> &[&'a Meter] {
        &self.all[self.counting.clone()]
    }

    /// The newest of them: how values are taken together, and in which unit.
    pub(crate) fn newest(&self) -> &'a Meter {
        self.all[self.counting.end - 1]
    }

    /// The span in which they were looked for, in microseconds.
    pub(crate) fn span(&self) -> (i64, i64) {
        (self.from.timestamp_micros(), self.to.timestamp_micros())
    }

    /// The condition on a row of `events` that one of them counts it.
    pub(crate) fn condition(&self) -> String {
        let conditions: Vec<String> = self.counting().iter().map(|meter| meter.raw_counts_sql()).collect();
        match conditions.as_slice() {
            [only] => only.clone(),
            several => format!("(({}))", several.join(") OR (")),
        }
    }

    /// What a row adds, as the version has it that counts the row.
    pub(crate) fn value(&self) -> String {
        self.by_version(Meter::raw_value_sql)
    }

    /// What a unique count tells apart.
    pub(crate) fn unique(&self) -> String {
        self.by_version(Meter::raw_unique_sql)
    }

    /// What is shown of an event, as text: its value, or what is told apart.
    pub(crate) fn shown(&self) -> String {
        match self.newest().aggregation {
            Aggregation::UniqueCount => self.unique(),
            _ => format!("toString({})", self.value()),
        }
    }

    fn by_version(&self, expression: impl Fn(&Meter) -> String) -> String {
        let (newest, older) = (self.newest(), &self.counting()[..self.counting.len() - 1]);
        let mut sql = String::new();
        for meter in older {
            sql.push_str(&format!("{}, {}, ", meter.raw_condition_sql(), expression(meter)));
        }
        match older {
            [] => expression(newest),
            _ => format!("multiIf({sql}{})", expression(newest)),
        }
    }

    /// Each of them, of a level. Their times do not overlap.
    ///
    /// A version reads what came before it as well, to carry it in, as long as the versions follow each other and tell
    /// series apart by the same dimensions.
    pub(crate) fn levels(&self) -> Vec<LevelVersion> {
        let level = |index: usize| {
            let meter = self.all[index];
            let continues = |at: usize| {
                let (before, after) = (self.all[at - 1], self.all[at]);
                before.effective_to.is_some()
                    && before.effective_to == after.effective_from
                    && before.aggregation == Aggregation::TimeWeighted
                    && before.key_dimensions() == after.key_dimensions()
            };
            let first = (1..=index).rev().find(|at| !continues(*at)).unwrap_or(0);
            LevelVersion {
                meter: Meter { effective_from: None, effective_to: None, ..meter.clone() },
                from: meter.effective_from.map_or(self.from, |from| from.max(self.from)),
                to: meter.effective_to.map_or(self.to, |to| to.min(self.to)),
                carries_since: self.all[first].effective_from,
            }
        };
        self.counting.clone().map(level).collect()
    }
}

/// Whether each of these meters has one quantity in the period.
///
/// # Errors
/// The first that has not.
pub(crate) fn check<'a>(
    meters: &Meters,
    names: impl IntoIterator<Item = &'a str>,
    period: &Period,
) -> Result<(), Box<MixedVersions>> {
    names.into_iter().try_for_each(|name| Versions::of(meters, name, period.from, period.to).map(|_| ()))
}

/// What must be the same for quantities to be taken together. Counts and sums add up.
fn kind(meter: &Meter) -> (Aggregation, Option<Quantity>, Per, &str) {
    let aggregation = match meter.aggregation {
        Aggregation::Count => Aggregation::Sum,
        other => other,
    };
    let percentile = meter.percentile.map(|percent| percent.percents());
    (aggregation, percentile, meter.per.unwrap_or_default(), &meter.unit)
}

fn words(meter: &Meter) -> String {
    let mut words = meter.aggregation.name().to_owned();
    if let Some(percentile) = meter.percentile {
        words.push_str(&format!(" {}", percentile.percents()));
    }
    if let Some(value) = &meter.value {
        words.push_str(&format!(" of {value}"));
    }
    if let Some(per) = meter.per {
        words.push_str(match per {
            Per::Second => " per second",
            Per::Minute => " per minute",
            Per::Hour => " per hour",
            Per::Window => " per window",
        });
    }
    format!("{words} in {}", meter.unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: u32) -> DateTime<Utc> {
        format!("2015-05-{day:02}T00:00:00Z").parse().unwrap()
    }

    fn meter(aggregation: Aggregation, from: Option<u32>, to: Option<u32>) -> Meter {
        Meter {
            name: "m".to_owned(),
            unit: "u".to_owned(),
            event_type: "t".to_owned(),
            aggregation,
            value: (aggregation != Aggregation::Count).then(|| "v".to_owned()),
            version: from.unwrap_or(1),
            effective_from: from.map(at),
            effective_to: to.map(at),
            ..Meter::default()
        }
    }

    fn of(meters: &[Meter], from: u32, to: u32) -> Result<Option<usize>, Box<MixedVersions>> {
        let meters = Meters { meters: meters.to_vec() };
        Versions::of(&meters, "m", at(from), at(to)).map(|found| found.map(|found| found.counting.len()))
    }

    #[test]
    fn those_count_whose_time_reaches_into_the_span() {
        let sum = Aggregation::Sum;
        let meters = [meter(sum, None, Some(5)), meter(sum, Some(5), Some(9)), meter(sum, Some(12), None)];
        for (from, to, found) in [(1, 5, 1), (1, 6, 2), (5, 9, 1), (4, 13, 3), (12, 31, 1), (1, 12, 2)] {
            assert_eq!(of(&meters, from, to), Ok(Some(found)), "{from} to {to}");
        }
        assert_eq!(of(&meters, 9, 12), Ok(None));
    }

    #[test]
    fn what_makes_no_one_quantity_is_refused() {
        let (count, sum, max) = (Aggregation::Count, Aggregation::Sum, Aggregation::Max);
        let changed = |a, b| [meter(a, None, Some(10)), meter(b, Some(10), None)];
        assert_eq!(of(&changed(count, sum), 1, 31), Ok(Some(2)));
        let error = of(&changed(sum, max), 1, 31).unwrap_err().to_string();
        assert!(error.starts_with("meter `m` is a sum of v in u until 2015-05-10"), "{error}");
        assert_eq!(of(&changed(sum, max), 10, 31), Ok(Some(1)), "the change begins with the span");
        let mut other_unit = changed(sum, sum);
        other_unit[1].unit = "k".to_owned();
        assert!(of(&other_unit, 1, 31).is_err());
    }

    #[test]
    fn a_level_is_carried_over_versions_that_tell_series_apart_alike() {
        let level = Aggregation::TimeWeighted;
        let mut meters = vec![
            meter(level, None, Some(3)),
            meter(level, Some(3), Some(6)),
            meter(level, Some(6), Some(9)),
            meter(level, Some(12), None),
        ];
        meters[0].series = vec!["bucket".to_owned()];
        let meters = Meters { meters };
        let versions = Versions::of(&meters, "m", at(1), at(31)).unwrap().unwrap();
        let found: Vec<_> =
            versions.levels().iter().map(|level| (level.from, level.to, level.carries_since)).collect();
        let expected = [
            (at(1), at(3), None),
            (at(3), at(6), Some(at(3))),
            (at(6), at(9), Some(at(3))),
            (at(12), at(31), Some(at(12))),
        ];
        assert_eq!(found, expected);
    }
}
