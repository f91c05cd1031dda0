//! Why a tenant costs what it costs: drivers → units → share → amount, pool by pool.

use chrono::{DateTime, Utc};
use num_bigint::BigUint;
use rentroll_engines::store::Store;
use rentroll_schemas::Quantity;
use rentroll_schemas::costs::{Costs, IdlePolicy, Pool};
use rentroll_schemas::currency::{Currency, Exact};
use rentroll_schemas::meter::Meters;
use rentroll_schemas::period::Period;
use serde::Serialize;

use super::{AllocateOptions, Allocation, allocate, decimal, display_units, latest, nanos, rows, units};
use crate::error::{BillingError, Result};
use crate::usage::{self, PeriodUsage};

/// One tenant's cost, explained from the costs and the usage as they are now.
#[derive(Clone, Debug, Serialize)]
pub struct CostExplanation {
    /// The tenant.
    pub tenant: String,
    /// The month.
    pub period: String,
    /// The billing zone.
    pub zone: String,
    /// The currency of all amounts.
    pub currency: Currency,
    /// Whether this is what the newest stored allocation says: its inputs have not changed since.
    pub is_stored: bool,
    /// Pool by pool.
    pub pools: Vec<PoolExplanation>,
    /// Over all pools.
    pub total: Exact,
}

/// One pool: `direct = amount · units / max(units_of_all, capacity_units)`.
#[derive(Clone, Debug, Serialize)]
pub struct PoolExplanation {
    /// The pool.
    pub pool: String,
    /// Its name for people.
    pub title: String,
    /// What was spent on it.
    pub amount: Exact,
    /// What the tenant did.
    pub drivers: Vec<DriverExplanation>,
    /// The tenant's cost units: the sum over its drivers.
    pub units: Quantity,
    /// Cost units of all tenants.
    pub units_of_all: Quantity,
    /// Cost units that were paid for, if a capacity is stated.
    pub capacity_units: Option<Quantity>,
    /// Who bears what nobody used.
    pub idle_policy: IdlePolicy,
    /// By use.
    pub direct: Exact,
    /// Share of idle cost.
    pub idle_share: Exact,
    /// Both.
    pub total: Exact,
}

/// One driver: `units = quantity · weight`.
#[derive(Clone, Debug, Serialize)]
pub struct DriverExplanation {
    /// The meter.
    pub meter: String,
    /// Its unit.
    pub unit: String,
    /// The tenant's usage.
    pub quantity: Quantity,
    /// Cost units of one unit of usage.
    pub weight: Exact,
    /// Quantity times weight, cut to nine digits.
    pub units: Quantity,
}

/// Explains what `tenant` costs in `period`.
///
/// # Errors
/// Those of [`allocate`]; [`BillingError::NoSuchTenant`] if it used nothing.
pub async fn explain(
    store: &Store,
    costs: &Costs,
    meters: &Meters,
    period: &Period,
    tenant: &str,
    now: DateTime<Utc>,
) -> Result<CostExplanation> {
    let computed = allocate(store, costs, meters, period, AllocateOptions { dry_run: true, now }).await?;
    let stored = match latest(store, &computed.period).await {
        Ok(stored) => Some(stored.run_id),
        Err(BillingError::NotAllocated { .. }) => None,
        Err(error) => return Err(error),
    };
    let usage = usage::read(store, meters, period).await?;
    if !usage.tenants.contains_key(tenant) {
        return Err(BillingError::NoSuchTenant { tenant: tenant.to_owned(), period: computed.period });
    }
    let rows = rows(costs, &computed.period, &usage)?;
    let mut pools = Vec::new();
    let mut total = 0;
    for pool in costs.pools.iter().filter(|pool| pool.month == computed.period) {
        let row = rows.iter().find(|row| row.pool == pool.name && row.tenant == tenant);
        total += row.map_or(0, Allocation::total);
        pools.push(explain_pool(pool, meters, &usage, tenant, row)?);
    }
    Ok(CostExplanation {
        tenant: tenant.to_owned(),
        is_stored: stored.as_ref() == Some(&computed.run_id),
        period: computed.period,
        zone: computed.zone,
        currency: computed.currency,
        pools,
        total: Exact(decimal(nanos(total)?)?),
    })
}

fn explain_pool(
    pool: &Pool,
    meters: &Meters,
    usage: &PeriodUsage,
    tenant: &str,
    row: Option<&Allocation>,
) -> Result<PoolExplanation> {
    let mut drivers = Vec::with_capacity(pool.drivers.len());
    for (meter, weight) in &pool.drivers {
        let used = usage.tenants.get(tenant).and_then(|used| used.totals.get(meter));
        let quantity = used.map(|used| used.quantity).unwrap_or_default();
        drivers.push(DriverExplanation {
            meter: meter.clone(),
            unit: meters.get(meter).map(|meter| meter.unit.clone()).unwrap_or_default(),
            quantity,
            weight: *weight,
            units: display_units(&units::of_quantity(quantity, *weight, tenant, meter)?)?,
        });
    }
    let mut all = BigUint::ZERO;
    for (name, used) in &usage.tenants {
        all += units::of_tenant(pool, name, used)?;
    }
    let amount = |nano: u128| Ok::<Exact, BillingError>(Exact(decimal(nanos(nano)?)?));
    Ok(PoolExplanation {
        pool: pool.name.clone(),
        title: pool.title.clone(),
        amount: pool.amount,
        drivers,
        units: row.map(|row| row.driver_units).unwrap_or_default(),
        units_of_all: display_units(&all)?,
        capacity_units: units::of_capacity(pool)?.map(|units| display_units(&units)).transpose()?,
        idle_policy: pool.idle_policy,
        direct: amount(row.map_or(0, |row| row.direct))?,
        idle_share: amount(row.map_or(0, |row| row.idle_share))?,
        total: amount(row.map_or(0, Allocation::total))?,
    })
}
