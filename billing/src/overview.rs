//! Tenants of a month side by side: usage, plan, invoice, cost, margin. What the console and the demo's table
//! show.

use std::collections::BTreeMap;

use rentroll_engines::store::Store;
use rentroll_schemas::Quantity;
use rentroll_schemas::costs::{IDLE, UNALLOCATED};
use rentroll_schemas::currency::{Currency, Exact};
use rentroll_schemas::meter::{Aggregation, Meter, Meters};
use rentroll_schemas::period::Period;
use rust_decimal::Decimal;
use serde::Serialize;

use crate::allocation;
use crate::error::{BillingError, Result};
use crate::invoices::{self, Filter};
use crate::usage::{self, combine};

/// One tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TenantRow {
    /// The tenant; empty on the total.
    pub tenant: String,
    /// Usage by meter, in the meter's own unit.
    pub usage: BTreeMap<String, Quantity>,
    /// Its plan, if it was invoiced.
    pub plan: Option<String>,
    /// Its invoice's number.
    pub invoice: Option<String>,
    /// Its invoice's total.
    pub invoiced: Option<Exact>,
    /// What it cost.
    pub allocated: Option<Exact>,
    /// Invoiced − allocated, if both are known and of one currency.
    pub margin: Option<Exact>,
}

/// A month.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    /// The month, `YYYY-MM`.
    pub period: String,
    /// The billing zone.
    pub zone: String,
    /// The currency of invoices, if there are any.
    pub invoice_currency: Option<Currency>,
    /// The currency of costs, if they were allocated.
    pub cost_currency: Option<Currency>,
    /// How many tenants there are.
    pub tenants: usize,
    /// The first of them, by usage of the first meter, then of the second…
    pub rows: Vec<TenantRow>,
    /// All tenants together, those that are not shown included; without averages, unique counts, latest values and
    /// percentiles, of which tenants make no total. Its cost is what tenants bear; its margin
    /// therefore leaves idle and unallocated cost out.
    pub total: TenantRow,
    /// Cost that nobody used.
    pub idle: Option<Exact>,
    /// Cost without a tenant.
    pub unallocated: Option<Exact>,
    /// Everything that was spent.
    pub spent: Option<Exact>,
}

/// The month's tenants, `limit` of them, most used first.
///
/// # Errors
/// If the store cannot be read.
pub async fn overview(store: &Store, meters: &Meters, period: &Period, limit: usize) -> Result<Overview> {
    let month = period.to_string();
    let mut tenants: BTreeMap<String, TenantRow> = BTreeMap::new();
    for ((meter, tenant), used) in usage::glance(store, meters, period).await? {
        tenants.entry(tenant).or_default().usage.insert(meter, used.quantity);
    }
    let mut invoice_currency = None;
    let of_month = Filter { period: Some(month.clone()), tenant: None };
    for invoice in invoices::list(store, &of_month).await? {
        invoice_currency = Some(invoice.currency);
        let row = tenants.entry(invoice.tenant).or_default();
        row.plan = Some(invoice.plan);
        row.invoice = Some(invoice.number);
        row.invoiced = Some(invoice.total);
    }
    let report = match allocation::latest(store, &month).await {
        Ok(report) => Some(report),
        Err(BillingError::NotAllocated { .. }) => None,
        Err(error) => return Err(error),
    };
    if report.is_some() {
        for cost in allocation::tenants(store, &month, None).await? {
            if cost.tenant != IDLE && cost.tenant != UNALLOCATED {
                tenants.entry(cost.tenant).or_default().allocated = Some(cost.total);
            }
        }
    }
    let cost_currency = report.as_ref().map(|report| report.currency);
    let is_comparable = invoice_currency.is_some() && invoice_currency == cost_currency;
    let mut rows: Vec<TenantRow> = Vec::with_capacity(tenants.len());
    for (tenant, mut row) in tenants {
        row.margin = is_comparable.then(|| margin(row.invoiced, row.allocated)).flatten();
        row.tenant = tenant;
        rows.push(row);
    }
    rows.sort_by(|a, b| {
        let used = |row: &TenantRow, meter: &Meter| row.usage.get(&meter.name).copied().unwrap_or_default();
        let by_meter = meters.newest().map(|meter| used(b, meter).cmp(&used(a, meter)));
        by_meter
            .fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
            .then_with(|| a.tenant.cmp(&b.tenant))
    });
    let total = total(&rows, meters, is_comparable)?;
    let count = rows.len();
    rows.truncate(limit);
    Ok(Overview {
        period: month,
        zone: period.zone.name().to_owned(),
        invoice_currency,
        cost_currency,
        tenants: count,
        rows,
        total,
        idle: report.as_ref().map(|report| report.idle),
        unallocated: report.as_ref().map(|report| report.unallocated),
        spent: report.as_ref().map(|report| report.total),
    })
}

fn margin(invoiced: Option<Exact>, allocated: Option<Exact>) -> Option<Exact> {
    invoiced?.0.checked_sub(allocated?.0).map(Exact)
}

/// Whether what tenants come to makes something of all of them: of unique counts, say, it does not.
const fn adds_up(aggregation: Aggregation) -> bool {
    match aggregation {
        Aggregation::Count
        | Aggregation::Sum
        | Aggregation::Min
        | Aggregation::Max
        | Aggregation::Rate
        | Aggregation::TimeWeighted => true,
        Aggregation::Avg | Aggregation::UniqueCount | Aggregation::Latest | Aggregation::Percentile => false,
    }
}

fn total(rows: &[TenantRow], meters: &Meters, is_comparable: bool) -> Result<TenantRow> {
    let mut total = TenantRow::default();
    for meter in meters.newest().filter(|meter| adds_up(meter.aggregation)) {
        let mut all: Option<crate::rating::MeterUsage> = None;
        for quantity in rows.iter().filter_map(|row| row.usage.get(&meter.name)) {
            let used = crate::rating::MeterUsage { events: 0, quantity: *quantity };
            all = Some(all.map_or(Ok(used), |all| combine(meter, all, used))?);
        }
        if let Some(all) = all {
            total.usage.insert(meter.name.clone(), all.quantity);
        }
    }
    let sum = |amounts: &mut dyn Iterator<Item = Exact>| -> Result<Option<Exact>> {
        let mut sum: Option<Decimal> = None;
        for Exact(amount) in amounts {
            let next = sum.unwrap_or_default().checked_add(amount);
            sum = Some(next.ok_or_else(|| BillingError::TooLarge { what: "a total".to_owned() })?);
        }
        Ok(sum.map(Exact))
    };
    total.invoiced = sum(&mut rows.iter().filter_map(|row| row.invoiced))?;
    total.allocated = sum(&mut rows.iter().filter_map(|row| row.allocated))?;
    total.margin = is_comparable.then(|| margin(total.invoiced, total.allocated)).flatten();
    Ok(total)
}
