//! Cost allocation: what each tenant cost the platform in a month, to the last nano-unit.
//!
//! Shares follow what tenants did, by the same raw events that they are billed for. An allocation is stored
//! under the digest of its inputs: the same costs and usage are one run, changed ones are another, and the
//! newest of a month counts. Σ tenants + idle + unallocated = what was spent, per pool and over all, checked
//! in the store before a run is complete.

mod explain;
mod report;
pub mod split;
mod stored;
mod units;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use num_bigint::BigUint;
use rentroll_engines::store::Store;
use rentroll_schemas::Quantity;
use rentroll_schemas::costs::{Costs, IDLE, Pool, UNALLOCATED};
use rentroll_schemas::currency::Exact;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::period::Period;
use rust_decimal::Decimal;

pub use explain::{CostExplanation, DriverExplanation, PoolExplanation, explain};
pub use report::{AllocationReport, PoolReport, TenantCost, latest, latest_rows, tenants};

use crate::digest::{self, Digest};
use crate::error::{BillingError, Result};
use crate::usage::{self, PeriodUsage};
use split::{Use, split};

/// How an allocation is to be done.
#[derive(Clone, Copy, Debug)]
pub struct AllocateOptions {
    /// Write nothing.
    pub dry_run: bool,
    /// The present.
    pub now: DateTime<Utc>,
}

/// One row: what one pool cost for one tenant, or for nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The pool.
    pub pool: String,
    /// The tenant, [`IDLE`] or [`UNALLOCATED`].
    pub tenant: String,
    /// Weighted usage, cut to nine digits.
    pub driver_units: Quantity,
    /// By use, in nano-units of the currency.
    pub direct: u128,
    /// Share of idle cost, in nano-units.
    pub idle_share: u128,
}

impl Allocation {
    /// Direct plus idle share.
    pub fn total(&self) -> u128 {
        self.direct + self.idle_share
    }
}

/// Splits the month's costs over the tenants and stores the split.
///
/// # Errors
/// [`BillingError::NoCosts`] if costs.yaml does not name the month; see [`BillingError`] for the rest.
pub async fn allocate(
    store: &Store,
    costs: &Costs,
    meters: &Meters,
    period: &Period,
    options: AllocateOptions,
) -> Result<AllocationReport> {
    let month = period.to_string();
    if !months(costs).contains(&month.as_str()) {
        let months = months(costs).join(", ");
        let months = if months.is_empty() { "none".to_owned() } else { months };
        return Err(BillingError::NoCosts { period: month, months });
    }
    let pools = costs.pools.iter().filter(|pool| pool.month == month);
    usage::check(meters, pools.flat_map(|pool| pool.drivers.keys().map(String::as_str)), period)?;
    let usage = usage::read(store, meters, period).await?;
    let rows = rows(costs, &month, &usage)?;
    let (costs_digest, usage_digest) = (digest::costs(costs, &month), usage.digest());
    let mut inputs = Digest::default();
    inputs.part(&month).part(period.zone.name()).part(&costs_digest).part(&usage_digest);
    let run_id = format!("allocation-{month}-{}", inputs.hex().get(..16).unwrap_or_default());

    let mut total: u128 = 0;
    for row in &rows {
        total = total.checked_add(row.total()).ok_or_else(too_large)?;
    }
    let run = stored::Run {
        run_id,
        period: month.clone(),
        zone: period.zone.name().to_owned(),
        costs_digest,
        usage_digest,
        currency: costs.currency,
        tenants: usage.tenants.len() as u64,
        total: nanos(total)?,
    };
    let newly_stored = !options.dry_run && stored::write(store, &run, &rows, options.now).await?;
    let titles = titles(costs, &month);
    report::from_rows(&run, &rows, &titles, newly_stored)
}

fn months(costs: &Costs) -> Vec<&str> {
    let mut months: Vec<&str> = costs.pools.iter().map(|pool| pool.month.as_str()).collect();
    months.extend(costs.unallocated.iter().map(|row| row.month.as_str()));
    months.sort_unstable();
    months.dedup();
    months
}

fn titles(costs: &Costs, month: &str) -> BTreeMap<String, String> {
    let pools = costs.pools.iter().filter(|pool| pool.month == month);
    let rows = costs.unallocated.iter().filter(|row| row.month == month);
    pools
        .map(|pool| (pool.name.clone(), pool.title.clone()))
        .chain(rows.map(|row| (row.name.clone(), row.title.clone())))
        .collect()
}

/// Every row of the month, pool by pool. Pure.
///
/// # Errors
/// If usage is negative, or numbers pass what the store's decimals hold.
pub fn rows(costs: &Costs, month: &str, usage: &PeriodUsage) -> Result<Vec<Allocation>> {
    let mut rows = Vec::new();
    for pool in costs.pools.iter().filter(|pool| pool.month == month) {
        pool_rows(pool, usage, &mut rows)?;
    }
    for row in costs.unallocated.iter().filter(|row| row.month == month) {
        rows.push(Allocation {
            pool: row.name.clone(),
            tenant: UNALLOCATED.to_owned(),
            driver_units: Quantity::ZERO,
            direct: amount_nanos(row.amount)?,
            idle_share: 0,
        });
    }
    Ok(rows)
}

fn pool_rows(pool: &Pool, usage: &PeriodUsage, rows: &mut Vec<Allocation>) -> Result<()> {
    let mut uses = Vec::with_capacity(usage.tenants.len());
    for (tenant, used) in &usage.tenants {
        uses.push(Use { tenant: tenant.clone(), units: units::of_tenant(pool, tenant, used)? });
    }
    let capacity = units::of_capacity(pool)?;
    let split = split(amount_nanos(pool.amount)?, &uses, capacity.as_ref(), pool.idle_policy);
    for (part, used) in split.parts.into_iter().zip(&uses) {
        if part.direct == 0 && part.idle_share == 0 && used.units == BigUint::ZERO {
            continue;
        }
        rows.push(Allocation {
            pool: pool.name.clone(),
            tenant: part.tenant,
            driver_units: display_units(&used.units)?,
            direct: part.direct,
            idle_share: part.idle_share,
        });
    }
    // Kept even when it is nothing where the pool has no driver: the row says so.
    if split.idle > 0 || pool.drivers.is_empty() {
        rows.push(Allocation {
            pool: pool.name.clone(),
            tenant: IDLE.to_owned(),
            driver_units: Quantity::ZERO,
            direct: split.idle,
            idle_share: 0,
        });
    }
    Ok(())
}

/// Units are 10⁻¹⁸ (nine digits of a weight, nine of a quantity); people and the store see nine.
fn display_units(units: &BigUint) -> Result<Quantity> {
    let nanos = i128::try_from(units / 1_000_000_000_u64).ok().map(Quantity::from_nanos);
    // Within 38 digits: what checked_add checks.
    nanos
        .and_then(|quantity| quantity.checked_add(Quantity::ZERO))
        .ok_or_else(|| BillingError::TooLarge { what: "a tenant's cost units".to_owned() })
}

/// A decimal that is not negative and has at most nine digits after the point, in units of 10⁻⁹.
fn amount_nanos(amount: Exact) -> Result<u128> {
    Quantity::from_decimal(amount.0)
        .and_then(|quantity| u128::try_from(quantity.nanos()).ok())
        .ok_or_else(|| BillingError::TooLarge { what: format!("{amount}, in units of 10^-9,") })
}

fn nanos(total: u128) -> Result<Quantity> {
    i128::try_from(total).map(Quantity::from_nanos).map_err(|_| too_large())
}

fn too_large() -> BillingError {
    BillingError::TooLarge { what: "the sum of all costs".to_owned() }
}

/// A sum of nano-units as a decimal of the currency.
fn decimal(amount: Quantity) -> Result<Decimal> {
    amount.to_decimal().ok_or_else(too_large)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rating::MeterUsage;
    use crate::usage::TenantUsage;
    use rentroll_schemas::yaml;
    use std::path::Path;

    fn costs(text: &str) -> Costs {
        yaml::parse(text, Path::new("costs.yaml")).unwrap()
    }

    fn usage(tenants: &[(&str, i64, i64)]) -> PeriodUsage {
        let used = |n: i64| MeterUsage { events: 1, quantity: Quantity::from_int(n) };
        let tenants = tenants.iter().map(|(tenant, requests, bytes)| {
            let totals = [("requests".to_owned(), used(*requests)), ("bytes".to_owned(), used(*bytes))];
            ((*tenant).to_owned(), TenantUsage { totals: totals.into(), ..TenantUsage::default() })
        });
        PeriodUsage { tenants: tenants.collect() }
    }

    fn of(rows: &[Allocation], pool: &str, tenant: &str) -> u128 {
        rows.iter().filter(|row| row.pool == pool && row.tenant == tenant).map(Allocation::total).sum()
    }

    const NANO: u128 = 1_000_000_000;

    #[test]
    fn several_drivers_are_weighted() {
        let costs = costs(
            "currency: USD
pools:
- {name: api, title: API, month: 2015-05, amount: 100, drivers: {requests: 1, bytes: 0.001}}
- {name: api, title: API, month: 2015-06, amount: 7}
unallocated: [{name: support, title: Support, month: 2015-05, amount: 12.34}]
",
        );
        // 10 + 10 against 80 + 0 units.
        let rows = rows(&costs, "2015-05", &usage(&[("a", 10, 10_000), ("b", 80, 0)])).unwrap();
        assert_eq!((of(&rows, "api", "a"), of(&rows, "api", "b")), (20 * NANO, 80 * NANO));
        assert_eq!(of(&rows, "support", UNALLOCATED), 12_340_000_000);
        assert_eq!(rows.len(), 3, "the other month's pool is left out");
    }

    #[test]
    fn a_pool_without_drivers_has_an_idle_row() {
        let costs = costs("{currency: USD, pools: [{name: x, title: X, month: 2015-05, amount: 5}]}");
        let rows = rows(&costs, "2015-05", &usage(&[("a", 1, 1)])).unwrap();
        assert_eq!((rows.len(), of(&rows, "x", IDLE)), (1, 5 * NANO));
    }

    #[test]
    fn usage_below_zero_is_refused() {
        let costs = costs(
            "{currency: USD, pools: [{name: x, title: X, month: 2015-05, amount: 5, drivers: {bytes: 1}}]}",
        );
        assert!(rows(&costs, "2015-05", &usage(&[("a", 1, -1)])).is_err());
    }
}
