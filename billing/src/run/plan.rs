//! The plan: the first row of a run, one for each month, taken by whoever inserts it first.

use chrono::{DateTime, Datelike, NaiveDate, SubsecRound, Utc};
use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::period::Period;
use serde::{Deserialize, Serialize};

use super::insert::{insert, instant};
use crate::draft::Frame;
use crate::error::{BillingError, Result};

/// What is fixed for every invoice of the month.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) run_id: String,
    pub(super) issue_date: NaiveDate,
    pub(super) data_as_of: DateTime<Utc>,
    pub(super) series: String,
    pub(super) usage_digest: String,
    pub(super) catalogue_digest: String,
}

#[derive(Serialize)]
struct NewRow<'a> {
    period: &'a str,
    zone: &'a str,
    run_id: &'a str,
    issue_date: NaiveDate,
    data_as_of: String,
    currency: &'a str,
    series: &'a str,
    catalogue_digest: &'a str,
    usage_digest: &'a str,
    planned_at: String,
}

const COLUMNS: &[&str] = &[
    "period",
    "zone",
    "run_id",
    "issue_date",
    "data_as_of",
    "currency",
    "series",
    "catalogue_digest",
    "usage_digest",
    "planned_at",
];

#[derive(Row, Deserialize)]
struct StoredRow {
    zone: String,
    run_id: String,
    #[serde(with = "clickhouse::serde::chrono::date")]
    issue_date: NaiveDate,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    data_as_of: DateTime<Utc>,
    currency: String,
    series: String,
    catalogue_digest: String,
    usage_digest: String,
}

/// The month's plan: this run's, if there was none.
pub(super) async fn claim(store: &Store, frame: &Frame<'_>, usage_digest: &str) -> Result<Plan> {
    let period = frame.period.to_string();
    let zone = frame.period.zone.name();
    let currency = frame.catalogue.currency;
    let now = frame.data_as_of.trunc_subsecs(3);
    // The year of the month that is billed: numbers do not depend on the day on which the run is made.
    let series = series(&frame.catalogue.invoice_prefix, frame.period);
    if read(store, frame.period).await?.is_none() {
        let row = NewRow {
            period: &period,
            zone,
            run_id: &format!("bill-{period}-{}", now.format("%Y%m%dT%H%M%S%.3fZ")),
            issue_date: frame.issue_date,
            data_as_of: instant(now),
            currency: currency.code(),
            series: &series,
            catalogue_digest: &frame.catalogue_digest,
            usage_digest,
            planned_at: instant(now),
        };
        insert(store, "planning the run", "bill_runs", COLUMNS, &[row], &format!("bill_run:{period}"))
            .await?;
    }
    let stored = read(store, frame.period).await?.ok_or_else(|| BillingError::Vanished {
        what: format!("the plan of {period}"),
        table: "bill_runs",
    })?;
    let same = |what: &'static str, begun: &str, now: &str| {
        if begun == now {
            return Ok(());
        }
        let (period, begun, now) = (period.clone(), begun.to_owned(), now.to_owned());
        Err(BillingError::PlanChanged { period, what, begun, now })
    };
    same("time zone", &stored.zone, zone)?;
    same("currency", &stored.currency, currency.code())?;
    same("invoice series", &stored.series, &series)?;
    same("the catalogue of digest", &stored.catalogue_digest, &frame.catalogue_digest)?;
    Ok(Plan {
        run_id: stored.run_id,
        issue_date: stored.issue_date,
        data_as_of: stored.data_as_of,
        series: stored.series,
        usage_digest: stored.usage_digest,
        catalogue_digest: stored.catalogue_digest,
    })
}

/// `RR-2015`: what numbers of one sequence begin with.
fn series(prefix: &str, period: &Period) -> String {
    let first_day = period.from.with_timezone(&period.zone).date_naive();
    format!("{prefix}-{:04}", first_day.year())
}

async fn read(store: &Store, period: &Period) -> Result<Option<StoredRow>> {
    store
        .client()
        .query(
            "SELECT zone, run_id, issue_date, data_as_of, currency, series, catalogue_digest, usage_digest \
             FROM bill_runs WHERE period = {period:String} ORDER BY planned_at, run_id LIMIT 1",
        )
        .param("period", period.to_string())
        .fetch_optional()
        .await
        .map_err(|source| BillingError::Store { what: "reading the plan", source: store.error(source) })
}
