//! Issued invoices: found, read back, exported. A document whose digest is not the stored one is not shown.

use std::fmt::Write as _;

use chrono::NaiveDate;
use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::currency::{Currency, Exact};
use rentroll_schemas::invoice::Invoice;
use serde::{Deserialize, Serialize};

use crate::error::{BillingError, Result};
use crate::run::{money, parse};

/// Which invoices.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this month, `YYYY-MM`.
    pub period: Option<String>,
    /// Of this tenant.
    pub tenant: Option<String>,
}

/// An invoice, in one line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InvoiceSummary {
    /// Its number.
    pub number: String,
    /// The tenant.
    pub tenant: String,
    /// The month.
    pub period: String,
    /// The plan.
    pub plan: String,
    /// Day of issue.
    pub issue_date: NaiveDate,
    /// Day due.
    pub due_date: NaiveDate,
    /// The currency.
    pub currency: Currency,
    /// What is due.
    pub total: Exact,
}

#[derive(Row, Deserialize)]
struct SummaryRow {
    number: String,
    tenant: String,
    period: String,
    plan: String,
    #[serde(with = "clickhouse::serde::chrono::date")]
    issue_date: NaiveDate,
    #[serde(with = "clickhouse::serde::chrono::date")]
    due_date: NaiveDate,
    currency: String,
    total_text: String,
}

#[derive(Row, Deserialize)]
struct DocumentRow {
    number: String,
    digest: String,
    document: String,
}

const MATCHES: &str = "({period:String} = '' OR period = {period:String}) \
                       AND ({tenant:String} = '' OR tenant = {tenant:String})";

/// All invoices that match, by number.
///
/// # Errors
/// If the store cannot be read, or holds what this program does not write.
pub async fn list(store: &Store, filter: &Filter) -> Result<Vec<InvoiceSummary>> {
    let sql = format!(
        "SELECT number, tenant, period, plan, issue_date, due_date, currency, toString(total) AS total_text \
         FROM invoices WHERE {MATCHES} ORDER BY series, sequence"
    );
    let rows: Vec<SummaryRow> = store
        .client()
        .query(&sql)
        .param("period", filter.period.as_deref().unwrap_or_default())
        .param("tenant", filter.tenant.as_deref().unwrap_or_default())
        .fetch_all()
        .await
        .map_err(|source| failed(store, source))?;
    rows.into_iter()
        .map(|row| {
            let currency: Currency = row.currency.parse().map_err(|error| BillingError::Content {
                what: format!("invoice {}", row.number),
                reason: format!("{error}"),
            })?;
            Ok(InvoiceSummary {
                total: Exact(money(&row.total_text, currency)?),
                number: row.number,
                tenant: row.tenant,
                period: row.period,
                plan: row.plan,
                issue_date: row.issue_date,
                due_date: row.due_date,
                currency,
            })
        })
        .collect()
}

/// The invoice of that number.
///
/// # Errors
/// [`BillingError::NoSuchInvoice`]; [`BillingError::Check`] if the document is not the one that was issued.
pub async fn show(store: &Store, number: &str) -> Result<Invoice> {
    let row: Option<DocumentRow> = store
        .client()
        .query("SELECT number, digest, document FROM invoices WHERE number = {number:String}")
        .param("number", number)
        .fetch_optional()
        .await
        .map_err(|source| failed(store, source))?;
    document(&row.ok_or_else(|| BillingError::NoSuchInvoice(number.to_owned()))?)
}

/// The documents of all invoices that match, by number, each handed to `take`.
///
/// # Errors
/// Those of [`show`], and those of `take`.
pub async fn export<E: From<BillingError>>(
    store: &Store,
    filter: &Filter,
    mut take: impl FnMut(Invoice) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let sql =
        format!("SELECT number, digest, document FROM invoices WHERE {MATCHES} ORDER BY series, sequence");
    let mut cursor = store
        .client()
        .query(&sql)
        .param("period", filter.period.as_deref().unwrap_or_default())
        .param("tenant", filter.tenant.as_deref().unwrap_or_default())
        .fetch::<DocumentRow>()
        .map_err(|source| failed(store, source))?;
    while let Some(row) = cursor.next().await.map_err(|source| failed(store, source))? {
        take(document(&row)?)?;
    }
    Ok(())
}

fn document(row: &DocumentRow) -> Result<Invoice> {
    let digest = blake3::hash(row.document.as_bytes()).to_hex();
    let invoice = parse(&row.number, &row.document)?;
    if digest.as_str() != row.digest {
        return Err(BillingError::Check {
            check: "the document of an invoice never changes",
            period: invoice.period.month,
            detail: format!("invoice {} has digest {digest}, it was issued with {}", row.number, row.digest),
        });
    }
    Ok(invoice)
}

fn failed(store: &Store, source: clickhouse::error::Error) -> BillingError {
    BillingError::Store { what: "reading invoices", source: store.error(source) }
}

/// The columns of [`csv_lines`].
pub const CSV_HEADER: &str = "number,tenant,period,time_zone,issue_date,due_date,plan,line,kind,group,description,\
                              meter,quantity,unit,unit_price,exact_amount,amount,currency\n";

/// The lines of an invoice as CSV: the same rounded amounts as the document, quantities and prices in full.
pub fn csv_lines(invoice: &Invoice) -> String {
    let mut out = String::new();
    let mut row = |line: u32, kind: &str, texts: [&str; 3], numbers: [&Exact; 4], unit: &str| {
        let [group, description, meter] = texts.map(csv_text);
        let [quantity, unit_price, exact_amount, amount] = numbers;
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{line},{kind},{group},{description},{meter},{quantity},{},{unit_price},\
             {exact_amount},{amount},{}",
            csv_text(&invoice.number),
            csv_text(&invoice.tenant),
            invoice.period.month,
            invoice.period.zone,
            invoice.issue_date,
            invoice.due_date,
            csv_text(&invoice.plan),
            csv_text(unit),
            invoice.currency
        );
    };
    for line in &invoice.lines {
        row(
            line.line,
            line.kind.name(),
            [&line.group, &line.description, line.meter.as_deref().unwrap_or_default()],
            [&line.quantity, &line.unit_price, &line.exact_amount, &line.amount],
            &line.unit,
        );
    }
    if let Some(tax) = &invoice.tax {
        let line = u32::try_from(invoice.lines.len() + 1).unwrap_or(u32::MAX);
        row(line, "tax", [&tax.name, "", ""], [&tax.rate, &invoice.subtotal, &tax.amount, &tax.amount], "");
    }
    out
}

/// A text as a CSV field: quoted, and never taken for a formula by a spreadsheet.
pub fn csv_text(text: &str) -> String {
    let text =
        if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r', '\'']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_and_are_no_formulas() {
        for (text, field) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=cmd()", "\"'=cmd()\""),
            ("@x", "\"'@x\""),
            ("two\nlines", "\"two\nlines\""),
        ] {
            assert_eq!(csv_text(text), field);
        }
    }
}
