//! A tenant sees its own and nothing else, whatever is asked; and what is read does not grow with others.

use chrono::TimeDelta;
use rentroll_aggregator::usage::events::EventQuery;
use rentroll_aggregator::usage::overview::Span;
use rentroll_aggregator::usage::top::Top;
use rentroll_aggregator::usage::{Fill, Filter, Group, Limits, Query, Scope, Scoped, Test, Window};

use super::aggregations::{ALL, METERS, make_up};
use super::world::{Dice, World, at};

const LEVEL: &str = "- {name: level, unit: byte, event_type: http.request, aggregation: time_weighted, value: bytes, series: [region]}\n";

/// Everything that can be asked, as text.
async fn everything(scoped: &Scoped, dice: &mut Dice) -> String {
    let span = Span { from: at("2026-10-20T00:00:00Z"), to: at("2026-10-24T00:00:00Z") };
    let mut said = String::new();
    let groups = [
        Group::Tenant,
        Group::Organisation,
        Group::Tier,
        Group::Tag("plan".to_owned()),
        Group::Dimension("method".to_owned()),
        Group::Dimension("user".to_owned()),
    ];
    let windows = [Window::Whole, Window::Hour, Window::Day, Window::BillingPeriod];
    let fills = [Fill::None, Fill::Null, Fill::Zero, Fill::Previous];
    let some = |dice: &mut Dice, texts: &[&str]| -> Vec<String> {
        (0..dice.below(3)).map(|_| dice.of(texts).to_owned()).collect()
    };
    for nth in 0..26 {
        let meter = ALL.iter().copied().chain(["level"]).nth(nth % (ALL.len() + 1)).unwrap();
        let mut group_by: Vec<Group> = groups.iter().filter(|_| dice.below(3) == 0).cloned().collect();
        if meter == "level" {
            group_by.retain(|group| !matches!(group, Group::Dimension(_)));
        }
        let filters = match dice.below(3) {
            0 if meter != "level" => {
                vec![Filter { key: "user".to_owned(), test: Test::Prefix("u".to_owned()) }]
            }
            _ => vec![],
        };
        let window = windows[dice.below(4) as usize];
        let query = Query {
            window,
            rolling: (window == Window::Day && dice.below(2) == 0).then(|| TimeDelta::days(2)),
            tenants: some(dice, &["acme", "beta", "t'x' OR 1=1 --"]),
            organisations: some(dice, &["north", "south"]),
            filters: filters.clone(),
            group_by,
            fill: fills[dice.below(4) as usize],
            approximate: meter == "users",
            ..Query::new(meter, span.from, span.to)
        };
        let mut answer = scoped.query(&query).await.unwrap();
        answer.data_as_of = None;
        said.push_str(&format!("{answer:?}\n"));
        let top = Top {
            meter: meter.to_owned(),
            from: at("2026-10-22T00:00:00Z"),
            to: span.to,
            by: if meter == "level" { Group::Tenant } else { groups[nth % groups.len()].clone() },
            rows: 1 + dice.below(3) as usize,
            tenants: query.tenants,
            organisations: query.organisations,
            filters,
            compare: true,
            zone: chrono_tz::Tz::UTC,
            approximate: meter == "users",
        };
        let mut answer = scoped.top(&top).await.unwrap();
        answer.data_as_of = None;
        said.push_str(&format!("{answer:?}\n"));
    }
    for tenant in [None, Some("acme"), Some("beta")] {
        let query = EventQuery { tenant: tenant.map(str::to_owned), limit: 1_000, ..EventQuery::default() };
        for mut event in scoped.events(&query).await.unwrap().events {
            // Batches hold events of many, and are cut anew by what others send.
            event.stored_at = None;
            event.log.batch = 0;
            said.push_str(&format!("{event:?}\n"));
        }
    }
    said.push_str(&format!("{:?}\n", scoped.meter_states(span).await.unwrap()));
    said.push_str(&format!("{:?}\n", scoped.unmatched(span, None, 100).await.unwrap()));
    said.push_str(&format!("{:?}\n", scoped.without_value(span, None, 100).await.unwrap()));
    said.push_str(&format!("{:?}\n", scoped.tenants(None, None, 100).await.unwrap()));
    for dimension in ["method", "user"] {
        said.push_str(&format!("{:?}\n", scoped.group_values("requests", dimension, span).await.unwrap()));
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_told_the_same_whatever_others_do() {
    let meters = format!("{METERS}{LEVEL}");
    let mut worlds = Vec::new();
    for (database, with_others) in [("scope_alone", false), ("scope_others", true)] {
        let mut world = World::new(database, &meters).await;
        make_up(&mut world, &mut Dice(71), "2026-10-20T00:00:00Z", 4, 200);
        world.facts.retain(|fact| fact.tenant == "acme" || with_others);
        // Another one's corrections name the same ids.
        let known = world.facts.len();
        for nth in 0..known {
            let id = world.facts[nth].id.clone();
            if with_others && nth % 5 == 0 {
                let further = format!(r#","voids":"{id}""#);
                world.event(
                    "beta",
                    &format!("v{nth}"),
                    "http.request",
                    "2026-10-21T00:00:00Z",
                    "{}",
                    &further,
                );
            }
        }
        world.send(0).await;
        world.register("acme", "2026-10-01 00:00:00", "north", "free", "a").await;
        world.register("acme", "2026-10-21 10:17:00", "north", "pro", "b").await;
        if with_others {
            world.register("beta", "2026-10-22 10:18:00", "north", "pro", "b").await;
        }
        worlds.push(world);
    }
    let mut said = Vec::new();
    for world in &worlds {
        said.push(everything(&world.of("acme"), &mut Dice(73)).await);
    }
    assert!(said[0].contains("acme") && !said[0].contains("beta"));
    assert_eq!(said[0], said[1]);
    // It can tell: all see more.
    assert!(everything(&worlds[1].all(), &mut Dice(73)).await.contains("beta"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_does_not_grow_with_other_tenants_or_other_times() {
    let mut world = World::new("scope_cost", METERS).await;
    make_up(&mut world, &mut Dice(79), "2026-10-20T00:00:00Z", 2, 100);
    world.send(0).await;
    // A million rows of others, and of the same tenant's other times.
    for (table, seconds) in [("rollup_minute", 60), ("rollup_hour", 3_600), ("rollup_day", 86_400)] {
        world
            .pipeline
            .execute(&format!(
                "INSERT INTO {table} (meters, tenant, bucket, dimensions, events, total_1, total_2) SELECT \
                 ['bytes\\0mean\\0', 'requests\\0', 'other\\0'][1 + number % 3], \
                 if(number % 5 = 0, 'acme', concat('x', toString(intDiv(number, 3) % 1000))), \
                 toDateTime('2025-01-01 00:00:00', 'UTC') + intDiv(number, 3000) * {seconds}, '{{}}', 1, 1, 1 FROM numbers(300000) \
                 SETTINGS max_partitions_per_insert_block = 1000"
            ))
            .await;
    }
    world
        .pipeline
        .execute(
            "INSERT INTO events (tenant, type, time, identity_high, identity_low, id_text, source, arrived_at) SELECT \
             concat('x', toString(number % 1000)), 'http.request', toDateTime64('2026-10-20 00:00:00', 6, 'UTC') + number, \
             cityHash64(number), number, toString(number), 's', '2026-11-01 00:00:00' FROM numbers(300000)",
        )
        .await;
    for table in ["rollup_minute", "rollup_hour", "rollup_day", "events"] {
        world.pipeline.execute(&format!("OPTIMIZE TABLE {table} FINAL")).await;
    }
    // A granule has 8,192 rows; a range begins and ends in the midst of one, in each of some parts.
    let few = Limits { rows_read_max: 12 * 8_192, ..Limits::default() };
    let usage = world.usage_with(world.pipeline.meters.clone(), few);
    let scopes = [Scope::tenant("acme"), Scope::All];
    for scope in scopes {
        let tenants = if scope == Scope::All { vec!["acme".to_owned()] } else { vec![] };
        let scoped = usage.scoped(scope);
        for (from, to, window) in [
            ("2026-10-20T00:00:00Z", "2026-10-22T00:00:00Z", Window::Day),
            ("2026-10-20T05:00:00Z", "2026-10-21T17:00:00Z", Window::Hour),
            ("2026-10-20T05:17:00Z", "2026-10-21T05:18:00Z", Window::Whole),
        ] {
            for meter in ["bytes", "requests", "largest", "users", "newest"] {
                let query = Query { window, tenants: tenants.clone(), ..Query::new(meter, at(from), at(to)) };
                let answer = scoped.query(&query).await;
                assert!(answer.is_ok(), "{query:?} in {:?}: {answer:?}", scoped.scope());
            }
        }
        let events = EventQuery { tenant: Some("acme".to_owned()), limit: 10, ..EventQuery::default() };
        assert_eq!(scoped.events(&events).await.unwrap().events.len(), 10);
    }
}
