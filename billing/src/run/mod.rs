//! The billing run: a month's usage becomes invoices, and the month is closed.
//!
//! Steps, each of which may be repeated or broken off anywhere:
//! 1. usage is read and every invoice is drafted: what cannot be priced stops the run before it writes;
//! 2. the **plan** row fixes the issue date, the series of numbers and the price list ([`plan`]);
//! 3. **invoices** are inserted in blocks, tenants in order, numbers without gaps ([`issue`]);
//! 4. their **lines** are made from the documents as stored ([`lines`]);
//! 5. what was stored is checked, and the **period** is closed ([`close`]).
//!
//! *One of two runs wins, and no number is given twice*: every insert carries a deduplication token that names
//! what it claims, and the store takes a token once. A block of invoices claims the number that it begins
//! with, which is always the one after the last stored; a run that lost reads what the winner wrote and goes on
//! from there. So a run that was broken off, two runs at once on one machine, and two runs against one
//! ClickHouse server are the same case, and no lock is needed. It rests on the table's deduplication window
//! (10,000 inserts) and on reading one's own writes: true of one server, and of a replicated table if it is
//! read with `select_sequential_consistency`.
//!
//! *An issued invoice never changes.* A run of a closed month writes nothing: it says that the usage is the
//! same, or lists what arrived since and what it would come to ([`late`]). This comparison needs the month's raw
//! events, which the store keeps for 13 months after their arrival.

mod close;
mod insert;
mod issue;
mod late;
mod lines;
mod plan;
#[cfg(test)]
mod tests;

use chrono::{DateTime, NaiveDate, Utc};
use rentroll_engines::store::Store;
use rentroll_schemas::catalogue::Catalogue;
use rentroll_schemas::currency::{Currency, Exact};
use rentroll_schemas::invoice::Invoice;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::period::Period;
use rust_decimal::Decimal;
use serde::Serialize;

pub(crate) use close::money;
pub(crate) use insert::{insert, instant};
pub use late::LateUsage;
pub(crate) use lines::parse;

use crate::draft::Frame;
use crate::error::{BillingError, Result};
use crate::usage;

/// How a run is to be done.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Write nothing: show what would be invoiced. The only way for a month that is not over.
    pub dry_run: bool,
    /// The present: the issue date, and whether the month is over.
    pub now: DateTime<Utc>,
}

/// What a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was written: a dry run.
    Draft,
    /// Invoices were issued and the month was closed.
    Closed,
    /// The month was closed before, by the same usage: nothing was written.
    Unchanged,
    /// Usage differs from what was invoiced: nothing issued was changed, and `late` says what differs.
    LateUsage,
}

/// A billing run's result; amounts are decimal strings in `currency`.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// The month, `YYYY-MM`.
    pub period: String,
    /// The billing zone.
    pub zone: String,
    /// First instant.
    pub from: DateTime<Utc>,
    /// First instant after it.
    pub to: DateTime<Utc>,
    /// What was done.
    pub outcome: Outcome,
    /// The run that made the invoices; absent on a dry run.
    pub run_id: Option<String>,
    /// Day of issue; absent on a dry run.
    pub issue_date: Option<NaiveDate>,
    /// Everything stored up to here was counted.
    pub data_as_of: DateTime<Utc>,
    /// The currency of all amounts.
    pub currency: Currency,
    /// Invoices of the month.
    pub invoices: u64,
    /// Of these, not there when this run began.
    pub newly_issued: u64,
    /// First and last number; absent on a dry run.
    pub numbers: Option<(String, String)>,
    /// Σ of the invoices.
    pub total: Exact,
    /// By plan, in the catalogue's order.
    pub plans: Vec<PlanTotal>,
    /// Digest of the usage that the invoices were made from.
    pub usage_digest: String,
    /// Digest of the prices that they were made with.
    pub catalogue_digest: String,
    /// The prices have changed since the month was closed; its invoices keep theirs.
    pub prices_changed_since: bool,
    /// What would become adjustments.
    pub late: Vec<LateUsage>,
}

/// A plan's part in a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanTotal {
    /// The plan.
    pub plan: String,
    /// Its name for people.
    pub title: String,
    /// Tenants on it.
    pub tenants: u64,
    /// Σ of their invoices.
    pub total: Exact,
}

/// Bills `period`.
///
/// # Errors
/// [`BillingError`]; those of which [`BillingError::is_check`] holds mean that something does not add up.
/// After any error the month is as it was, or partly issued; the same command takes it up again.
pub async fn run(
    store: &Store,
    catalogue: &Catalogue,
    meters: &Meters,
    period: &Period,
    options: RunOptions,
) -> Result<RunReport> {
    let is_over = options.now >= period.to;
    if !is_over && !options.dry_run {
        let zone = period.zone.name().to_owned();
        return Err(BillingError::NotEnded { period: period.to_string(), ends: period.to, zone });
    }
    let mut frame = Frame::new(catalogue, meters, period, options.now)?;
    usage::check(meters, frame.version.meters(), period)?;
    let usage = usage::read(store, meters, period).await?;
    let closed = close::read(store, period).await?;
    if usage.tenants.is_empty() && closed.is_none() {
        return Err(BillingError::NoUsage {
            period: period.to_string(),
            from: period.from,
            to: period.to,
            zone: period.zone.name().to_owned(),
        });
    }
    if let Some(closed) = closed {
        let late = late::find(store, &frame, &usage).await?;
        let outcome = if late.is_empty() { Outcome::Unchanged } else { Outcome::LateUsage };
        return report(store, &frame, outcome, &closed, 0, late).await;
    }
    let mut drafts = Vec::with_capacity(usage.tenants.len());
    for (tenant, used) in &usage.tenants {
        drafts.push(frame.draft(tenant, used)?);
    }
    if options.dry_run {
        return draft_report(&frame, usage.digest(), &drafts);
    }

    let plan = plan::claim(store, &frame, &usage.digest()).await?;
    frame.issue_date = plan.issue_date;
    if plan.usage_digest == usage.digest() {
        frame.data_as_of = plan.data_as_of;
    }
    let newly_issued = issue::all(store, &frame, &plan, &usage).await?;
    lines::complete(store, period).await?;
    let closed = close::close(store, period, &plan, frame.catalogue.currency, options.now).await?;
    // A run that was broken off may have issued invoices before more usage arrived.
    let late = late::find(store, &frame, &usage).await?;
    let outcome = if late.is_empty() { Outcome::Closed } else { Outcome::LateUsage };
    report(store, &frame, outcome, &closed, newly_issued, late).await
}

fn draft_report(frame: &Frame<'_>, usage_digest: String, drafts: &[Invoice]) -> Result<RunReport> {
    let mut plans: Vec<PlanTotal> = Vec::new();
    let mut total = frame.catalogue.currency.round(Decimal::ZERO);
    for plan in &frame.version.plans {
        let of_plan: Vec<&Invoice> = drafts.iter().filter(|draft| draft.plan == plan.name).collect();
        let mut plan_total = frame.catalogue.currency.round(Decimal::ZERO);
        for draft in &of_plan {
            plan_total = plan_total.checked_add(draft.total.0).ok_or_else(too_large)?;
        }
        total = total.checked_add(plan_total).ok_or_else(too_large)?;
        let (plan, title) = (plan.name.clone(), plan.title.clone());
        plans.push(PlanTotal { plan, title, tenants: of_plan.len() as u64, total: Exact(plan_total) });
    }
    Ok(RunReport {
        period: frame.period.to_string(),
        zone: frame.period.zone.name().to_owned(),
        from: frame.period.from,
        to: frame.period.to,
        outcome: Outcome::Draft,
        run_id: None,
        issue_date: None,
        data_as_of: frame.data_as_of,
        currency: frame.catalogue.currency,
        invoices: drafts.len() as u64,
        newly_issued: 0,
        numbers: None,
        total: Exact(total),
        plans,
        usage_digest,
        catalogue_digest: frame.catalogue_digest.clone(),
        prices_changed_since: false,
        late: Vec::new(),
    })
}

fn too_large() -> BillingError {
    BillingError::TooLarge { what: "the sum of the invoices".to_owned() }
}

async fn report(
    store: &Store,
    frame: &Frame<'_>,
    outcome: Outcome,
    closed: &close::Closed,
    newly_issued: u64,
    late: Vec<LateUsage>,
) -> Result<RunReport> {
    let summary = close::summary(store, frame).await?;
    Ok(RunReport {
        period: frame.period.to_string(),
        zone: frame.period.zone.name().to_owned(),
        from: frame.period.from,
        to: frame.period.to,
        outcome,
        run_id: Some(closed.run_id.clone()),
        issue_date: Some(summary.issue_date),
        data_as_of: frame.data_as_of,
        currency: closed.currency,
        invoices: closed.invoices,
        newly_issued,
        numbers: Some((summary.first, summary.last)),
        total: Exact(closed.total),
        plans: summary.plans,
        usage_digest: closed.usage_digest.clone(),
        catalogue_digest: closed.catalogue_digest.clone(),
        prices_changed_since: closed.catalogue_digest != frame.catalogue_digest,
        late,
    })
}
