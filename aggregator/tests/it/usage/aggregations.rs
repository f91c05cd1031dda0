//! Every aggregation, from every source, in many zones, by every group and filter.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rentroll_aggregator::usage::{Filter, Group, Query, Scope, Scoped, Source, Test, Window};
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::{Aggregation, Number};

use super::naive::{heaps, label, quantity};
use super::world::{Dice, World, at, keys};

pub(super) const METERS: &str = "meters:
- {name: requests, unit: request, event_type: http.request, aggregation: count, group_by: [method, region]}
- {name: bytes, unit: byte, event_type: http.request, aggregation: sum, value: bytes, group_by: [method]}
- {name: largest, unit: byte, event_type: http.request, aggregation: max, value: bytes, group_by: [method]}
- {name: smallest, unit: byte, event_type: http.request, aggregation: min, value: bytes}
- {name: mean, unit: byte, event_type: http.request, aggregation: avg, value: bytes, group_by: [method]}
- {name: pace, unit: request, event_type: http.request, aggregation: rate, group_by: [method]}
- {name: flow, unit: byte, event_type: http.request, aggregation: rate, per: minute, value: bytes}
- {name: users, unit: user, event_type: http.request, aggregation: unique_count, value: user, group_by: [method]}
- {name: newest, unit: byte, event_type: http.request, aggregation: latest, value: bytes, group_by: [method]}
- {name: median, unit: byte, event_type: http.request, aggregation: percentile, percentile: 50, value: bytes}
- {name: p99, unit: byte, event_type: http.request, aggregation: percentile, percentile: 99.9, value: bytes}
- {name: gets, unit: request, event_type: http.request, aggregation: count, filter: {method: [GET]}, group_by: [region]}
";

/// Events of four tenants over some days from `first` on; some times are shared, some values missing or texts.
pub(super) fn make_up(world: &mut World, dice: &mut Dice, first: &str, days: u64, count: u64) {
    let first = at(first);
    let mut time = first;
    for nth in 0..count {
        if dice.below(4) > 0 {
            let micros = dice.below(days * 86_400_000_000);
            time = first + TimeDelta::microseconds(micros as i64);
        }
        let bytes = match dice.below(8) {
            0 => format!("{}.{:03}", dice.below(50), dice.below(1_000)),
            1 => format!("\"{}\"", dice.below(90)),
            2 => "\"none\"".to_owned(),
            3 => format!("-{}", dice.below(20)),
            _ => dice.below(1_000).to_string(),
        };
        let user = dice.below(7);
        let mut data = format!(r#"{{"bytes":{bytes},"user":"u{user}""#);
        if dice.below(5) > 0 {
            data.push_str(&format!(r#","method":"{}""#, dice.of(&["GET", "PUT", "P'\\\\\\\"?{x:String}"])));
        }
        if dice.below(3) > 0 {
            data.push_str(&format!(r#","region":"{}""#, dice.of(&["eu-1", "eu-2", "us\\t1"])));
        }
        data.push_str(&format!(r#","status":{}}}"#, 200 + dice.below(4) * 100));
        let tenant = dice.of(&["acme", "beta", "t'x", "zeta"]);
        let kind = if dice.below(10) == 0 { "other" } else { "http.request" };
        let text = time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        world.event(tenant, &format!("e{nth}"), kind, &text, &data, "");
    }
}

/// The answer to a query is what the naive computation says, and was read from `read_from`, if that is given.
pub(super) async fn same(
    world: &World,
    query: &Query,
    read_from: Option<&[Source]>,
    group: impl Fn(&Group, &super::world::Fact) -> String,
) {
    same_of(&world.all(), world, query, read_from, group).await;
}

/// As [`same`], of one who may see a part: the tenants that `query` names.
async fn same_of(
    scoped: &Scoped,
    world: &World,
    query: &Query,
    read_from: Option<&[Source]>,
    group: impl Fn(&Group, &super::world::Fact) -> String,
) {
    let asked = match scoped.scope() {
        Scope::All => query.clone(),
        Scope::Tenant { .. } => Query { tenants: Vec::new(), ..query.clone() },
    };
    let answer = scoped.query(&asked).await.unwrap();
    if let Some(read_from) = read_from {
        assert_eq!(answer.read_from, read_from, "{query:?}");
    }
    let meter = world.pipeline.meters.get(&query.meter).unwrap();
    let zone = if query.window == Window::BillingPeriod { Tz::Europe__Berlin } else { query.zone };
    let mut found: BTreeMap<(String, Vec<String>), (Quantity, u64)> = BTreeMap::new();
    let mut bounds: BTreeMap<String, (DateTime<Utc>, DateTime<Utc>)> = BTreeMap::new();
    for row in &answer.rows {
        let name = label(query.window, zone, row.from);
        let last = row.to - TimeDelta::seconds(1);
        assert_eq!(name, label(query.window, zone, last), "one window: {row:?}");
        assert!(query.from <= row.from && row.to <= query.to, "{row:?}");
        // It is all of the window that the span has.
        let outside = |time: DateTime<Utc>| time < query.from || time >= query.to;
        let before = row.from - TimeDelta::seconds(1);
        assert!(outside(before) || label(query.window, zone, before) != name, "{row:?}");
        assert!(outside(row.to) || label(query.window, zone, row.to) != name, "{row:?}");
        bounds.insert(name.clone(), (row.from, row.to));
        let before = found.insert((name, keys(row)), (row.quantity.unwrap(), row.events));
        assert_eq!(before, None, "twice: {row:?}");
    }
    let mut expected = BTreeMap::new();
    for ((name, keys), heap) in heaps(world, query, group) {
        let (from, to) = *bounds.get(&name).unwrap_or_else(|| panic!("no window {name}: {query:?}"));
        let of_heap = quantity(meter, &heap, (to - from).num_seconds());
        // The order of a row's kinds is not that of the question.
        expected.insert((name, in_order(query, keys)), (of_heap, heap.len() as u64));
    }
    assert_eq!(found, expected, "{query:?}");
    // In the order of time, then of the groups.
    let of_question = |row: &rentroll_aggregator::usage::Row| (row.from, named(query, row));
    assert!(answer.rows.is_sorted_by_key(of_question), "{query:?}");
}

fn named(query: &Query, row: &rentroll_aggregator::usage::Row) -> Vec<String> {
    let key = |group: &Group| match group {
        Group::Tenant => row.tenant.clone().unwrap(),
        Group::Organisation => row.organisation.clone().unwrap(),
        Group::Tier => row.tier.clone().unwrap(),
        Group::Tag(tag) => row.tags[tag].clone(),
        Group::Dimension(name) => row.dimensions[name].clone(),
    };
    query.group_by.iter().map(key).collect()
}

/// Keys in the order of [`keys`].
fn in_order(query: &Query, keys: Vec<String>) -> Vec<String> {
    let mut pairs: Vec<(&Group, String)> = query.group_by.iter().zip(keys).collect();
    pairs.sort_by_key(|(group, _)| (*group).clone());
    pairs.into_iter().map(|(_, key)| key).collect()
}

pub(super) fn nobody(_: &Group, _: &super::world::Fact) -> String {
    String::new()
}

fn of(key: &str) -> Group {
    Group::Dimension(key.to_owned())
}

fn filter(key: &str, test: Test) -> Filter {
    Filter { key: key.to_owned(), test }
}

fn number(text: &str) -> Option<Number> {
    Some(Number(text.parse().unwrap()))
}

pub(super) const ALL: [&str; 12] = [
    "requests", "bytes", "largest", "smallest", "mean", "pace", "flow", "users", "newest", "median", "p99",
    "gets",
];

fn has_rollups(world: &World, meter: &str) -> bool {
    !matches!(
        world.pipeline.meters.get(meter).unwrap().aggregation,
        Aggregation::UniqueCount | Aggregation::Latest | Aggregation::Percentile | Aggregation::TimeWeighted
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_aggregation_of_every_source_is_what_the_events_say() {
    let mut world = World::new("sources", METERS).await;
    make_up(&mut world, &mut Dice(7), "2026-10-20T00:00:00Z", 8, 400);
    world.send(0).await;
    use Source::{Day, Events, Hour, Minute};
    let spans: [(&str, &str, Window, &[Source]); 6] = [
        ("2026-10-20T00:00:00Z", "2026-10-28T00:00:00Z", Window::Day, &[Day]),
        ("2026-10-20T00:00:00Z", "2026-10-28T00:00:00Z", Window::Whole, &[Day]),
        ("2026-10-20T05:00:00Z", "2026-10-26T03:00:00Z", Window::Whole, &[Day, Hour]),
        ("2026-10-20T05:30:00Z", "2026-10-26T03:17:00Z", Window::Whole, &[Day, Hour, Minute]),
        ("2026-10-21T05:30:00Z", "2026-10-22T03:17:00Z", Window::Hour, &[Hour, Minute]),
        ("2026-10-21T05:30:00Z", "2026-10-21T09:17:00Z", Window::Minute, &[Minute]),
    ];
    for meter in ALL {
        for (from, to, window, sources) in spans {
            let base = Query { window, ..Query::new(meter, at(from), at(to)) };
            let read_from = if has_rollups(&world, meter) { sources } else { &[Events] };
            same(&world, &base, Some(read_from), nobody).await;
            let by_tenant = Query { group_by: vec![Group::Tenant], ..base.clone() };
            same(&world, &by_tenant, Some(read_from), nobody).await;
            let of_acme = Query { tenants: vec!["acme".to_owned()], ..by_tenant };
            same_of(&world.of("acme"), &world, &of_acme, Some(read_from), nobody).await;
            // A dimension that no rollup keeps.
            let by_user = Query { group_by: vec![of("user")], ..base.clone() };
            same(&world, &by_user, Some(&[Events]), nobody).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_of_other_zones_are_theirs_around_changes_of_clocks() {
    let mut world = World::new("zones", METERS).await;
    let mut dice = Dice(11);
    for first in
        ["2026-03-06T00:00:00Z", "2026-03-27T00:00:00Z", "2026-04-03T00:00:00Z", "2026-10-24T00:00:00Z"]
    {
        let known = world.facts.len();
        make_up(&mut world, &mut dice, first, 5, 120);
        for fact in &mut world.facts[known..] {
            // Ids are counted from nothing for each.
            let id = format!("{first}{}", fact.id);
            fact.json =
                fact.json.replacen(&format!("\"id\":\"{}\"", fact.id), &format!("\"id\":\"{id}\""), 1);
            fact.id = id;
        }
    }
    world.send(0).await;
    let zones =
        [Tz::Europe__Berlin, Tz::America__New_York, Tz::Asia__Kolkata, Tz::Australia__Lord_Howe, Tz::UTC];
    let spans = [
        ("2026-03-06T00:00:00Z", "2026-03-12T00:00:00Z"),
        ("2026-03-27T13:07:00Z", "2026-03-30T22:00:00Z"),
        ("2026-04-03T00:00:00Z", "2026-04-07T01:30:00Z"),
        ("2026-10-23T22:00:00Z", "2026-10-29T00:00:00Z"),
    ];
    for zone in zones {
        for (from, to) in spans {
            for window in [Window::Hour, Window::Day, Window::Week, Window::Month, Window::BillingPeriod] {
                for meters in [
                    ["requests", "bytes", "largest", "mean", "pace"],
                    ["users", "newest", "p99", "users", "newest"],
                ] {
                    let query = Query { window, zone, ..Query::new(dice.of(&meters), at(from), at(to)) };
                    same(&world, &query, None, nobody).await;
                }
            }
        }
    }
    // A long span, by day: many stretches of the finer tables.
    let year = Query {
        window: Window::Day,
        zone: Tz::Asia__Kolkata,
        ..Query::new("bytes", at("2026-01-01T00:00:00Z"), at("2026-11-01T00:00:00Z"))
    };
    same(&world, &year, Some(&[Source::Hour, Source::Minute]), nobody).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_groups_say_the_same_of_rollups_and_of_events() {
    let mut world = World::new("filters", METERS).await;
    make_up(&mut world, &mut Dice(23), "2026-10-20T00:00:00Z", 4, 300);
    world.send(0).await;
    let texts = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let odd = "P'\\\"?{x:String}";
    let filters: Vec<Vec<Filter>> = vec![
        vec![filter("method", Test::In(texts(&["GET", odd])))],
        vec![filter("method", Test::In(texts(&[""])))],
        vec![filter("method", Test::Not(texts(&["GET"])))],
        vec![filter("method", Test::Not(texts(&["", odd])))],
        vec![filter("method", Test::Prefix("P".to_owned()))],
        vec![filter("method", Test::Prefix("P'\\".to_owned()))],
        vec![filter("method", Test::Prefix(String::new()))],
        vec![
            filter("region", Test::In(texts(&["us\t1", "eu-1"]))),
            filter("method", Test::In(texts(&["PUT"]))),
        ],
        vec![filter("status", Test::Range { from: number("300"), below: number("500") })],
        vec![filter("bytes", Test::Range { from: number("-5.5"), below: None })],
        vec![filter("bytes", Test::Range { from: None, below: number("12.001") })],
        vec![filter("user", Test::In(texts(&["u3"]))), filter("user", Test::Not(texts(&["u4"])))],
        vec![filter("nothing", Test::In(texts(&["x"])))],
    ];
    let groups: Vec<Vec<Group>> = vec![
        vec![],
        vec![of("method")],
        vec![Group::Tenant, of("method")],
        vec![of("region"), Group::Tenant, of("method")],
        vec![of("status"), of("user")],
    ];
    let mut dice = Dice(29);
    for meter in ALL {
        for filters in &filters {
            let query = Query {
                window: Window::Day,
                filters: filters.clone(),
                group_by: groups[dice.below(groups.len() as u64) as usize].clone(),
                ..Query::new(meter, at("2026-10-20T00:00:00Z"), at("2026-10-24T00:00:00Z"))
            };
            same(&world, &query, None, nobody).await;
        }
    }
    let by_method = Query {
        filters: filters[0].clone(),
        group_by: groups[2].clone(),
        tenants: texts(&["t'x", "beta", "nobody"]),
        ..Query::new("bytes", at("2026-10-20T00:00:00Z"), at("2026-10-24T00:00:00Z"))
    };
    same(&world, &by_method, Some(&[Source::Day]), nobody).await;
    let by_region = Query { group_by: groups[3].clone(), ..by_method };
    same(&world, &by_region, Some(&[Source::Events]), nobody).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn different_values_are_counted_about_right_where_that_is_asked_for_and_never_else() {
    let world = World::new("about", METERS).await;
    // As many users as a sketch does not keep apart.
    const USERS: u64 = 300_000;
    let sql = format!(
        "INSERT INTO events (tenant, type, time, identity_high, identity_low, id_text, source, arrived_at, dimension_names, \
         dimension_values, corrects) SELECT 'acme', 'http.request', toDateTime64('2026-10-20 10:00:00', 6, 'UTC'), sipHash64(number), \
         number, toString(number), 'web', toDateTime64('2026-10-20 10:00:01', 3, 'UTC'), 'user\\0', \
         [concat('u', toString(number))], toFixedString('', 16) FROM numbers({USERS})"
    );
    world.pipeline.store.client().query_raw(&sql).execute().await.unwrap();
    let usage = world.all();
    let query = Query::new("users", at("2026-10-20T00:00:00Z"), at("2026-10-21T00:00:00Z"));
    let exact = usage.query(&query).await.unwrap();
    assert_eq!(exact.rows[0].quantity.unwrap().to_string(), USERS.to_string());
    assert_eq!(exact.approximation, None);
    let text = serde_json::to_string(&exact).unwrap();
    assert!(!text.contains("approx"), "{text}");
    let about = usage.query(&Query { approximate: true, ..query.clone() }).await.unwrap();
    let text = serde_json::to_string(&about).unwrap();
    assert!(
        text.contains(r#""approximation":{"method":"uniqCombined64(17)","standard_error_percent":"0.3"}"#),
        "{text}"
    );
    // Five times the standard error; and not what an exact count would say.
    let error = (about.rows[0].quantity.unwrap().nanos() - exact.rows[0].quantity.unwrap().nanos()).abs();
    let percent = error as f64 / 1e9 / USERS as f64 * 100.0;
    assert!(percent > 0.0 && percent < 1.5, "{percent} %");
    let wrong =
        usage.query(&Query { approximate: true, ..Query { meter: "bytes".to_owned(), ..query } }).await;
    let wrong = wrong.unwrap_err().to_string();
    assert!(wrong.starts_with("approximate: `true`") && wrong.contains("`bytes` is one of `sum`"), "{wrong}");
}
