//! What was used in a period, for money: raw events, distinct by identity, beside the rollups.
//!
//! Raw events decide. What was voided or amended by a later event does not count
//! ([`effective`](rentroll_schemas::effective)). Duplicates are stopped before they are stored; should one have raced past, it is left
//! out here (the copy that arrived first counts), the rollups then show more than the events do, and the
//! difference is an error that names it: it is repaired first, never billed over.
//!
//! Quantities are exact. An average, a rate and a level are divided once, at the end, and rounded half away from zero at nine
//! decimals. Counts and sums of days add up to the period's; so do byte-hours, but for that rounding. Of a unique count, a
//! percentile, an average, a rate and a level per window they do not: each day has its own.
//!
//! **Versions** of a meter are taken together: each event counts as the version says that was in force at its time. Versions
//! that make no one quantity (a sum and a maximum, two units) are refused where they are priced.
//!
//! **Levels** hold until the next sample of their series, the last one until the end of the period, even of one that is not
//! over. What was last sampled before is carried in: the rollups know the day, and that day's events are read.
//!
//! Events are read in slices, by identity or by tenant, so the store's memory follows [`SLICE_EVENTS`] and not the month.
//! In this process a month takes about 70 bytes per tenant, meter and day.
//!
//! Limits:
//! - Copies of one identity whose times lie in different months are each the only one of their month.
//! - Unique counts, latest values, percentiles and levels take all of a tenant's events of one meter at once: about
//!   100 bytes of the store's memory for each.
//! - A level whose last sample is past the events' retention is not carried in.
//! - Where a version reads fewer events than the one before, what it carries in is looked for on the last day on which the
//!   series had any sample.

mod compare;
mod explained;
mod levels;
mod queries;
mod read;
mod rollups;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;
use rentroll_engines::store::Store;
use rentroll_schemas::invoice::{DailyUsage, PeriodTotal};
use rentroll_schemas::meter::Meters;
use rentroll_schemas::period::Period;

pub use compare::{Difference, Mismatch};
pub(crate) use explained::Explained;
pub(crate) use read::combine;
pub use versions::MixedVersions;
pub(crate) use versions::check;

use crate::digest;
use crate::error::{BillingError, Result};
use crate::rating::{MeterUsage, UsageByMeter};
use versions::Versions;

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
    /// By meter and day in the billing zone, in that order. Each is the day's own: the totals of counts, sums and extremes
    /// are made of these, others are not.
    pub days: BTreeMap<(Arc<str>, NaiveDate), MeterUsage>,
}

impl TenantUsage {
    /// What its invoice is computed from, as a digest.
    pub fn digest(&self) -> String {
        digest::usage(&self.totals)
    }

    /// The appendix of an invoice: by day, then meter.
    pub(crate) fn daily(&self, meters: &Meters, period: &Period) -> Vec<DailyUsage> {
        let known = known(meters, period);
        let mut daily: Vec<(usize, DailyUsage)> = Vec::with_capacity(self.days.len());
        for ((name, day), used) in &self.days {
            let Some(place) = known.iter().position(|(meter, _)| *meter == &**name) else { continue };
            let (meter, unit) = (name.to_string(), known[place].1.to_owned());
            let MeterUsage { events, quantity } = *used;
            daily.push((place, DailyUsage { day: *day, meter, unit, events, quantity }));
        }
        // Meters stay in their order within a day.
        daily.sort_by_key(|(place, usage)| (usage.day, *place));
        daily.into_iter().map(|(_, usage)| usage).collect()
    }

    /// What was used of each meter, those that were not used included.
    pub(crate) fn by_meter(&self, meters: &Meters, period: &Period) -> Vec<PeriodTotal> {
        let of = |(meter, unit): (&str, &str)| {
            let MeterUsage { events, quantity } = self.totals.get(meter).copied().unwrap_or_default();
            PeriodTotal { meter: meter.to_owned(), unit: unit.to_owned(), events, quantity }
        };
        known(meters, period).into_iter().map(of).collect()
    }
}

/// The meters that have a quantity in the period, and their units then.
fn known<'a>(meters: &'a Meters, period: &Period) -> Vec<(&'a str, &'a str)> {
    let newest = Versions::of_all(meters, period).into_iter().map(|versions| versions.newest());
    newest.map(|meter| (meter.name.as_str(), meter.unit.as_str())).collect()
}

impl PeriodUsage {
    /// Digest over all tenants.
    pub fn digest(&self) -> String {
        let digests: Vec<(&str, String)> =
            self.tenants.iter().map(|(tenant, usage)| (tenant.as_str(), usage.digest())).collect();
        digest::tenants(digests.iter().map(|(tenant, digest)| (*tenant, digest.as_str())))
    }
}

/// What raw events give, and what the rollups should say where that is not it: by meter and tenant.
#[derive(Debug, PartialEq)]
struct Raw {
    usage: PeriodUsage,
    rolled: BTreeMap<(String, String), MeterUsage>,
}

/// Reads the period's usage from raw events and compares it with the rollups.
///
/// # Errors
/// [`BillingError::BooksDiffer`] if they disagree; [`BillingError::Store`] if they cannot be read.
pub async fn read(store: &Store, meters: &Meters, period: &Period) -> Result<PeriodUsage> {
    let raw = read_raw(store, meters, period, SLICE_EVENTS).await?;
    let rollups = rollups::read(store, meters, period).await?;
    compare::compare(&raw, &rollups).map_err(BillingError::BooksDiffer)?;
    Ok(raw.usage)
}

/// (meter, tenant) → usage, to be looked at: from the rollups where they answer.
pub(crate) async fn glance(
    store: &Store,
    meters: &Meters,
    period: &Period,
) -> Result<BTreeMap<(String, String), MeterUsage>> {
    let mut usage = BTreeMap::new();
    let mut slices = None;
    for versions in Versions::of_all(meters, period) {
        let name = &versions.newest().name;
        if let Some(tenants) = rollups::answer(store, &versions, period).await? {
            usage.extend(tenants.into_iter().map(|(tenant, used)| ((name.clone(), tenant), used)));
            continue;
        }
        let count = match slices {
            Some(count) => count,
            None => *slices.insert(slice_count(store, period, SLICE_EVENTS).await?),
        };
        let tenants = read::all(store, &versions, period, count).await?;
        usage.extend(tenants.into_iter().map(|(tenant, used)| ((name.clone(), tenant), used.total)));
    }
    Ok(usage)
}

async fn slice_count(store: &Store, period: &Period, slice_events: u64) -> Result<u64> {
    let events: u64 = store
        .client()
        .query(
            "SELECT count() FROM events \
             WHERE time >= fromUnixTimestamp64Micro({from:Int64}) AND time < fromUnixTimestamp64Micro({to:Int64})",
        )
        .param("from", period.from.timestamp_micros())
        .param("to", period.to.timestamp_micros())
        .fetch_one()
        .await
        .map_err(|source| BillingError::Store {
            what: "counting the period's events",
            source: store.error(source),
        })?;
    Ok(events.div_ceil(slice_events).max(1))
}

async fn read_raw(store: &Store, meters: &Meters, period: &Period, slice_events: u64) -> Result<Raw> {
    let slices = slice_count(store, period, slice_events).await?;
    let mut tenants: BTreeMap<String, TenantUsage> = BTreeMap::new();
    let mut rolled = BTreeMap::new();
    for versions in Versions::of_all(meters, period) {
        let name: Arc<str> = Arc::from(versions.newest().name.as_str());
        for (tenant, used) in read::all(store, &versions, period, slices).await? {
            if let Some(events) = used.rolled {
                rolled.insert((name.to_string(), tenant.clone()), events);
            }
            let of_tenant = tenants.entry(tenant).or_default();
            of_tenant.totals.insert(name.to_string(), used.total);
            of_tenant.days.extend(used.days.into_iter().map(|(day, used)| ((name.clone(), day), used)));
        }
    }
    Ok(Raw { usage: PeriodUsage { tenants }, rolled })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_month_in_slices_is_the_month() {
        let store = common::store("slices").await;
        common::send_many(&store, 40, 5).await;
        let mut meters = common::meters();
        for aggregation in ["avg", "unique_count", "latest", "time_weighted", "percentile, percentile: 50"] {
            let name = aggregation.split(',').next().unwrap();
            let yaml = format!(
                "meters: [{{name: of_{name}, unit: u, event_type: http.request, value: bytes, aggregation: {aggregation}}}]"
            );
            let one: Meters =
                rentroll_schemas::yaml::parse(&yaml, std::path::Path::new("meters.yaml")).unwrap();
            meters.meters.extend(one.meters);
        }
        let period = Period::parse("2015-05", chrono_tz::Tz::UTC).unwrap();
        let whole = read_raw(&store, &meters, &period, 1_000_000).await.unwrap();
        assert_eq!(whole.usage.tenants.len(), 40);
        assert!(whole.usage.tenants.values().all(|used| used.totals["requests"].events == 5));
        assert!(whole.usage.tenants.values().all(|used| used.totals.len() == 7));
        for slice_events in [7, 60] {
            let sliced = read_raw(&store, &meters, &period, slice_events).await.unwrap();
            assert_eq!(sliced, whole, "{slice_events}");
        }
    }
}
