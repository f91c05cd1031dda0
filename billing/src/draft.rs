//! From one tenant's usage to its invoice, still without a number. Pure.

use chrono::{DateTime, Days, NaiveDate, Utc};
use rentroll_schemas::catalogue::{Catalogue, Version};
use rentroll_schemas::currency::Exact;
use rentroll_schemas::invoice::{BilledPeriod, Invoice, InvoiceStatus, InvoiceTax, Party};
use rentroll_schemas::meter::Meters;
use rentroll_schemas::period::Period;
use rust_decimal::Decimal;

use crate::assignment::assign;
use crate::digest;
use crate::error::{BillingError, Result};
use crate::rating::{RatingError, exact, rate};
use crate::usage::TenantUsage;

/// The number of an invoice that has none.
pub const DRAFT_NUMBER: &str = "DRAFT";

/// What all invoices of a run have in common.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// Seller, currency, customers.
    pub catalogue: &'a Catalogue,
    /// The prices in force.
    pub version: &'a Version,
    /// Names and units.
    pub meters: &'a Meters,
    /// The month.
    pub period: &'a Period,
    /// Digest of the prices.
    pub catalogue_digest: String,
    /// Day of issue, in the billing zone.
    pub issue_date: NaiveDate,
    /// Everything stored up to here was counted.
    pub data_as_of: DateTime<Utc>,
}

impl<'a> Frame<'a> {
    /// The frame of a run of `period` at `now`.
    ///
    /// # Errors
    /// [`BillingError::NoPrices`] if the catalogue begins later.
    pub fn new(
        catalogue: &'a Catalogue,
        meters: &'a Meters,
        period: &'a Period,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let first_day = period.from.with_timezone(&period.zone).date_naive();
        let version = catalogue.version_on(first_day).ok_or_else(|| BillingError::NoPrices {
            period: period.to_string(),
            first: catalogue.versions.first().map(|version| version.effective_from).unwrap_or_default(),
        })?;
        Ok(Frame {
            catalogue,
            version,
            meters,
            period,
            catalogue_digest: digest::catalogue(catalogue, version),
            issue_date: now.with_timezone(&period.zone).date_naive(),
            data_as_of: now,
        })
    }

    /// The invoice of `tenant`, as a draft.
    ///
    /// # Errors
    /// If it has no plan, or its usage cannot be priced.
    pub fn draft(&self, tenant: &str, usage: &TenantUsage) -> Result<Invoice> {
        let (plan, plan_reason) = assign(self.version, tenant, &usage.totals)
            .map_err(|source| BillingError::Assignment { tenant: tenant.to_owned(), source })?;
        let unpriced = |source: RatingError| BillingError::Rating { tenant: tenant.to_owned(), source };
        let currency = self.catalogue.currency;
        let lines = rate(plan, &usage.totals, currency).map_err(unpriced)?;
        let mut subtotal = currency.round(Decimal::ZERO);
        for line in &lines {
            subtotal = sum(subtotal, line.amount.0).map_err(unpriced)?;
        }
        let tax = match &self.version.tax {
            None => None,
            Some(tax) => {
                let exact_amount = exact::mul(subtotal, tax.rate.0).map_err(unpriced)?;
                let amount = Exact(currency.round(exact_amount));
                Some(InvoiceTax { name: tax.name.clone(), rate: tax.rate, amount })
            }
        };
        let tax_amount = tax.as_ref().map_or(Decimal::ZERO, |tax| tax.amount.0);
        let total = sum(subtotal, tax_amount).map_err(unpriced)?;
        let due_date = self
            .issue_date
            .checked_add_days(Days::new(u64::from(self.catalogue.seller.payment_terms_days)))
            .unwrap_or(NaiveDate::MAX);
        Ok(Invoice {
            number: DRAFT_NUMBER.to_owned(),
            status: InvoiceStatus::Draft,
            tenant: tenant.to_owned(),
            plan: plan.name.clone(),
            plan_title: plan.title.clone(),
            plan_reason,
            currency,
            seller: self.catalogue.seller.clone(),
            buyer: self.buyer(tenant),
            period: BilledPeriod {
                month: self.period.to_string(),
                zone: self.period.zone.name().to_owned(),
                from: self.period.from,
                to: self.period.to,
            },
            issue_date: self.issue_date,
            due_date,
            lines,
            subtotal: Exact(subtotal),
            tax,
            total: Exact(total),
            usage: usage.by_meter(self.meters, self.period),
            daily: usage.daily(self.meters, self.period),
            data_as_of: self.data_as_of,
            prices_from: self.version.effective_from,
            catalogue_digest: self.catalogue_digest.clone(),
            usage_digest: usage.digest(),
        })
    }

    fn buyer(&self, tenant: &str) -> Party {
        let unnamed = || Party { name: tenant.to_owned(), ..Party::default() };
        self.catalogue.customers.get(tenant).cloned().unwrap_or_else(unnamed)
    }
}

/// Both have the currency's digits, and so has the sum.
fn sum(a: Decimal, b: Decimal) -> std::result::Result<Decimal, RatingError> {
    a.checked_add(b).ok_or_else(|| RatingError::Inexact { what: format!("{a} plus {b}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rating::MeterUsage;
    use chrono_tz::Tz;
    use proptest::prelude::*;
    use rentroll_schemas::Quantity;
    use rentroll_schemas::yaml;
    use std::path::Path;

    const METERS: &str = "meters:
- {name: requests, unit: request, event_type: http.request, aggregation: count}
- {name: bytes, unit: byte, event_type: http.request, aggregation: sum, value: bytes}
";
    const CATALOGUE: &str = "currency: USD
invoice_prefix: RR
time_zone: Europe/Amsterdam
seller: {name: Us, payment_terms_days: 14}
customers: {acme: {name: Acme Corp}}
versions:
- effective_from: 2015-05-01
  tax: {name: VAT, rate: 0.21}
  plans:
  - {name: free, title: Free, base_fee: 0, limits: {requests_per_minute: 1, connections: 1}}
  - name: pro
    title: Pro
    base_fee: 20
    limits: {requests_per_minute: 1, connections: 1}
    charges:
    - meter: requests
      title: Requests
      unit: request
      model: graduated
      tiers: [{from: 0, to: 100, unit_price: 0.005}, {from: 100, unit_price: 0.0033, flat_fee: 1}]
    - {meter: bytes, title: Bytes, unit: GB, unit_divisor: 1000000000, model: per_unit, unit_price: 0.123456789}
  assignment:
    by_usage: {meter: requests, ladder: [{from: 0, to: 25, plan: free}, {from: 25, plan: pro}]}
";

    fn files() -> (Catalogue, Meters) {
        let meters: Meters = yaml::parse(METERS, Path::new("meters.yaml")).unwrap();
        let catalogue: Catalogue = yaml::parse(CATALOGUE, Path::new("catalogue.yaml")).unwrap();
        catalogue.check(&meters).unwrap();
        (catalogue, meters)
    }

    fn usage(requests: i64, bytes: i64) -> TenantUsage {
        let used = |n: i64| MeterUsage { events: 1, quantity: Quantity::from_int(n) };
        let totals = [("requests".to_owned(), used(requests)), ("bytes".to_owned(), used(bytes))];
        TenantUsage { totals: totals.into(), ..TenantUsage::default() }
    }

    fn draft(tenant: &str, usage: &TenantUsage) -> Invoice {
        let (catalogue, meters) = files();
        let period = Period::parse("2015-05", Tz::Europe__Amsterdam).unwrap();
        let now = "2015-06-02T22:30:00Z".parse().unwrap();
        Frame::new(&catalogue, &meters, &period, now).unwrap().draft(tenant, usage).unwrap()
    }

    #[test]
    fn an_invoice_adds_up() {
        let invoice = draft("acme", &usage(150, 2_500_000_000));
        let amounts: Vec<String> = invoice.lines.iter().map(|line| line.amount.to_string()).collect();
        // 20, 100 × 0.005, 50 × 0.0033, the tier's fee, 2.5 × 0.123456789.
        assert_eq!(amounts, ["20.00", "0.50", "0.17", "1.00", "0.31"]);
        let tax = invoice.tax.as_ref().unwrap();
        let totals = [invoice.subtotal, tax.amount, invoice.total].map(|amount| amount.to_string());
        assert_eq!(totals, ["21.98", "4.62", "26.60"]);
        assert_eq!((invoice.plan.as_str(), invoice.buyer.name.as_str()), ("pro", "Acme Corp"));
    }

    #[test]
    fn dates_are_of_the_billing_zone() {
        let invoice = draft("acme", &usage(1, 1));
        assert_eq!(invoice.issue_date.to_string(), "2015-06-03");
        assert_eq!(invoice.due_date.to_string(), "2015-06-17");
        assert_eq!(invoice.period.from.to_rfc3339(), "2015-04-30T22:00:00+00:00");
    }

    #[test]
    fn a_month_before_the_first_prices_is_an_error() {
        let (catalogue, meters) = files();
        let period = Period::parse("2015-04", Tz::Europe__Amsterdam).unwrap();
        let error = Frame::new(&catalogue, &meters, &period, Utc::now()).unwrap_err();
        let expected =
            "the catalogue has no prices for 2015-04: its first version takes effect on 2015-05-01";
        assert_eq!(error.to_string(), expected);
    }

    proptest! {
        #[test]
        fn lines_and_tax_are_the_total(requests in 0_i64..1_000_000_000, bytes in 0_i64..1_000_000_000_000_000) {
            let invoice = draft("t", &usage(requests, bytes));
            let lines: Decimal = invoice.lines.iter().map(|line| line.amount.0).sum();
            prop_assert_eq!(lines, invoice.subtotal.0);
            let tax = invoice.tax.map(|tax| tax.amount.0).unwrap_or_default();
            prop_assert_eq!(lines + tax, invoice.total.0);
        }
    }
}
