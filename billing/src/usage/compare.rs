//! Raw events against rollups: the quantity itself where a rollup has it, else the number of events and the sum of their values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::Raw;
use crate::rating::MeterUsage;

/// How many differences are named; the rest are counted.
const NAMED_MAX: usize = 10;

/// One place where they differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The meter.
    pub meter: String,
    /// The tenant.
    pub tenant: String,
    /// By raw events, distinct by identity. Of a meter whose quantity the rollups do not have: the sum of values.
    pub raw: MeterUsage,
    /// By the rollups.
    pub rollup: MeterUsage,
}

/// The first differences, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// How many tenants and meters differ.
    pub count: usize,
    /// The first of them.
    pub first: Vec<Difference>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "raw events and rollups differ in {} places; nothing was billed; \
             `rentroll books --rollups --repair` puts the rollups right",
            self.count
        )?;
        for difference in &self.first {
            write!(
                f,
                "\n  {} of tenant `{}`: {} in {} events by raw events, {} in {} events by rollups",
                difference.meter,
                difference.tenant,
                difference.raw.quantity,
                difference.raw.events,
                difference.rollup.quantity,
                difference.rollup.events
            )?;
        }
        if self.count > self.first.len() {
            write!(f, "\n  and {} more", self.count - self.first.len())?;
        }
        Ok(())
    }
}

/// Holds what raw events give against what the rollups say. `rollups` has the meters that are compared, by (meter, tenant).
pub(super) fn compare(raw: &Raw, rollups: &BTreeMap<(String, String), MeterUsage>) -> Result<(), Mismatch> {
    let mut places: BTreeSet<(&str, &str)> =
        rollups.keys().map(|(meter, tenant)| (tenant.as_str(), meter.as_str())).collect();
    for (tenant, used) in &raw.usage.tenants {
        places.extend(used.totals.keys().map(|meter| (tenant.as_str(), meter.as_str())));
    }
    let mut mismatch = Mismatch { count: 0, first: Vec::new() };
    for (tenant, meter) in places {
        let key = (meter.to_owned(), tenant.to_owned());
        let total = || raw.usage.tenants.get(tenant).and_then(|used| used.totals.get(meter));
        let by_events = raw.rolled.get(&key).or_else(total).copied().unwrap_or_default();
        let by_rollups = rollups.get(&key).copied().unwrap_or_default();
        if by_events == by_rollups {
            continue;
        }
        mismatch.count += 1;
        if mismatch.first.len() < NAMED_MAX {
            let (meter, tenant) = key;
            mismatch.first.push(Difference { meter, tenant, raw: by_events, rollup: by_rollups });
        }
    }
    if mismatch.count == 0 { Ok(()) } else { Err(mismatch) }
}
