//! Crashes and races, against the real embedded engine: each step of a run is driven by hand, broken off, and
//! taken up again.
#![allow(clippy::unwrap_used)]

use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use clickhouse::Row;
use serde::Deserialize;

use super::*;
use crate::common;

const EVENTS: &[common::Sent<'_>] = &[
    ("acme", "1", "2015-05-01 00:00:00", Some(1_500_000_000)),
    ("acme", "2", "2015-05-31 23:59:59", Some(500_000_000)),
    ("acme", "3", "2015-05-17 10:05:03", None),
    ("acme", "4", "2015-05-17 10:05:04", None),
    ("beta", "1", "2015-05-17 10:05:03", Some(7)),
    ("gamma", "1", "2015-05-17 10:05:03", Some(7)),
    ("gamma", "2", "2015-05-17 10:05:03", Some(7)),
    ("gamma", "3", "2015-05-17 10:05:03", Some(7)),
];

fn may() -> Period {
    Period::parse("2015-05", Tz::UTC).unwrap()
}

fn at(text: &str) -> RunOptions {
    RunOptions { dry_run: false, now: text.parse().unwrap() }
}

#[derive(Row, Deserialize)]
struct Document {
    document: String,
}

async fn documents(store: &Store) -> Vec<String> {
    let sql = "SELECT document FROM invoices ORDER BY series, sequence";
    let rows: Vec<Document> = store.client().query(sql).fetch_all().await.unwrap();
    rows.into_iter().map(|row| row.document).collect()
}

/// How far a run gets before it is broken off.
#[derive(Clone, Copy, Debug)]
enum BrokenOff {
    Plan,
    FirstBlock,
    AllBlocks,
    Lines,
}

async fn begin(store: &Store, now: DateTime<Utc>, broken_off: BrokenOff) {
    let (catalogue, meters, period) = (common::catalogue("UTC"), common::meters(), may());
    let usage = usage::read(store, &meters, &period).await.unwrap();
    let mut frame = Frame::new(&catalogue, &meters, &period, now).unwrap();
    let plan = plan::claim(store, &frame, &usage.digest()).await.unwrap();
    (frame.issue_date, frame.data_as_of) = (plan.issue_date, plan.data_as_of);
    match broken_off {
        BrokenOff::Plan => {}
        BrokenOff::FirstBlock => {
            let mut ledger = issue::Ledger::default();
            assert!(issue::next_block(store, &frame, &plan, &usage, &mut ledger, 2).await.unwrap());
        }
        BrokenOff::AllBlocks | BrokenOff::Lines => {
            assert_eq!(issue::all(store, &frame, &plan, &usage).await.unwrap(), 3);
        }
    }
    if matches!(broken_off, BrokenOff::Lines) {
        lines::complete(store, &period).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_broken_off_makes_the_same_invoices() {
    let (catalogue, meters, period) = (common::catalogue("UTC"), common::meters(), may());
    let whole = common::store("whole").await;
    common::send(&whole, EVENTS).await;
    run(&whole, &catalogue, &meters, &period, at("2015-06-01T08:00:00Z")).await.unwrap();
    let expected = documents(&whole).await;
    assert_eq!(expected.len(), 3);

    for broken_off in [BrokenOff::Plan, BrokenOff::FirstBlock, BrokenOff::AllBlocks, BrokenOff::Lines] {
        let store = common::store(&format!("broken_{broken_off:?}")).await;
        common::send(&store, EVENTS).await;
        begin(&store, "2015-06-01T08:00:00Z".parse().unwrap(), broken_off).await;
        // Taken up two days later: the issue date stays the planned one.
        let report = run(&store, &catalogue, &meters, &period, at("2015-06-03T08:00:00Z")).await.unwrap();
        assert_eq!(report.outcome, Outcome::Closed, "{broken_off:?}");
        assert_eq!(documents(&store).await, expected, "{broken_off:?}");
        let lines = common::one(&store, "SELECT count() FROM invoice_lines").await;
        assert_eq!(lines, common::one(&whole, "SELECT count() FROM invoice_lines").await, "{broken_off:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_arrives_while_a_run_is_broken_off_is_neither_lost_nor_billed_twice() {
    let (catalogue, meters, period) = (common::catalogue("UTC"), common::meters(), may());
    let store = common::store("arrived_between").await;
    common::send(&store, EVENTS).await;
    // acme and beta are issued, gamma is not.
    begin(&store, "2015-06-01T08:00:00Z".parse().unwrap(), BrokenOff::FirstBlock).await;
    let more = [
        ("acme", "5", "2015-05-20 00:00:00", None),
        ("gamma", "4", "2015-05-20 00:00:00", None),
        ("alpha", "1", "2015-05-20 00:00:00", None),
    ];
    common::send(&store, &more).await;
    let report = run(&store, &catalogue, &meters, &period, at("2015-06-03T08:00:00Z")).await.unwrap();
    assert_eq!((report.outcome, report.invoices, report.newly_issued), (Outcome::LateUsage, 4, 2));
    // One more request of acme's, at 0.015: rounds from 21.03 to 21.05.
    let late: Vec<_> =
        report.late.iter().map(|late| (late.tenant.as_str(), late.difference.to_string())).collect();
    assert_eq!(late, [("acme", "0.02".to_owned())]);
    let numbers =
        common::one(&store, "SELECT groupArray(number) FROM (SELECT number FROM invoices ORDER BY sequence)");
    assert_eq!(numbers.await, "['RR-2015-000001','RR-2015-000002','RR-2015-000003','RR-2015-000004']");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_at_once_give_no_number_and_no_tenant_twice() {
    let store = common::store("at_once").await;
    common::send_many(&store, 4_500, 3).await;
    let now = at("2015-06-01T08:00:00Z");
    let mut runs = Vec::new();
    for offset in 0..4 {
        let store = store.clone();
        let options = RunOptions { now: now.now + Duration::milliseconds(offset), ..now };
        runs.push(tokio::spawn(async move {
            run(&store, &common::catalogue("UTC"), &common::meters(), &may(), options).await
        }));
    }
    for outcome in runs {
        assert_eq!(outcome.await.unwrap().unwrap().invoices, 4_500);
    }
    for (sql, expected) in [
        ("SELECT count() FROM invoices", "4500"),
        ("SELECT uniqExact(tenant) FROM invoices", "4500"),
        ("SELECT uniqExact(number) FROM invoices", "4500"),
        ("SELECT max(sequence) FROM invoices", "4500"),
        ("SELECT uniqExact(run_id) FROM invoices", "1"),
        ("SELECT count() FROM periods", "1"),
        ("SELECT uniqExact(number, line) = count() FROM invoice_lines", "1"),
        ("SELECT sum(total) = (SELECT sum(amount) FROM invoice_lines) FROM invoices", "1"),
    ] {
        assert_eq!(common::one(&store, sql).await, expected, "{sql}");
    }
}

/// The race that numbers and tenants must survive: each of two runs has seen the empty series before the other
/// writes, and they take turns, with blocks of different sizes.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_has_seen_too_little_writes_nothing() {
    let (catalogue, meters, period) = (common::catalogue("UTC"), common::meters(), may());
    let store = common::store("seen_too_little").await;
    common::send_many(&store, 11, 3).await;
    let usage = usage::read(&store, &meters, &period).await.unwrap();
    let frame = Frame::new(&catalogue, &meters, &period, "2015-06-01T08:00:00Z".parse().unwrap()).unwrap();
    let plan = plan::claim(&store, &frame, &usage.digest()).await.unwrap();
    let mut ledgers = [issue::Ledger::default(), issue::Ledger::default(), issue::Ledger::default()];
    let sizes = [2, 3, 1];
    let mut missing = true;
    while missing {
        missing = false;
        for (ledger, size) in ledgers.iter_mut().zip(sizes) {
            missing |= issue::next_block(&store, &frame, &plan, &usage, ledger, size).await.unwrap();
        }
    }
    let sql = "SELECT (count(), uniqExact(tenant), uniqExact(sequence), max(sequence)) FROM invoices";
    assert_eq!(common::one(&store, sql).await, "(11,11,11,11)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_finished_with_the_prices_it_was_begun_with() {
    let (meters, period) = (common::meters(), may());
    let store = common::store("prices_changed").await;
    common::send(&store, EVENTS).await;
    begin(&store, "2015-06-01T08:00:00Z".parse().unwrap(), BrokenOff::FirstBlock).await;
    let mut catalogue = common::catalogue("UTC");
    catalogue.versions[0].plans[1].base_fee = Exact(Decimal::from(21));
    let error = run(&store, &catalogue, &meters, &period, at("2015-06-03T08:00:00Z")).await.unwrap_err();
    assert!(matches!(error, BillingError::PlanChanged { .. }), "{error}");
    assert_eq!(documents(&store).await.len(), 2);
}
