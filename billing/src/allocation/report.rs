//! What an allocation came to: of the rows just computed, or of the newest run that is stored.

use std::collections::BTreeMap;

use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::Quantity;
use rentroll_schemas::costs::{IDLE, UNALLOCATED};
use rentroll_schemas::currency::{Currency, Exact};
use serde::{Deserialize, Serialize};

use super::stored::Run;
use super::{Allocation, decimal, nanos};
use crate::error::{BillingError, Result};

/// An allocation's result; amounts are exact decimal strings in `currency`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AllocationReport {
    /// The month, `YYYY-MM`.
    pub period: String,
    /// The billing zone.
    pub zone: String,
    /// Digest of the inputs, as a name.
    pub run_id: String,
    /// The currency of all amounts.
    pub currency: Currency,
    /// Whether this run stored it; not so on a dry run, or if it was stored before.
    pub newly_stored: bool,
    /// Tenants with any usage.
    pub tenants: u64,
    /// By pool.
    pub pools: Vec<PoolReport>,
    /// Borne by tenants.
    pub allocated: Exact,
    /// Borne by nobody, because nobody used it.
    pub idle: Exact,
    /// Borne by nobody, because it has no tenant.
    pub unallocated: Exact,
    /// What was spent: the three above.
    pub total: Exact,
    /// Digest of the usage.
    pub usage_digest: String,
    /// Digest of the month's pools.
    pub costs_digest: String,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PoolReport {
    /// The pool.
    pub pool: String,
    /// Its name for people.
    pub title: String,
    /// Borne by tenants, by use.
    pub direct: Exact,
    /// Borne by tenants, as their share of idle cost.
    pub idle_shared: Exact,
    /// Idle and kept apart.
    pub idle: Exact,
    /// Without a tenant.
    pub unallocated: Exact,
    /// The pool's amount: the four above.
    pub total: Exact,
    /// Tenants that bear any of it.
    pub tenants: u64,
}

/// One tenant's cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TenantCost {
    /// The tenant, `__idle__` or `__unallocated__`.
    pub tenant: String,
    /// By pool.
    pub pools: BTreeMap<String, Exact>,
    /// Over all pools.
    pub total: Exact,
}

/// Sums of one pool, in nano-units.
#[derive(Default)]
struct Sums {
    direct: u128,
    idle_shared: u128,
    idle: u128,
    unallocated: u128,
    tenants: u64,
}

pub(super) fn from_rows(
    run: &Run,
    rows: &[Allocation],
    titles: &BTreeMap<String, String>,
    newly_stored: bool,
) -> Result<AllocationReport> {
    let mut names: Vec<&str> = Vec::new();
    let mut by_pool: BTreeMap<&str, Sums> = BTreeMap::new();
    for row in rows {
        if !by_pool.contains_key(row.pool.as_str()) {
            names.push(&row.pool);
        }
        let sums = by_pool.entry(&row.pool).or_default();
        match row.tenant.as_str() {
            IDLE => sums.idle += row.total(),
            UNALLOCATED => sums.unallocated += row.total(),
            _ => {
                sums.direct += row.direct;
                sums.idle_shared += row.idle_share;
                sums.tenants += u64::from(row.total() > 0);
            }
        }
    }
    let exact = |amount: u128| Ok::<Exact, BillingError>(Exact(decimal(nanos(amount)?)?));
    let mut pools = Vec::with_capacity(names.len());
    let (mut allocated, mut idle, mut unallocated) = (0, 0, 0);
    for name in names {
        let Some(sums) = by_pool.get(name) else { continue };
        allocated += sums.direct + sums.idle_shared;
        idle += sums.idle;
        unallocated += sums.unallocated;
        pools.push(PoolReport {
            pool: name.to_owned(),
            title: titles.get(name).cloned().unwrap_or_else(|| name.to_owned()),
            direct: exact(sums.direct)?,
            idle_shared: exact(sums.idle_shared)?,
            idle: exact(sums.idle)?,
            unallocated: exact(sums.unallocated)?,
            total: exact(sums.direct + sums.idle_shared + sums.idle + sums.unallocated)?,
            tenants: sums.tenants,
        });
    }
    Ok(AllocationReport {
        period: run.period.clone(),
        zone: run.zone.clone(),
        run_id: run.run_id.clone(),
        currency: run.currency,
        newly_stored,
        tenants: run.tenants,
        pools,
        allocated: exact(allocated)?,
        idle: exact(idle)?,
        unallocated: exact(unallocated)?,
        total: exact(allocated + idle + unallocated)?,
        usage_digest: run.usage_digest.clone(),
        costs_digest: run.costs_digest.clone(),
    })
}

#[derive(Row, Deserialize)]
struct RunRow {
    run_id: String,
    zone: String,
    costs_digest: String,
    usage_digest: String,
    currency: String,
    tenants: u64,
    total_text: String,
}

#[derive(Row, Deserialize)]
struct AllocationRow {
    pool: String,
    tenant: String,
    units_text: String,
    direct_text: String,
    idle_text: String,
}

/// The newest allocation of a month, from the store.
///
/// # Errors
/// [`BillingError::NotAllocated`] if there is none.
pub async fn latest(store: &Store, period: &str) -> Result<AllocationReport> {
    let run = newest(store, period).await?;
    let rows = read_rows(store, &run, None).await?;
    from_rows(&run, &rows, &BTreeMap::new(), false)
}

/// What tenants cost in the newest allocation of a month, dearest first, `__idle__` and `__unallocated__`
/// last; `tenant` alone if given.
///
/// # Errors
/// [`BillingError::NotAllocated`] if there is no allocation.
pub async fn tenants(store: &Store, period: &str, tenant: Option<&str>) -> Result<Vec<TenantCost>> {
    let run = newest(store, period).await?;
    let mut by_tenant: BTreeMap<String, BTreeMap<String, u128>> = BTreeMap::new();
    for row in read_rows(store, &run, tenant).await? {
        let total = row.total();
        *by_tenant.entry(row.tenant).or_default().entry(row.pool).or_default() += total;
    }
    let mut costs = Vec::with_capacity(by_tenant.len());
    for (tenant, pools) in by_tenant {
        let total: u128 = pools.values().sum();
        let mut exact = BTreeMap::new();
        for (pool, amount) in pools {
            exact.insert(pool, Exact(decimal(nanos(amount)?)?));
        }
        costs.push(TenantCost { tenant, pools: exact, total: Exact(decimal(nanos(total)?)?) });
    }
    let is_nobody = |tenant: &str| tenant == IDLE || tenant == UNALLOCATED;
    costs.sort_by(|a, b| {
        is_nobody(&a.tenant)
            .cmp(&is_nobody(&b.tenant))
            .then_with(|| b.total.cmp(&a.total))
            .then_with(|| a.tenant.cmp(&b.tenant))
    });
    Ok(costs)
}

/// The rows of the newest allocation of a month, by pool and tenant.
///
/// # Errors
/// [`BillingError::NotAllocated`] if there is no allocation.
pub async fn latest_rows(store: &Store, period: &str) -> Result<Vec<Allocation>> {
    let run = newest(store, period).await?;
    read_rows(store, &run, None).await
}

async fn newest(store: &Store, period: &str) -> Result<Run> {
    let row: RunRow = store
        .client()
        .query(
            "SELECT run_id, zone, costs_digest, usage_digest, currency, tenants, toString(total) AS total_text \
             FROM allocation_runs WHERE period = {period:String} ORDER BY created_at DESC, run_id DESC LIMIT 1",
        )
        .param("period", period)
        .fetch_optional()
        .await
        .map_err(|source| failed(store, source))?
        .ok_or_else(|| BillingError::NotAllocated { period: period.to_owned() })?;
    let content =
        |reason: String| BillingError::Content { what: format!("the allocation of {period}"), reason };
    Ok(Run {
        currency: row.currency.parse().map_err(|error| content(format!("{error}")))?,
        total: row.total_text.parse().map_err(|error| content(format!("{error}")))?,
        run_id: row.run_id,
        period: period.to_owned(),
        zone: row.zone,
        costs_digest: row.costs_digest,
        usage_digest: row.usage_digest,
        tenants: row.tenants,
    })
}

async fn read_rows(store: &Store, run: &Run, tenant: Option<&str>) -> Result<Vec<Allocation>> {
    let rows: Vec<AllocationRow> = store
        .client()
        .query(
            "SELECT pool, tenant, toString(driver_units) AS units_text, toString(direct) AS direct_text, \
             toString(idle_share) AS idle_text FROM allocations \
             WHERE period = {period:String} AND run_id = {run_id:String} \
             AND ({tenant:String} = '' OR tenant = {tenant:String}) ORDER BY pool, tenant",
        )
        .param("period", &run.period)
        .param("run_id", &run.run_id)
        .param("tenant", tenant.unwrap_or_default())
        .fetch_all()
        .await
        .map_err(|source| failed(store, source))?;
    rows.into_iter()
        .map(|row| {
            Ok(Allocation {
                direct: amount(&row.direct_text)?,
                idle_share: amount(&row.idle_text)?,
                driver_units: quantity(&row.units_text)?,
                pool: row.pool,
                tenant: row.tenant,
            })
        })
        .collect()
}

fn quantity(text: &str) -> Result<Quantity> {
    text.parse().map_err(|error| BillingError::Content {
        what: format!("the allocated amount `{text}`"),
        reason: format!("{error}"),
    })
}

fn amount(text: &str) -> Result<u128> {
    u128::try_from(quantity(text)?.nanos()).map_err(|_| BillingError::Content {
        what: format!("the allocated amount `{text}`"),
        reason: "it is negative".to_owned(),
    })
}

fn failed(store: &Store, source: clickhouse::error::Error) -> BillingError {
    BillingError::Store { what: "reading allocations", source: store.error(source) }
}
