//! The invoice, as a customer is sent it: one document from which the page, the JSON and the CSV are made.
//!
//! Amounts are decimals with the currency's digits, quantities and prices exact decimals; all are strings in
//! JSON. `subtotal` is the sum of the lines' rounded amounts, `tax` is rounded once, `total` is their sum:
//! nothing is rounded a second time, and a reader who adds the lines up gets the total.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Quantity;
use crate::currency::{Currency, Exact};

/// One tenant's invoice for one period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invoice {
    /// Its number, without gaps within `prefix-year`; `DRAFT` on a dry run.
    pub number: String,
    /// Whether it counts.
    pub status: InvoiceStatus,
    /// The tenant, as events name it.
    pub tenant: String,
    /// The plan that the tenant was billed on.
    pub plan: String,
    /// The plan's name for people.
    pub plan_title: String,
    /// Why this plan, in words: `fixed`, or the ladder's step that the usage fell into.
    pub plan_reason: String,
    /// The currency of every amount here.
    pub currency: Currency,
    /// Who asks for the money.
    pub seller: Seller,
    /// Who owes it.
    pub buyer: Party,
    /// What it is for.
    pub period: BilledPeriod,
    /// The day it was issued, in the billing zone.
    pub issue_date: NaiveDate,
    /// The day it is due.
    pub due_date: NaiveDate,
    /// What is billed; grouped by `group`, in order.
    pub lines: Vec<InvoiceLine>,
    /// Σ of the lines' amounts.
    pub subtotal: Exact,
    /// Tax on the subtotal, if the catalogue states one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<InvoiceTax>,
    /// `subtotal` plus tax: what is due.
    pub total: Exact,
    /// Usage of the period by meter, of every meter that there was: what was priced. Not in invoices of before there was this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<PeriodTotal>,
    /// Usage by day, for the appendix. Each is the day's own: counts and sums add up to the period's total, a unique count,
    /// a percentile, an average or a level per window does not.
    pub daily: Vec<DailyUsage>,
    /// Everything stored up to here was counted.
    pub data_as_of: DateTime<Utc>,
    /// First day of the catalogue version that priced it.
    pub prices_from: NaiveDate,
    /// BLAKE3 of that version: prices, plans, assignment.
    pub catalogue_digest: String,
    /// BLAKE3 of the tenant's usage in the period: what the amounts were computed from.
    pub usage_digest: String,
}

/// Whether an invoice counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceStatus {
    /// Made by a dry run or for a period that still grows: not to be paid.
    Draft,
    /// Issued: it never changes.
    Issued,
}

/// A name and an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// The legal name.
    pub name: String,
    /// Address, line by line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<String>,
    /// Tax or VAT number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_id: Option<String>,
}

/// Who asks for the money, and how it is paid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Seller {
    /// The legal name.
    pub name: String,
    /// Address, line by line.
    #[serde(default)]
    pub address: Vec<String>,
    /// Tax or VAT number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_id: Option<String>,
    /// Where questions go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// How to pay, line by line; the invoice's number is the reference.
    #[serde(default)]
    pub payment_instructions: Vec<String>,
    /// Days from issue to due.
    pub payment_terms_days: u32,
}

/// A half-open interval `[from, to)` and the zone in which its midnights were taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BilledPeriod {
    /// The month, `YYYY-MM`.
    pub month: String,
    /// IANA name of the billing zone.
    pub zone: String,
    /// First instant, UTC.
    pub from: DateTime<Utc>,
    /// First instant after it, UTC.
    pub to: DateTime<Utc>,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// The plan's monthly fee.
    BaseFee,
    /// Usage at a price; a tier of a graduated charge has a line of its own.
    Usage,
    /// A fixed amount that comes with reaching a tier, or with any use of a meter.
    FlatFee,
    /// Tax on the subtotal. Only in the store's table of lines; in the document it is [`Invoice::tax`].
    Tax,
}

impl LineKind {
    /// The stable word, as in the store and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            LineKind::BaseFee => "base_fee",
            LineKind::Usage => "usage",
            LineKind::FlatFee => "flat_fee",
            LineKind::Tax => "tax",
        }
    }
}

/// One line. `exact_amount = quantity · unit_price`, and `amount` is that rounded once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceLine {
    /// 1, 2, 3…
    pub line: u32,
    /// What it is.
    pub kind: LineKind,
    /// Heading that lines of one product share: the charge's title.
    pub group: String,
    /// The line in words: `first 1,000 requests`.
    pub description: String,
    /// The meter; absent on the base fee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meter: Option<String>,
    /// The tier it is, counted from 0, and its bounds in `unit`; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<LineTier>,
    /// How much, in `unit`.
    pub quantity: Exact,
    /// Display unit: `request`, `GB`, `month`.
    pub unit: String,
    /// Price of one `unit`, never rounded.
    pub unit_price: Exact,
    /// Quantity times price, before rounding.
    pub exact_amount: Exact,
    /// What is billed, at the currency's minor unit.
    pub amount: Exact,
    /// Events behind the meter's total in this period; several tiers of one meter share them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
}

/// The half-open tier `[from, to)` that a line bills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineTier {
    /// Counted from 0.
    pub index: u32,
    /// Lower bound, in the line's unit.
    pub from: Exact,
    /// Upper bound; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Exact>,
}

/// Tax on the subtotal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceTax {
    /// Its name: `VAT`.
    pub name: String,
    /// Its rate as a fraction: `0.21`.
    pub rate: Exact,
    /// Rate times subtotal, rounded once.
    pub amount: Exact,
}

/// The period's total of one meter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodTotal {
    /// The meter.
    pub meter: String,
    /// The meter's own unit: `byte`.
    pub unit: String,
    /// How many events.
    pub events: u64,
    /// How much.
    pub quantity: Quantity,
}

/// One day of one meter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DailyUsage {
    /// The day, in the billing zone.
    pub day: NaiveDate,
    /// The meter.
    pub meter: String,
    /// The meter's own unit: `byte`.
    pub unit: String,
    /// How many events.
    pub events: u64,
    /// How much.
    pub quantity: Quantity,
}

impl Invoice {
    /// The lines under one heading, in order, heading by heading.
    pub fn groups(&self) -> Vec<(&str, Vec<&InvoiceLine>)> {
        let mut groups: Vec<(&str, Vec<&InvoiceLine>)> = Vec::new();
        for line in &self.lines {
            match groups.last_mut() {
                Some((group, lines)) if *group == line.group => lines.push(line),
                _ => groups.push((&line.group, vec![line])),
            }
        }
        groups
    }
}
