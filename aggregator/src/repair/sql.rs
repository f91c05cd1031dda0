//! The statements behind the check. Meters are the operator's own file, and [`Meter`] quotes them; everything else is
//! a bound parameter.
//!
//! Every statement takes `from` and `to`, seconds since the epoch: the span [from, to).

use rentroll_schemas::effective;
use rentroll_schemas::meter::{Meter, Meters, UNMATCHED, WITHOUT_VALUE, json_object_sql};

use super::Table;

/// An event arrives at most this much before its own time (see [`rentroll_schemas::window`]): what arrived earlier need
/// not be looked at.
const FUTURE_SECONDS: i64 = rentroll_schemas::window::FUTURE.num_seconds();

/// The events of the span.
fn in_span() -> String {
    format!(
        "time >= fromUnixTimestamp64Micro({{from:Int64}} * 1000000) \
         AND time < fromUnixTimestamp64Micro({{to:Int64}} * 1000000) \
         AND arrived_at >= fromUnixTimestamp64Milli(({{from:Int64}} - {FUTURE_SECONDS}) * 1000)"
    )
}

/// The batches that have rows in the span, and how many: D.
pub(super) fn batches() -> String {
    format!(
        "SELECT toString(log_topic) AS topic, log_partition AS partition, log_batch AS first, count() AS rows FROM events \
         WHERE {} GROUP BY topic, partition, first ORDER BY topic, partition, first",
        in_span()
    )
}

/// How many rows the span has, counted up to `limit`, which is a further parameter: a window of five weeks may have
/// thousands of millions.
pub(super) fn events() -> String {
    format!("SELECT count() FROM (SELECT 1 FROM events WHERE {} LIMIT {{limit:UInt64}})", in_span())
}

/// How many rows of the span have an identity that another one has.
pub(super) fn copies() -> String {
    format!(
        "SELECT toUInt64(count() - uniqExact(identity_high, identity_low)) FROM events WHERE {}",
        in_span()
    )
}

/// What the events of the span make, per minute. Without `copies` no two rows of the span have one identity, and
/// the sort that would find them is saved.
fn minutes_by_events(meters: &Meters, copies: bool) -> String {
    let mut readings: Vec<String> = meters.meters.iter().map(reading).collect();
    readings.extend(meters.meters.iter().filter(|meter| meter.value.is_some()).map(without_value));
    readings.push(unmatched(meters));
    let first_of_identity = if copies { effective::FIRST_OF_IDENTITY } else { "" };
    format!(
        "SELECT reading.1 AS meter, tenant, toDateTime(toStartOfMinute(time), 'UTC') AS bucket, reading.2 AS dimensions, \
         toInt64(count()) AS events, sum(reading.3) AS total, min(reading.3) AS least, max(reading.3) AS greatest \
         FROM (SELECT tenant, time, arrayJoin(arrayConcat({readings})) AS reading FROM (\
           SELECT tenant, type, time, measures, dimensions FROM events \
           WHERE {span} AND {counts} {first_of_identity})) \
         GROUP BY meter, tenant, bucket, dimensions",
        readings = readings.join(", "),
        span = in_span(),
        counts = effective::condition_sql("1"),
    )
}

/// What one meter makes of an event: an array with (meter, dimensions, value), or an empty one.
fn reading(meter: &Meter) -> String {
    format!(
        "if({condition}, [({name}, {dimensions}, {value})], [])",
        condition = meter.raw_counts_sql(),
        name = format_args!("'{}'", meter.name),
        dimensions = meter.group_key_sql(),
        value = meter.raw_value_sql(),
    )
}

/// What the built-in meter of missing values makes of an event.
fn without_value(meter: &Meter) -> String {
    format!(
        "if({condition} AND NOT {has_value}, [('{WITHOUT_VALUE}', '{{\"meter\":\"{name}\"}}', toDecimal128(1, 9))], [])",
        condition = meter.raw_condition_sql(),
        has_value = meter.has_value_sql(),
        name = meter.name,
    )
}

/// What the built-in meter of events that have none makes of an event.
fn unmatched(meters: &Meters) -> String {
    let conditions: Vec<String> =
        meters.meters.iter().map(|meter| format!("({})", meter.raw_condition_sql())).collect();
    let any = if conditions.is_empty() { "0".to_owned() } else { conditions.join(" OR ") };
    let dimensions = json_object_sql([("type", "type".to_owned())]);
    format!("if({any}, [], [('{UNMATCHED}', {dimensions}, toDecimal128(1, 9))])")
}

/// The names in the rollups: of all meters, and the built-in ones.
pub(super) fn names(meters: &Meters) -> Vec<&str> {
    meters.newest().map(|meter| meter.name.as_str()).chain([UNMATCHED, WITHOUT_VALUE]).collect()
}

/// What a finer table makes of the span.
fn coarser(finer: Table, bucket: &str) -> String {
    format!(
        "SELECT meter, tenant, toDateTime({bucket}(bucket), 'UTC') AS bucket, dimensions, sum(events) AS events, \
         sum(total) AS total, min(least_value) AS least, max(greatest_value) AS greatest FROM {} \
         WHERE meter IN {{meters:Array(String)}} AND bucket >= toDateTime({{from:Int64}}, 'UTC') \
         AND bucket < toDateTime({{to:Int64}}, 'UTC') GROUP BY meter, tenant, bucket, dimensions",
        finer.name()
    )
}

/// The cells of `table` in the span that differ from what they should be. Further parameters: `meters`, the names of
/// all; `extremes`, of those that take the least or the greatest.
pub(super) fn differences(table: Table, meters: &Meters, copies: bool) -> String {
    let expected = match table {
        Table::Minute => minutes_by_events(meters, copies),
        Table::Hour => coarser(Table::Minute, "toStartOfHour"),
        Table::Day => coarser(Table::Hour, "toStartOfDay"),
    };
    // A cell without events has no extremes, whatever a row of it says.
    let lowest = "minIf(least, is_expected AND events != 0)";
    let highest = "maxIf(greatest, is_expected AND events != 0)";
    // Nothing is in an empty set, which the engine then takes for a constant and stumbles over.
    let takes_one = match extremes(meters).is_empty() {
        true => "count() = 0",
        false => "meter IN {extremes:Array(String)}",
    };
    format!(
        "SELECT toString(meter) AS meter, tenant, bucket, dimensions, \
           sumIf(events, NOT is_expected) AS found_events, toString(sumIf(total, NOT is_expected)) AS found_total, \
           toString(minIf(least, NOT is_expected)) AS found_least, \
           toString(maxIf(greatest, NOT is_expected)) AS found_greatest, \
           sumIf(events, is_expected) AS expected_events, toString(sumIf(total, is_expected)) AS expected_total, \
           toString({lowest}) AS expected_least, toString({highest}) AS expected_greatest, \
           countIf(NOT is_expected) > 0 AS exists, \
           {takes_one} AND exists AND (expected_events = 0 \
             OR minIf(least, NOT is_expected) < {lowest} OR maxIf(greatest, NOT is_expected) > {highest}) AS replaces \
         FROM (\
           SELECT meter, tenant, bucket, dimensions, toInt64(events) AS events, total, least_value AS least, \
             greatest_value AS greatest, false AS is_expected FROM {table} \
           WHERE meter IN {{meters:Array(String)}} AND bucket >= toDateTime({{from:Int64}}, 'UTC') \
             AND bucket < toDateTime({{to:Int64}}, 'UTC') \
           UNION ALL \
           SELECT meter, tenant, bucket, dimensions, toInt64(events) AS events, total, least, greatest, \
             true AS is_expected FROM ({expected})) \
         GROUP BY meter, tenant, bucket, dimensions \
         HAVING found_events != expected_events OR found_total != expected_total OR replaces \
           OR ({takes_one} AND expected_events != 0 \
             AND (found_least != expected_least OR found_greatest != expected_greatest)) \
         ORDER BY meter, tenant, bucket, dimensions",
        table = table.name()
    )
}

/// Names of the meters that take the least or the greatest.
pub(super) fn extremes(meters: &Meters) -> Vec<&str> {
    let keeps_them = |meter: &&Meter| meter.aggregation.keeps_extremes();
    meters.newest().filter(keeps_them).map(|meter| meter.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: &str = r#"{"name": "m", "unit": "u", "event_type": "t", "aggregation": "max", "value": "v"}"#;

    #[test]
    fn every_statement_has_its_placeholders() {
        let names = |sql: &str| {
            let mut names: Vec<String> = sql
                .split('{')
                .skip(1)
                .filter_map(|rest| rest.split_once(':').map(|(name, _)| name.to_owned()))
                // JSON in a text.
                .filter(|name| !name.starts_with('"'))
                .collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        assert_eq!(names(&batches()), ["from", "to"]);
        assert_eq!(names(&copies()), ["from", "to"]);
        assert_eq!(names(&events()), ["from", "limit", "to"]);
        for table in Table::ALL {
            let mut meters: Meters = Meters::default();
            assert_eq!(names(&differences(table, &meters, true)), ["from", "meters", "to"], "{table:?}");
            meters.meters.push(serde_json::from_str(MAX).unwrap());
            assert_eq!(
                names(&differences(table, &meters, true)),
                ["extremes", "from", "meters", "to"],
                "{table:?}"
            );
        }
    }
}
