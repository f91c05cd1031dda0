//! What can go wrong between usage and an invoice.

use chrono::{DateTime, NaiveDate, Utc};
use rentroll_engines::store::StoreError;

use crate::assignment::AssignmentError;
use crate::rating::RatingError;
use crate::usage::{Mismatch, MixedVersions};

/// Why a run, an allocation or a query did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum BillingError {
    /// The store said no.
    #[error("{what}: {source}")]
    Store {
        /// What was being done.
        what: &'static str,
        /// What the store said.
        source: StoreError,
    },
    /// What the store holds is not what this program writes.
    #[error("{what} in the store cannot be read: {reason}")]
    Content {
        /// Which row or document.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Raw events and rollups disagree: the books do not hold, and money is not made of them.
    #[error("{0}")]
    BooksDiffer(Mismatch),
    /// A meter changed within the month into something else, so that its month has no one quantity.
    #[error(transparent)]
    MixedVersions(#[from] Box<MixedVersions>),
    /// The month is not over.
    #[error("{period} ends at {ends} ({zone}): only `--dry-run` can be run before")]
    NotEnded {
        /// The month.
        period: String,
        /// Its end.
        ends: DateTime<Utc>,
        /// The billing zone.
        zone: String,
    },
    /// No catalogue version was in force.
    #[error("the catalogue has no prices for {period}: its first version takes effect on {first}")]
    NoPrices {
        /// The month.
        period: String,
        /// First day with prices.
        first: NaiveDate,
    },
    /// Nothing to bill: more likely a mistake than a fact, so the month stays open.
    #[error(
        "no usage in {period} ({from} to {to}, {zone}): nothing was done; `rentroll books` shows what is stored"
    )]
    NoUsage {
        /// The month.
        period: String,
        /// Its first instant.
        from: DateTime<Utc>,
        /// First instant after it.
        to: DateTime<Utc>,
        /// The billing zone.
        zone: String,
    },
    /// A month is billed in one zone, one currency, with one price list and one series of numbers.
    #[error("the run of {period} was begun with {what} {begun}, now it is {now}: finish it as it was begun")]
    PlanChanged {
        /// The month.
        period: String,
        /// What changed.
        what: &'static str,
        /// As it was.
        begun: String,
        /// As it is.
        now: String,
    },
    /// A tenant's usage cannot be priced.
    #[error("tenant `{tenant}`: {source}")]
    Rating {
        /// The tenant.
        tenant: String,
        /// Why.
        source: RatingError,
    },
    /// A tenant has no plan.
    #[error("tenant `{tenant}`: {source}")]
    Assignment {
        /// The tenant.
        tenant: String,
        /// Why.
        source: AssignmentError,
    },
    /// An insert was taken and is not there: rows were deleted behind our back, or the table lost its window.
    #[error("{what} was inserted and is not there: were rows deleted from `{table}`?")]
    Vanished {
        /// What was inserted.
        what: String,
        /// Where.
        table: &'static str,
    },
    /// What was issued does not hold together; the month is not closed.
    #[error("{check} does not hold for {period}: {detail}")]
    Check {
        /// The rule.
        check: &'static str,
        /// The month.
        period: String,
        /// What was found.
        detail: String,
    },
    /// There is no such invoice.
    #[error("there is no invoice `{0}`: `rentroll invoices list` shows all")]
    NoSuchInvoice(String),
    /// The invoice has no such line.
    #[error("invoice {number} has lines 1 to {lines}, not {line}")]
    NoSuchLine {
        /// The invoice.
        number: String,
        /// How many lines it has.
        lines: usize,
        /// What was asked for.
        line: u32,
    },
    /// costs.yaml says nothing about the month.
    #[error("costs.yaml has no pool for {period}: it has {months}")]
    NoCosts {
        /// The month.
        period: String,
        /// The months that it has.
        months: String,
    },
    /// The month was not allocated.
    #[error("{period} has not been allocated: run `rentroll allocate run --period {period}`")]
    NotAllocated {
        /// The month.
        period: String,
    },
    /// The tenant used nothing in the month.
    #[error("tenant `{tenant}` used nothing in {period}")]
    NoSuchTenant {
        /// The tenant.
        tenant: String,
        /// The month.
        period: String,
    },
    /// Cost units or amounts that the store's decimals cannot hold.
    #[error("{what} is too large for the store's decimals")]
    TooLarge {
        /// What.
        what: String,
    },
}

impl BillingError {
    /// Whether it says that the books or a check do not hold (exit code 3), not that something failed.
    pub fn is_check(&self) -> bool {
        matches!(self, BillingError::BooksDiffer(_) | BillingError::Check { .. })
    }
}

/// The result of a billing operation.
pub type Result<T> = std::result::Result<T, BillingError>;
