//! The queries behind [`super`]. Everything that comes from outside is a bound parameter; meters are the
//! operator's own, and [`Meter`](rentroll_schemas::meter::Meter) quotes them.

use clickhouse::query::Query;
use rentroll_engines::store::Store;
use rentroll_schemas::effective;
use rentroll_schemas::meter::{Aggregation, LATEST_ORDER};

use super::versions::{LevelVersion, Versions};

/// Which tenants' events are read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    /// Those of identities of one slice: hashes, so slices are even, and all copies of one event are in one slice.
    Identities(Slice),
    /// Those of tenants of one slice: all of a tenant's are in one.
    Tenants(Slice),
    /// One tenant's.
    Tenant(&'a str),
}

/// One of several equal parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    pub(crate) slice: u64,
    pub(crate) slices: u64,
}

const OF_TENANTS: &str = "cityHash64(tenant) % {slices:UInt64} = {slice:UInt64}";

impl Scope<'_> {
    /// The condition that a row is in it.
    fn rows(self) -> &'static str {
        match self {
            Scope::Identities(_) => "identity_high % {slices:UInt64} = {slice:UInt64}",
            Scope::Tenants(_) => OF_TENANTS,
            Scope::Tenant(_) => "tenant = {tenant:String}",
        }
    }

    /// A condition that an event shares with its corrections. The tenant is part of an identity: both are of one.
    fn corrections(self) -> &'static str {
        match self {
            Scope::Identities(_) => "1",
            Scope::Tenants(_) | Scope::Tenant(_) => self.rows(),
        }
    }

    /// A query with the parameters of the conditions. What is sorted goes to disk before it fills the memory.
    pub(crate) fn query(self, store: &Store, sql: &str) -> Query {
        // Raw: a `?` in a meter's filter is a question mark.
        let query =
            store.client().query_raw(sql).with_setting("max_bytes_before_external_sort", SORT_BYTES_MAX);
        match self {
            Scope::Identities(Slice { slice, slices }) | Scope::Tenants(Slice { slice, slices }) => {
                query.param("slice", slice).param("slices", slices)
            }
            Scope::Tenant(tenant) => query.param("tenant", tenant),
        }
    }
}

/// Memory for the sort that finds copies, before it goes to disk: a large tenant is one slice, whatever its size.
const SORT_BYTES_MAX: &str = "400000000";

const IN_PERIOD: &str =
    "time >= fromUnixTimestamp64Micro({from:Int64}) AND time < fromUnixTimestamp64Micro({to:Int64})";

/// The columns by which [`LATEST_ORDER`] orders, beside the identity.
const ORDER_COLUMNS: &str = "time, arrived_at, log_partition, log_batch";

/// The meter's events of a period that count: distinct by identity, without those that were voided or amended.
///
/// Parameters: `from`, `to` (microseconds since the epoch), and those of the scope.
fn events_sql(versions: &Versions<'_>, columns: &str, scope: Scope<'_>) -> String {
    format!(
        "SELECT {columns}, identity_high, identity_low\nFROM events\nWHERE {of_meter}\n  AND {rows}\n  \
         AND {IN_PERIOD}\n  AND {counts}\n{first_of_identity}",
        of_meter = versions.condition(),
        rows = scope.rows(),
        counts = effective::condition_sql(scope.corrections()),
        first_of_identity = effective::FIRST_OF_IDENTITY,
    )
}

/// The columns that an aggregate needs.
fn value_columns(versions: &Versions<'_>) -> String {
    let value = versions.value();
    match versions.newest().aggregation {
        Aggregation::UniqueCount => format!("{value} AS value, {} AS unique_value", versions.unique()),
        Aggregation::Latest => format!("{value} AS value, {ORDER_COLUMNS}"),
        _ => format!("{value} AS value"),
    }
}

/// The aggregate over them; of an average and of a rate the sum.
fn aggregate(versions: &Versions<'_>) -> String {
    versions.newest().aggregate_sql("value", "unique_value").unwrap_or_else(|| "sum(value)".to_owned())
}

/// Number of the day, in the zone.
const DAY: &str = "toUInt16(toDate(time, {zone:String})) AS day_number";

/// Usage of one meter by tenant and day. Parameters: those of [`events_sql`], and `zone`.
pub(super) fn days_sql(versions: &Versions<'_>, scope: Scope<'_>) -> String {
    format!(
        "SELECT tenant, day_number, count() AS counted, toString({aggregate}) AS quantity\nFROM (\n{events}\n)\n\
         GROUP BY tenant, day_number\nORDER BY tenant, day_number",
        aggregate = aggregate(versions),
        events = events_sql(versions, &format!("tenant, {DAY}, {}", value_columns(versions)), scope)
    )
}

/// Usage of one meter by tenant and day, and by tenant, beside the sum of values. Parameters as of [`days_sql`].
pub(super) fn whole_sql(versions: &Versions<'_>, scope: Scope<'_>) -> String {
    format!(
        "SELECT tenant, toUInt8(grouping(day_number)) AS is_whole, day_number, count() AS counted, \
         toString(sum(value)) AS total, toString({aggregate}) AS quantity\nFROM (\n{events}\n)\n\
         GROUP BY GROUPING SETS ((tenant, day_number), (tenant))\nORDER BY tenant, is_whole, day_number",
        aggregate = aggregate(versions),
        events = events_sql(versions, &format!("tenant, {DAY}, {}", value_columns(versions)), scope)
    )
}

/// Usage of one meter by one tenant; of an average and of a rate the sum. Parameters: those of [`events_sql`].
pub(super) fn tenant_sql(versions: &Versions<'_>) -> String {
    format!(
        "SELECT count() AS counted, toString({aggregate}) AS quantity\nFROM (\n{events}\n)",
        aggregate = aggregate(versions),
        events = events_sql(versions, &value_columns(versions), Scope::Tenant(""))
    )
}

/// The first events behind one tenant's line. Parameters: those of [`tenant_sql`], and `limit`.
pub(super) fn first_events_sql(versions: &Versions<'_>) -> String {
    let columns = format!("time, id, source, {} AS shown, identity", versions.shown());
    format!(
        "SELECT lower(hex(identity)) AS identity_hex, toString(time, 'UTC') AS happened_at, id, source, \
         shown AS quantity\nFROM (\n{events}\n)\nORDER BY time, identity\nLIMIT {{limit:UInt64}}",
        events = events_sql(versions, &columns, Scope::Tenant(""))
    )
}

/// One tenant's events that would count, were they not corrected, each with a correction in force. Parameters: those
/// of [`first_events_sql`].
pub(super) fn corrected_sql(versions: &Versions<'_>) -> String {
    let scope = Scope::Tenant("");
    format!(
        "SELECT original.id AS id, toString(original.source) AS source, toString(original.time, 'UTC') AS happened_at, \
         original.shown AS quantity, toString(by.correction) AS correction, by.id AS by_id\nFROM (\n\
         SELECT id, source, time, {shown} AS shown, identity\nFROM events\nWHERE {of_meter}\n  AND {rows}\n  \
         AND {IN_PERIOD} AND correction != 'voids'\n{first_of_identity}\n) AS original\nINNER JOIN (\n{in_force}\n) AS by \
         ON original.identity = by.corrects\nORDER BY happened_at, id, by_id\nLIMIT {{limit:UInt64}}",
        shown = versions.shown(),
        of_meter = versions.condition(),
        rows = scope.rows(),
        first_of_identity = effective::FIRST_OF_IDENTITY,
        in_force = effective::in_force_sql("corrects, correction, id", scope.corrections()),
    )
}

/// The samples of one version of a level, those included that may be carried into the period: all since the last midnight
/// (UTC) before it, and of each series those of the last day before that midnight on which the rollups know any.
///
/// Parameters: `meter`, the name; those of the scope. Times are whole numbers from the meter and the period.
fn samples_sql(level: &LevelVersion, from: i64, columns: &str, scope: Scope<'_>) -> String {
    const DAY_MICROS: i64 = 86_400_000_000;
    let midnight = from - from.rem_euclid(DAY_MICROS);
    let micros = |micros: i64| format!("fromUnixTimestamp64Micro({micros})");
    let second = |micros: i64| format!("toDateTime({}, 'UTC')", micros.div_euclid(1_000_000).max(0));
    let since = level.carries_since.map(|since| since.timestamp_micros());
    let (rows_since, buckets_since) = since.map_or_else(Default::default, |since| {
        (
            format!(" AND time >= {}", micros(since)),
            format!(" AND bucket >= {}", second(since - since.rem_euclid(DAY_MICROS))),
        )
    });
    format!(
        "SELECT tenant, {series} AS series, {value} AS value, {ORDER_COLUMNS}{columns}, identity_high, identity_low\n\
         FROM events\nWHERE {of_meter}\n  AND {rows}\n  AND time < {to}{rows_since}\n  AND (time >= {midnight_micros} OR \
         (tenant, toDate(time)) IN (\n    SELECT tenant, max(day) FROM (\n      SELECT tenant, dimensions, \
         toDate(bucket) AS day FROM usage_day\n      WHERE meter = {{meter:String}} AND {tenants} AND bucket < \
         {midnight_second}{buckets_since}\n      GROUP BY tenant, dimensions, day HAVING sum(events) > 0)\n    \
         GROUP BY tenant, dimensions))\n  AND {counts}\n{first_of_identity}",
        series = level.meter.group_key_sql(),
        value = level.meter.raw_value_sql(),
        of_meter = level.meter.raw_counts_sql(),
        rows = scope.rows(),
        tenants = scope.corrections(),
        to = micros(level.to.timestamp_micros()),
        midnight_micros = micros(midnight),
        midnight_second = second(midnight),
        counts = effective::condition_sql(scope.corrections()),
        first_of_identity = effective::FIRST_OF_IDENTITY,
    )
}

/// Each series of a level: its tenant, which of the versions reads it, and the times and values of its samples in the order
/// in which they hold. A tenant's series follow each other. Parameters: those of [`samples_sql`].
pub(super) fn series_sql(levels: &[LevelVersion], from: i64, scope: Scope<'_>) -> String {
    let of_version = |(nth, level): (usize, &LevelVersion)| {
        format!(
            "SELECT tenant, toUInt16({nth}) AS version, arrayMap(sample -> toUnixTimestamp64Micro(sample.1.1), samples) \
             AS times, arrayMap(sample -> toString(sample.2), samples) AS levels\nFROM (\n\
             SELECT tenant, series, arraySort(groupArray(({LATEST_ORDER}, value))) AS samples\nFROM (\n{samples}\n)\n\
             GROUP BY tenant, series\n)",
            samples = samples_sql(level, from, "", scope)
        )
    };
    let versions: Vec<String> = levels.iter().enumerate().map(of_version).collect();
    format!("SELECT * FROM (\n{}\n)\nORDER BY tenant, version, times", versions.join("\nUNION ALL\n"))
}

/// The first samples behind one tenant's level: what each series carries in, then those of the period. Parameters: those
/// of [`series_sql`], and `limit`.
pub(super) fn first_samples_sql(level: &LevelVersion, from: i64) -> String {
    let begins = level.from.timestamp_micros();
    format!(
        "SELECT identity_hex, toString(time, 'UTC') AS happened_at, id, source, toString(value) AS quantity\nFROM (\n\
         SELECT *, time < fromUnixTimestamp64Micro({begins}) AS is_before, \
         row_number() OVER (PARTITION BY series, is_before ORDER BY {LATEST_ORDER} DESC) AS place\nFROM (\n{samples}\n)\n)\n\
         WHERE NOT is_before OR place = 1\nORDER BY time, identity_hex\nLIMIT {{limit:UInt64}}",
        samples =
            samples_sql(level, from, ", id, source, lower(hex(identity)) AS identity_hex", Scope::Tenant(""))
    )
}

/// Binds the parameters that are given by name.
pub(super) fn bind<'p>(query: Query, parameters: impl IntoIterator<Item = (&'p str, i64)>) -> Query {
    parameters.into_iter().fold(query, |query, (name, value)| query.param(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};
    use rentroll_schemas::meter::{Meter, Meters};

    fn placeholders(sql: &str) -> Vec<&str> {
        let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase());
        let mut names: Vec<&str> = sql
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once(':').map(|(name, _)| name))
            .filter(is_name)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    #[test]
    fn placeholders_and_arguments_agree() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let meter = |aggregation| Meter {
            name: "m".to_owned(),
            event_type: "t".to_owned(),
            aggregation,
            value: Some("v".to_owned()),
            ..Meter::default()
        };
        for aggregation in Aggregation::ALL {
            let meters = Meters { meters: vec![meter(aggregation)] };
            let (from, to) = (at("2015-05-01T00:00:00Z"), at("2015-06-01T00:00:00Z"));
            let versions = Versions::of(&meters, "m", from, to).unwrap().unwrap();
            let slice = Slice { slice: 0, slices: 1 };
            for (sql, names) in [
                (
                    days_sql(&versions, Scope::Identities(slice)),
                    vec!["from", "slice", "slices", "to", "zone"],
                ),
                (whole_sql(&versions, Scope::Tenants(slice)), vec!["from", "slice", "slices", "to", "zone"]),
                (tenant_sql(&versions), vec!["from", "tenant", "to"]),
                (first_events_sql(&versions), vec!["from", "limit", "tenant", "to"]),
                (corrected_sql(&versions), vec!["from", "limit", "tenant", "to"]),
            ] {
                assert_eq!(placeholders(&sql), names, "{aggregation:?}");
            }
            if aggregation == Aggregation::TimeWeighted {
                let levels = versions.levels();
                let sliced = series_sql(&levels, 0, Scope::Tenants(slice));
                assert_eq!(placeholders(&sliced), ["meter", "slice", "slices"]);
                assert_eq!(placeholders(&series_sql(&levels, 0, Scope::Tenant(""))), ["meter", "tenant"]);
                assert_eq!(placeholders(&first_samples_sql(&levels[0], 0)), ["limit", "meter", "tenant"]);
            }
        }
    }
}
