//! Lines for queries, made from the documents as they are stored: the document is the original.

use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::currency::Exact;
use rentroll_schemas::invoice::{Invoice, LineKind};
use rentroll_schemas::period::Period;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::insert::insert;
use crate::error::{BillingError, Result};
use crate::rating::exact;

#[derive(Serialize)]
struct NewRow<'a> {
    number: &'a str,
    line: u32,
    tenant: &'a str,
    period: &'a str,
    kind: &'static str,
    meter: &'a str,
    description: String,
    quantity: Exact,
    unit: &'a str,
    unit_amount: Exact,
    exact_amount: Exact,
    amount: Exact,
    currency: &'a str,
}

const COLUMNS: &[&str] = &[
    "number",
    "line",
    "tenant",
    "period",
    "kind",
    "meter",
    "description",
    "quantity",
    "unit",
    "unit_amount",
    "exact_amount",
    "amount",
    "currency",
];

#[derive(Row, Deserialize)]
struct BlockRow {
    series: String,
    block: u64,
}

#[derive(Row, Deserialize)]
struct DocumentRow {
    number: String,
    document: String,
}

/// Inserts the lines of every block of the month that has none. Every invoice has a line, its base fee.
pub(super) async fn complete(store: &Store, period: &Period) -> Result<()> {
    let blocks: Vec<BlockRow> = store
        .client()
        .query(
            "SELECT DISTINCT series, block FROM invoices WHERE period = {period:String} \
             AND number NOT IN (SELECT number FROM invoice_lines WHERE period = {period:String}) \
             ORDER BY series, block",
        )
        .param("period", period.to_string())
        .fetch_all()
        .await
        .map_err(|source| BillingError::Store { what: "looking for lines", source: store.error(source) })?;
    for BlockRow { series, block } in blocks {
        let documents: Vec<DocumentRow> = store
            .client()
            .query(
                "SELECT number, document FROM invoices \
                 WHERE period = {period:String} AND series = {series:String} AND block = {block:UInt64} \
                 ORDER BY sequence",
            )
            .param("period", period.to_string())
            .param("series", &series)
            .param("block", block)
            .fetch_all()
            .await
            .map_err(|source| BillingError::Store {
                what: "reading invoices",
                source: store.error(source),
            })?;
        let mut invoices = Vec::with_capacity(documents.len());
        for DocumentRow { number, document } in documents {
            invoices.push(parse(&number, &document)?);
        }
        let mut rows = Vec::new();
        for invoice in &invoices {
            rows.extend(of_invoice(invoice)?);
        }
        let token = format!("invoice_lines:{series}:{block}");
        insert(store, "writing invoice lines", "invoice_lines", COLUMNS, &rows, &token).await?;
    }
    Ok(())
}

/// A stored document.
pub(crate) fn parse(number: &str, document: &str) -> Result<Invoice> {
    serde_json::from_str(document).map_err(|error| BillingError::Content {
        what: format!("invoice {number}"),
        reason: error.to_string(),
    })
}

fn of_invoice(invoice: &Invoice) -> Result<Vec<NewRow<'_>>> {
    let row = |line, kind: LineKind, description| NewRow {
        number: &invoice.number,
        line,
        tenant: &invoice.tenant,
        period: &invoice.period.month,
        kind: kind.name(),
        meter: "",
        description,
        quantity: Exact(Decimal::ONE),
        unit: "",
        unit_amount: Exact(Decimal::ZERO),
        exact_amount: Exact(Decimal::ZERO),
        amount: Exact(Decimal::ZERO),
        currency: invoice.currency.code(),
    };
    let mut rows: Vec<NewRow<'_>> = invoice
        .lines
        .iter()
        .map(|line| NewRow {
            meter: line.meter.as_deref().unwrap_or_default(),
            quantity: line.quantity,
            unit: &line.unit,
            unit_amount: line.unit_price,
            exact_amount: line.exact_amount,
            amount: line.amount,
            ..row(line.line, line.kind, format!("{}: {}", line.group, line.description))
        })
        .collect();
    if let Some(tax) = &invoice.tax {
        let exact_amount = exact::mul(tax.rate.0, invoice.subtotal.0)
            .map_err(|source| BillingError::Rating { tenant: invoice.tenant.clone(), source })?;
        let number = u32::try_from(rows.len() + 1).unwrap_or(u32::MAX);
        rows.push(NewRow {
            quantity: tax.rate,
            unit_amount: invoice.subtotal,
            exact_amount: Exact(exact_amount),
            amount: tax.amount,
            ..row(number, LineKind::Tax, tax.name.clone())
        });
    }
    Ok(rows)
}
