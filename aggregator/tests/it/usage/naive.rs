//! Usage as anybody would compute it who has all events at hand.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike as _, Offset as _, TimeZone as _, Timelike as _, Utc};
use chrono_tz::Tz;
use rentroll_aggregator::usage::{Filter, Group, Query, Test, Window};
use rentroll_schemas::meter::{Aggregation, Given, Meter, Per, Reading};
use rentroll_schemas::{Event, Quantity};

use super::world::{Fact, World};

/// What tells windows apart: of two instants of one window it is the same.
pub(crate) fn label(window: Window, zone: Tz, time: DateTime<Utc>) -> String {
    let local = time.with_timezone(&zone);
    let offset = zone.offset_from_utc_datetime(&time.naive_utc()).fix().local_minus_utc();
    match window {
        Window::Whole => String::new(),
        Window::Minute => time.format("%F %R").to_string(),
        Window::Hour => format!("{} {:02} {offset}", local.date_naive(), local.hour()),
        Window::Day => local.date_naive().to_string(),
        Window::Week => format!("{:?}", local.iso_week()),
        Window::Month | Window::BillingPeriod => format!("{}-{:02}", local.year(), local.month()),
    }
}

/// Whether a filter lets an event through.
fn passes(filter: &Filter, event: &Event<'_>) -> bool {
    let text = event.dimension(&filter.key).unwrap_or_default();
    match &filter.test {
        Test::In(values) => values.iter().any(|value| value == text),
        Test::Not(values) => values.iter().all(|value| value != text),
        Test::Prefix(prefix) => text.starts_with(prefix.as_str()),
        Test::Range { from, below } => Given::of(event, &filter.key).number().is_some_and(|number| {
            from.is_none_or(|from| number >= from.0) && below.is_none_or(|below| number < below.0)
        }),
    }
}

/// A quotient of 10⁻⁹, rounded half away from zero.
pub(crate) fn divided(nanos: i128, times: i128, by: i128) -> Quantity {
    let (product, sign) = ((nanos * times).abs(), (nanos * times).signum());
    Quantity::from_nanos(sign * ((2 * product + by) / (2 * by)))
}

/// What an event is worth to a meter in its versions.
fn reading<'m>(versions: &[&'m Meter], event: &Event<'_>) -> Option<(&'m Meter, Quantity, String)> {
    versions.iter().find_map(|meter| match meter.read(event) {
        Reading::Value(value) => {
            let told_apart = match meter.value.as_deref().map(|key| Given::of(event, key)) {
                Some(Given::Text(text)) => String::from_utf8(text.to_vec()).unwrap(),
                Some(Given::Number(number)) => number.to_string(),
                _ => String::new(),
            };
            Some((*meter, value, told_apart))
        }
        Reading::NotMine | Reading::NoValue => None,
    })
}

/// The events of one window and group, in the order in which they hold.
pub(crate) type Heap<'w> = Vec<(&'w Fact, Quantity, String)>;

/// The quantity of a heap over so many seconds.
pub(crate) fn quantity(meter: &Meter, heap: &Heap<'_>, seconds: i64) -> Quantity {
    let values: Vec<i128> = heap.iter().map(|(_, value, _)| value.nanos()).collect();
    let sum: i128 = values.iter().sum();
    match meter.aggregation {
        Aggregation::Count | Aggregation::Sum => Quantity::from_nanos(sum),
        Aggregation::Min => Quantity::from_nanos(*values.iter().min().unwrap()),
        Aggregation::Max => Quantity::from_nanos(*values.iter().max().unwrap()),
        Aggregation::Avg => divided(sum, 1, values.len() as i128),
        Aggregation::Rate => match meter.per.unwrap_or_default() {
            Per::Window => Quantity::from_nanos(sum),
            per => divided(sum, i128::from(per.seconds().unwrap()), i128::from(seconds)),
        },
        Aggregation::UniqueCount => {
            let told: BTreeSet<&String> = heap.iter().map(|(_, _, told)| told).collect();
            Quantity::from_int(told.len() as i64)
        }
        Aggregation::Latest => Quantity::from_nanos(*values.last().unwrap()),
        Aggregation::Percentile => {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let millionths = meter.percentile.unwrap().percents().nanos() / 1_000;
            let place = sorted.len() as i128 * millionths / 100_000_000;
            Quantity::from_nanos(sorted[place.min(sorted.len() as i128 - 1) as usize])
        }
        Aggregation::TimeWeighted => unreachable!("a level is no heap"),
    }
}

/// The heaps that a query is about, by label of the window and keys.
pub(crate) fn heaps<'w>(
    world: &'w World,
    query: &Query,
    group: impl Fn(&Group, &Fact) -> String,
) -> BTreeMap<(String, Vec<String>), Heap<'w>> {
    let versions: Vec<&Meter> = world.pipeline.meters.versions(&query.meter).collect();
    let mut facts = world.counting();
    facts.sort_by_key(|fact| (fact.time, fact.arrived_at));
    let mut heaps: BTreeMap<_, Heap<'_>> = BTreeMap::new();
    let zone = if query.window == Window::BillingPeriod { Tz::Europe__Berlin } else { query.zone };
    for fact in facts.into_iter().filter(|fact| query.from <= fact.time && fact.time < query.to) {
        let event = fact.event();
        let is_asked = query.tenants.is_empty() || query.tenants.contains(&fact.tenant);
        if !is_asked || !query.filters.iter().all(|filter| passes(filter, &event)) {
            continue;
        }
        let organisation = group(&Group::Organisation, fact);
        if !query.organisations.is_empty() && !query.organisations.contains(&organisation) {
            continue;
        }
        let Some((_, value, told)) = reading(&versions, &event) else { continue };
        let keys = query
            .group_by
            .iter()
            .map(|by| match by {
                Group::Tenant => fact.tenant.clone(),
                Group::Dimension(key) => event.dimension(key).unwrap_or_default().to_owned(),
                other => group(other, fact),
            })
            .collect();
        heaps.entry((label(query.window, zone, fact.time), keys)).or_default().push((fact, value, told));
    }
    heaps
}
