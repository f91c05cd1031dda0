//! Why an invoice says what it says: line → computation → meter → query → events.

use std::collections::BTreeMap;

use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::invoice::{Invoice, InvoiceLine};
use rentroll_schemas::meter::{Meter, Meters};
use serde::{Deserialize, Serialize};

use crate::error::{BillingError, Result};
use crate::invoices;
use crate::rating::MeterUsage;
use crate::usage::{corrected_sql, first_events_sql, micros, tenant_sql};

/// How many events are shown.
pub const EVENTS_SHOWN: u64 = 5;

/// An explained invoice, or one line of it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The invoice as it was issued.
    pub invoice: Invoice,
    /// The lines that were asked for.
    pub lines: Vec<LineExplanation>,
    /// What their meters were made of.
    pub meters: Vec<MeterExplanation>,
}

/// A line's computation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineExplanation {
    /// The line.
    pub line: InvoiceLine,
    /// `50 × 0.02 = 1.00, rounded 1.00`.
    pub computation: String,
}

/// What a meter's total was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MeterExplanation {
    /// The meter.
    pub meter: String,
    /// Its unit.
    pub unit: String,
    /// As invoiced.
    pub invoiced: MeterUsage,
    /// As the events that are stored now give it.
    pub now: MeterUsage,
    /// Whether these are the same.
    pub holds: bool,
    /// The query that gives it, for ClickHouse.
    pub query: String,
    /// The query's parameters.
    pub parameters: BTreeMap<String, String>,
    /// The first events of the period.
    pub first_events: Vec<ExplainedEvent>,
    /// The first events of the period that do not count, since a later one voids or amends them.
    pub corrected: Vec<CorrectedEvent>,
}

/// An event that does not count, and why.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
pub struct CorrectedEvent {
    /// The sender's id.
    pub id: String,
    /// Its source.
    pub source: String,
    /// Its time, UTC.
    pub happened_at: String,
    /// What it would add to the meter.
    pub quantity: String,
    /// `voids` or `amends`.
    pub correction: String,
    /// The id of the event that does so, of the same source.
    pub by_id: String,
}

/// One event behind a line.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
pub struct ExplainedEvent {
    /// Its identity, hexadecimal.
    pub identity_hex: String,
    /// Its time, UTC.
    pub happened_at: String,
    /// The sender's id.
    pub id: String,
    /// Its source.
    pub source: String,
    /// What it adds to the meter.
    pub quantity: String,
}

#[derive(Row, Deserialize)]
struct UsageRow {
    counted: u64,
    quantity: String,
}

/// Explains invoice `number`, or its line `line` alone.
///
/// # Errors
/// If there is no such invoice or line, or the store cannot be read.
pub async fn explain(store: &Store, meters: &Meters, number: &str, line: Option<u32>) -> Result<Explanation> {
    let invoice = invoices::show(store, number).await?;
    let wanted = |candidate: &&InvoiceLine| line.is_none_or(|line| candidate.line == line);
    let chosen: Vec<InvoiceLine> = invoice.lines.iter().filter(wanted).cloned().collect();
    if let Some(line) = line.filter(|_| chosen.is_empty()) {
        let (number, lines) = (number.to_owned(), invoice.lines.len());
        return Err(BillingError::NoSuchLine { number, lines, line });
    }
    let mut explained: Vec<MeterExplanation> = Vec::new();
    for name in chosen.iter().filter_map(|line| line.meter.as_deref()) {
        if explained.iter().any(|known| known.meter == name) {
            continue;
        }
        let meter = meters.get(name).ok_or_else(|| BillingError::Content {
            what: format!("invoice {number}"),
            reason: format!("its meter `{name}` is no longer in meters.yaml"),
        })?;
        explained.push(explain_meter(store, &invoice, meter).await?);
    }
    let lines = chosen
        .into_iter()
        .map(|line| LineExplanation { computation: computation(&invoice, &line), line })
        .collect();
    Ok(Explanation { invoice, lines, meters: explained })
}

fn computation(invoice: &Invoice, line: &InvoiceLine) -> String {
    format!(
        "{} {} × {} = {}, rounded {} {}",
        line.quantity, line.unit, line.unit_price, line.exact_amount, line.amount, invoice.currency
    )
}

async fn explain_meter(store: &Store, invoice: &Invoice, meter: &Meter) -> Result<MeterExplanation> {
    let failed = |source| BillingError::Store { what: "reading events", source: store.error(source) };
    let query = tenant_sql(meter);
    let mut parameters: BTreeMap<String, String> = BTreeMap::from([
        ("from".to_owned(), micros(invoice.period.from).to_string()),
        ("to".to_owned(), micros(invoice.period.to).to_string()),
        ("tenant".to_owned(), invoice.tenant.clone()),
    ]);
    if let Some(value) = &meter.value {
        parameters.insert("value".to_owned(), value.clone());
    }
    let bound = |sql: &str| {
        parameters.iter().fold(store.client().query(sql), |query, (name, value)| query.param(name, value))
    };
    let row: UsageRow = bound(&query).fetch_one().await.map_err(failed)?;
    let first_events: Vec<ExplainedEvent> =
        bound(&first_events_sql(meter)).param("limit", EVENTS_SHOWN).fetch_all().await.map_err(failed)?;
    let corrected: Vec<CorrectedEvent> =
        bound(&corrected_sql(meter)).param("limit", EVENTS_SHOWN).fetch_all().await.map_err(failed)?;
    let quantity = row.quantity.parse().map_err(|error| BillingError::Content {
        what: format!("the usage of tenant `{}`", invoice.tenant),
        reason: format!("{error}"),
    })?;
    let now = MeterUsage { events: row.counted, quantity };
    let invoiced = invoiced(invoice, meter)?;
    Ok(MeterExplanation {
        meter: meter.name.clone(),
        unit: meter.unit.clone(),
        invoiced,
        now,
        holds: invoiced == now,
        query,
        parameters,
        first_events,
        corrected,
    })
}

/// The meter's total as the invoice's appendix has it.
fn invoiced(invoice: &Invoice, meter: &Meter) -> Result<MeterUsage> {
    let mut total: Option<MeterUsage> = None;
    for day in invoice.daily.iter().filter(|day| day.meter == meter.name) {
        let used = MeterUsage { events: day.events, quantity: day.quantity };
        total = Some(match total {
            None => used,
            Some(total) => crate::usage::combine(meter, total, used)?,
        });
    }
    Ok(total.unwrap_or_default())
}
