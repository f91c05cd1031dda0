//! The books hold after real work, and show every kind of loss.

use chrono::{DateTime, TimeDelta, Utc};
use rentroll_aggregator::books::{Books, Selection, read};

use crate::common::{Pipeline, Sent};

async fn books(pipeline: &Pipeline) -> Books {
    read(&pipeline.store, &Selection::default()).await.unwrap()
}

/// Whether the books of these hours and this source hold.
async fn hold(
    pipeline: &Pipeline,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    source: Option<&str>,
) -> bool {
    let selection = Selection { from, to, source: source.map(str::to_owned) };
    read(&pipeline.store, &selection).await.unwrap().hold()
}

async fn send(pipeline: &Pipeline, ids: std::ops::Range<u32>) {
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    let sent: Vec<Sent<'_>> = ids
        .iter()
        .map(|id| Sent { tenant: "acme", id, time: "2015-05-17T10:05:03Z", bytes: 5, method: "GET" })
        .collect();
    pipeline.send(&sent).await;
}

fn sum(books: &Books) -> (u64, u64, u64, u64) {
    let sum = |of: fn(&rentroll_aggregator::books::Hour) -> u64| books.hours.iter().map(of).sum();
    (
        sum(|hour| hour.tally.accepted),
        sum(|hour| hour.tally.stored),
        sum(|hour| hour.tally.duplicate),
        sum(|hour| hour.found.unwrap()),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn they_hold_and_a_log_made_anew_is_no_gap() {
    let mut pipeline = Pipeline::new("books_hold").await;
    send(&pipeline, 0..500).await;
    send(&pipeline, 400..700).await;
    let before = books(&pipeline).await;
    assert!(before.hold(), "{before:#?}");
    assert_eq!(sum(&before), (800, 700, 100, 700));
    assert_eq!(before.chains.iter().map(|chain| chain.next).sum::<u64>(), 800);
    pipeline.lose_log();
    send(&pipeline, 600..1000).await;
    let after = books(&pipeline).await;
    assert!(after.hold(), "{after:#?}");
    assert_eq!(sum(&after), (1200, 1000, 200, 1000));
    assert!(after.chains.iter().all(|chain| chain.logs == 2), "{:?}", after.chains);
    assert_eq!(after.chains.iter().map(|chain| chain.next).sum::<u64>(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_lost_in_the_store_shows_in_its_hour() {
    let pipeline = Pipeline::new("books_row_lost").await;
    send(&pipeline, 0..50).await;
    pipeline.execute("ALTER TABLE events DELETE WHERE id IN ('7', '8') SETTINGS mutations_sync = 2").await;
    let off = books(&pipeline).await;
    assert!(!off.hold());
    let faults: Vec<&String> = off.hours.iter().flat_map(|hour| &hour.faults).collect();
    assert_eq!(faults, ["2 events missing"]);
    // Another source's books are another matter.
    let other = Selection { source: Some("other".to_owned()), ..Selection::default() };
    assert!(read(&pipeline.store, &other).await.unwrap().hours.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_lost_in_the_log_show_with_their_positions() {
    let pipeline = Pipeline::new("books_log_lost").await;
    send(&pipeline, 0..50).await;
    let next = books(&pipeline).await.chains.iter().find(|chain| chain.partition == 0).unwrap().next;
    // As if the log had lost ten positions, and one more inside the next batch.
    pipeline
        .execute(&format!(
            "INSERT INTO batches SELECT * REPLACE ({next} + 10 AS first, {next} + 10 + next - first + 1 AS next, now64(3) AS written_at) \
             FROM batches FINAL WHERE topic = 'usage' AND partition = 0 ORDER BY first DESC LIMIT 1"
        ))
        .await;
    let off = books(&pipeline).await;
    let chain = off.chains.iter().find(|chain| chain.partition == 0).unwrap();
    assert_eq!((chain.gaps.len(), chain.gaps[0].from, chain.gaps[0].to), (1, next, next + 10));
    assert_eq!((chain.short.len(), chain.short[0].first, chain.missing()), (1, next + 10, 11));
    assert!(!off.hold());
    // Both are of the hours of the batches around.
    let arrived = chain.short[0].arrived;
    assert!(hold(&pipeline, None, arrived.from, None).await);
    assert!(hold(&pipeline, arrived.before, None, None).await);
    assert!(!hold(&pipeline, arrived.from, arrived.before, None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_lost_counts_for_the_hours_and_sources_that_it_may_be_of() {
    let pipeline = Pipeline::new("books_log_lost_hours").await;
    send(&pipeline, 0..50).await;
    // A batch three hours later behind ten positions that are lost, and another source four hours later.
    let later = |partition: u16, skipped: u64, source: &str, hours: u8| {
        format!(
            "INSERT INTO batches SELECT * REPLACE (next + {skipped} AS first, next + {skipped} + 5 AS next, 5 AS records, \
               now64(3) AS written_at, [('{source}', tallies[-1].hour + INTERVAL {hours} HOUR, 0, 0, 0, 0)] AS tallies) \
             FROM batches FINAL WHERE topic = 'usage' AND partition = {partition} ORDER BY first DESC LIMIT 1"
        )
    };
    pipeline.execute(&later(0, 10, "web", 3)).await;
    pipeline.execute(&later(1, 0, "new", 5)).await;
    let all = books(&pipeline).await;
    assert!(!all.hold());
    let gap = all.chains.iter().flat_map(|chain| &chain.gaps).next().unwrap();
    let (begins, ends) = (gap.arrived.from.unwrap(), gap.arrived.before.unwrap());
    let hours = TimeDelta::hours;
    assert!(ends - begins >= hours(4), "{gap:?}");
    assert!(hold(&pipeline, None, Some(begins), None).await);
    assert!(hold(&pipeline, Some(ends), None, None).await);
    assert!(!hold(&pipeline, None, Some(begins + hours(1)), None).await);
    assert!(!hold(&pipeline, Some(ends - hours(1)), None, None).await);
    assert!(!hold(&pipeline, Some(begins + hours(1)), Some(begins + hours(2)), None).await, "between both");
    assert!(!hold(&pipeline, None, None, Some("web")).await);
    assert!(hold(&pipeline, None, None, Some("new")).await, "it sent nothing before the gap was over");
    assert!(!hold(&pipeline, None, None, Some("never seen")).await, "all of it may be lost");
    assert!(hold(&pipeline, Some(ends), None, Some("web")).await);
    let past = Selection { to: Some(begins), ..Selection::default() };
    let past = read(&pipeline.store, &past).await.unwrap();
    assert!(past.chains.iter().flat_map(|chain| &chain.gaps).all(|gap| gap.elsewhere), "told all the same");
    assert_eq!(past.chains.iter().map(|chain| chain.gaps.len()).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_waits_is_told_and_one_that_was_passed_over_is_a_fault() {
    let pipeline = Pipeline::new("books_unfinished").await;
    send(&pipeline, 0..50).await;
    let plan = |first: u64, age: &str| {
        format!(
            "INSERT INTO batches (topic, partition, first, next, digest, state, written_at) \
             VALUES ('usage', 0, {first}, {first} + 5, unhex('00'), 0, now64(3) - INTERVAL {age})"
        )
    };
    pipeline.execute(&plan(1_000, "1 MINUTE")).await;
    let waiting = books(&pipeline).await;
    assert!(waiting.hold(), "{waiting:#?}");
    assert_eq!((waiting.unfinished.len(), waiting.unfinished[0].passed_over), (1, false));
    pipeline.execute(&plan(2_000, "1 HOUR")).await;
    let off = books(&pipeline).await;
    assert!(!off.hold());
    let passed_over = &off.unfinished[1];
    assert!(passed_over.passed_over);
    let (begins, ends) = (passed_over.arrived.from, passed_over.arrived.before);
    assert!(begins.unwrap() <= passed_over.planned_at && ends.unwrap() > passed_over.planned_at);
    assert!(!hold(&pipeline, begins, ends, None).await);
    assert!(hold(&pipeline, None, begins, None).await);
    assert!(hold(&pipeline, ends, None, None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_ahead_is_no_gap_in_what_came_after() {
    let pipeline = Pipeline::new("books_clock").await;
    for third in 0..3 {
        send(&pipeline, third * 50..(third + 1) * 50).await;
    }
    // As if the first batch of each partition had been done by a clock that was an hour ahead, and the third one an
    // hour after the second.
    let dated = |which: &str, step: &str| {
        format!(
            "INSERT INTO batches SELECT * REPLACE (written_at {step} AS written_at) FROM batches FINAL \
             WHERE topic = 'usage' AND (partition, first) IN \
               (SELECT partition, {which}(first) FROM batches WHERE topic = 'usage' GROUP BY partition)"
        )
    };
    pipeline.execute(&dated("min", "+ INTERVAL 60 MINUTE")).await;
    pipeline.execute(&dated("max", "+ INTERVAL 61 MINUTE")).await;
    let orders: u64 = pipeline
        .store
        .client()
        .query(
            "SELECT uniqExact(firsts) FROM (SELECT partition, groupArray(first) AS firsts FROM \
               (SELECT * FROM batches FINAL WHERE topic = 'usage' ORDER BY written_at) GROUP BY partition \
               HAVING firsts != arraySort(firsts) AND length(firsts) >= 3)",
        )
        .fetch_one()
        .await
        .unwrap();
    assert!(orders > 0, "no partition has its batches in another order than that of the log");
    let from = Utc::now() + TimeDelta::minutes(30);
    for from in [None, Some(from)] {
        let read = read(&pipeline.store, &Selection { from, ..Selection::default() }).await.unwrap();
        assert!(read.hold(), "{from:?}: {read:#?}");
    }
}
