//! One meter's usage in a period, by what it aggregates: how it is read, and how slices become wholes.
//!
//! - **Parts** (count, sum, min, max, avg, rate): by tenant and day from slices by identity; a period is made of its days.
//!   An average is divided when all is together, as is a rate.
//! - **Wholes** (unique_count, latest, percentile): what two days come to does not follow from what each comes to. Period and
//!   days are computed side by side, from slices by tenant.
//! - **Levels** (time_weighted): the series of a tenant, in slices by tenant, are weighed in this process
//!   ([`levels`]).

use std::collections::BTreeMap;

use chrono::NaiveDate;
use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::Quantity;
use rentroll_schemas::level::Share;
use rentroll_schemas::meter::{Aggregation, Meter, Per};
use rentroll_schemas::period::Period;
use serde::Deserialize;

use super::levels;
use super::queries::{self, Scope, Slice, bind};
use super::versions::Versions;
use crate::error::{BillingError, Result};
use crate::rating::MeterUsage;

/// One tenant's usage of one meter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OfMeter {
    /// Over the period.
    pub(super) total: MeterUsage,
    /// By day; each day's own, whether or not days add up.
    pub(super) days: BTreeMap<NaiveDate, MeterUsage>,
    /// What the rollups should say, if it is not the total: events, and the sum of their values.
    pub(super) rolled: Option<MeterUsage>,
}

/// How a meter's usage is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Parts,
    Wholes,
    Levels,
}

const fn way(aggregation: Aggregation) -> Way {
    match aggregation {
        Aggregation::Count
        | Aggregation::Sum
        | Aggregation::Min
        | Aggregation::Max
        | Aggregation::Avg
        | Aggregation::Rate => Way::Parts,
        Aggregation::UniqueCount | Aggregation::Latest | Aggregation::Percentile => Way::Wholes,
        Aggregation::TimeWeighted => Way::Levels,
    }
}

#[derive(Row, Deserialize)]
struct DayLine {
    tenant: String,
    day_number: u16,
    counted: u64,
    quantity: String,
}

#[derive(Row, Deserialize)]
struct WholeLine {
    tenant: String,
    is_whole: u8,
    day_number: u16,
    counted: u64,
    total: String,
    quantity: String,
}

#[derive(Row, Deserialize)]
struct TenantLine {
    counted: u64,
    quantity: String,
}

const WHAT: &str = "reading usage from raw events";

/// Usage of one meter by every tenant that has any, in `slices` parts.
pub(super) async fn all(
    store: &Store,
    versions: &Versions<'_>,
    period: &Period,
    slices: u64,
) -> Result<BTreeMap<String, OfMeter>> {
    let mut tenants = BTreeMap::new();
    for slice in 0..slices {
        let slice = Slice { slice, slices };
        match way(versions.newest().aggregation) {
            Way::Parts => parts(store, versions, period, slice, &mut tenants).await?,
            Way::Wholes => wholes(store, versions, period, slice, &mut tenants).await?,
            Way::Levels => levels::read(store, versions, period, Scope::Tenants(slice), &mut tenants).await?,
        }
    }
    if way(versions.newest().aggregation) == Way::Parts {
        for used in tenants.values_mut() {
            finish_parts(versions, period, used)?;
        }
    }
    Ok(tenants)
}

/// Usage of one meter by one tenant.
pub(crate) async fn of_tenant(
    store: &Store,
    versions: &Versions<'_>,
    period: &Period,
    tenant: &str,
) -> Result<MeterUsage> {
    let (meter, scope) = (versions.newest(), Scope::Tenant(tenant));
    if way(meter.aggregation) == Way::Levels {
        let mut tenants = BTreeMap::new();
        levels::read(store, versions, period, scope, &mut tenants).await?;
        return Ok(tenants.remove(tenant).unwrap_or_default().total);
    }
    let query = bind(scope.query(store, &queries::tenant_sql(versions)), span(versions));
    let line: TenantLine = query.fetch_one().await.map_err(|source| failed(store, source))?;
    let read = MeterUsage { events: line.counted, quantity: quantity(tenant, &line.quantity)? };
    finish(meter, read, length_micros(versions))
}

async fn parts(
    store: &Store,
    versions: &Versions<'_>,
    period: &Period,
    slice: Slice,
    tenants: &mut BTreeMap<String, OfMeter>,
) -> Result<()> {
    let (meter, scope) = (versions.newest(), Scope::Identities(slice));
    let mut cursor = bind(scope.query(store, &queries::days_sql(versions, scope)), span(versions))
        .param("zone", period.zone.name())
        .fetch::<DayLine>()
        .map_err(|source| failed(store, source))?;
    while let Some(line) = cursor.next().await.map_err(|source| failed(store, source))? {
        let part = MeterUsage { events: line.counted, quantity: quantity(&line.tenant, &line.quantity)? };
        let days = &mut tenants.entry(line.tenant).or_default().days;
        let all = match days.get(&day(line.day_number)) {
            Some(known) => combine(meter, *known, part)?,
            None => part,
        };
        days.insert(day(line.day_number), all);
    }
    Ok(())
}

/// Makes the total of the days, and divides what is to be divided.
fn finish_parts(versions: &Versions<'_>, period: &Period, used: &mut OfMeter) -> Result<()> {
    let meter = versions.newest();
    let mut total: Option<MeterUsage> = None;
    for day in used.days.values() {
        total = Some(total.map_or(Ok(*day), |total| combine(meter, total, *day))?);
    }
    let total = total.unwrap_or_default();
    used.total = finish(meter, total, length_micros(versions))?;
    if !matches!(meter.aggregation, Aggregation::Avg | Aggregation::Rate) {
        return Ok(());
    }
    used.rolled = Some(total);
    for (day, from, to) in period.days() {
        if let Some(known) = used.days.get_mut(&day) {
            let micros = u64::try_from((to - from).num_microseconds().unwrap_or_default());
            *known = finish(meter, *known, micros.unwrap_or_default())?;
        }
    }
    Ok(())
}

async fn wholes(
    store: &Store,
    versions: &Versions<'_>,
    period: &Period,
    slice: Slice,
    tenants: &mut BTreeMap<String, OfMeter>,
) -> Result<()> {
    let scope = Scope::Tenants(slice);
    let mut cursor = bind(scope.query(store, &queries::whole_sql(versions, scope)), span(versions))
        .param("zone", period.zone.name())
        .fetch::<WholeLine>()
        .map_err(|source| failed(store, source))?;
    while let Some(line) = cursor.next().await.map_err(|source| failed(store, source))? {
        let used = MeterUsage { events: line.counted, quantity: quantity(&line.tenant, &line.quantity)? };
        let rolled = MeterUsage { events: line.counted, quantity: quantity(&line.tenant, &line.total)? };
        let of_tenant = tenants.entry(line.tenant).or_default();
        if line.is_whole == 1 {
            (of_tenant.total, of_tenant.rolled) = (used, Some(rolled));
        } else {
            of_tenant.days.insert(day(line.day_number), used);
        }
    }
    Ok(())
}

/// Two disjoint sets of events of one meter, taken together, as their rollups would be. Of an average and of a rate these are
/// sums, which [`finish`] divides.
pub(crate) fn combine(meter: &Meter, a: MeterUsage, b: MeterUsage) -> Result<MeterUsage> {
    let quantity = match meter.aggregation {
        Aggregation::Min => a.quantity.min(b.quantity),
        Aggregation::Max => a.quantity.max(b.quantity),
        _ => a.quantity.checked_add(b.quantity).ok_or_else(|| too_large(meter))?,
    };
    Ok(MeterUsage { events: a.events + b.events, quantity })
}

/// The quantity of a meter, if `used` has what its rollups have: an average is the sum divided by the events, a rate the sum
/// by the time; rounded once, half away from zero at nine decimals.
pub(crate) fn finish(meter: &Meter, used: MeterUsage, length_micros: u64) -> Result<MeterUsage> {
    let share = |divisor: u64, times: u64| {
        let mut share = Share::by(divisor);
        share.add(used.quantity, times).ok_or_else(|| too_large(meter))?;
        Ok::<Quantity, BillingError>(share.quantity())
    };
    let quantity = match (meter.aggregation, meter.per.and_then(Per::seconds)) {
        (Aggregation::Avg, _) => share(used.events, 1)?,
        (Aggregation::Rate, _) if meter.per == Some(Per::Window) => used.quantity,
        (Aggregation::Rate, seconds) => {
            share(length_micros, seconds.unwrap_or(1).unsigned_abs() * 1_000_000)?
        }
        _ => used.quantity,
    };
    Ok(MeterUsage { quantity, ..used })
}

/// The length of the span.
pub(super) fn length_micros(versions: &Versions<'_>) -> u64 {
    let (from, to) = versions.span();
    u64::try_from(to - from).unwrap_or_default()
}

fn span(versions: &Versions<'_>) -> [(&'static str, i64); 2] {
    let (from, to) = versions.span();
    [("from", from), ("to", to)]
}

fn day(number: u16) -> NaiveDate {
    NaiveDate::from_epoch_days(i32::from(number)).unwrap_or_default()
}

pub(super) fn quantity(tenant: &str, text: &str) -> Result<Quantity> {
    text.parse().map_err(|error| BillingError::Content {
        what: format!("the usage of tenant `{tenant}`"),
        reason: format!("{error}"),
    })
}

pub(super) fn too_large(meter: &Meter) -> BillingError {
    BillingError::TooLarge { what: format!("a tenant's total of meter `{}`", meter.name) }
}

pub(super) fn failed(store: &Store, source: clickhouse::error::Error) -> BillingError {
    BillingError::Store { what: WHAT, source: store.error(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(aggregation: Aggregation) -> Meter {
        Meter { name: "m".to_owned(), aggregation, ..Meter::default() }
    }

    fn used(n: i64) -> MeterUsage {
        MeterUsage { events: 1, quantity: Quantity::from_int(n) }
    }

    #[test]
    fn slices_and_days_combine_as_the_whole_would() {
        for (aggregation, expected) in [
            (Aggregation::Count, "9"),
            (Aggregation::Sum, "9"),
            (Aggregation::Min, "2"),
            (Aggregation::Max, "4"),
            (Aggregation::Avg, "3"),
            (Aggregation::Rate, "0.9"),
        ] {
            let meter = meter(aggregation);
            let total = combine(&meter, combine(&meter, used(3), used(2)).unwrap(), used(4)).unwrap();
            let total = finish(&meter, total, 10_000_000).unwrap();
            assert_eq!((total.events, total.quantity.to_string().as_str()), (3, expected), "{aggregation:?}");
        }
    }

    #[test]
    fn an_average_is_rounded_once_and_half_away_from_zero() {
        for (events, nanos, expected) in [
            (3, 2_000_000_000, 666_666_667),
            (3, -2_000_000_000, -666_666_667),
            (2, 1, 1),
            (2, -1, -1),
            (4, 1, 0),
        ] {
            let sum = MeterUsage { events, quantity: Quantity::from_nanos(nanos) };
            let average = finish(&meter(Aggregation::Avg), sum, 0).unwrap();
            assert_eq!(average.quantity.nanos(), expected, "{nanos} by {events}");
        }
    }
}
