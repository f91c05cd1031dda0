//! What there is: meters, events that are not counted, tenants, values.

use rentroll_aggregator::usage::overview::{GroupValue, NotCounted, NotCountedRow, Span};
use rentroll_aggregator::usage::{Scope, Scoped, UsageError};

use super::world::{World, at};

const METERS: &str = "meters:
- {name: requests, unit: request, event_type: http.request, aggregation: count, group_by: [method]}
- {name: bytes, unit: byte, event_type: http.request, aggregation: sum, value: bytes}
- {name: users, unit: user, event_type: http.request, aggregation: unique_count, value: user}
- {name: never, unit: x, event_type: never, aggregation: count}
";

fn span() -> Span {
    Span { from: at("2026-10-20T00:00:00Z"), to: at("2026-10-22T11:30:00Z") }
}

async fn make_up(database: &str) -> World {
    let mut world = World::new(database, METERS).await;
    for (tenant, id, kind, time, data) in [
        ("acme", "1", "http.request", "20T10:00:00", r#"{"bytes":1,"method":"GET","user":"a"}"#),
        ("acme", "2", "http.request", "22T10:17:00", r#"{"method":"PUT","user":"b"}"#),
        ("acme", "3", "http.request", "22T11:17:00", r#"{"bytes":2,"method":"GET"}"#),
        ("beta", "1", "http.request", "21T10:00:00", r#"{"bytes":"x"}"#),
        ("Be'ta%", "1", "http.request", "21T10:00:00", r#"{"bytes":4,"method":"GET"}"#),
        ("beta", "2", "db.read", "21T11:00:00", "{}"),
        ("beta", "3", "db.read", "21T12:00:00", "{}"),
        ("acme", "4", "db.read", "21T13:00:00", "{}"),
        ("gamma", "1", "q\\\"uote", "22T11:29:59", "{}"),
        ("gamma", "2", "late", "22T11:30:00", "{}"),
        // Taken back: as if it had never been.
        ("void", "1", "http.request", "21T10:00:00", r#"{"bytes":4}"#),
    ] {
        world.event(tenant, id, kind, &format!("2026-10-{time}Z"), data, "");
    }
    world.event("void", "2", "http.request", "2026-10-21T10:00:00Z", "{}", r#","voids":"1""#);
    world.send(0).await;
    world
}

fn rows(found: &NotCounted) -> Vec<(&str, &str, u64)> {
    found.rows.iter().map(|row| (row.key.as_str(), row.tenant.as_str(), row.events)).collect()
}

fn totals(found: &NotCounted) -> Vec<(&str, u64, u64)> {
    found.totals.iter().map(|total| (total.key.as_str(), total.events, total.tenants)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_counted_is_listed() {
    let world = make_up("not_counted").await;
    let all = world.all();
    let unmatched = all.unmatched(span(), None, 10).await.unwrap();
    assert_eq!(totals(&unmatched), [("db.read", 3, 2), ("q\"uote", 1, 1)]);
    assert_eq!(rows(&unmatched), [("db.read", "beta", 2), ("db.read", "acme", 1), ("q\"uote", "gamma", 1)]);
    assert!(!unmatched.is_cut);
    assert_eq!(unmatched.totals[1].last, at("2026-10-22T11:29:00Z"));
    assert_eq!(unmatched.rows[0].last, at("2026-10-21T00:00:00Z"), "its bucket is a day");
    let cut = all.unmatched(span(), None, 1).await.unwrap();
    assert_eq!((rows(&cut), totals(&cut).len(), cut.is_cut), (vec![("db.read", "beta", 2)], 2, true));
    // Page by page, the same.
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = all.unmatched(span(), after.as_ref(), 1).await.unwrap();
        assert_eq!(page.totals, unmatched.totals);
        after = page.rows.last().map(NotCountedRow::place);
        pages.extend(page.rows);
        if !page.is_cut {
            break;
        }
    }
    assert_eq!(pages, unmatched.rows);
    let without = all.without_value(span(), None, 10).await.unwrap();
    assert_eq!(totals(&without), [("users", 3, 3), ("bytes", 2, 2)]);
    assert_eq!(rows(&without)[..2], [("bytes", "acme", 1), ("bytes", "beta", 1)]);
    let acme = world.of("acme");
    assert_eq!(rows(&acme.unmatched(span(), None, 10).await.unwrap()), [("db.read", "acme", 1)]);
    assert_eq!(
        totals(&acme.without_value(span(), None, 10).await.unwrap()),
        [("bytes", 1, 1), ("users", 1, 1)]
    );
    let one =
        world.usage().scoped(Scope::Tenant { tenant: "acme".to_owned(), meters: vec!["bytes".to_owned()] });
    assert_eq!(totals(&one.unmatched(span(), None, 10).await.unwrap()), []);
    assert_eq!(totals(&one.without_value(span(), None, 10).await.unwrap()), [("bytes", 1, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn meters_show_whether_they_are_alive() {
    let world = make_up("meter_states").await;
    let states = world.all().meter_states(span()).await.unwrap();
    let of = |name: &str| states.iter().find(|state| state.meter == name).unwrap();
    let names: Vec<&str> = states.iter().map(|state| state.meter.as_str()).collect();
    assert_eq!(names, ["bytes", "never", "requests", "users"]);
    let counted = |name: &str| (of(name).events, of(name).tenants, of(name).without_value);
    assert_eq!(counted("requests"), (5, 3, 0));
    assert_eq!(counted("bytes"), (3, 2, 2));
    assert_eq!(counted("users"), (2, 1, 3));
    assert_eq!(counted("never"), (0, 0, 0));
    assert_eq!((of("never").first, of("never").last), (None, None));
    assert_eq!(of("bytes").first, Some(at("2026-10-20T00:00:00Z")));
    assert_eq!(of("bytes").last, Some(at("2026-10-22T11:17:00Z")));
    let states = world.of("beta").meter_states(span()).await.unwrap();
    let counted: Vec<(u64, u64)> = states.iter().map(|state| (state.events, state.without_value)).collect();
    assert_eq!(counted, [(0, 1), (0, 0), (1, 0), (0, 1)]);
    let one = Scope::Tenant { tenant: "acme".to_owned(), meters: vec!["users".to_owned()] };
    let states = world.usage().scoped(one).meter_states(span()).await.unwrap();
    assert_eq!((states.len(), states[0].events), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_paged_and_searched() {
    let world = make_up("tenants_seen").await;
    let page = async |scoped: &Scoped, search: Option<&str>, after: Option<&str>, limit| {
        let page = scoped.tenants(search, after, limit).await.unwrap();
        let names: Vec<(String, u64)> =
            page.tenants.iter().map(|seen| (seen.tenant.clone(), seen.events)).collect();
        (names, page.next)
    };
    let all = world.all();
    let named = |names: &[(&str, u64)]| -> Vec<(String, u64)> {
        names.iter().map(|(name, events)| ((*name).to_owned(), *events)).collect()
    };
    let everybody = named(&[("Be'ta%", 1), ("acme", 4), ("beta", 3), ("gamma", 2), ("void", 2)]);
    assert_eq!(page(&all, None, None, 10).await, (everybody.clone(), None));
    assert_eq!(page(&all, None, None, 2).await, (everybody[..2].to_vec(), Some("acme".to_owned())));
    assert_eq!(page(&all, None, Some("beta"), 2).await, (everybody[3..].to_vec(), None));
    assert_eq!(page(&all, Some("ETA"), None, 10).await.0, named(&[("beta", 3)]));
    assert_eq!(page(&all, Some("'TA%"), None, 10).await.0, named(&[("Be'ta%", 1)]));
    assert_eq!(page(&world.of("acme"), None, None, 10).await, (everybody[1..2].to_vec(), None));
    assert_eq!(page(&world.of("acme"), Some("beta"), None, 10).await, (vec![], None));
    let seen = all.tenants(None, Some("beta"), 1).await.unwrap().tenants;
    assert_eq!(seen[0].last, at("2026-10-22T11:30:00Z"));
    assert!(matches!(all.tenants(None, None, 0).await, Err(UsageError::Parameter { name: "limit", .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_a_dimension_are_counted() {
    let world = make_up("values").await;
    let values = async |scoped: Scoped, meter: &str, dimension: &str| {
        let values: Vec<GroupValue> = scoped.group_values(meter, dimension, span()).await.unwrap();
        values.into_iter().map(|value| (value.value, value.events)).collect::<Vec<_>>()
    };
    let pairs = |pairs: &[(&str, u64)]| -> Vec<(String, u64)> {
        pairs.iter().map(|(value, events)| ((*value).to_owned(), *events)).collect()
    };
    assert_eq!(values(world.all(), "requests", "method").await, pairs(&[("GET", 3), ("", 1), ("PUT", 1)]));
    assert_eq!(values(world.all(), "bytes", "user").await, pairs(&[("", 2), ("a", 1)]));
    assert_eq!(values(world.all(), "users", "user").await, pairs(&[("a", 1), ("b", 1)]));
    assert_eq!(values(world.of("acme"), "requests", "method").await, pairs(&[("GET", 2), ("PUT", 1)]));
    let error = world.all().group_values("requests", "", span()).await.unwrap_err();
    assert!(matches!(error, UsageError::Parameter { name: "dimension", .. }), "{error}");
}
