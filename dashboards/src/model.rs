//! What pages show, before it is markup: plain values, filled by the queries and by tests alike.

use rentroll_schemas::Quantity;
use rentroll_schemas::currency::Currency;
use rentroll_schemas::meter::Meter;
use rust_decimal::Decimal;

use crate::text;

/// The tenant under which the allocation keeps what nobody used.
pub const IDLE: &str = "__idle__";
/// The tenant under which the allocation keeps what has no tenant.
pub const UNALLOCATED: &str = "__unallocated__";

/// A meter as a column or a chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterColumn {
    /// Its name in the address and in queries.
    pub name: String,
    /// For people: `Egress bytes`.
    pub title: String,
    /// Its unit, plural.
    pub unit: String,
    /// What it measures.
    pub description: String,
    /// Whether values of several tenants or buckets may be added up.
    pub additive: bool,
}

impl From<&Meter> for MeterColumn {
    fn from(meter: &Meter) -> Self {
        MeterColumn {
            name: meter.name.clone(),
            title: text::title_case(&meter.name),
            unit: text::plural(&meter.unit),
            description: meter.description.clone(),
            additive: meter.aggregation.is_additive(),
        }
    }
}

impl MeterColumn {
    /// A quantity shortened for a first glance, where the unit has a usual scale.
    pub fn glance(&self, quantity: Quantity) -> Option<String> {
        matches!(self.unit.as_str(), "bytes" | "B").then(|| text::bytes_scaled(quantity))
    }
}

/// An amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// How much, exactly.
    pub value: Decimal,
    /// Of what.
    pub currency: Currency,
}

impl Amount {
    /// An amount.
    pub fn new(value: Decimal, currency: Currency) -> Self {
        Amount { value, currency }
    }

    /// The difference; `None` between currencies, or past what a decimal holds.
    pub fn minus(self, other: Amount) -> Option<Amount> {
        (self.currency == other.currency).then_some(())?;
        self.value.checked_sub(other.value).map(|value| Amount { value, currency: self.currency })
    }
}

/// What one tenant used, was invoiced and cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRow {
    /// The tenant, as events name it: untrusted text.
    pub tenant: String,
    /// The plan it was billed on.
    pub plan: Option<String>,
    /// Usage, one per meter column; `None` where there was none.
    pub usage: Vec<Option<Quantity>>,
    /// Total of its invoices in the month.
    pub invoiced: Option<Amount>,
    /// Cost allocated to it in the month.
    pub cost: Option<Amount>,
}

impl TenantRow {
    /// Invoiced less allocated; `None` unless both are known and in one currency.
    pub fn margin(&self) -> Option<Amount> {
        self.invoiced?.minus(self.cost?)
    }
}

/// The same, summed over tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantTotals {
    /// How many tenants.
    pub tenants: u64,
    /// Usage, one per meter column; of a meter that cannot be added, its extreme.
    pub usage: Vec<Option<Quantity>>,
    /// Invoices.
    pub invoiced: Option<Amount>,
    /// Allocated cost.
    pub cost: Option<Amount>,
}

impl TenantTotals {
    /// Invoiced less allocated.
    pub fn margin(&self) -> Option<Amount> {
        self.invoiced?.minus(self.cost?)
    }
}

/// What a month's billing and allocation have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MonthState {
    /// Currency of its invoices, once there is a run.
    pub invoice_currency: Option<Currency>,
    /// Whether its period is closed.
    pub closed: bool,
    /// Its newest allocation.
    pub allocation: Option<AllocationRun>,
}

/// A finished allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationRun {
    /// Its id: the digest of its inputs.
    pub run_id: String,
    /// Everything spent.
    pub total: Amount,
    /// When it was made.
    pub created_at: chrono::DateTime<chrono::Utc>,
}

/// One cost pool and where its amount went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRow {
    /// The pool's name.
    pub pool: String,
    /// How many tenants bear a part of it.
    pub tenants: u64,
    /// Borne by tenants for what they used.
    pub direct: Decimal,
    /// Idle cost that the pool's policy spreads over tenants.
    pub idle_spread: Decimal,
    /// Idle cost kept apart.
    pub idle: Decimal,
    /// Cost without a tenant.
    pub unallocated: Decimal,
    /// The pool's amount.
    pub total: Decimal,
}

impl PoolRow {
    /// Whether the parts are the whole, to the last digit.
    pub fn ties_out(&self) -> bool {
        let parts = [self.idle_spread, self.idle, self.unallocated];
        parts.into_iter().try_fold(self.direct, Decimal::checked_add) == Some(self.total)
    }
}

/// The state of one check of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// Worth a look.
    Warn,
    /// Broken.
    Fail,
}

/// One check of the pipeline's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What was checked.
    pub name: String,
    /// What came out.
    pub state: CheckState,
    /// In words.
    pub detail: String,
    /// What to do, if anything.
    pub remedy: String,
}
