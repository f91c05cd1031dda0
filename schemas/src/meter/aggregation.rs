//! How the values of a window become one quantity.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Quantity;

/// How the values of a window become one quantity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// The number of events.
    #[default]
    Count,
    /// The sum of `value`.
    Sum,
    /// The smallest `value`.
    Min,
    /// The largest `value`.
    Max,
    /// The sum of `value` divided by the number of events, rounded half away from zero at nine decimals.
    Avg,
    /// How many different values `value` has, exactly: of a dimension, or of a measure.
    UniqueCount,
    /// The `value` of the newest event; of several with one time, the one that was stored last.
    Latest,
    /// The `value` at `percentile`: of n values in order, the one at place ⌊n · percentile / 100⌋, counted from 0, or the
    /// greatest. Never between two values.
    Percentile,
    /// The number of events, or the sum of `value`, per unit of time (`per`) of the window.
    Rate,
    /// A level, such as bytes stored: each `value` holds until the next one of its series, weighted by that time. Of
    /// several with one time, the one that was stored last.
    TimeWeighted,
}

/// What of a rollup gives the quantity of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromRollup {
    /// The sum of the totals.
    Total,
    /// The least of the least values.
    Least,
    /// The greatest of the greatest values.
    Greatest,
    /// The sum of the totals, by the number of events.
    TotalByEvents,
    /// Nothing does: raw events alone answer.
    Nothing,
}

impl FromRollup {
    /// The function and the column of a rollup, where they alone give it.
    pub const fn column(self) -> Option<(&'static str, &'static str)> {
        match self {
            FromRollup::Total => Some(("sum", "total")),
            FromRollup::Least => Some(("min", "least_value")),
            FromRollup::Greatest => Some(("max", "greatest_value")),
            FromRollup::TotalByEvents | FromRollup::Nothing => None,
        }
    }
}

impl Aggregation {
    /// All of them.
    pub const ALL: [Aggregation; 10] = [
        Aggregation::Count,
        Aggregation::Sum,
        Aggregation::Min,
        Aggregation::Max,
        Aggregation::Avg,
        Aggregation::UniqueCount,
        Aggregation::Latest,
        Aggregation::Percentile,
        Aggregation::Rate,
        Aggregation::TimeWeighted,
    ];

    /// Its name in `meters.yaml` and in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Aggregation::Count => "count",
            Aggregation::Sum => "sum",
            Aggregation::Min => "min",
            Aggregation::Max => "max",
            Aggregation::Avg => "avg",
            Aggregation::UniqueCount => "unique_count",
            Aggregation::Latest => "latest",
            Aggregation::Percentile => "percentile",
            Aggregation::Rate => "rate",
            Aggregation::TimeWeighted => "time_weighted",
        }
    }

    /// What of a rollup gives it.
    pub const fn from_rollup(self) -> FromRollup {
        match self {
            Aggregation::Count | Aggregation::Sum | Aggregation::Rate => FromRollup::Total,
            Aggregation::Min => FromRollup::Least,
            Aggregation::Max => FromRollup::Greatest,
            Aggregation::Avg => FromRollup::TotalByEvents,
            Aggregation::UniqueCount
            | Aggregation::Latest
            | Aggregation::Percentile
            | Aggregation::TimeWeighted => FromRollup::Nothing,
        }
    }

    /// Whether the quantities of two disjoint windows, or of two tenants, add up to that of both.
    pub const fn is_additive(self) -> bool {
        matches!(self, Aggregation::Count | Aggregation::Sum)
    }

    /// Whether its rollups keep least and greatest values.
    pub const fn keeps_extremes(self) -> bool {
        matches!(self, Aggregation::Min | Aggregation::Max)
    }
}

/// The unit of time that a rate is per, or that a level is multiplied by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Seconds: requests a second, byte-seconds.
    #[default]
    Second,
    /// Minutes.
    Minute,
    /// Hours: byte-hours.
    Hour,
    /// The whole window: the average level, which over a month is the number of byte-months.
    Window,
}

impl Per {
    /// Its length; `None` for the whole window.
    pub const fn seconds(self) -> Option<i64> {
        match self {
            Per::Second => Some(1),
            Per::Minute => Some(60),
            Per::Hour => Some(3_600),
            Per::Window => None,
        }
    }
}

/// A percentile, in percent: more than 0, at most 100, at most six decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub struct Percent(#[schemars(with = "f64", range(min = 0.000_001, max = 100))] Quantity);

impl Percent {
    /// From a number of percents.
    ///
    /// # Errors
    /// What is allowed.
    pub fn new(percent: Quantity) -> Result<Self, String> {
        let nanos = percent.nanos();
        match nanos > 0 && percent <= Quantity::from_int(100) && nanos % 1_000 == 0 {
            true => Ok(Percent(percent)),
            false => Err(format!(
                "`{percent}` is no percentile: more than 0, at most 100, at most six decimals, such as 95 or 99.9"
            )),
        }
    }

    /// The number of percents.
    pub const fn percents(self) -> Quantity {
        self.0
    }

    /// The level between 0 and 1, as it stands in a query.
    pub fn level(self) -> String {
        Quantity::from_nanos(self.0.nanos() / 100).to_string()
    }
}

impl Serialize for Percent {
    /// A number: what people write.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_str::<serde_json::Number>(&self.0.to_string()) {
            Ok(number) => number.serialize(serializer),
            Err(error) => Err(serde::ser::Error::custom(error)),
        }
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = super::condition::number(deserializer)?;
        Percent::new(percent).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_read_as_written() {
        for (json, level) in [("95", "0.95"), ("99.9", "0.999"), ("\"50\"", "0.5"), ("100", "1")] {
            let percent: Percent = serde_json::from_str(json).unwrap();
            assert_eq!(percent.level(), level);
            let again: Percent = serde_json::from_str(&serde_json::to_string(&percent).unwrap()).unwrap();
            assert_eq!(again, percent);
        }
        for json in ["0", "101", "-1", "\"x\"", "0.0000001"] {
            assert!(serde_json::from_str::<Percent>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn names_are_those_of_the_file() {
        for aggregation in Aggregation::ALL {
            assert_eq!(serde_json::to_string(&aggregation).unwrap(), format!("\"{}\"", aggregation.name()));
        }
    }
}
