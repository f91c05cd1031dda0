//! Rollups are what the events make them: after corrections, in whatever order they come, and after damage.

use chrono::{DateTime, TimeDelta, Utc};
use rentroll_aggregator::repair::check::Span;
use rentroll_aggregator::repair::keeper::{Keeper, Pass};
use rentroll_aggregator::repair::{Outcome, Proof, Table, dirty};

use crate::common::{Pipeline, Sent, record};

const HOUR: &str = "2015-05-17T10";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn hour() -> Span {
    Span::hour(at("2015-05-17T10:00:00Z"))
}

fn event<'a>(id: &'a str, time: &'a str, bytes: u64) -> Sent<'a> {
    Sent { tenant: "acme", id, time, bytes, method: "GET" }
}

async fn keeper(pipeline: &Pipeline) -> Keeper {
    Keeper {
        store: pipeline.store.clone(),
        meters: pipeline.meters.clone().into(),
        after: TimeDelta::minutes(10),
        metrics: None,
    }
}

/// Sends a correction: an event that voids or amends another one of the same tenant and source.
async fn correct(pipeline: &Pipeline, id: &str, word: &str, original: &str, time: &str, bytes: u64) {
    let json = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"web","type":"http.request","subject":"acme","time":"{time}","{word}":"{original}","data":{{"bytes":{bytes},"method":"PUT"}}}}"#
    );
    pipeline.send_records(vec![record(&json, Utc::now())]).await;
}

/// What the rollups of a table say of a meter in all: events, total, least, greatest.
async fn rollup(pipeline: &Pipeline, table: &str, meter: &str) -> (i64, String, String, String) {
    let sql = format!(
        "SELECT sum(events), toString(sum(total)), toString(min(least_value)), toString(max(greatest_value)) \
         FROM {table} WHERE meter = '{meter}'"
    );
    pipeline.store.client().query(&sql).fetch_one().await.unwrap()
}

/// All three tables say this of requests, bytes, and the largest and smallest of them.
async fn rollups_say(pipeline: &Pipeline, events: i64, bytes: u64, smallest: u64, largest: u64) {
    for table in Table::ALL.map(Table::name) {
        let (counted, total, ..) = rollup(pipeline, table, "requests").await;
        assert_eq!((counted, total), (events, events.to_string()), "requests in {table}");
        let (counted, total, ..) = rollup(pipeline, table, "egress_bytes").await;
        assert_eq!((counted, total), (events, bytes.to_string()), "bytes in {table}");
        let (counted, _, _, greatest) = rollup(pipeline, table, "largest").await;
        assert_eq!((counted, greatest), (events, largest.to_string()), "largest in {table}");
        let (counted, _, least, _) = rollup(pipeline, table, "smallest").await;
        assert_eq!((counted, least), (events, smallest.to_string()), "smallest in {table}");
    }
}

async fn settle(pipeline: &Pipeline) -> Pass {
    let pass = keeper(pipeline).await.settle().await.unwrap();
    assert_eq!(pass.left, 0);
    pass
}

/// Three events of 10, 20 and 70 bytes in one hour.
async fn three(pipeline: &Pipeline) {
    let times = ["05:03Z", "05:40Z", "31:00Z"].map(|rest| format!("{HOUR}:{rest}"));
    let sent = [event("1", &times[0], 10), event("2", &times[1], 20), event("3", &times[2], 70)];
    pipeline.send(&sent).await;
    rollups_say(pipeline, 3, 100, 10, 70).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_takes_its_original_out_of_every_rollup() {
    let pipeline = Pipeline::new("repair_void").await;
    three(&pipeline).await;
    correct(&pipeline, "v", "voids", "3", "2015-05-18T00:00:00Z", 0).await;
    let pass = settle(&pipeline).await;
    assert!(pass.repaired > 0, "{pass:?}");
    rollups_say(&pipeline, 2, 30, 10, 20).await;
    // The hours in which cells were deleted are looked at once more; then nothing is left to do.
    assert_eq!(settle(&pipeline).await.repaired, 0);
    assert_eq!(settle(&pipeline).await, Pass::default());
    // A void of the void brings it back; one more takes it out again, in the same way as the first time.
    correct(&pipeline, "w", "voids", "v", "2015-05-18T00:00:00Z", 0).await;
    settle(&pipeline).await;
    rollups_say(&pipeline, 3, 100, 10, 70).await;
    correct(&pipeline, "x", "voids", "3", "2015-05-18T00:00:00Z", 0).await;
    settle(&pipeline).await;
    rollups_say(&pipeline, 2, 30, 10, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_may_come_before_its_original() {
    let pipeline = Pipeline::new("repair_void_first").await;
    correct(&pipeline, "v", "voids", "2", "2015-05-18T00:00:00Z", 0).await;
    assert_eq!(settle(&pipeline).await, Pass::default());
    three(&pipeline).await;
    settle(&pipeline).await;
    rollups_say(&pipeline, 2, 80, 10, 70).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amendment_counts_in_place_of_its_original_across_days() {
    let pipeline = Pipeline::new("repair_amend").await;
    three(&pipeline).await;
    correct(&pipeline, "a", "amends", "1", "2015-06-02T23:59:59Z", 40).await;
    settle(&pipeline).await;
    rollups_say(&pipeline, 3, 130, 20, 70).await;
    let of_may: (i64, String) = pipeline
        .store
        .client()
        .query("SELECT sum(events), toString(sum(total)) FROM usage_day WHERE meter = 'egress_bytes' AND bucket < '2015-06-01 00:00:00'")
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(of_may, (2, "90".to_owned()));
    // The amendment is amended in turn: it is replaced, and what it replaced stays so.
    correct(&pipeline, "b", "amends", "a", "2015-05-17T10:05:05Z", 5).await;
    settle(&pipeline).await;
    rollups_say(&pipeline, 3, 95, 5, 70).await;
    // Without it the first amendment is back; without that, the original.
    correct(&pipeline, "v", "voids", "b", "2015-05-17T10:05:05Z", 0).await;
    settle(&pipeline).await;
    rollups_say(&pipeline, 3, 130, 20, 70).await;
    correct(&pipeline, "w", "voids", "a", "2015-05-17T10:05:05Z", 0).await;
    settle(&pipeline).await;
    rollups_say(&pipeline, 3, 100, 10, 70).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_every_kind_is_found_reported_and_repaired() {
    let pipeline = Pipeline::new("repair_damage").await;
    three(&pipeline).await;
    let proof = |repairs| Proof { store: &pipeline.store, meters: &pipeline.meters, repairs, why: "test" };
    assert_eq!(proof(true).hours(hour()).await.unwrap(), Outcome::Settled(Vec::new()));
    let damages = [
        // A batch whose rollup was inserted twice.
        "INSERT INTO rollup_minute SELECT * FROM rollup_minute WHERE has(splitByChar('\\0', toString(meters)), 'egress_bytes') LIMIT 1",
        // One that was never inserted.
        "ALTER TABLE rollup_hour DELETE WHERE has(splitByChar('\\0', toString(meters)), 'requests') SETTINGS mutations_sync = 2",
        // Usage of nobody.
        "INSERT INTO rollup_minute (meters, tenant, bucket, dimensions, events, total_1) \
         VALUES ('requests\\0', 'ghost', '2015-05-17 10:07:00', '{\"method\":\"\\\\u0001\"}', 1, 1)",
        // Extremes that no event has.
        "INSERT INTO rollup_hour (meters, tenant, bucket, dimensions, events, total_1, least_value, greatest_value) \
         VALUES ('largest\\0', 'acme', '2015-05-17 10:00:00', '{}', 0, 0, 1, 999), ('smallest\\0', 'acme', '2015-05-17 10:00:00', '{}', 0, 0, 1, 1)",
    ];
    for damage in damages {
        pipeline.execute(damage).await;
        let Outcome::Settled(seen) = proof(false).hours(hour()).await.unwrap() else { panic!("in motion") };
        assert!(!seen.is_empty(), "not seen: {damage}");
        assert!(
            !matches!(proof(true).hours(hour()).await.unwrap(), Outcome::Settled(none) if none.is_empty())
        );
        assert_eq!(proof(false).hours(hour()).await.unwrap(), Outcome::Settled(Vec::new()), "{damage}");
    }
    rollups_say(&pipeline, 3, 100, 10, 70).await;
    pipeline.execute("INSERT INTO rollup_day SELECT * FROM rollup_day").await;
    let Outcome::Settled(days) = proof(true).days(Span::day_of(hour().from)).await.unwrap() else { panic!() };
    assert_eq!(days.len(), 4);
    rollups_say(&pipeline, 3, 100, 10, 70).await;
    let (repairs, checks): (u64, u64) = pipeline
        .store
        .client()
        .query("SELECT count(), assumeNotNull((SELECT sum(differences) FROM rollup_checks)) FROM repairs WHERE why = 'test'")
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(repairs, checks);
    assert!(repairs >= 9, "{repairs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_an_event_count_once_and_batches_that_are_not_done_are_waited_for() {
    let pipeline = Pipeline::new("repair_copies").await;
    three(&pipeline).await;
    let columns = "tenant, type, time, identity_high, identity_low, id_uuid, id_text, source, content, measure_names, measure_values, \
                   dimension_names, dimension_values, correction, corrects, meters, log_topic, log_partition, log_batch";
    // A zombie's copy, later than the original.
    pipeline
        .execute(&format!(
            "INSERT INTO events ({columns}, arrived_at) SELECT {columns}, arrived_at + INTERVAL 1 SECOND FROM events WHERE id = '3'"
        ))
        .await;
    let proof = Proof { store: &pipeline.store, meters: &pipeline.meters, repairs: true, why: "test" };
    assert_eq!(proof.hours(hour()).await.unwrap(), Outcome::Settled(Vec::new()));
    // Rows of a batch that is planned and not done.
    let batch = columns.replace("log_batch", "log_batch + 1000").replace("identity_low", "identity_low + 1");
    pipeline
        .execute(
            "INSERT INTO batches (topic, partition, first, next, state, written_at) \
             SELECT 'usage', log_partition, log_batch + 1000, log_batch + 1001, 0, now64(3) FROM events WHERE id = '1' LIMIT 1",
        )
        .await;
    pipeline
        .execute(&format!(
            "INSERT INTO events ({columns}, arrived_at) SELECT {batch}, arrived_at FROM events WHERE id = '1'"
        ))
        .await;
    assert_eq!(proof.hours(hour()).await.unwrap(), Outcome::InMotion);
    rollups_say(&pipeline, 3, 100, 10, 70).await;
    // It is finished, without its rollups: found and put right.
    pipeline
        .execute("INSERT INTO batches (topic, partition, first, next, state, written_at) SELECT topic, partition, first, next, 1, now64(3) FROM batches WHERE first >= 1000")
        .await;
    assert!(matches!(proof.hours(hour()).await.unwrap(), Outcome::Settled(some) if some.len() == 8));
    proof.days(Span::day_of(hour().from)).await.unwrap();
    rollups_say(&pipeline, 4, 110, 10, 70).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_repair_the_same_do_it_once() {
    let pipeline = Pipeline::new("repair_twice").await;
    three(&pipeline).await;
    for round in 0..5 {
        pipeline
            .execute(
                "INSERT INTO rollup_minute SELECT * FROM rollup_minute WHERE has(splitByChar('\\0', toString(meters)), 'egress_bytes') LIMIT 1",
            )
            .await;
        let repair = |span: Span| {
            let (store, meters) = (pipeline.store.clone(), pipeline.meters.clone());
            tokio::spawn(async move {
                let proof = Proof { store: &store, meters: &meters, repairs: true, why: "race" };
                proof.hours(span).await.unwrap()
            })
        };
        // However much each of them reads at once.
        let wider = Span { from: hour().from - TimeDelta::hours(3), to: hour().to + TimeDelta::hours(1) };
        let (one, two, three) = (repair(hour()), repair(hour()), repair(wider));
        for done in [one, two, three] {
            assert!(matches!(done.await.unwrap(), Outcome::Settled(_)), "{round}");
        }
        rollups_say(&pipeline, 3, 100, 10, 70).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_that_ended_and_hours_that_are_marked_are_checked() {
    let pipeline = Pipeline::new("repair_keeper").await;
    three(&pipeline).await;
    pipeline.execute("INSERT INTO rollup_hour SELECT * FROM rollup_hour").await;
    let keeper = keeper(&pipeline).await;
    // Nobody said anything about that hour. The aggregator may have seen to hours up to now.
    let present = dirty::hour_of(Utc::now());
    let now = present + TimeDelta::hours(5) + TimeDelta::minutes(5);
    let pass = keeper.pass(now).await.unwrap();
    assert!((1..=5).contains(&pass.checked), "{pass:?}");
    let (why, hour): (String, u32) = pipeline
        .store
        .client()
        .query("SELECT toString(any(why)), toUInt32(max(hour)) FROM dirty_hours FINAL WHERE state = 1")
        .fetch_one()
        .await
        .unwrap();
    // Ten minutes after its end at the earliest.
    assert_eq!((why.as_str(), i64::from(hour)), ("ended", (present + TimeDelta::hours(3)).timestamp()));
    assert_eq!(keeper.pass(now + TimeDelta::minutes(10)).await.unwrap().checked, 1);
    // What was missed while nobody ran is caught up with.
    assert_eq!(keeper.pass(now + TimeDelta::hours(5)).await.unwrap().checked, 4);
    dirty::mark(&pipeline.store, [at("2015-05-17T10:31:07Z")], "repeated").await.unwrap();
    let pass = keeper.pass(now + TimeDelta::hours(5)).await.unwrap();
    assert_eq!((pass.checked, pass.left), (1, 0));
    assert!(pass.repaired >= 4, "{pass:?}");
    rollups_say(&pipeline, 3, 100, 10, 70).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_hours_are_checked_together_and_one_that_is_being_written_holds_up_none() {
    let pipeline = Pipeline::new("repair_many").await;
    let times: Vec<String> = (10..22).map(|day| format!("2015-05-{day}T05:05:03Z")).collect();
    let ids: Vec<String> = (0..12).map(|id| id.to_string()).collect();
    let sent: Vec<Sent<'_>> = ids.iter().zip(&times).map(|(id, time)| event(id, time, 10)).collect();
    pipeline.send(&sent).await;
    pipeline.execute("INSERT INTO rollup_minute SELECT * FROM rollup_minute").await;
    // The batch of one more event, in one of the hours, is not done.
    let late = [Sent { tenant: "late", ..event("late", "2015-05-17T05:31:00Z", 10) }];
    pipeline.send(&late).await;
    pipeline
        .execute(
            "INSERT INTO batches (topic, partition, first, next, state, written_at) \
             SELECT 'usage', log_partition, log_batch + 1000, log_batch + 1001, 0, now64(3) FROM events WHERE id = 'late'",
        )
        .await;
    pipeline
        .execute("ALTER TABLE events UPDATE log_batch = log_batch + 1000 WHERE id = 'late' SETTINGS mutations_sync = 2")
        .await;
    dirty::mark(&pipeline.store, times.iter().map(|time| at(time)), "repeated").await.unwrap();
    let keeper = keeper(&pipeline).await;
    let pass = keeper.settle().await.unwrap();
    assert_eq!((pass.checked, pass.left), (11, 1), "{pass:?}");
    pipeline
        .execute("INSERT INTO batches (topic, partition, first, next, state, written_at) SELECT topic, partition, first, next, 1, now64(3) FROM batches WHERE first >= 1000")
        .await;
    let pass = keeper.settle().await.unwrap();
    assert_eq!((pass.checked, pass.left), (1, 0), "{pass:?}");
    assert_eq!(settle(&pipeline).await, Pass::default());
    for table in Table::ALL.map(Table::name) {
        let (counted, total, ..) = rollup(&pipeline, table, "egress_bytes").await;
        assert_eq!((counted, total), (13, "130".to_owned()), "{table}");
    }
    // Those of quiet days are read together.
    let checks: u64 = pipeline
        .store
        .client()
        .query("SELECT count() FROM rollup_checks WHERE why = 'repeated' AND ends_at > starts_at + 86400")
        .fetch_one()
        .await
        .unwrap();
    assert!(checks > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn meters_may_all_be_sums() {
    let mut pipeline = Pipeline::new("repair_sums").await;
    pipeline.meters.meters.retain(|meter| meter.name == "egress_bytes");
    let time = format!("{HOUR}:05:03Z");
    pipeline.send(&[event("1", &time, 10), event("2", &time, 20)]).await;
    correct(&pipeline, "v", "voids", "1", &time, 0).await;
    assert!(settle(&pipeline).await.repaired > 0);
    for table in Table::ALL.map(Table::name) {
        let (events, total, ..) = rollup(&pipeline, table, "egress_bytes").await;
        assert_eq!((events, total.as_str()), (1, "20"), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dimensions_are_written_alike_by_worker_and_check() {
    let pipeline = Pipeline::new("repair_dimensions").await;
    let methods = [
        r#"a\"b"#,
        r"a\\b",
        r"\u0000\u0001\u0007\b\t\n\u000b\f\r\u001f\u007f",
        "é☃\u{2028}/'`",
        "",
        "?{x:String}",
    ];
    let mut records = Vec::new();
    for (id, method) in methods.iter().enumerate() {
        let json = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"web","type":"http.request","subject":"acme","time":"2015-05-17T10:00:00Z","data":{{"bytes":1.000000001,"method":"{method}"}}}}"#
        );
        records.push(record(&json, Utc::now()));
    }
    pipeline.send_records(records).await;
    let proof = Proof { store: &pipeline.store, meters: &pipeline.meters, repairs: false, why: "test" };
    assert_eq!(proof.hours(hour()).await.unwrap(), Outcome::Settled(Vec::new()));
    assert_eq!(rollup(&pipeline, "usage_hour", "requests").await.0, methods.len() as i64);
}
