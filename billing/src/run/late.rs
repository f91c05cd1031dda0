//! Usage that differs from what was invoiced: what would become adjustments. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};

use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::currency::Exact;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::close::money;
use super::lines::parse;
use crate::draft::Frame;
use crate::error::{BillingError, Result};
use crate::usage::{PeriodUsage, TenantUsage};

/// A tenant whose usage is no longer what its invoice says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LateUsage {
    /// The tenant.
    pub tenant: String,
    /// Its invoice; absent if it has none.
    pub number: Option<String>,
    /// What was invoiced.
    pub invoiced: Exact,
    /// What the usage as it is now comes to, at the prices of now.
    pub now: Exact,
    /// `now` − `invoiced`: the adjustment.
    pub difference: Exact,
}

#[derive(Row, Deserialize)]
struct InvoiceRow {
    tenant: String,
    number: String,
    usage_digest: String,
    total_text: String,
}

#[derive(Row, Deserialize)]
struct DocumentRow {
    number: String,
    document: String,
}

/// The meters that there were when the month was invoiced, as one of its invoices lists them; `None` if it has no list.
async fn invoiced_meters(store: &Store, frame: &Frame<'_>) -> Result<Option<BTreeSet<String>>> {
    let row: Option<DocumentRow> = store
        .client()
        .query(
            "SELECT number, document FROM invoices WHERE period = {period:String} ORDER BY sequence DESC LIMIT 1",
        )
        .param("period", frame.period.to_string())
        .fetch_optional()
        .await
        .map_err(|source| BillingError::Store { what: "reading invoices", source: store.error(source) })?;
    let Some(row) = row else { return Ok(None) };
    let usage = parse(&row.number, &row.document)?.usage;
    Ok((!usage.is_empty()).then(|| usage.into_iter().map(|total| total.meter).collect()))
}

/// The tenants whose usage differs from what their invoice was made from. A meter that was defined since and counts older
/// events as well is not usage that came late.
pub(super) async fn find(store: &Store, frame: &Frame<'_>, usage: &PeriodUsage) -> Result<Vec<LateUsage>> {
    let known = invoiced_meters(store, frame).await?;
    let rows: Vec<InvoiceRow> = store
        .client()
        .query(
            "SELECT tenant, number, usage_digest, toString(total) AS total_text FROM invoices \
             WHERE period = {period:String} ORDER BY tenant",
        )
        .param("period", frame.period.to_string())
        .fetch_all()
        .await
        .map_err(|source| BillingError::Store { what: "reading invoices", source: store.error(source) })?;
    let currency = frame.catalogue.currency;
    let zero = currency.round(Decimal::ZERO);
    let mut invoiced: BTreeMap<String, InvoiceRow> =
        rows.into_iter().map(|row| (row.tenant.clone(), row)).collect();
    let mut late = Vec::new();
    for (tenant, used) in &usage.tenants {
        let is_known = |meter: &String| known.as_ref().is_none_or(|known| known.contains(meter));
        let totals = used.totals.iter().filter(|(meter, _)| is_known(meter));
        let totals = totals.map(|(meter, used)| (meter.clone(), *used)).collect();
        let used = TenantUsage { totals, ..TenantUsage::default() };
        if used.totals.is_empty() {
            continue;
        }
        let invoice = invoiced.remove(tenant);
        if invoice.as_ref().is_some_and(|invoice| invoice.usage_digest == used.digest()) {
            continue;
        }
        let now = frame.draft(tenant, &used)?.total.0;
        let before = invoice.as_ref().map_or(Ok(zero), |invoice| money(&invoice.total_text, currency))?;
        late.push(difference(tenant, invoice.map(|invoice| invoice.number), before, now)?);
    }
    for (tenant, invoice) in invoiced {
        let before = money(&invoice.total_text, currency)?;
        late.push(difference(&tenant, Some(invoice.number), before, zero)?);
    }
    late.sort_by(|a, b| a.tenant.cmp(&b.tenant));
    Ok(late)
}

fn difference(tenant: &str, number: Option<String>, before: Decimal, now: Decimal) -> Result<LateUsage> {
    let difference = now
        .checked_sub(before)
        .ok_or_else(|| BillingError::TooLarge { what: format!("the adjustment of `{tenant}`") })?;
    Ok(LateUsage {
        tenant: tenant.to_owned(),
        number,
        invoiced: Exact(before),
        now: Exact(now),
        difference: Exact(difference),
    })
}
