//! Duplicates are recognised over the whole window of arrival, by an aggregator that has just started.

use chrono::{DateTime, TimeDelta, Utc};
use rentroll_aggregator::books::{Selection, read};
use rentroll_engines::log::Record;
use rentroll_schemas::window::WINDOW;

use crate::common::{Pipeline, Sent};

fn event(id: usize, time: &str, arrived_at: DateTime<Utc>) -> Record {
    let sent = Sent { tenant: "acme", id: &id.to_string(), time, bytes: 1, method: "GET" };
    Record { arrived_at_ms: arrived_at.timestamp_millis(), ..sent.record() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_is_recognised_to_the_end_of_the_window() {
    let pipeline = Pipeline::new("window").await;
    let now = Utc::now();
    let ages = [TimeDelta::zero(), TimeDelta::days(1), TimeDelta::days(13), WINDOW - TimeDelta::hours(1)];
    // As they came then, oldest first.
    let first = ages.iter().enumerate().rev();
    let records = first.map(|(id, age)| event(id, "2015-05-17T10:05:03Z", now - *age)).collect::<Vec<_>>();
    let count = records.len() as u64;
    pipeline.send_records(records).await;
    // Another aggregator, which rebuilds its filters from the store; other batches, and another time.
    for (round, time) in [(1, "2015-05-17T11:00:00Z"), (2, "2015-06-01T00:00:00Z")] {
        let resent = (0..ages.len()).map(|id| event(id, time, Utc::now())).collect();
        pipeline.send_records(resent).await;
        let (rows, identities, times): (u64, u64, u64) = pipeline
            .store
            .client()
            .query("SELECT count(), uniqExact(identity), uniqExact(time) FROM events")
            .fetch_one()
            .await
            .unwrap();
        assert_eq!((rows, identities, times), (count, count, 1), "round {round}");
        let books = read(&pipeline.store, &Selection::default()).await.unwrap();
        let duplicates: u64 = books.hours.iter().map(|hour| hour.tally.duplicate).sum();
        assert_eq!((duplicates, books.hold()), (round * count, true));
    }
}
