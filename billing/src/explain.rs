//! Why an invoice says what it says: line → computation → meter → query → events.

use std::collections::BTreeMap;

use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::invoice::{Invoice, InvoiceLine};
use rentroll_schemas::meter::Meters;
use rentroll_schemas::period::Period;
use serde::{Deserialize, Serialize};

use crate::error::{BillingError, Result};
use crate::invoices;
use crate::rating::MeterUsage;
use crate::usage::Explained;

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
    /// The query that gives it, for ClickHouse. Of an average and of a rate it gives the sum, which is divided by the events
    /// or the time; of a level the times and values of each series.
    pub query: String,
    /// The query's parameters.
    pub parameters: BTreeMap<String, String>,
    /// The first events of the period; of a level those before that are carried in, too.
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
    /// What it would add to the meter: its value, or of a unique count what is told apart.
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
    /// What it adds to the meter: its value, or of a unique count what is told apart.
    pub quantity: String,
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
        explained.push(explain_meter(store, &invoice, meters, name).await?);
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

async fn explain_meter(
    store: &Store,
    invoice: &Invoice,
    meters: &Meters,
    name: &str,
) -> Result<MeterExplanation> {
    let unreadable =
        |reason: String| BillingError::Content { what: format!("invoice {}", invoice.number), reason };
    let zone = invoice
        .period
        .zone
        .parse()
        .map_err(|_| unreadable(format!("its zone is `{}`", invoice.period.zone)))?;
    let period = Period::parse(&invoice.period.month, zone).map_err(|error| unreadable(error.to_string()))?;
    let explained = Explained::read(store, meters, name, &period, &invoice.tenant, EVENTS_SHOWN).await?;
    let Some(Explained { unit, now, query, parameters, first_events, corrected }) = explained else {
        return Err(unreadable(format!("its meter `{name}` is no longer defined")));
    };
    let invoiced = match invoice.usage.iter().find(|total| total.meter == name) {
        Some(total) => MeterUsage { events: total.events, quantity: total.quantity },
        None => by_days(invoice, meters, name)?,
    };
    Ok(MeterExplanation {
        meter: name.to_owned(),
        unit,
        invoiced,
        now,
        holds: invoiced == now,
        query,
        parameters,
        first_events,
        corrected,
    })
}

/// The meter's total by the appendix, of an invoice that says no more: its meters were counts, sums and extremes.
fn by_days(invoice: &Invoice, meters: &Meters, name: &str) -> Result<MeterUsage> {
    let Some(meter) = meters.versions(name).next() else { return Ok(MeterUsage::default()) };
    let mut total: Option<MeterUsage> = None;
    for day in invoice.daily.iter().filter(|day| day.meter == name) {
        let used = MeterUsage { events: day.events, quantity: day.quantity };
        total = Some(match total {
            None => used,
            Some(total) => crate::usage::combine(meter, total, used)?,
        });
    }
    Ok(total.unwrap_or_default())
}
