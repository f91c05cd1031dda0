//! Who uses most.

use std::collections::BTreeMap;

use rentroll_aggregator::usage::top::{TOP_ROWS_MAX, Top, TopAnswer, TopRow};
use rentroll_aggregator::usage::{Filter, Group, Query, Source, Test, UsageError};
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::{Aggregation, Meter};

use super::aggregations::{METERS, make_up, nobody};
use super::naive::{Heap, divided, heaps, quantity};
use super::world::{Dice, World, at};

const DAY: i64 = 86_400;

pub(super) fn top(meter: &str, by: Group, rows: usize) -> Top {
    Top {
        meter: meter.to_owned(),
        from: at("2026-10-22T00:00:00Z"),
        to: at("2026-10-24T00:00:00Z"),
        by,
        rows,
        tenants: Vec::new(),
        organisations: Vec::new(),
        filters: Vec::new(),
        compare: true,
        zone: chrono_tz::Tz::UTC,
        approximate: false,
    }
}

/// Heaps of a span by key, and of all keys but some together.
fn by_key<'w>(world: &'w World, top: &Top, from: &str, to: &str) -> BTreeMap<String, Heap<'w>> {
    let query = Query {
        group_by: vec![top.by.clone()],
        filters: top.filters.clone(),
        ..Query::new(&top.meter, at(from), at(to))
    };
    heaps(world, &query, nobody).into_iter().map(|((_, keys), heap)| (keys[0].clone(), heap)).collect()
}

/// The heaps that some keys have together, in the order in which they hold.
fn together<'w>(heaps: &BTreeMap<String, Heap<'w>>, has: impl Fn(&str) -> bool) -> Heap<'w> {
    let mut heap: Heap<'w> =
        heaps.iter().filter(|(key, _)| has(key)).flat_map(|(_, heap)| heap.iter().cloned()).collect();
    heap.sort_by_key(|(fact, ..)| (fact.time, fact.arrived_at));
    heap
}

fn amount(meter: &Meter, heap: &Heap<'_>) -> Option<Quantity> {
    (!heap.is_empty()).then(|| quantity(meter, heap, 2 * DAY))
}

/// The row of what one or several keys have, as the documentation says it.
fn row(key: &str, meter: &Meter, now: &Heap<'_>, before: &Heap<'_>, total: Option<Quantity>) -> TopRow {
    let adds_up = matches!(meter.aggregation, Aggregation::Count | Aggregation::Sum | Aggregation::Rate);
    let (quantity, previous) = (amount(meter, now), amount(meter, before));
    let ratio = |one: Quantity, by: Quantity| {
        (by.nanos() != 0).then(|| divided(one.nanos() * by.nanos().signum(), 1_000_000_000, by.nanos().abs()))
    };
    let zero =
        |quantity: Option<Quantity>| if adds_up { Some(quantity.unwrap_or_default()) } else { quantity };
    let change = match (quantity, previous) {
        (None, None) => None,
        _ => zero(quantity).zip(zero(previous)).and_then(|(now, before)| now.checked_sub(before)),
    };
    TopRow {
        key: key.to_owned(),
        quantity,
        events: now.len() as u64,
        share: quantity.zip(total).filter(|_| adds_up).and_then(|(one, all)| ratio(one, all)),
        previous,
        change,
        change_percent: change.zip(previous).and_then(|(change, previous)| {
            let hundred = Quantity::from_nanos(change.nanos() * 100);
            ratio(hundred, Quantity::from_nanos(previous.nanos().abs()))
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_greatest_their_share_and_how_they_changed() {
    let mut world = World::new("top", METERS).await;
    make_up(&mut world, &mut Dice(67), "2026-10-20T00:00:00Z", 4, 300);
    // One of the span before alone.
    world.event("gone", "g", "http.request", "2026-10-21T00:00:00Z", r#"{"bytes":5,"user":"u9"}"#, "");
    world.send(0).await;
    let user = Group::Dimension("user".to_owned());
    for meter in ["requests", "bytes", "pace", "largest", "smallest", "mean", "users", "newest", "median"] {
        for by in [Group::Tenant, user.clone()] {
            for rows in [2, 100] {
                let filters = match rows {
                    2 => vec![],
                    _ => vec![Filter { key: "method".to_owned(), test: Test::Prefix("P".to_owned()) }],
                };
                let asked = Top { filters, ..top(meter, by.clone(), rows) };
                let answer = world.all().top(&asked).await.unwrap();
                let of_meter = world.pipeline.meters.get(meter).unwrap();
                let now = by_key(&world, &asked, "2026-10-22T00:00:00Z", "2026-10-24T00:00:00Z");
                let before = by_key(&world, &asked, "2026-10-20T00:00:00Z", "2026-10-22T00:00:00Z");
                let mut keys: Vec<&String> = now.keys().collect();
                keys.sort_by_key(|key| (std::cmp::Reverse(amount(of_meter, &now[*key])), (*key).clone()));
                assert_eq!(answer.keys, keys.len() as u64);
                keys.truncate(rows);
                let total = amount(of_meter, &together(&now, |_| true));
                let expected: Vec<TopRow> = keys
                    .iter()
                    .map(|key| row(key, of_meter, &now[*key], before.get(*key).unwrap_or(&Vec::new()), total))
                    .collect();
                assert_eq!(answer.rows, expected, "{meter} by {by}");
                let is_other = |key: &str| !keys.iter().any(|named| *named == key);
                let (other, other_before) = (together(&now, is_other), together(&before, is_other));
                let has_other = now.keys().chain(before.keys()).any(|key| is_other(key));
                let expected = has_other.then(|| row("", of_meter, &other, &other_before, total));
                assert_eq!(answer.other, expected, "{meter} by {by}");
                let all = row("", of_meter, &together(&now, |_| true), &together(&before, |_| true), total);
                assert_eq!(answer.total, all, "{meter} by {by}");
                assert_eq!(answer.previous_from, Some(at("2026-10-20T00:00:00Z")));
            }
        }
    }
    let answer = world.all().top(&top("bytes", Group::Tenant, 3)).await.unwrap();
    assert_eq!(answer.read_from, [Source::Day]);
    let answer = world.of("acme").top(&top("bytes", Group::Tenant, 3)).await.unwrap();
    assert_eq!((answer.rows.len(), answer.keys, answer.rows[0].share), (1, 1, Some(Quantity::ONE)));
    for rows in [0, TOP_ROWS_MAX + 1] {
        let error = world.all().top(&top("bytes", Group::Tenant, rows)).await.unwrap_err();
        assert!(matches!(error, UsageError::Parameter { name: "rows", .. }), "{error}");
    }
    // The same without a comparison, of which the other span is not read.
    let compared = world.all().top(&top("bytes", Group::Tenant, 3)).await.unwrap();
    let alone = Top { compare: false, ..top("bytes", Group::Tenant, 3) };
    let alone = world.all().top(&alone).await.unwrap();
    assert!(compared.previous_from.is_some());
    assert_eq!((alone.previous_from, alone.total.previous, alone.total.change), (None, None, None));
    assert_eq!(alone.total.quantity, compared.total.quantity);
    let keys = |answer: &TopAnswer| answer.rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&alone), keys(&compared));
    // Before the epoch there is nothing to compare with.
    let first = Top {
        from: at("1970-01-01T00:00:00Z"),
        to: at("2026-10-24T00:00:00Z"),
        ..top("bytes", Group::Tenant, 3)
    };
    let answer = world.all().top(&first).await.unwrap();
    assert_eq!((answer.previous_from, answer.total.change), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_have_shares_too() {
    let meters = "meters:
- {name: held, unit: connection, event_type: connections, aggregation: time_weighted, per: window, value: open}
";
    let mut world = World::new("top_levels", meters).await;
    for (id, tenant, open) in [("1", "acme", 30), ("2", "beta", 60), ("3", "zeta", 10)] {
        let data = format!(r#"{{"open":{open}}}"#);
        world.event(tenant, id, "connections", "2026-10-21T00:00:00Z", &data, "");
    }
    world.send(0).await;
    let answer = world.all().top(&top("held", Group::Tenant, 1)).await.unwrap();
    let q = |text: &str| Some(text.parse::<Quantity>().unwrap());
    let (first, other) = (&answer.rows[0], answer.other.as_ref().unwrap());
    assert_eq!((first.key.as_str(), first.quantity, first.share), ("beta", q("60"), q("0.6")));
    assert_eq!((first.previous, first.change_percent), (q("30"), q("100")));
    assert_eq!((other.quantity, other.share, answer.total.quantity), (q("40"), q("0.4"), q("100")));
    // A mistake is called by the name that the question has for it.
    let error = world.all().top(&top("held", Group::Dimension("colour".to_owned()), 1)).await.unwrap_err();
    assert!(matches!(error, UsageError::Parameter { name: "by", .. }), "{error}");
}
