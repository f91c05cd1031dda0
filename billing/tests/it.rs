//! Billing and allocation from outside, against the real embedded engine. Needs the ClickHouse library
//! (`cargo xtask install`).
#![allow(clippy::unwrap_used)]

mod aggregations;
mod common;

use chrono_tz::Tz;
use rentroll_billing::run::Outcome;
use rentroll_billing::{
    AllocateOptions, BillingError, RunOptions, RunReport, allocate, explain, invoices, overview, run,
};
use rentroll_engines::store::Store;
use rentroll_schemas::costs::Costs;
use rentroll_schemas::period::Period;
use rust_decimal::Decimal;

const EVENTS: &[common::Sent<'_>] = &[
    ("acme", "1", "2015-05-01 00:00:00", Some(1_500_000_000)),
    ("acme", "2", "2015-05-31 23:59:59.999999", Some(500_000_000)),
    ("acme", "3", "2015-05-17 10:05:03", None),
    ("acme", "4", "2015-05-17 10:05:04", None),
    ("beta", "1", "2015-05-17 10:05:03", Some(7)),
    // The month before and the month after.
    ("acme", "0", "2015-04-30 23:59:59.999999", Some(1)),
    ("acme", "5", "2015-06-01 00:00:00", Some(1)),
];

fn month(text: &str, zone: Tz) -> Period {
    Period::parse(text, zone).unwrap()
}

async fn bill_at(store: &Store, period: &str, now: &str, dry_run: bool) -> Result<RunReport, BillingError> {
    let options = RunOptions { dry_run, now: now.parse().unwrap() };
    run(store, &common::catalogue("UTC"), &common::meters(), &month(period, Tz::UTC), options).await
}

async fn bill(store: &Store) -> Result<RunReport, BillingError> {
    bill_at(store, "2015-05", "2015-06-01T08:00:00Z", false).await
}

async fn share(store: &Store, costs: &Costs) -> Result<rentroll_billing::AllocationReport, BillingError> {
    let options = AllocateOptions { dry_run: false, now: chrono::Utc::now() };
    allocate(store, costs, &common::meters(), &month("2015-05", Tz::UTC), options).await
}

/// Rows in every table of billing: what a run that changes nothing leaves alone.
async fn row_counts(store: &Store) -> String {
    common::one(
        store,
        "SELECT ((SELECT count() FROM bill_runs), (SELECT count() FROM periods), (SELECT count() FROM invoices), \
         (SELECT count() FROM invoice_lines), (SELECT count() FROM allocation_runs), (SELECT count() FROM allocations))",
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_billed_once() {
    let store = common::store("billed_once").await;
    common::send(&store, EVENTS).await;
    let report = bill(&store).await.unwrap();
    assert_eq!((report.outcome, report.invoices, report.newly_issued), (Outcome::Closed, 2, 2));
    // 20 + 2 × 0.015 + 2 GB × 0.50
    assert_eq!(report.total.to_string(), "21.03");
    assert_eq!(report.numbers, Some(("RR-2015-000001".to_owned(), "RR-2015-000002".to_owned())));
    let before = row_counts(&store).await;

    let again = bill_at(&store, "2015-05", "2015-07-01T08:00:00Z", false).await.unwrap();
    assert_eq!((again.outcome, again.newly_issued), (Outcome::Unchanged, 0));
    assert_eq!((again.total, again.usage_digest), (report.total, report.usage_digest));
    assert_eq!(row_counts(&store).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_go_on_from_month_to_month() {
    let store = common::store("numbers_go_on").await;
    common::send(&store, EVENTS).await;
    bill(&store).await.unwrap();
    let june = bill_at(&store, "2015-06", "2015-07-01T00:00:00Z", false).await.unwrap();
    assert_eq!(june.numbers, Some(("RR-2015-000003".to_owned(), "RR-2015-000003".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn months_end_where_the_zone_says() {
    let store = common::store("zones").await;
    // 1 May in Amsterdam begins at 22:00 UTC; in Kolkata it begins at 18:30, not on an hour.
    let events = [
        ("acme", "1", "2015-04-30 18:29:59.999999", Some(1_u64)),
        ("acme", "2", "2015-04-30 18:30:00", Some(10)),
        ("acme", "3", "2015-04-30 22:00:00", Some(100)),
    ];
    common::send(&store, &events).await;
    for (zone, bytes, day) in
        [(Tz::Europe__Amsterdam, "100", "2015-05-01"), (Tz::Asia__Kolkata, "110", "2015-05-01")]
    {
        let period = month("2015-05", zone);
        let usage = rentroll_billing::usage::read(&store, &common::meters(), &period).await.unwrap();
        let acme = &usage.tenants["acme"];
        assert_eq!(acme.totals["egress_bytes"].quantity.to_string(), bytes, "{zone}");
        assert!(acme.days.keys().all(|(_, found)| found.to_string() == day), "{zone}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing_and_is_the_only_one_before_the_month_is_over() {
    let store = common::store("dry_run").await;
    common::send(&store, EVENTS).await;
    let empty = row_counts(&store).await;
    let draft = bill_at(&store, "2015-05", "2015-05-31T23:59:59Z", true).await.unwrap();
    assert_eq!((draft.outcome, draft.total.to_string()), (Outcome::Draft, "21.03".to_owned()));
    let error = bill_at(&store, "2015-05", "2015-05-31T23:59:59Z", false).await.unwrap_err();
    assert!(matches!(error, BillingError::NotEnded { .. }), "{error}");
    assert_eq!(row_counts(&store).await, empty);
    // Half-open: the first instant of June is not May's.
    bill_at(&store, "2015-05", "2015-06-01T00:00:00Z", false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_without_usage_stays_open() {
    let store = common::store("no_usage").await;
    common::send(&store, EVENTS).await;
    let error = bill_at(&store, "2015-03", "2015-06-01T00:00:00Z", false).await.unwrap_err();
    assert!(matches!(error, BillingError::NoUsage { .. }), "{error}");
    assert_eq!(common::one(&store, "SELECT count() FROM periods").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_usage_is_reported_and_changes_nothing() {
    let store = common::store("late_usage").await;
    common::send(&store, EVENTS).await;
    bill(&store).await.unwrap();
    let before = row_counts(&store).await;
    common::send(&store, &[("acme", "6", "2015-05-20 00:00:00", Some(1_000_000_000))]).await;
    common::send(&store, &[("newcomer", "1", "2015-05-20 00:00:00", None)]).await;
    let report = bill(&store).await.unwrap();
    assert_eq!(report.outcome, Outcome::LateUsage);
    let late: Vec<String> = report
        .late
        .iter()
        .map(|late| format!("{} {:?} {} {}", late.tenant, late.number, late.invoiced, late.difference))
        .collect();
    // 0.015 → 21.045 rounds to 21.05; and one GB more.
    let expected = [r#"acme Some("RR-2015-000001") 21.03 0.52"#, "newcomer None 0.00 0.00"];
    assert_eq!(late, expected);
    assert_eq!(row_counts(&store).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn rollups_that_differ_from_events_stop_the_run() {
    let store = common::store("books_differ").await;
    common::send(&store, EVENTS).await;
    common::send_raw(&store, &[("beta", "2", "2015-05-20 00:00:00", Some(5))]).await;
    common::roll_up(&store, &[("ghost", "1", "2015-05-20 00:00:00", None)]).await;
    let error = bill(&store).await.unwrap_err();
    assert!(error.is_check());
    let message = error.to_string();
    for part in [
        "differ in 3 places",
        "requests of tenant `beta`: 2 in 2 events by raw events, 1 in 1 events by rollups",
        "egress_bytes of tenant `beta`: 12 in 2 events by raw events, 7 in 1 events by rollups",
        "requests of tenant `ghost`: 0 in 0 events by raw events, 1 in 1 events by rollups",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(common::one(&store, "SELECT count() FROM bill_runs").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_an_event_is_not_billed() {
    let store = common::store("copies").await;
    common::send(&store, EVENTS).await;
    // The same identity raced past deduplication, once as it was and once with another time and size.
    common::send_raw(&store, &[("acme", "3", "2015-05-17 10:05:03", None)]).await;
    common::send_raw(&store, &[("beta", "1", "2015-05-18 00:00:00", Some(9_000_000_000))]).await;
    assert_eq!(bill(&store).await.unwrap().total.to_string(), "21.03");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_is_read_back_and_explained() {
    let store = common::store("explained").await;
    common::send(&store, EVENTS).await;
    bill(&store).await.unwrap();
    let explanation = explain(&store, &common::meters(), "RR-2015-000001", None).await.unwrap();
    let invoice = &explanation.invoice;
    assert_eq!((invoice.tenant.as_str(), invoice.plan.as_str()), ("acme", "pro"));
    assert_eq!(invoice.plan_reason, "by use: 4 requests, 3 or more");
    let computations: Vec<&str> = explanation.lines.iter().map(|line| line.computation.as_str()).collect();
    let expected = [
        "1 month × 20 = 20, rounded 20.00 USD",
        "2 request × 0 = 0, rounded 0.00 USD",
        "2 request × 0.015 = 0.03, rounded 0.03 USD",
        "2 GB × 0.50 = 1, rounded 1.00 USD",
    ];
    assert_eq!(computations, expected);
    assert!(explanation.meters.iter().all(|meter| meter.holds));
    let bytes = &explanation.meters[1];
    assert_eq!((bytes.now.events, bytes.now.quantity.to_string()), (2, "2000000000".to_owned()));
    let ids: Vec<&str> = bytes.first_events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, ["1", "2"]);
    // The appendix adds up to the lines' meters.
    assert_eq!(invoice.daily.len(), 5, "two days with bytes, three with requests");

    let one = explain(&store, &common::meters(), "RR-2015-000001", Some(3)).await.unwrap();
    assert_eq!((one.lines.len(), one.meters.len()), (1, 1));
    let error = explain(&store, &common::meters(), "RR-2015-000001", Some(9)).await.unwrap_err();
    assert_eq!(error.to_string(), "invoice RR-2015-000001 has lines 1 to 4, not 9");
    let error = explain(&store, &common::meters(), "RR-2014-000001", None).await.unwrap_err();
    assert!(matches!(error, BillingError::NoSuchInvoice(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_carry_the_same_amounts() {
    let store = common::store("exports").await;
    common::send(&store, EVENTS).await;
    let report = bill(&store).await.unwrap();
    let mut csv = String::from(invoices::CSV_HEADER);
    let mut documents = Decimal::ZERO;
    invoices::export(&store, &invoices::Filter::default(), |invoice| {
        csv.push_str(&invoices::csv_lines(&invoice));
        documents += invoice.total.0;
        Ok::<(), BillingError>(())
    })
    .await
    .unwrap();
    let columns = invoices::CSV_HEADER.trim_end().split(',').count();
    let amount = invoices::CSV_HEADER.split(',').position(|name| name == "amount").unwrap();
    let mut lines = Decimal::ZERO;
    for row in csv.lines().skip(1) {
        // No field of this data holds a comma.
        let fields: Vec<&str> = row.split(',').collect();
        assert_eq!(fields.len(), columns, "{row}");
        lines += fields[amount].parse::<Decimal>().unwrap();
    }
    assert_eq!((documents, lines), (report.total.0, report.total.0));
    let only = invoices::Filter { tenant: Some("beta".to_owned()), ..invoices::Filter::default() };
    assert_eq!(invoices::list(&store, &only).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_was_changed_is_not_shown() {
    let store = common::store("tampered").await;
    common::send(&store, EVENTS).await;
    bill(&store).await.unwrap();
    let sql = "ALTER TABLE invoices UPDATE document = replaceAll(document, '21.03', '1.03') \
               WHERE number = 'RR-2015-000001' SETTINGS mutations_sync = 1";
    store.client().query(sql).execute().await.unwrap();
    let error = invoices::show(&store, "RR-2015-000001").await.unwrap_err();
    assert!(error.is_check(), "{error}");
    invoices::show(&store, "RR-2015-000002").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn costs_are_split_to_the_last_unit_and_stored_once() {
    let store = common::store("allocated").await;
    common::send(&store, EVENTS).await;
    bill(&store).await.unwrap();
    let costs = common::costs(
        "currency: USD
pools:
- {name: database, title: Database, month: 2015-05, amount: 500.00, drivers: {requests: 3}}
- {name: storage, title: Storage, month: 2015-05, amount: 200.00, drivers: {egress_bytes: 1}}
- {name: compute, title: Compute, month: 2015-05, amount: 1000.00, drivers: {requests: 1}, capacity: {requests: 15}}
- {name: spare, title: Spare, month: 2015-05, amount: 10}
unallocated:
- {name: support, title: Support, month: 2015-05, amount: 33.33}
",
    );
    let report = share(&store, &costs).await.unwrap();
    assert!(report.newly_stored);
    assert_eq!(report.total.to_string(), "1743.33");
    // Compute: 5 of 15 used, so two thirds of 1,000 are idle (cut: the last two nano-units go to
    // the tenants, as the remainders are equal), and all of the spare pool.
    assert_eq!(report.idle.to_string(), "676.666666666");
    assert_eq!(report.unallocated.to_string(), "33.33");
    assert_eq!(report.allocated.0 + report.idle.0 + report.unallocated.0, report.total.0);

    let again = share(&store, &costs).await.unwrap();
    assert!(!again.newly_stored);
    assert_eq!(again.run_id, report.run_id);
    assert_eq!(common::one(&store, "SELECT count() FROM allocation_runs").await, "1");

    let month = month("2015-05", Tz::UTC);
    let seen = overview(&store, &common::meters(), &month, 1).await.unwrap();
    assert_eq!((seen.tenants, seen.rows.len(), seen.rows[0].tenant.as_str()), (2, 1, "acme"));
    assert_eq!(seen.total.allocated, Some(report.allocated));
    assert_eq!(seen.total.margin.unwrap().0, Decimal::new(2103, 2) - report.allocated.0);
    assert_eq!(seen.spent, Some(report.total));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_allocation_counts() {
    let store = common::store("newest_allocation").await;
    common::send(&store, EVENTS).await;
    let costs = |amount: &str| {
        common::costs(&format!(
            "{{currency: USD, pools: [{{name: a, title: A, month: 2015-05, amount: {amount}, drivers: {{requests: 1}}}}]}}"
        ))
    };
    for amount in ["1", "2", "1"] {
        assert!(share(&store, &costs(amount)).await.unwrap().newly_stored);
        let latest = rentroll_billing::allocation::latest(&store, "2015-05").await.unwrap();
        assert_eq!(latest.total.to_string(), amount);
    }
    assert_eq!(
        common::one(&store, "SELECT count() FROM allocations").await,
        "4",
        "the first rows served twice"
    );
    let error = rentroll_billing::allocation::latest(&store, "2015-06").await.unwrap_err();
    assert!(matches!(error, BillingError::NotAllocated { .. }));
    let options = AllocateOptions { dry_run: true, now: chrono::Utc::now() };
    let error = allocate(&store, &costs("1"), &common::meters(), &month("2015-06", Tz::UTC), options).await;
    assert!(matches!(error.unwrap_err(), BillingError::NoCosts { .. }));
}

/// DESIGN's reference: 1,000 equal apps, 1,700 dollars, $1.70 each, whatever the engine and the decimals do.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_equal_apps_cost_a_dollar_seventy_each() {
    let store = common::store("thousand").await;
    common::send_many(&store, 1_000, 3).await;
    let costs = common::costs(
        "currency: USD
pools:
- {name: database, title: Database, month: 2015-05, amount: 500, drivers: {requests: 1}}
- {name: storage, title: Storage, month: 2015-05, amount: 200, drivers: {egress_bytes: 1}}
- {name: compute, title: Compute, month: 2015-05, amount: 1000, drivers: {requests: 1, egress_bytes: 0.000001}}
",
    );
    share(&store, &costs).await.unwrap();
    let tenants = rentroll_billing::allocation::tenants(&store, "2015-05", None).await.unwrap();
    assert_eq!(tenants.len(), 1_000);
    assert!(tenants.iter().all(|cost| cost.total.to_string() == "1.7"));
}
