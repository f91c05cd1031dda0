//! Issuing: invoices in blocks, tenants in order, numbers without gaps.
//!
//! A block begins with the number after the last one that its writer has seen, and claims it by its
//! deduplication token. Of two writers that have seen the same last number one is stored, whole; the other
//! reads on and continues behind it. What a writer has seen ([`Ledger`]) is the last number *and* the tenants
//! up to it, taken by one query: if they were read one after the other, a block stored in between could have
//! its tenants issued again under later numbers.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::currency::Exact;
use rentroll_schemas::invoice::{Invoice, InvoiceStatus};
use rentroll_schemas::period::Period;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::insert::{insert, instant};
use super::plan::Plan;
use crate::draft::Frame;
use crate::error::{BillingError, Result};
use crate::usage::PeriodUsage;

/// Invoices of one insert. A document takes some kilobytes; ten times as many would be tens of megabytes in
/// memory, a tenth of it a hundred fsyncs for a hundred thousand tenants.
const BLOCK_INVOICES: usize = 2_000;

#[derive(Serialize)]
struct NewRow<'a> {
    number: &'a str,
    series: &'a str,
    sequence: u64,
    block: u64,
    run_id: &'a str,
    tenant: &'a str,
    period: &'a str,
    zone: &'a str,
    plan: &'a str,
    currency: &'a str,
    subtotal: Exact,
    tax: Exact,
    total: Exact,
    issue_date: NaiveDate,
    due_date: NaiveDate,
    issued_at: String,
    usage_digest: &'a str,
    digest: String,
    document: &'a str,
}

const COLUMNS: &[&str] = &[
    "number",
    "series",
    "sequence",
    "block",
    "run_id",
    "tenant",
    "period",
    "zone",
    "plan",
    "currency",
    "subtotal",
    "tax",
    "total",
    "issue_date",
    "due_date",
    "issued_at",
    "usage_digest",
    "digest",
    "document",
];

#[derive(Row, Deserialize)]
struct NewerRow {
    last: u64,
    tenants: Vec<String>,
}

/// The series of numbers as this run has seen it.
#[derive(Default)]
pub(super) struct Ledger {
    last: u64,
    issued: BTreeSet<String>,
}

impl Ledger {
    /// Reads what was stored since the last reading; whether there was anything.
    async fn read_on(&mut self, store: &Store, series: &str, period: &Period) -> Result<bool> {
        let newer: NewerRow = store
            .client()
            .query(
                "SELECT max(sequence) AS last, groupArrayIf(tenant, period = {period:String}) AS tenants \
                 FROM invoices WHERE series = {series:String} AND sequence > {seen:UInt64}",
            )
            .param("period", period.to_string())
            .param("series", series)
            .param("seen", self.last)
            .fetch_one()
            .await
            .map_err(|source| BillingError::Store {
                what: "reading invoices",
                source: store.error(source),
            })?;
        let is_longer = newer.last > self.last;
        self.last = self.last.max(newer.last);
        self.issued.extend(newer.tenants);
        Ok(is_longer)
    }
}

/// Issues what is missing; how many invoices there are that there were not before.
pub(super) async fn all(store: &Store, frame: &Frame<'_>, plan: &Plan, usage: &PeriodUsage) -> Result<u64> {
    let mut ledger = Ledger::default();
    ledger.read_on(store, &plan.series, frame.period).await?;
    let before = ledger.issued.len();
    while next_block(store, frame, plan, usage, &mut ledger, BLOCK_INVOICES).await? {}
    Ok((ledger.issued.len() - before) as u64)
}

/// Issues the next `limit` invoices that are missing by `ledger`, unless another run was first; whether any
/// were missing.
pub(super) async fn next_block(
    store: &Store,
    frame: &Frame<'_>,
    plan: &Plan,
    usage: &PeriodUsage,
    ledger: &mut Ledger,
    limit: usize,
) -> Result<bool> {
    let missing = usage.tenants.iter().filter(|(tenant, _)| !ledger.issued.contains(*tenant));
    let block: Vec<_> = missing.take(limit).collect();
    if block.is_empty() {
        return Ok(false);
    }
    let first = ledger.last + 1;
    let mut invoices = Vec::with_capacity(block.len());
    for (sequence, (tenant, used)) in (first..).zip(&block) {
        let mut invoice = frame.draft(tenant, used)?;
        invoice.number = format!("{}-{sequence:06}", plan.series);
        invoice.status = InvoiceStatus::Issued;
        invoices.push((sequence, invoice));
    }
    insert_block(store, plan, first, &invoices).await?;
    // Ours, or another run's: either way the series is longer now.
    if !ledger.read_on(store, &plan.series, frame.period).await? {
        let what = format!("the block of invoices that begins with {}-{first:06}", plan.series);
        return Err(BillingError::Vanished { what, table: "invoices" });
    }
    Ok(true)
}

async fn insert_block(store: &Store, plan: &Plan, first: u64, invoices: &[(u64, Invoice)]) -> Result<()> {
    let mut documents = Vec::with_capacity(invoices.len());
    for (_, invoice) in invoices {
        let document = serde_json::to_string(invoice).map_err(|error| BillingError::Content {
            what: format!("invoice {}", invoice.number),
            reason: error.to_string(),
        })?;
        documents.push(document);
    }
    let rows: Vec<NewRow<'_>> = invoices
        .iter()
        .zip(&documents)
        .map(|((sequence, invoice), document)| NewRow {
            number: &invoice.number,
            series: &plan.series,
            sequence: *sequence,
            block: first,
            run_id: &plan.run_id,
            tenant: &invoice.tenant,
            period: &invoice.period.month,
            zone: &invoice.period.zone,
            plan: &invoice.plan,
            currency: invoice.currency.code(),
            subtotal: invoice.subtotal,
            tax: invoice.tax.as_ref().map_or(Exact(Decimal::ZERO), |tax| tax.amount),
            total: invoice.total,
            issue_date: invoice.issue_date,
            due_date: invoice.due_date,
            issued_at: instant(plan.data_as_of),
            usage_digest: &invoice.usage_digest,
            digest: blake3::hash(document.as_bytes()).to_hex().to_string(),
            document,
        })
        .collect();
    // The claim is the number alone, not the rows: of two different blocks only one may have it.
    let token = format!("invoices:{}:{first}", plan.series);
    insert(store, "issuing invoices", "invoices", COLUMNS, &rows, &token).await
}
