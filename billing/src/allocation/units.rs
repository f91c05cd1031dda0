//! Cost units: `Σ weight · quantity`, exact, in units of 10⁻¹⁸ (nine digits of a weight, nine of a quantity).

use num_bigint::BigUint;
use rentroll_schemas::Quantity;
use rentroll_schemas::costs::Pool;
use rentroll_schemas::currency::Exact;

use super::amount_nanos;
use crate::error::{BillingError, Result};
use crate::usage::TenantUsage;

/// Of one tenant.
pub(super) fn of_tenant(pool: &Pool, tenant: &str, used: &TenantUsage) -> Result<BigUint> {
    let mut units = BigUint::ZERO;
    for (meter, weight) in &pool.drivers {
        let quantity = used.totals.get(meter).map(|used| used.quantity).unwrap_or_default();
        units += of_quantity(quantity, *weight, tenant, meter)?;
    }
    Ok(units)
}

/// Of one driver's quantity.
pub(super) fn of_quantity(quantity: Quantity, weight: Exact, tenant: &str, meter: &str) -> Result<BigUint> {
    let nanos = u128::try_from(quantity.nanos()).map_err(|_| BillingError::Content {
        what: format!("the usage of tenant `{tenant}`"),
        reason: format!("{meter} comes to {quantity}: usage below zero takes no cost"),
    })?;
    Ok(BigUint::from(nanos) * amount_nanos(weight)?)
}

/// Of what was paid for, if the pool states it.
pub(super) fn of_capacity(pool: &Pool) -> Result<Option<BigUint>> {
    let mut capacity = None;
    for (meter, paid_for) in &pool.capacity {
        let weight = pool.drivers.get(meter).copied().unwrap_or_default();
        let units = BigUint::from(amount_nanos(*paid_for)?) * amount_nanos(weight)?;
        *capacity.get_or_insert(BigUint::ZERO) += units;
    }
    Ok(capacity)
}
