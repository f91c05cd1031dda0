//! Questions, one after the other, each beside the same sums read from raw events.

use std::ops::Range;
use std::time::Instant;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use rentroll_aggregator::meters::LiveMeters;
use rentroll_aggregator::usage::events::EventQuery;
use rentroll_aggregator::usage::top::Top;
use rentroll_aggregator::usage::{Group, Limits, Query, Scope, Scoped, Usage, Window};
use rentroll_engines::store::Store;
use serde::{Deserialize, Serialize};

use super::fill::{Month, meters};
use crate::verbs::bench::events::{EVENT_TYPE, tenant_name};

/// How often each is asked.
const REPEATS: usize = 30;
/// How often raw events are read for the same.
const RAW_REPEATS: usize = 3;
/// Milliseconds that a tenant's month by day may take.
pub(super) const MONTH_MS_MAX: f64 = 50.0;
/// How many times faster than a scan of raw events it must be.
pub(super) const SCAN_RATIO_MIN: f64 = 100.0;
/// Milliseconds that the top 100 of all tenants may take.
pub(super) const TOP_MS_MAX: f64 = 200.0;

/// What one question took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Took {
    pub(super) name: String,
    pub(super) rows: usize,
    pub(super) p50_ms: f64,
    pub(super) most_ms: f64,
    /// Reading the same from raw events by their sort key.
    pub(super) raw_by_key_ms: Option<f64>,
    /// …and from all raw events, as where they are not sorted by tenant.
    pub(super) raw_scan_ms: Option<f64>,
}

/// Asks one store.
pub(super) struct Asking<'a> {
    store: &'a Store,
    usage: Scoped,
    month: Month,
}

impl<'a> Asking<'a> {
    pub(super) fn new(store: &'a Store, month: &Month) -> Self {
        let usage =
            Usage::new(store.clone(), LiveMeters::new(meters()), chrono_tz::Tz::UTC, Limits::default());
        // Each is asked again and again: what is remembered would be measured.
        Asking { store, usage: usage.scoped(Scope::All).afresh(), month: *month }
    }

    fn whole(&self, meter: &str, rank: u32) -> Query {
        Query { tenants: vec![tenant_name(rank)], ..Query::new(meter, self.month.from, self.month.to) }
    }

    /// Questions of one tenant, or of a short time: what they take must not depend on how much there is besides.
    pub(super) async fn narrow(&self) -> anyhow::Result<Vec<Took>> {
        let from = self.month.from + TimeDelta::days(1);
        let query = Query {
            from,
            to: from + TimeDelta::days(1),
            window: Window::Hour,
            ..self.whole("bytes_out", 1_000)
        };
        let noon = from + TimeDelta::hours(12);
        let hour = noon + TimeDelta::minutes(7)..noon + TimeDelta::minutes(67);
        Ok(vec![
            self.ask("a tenant's day by the hour", &query).await?,
            self.top("requests", hour.clone(), 20, "top 20 of an hour").await?,
            self.newest(hour).await?,
        ])
    }

    /// All questions.
    pub(super) async fn all(&self) -> anyhow::Result<Vec<Took>> {
        let mut took = Vec::new();
        for (name, rank) in [
            ("the largest tenant's month by day", 0),
            ("a middling tenant's month by day", 1_000),
            ("a small tenant's month by day", self.month.tenants / 2),
        ] {
            let query = Query { window: Window::Day, ..self.whole("bytes_out", rank) };
            let one = self.ask(name, &query).await?;
            took.push(Took {
                raw_by_key_ms: Some(self.raw(rank, "tenant").await?),
                raw_scan_ms: Some(self.raw(rank, "identity(tenant)").await?),
                ..one
            });
        }
        took.extend(self.narrow().await?);
        let query = Query {
            window: Window::Day,
            zone: chrono_tz::Tz::Asia__Kolkata,
            ..self.whole("bytes_out", 1_000)
        };
        took.push(self.ask("the same month by day, at Kolkata", &query).await?);
        let query = Query {
            group_by: vec![Group::Dimension("method".to_owned())],
            window: Window::Day,
            ..self.whole("calls", 0)
        };
        took.push(self.ask("the largest tenant's month by day and method", &query).await?);
        let query = Query { tenants: Vec::new(), window: Window::Day, ..self.whole("requests", 0) };
        took.push(self.ask("everybody's month by day", &query).await?);
        let whole = self.month.from..self.month.to;
        took.push(self.top("requests", whole.clone(), 100, "top 100 tenants of the month").await?);
        took.push(self.top("calls", whole, 100, "top 100 tenants, of a meter with four methods").await?);
        let half = self.month.from + TimeDelta::days(16)..self.month.to;
        took.push(
            self.top("requests", half, 100, "top 100 tenants of half a month, beside the other half").await?,
        );
        Ok(took)
    }

    async fn ask(&self, name: &str, query: &Query) -> anyhow::Result<Took> {
        self.repeat(name, async || Ok(self.usage.query(query).await?.rows.len())).await
    }

    async fn top(
        &self,
        meter: &str,
        span: Range<DateTime<Utc>>,
        rows: usize,
        name: &str,
    ) -> anyhow::Result<Took> {
        let top = Top {
            meter: meter.to_owned(),
            from: span.start,
            to: span.end,
            by: Group::Tenant,
            rows,
            tenants: Vec::new(),
            organisations: Vec::new(),
            filters: Vec::new(),
            compare: true,
            zone: chrono_tz::Tz::UTC,
            approximate: false,
        };
        self.repeat(name, async || Ok(self.usage.top(&top).await?.rows.len())).await
    }

    /// The newest events of all tenants.
    async fn newest(&self, span: Range<DateTime<Utc>>) -> anyhow::Result<Took> {
        let query =
            EventQuery { from: Some(span.start), to: Some(span.end), limit: 20, ..EventQuery::default() };
        self.repeat("newest 20 events of an hour", async || Ok(self.usage.events(&query).await?.events.len()))
            .await
    }

    /// Asks again and again; the answer's rows are counted.
    async fn repeat(&self, name: &str, ask: impl AsyncFn() -> anyhow::Result<usize>) -> anyhow::Result<Took> {
        let (mut times, mut rows) = (Vec::new(), 0);
        for _ in 0..REPEATS {
            let started = Instant::now();
            rows = ask().await.with_context(|| name.to_owned())?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        anyhow::ensure!(rows > 0, "{name}: no answer has rows");
        Ok(took(name, rows, times))
    }

    /// The same sums from raw events. `tenant` is how the tenant is named: by itself the sort key is used.
    async fn raw(&self, rank: u32, tenant: &str) -> anyhow::Result<f64> {
        let sql = format!(
            "SELECT toDate(time) AS day, count(), toString(sum(measure_values[1])) FROM events \
             WHERE {tenant} = {{tenant:String}} AND type = '{EVENT_TYPE}' \
             AND time >= fromUnixTimestamp64Micro({{from:Int64}}) AND time < fromUnixTimestamp64Micro({{to:Int64}}) \
             GROUP BY day ORDER BY day"
        );
        let mut times = Vec::new();
        for _ in 0..RAW_REPEATS {
            let started = Instant::now();
            let query = self.store.client().query(&sql).param("tenant", tenant_name(rank));
            let query = query
                .param("from", self.month.from.timestamp_micros())
                .param("to", self.month.to.timestamp_micros());
            let rows: Vec<(u16, u64, String)> =
                query.fetch_all().await.map_err(|error| self.store.error(error))?;
            anyhow::ensure!(!rows.is_empty(), "raw events of {} are missing", tenant_name(rank));
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        Ok(percentile(&mut times, 50))
    }
}

fn took(name: &str, rows: usize, mut times: Vec<f64>) -> Took {
    let (p50_ms, most_ms) = (percentile(&mut times, 50), percentile(&mut times, 100));
    Took { name: name.to_owned(), rows, p50_ms, most_ms, raw_by_key_ms: None, raw_scan_ms: None }
}

/// The value at that percentage of the sorted times.
pub(super) fn percentile(times: &mut [f64], percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}
