//! The words of SQL for meters. Meters are the operator's own: their texts are quoted here, and nothing else is put into
//! a statement.

use super::condition::NUMBER_PATTERN;
use super::{Aggregation, FromRollup, Meter};

/// The order of a tenant's events: of two with one time, the one that was stored later is the later one.
pub const LATEST_ORDER: &str = "(time, arrived_at, log_partition, log_batch, identity_high, identity_low)";

impl Meter {
    /// The ClickHouse condition that selects this meter's raw events.
    pub fn raw_condition_sql(&self) -> String {
        let mut sql = format!("type = {}", sql_string(&self.event_type));
        for (key, condition) in &self.filter {
            sql.push_str(&format!(" AND {}", condition.sql(key)));
        }
        for (bound, sign) in [(self.effective_from, ">="), (self.effective_to, "<")] {
            if let Some(bound) = bound {
                let micros = bound.timestamp_micros();
                sql.push_str(&format!(" AND time {sign} fromUnixTimestamp64Micro({micros})"));
            }
        }
        sql
    }

    /// The ClickHouse condition that a raw event has this meter's value.
    pub fn has_value_sql(&self) -> String {
        match (&self.value, self.aggregation) {
            (None, _) => "1".to_owned(),
            (Some(value), Aggregation::UniqueCount) => {
                let value = sql_string(value);
                format!("(mapContains(dimensions, {value}) OR mapContains(measures, {value}))")
            }
            (Some(value), _) => {
                let value = sql_string(value);
                format!("(mapContains(measures, {value}) OR match(dimensions[{value}], '{NUMBER_PATTERN}'))")
            }
        }
    }

    /// The ClickHouse condition that selects the raw events that this meter counts: its own, with a value.
    pub fn raw_counts_sql(&self) -> String {
        match self.value {
            None => self.raw_condition_sql(),
            Some(_) => format!("{} AND {}", self.raw_condition_sql(), self.has_value_sql()),
        }
    }

    /// The ClickHouse expression of what one raw event adds to a rollup's total.
    pub fn raw_value_sql(&self) -> String {
        match (&self.value, self.aggregation) {
            (None, _) | (_, Aggregation::UniqueCount) => "toDecimal128(1, 9)".to_owned(),
            (Some(value), _) => {
                let value = sql_string(value);
                format!(
                    "if(mapContains(measures, {value}), measures[{value}], toDecimal128OrZero(dimensions[{value}], 9))"
                )
            }
        }
    }

    /// The ClickHouse expression of what [`Aggregation::UniqueCount`] tells apart.
    pub fn raw_unique_sql(&self) -> String {
        let value = self.value.as_deref().map(sql_string).unwrap_or_default();
        format!("if(mapContains(dimensions, {value}), dimensions[{value}], toString(measures[{value}]))")
    }

    /// The ClickHouse expression of this meter over those raw events that it counts, as a decimal of nine places. Of an
    /// average and of a rate it is the sum, which is divided then; a time-weighted level is no aggregate of rows: `None`.
    pub fn raw_aggregate_sql(&self) -> Option<String> {
        let unique = match self.aggregation {
            Aggregation::UniqueCount => self.raw_unique_sql(),
            _ => String::new(),
        };
        self.aggregate_sql(&self.raw_value_sql(), &unique)
    }

    /// As [`raw_aggregate_sql`](Meter::raw_aggregate_sql), of rows that have the value under `value` and what is told apart
    /// under `unique`: columns of a query of the versions of a meter, say.
    pub fn aggregate_sql(&self, value: &str, unique: &str) -> Option<String> {
        match self.aggregation {
            Aggregation::Count | Aggregation::Sum | Aggregation::Avg | Aggregation::Rate => {
                Some(format!("sum({value})"))
            }
            Aggregation::Min => Some(format!("min({value})")),
            Aggregation::Max => Some(format!("max({value})")),
            Aggregation::UniqueCount => Some(format!("toDecimal128(uniqExact({unique}), 9)")),
            Aggregation::Latest => Some(format!("argMax({value}, {LATEST_ORDER})")),
            Aggregation::Percentile => {
                // Counted in whole numbers: quantileExact multiplies floats, and takes 0.57 of 100 for 56.
                let millionths = self.percentile.map_or(0, |percent| percent.percents().nanos() / 1_000);
                let place = format!("1 + intDiv(count() * {millionths}, 100000000)");
                Some(format!("arraySort(groupArray({value}))[toInt64(greatest(1, least(count(), {place})))]"))
            }
            Aggregation::TimeWeighted => None,
        }
    }

    /// The ClickHouse expression of this meter over rollup rows, as a decimal; `None` if raw events alone answer.
    /// Of a rate it is what is divided by the time.
    pub fn rollup_aggregate_sql(&self) -> Option<&'static str> {
        match self.aggregation.from_rollup() {
            FromRollup::Total => Some("sum(total)"),
            FromRollup::Least => Some("min(least_value)"),
            FromRollup::Greatest => Some("max(greatest_value)"),
            FromRollup::TotalByEvents | FromRollup::Nothing => None,
        }
    }

    /// The ClickHouse expression of [`group_key`](Meter::group_key) of a raw event.
    pub fn group_key_sql(&self) -> String {
        json_object_sql(self.key_dimensions().into_iter().map(|key| {
            let value = format!("dimensions[{}]", sql_string(key));
            (key, value)
        }))
    }
}

/// The ClickHouse expression of a JSON object of texts, written as serde_json writes it. Each value is an expression.
pub fn json_object_sql<'k>(members: impl IntoIterator<Item = (&'k str, String)>) -> String {
    let mut parts = Vec::new();
    for (index, (key, value)) in members.into_iter().enumerate() {
        let before = if index == 0 { "{" } else { "," };
        // Serialising a str cannot fail.
        let name = serde_json::to_string(key).unwrap_or_default();
        parts.push(sql_string(&format!("{before}{name}:\"")));
        parts.push(json_escaped_sql(&value));
        parts.push("'\"'".to_owned());
    }
    if parts.is_empty() {
        return "'{}'".to_owned();
    }
    parts.push("'}'".to_owned());
    format!("concat({})", parts.join(", "))
}

/// The ClickHouse expression of a text as serde_json writes it between quotation marks: `\` and `"` with a `\` before
/// them, control characters by letter or as `\u00xx`, everything else as it is.
fn json_escaped_sql(text: &str) -> String {
    let mut sql = format!(r#"replaceAll(replaceAll({text}, '\\', '\\\\'), '"', '\\"')"#);
    let mut rare = sql.clone();
    for control in 0..0x20_u8 {
        // Serialising a char cannot fail.
        let escaped = serde_json::to_string(&char::from(control)).unwrap_or_default();
        let escaped = sql_string(escaped.trim_matches('"'));
        rare = format!("replaceAll({rare}, '\\x{control:02x}', {escaped})");
    }
    sql = format!("if(match({text}, '[\\x00-\\x1f]'), {rare}, {sql})");
    sql
}

/// A ClickHouse string literal. Only for text from the operator's own files: what comes from a request is
/// always a bound parameter.
pub(super) fn sql_string(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_cannot_be_left() {
        assert_eq!(sql_string(r"a'b\"), r"'a\'b\\'");
    }
}
