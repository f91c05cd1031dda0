//! What is remembered is given as long as it is true, and to whom it was given before.

use rentroll_aggregator::usage::top::Top;
use rentroll_aggregator::usage::{Answer, Group, Query, Scope, Scoped, Window};

use super::aggregations::METERS;
use super::top::top;
use super::world::{World, at};

/// Events of two weeks.
async fn two_weeks() -> World {
    let mut world = World::new("memory", METERS).await;
    for (nth, day) in ["2026-10-06", "2026-10-07", "2026-10-14"].iter().enumerate() {
        for tenant in ["acme", "other"] {
            request(&mut world, tenant, &format!("{tenant}-{nth}"), &format!("{day}T12:00:00Z"));
        }
    }
    world.send(0).await;
    world
}

fn request(world: &mut World, tenant: &str, id: &str, time: &str) {
    world.event(tenant, id, "http.request", time, r#"{"bytes":7,"region":"eu"}"#, "");
}

fn week() -> Query {
    Query {
        window: Window::Day,
        ..Query::new("requests", at("2026-10-05T00:00:00Z"), at("2026-10-12T00:00:00Z"))
    }
}

fn events(answer: &Answer) -> u64 {
    answer.rows.iter().map(|row| row.events).sum()
}

async fn counted(usage: &Scoped, query: &Query) -> u64 {
    events(&usage.query(query).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_ends_with_what_comes() {
    let mut world = two_weeks().await;
    let usage = world.usage();
    let all = usage.scoped(Scope::All);
    assert_eq!((counted(&all, &week()).await, usage.recalled()), (4, 0));
    assert_eq!((counted(&all, &week()).await, usage.recalled()), (4, 1));
    // Another question, and another one who asks, are others.
    let of_acme = usage.scoped(Scope::tenant("acme"));
    assert_eq!((counted(&of_acme, &week()).await, usage.recalled()), (2, 1));
    let hourly = Query { window: Window::Hour, ..week() };
    assert_eq!((counted(&all, &hourly).await, usage.recalled()), (4, 1));
    assert_eq!((counted(&usage.scoped(Scope::tenant("other")), &week()).await, usage.recalled()), (2, 1));
    assert_eq!((counted(&of_acme, &week()).await, usage.recalled()), (2, 2));
    assert_eq!((counted(&all.clone().afresh(), &week()).await, usage.recalled()), (4, 2));

    // What comes into another month is no news to days, and into another week none to hours; what comes into what they read is, at once.
    let first = world.facts.len();
    request(&mut world, "acme", "later", "2026-11-02T12:00:00Z");
    world.send(first).await;
    assert_eq!((counted(&all, &week()).await, usage.recalled()), (4, 3));
    let first = world.facts.len();
    request(&mut world, "acme", "sooner", "2026-10-15T12:00:00Z");
    world.send(first).await;
    assert_eq!((counted(&all, &hourly).await, usage.recalled()), (4, 4));
    assert_eq!((counted(&all, &week()).await, usage.recalled()), (4, 4));
    let first = world.facts.len();
    request(&mut world, "acme", "late", "2026-10-08T12:00:00Z");
    world.send(first).await;
    assert_eq!((counted(&all, &week()).await, usage.recalled()), (5, 4));
    assert_eq!((counted(&all, &week()).await, usage.recalled()), (5, 5));

    // So is a correction, once the rollups follow it.
    let first = world.facts.len();
    world.event("acme", "void", "http.request", "2026-10-08T13:00:00Z", "{}", r#","voids":"late""#);
    world.send(first).await;
    assert_eq!((counted(&all, &week()).await, usage.recalled()), (4, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_ends_with_what_the_registry_says() {
    let world = {
        let mut world = World::new("memory_registry", METERS).await;
        request(&mut world, "acme", "one", "2026-10-06T12:00:00Z");
        request(&mut world, "other", "two", "2026-10-06T12:00:00Z");
        request(&mut world, "other", "three", "2026-10-07T12:00:00Z");
        world.send(0).await;
        world
    };
    world.register("acme", "2026-01-01 00:00:00", "north", "free", "a").await;
    let usage = world.usage();
    let all = usage.scoped(Scope::All);
    let by_organisation = Query { group_by: vec![Group::Organisation], window: Window::Whole, ..week() };
    let organisations = async || -> Vec<(Option<String>, u64)> {
        let answer = all.query(&by_organisation).await.unwrap();
        answer.rows.into_iter().map(|row| (row.organisation, row.events)).collect()
    };
    let of = |name: &str, events: u64| (Some(name.to_owned()), events);
    assert_eq!(organisations().await, [of("", 2), of("north", 1)]);
    assert_eq!((organisations().await, usage.recalled()), (vec![of("", 2), of("north", 1)], 1));
    world.register("other", "2026-01-01 00:00:00", "south", "pro", "a").await;
    assert_eq!((organisations().await, usage.recalled()), (vec![of("north", 1), of("south", 2)], 1));

    let top = |by: Group| Top { from: week().from, to: week().to, ..top("requests", by, 10) };
    for by in [Group::Tenant, Group::Organisation] {
        let first = all.top(&top(by.clone())).await.unwrap();
        let before = usage.recalled();
        let again = all.top(&top(by.clone())).await.unwrap();
        assert_eq!((&again.rows, &again.total), (&first.rows, &first.total), "{by}");
        assert_eq!(usage.recalled(), before + 1, "{by}");
        let keys: Vec<(&str, u64)> = again.rows.iter().map(|row| (row.key.as_str(), row.events)).collect();
        match by {
            Group::Tenant => assert_eq!(keys, [("other", 2), ("acme", 1)]),
            _ => assert_eq!(keys, [("south", 2), ("north", 1)]),
        }
    }
}
