//! A store with a month of events, and what the aggregator would have made of them.
//!
//! The engine makes the rows itself: a hundred million events through the pipeline take longer than anybody waits for
//! questions. That they are what the aggregator writes is checked: [`proved`] holds an hour's rollups against its events
//! as `rentroll books --rollups` does.

use std::ops::Range;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use rentroll_aggregator::repair::check::Span;
use rentroll_aggregator::repair::{Outcome, Proof};
use rentroll_engines::store::Store;
use rentroll_schemas::meter::{Aggregation, Meter, Meters};

use crate::verbs::bench::events::{EVENT_TYPE, MEASURES};

/// Which events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Month {
    pub(super) events: u64,
    pub(super) tenants: u32,
    pub(super) zipf: f64,
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
}

/// Rows that are made at once, in memory.
const CHUNK_ROWS: u64 = 2_000_000;

/// The sums of each measure and the number of requests, which share their rows, by region; and requests by method.
pub(super) fn meters() -> Meters {
    let of = |name: &str, value: Option<&str>, key: &str| Meter {
        name: name.to_owned(),
        unit: "unit".to_owned(),
        event_type: EVENT_TYPE.to_owned(),
        aggregation: if value.is_some() { Aggregation::Sum } else { Aggregation::Count },
        value: value.map(str::to_owned),
        group_by: vec![key.to_owned()],
        ..Meter::default()
    };
    let sums = MEASURES.iter().map(|name| of(name, Some(name), "region"));
    Meters { meters: sums.chain([of("requests", None, "region"), of("calls", None, "method")]).collect() }
}

/// Those, and two of the access log that comes in while dashboards are looked at.
///
/// # Errors
/// If they are no meters.
pub(super) fn served_meters() -> anyhow::Result<Meters> {
    let mut all = meters();
    let more = serde_json::json!([
        {"name": "hits", "unit": "hit", "event_type": "http.request", "aggregation": "count", "group_by": ["method"]},
        {"name": "hit_bytes", "unit": "byte", "event_type": "http.request", "aggregation": "sum", "value": "bytes"},
    ]);
    all.meters.extend(serde_json::from_value::<Vec<_>>(more)?);
    Ok(all)
}

impl Month {
    pub(super) fn days(&self) -> i64 {
        (self.to - self.from).num_days()
    }

    /// The rank of a tenant as the inverse of the Zipf law's distribution, taken for continuous.
    fn rank_sql(&self) -> String {
        let (tenants, less) = (f64::from(self.tenants) + 1.0, 1.0 - self.zipf);
        let uniform = "(sipHash64(n, 1) / 18446744073709551616.)";
        let rank = match less.abs() < 1e-9 {
            true => format!("pow({tenants}, {uniform})"),
            false => {
                format!("pow(1 + {uniform} * {}, {})", tenants.powf(less) - 1.0, 1.0 / less)
            }
        };
        format!("toUInt32(least({}, greatest(1, floor({rank}))) - 1)", self.tenants)
    }

    /// The events from number `first` on, of one day.
    fn chunk_sql(&self, day: i64, first: u64, rows: u64) -> String {
        let per_day = self.per_day(day);
        let begins = (self.from + TimeDelta::days(day)).timestamp_micros();
        let step = 86_400_000_000 / per_day.max(1);
        let done: u64 = (0..day).map(|day| self.per_day(day)).sum();
        format!(
            "SELECT number AS n, {rank} AS rank, concat('tenant-', leftPad(toString(rank), 6, '0')) AS tenant, \
             {begins} + (n - {done}) * {step} AS time_us, \
             ['eu-west-1', 'eu-north-1', 'us-east-1', 'ap-south-1'][rank % 4 + 1] AS region, \
             ['GET', 'POST', 'PUT', 'DELETE'][if(sipHash64(n, 2) % 10 < 7, 0, sipHash64(n, 3) % 4) + 1] AS method, \
             [toDecimal128(sipHash64(n, 4) % 65536, 9), toDecimal128(sipHash64(n, 5) % 250000, 9) / 1000, \
              toDecimal128(sipHash64(n, 6) % 5000, 9)]::Array(Decimal(38, 9)) AS measured \
             FROM numbers({first}, {rows})",
            rank = self.rank_sql(),
        )
    }

    /// Events of a day: all days have as many, but for what is left over.
    fn per_day(&self, day: i64) -> u64 {
        let (days, day) = (self.days().unsigned_abs(), day.unsigned_abs());
        self.events / days + u64::from(day < self.events % days)
    }

    /// Fills the store with the events of these days, counted from 0.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn fill(&self, store: &Store, days: Range<i64>) -> anyhow::Result<()> {
        let all = days.clone().map(|day| self.per_day(day)).sum();
        let bar = ProgressBar::new(all).with_style(ProgressStyle::with_template(
            "{msg} [{bar:40}] {human_pos} of {human_len} events, {per_sec}, {eta} left",
        )?);
        bar.set_message("filling the store");
        let mut first: u64 = (0..days.start).map(|day| self.per_day(day)).sum();
        for day in days {
            let mut left = self.per_day(day);
            while left > 0 {
                let rows = left.min(CHUNK_ROWS);
                self.insert(store, &self.chunk_sql(day, first, rows)).await?;
                bar.inc(rows);
                (first, left) = (first + rows, left - rows);
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    async fn insert(&self, store: &Store, chunk: &str) -> anyhow::Result<()> {
        let run = |sql: String| async move {
            let settled = store.client().query_raw(&sql).with_setting("insert_deduplicate", "0");
            settled.execute().await.map_err(|error| store.error(error)).context("cannot fill the store")
        };
        run("DROP TABLE IF EXISTS bench_chunk SYNC".to_owned()).await?;
        run(format!("CREATE TABLE bench_chunk ENGINE = Memory AS {chunk}")).await?;
        let measure_names = MEASURES.map(|name| format!("{name}\\0")).concat();
        run(format!(
            "INSERT INTO events (tenant, type, time, identity_high, identity_low, id_uuid, id_text, source, arrived_at, content, \
             measure_names, measure_values, dimension_names, dimension_values, corrects, meters, log_topic, log_partition, log_batch) \
             SELECT tenant, '{EVENT_TYPE}', fromUnixTimestamp64Micro(time_us::Int64), sipHash64(n), cityHash64(n), \
             reinterpret(sipHash128(n), 'UUID'), '', concat('gateway/', toString(n % 8)), \
             fromUnixTimestamp64Milli(intDiv(time_us, 1000)::Int64 + 2000), n % 4294967296, '{measure_names}', measured, \
             'method\\0region\\0', [method, region], toFixedString('', 16), 5, 'usage', n % 4, 0 FROM bench_chunk"
        ))
        .await?;
        for (table, seconds) in [("rollup_minute", 60), ("rollup_hour", 3_600), ("rollup_day", 86_400)] {
            let sums = "sum(measured[1]), sum(measured[2]), sum(measured[3]), toDecimal128(count(), 9)";
            for (list, dimension, totals) in [
                (format!("{measure_names}requests\\0"), "region", sums),
                ("calls\\0".to_owned(), "method", "toDecimal128(count(), 9), 0, 0, 0"),
            ] {
                run(format!(
                    "INSERT INTO {table} (meters, tenant, bucket, dimensions, events, total_1, total_2, total_3, total_4) \
                     SELECT '{list}', tenant, toDateTime(intDiv(time_us, {seconds}000000) * {seconds}, 'UTC') AS bucket, \
                     concat('{{\"{dimension}\":\"', {dimension}, '\"}}') AS dimensions, count(), {totals} \
                     FROM bench_chunk GROUP BY tenant, bucket, dimensions"
                ))
                .await?;
            }
        }
        run("DROP TABLE IF EXISTS bench_chunk SYNC".to_owned()).await
    }
}

/// Merges the rollups of each partition into one part, as the store does by itself a day after nothing came into it any more: what is
/// asked about is a month that is over.
///
/// # Errors
/// The store's.
pub(super) async fn merged(store: &Store) -> anyhow::Result<()> {
    for table in ["rollup_minute", "rollup_hour", "rollup_day"] {
        let sql = format!("OPTIMIZE TABLE {table} FINAL");
        store.client().query_raw(&sql).execute().await.map_err(|error| store.error(error))?;
    }
    Ok(())
}

/// Waits until no merge runs: what is measured is the store, and not its settling.
///
/// # Errors
/// The store's.
pub(super) async fn settled(store: &Store) -> anyhow::Result<()> {
    let mut quiet = 0;
    while quiet < 3 {
        let merges: u64 = store.client().query("SELECT count() FROM system.merges").fetch_one().await?;
        quiet = if merges == 0 { quiet + 1 } else { 0 };
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Whether the rollups of an hour in the middle of the month are what its events make them.
///
/// # Errors
/// The store's.
pub(super) async fn proved(store: &Store, month: &Month) -> anyhow::Result<bool> {
    let meters = meters();
    let proof = Proof { store, meters: &meters, repairs: false, why: "bench" };
    let hour = Span::hour(month.from + TimeDelta::days(month.days() / 2) + TimeDelta::hours(12));
    match proof.hours(hour).await? {
        Outcome::Settled(differences) => Ok(differences.is_empty()),
        other => anyhow::bail!("the hour cannot be checked: {other:?}"),
    }
}
