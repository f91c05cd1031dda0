//! Closing: what was issued is checked in the store, then the period is closed for good.

use chrono::{DateTime, NaiveDate, Utc};
use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::currency::{Currency, Exact};
use rentroll_schemas::period::Period;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::PlanTotal;
use super::insert::{insert, instant, second};
use super::plan::Plan;
use crate::digest;
use crate::draft::Frame;
use crate::error::{BillingError, Result};

/// A closed period.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub(super) run_id: String,
    pub(super) usage_digest: String,
    pub(super) catalogue_digest: String,
    pub(super) invoices: u64,
    pub(super) currency: Currency,
    pub(super) total: Decimal,
}

#[derive(Row, Deserialize)]
struct ClosedRow {
    run_id: String,
    usage_digest: String,
    catalogue_digest: String,
    invoices: u64,
    currency: String,
    total_text: String,
}

#[derive(Serialize)]
struct NewRow<'a> {
    period: &'a str,
    zone: &'a str,
    starts_at: String,
    ends_at: String,
    state: &'static str,
    run_id: &'a str,
    usage_digest: &'a str,
    catalogue_digest: &'a str,
    invoices: u64,
    currency: &'a str,
    total: Exact,
    changed_at: String,
}

const COLUMNS: &[&str] = &[
    "period",
    "zone",
    "starts_at",
    "ends_at",
    "state",
    "run_id",
    "usage_digest",
    "catalogue_digest",
    "invoices",
    "currency",
    "total",
    "changed_at",
];

#[derive(Row, Deserialize)]
struct Sums {
    invoices: u64,
    tenants: u64,
    total_text: String,
    lines_text: String,
}

#[derive(Row, Deserialize)]
struct Sequence {
    rows: u64,
    distinct: u64,
    last: u64,
}

#[derive(Row, Deserialize)]
struct DigestRow {
    tenant: String,
    usage_digest: String,
}

#[derive(Row, Deserialize)]
struct PlanRow {
    plan: String,
    tenants: u64,
    total_text: String,
}

#[derive(Row, Deserialize)]
struct Ends {
    first: String,
    last: String,
    #[serde(with = "clickhouse::serde::chrono::date")]
    issued_on: NaiveDate,
}

/// What a report says about a closed month.
pub(super) struct Summary {
    pub(super) first: String,
    pub(super) last: String,
    pub(super) issue_date: NaiveDate,
    pub(super) plans: Vec<PlanTotal>,
}

/// How the month was closed, if it was.
pub(super) async fn read(store: &Store, period: &Period) -> Result<Option<Closed>> {
    let row: Option<ClosedRow> = store
        .client()
        .query(
            "SELECT run_id, usage_digest, catalogue_digest, invoices, currency, toString(total) AS total_text \
             FROM periods WHERE period = {period:String} AND state = 'closed' ORDER BY changed_at, run_id LIMIT 1",
        )
        .param("period", period.to_string())
        .fetch_optional()
        .await
        .map_err(|source| failed(store, "reading the period", source))?;
    row.map(|row| {
        let currency: Currency = row.currency.parse().map_err(|error| BillingError::Content {
            what: format!("the period {period}"),
            reason: format!("{error}"),
        })?;
        Ok(Closed {
            run_id: row.run_id,
            usage_digest: row.usage_digest,
            catalogue_digest: row.catalogue_digest,
            invoices: row.invoices,
            currency,
            total: money(&row.total_text, currency)?,
        })
    })
    .transpose()
}

/// Checks what is stored and closes the month; whoever comes second finds it closed.
pub(super) async fn close(
    store: &Store,
    period: &Period,
    plan: &Plan,
    currency: Currency,
    now: DateTime<Utc>,
) -> Result<Closed> {
    let name = period.to_string();
    let sums = check(store, period, plan).await?;
    let digests: Vec<DigestRow> = store
        .client()
        .query("SELECT tenant, usage_digest FROM invoices WHERE period = {period:String} ORDER BY tenant")
        .param("period", &name)
        .fetch_all()
        .await
        .map_err(|source| failed(store, "reading invoices", source))?;
    let usage_digest =
        digest::tenants(digests.iter().map(|row| (row.tenant.as_str(), row.usage_digest.as_str())));
    let row = NewRow {
        period: &name,
        zone: period.zone.name(),
        starts_at: second(period.from),
        ends_at: second(period.to),
        state: "closed",
        run_id: &plan.run_id,
        usage_digest: &usage_digest,
        catalogue_digest: &plan.catalogue_digest,
        invoices: sums.invoices,
        currency: currency.code(),
        total: Exact(money(&sums.total_text, currency)?),
        changed_at: instant(now),
    };
    insert(store, "closing the period", "periods", COLUMNS, &[row], &format!("period:{name}:closed")).await?;
    read(store, period)
        .await?
        .ok_or_else(|| BillingError::Vanished { what: format!("the end of {name}"), table: "periods" })
}

async fn check(store: &Store, period: &Period, plan: &Plan) -> Result<Sums> {
    let name = period.to_string();
    let sums: Sums = store
        .client()
        .query(
            "SELECT count() AS invoices, uniqExact(tenant) AS tenants, toString(sum(total)) AS total_text, \
             assumeNotNull(toString((SELECT sum(amount) FROM invoice_lines WHERE period = {period:String}))) AS lines_text \
             FROM invoices WHERE period = {period:String}",
        )
        .param("period", &name)
        .fetch_one()
        .await
        .map_err(|source| failed(store, "adding up", source))?;
    let fail = |check, detail| Err(BillingError::Check { check, period: name.clone(), detail });
    if sums.lines_text != sums.total_text {
        let detail = format!("the lines come to {}, the invoices to {}", sums.lines_text, sums.total_text);
        return fail("Σ invoice lines = Σ invoices", detail);
    }
    if sums.tenants != sums.invoices {
        let detail = format!("{} tenants have {} invoices", sums.tenants, sums.invoices);
        return fail("one invoice per tenant", detail);
    }
    let sequence: Sequence = store
        .client()
        .query(
            "SELECT count() AS rows, uniqExact(sequence) AS distinct, max(sequence) AS last \
             FROM invoices WHERE series = {series:String}",
        )
        .param("series", &plan.series)
        .fetch_one()
        .await
        .map_err(|source| failed(store, "checking numbers", source))?;
    if sequence.rows != sequence.distinct || sequence.rows != sequence.last {
        let Sequence { rows, distinct, last } = sequence;
        let detail = format!("{rows} invoices of {} have {distinct} numbers up to {last}", plan.series);
        return fail("numbers without gaps", detail);
    }
    Ok(sums)
}

/// Numbers, date and plans of a month that has invoices.
pub(super) async fn summary(store: &Store, frame: &Frame<'_>) -> Result<Summary> {
    let name = frame.period.to_string();
    let ends: Ends = store
        .client()
        .query(
            "SELECT argMin(number, sequence) AS first, argMax(number, sequence) AS last, \
             min(issue_date) AS issued_on FROM invoices WHERE period = {period:String}",
        )
        .param("period", &name)
        .fetch_one()
        .await
        .map_err(|source| failed(store, "reading invoices", source))?;
    let rows: Vec<PlanRow> = store
        .client()
        .query(
            "SELECT plan, count() AS tenants, toString(sum(total)) AS total_text FROM invoices \
             WHERE period = {period:String} GROUP BY plan ORDER BY plan",
        )
        .param("period", &name)
        .fetch_all()
        .await
        .map_err(|source| failed(store, "reading invoices", source))?;
    let place = |plan: &str| frame.version.plans.iter().position(|known| known.name == plan);
    let mut plans = Vec::with_capacity(rows.len());
    for row in rows {
        let title = frame.version.plan(&row.plan).map_or_else(|| row.plan.clone(), |plan| plan.title.clone());
        let total = Exact(money(&row.total_text, frame.catalogue.currency)?);
        plans.push(PlanTotal { plan: row.plan, title, tenants: row.tenants, total });
    }
    plans.sort_by_key(|total| place(&total.plan).unwrap_or(usize::MAX));
    Ok(Summary { first: ends.first, last: ends.last, issue_date: ends.issued_on, plans })
}

/// A stored sum of rounded amounts, with the currency's digits.
pub(crate) fn money(text: &str, currency: Currency) -> Result<Decimal> {
    let content = |reason: String| BillingError::Content { what: format!("the amount `{text}`"), reason };
    let mut amount = Decimal::from_str_exact(text).map_err(|error| content(error.to_string()))?;
    if !currency.is_whole(amount) {
        return Err(content(format!("it has more digits than {currency}")));
    }
    amount.rescale(currency.decimals());
    Ok(amount)
}

fn failed(store: &Store, what: &'static str, source: clickhouse::error::Error) -> BillingError {
    BillingError::Store { what, source: store.error(source) }
}
