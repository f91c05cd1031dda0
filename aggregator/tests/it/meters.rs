//! Meters change while events come, and what came before is counted by what holds for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rentroll_aggregator::meters::registry::{API, FILE, end, put};
use rentroll_aggregator::meters::watch::{catch_up, seeded};
use rentroll_aggregator::meters::{Change, LiveMeters, MeterError, load, seed};
use rentroll_aggregator::repair::keeper::Keeper;
use rentroll_aggregator::run::{Setup, aggregate};
use rentroll_engines::log::EventLog;
use rentroll_engines::store::Store;
use rentroll_schemas::meter::{Meter, Meters};
use rentroll_schemas::topics::Topic;

use crate::common::{Pipeline, Sent, record};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn meter(json: &str) -> Meter {
    serde_json::from_str(json).unwrap()
}

const READS: &str = r#"{"name":"reads","unit":"read","event_type":"db.read","aggregation":"sum","value":"rows","group_by":["table"]}"#;

async fn settle(store: &Store, meters: &LiveMeters) {
    catch_up(store, &meters.now()).await.unwrap();
    let keeper =
        Keeper { store: store.clone(), meters: meters.clone(), after: TimeDelta::minutes(10), metrics: None };
    for _ in 0..20 {
        if keeper.settle().await.unwrap().left == 0 {
            return;
        }
    }
    panic!("hours are left");
}

/// (events, total) of a meter, the same in every table.
async fn usage(store: &Store, meter: &str) -> (i64, String) {
    let mut found = Vec::new();
    for table in ["usage_minute", "usage_hour", "usage_day"] {
        let sql = format!("SELECT sum(events), toString(sum(total)) FROM {table} WHERE meter = '{meter}'");
        found.push(store.client().query(&sql).fetch_one::<(i64, String)>().await.unwrap());
    }
    assert!(found.iter().all(|one| *one == found[0]), "{meter}: {found:?}");
    found.swap_remove(0)
}

async fn count(store: &Store, table: &str) -> u64 {
    store.client().query(&format!("SELECT count() FROM {table}")).fetch_one().await.unwrap()
}

fn read(id: usize, rows: &str) -> String {
    let (hour, minute) = (id / 60 % 24, id % 60);
    format!(
        r#"{{"specversion":"1.0","id":"r{id}","source":"db","type":"db.read","subject":"t{}","time":"2015-05-17T{hour:02}:{minute:02}:01Z","data":{{"table":"t{}","rows":{rows}}}}}"#,
        id % 5,
        id % 3
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meter_added_while_events_come_counts_every_one_of_them() {
    let pipeline = Pipeline::new("meters_added").await;
    let store = &pipeline.store;
    let meters = LiveMeters::new(seeded(store, &pipeline.meters).await.unwrap());
    assert_eq!(*meters.now(), pipeline.meters, "in the order of the file");
    let (log, stop) = (Arc::new(pipeline.log()), Arc::new(AtomicBool::new(false)));
    let setup = Setup { meters: meters.clone(), ..pipeline.setup(log.clone(), &stop) };
    let runtime = tokio::runtime::Handle::current();
    let running = tokio::task::spawn_blocking(move || aggregate(&setup, &runtime));
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut sent, mut after) = (0, 0);
    // Some have no value; the first ones and some of the last ones are in flight when the meter comes.
    while after < 10 {
        let value =
            |id: usize| if id.is_multiple_of(10) { "\"many\"".to_owned() } else { format!("\"{}\"", id % 7) };
        let records = (sent..sent + 40).map(|id| record(&read(id, &value(id)), Utc::now())).collect();
        log.append(Topic::Usage, records).await.unwrap();
        sent += 40;
        if sent == 200 {
            put(store, &meter(READS), API, Utc::now()).await.unwrap();
        }
        after += usize::from(meters.now().get("reads").is_some());
        assert!(Instant::now() < deadline, "the meter was not taken up");
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    while log.lag("test", Topic::Usage).unwrap().iter().any(|lag| lag.committed < lag.end) {
        assert!(Instant::now() < deadline, "the aggregator did not get through");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    running.await.unwrap().unwrap();
    settle(store, &meters).await;

    let with_value = (0..sent).filter(|id: &usize| !id.is_multiple_of(10));
    let total: usize = with_value.clone().map(|id| id % 7).sum();
    assert_eq!(usage(store, "reads").await, (with_value.count() as i64, total.to_string()));
    let without = sent.div_ceil(10) as i64;
    assert_eq!(usage(store, "__without_value__").await, (without, without.to_string()));
    assert_eq!(usage(store, "__unmatched__").await, (0, "0".to_owned()), "all have their meter now");
    assert_eq!(count(store, "repairs").await, 0, "nothing was wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_a_version_from_its_minute_on_and_an_end_is_one_too() {
    let mut pipeline = Pipeline::new("meters_changed").await;
    let store = &pipeline.store.clone();
    let sent = |id, time, bytes| Sent {
        tenant: "acme",
        id,
        time,
        bytes,
        method: if bytes > 50 { "PUT" } else { "GET" },
    };
    let all = [
        sent("1", "2015-05-17T10:04:59Z", 10),
        sent("2", "2015-05-17T10:05:00Z", 100),
        sent("3", "2015-05-17T10:05:00Z", 20),
        sent("4", "2015-05-18T10:00:00Z", 40),
    ];
    let now = at("2015-05-17T10:04:10Z");
    let file = Meters {
        meters: vec![meter(
            r#"{"name":"bytes","unit":"byte","event_type":"http.request","aggregation":"sum","value":"bytes"}"#,
        )],
    };
    let meters = LiveMeters::new(seeded(store, &file).await.unwrap());
    pipeline.meters = Meters::clone(&meters.now());
    pipeline.send(&all).await;
    assert_eq!(usage(store, "bytes").await, (4, "170".to_owned()));

    let changed = Meter {
        filter: serde_json::from_str(r#"{"method":{"not":["PUT"]}}"#).unwrap(),
        ..file.meters[0].clone()
    };
    let change = put(store, &changed, FILE, now).await.unwrap();
    let from = Some(at("2015-05-17T10:05:00Z"));
    assert_eq!(change, Change::Versioned { name: "bytes".into(), version: 2, effective_from: from });
    assert_eq!(
        put(store, &changed, FILE, now).await.unwrap(),
        Change::Unchanged { name: "bytes".into(), version: 2 }
    );
    meters.replace(load(store).await.unwrap());
    settle(store, &meters).await;
    assert_eq!(usage(store, "bytes").await, (3, "70".to_owned()), "the large one came after the change");
    assert_eq!(usage(store, "__unmatched__").await, (1, "1".to_owned()));

    // A file without it ends it; another look changes nothing.
    let later = at("2015-05-18T09:59:30Z");
    let changes = seed(store, &Meters::default(), later).await.unwrap();
    assert_eq!(changes, [Change::Ended { name: "bytes".into(), effective_from: at("2015-05-18T10:00:00Z") }]);
    assert_eq!(seed(store, &Meters::default(), later).await.unwrap(), []);
    meters.replace(load(store).await.unwrap());
    settle(store, &meters).await;
    assert_eq!(usage(store, "bytes").await, (2, "30".to_owned()));
    assert!(matches!(end(store, "bytes", API, later).await, Err(MeterError::Unknown(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_change_is_refused_with_its_reason() {
    let pipeline = Pipeline::new("meters_refused").await;
    let store = &pipeline.store;
    let now = at("2030-06-10T12:00:30Z");
    put(store, &meter(READS), API, now).await.unwrap();
    let refused = |error: MeterError| match error {
        MeterError::Definition { field, reason } => (field, reason),
        other => panic!("{other}"),
    };
    for (change, field, word) in [
        (Meter { unit: "row".into(), ..meter(READS) }, "unit", "another name"),
        (meter(&READS.replace("\"sum\"", "\"max\"")), "aggregation", "another name"),
        (Meter { name: "Reads".into(), ..meter(READS) }, "name", "a-z"),
        (
            Meter { group_by: vec![], effective_from: Some(at("2030-06-10T12:00:30Z")), ..meter(READS) },
            "effective_from",
            "whole minute",
        ),
    ] {
        let (found, reason) = refused(put(store, &change, API, now).await.unwrap_err());
        assert!(found == field && reason.contains(word), "{found}: {reason}");
    }
    pipeline
        .execute(
            "INSERT INTO periods (period, zone, starts_at, ends_at, state) \
             VALUES ('2030-05', 'UTC', '2030-05-01 00:00:00', '2030-06-01 00:00:00', 'closed')",
        )
        .await;
    let early = Meter { group_by: vec![], effective_from: Some(at("2030-05-31T23:59:00Z")), ..meter(READS) };
    let (field, reason) = refused(put(store, &early, API, now).await.unwrap_err());
    assert!(field == "effective_from" && reason.contains("2030-06-01"), "{reason}");
    let at_its_end = Meter { effective_from: Some(at("2030-06-01T00:00:00Z")), ..early };
    put(store, &at_its_end, API, now).await.unwrap();
    // A new meter counts what came before, closed or not: no invoice is made of it.
    put(store, &Meter { name: "reads_too".into(), ..meter(READS) }, API, now).await.unwrap();
    let names: Vec<_> =
        load(store).await.unwrap().meters.into_iter().map(|one| (one.name, one.version)).collect();
    assert_eq!(names, [("reads".to_owned(), 1), ("reads".to_owned(), 2), ("reads_too".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_each_gets_a_version_of_its_own() {
    let pipeline = Pipeline::new("meters_race").await;
    let store = &pipeline.store;
    put(store, &meter(READS), API, Utc::now()).await.unwrap();
    let change = |key: &str| Meter { group_by: vec![key.to_owned()], ..meter(READS) };
    let (a, b) = (change("a"), change("b"));
    let (first, second) = tokio::join!(put(store, &a, API, Utc::now()), put(store, &b, API, Utc::now()));
    let version = |change: Result<Change, MeterError>| match change.unwrap() {
        Change::Versioned { version, .. } => version,
        other => panic!("{other:?}"),
    };
    let mut versions = [version(first), version(second)];
    versions.sort_unstable();
    assert_eq!(versions, [2, 3]);
}
