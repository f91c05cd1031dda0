//! What was used in a period, for money: raw events, distinct by identity, beside the rollups.
//!
//! Raw events decide. What was voided or amended by a later event does not count
//! ([`effective`](rentroll_schemas::effective)). Duplicates are stopped before they are stored; should one have raced past, it is left
//! out here (the copy that arrived first counts), the rollups then show more than the events do, and the
//! difference is an error that names it: it is repaired first, never billed over.
//!
//! Events are read in slices by identity, so the store's memory follows [`SLICE_EVENTS`] and not the month.
//! In this process a month takes about 50 bytes per tenant, meter and day.
//!
//! Limit: copies of one identity whose times lie in different months are each the only one of their month.

mod compare;
mod queries;

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rentroll_engines::store::Store;
use rentroll_schemas::Quantity;
use rentroll_schemas::invoice::DailyUsage;
use rentroll_schemas::meter::{Aggregation, Meter, Meters};
use rentroll_schemas::period::Period;

pub use compare::{Difference, Mismatch};
pub(crate) use queries::{corrected_sql, first_events_sql, micros, rollups, tenant_sql};

use crate::digest;
use crate::error::{BillingError, Result};
use crate::rating::{MeterUsage, UsageByMeter};

/// Events per slice: a sort of this many rows takes some hundred megabytes in the store. Half of it doubles the
/// passes over a large month, twice as much no longer fits the embedded engine's default memory.
const SLICE_EVENTS: u64 = 1_000_000;

/// Usage of every tenant that has any.
#[derive(Clone, Debug, PartialEq)]
pub struct PeriodUsage {
    /// By tenant.
    pub tenants: BTreeMap<String, TenantUsage>,
}

/// Usage of one tenant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TenantUsage {
    /// By meter, over the period.
    pub totals: UsageByMeter,
    /// By meter and day in the billing zone, in that order; the totals are made of these.
    pub days: BTreeMap<(u16, NaiveDate), MeterUsage>,
}

impl TenantUsage {
    /// What its invoice is computed from, as a digest.
    pub fn digest(&self) -> String {
        digest::usage(&self.totals)
    }

    /// The appendix of an invoice: by day, then meter.
    pub(crate) fn daily(&self, meters: &Meters) -> Vec<DailyUsage> {
        let mut daily: Vec<DailyUsage> = self
            .days
            .iter()
            .filter_map(|((index, day), used)| {
                let meter = meters.meters.get(usize::from(*index))?;
                let (meter, unit) = (meter.name.clone(), meter.unit.clone());
                Some(DailyUsage { day: *day, meter, unit, events: used.events, quantity: used.quantity })
            })
            .collect();
        // Stable: meters stay in their order within a day.
        daily.sort_by_key(|usage| usage.day);
        daily
    }
}

impl PeriodUsage {
    /// Digest over all tenants.
    pub fn digest(&self) -> String {
        let digests: Vec<(&str, String)> =
            self.tenants.iter().map(|(tenant, usage)| (tenant.as_str(), usage.digest())).collect();
        digest::tenants(digests.iter().map(|(tenant, digest)| (*tenant, digest.as_str())))
    }
}

/// Reads the period's usage from raw events and compares it with the rollups.
///
/// # Errors
/// [`BillingError::BooksDiffer`] if they disagree; [`BillingError::Store`] if they cannot be read.
pub async fn read(store: &Store, meters: &Meters, period: &Period) -> Result<PeriodUsage> {
    let usage = read_raw(store, meters, period, SLICE_EVENTS).await?;
    let rollups = queries::rollups(store, meters, period).await?;
    compare::compare(&usage, &rollups, meters).map_err(BillingError::BooksDiffer)?;
    Ok(usage)
}

async fn read_raw(store: &Store, meters: &Meters, period: &Period, slice_events: u64) -> Result<PeriodUsage> {
    let slices = queries::count_events(store, period).await?.div_ceil(slice_events).max(1);
    let mut tenants: BTreeMap<String, TenantUsage> = BTreeMap::new();
    for (index, meter) in meters.meters.iter().enumerate() {
        let index = u16::try_from(index)
            .map_err(|_| BillingError::TooLarge { what: "the number of meters".to_owned() })?;
        for slice in 0..slices {
            for row in queries::raw(store, meter, period, slice, slices).await? {
                let usage = tenants.entry(row.tenant).or_default();
                let day = usage.days.entry((index, row.day)).or_insert_with(|| none(meter, row.usage));
                *day = combine(meter, *day, row.usage)?;
            }
        }
        for usage in tenants.values_mut() {
            let mut total: Option<MeterUsage> = None;
            for (_, day) in usage.days.range((index, NaiveDate::MIN)..=(index, NaiveDate::MAX)) {
                total = Some(combine(meter, total.unwrap_or_else(|| none(meter, *day)), *day)?);
            }
            if let Some(total) = total {
                usage.totals.insert(meter.name.clone(), total);
            }
        }
    }
    Ok(PeriodUsage { tenants })
}

/// What combines with `first` to `first`.
fn none(meter: &Meter, first: MeterUsage) -> MeterUsage {
    match meter.aggregation {
        Aggregation::Count | Aggregation::Sum => MeterUsage::default(),
        _ => MeterUsage { events: 0, quantity: first.quantity },
    }
}

/// Two disjoint sets of events of one meter, taken together.
pub(crate) fn combine(meter: &Meter, a: MeterUsage, b: MeterUsage) -> Result<MeterUsage> {
    let too_large = || BillingError::TooLarge { what: format!("a tenant's total of meter `{}`", meter.name) };
    let quantity: Quantity = match meter.aggregation {
        Aggregation::Count | Aggregation::Sum => a.quantity.checked_add(b.quantity).ok_or_else(too_large)?,
        Aggregation::Min => a.quantity.min(b.quantity),
        _ => a.quantity.max(b.quantity),
    };
    Ok(MeterUsage { events: a.events + b.events, quantity })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_month_in_slices_is_the_month() {
        let store = common::store("slices").await;
        common::send_many(&store, 40, 5).await;
        let period = Period::parse("2015-05", chrono_tz::Tz::UTC).unwrap();
        let whole = read_raw(&store, &common::meters(), &period, 1_000_000).await.unwrap();
        assert_eq!(whole.tenants.len(), 40);
        assert!(whole.tenants.values().all(|used| used.totals["requests"].events == 5));
        for slice_events in [7, 60] {
            let sliced = read_raw(&store, &common::meters(), &period, slice_events).await.unwrap();
            assert_eq!(sliced, whole, "{slice_events}");
        }
    }

    fn meter(aggregation: Aggregation) -> Meter {
        Meter {
            name: "m".to_owned(),
            description: String::new(),
            unit: "u".to_owned(),
            event_type: "t".to_owned(),
            aggregation,
            value: None,
            filter: BTreeMap::new(),
            group_by: Vec::new(),
            ..Meter::default()
        }
    }

    #[test]
    fn slices_and_days_combine_as_the_whole_would() {
        for (aggregation, expected) in
            [(Aggregation::Count, 9), (Aggregation::Sum, 9), (Aggregation::Min, 2), (Aggregation::Max, 4)]
        {
            let meter = meter(aggregation);
            let used = |n| MeterUsage { events: 1, quantity: Quantity::from_int(n) };
            let mut total = none(&meter, used(3));
            for n in [3, 2, 4] {
                total = combine(&meter, total, used(n)).unwrap();
            }
            assert_eq!((total.events, total.quantity), (3, Quantity::from_int(expected)), "{aggregation:?}");
        }
    }
}
