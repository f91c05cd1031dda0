//! Events, looked for, and what became of them.

use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use rentroll_aggregator::usage::events::{EventPage, EventQuery, FoundEvent, Order, Verdict};
use rentroll_aggregator::usage::{Scope, UsageError};

use super::world::{World, at};
use crate::common::record;

const METERS: &str = "meters:
- {name: requests, unit: request, event_type: http.request, aggregation: count}
- {name: bytes, unit: byte, event_type: http.request, aggregation: sum, value: bytes, filter: {method: [GET]}}
- {name: users, unit: user, event_type: http.request, aggregation: unique_count, value: user}
- {name: stored, unit: byte, event_type: snapshot, aggregation: latest, value: bytes}
";

const UUID: &str = "0190d6a0-1111-7000-8000-00000000abcd";

/// Some of every verdict.
async fn make_up(database: &str) -> World {
    let mut world = World::new(database, METERS).await;
    let full = r#"{"bytes":5,"method":"GET","user":"u1"}"#;
    let send = |world: &mut World, tenant: &str, id: &str, kind: &str, time: &str, data: &str, more: &str| {
        world.event(tenant, id, kind, &format!("2026-10-{time}Z"), data, more);
    };
    send(&mut world, "acme", "counted", "http.request", "20T10:00:00", full, "");
    send(&mut world, "acme", UUID, "http.request", "20T10:00:00.000001", full, "");
    send(&mut world, "acme", "bare", "http.request", "20T11:00:00", r#"{"method":"GET"}"#, "");
    send(&mut world, "acme", "text", "snapshot", "20T12:00:00", r#"{"bytes":"7 GB"}"#, "");
    send(&mut world, "acme", "stranger", "db.read", "20T13:00:00", "{}", "");
    send(&mut world, "acme", "voided", "http.request", "21T10:00:00", full, "");
    send(&mut world, "acme", "amended", "http.request", "21T11:00:00", full, "");
    send(&mut world, "acme", "void", "http.request", "22T10:00:00", "{}", r#","voids":"voided""#);
    send(&mut world, "acme", "amendment", "http.request", "22T11:00:00", full, r#","amends":"amended""#);
    send(
        &mut world,
        "acme",
        "void of nothing",
        "http.request",
        "22T12:00:00",
        "{}",
        r#","voids":"restored""#,
    );
    send(&mut world, "acme", "restored", "http.request", "22T13:00:00", full, "");
    send(
        &mut world,
        "acme",
        "void of the void",
        "http.request",
        "22T14:00:00",
        "{}",
        r#","voids":"void of nothing""#,
    );
    send(&mut world, "beta", "counted", "http.request", "20T10:00:00", full, "");
    world.send(0).await;
    // Another content under a known identity.
    world.event("acme", "counted", "http.request", "2026-10-23T10:00:00Z", r#"{"bytes":6}"#, "");
    let conflict = world.facts.pop().unwrap();
    let json =
        conflict.json.replace("2026-10-23T10:00:00Z", "2027-10-23T10:00:00Z").replace("counted", "ahead");
    let ahead = record(&json, at("2026-11-02T00:00:01Z"));
    world.pipeline.send_records(vec![record(&conflict.json, conflict.arrived_at), ahead]).await;
    world.settle().await;
    world
}

fn query() -> EventQuery {
    EventQuery { limit: 100, ..EventQuery::default() }
}

fn ids(page: &EventPage) -> Vec<&str> {
    page.events.iter().map(|event| event.id.as_str()).collect()
}

const NEWEST: [&str; 15] = [
    "ahead",
    "counted",
    "void of the void",
    "restored",
    "void of nothing",
    "amendment",
    "void",
    "amended",
    "voided",
    "stranger",
    "text",
    "bare",
    UUID,
    "counted",
    "counted",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_event_has_its_verdict() {
    let world = make_up("events").await;
    let began = Utc::now() - TimeDelta::hours(1);
    let page = world.all().events(&query()).await.unwrap();
    assert_eq!(ids(&page), NEWEST);
    assert_eq!(page.next, None);
    let verdicts: BTreeMap<(&str, &str), Vec<Verdict>> =
        page.events.iter().fold(BTreeMap::new(), |mut all, event| {
            all.entry((event.tenant.as_str(), event.id.as_str()))
                .or_insert_with(Vec::new)
                .push(event.verdict);
            all
        });
    use Verdict::{Amended, Conflict, Counted, Rejected, Unmatched, Void, Voided, WithoutValue};
    let expected = [
        (("acme", UUID), vec![Counted]),
        (("acme", "ahead"), vec![Rejected]),
        (("acme", "amended"), vec![Amended]),
        (("acme", "amendment"), vec![Counted]),
        (("acme", "bare"), vec![WithoutValue]),
        (("acme", "counted"), vec![Conflict, Counted]),
        (("acme", "restored"), vec![Counted]),
        (("acme", "stranger"), vec![Unmatched]),
        (("acme", "text"), vec![WithoutValue]),
        (("acme", "void"), vec![Void]),
        (("acme", "void of nothing"), vec![Void]),
        (("acme", "void of the void"), vec![Void]),
        (("acme", "voided"), vec![Voided]),
        (("beta", "counted"), vec![Counted]),
    ];
    assert_eq!(verdicts, expected.into_iter().collect());
    for verdict in
        [Counted, Unmatched, WithoutValue, Voided, Amended, Void, Rejected, Conflict, Verdict::Copy]
    {
        let only = EventQuery { verdicts: vec![verdict], ..query() };
        let only = world.all().events(&only).await.unwrap();
        let all: Vec<&FoundEvent> = page.events.iter().filter(|event| event.verdict == verdict).collect();
        assert_eq!(only.events.iter().collect::<Vec<_>>(), all, "{verdict:?}");
    }
    let of = |id: &str| page.events.iter().rfind(|event| event.id == id && event.tenant == "acme").unwrap();
    let counted = of("counted");
    let meters: Vec<(&str, Option<&str>)> =
        counted.meters.iter().map(|meter| (meter.meter.as_str(), meter.value.as_deref())).collect();
    assert_eq!(meters, [("bytes", Some("5")), ("requests", Some("1")), ("users", Some("u1"))]);
    assert_eq!((counted.source.as_str(), counted.kind.as_str()), ("web", "http.request"));
    assert_eq!(
        (counted.time, counted.arrived_at),
        (Some(at("2026-10-20T10:00:00Z")), world.facts[0].arrived_at)
    );
    assert_eq!(counted.measures["bytes"].to_string(), "5");
    assert_eq!(counted.dimensions["method"], "GET");
    assert_eq!(counted.identity, world.facts[0].event().identity().to_string());
    assert_eq!((counted.log.topic.as_str(), counted.log.batch % 100), ("usage", 0));
    assert!(
        page.events.iter().all(|event| event.stored_at.is_some_and(|at| at > began)),
        "{:?}",
        page.events
    );
    let bare: Vec<(&str, Option<&str>)> =
        of("bare").meters.iter().map(|meter| (meter.meter.as_str(), meter.value.as_deref())).collect();
    assert_eq!(bare, [("bytes", None), ("requests", Some("1")), ("users", None)]);
    assert_eq!(of("voided").corrected_by[0].id, "void");
    assert!(!of("voided").corrected_by[0].is_amendment && of("amended").corrected_by[0].is_amendment);
    assert_eq!(of("void of nothing").corrected_by[0].id, "void of the void");
    assert!(of("restored").corrected_by.is_empty());
    let ahead = of("ahead");
    assert_eq!((ahead.reason.as_str(), ahead.field.as_str()), ("in_future", "time"));
    assert!(ahead.detail.contains("after its arrival") && ahead.place.starts_with("usage/"), "{ahead:?}");
    assert_eq!((ahead.time, ahead.kind.as_str()), (Some(at("2027-10-23T10:00:00Z")), "http.request"));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_found_by_what_is_known_of_them() {
    let world = make_up("events_by").await;
    let by = async |query: EventQuery| {
        let page = world.all().events(&query).await.unwrap();
        ids(&page).into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(by(EventQuery { tenant: some("beta"), ..query() }).await, ["counted"]);
    assert_eq!(by(EventQuery { id: some(UUID), ..query() }).await, [UUID]);
    assert_eq!(by(EventQuery { id: some("counted"), ..query() }).await, ["counted"; 3]);
    assert_eq!(by(EventQuery { id: some("ahead"), ..query() }).await, ["ahead"]);
    assert_eq!(by(EventQuery { id: some(&UUID.to_uppercase()), ..query() }).await, [""; 0]);
    assert_eq!(by(EventQuery { kind: some("db.read"), ..query() }).await, ["stranger"]);
    assert_eq!(by(EventQuery { source: some("web"), ..query() }).await.len(), NEWEST.len());
    assert_eq!(by(EventQuery { source: some("elsewhere"), ..query() }).await, [""; 0]);
    assert_eq!(by(EventQuery { meter: some("stored"), ..query() }).await, ["text"]);
    let without = EventQuery { meter: some("users"), verdicts: vec![Verdict::WithoutValue], ..query() };
    assert_eq!(by(without).await, ["bare"]);
    let counted = EventQuery { meter: some("requests"), verdicts: vec![Verdict::Counted], ..query() };
    assert_eq!(by(counted).await, ["restored", "amendment", "bare", UUID, "counted", "counted"]);
    let span = EventQuery {
        from: Some(at("2026-10-20T10:00:00.000001Z")),
        to: Some(at("2026-10-20T12:00:00Z")),
        ..query()
    };
    assert_eq!(by(span).await, ["bare", UUID]);
    let oldest = EventQuery { order: Order::OldestFirst, ..query() };
    let mut expected = NEWEST;
    expected.reverse();
    assert_eq!(by(oldest).await, expected);
    // Any size of pages is the same list.
    for order in [Order::NewestFirst, Order::OldestFirst] {
        for limit in [1, 2, 4, 7] {
            let mut all: Vec<FoundEvent> = Vec::new();
            let mut cursor = None;
            loop {
                let page = EventQuery { order, limit, cursor: cursor.clone(), ..query() };
                let page = world.all().events(&page).await.unwrap();
                assert!(page.events.len() <= limit);
                all.extend(page.events);
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
                assert!(all.len().is_multiple_of(limit) && all.len() < 100);
            }
            let whole = world.all().events(&EventQuery { order, ..query() }).await.unwrap();
            assert_eq!(all, whole.events, "{order:?} by {limit}");
        }
    }
    for (query, name) in [
        (EventQuery { limit: 0, ..query() }, "limit"),
        (EventQuery { limit: 1_001, ..query() }, "limit"),
        (EventQuery { cursor: some("7"), ..query() }, "cursor"),
        (
            EventQuery {
                from: Some(at("2026-10-20T10:00:00Z")),
                to: Some(at("2026-10-20T10:00:00Z")),
                ..query()
            },
            "to",
        ),
    ] {
        let error = world.all().events(&query).await.unwrap_err();
        assert!(matches!(&error, UsageError::Parameter { name: found, .. } if *found == name), "{error}");
    }
    let error = world.all().events(&EventQuery { meter: some("byts"), ..query() }).await.unwrap_err();
    assert!(matches!(&error, UsageError::UnknownMeter { similar, .. } if similar == &["bytes"]), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_told_from_what_it_is_one_of() {
    let world = make_up("events_copies").await;
    let columns = "tenant, type, time, identity_high, identity_low, id_uuid, id_text, source, content, measure_names, measure_values, \
                   dimension_names, dimension_values, correction, corrects, meters, log_topic, log_partition, log_batch";
    world
        .pipeline
        .execute(&format!(
            "INSERT INTO events ({columns}, arrived_at) SELECT {columns}, arrived_at + INTERVAL 1 SECOND FROM events WHERE id IN ('restored', 'voided')"
        ))
        .await;
    let of = |verdicts: Vec<Verdict>| EventQuery { id: Some("restored".to_owned()), verdicts, ..query() };
    let both = world.all().events(&of(vec![])).await.unwrap().events;
    assert_eq!(both.iter().map(|event| event.verdict).collect::<Vec<_>>(), [Verdict::Copy, Verdict::Counted]);
    assert!(both[0].arrived_at > both[1].arrived_at);
    assert_eq!(world.all().events(&of(vec![Verdict::Copy])).await.unwrap().events, both[..1]);
    assert_eq!(world.all().events(&of(vec![Verdict::Counted])).await.unwrap().events, both[1..]);
    // A page may end between the two.
    for (order, expected) in
        [(Order::NewestFirst, both.clone()), (Order::OldestFirst, both.iter().rev().cloned().collect())]
    {
        let first = EventQuery { limit: 1, order, ..of(vec![]) };
        let one = world.all().events(&first).await.unwrap();
        let other = world.all().events(&EventQuery { cursor: one.next.clone(), ..first }).await.unwrap();
        assert_eq!([one.events, other.events].concat(), expected);
        assert_eq!(other.next, None);
    }
    // What takes back an event is told of each of its copies.
    let voided = EventQuery { id: Some("voided".to_owned()), ..query() };
    let both = world.all().events(&voided).await.unwrap().events;
    assert_eq!(both.iter().map(|event| event.verdict).collect::<Vec<_>>(), [Verdict::Copy, Verdict::Voided]);
    assert!(both.iter().all(|event| event.corrected_by.len() == 1), "{both:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_see_some_meters_sees_what_they_match() {
    let world = make_up("events_scope").await;
    let scoped = |meters: &[&str]| {
        let meters = meters.iter().map(|meter| (*meter).to_owned()).collect();
        world.usage().scoped(Scope::Tenant { tenant: "acme".to_owned(), meters })
    };
    let page = scoped(&[]).events(&query()).await.unwrap();
    assert_eq!(page.events.len(), NEWEST.len() - 1);
    assert!(page.events.iter().all(|event| event.tenant == "acme"));
    let other = EventQuery { tenant: Some("beta".to_owned()), ..query() };
    assert!(scoped(&[]).events(&other).await.unwrap().events.is_empty());
    let page = scoped(&["stored"]).events(&query()).await.unwrap();
    assert_eq!(ids(&page), ["text"]);
    assert_eq!(page.events[0].meters.len(), 1);
    let hidden = EventQuery { meter: Some("bytes".to_owned()), ..query() };
    assert!(
        matches!(scoped(&["stored"]).events(&hidden).await, Err(UsageError::UnknownMeter { known, .. }) if known == ["stored"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_stored_when_its_batch_is_done_and_stays_so() {
    let world = make_up("events_stored").await;
    // Two events more, as of batches that are not there.
    let columns = "tenant, type, time, identity_high, identity_low, id_uuid, source, content, measure_names, measure_values, \
                   dimension_names, dimension_values, correction, corrects, meters, arrived_at, log_topic, log_partition";
    for (id, batch) in [("early", 700_001), ("late", 700_002)] {
        let sql = format!(
            "INSERT INTO events ({columns}, id_text, log_batch) SELECT {columns}, '{id}', {batch} FROM events WHERE id = 'restored'"
        );
        world.pipeline.execute(&sql).await;
    }
    let stored_at = async |id: &str| {
        let query = EventQuery { id: Some(id.to_owned()), ..query() };
        world.all().events(&query).await.unwrap().events[0].stored_at
    };
    assert_eq!((stored_at("early").await, stored_at("late").await), (None, None));
    let done = async |batch: u64, seconds: i64| {
        let sql = format!(
            "INSERT INTO batches (topic, partition, first, digest, state, written_at) \
             SELECT log_topic, log_partition, log_batch, toString({seconds}), 1, arrived_at + INTERVAL {seconds} SECOND \
             FROM events WHERE log_batch = {batch}"
        );
        world.pipeline.execute(&sql).await;
    };
    // A log that was made anew has places that an older one had before.
    done(700_001, -60).await;
    assert_eq!(stored_at("early").await, None);
    done(700_001, 5).await;
    let first = stored_at("early").await.unwrap();
    assert_eq!(stored_at("late").await, None);
    done(700_002, 9).await;
    assert_eq!(stored_at("late").await.unwrap() - first, chrono::TimeDelta::seconds(4));
    // What comes to have the place later changes nothing.
    done(700_001, 3_600).await;
    assert_eq!(stored_at("early").await, Some(first));
}
