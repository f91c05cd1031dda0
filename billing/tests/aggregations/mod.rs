//! Meters of every aggregation, in versions, from events to invoice.

use std::path::Path;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rentroll_billing::run::Outcome;
use rentroll_billing::{BillingError, RunOptions, RunReport, explain, invoices, overview, run, usage};
use rentroll_engines::store::Store;
use rentroll_schemas::catalogue::Catalogue;
use rentroll_schemas::invoice::Invoice;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::period::Period;
use rentroll_schemas::{Identity, Quantity, yaml};

use crate::common;

/// An event as it is stored.
#[derive(Clone, Debug, Default)]
struct Stored {
    tenant: String,
    id: String,
    kind: String,
    time: String,
    /// Seconds after the others: of one time, the one that arrived later is the later one.
    arrived_after: u32,
    measures: Vec<(String, String)>,
    dimensions: Vec<(String, String)>,
    /// The id of the event that this one voids.
    voids: Option<String>,
}

fn event(tenant: &str, id: &str, kind: &str, time: &str) -> Stored {
    let [tenant, id, kind, time] = [tenant, id, kind, time].map(str::to_owned);
    Stored { tenant, id, kind, time, ..Stored::default() }
}

impl Stored {
    fn measure(mut self, name: &str, value: &str) -> Self {
        self.measures.push((name.to_owned(), value.to_owned()));
        self
    }

    fn dimension(mut self, name: &str, value: &str) -> Self {
        self.dimensions.push((name.to_owned(), value.to_owned()));
        self
    }

    fn row(&self) -> String {
        let Stored { tenant, id, kind, time, arrived_after, .. } = self;
        let identity = Identity::of(tenant, "test", id);
        let half = |from| format!("reinterpretAsUInt64(substring(unhex('{identity}'), {from}, 8))");
        let names = |pairs: &[(String, String)]| -> String {
            pairs.iter().map(|(name, _)| format!("{name}\\0")).collect()
        };
        let values = |pairs: &[(String, String)], value: &dyn Fn(&str) -> String| {
            let values: Vec<String> = pairs.iter().map(|(_, given)| value(given)).collect();
            format!("[{}]", values.join(", "))
        };
        let (correction, corrects) = match &self.voids {
            None => ("none", "''".to_owned()),
            Some(id) => ("voids", format!("unhex('{}')", Identity::of(tenant, "test", id))),
        };
        format!(
            "('{tenant}', '{kind}', '{time}', {}, {}, '{id}', 'test', now64(3) - 1000 + {arrived_after}, \
             '{}', {}, '{}', {}, '{correction}', {corrects})",
            half(1),
            half(9),
            names(&self.measures),
            values(&self.measures, &|given| format!("toDecimal128('{given}', 9)")),
            names(&self.dimensions),
            values(&self.dimensions, &|given| format!("'{given}'")),
        )
    }
}

async fn store_raw(store: &Store, events: &[Stored]) {
    let rows: Vec<String> = events.iter().map(Stored::row).collect();
    let sql = format!(
        "INSERT INTO events (tenant, type, time, identity_high, identity_low, id_text, source, arrived_at, measure_names, \
         measure_values, dimension_names, dimension_values, correction, corrects) VALUES {}",
        rows.join(", ")
    );
    store.client().query_raw(&sql).execute().await.unwrap();
}

/// Makes the rollups what the events make of them, as the repair does.
async fn roll_up(store: &Store, meters: &Meters) {
    for (table, bucket) in [("minute", "toStartOfMinute"), ("hour", "toStartOfHour"), ("day", "toStartOfDay")]
    {
        let sql = format!("TRUNCATE TABLE rollup_{table} SYNC");
        store.client().query(&sql).execute().await.unwrap();
        for meter in &meters.meters {
            let (value, name) = (meter.raw_value_sql(), &meter.name);
            let sql = format!(
                "INSERT INTO rollup_{table} (meters, tenant, bucket, dimensions, events, total_1, least_value, greatest_value) \
                 SELECT '{name}\\0', tenant, {bucket}(time) AS bucket, {dimensions} AS key, count(), sum({value}), \
                 min({value}), max({value}) FROM (SELECT * EXCEPT (id_text), id_text, measures, dimensions FROM events \
                 WHERE {condition} AND {counts} {first}) GROUP BY tenant, bucket, key",
                dimensions = meter.group_key_sql(),
                condition = meter.raw_counts_sql(),
                counts = rentroll_schemas::effective::condition_sql("1"),
                first = rentroll_schemas::effective::FIRST_OF_IDENTITY,
            );
            store.client().query_raw(&sql).execute().await.unwrap();
        }
    }
}

async fn send(store: &Store, meters: &Meters, events: &[Stored]) {
    store_raw(store, events).await;
    roll_up(store, meters).await;
}

fn meters(text: &str) -> Meters {
    yaml::parse(&format!("meters:\n{text}"), Path::new("meters.yaml")).unwrap()
}

/// The first ends where the second begins.
fn in_versions(mut meters: Meters, at: &str) -> Meters {
    let at: DateTime<Utc> = at.parse().unwrap();
    meters.meters[0].effective_to = Some(at);
    meters.meters[1].effective_from = Some(at);
    meters.meters[1].version = 2;
    meters
}

/// One plan for everybody: each of these meters at a price.
fn catalogue(meters: &Meters, prices: &[(&str, &str)]) -> Catalogue {
    let charges: String = prices
        .iter()
        .map(|(meter, price)| {
            format!("    - {{meter: {meter}, title: {meter}, unit: unit, model: per_unit, {price}}}\n")
        })
        .collect();
    let text = format!(
        "currency: USD
invoice_prefix: RR
seller: {{name: Us, payment_terms_days: 30}}
versions:
- effective_from: 2015-01-01
  plans:
  - name: all
    title: All
    base_fee: 0
    limits: {{requests_per_minute: 1, connections: 1}}
    charges:
{charges}  assignment: {{default: all}}
"
    );
    let catalogue: Catalogue = yaml::parse(&text, Path::new("catalogue.yaml")).unwrap();
    catalogue.check(meters).unwrap();
    catalogue
}

fn may() -> Period {
    Period::parse("2015-05", Tz::UTC).unwrap()
}

async fn bill(store: &Store, catalogue: &Catalogue, meters: &Meters) -> Result<RunReport, BillingError> {
    let options = RunOptions { dry_run: false, now: "2015-06-02T00:00:00Z".parse().unwrap() };
    run(store, catalogue, meters, &may(), options).await
}

fn billed(invoice: &Invoice) -> Vec<(String, String)> {
    let usage = invoice.lines.iter().filter(|line| line.meter.is_some());
    usage.map(|line| (line.group.clone(), line.amount.to_string())).collect()
}

async fn total(store: &Store, meters: &Meters, tenant: &str, meter: &str) -> String {
    let usage = usage::read(store, meters, &may()).await.unwrap();
    usage.tenants[tenant].totals[meter].quantity.to_string()
}

const ALL: &str = "\
- {name: users, unit: user, event_type: login, aggregation: unique_count, value: user}
- {name: seats, unit: seat, event_type: seats, aggregation: latest, value: seats}
- {name: bandwidth, unit: mbps, event_type: bandwidth, aggregation: percentile, percentile: 57, value: mbps}
- {name: latency, unit: ms, event_type: call, aggregation: avg, value: ms}
- {name: byte_hours, unit: byte-hour, event_type: storage, aggregation: time_weighted, per: hour, value: bytes, series: [bucket]}
- {name: gib_months, unit: GiB-month, event_type: storage, aggregation: time_weighted, per: window, value: gib, series: [bucket]}
- {name: calls_a_minute, unit: call, event_type: call, aggregation: rate, per: minute}
";

fn stored_gib(tenant: &str, id: &str, time: &str, gib: i64) -> Stored {
    event(tenant, id, "storage", time)
        .measure("bytes", &(gib << 30).to_string())
        .measure("gib", &gib.to_string())
        .dimension("bucket", "b")
}

/// A month of each aggregation, with what must not count beside what must.
fn a_month() -> Vec<Stored> {
    let user = |id: &str, time: &str, user: &str| event("acme", id, "login", time).dimension("user", user);
    let seats = |id: &str, time: &str, n: &str| event("acme", id, "seats", time).measure("seats", n);
    let call = |id: &str, time: &str, ms: &str| event("acme", id, "call", time).measure("ms", ms);
    let mut events = vec![
        user("u1", "2015-05-03 10:00:00", "ann"),
        user("u2", "2015-05-03 11:00:00", "bob"),
        user("u3", "2015-05-09 10:00:00", "ann"),
        user("u4", "2015-05-31 23:59:59.999999", "cy"),
        user("u5", "2015-06-01 00:00:00", "dee"),
        // A text in place of a number, and one that is none.
        seats("s1", "2015-05-10 00:00:00", "5"),
        event("acme", "s2", "seats", "2015-05-20 12:00:00").dimension("seats", "9.0"),
        Stored { arrived_after: 9, ..seats("s3", "2015-05-20 12:00:00", "7") },
        event("acme", "s4", "seats", "2015-05-21 12:00:00").dimension("seats", "many"),
        seats("s5", "2015-06-01 00:00:00", "100"),
        call("c1", "2015-05-05 00:00:00", "1"),
        call("c2", "2015-05-05 00:00:00", "1"),
        call("c3", "2015-05-06 00:00:00", "2"),
        // Long before the month: the newest is carried in. The first of the other tenant's is all there is.
        stored_gib("acme", "g1", "2015-04-03 00:00:00", 999),
        stored_gib("acme", "g2", "2015-04-20 17:00:00", 500),
        stored_gib("acme", "g3", "2015-04-20 18:00:00", 100),
        stored_gib("acme", "g4", "2015-05-16 00:00:00", 100 << 10),
        stored_gib("acme", "g5", "2015-06-01 00:00:00", 1),
        stored_gib("quiet", "g1", "2015-02-03 04:05:06", 3),
        stored_gib("gone", "g1", "2015-02-03 04:05:06", 0),
    ];
    for n in 1..=100 {
        let time = format!("2015-05-{:02} 01:00:00", 1 + n % 31);
        events.push(event("acme", &format!("b{n}"), "bandwidth", &time).measure("mbps", &n.to_string()));
    }
    events
}

/// Copies that raced past: they count nothing, whatever they say.
fn copies() -> Vec<Stored> {
    let late = |stored: Stored| Stored { arrived_after: 100, ..stored };
    vec![
        late(event("acme", "u1", "login", "2015-05-04 10:00:00").dimension("user", "zoe")),
        late(event("acme", "s3", "seats", "2015-05-30 12:00:00").measure("seats", "70")),
        late(event("acme", "b1", "bandwidth", "2015-05-30 12:00:00").measure("mbps", "1000")),
        late(event("acme", "c1", "call", "2015-05-05 00:00:00").measure("ms", "1000")),
        late(stored_gib("acme", "g4", "2015-05-17 00:00:00", 7)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_of_every_aggregation() {
    let store = common::store("every_aggregation").await;
    let meters = meters(ALL);
    send(&store, &meters, &[a_month(), copies()].concat()).await;
    let prices = [
        ("users", "unit_price: 2"),
        ("seats", "unit_price: 10"),
        ("bandwidth", "unit_price: 1"),
        ("latency", "unit_price: 300000000"),
        ("byte_hours", "unit_price: 0.001, unit_divisor: 1000000000000"),
        ("gib_months", "unit_price: 0.01"),
    ];
    let catalogue = catalogue(&meters, &prices);
    let report = bill(&store, &catalogue, &meters).await.unwrap();
    assert_eq!((report.outcome, report.invoices), (Outcome::Closed, 2), "a level of 0 is no usage");
    let invoice = invoices::show(&store, "RR-2015-000001").await.unwrap();
    let by_meter: Vec<(&str, u64, String)> = invoice
        .usage
        .iter()
        .map(|total| (total.meter.as_str(), total.events, total.quantity.to_string()))
        .collect();
    let expected = [
        ("users", 4, "3"),
        ("seats", 3, "7"),
        // Place ⌊100 · 57 / 100⌋ = 57, from 0. In floats that is 56.999.
        ("bandwidth", 100, "58"),
        ("latency", 3, "1.333333333"),
        ("byte_hours", 1, "42259901212262400"),
        ("gib_months", 1, "52900"),
        // 3 by 44,640 minutes.
        ("calls_a_minute", 3, "0.000067204"),
    ];
    let expected: Vec<(&str, u64, String)> =
        expected.iter().map(|(meter, events, quantity)| (*meter, *events, (*quantity).to_owned())).collect();
    assert_eq!(by_meter, expected);
    let amounts = [
        ("users", "6.00"),
        ("seats", "70.00"),
        ("bandwidth", "58.00"),
        ("latency", "399999999.90"),
        ("byte_hours", "42.26"),
        ("gib_months", "529.00"),
    ];
    let amounts: Vec<(String, String)> =
        amounts.iter().map(|(meter, amount)| ((*meter).to_owned(), (*amount).to_owned())).collect();
    assert_eq!(billed(&invoice), amounts);

    // Days have their own values, which do not add up.
    let day = |meter: &str, day: u32| {
        let found = invoice
            .daily
            .iter()
            .find(|row| row.meter == meter && row.day.to_string() == format!("2015-05-{day:02}"));
        found.map(|row| (row.events, row.quantity.to_string()))
    };
    assert_eq!(day("users", 3), Some((2, "2".to_owned())));
    assert_eq!(day("users", 9), Some((1, "1".to_owned())));
    assert_eq!(day("seats", 20), Some((2, "7".to_owned())));
    assert_eq!(day("latency", 5), Some((2, "1".to_owned())));
    assert_eq!(day("calls_a_minute", 5), Some((2, "0.001388889".to_owned())));
    assert_eq!(day("gib_months", 15), Some((0, "100".to_owned())));
    assert_eq!(day("gib_months", 16), Some((1, "102400".to_owned())));
    let byte_hours = invoice.daily.iter().filter(|row| row.meter == "byte_hours");
    let sum = byte_hours.fold(Quantity::ZERO, |sum, row| sum.checked_add(row.quantity).unwrap());
    assert_eq!(sum.to_string(), "42259901212262400", "byte-hours of days do add up");

    // One that sent nothing all month still stores what it stored.
    let quiet = invoices::show(&store, "RR-2015-000002").await.unwrap();
    assert_eq!(quiet.tenant, "quiet");
    assert_eq!(billed(&quiet).last().unwrap(), &("gib_months".to_owned(), "0.03".to_owned()));

    let seen = overview(&store, &meters, &may(), 9).await.unwrap();
    assert_eq!(seen.rows[0].usage["users"].to_string(), "3");
    assert_eq!(seen.rows[0].usage["latency"].to_string(), "1.333333333");
    assert_eq!(seen.total.usage["gib_months"].to_string(), "52903");
    assert!(!seen.total.usage.contains_key("users"), "unique users of tenants make no total");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_aggregation_is_explained_down_to_its_events() {
    let store = common::store("explained_aggregations").await;
    let meters = meters(ALL);
    send(&store, &meters, &[a_month(), copies()].concat()).await;
    let names = ["users", "seats", "bandwidth", "latency", "byte_hours", "gib_months"];
    let catalogue = catalogue(&meters, &names.map(|name| (name, "unit_price: 0.000001")));
    bill(&store, &catalogue, &meters).await.unwrap();
    let explanation = explain(&store, &meters, "RR-2015-000001", None).await.unwrap();
    assert_eq!(explanation.meters.len(), names.len());
    for meter in &explanation.meters {
        assert!(meter.holds, "{}: {:?} and {:?}", meter.meter, meter.invoiced, meter.now);
        let mut query = store.client().query_raw(&meter.query);
        for (name, value) in &meter.parameters {
            query = query.param(name, value);
        }
        query.execute().await.unwrap();
    }
    let shown = |name: &str| -> Vec<(String, String)> {
        let meter = explanation.meters.iter().find(|meter| meter.meter == name).unwrap();
        meter.first_events.iter().map(|event| (event.id.clone(), event.quantity.clone())).collect()
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(id, shown)| ((*id).to_owned(), (*shown).to_owned())).collect()
    };
    assert_eq!(shown("users"), pairs(&[("u1", "ann"), ("u2", "bob"), ("u3", "ann"), ("u4", "cy")]));
    assert_eq!(shown("seats")[0], ("s1".to_owned(), "5".to_owned()));
    assert_eq!(
        shown("gib_months"),
        pairs(&[("g3", "100"), ("g4", "102400")]),
        "what is carried in comes first"
    );
    let quiet = explain(&store, &meters, "RR-2015-000002", None).await.unwrap();
    let level = quiet.meters.iter().find(|meter| meter.meter == "gib_months").unwrap();
    assert_eq!((level.invoiced.events, level.first_events.len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn rollups_are_held_against_what_they_have_of_each_meter() {
    let store = common::store("aggregations_differ").await;
    let meters = meters(ALL);
    send(&store, &meters, &a_month()).await;
    usage::read(&store, &meters, &may()).await.unwrap();
    // A user who is known already, a sample that changes no level, one more call: what they come to need not change.
    let user = event("acme", "x1", "login", "2015-05-30 00:00:00").dimension("user", "ann");
    let calls = [1, 2].map(|n| {
        event("acme", &format!("x{}", n + 1), "call", "2015-05-30 00:00:00")
            .measure("ms", ["1.5", "1"][n - 1])
    });
    let level = stored_gib("acme", "x4", "2015-05-30 00:00:00", 100 << 10);
    store_raw(&store, &[vec![user, level], calls.to_vec()].concat()).await;
    let message = usage::read(&store, &meters, &may()).await.unwrap_err().to_string();
    for part in [
        "differ in 5 places",
        "users of tenant `acme`: 5 in 5 events by raw events, 4 in 4 events by rollups",
        "latency of tenant `acme`: 6.5 in 5 events by raw events, 4 in 3 events by rollups",
        "gib_months of tenant `acme`: 204800 in 2 events by raw events, 102400 in 1 events by rollups",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_count_what_they_say_while_they_are_in_force() {
    let store = common::store("versions").await;
    let sums = in_versions(
        meters(
            "- {name: traffic, unit: byte, event_type: http.request, aggregation: sum, value: bytes}
- {name: traffic, unit: byte, event_type: http.request, aggregation: sum, value: sent, filter: {cached: {not: ['yes']}}}
",
        ),
        "2015-05-10T00:00:00Z",
    );
    let sent = |id: &str, time: &str, bytes: &str, sent: &str, cached: &str| {
        event("acme", id, "http.request", time)
            .measure("bytes", bytes)
            .measure("sent", sent)
            .dimension("cached", cached)
    };
    let events = [
        sent("1", "2015-05-09 23:59:59.999999", "1", "100", "yes"),
        sent("2", "2015-05-10 00:00:00", "10", "1000", "no"),
        sent("3", "2015-05-20 00:00:00", "10", "1000", "yes"),
    ];
    send(&store, &sums, &events).await;
    assert_eq!(total(&store, &sums, "acme", "traffic").await, "1001");
    // Each version as a meter of its own comes to its part.
    let mut apart = sums.clone();
    apart.meters[1].name = "later".to_owned();
    roll_up(&store, &apart).await;
    let usage = usage::read(&store, &apart, &may()).await.unwrap();
    let parts = ["traffic", "later"].map(|meter| usage.tenants["acme"].totals[meter].quantity.to_string());
    assert_eq!(parts, ["1", "1000"]);

    // A version changed in mid-month is billed, explained, and shows what each version counted.
    roll_up(&store, &sums).await;
    let catalogue = catalogue(&sums, &[("traffic", "unit_price: 1")]);
    let report = bill(&store, &catalogue, &sums).await.unwrap();
    assert_eq!(report.total.to_string(), "1001.00");
    let explanation = explain(&store, &sums, "RR-2015-000001", None).await.unwrap();
    let meter = &explanation.meters[0];
    assert!(meter.holds);
    let values: Vec<&str> = meter.first_events.iter().map(|event| event.quantity.as_str()).collect();
    assert_eq!(values, ["1", "1000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_versions_tell_apart_is_counted_once() {
    let store = common::store("versions_unique").await;
    let login = |id: &str, time: &str, user: &str, account: &str| {
        event("acme", id, "login", time).dimension("account", account).dimension("user", user)
    };
    let unique = in_versions(
        meters(
            "- {name: users, unit: user, event_type: login, aggregation: unique_count, value: user}
- {name: users, unit: user, event_type: login, aggregation: unique_count, value: account}
",
        ),
        "2015-05-10T00:00:00Z",
    );
    let events = [
        login("1", "2015-05-01 00:00:00", "ann", "x"),
        login("2", "2015-05-09 00:00:00", "bob", "x"),
        login("3", "2015-05-10 00:00:00", "x", "ann"),
        login("4", "2015-05-11 00:00:00", "x", "cy"),
    ];
    send(&store, &unique, &events).await;
    assert_eq!(total(&store, &unique, "acme", "users").await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_changes_its_version() {
    let store = common::store("versions_level").await;
    let disk = |id: &str, time: &str, class: &str, gib: &str| {
        event("acme", id, "disk", time).measure("gib", gib).dimension("class", class)
    };
    // From the 16th on, cold disks do not count.
    let levels = in_versions(
        meters(
            "- {name: disks, unit: GiB, event_type: disk, aggregation: time_weighted, per: window, value: gib, series: [class]}
- {name: disks, unit: GiB, event_type: disk, aggregation: time_weighted, per: window, value: gib, series: [class], filter: {class: {not: [cold]}}}
",
        ),
        "2015-05-16T00:00:00Z",
    );
    let events = [
        disk("1", "2015-04-30 23:00:00", "cold", "5"),
        disk("2", "2015-04-12 00:00:00", "hot", "10"),
        disk("3", "2015-05-20 00:00:00", "cold", "500"),
    ];
    send(&store, &levels, &events).await;
    // 15 for 15 days, then 10 for 16.
    assert_eq!(total(&store, &levels, "acme", "disks").await, "12.419354839");
    // In June the hot one is still there, although the version that is in force then never saw a sample of it.
    let june = Period::parse("2015-06", Tz::UTC).unwrap();
    let usage = usage::read(&store, &levels, &june).await.unwrap();
    assert_eq!(usage.tenants["acme"].totals["disks"].quantity.to_string(), "10");

    // By other dimensions series are others: the new version begins with its own samples, and nothing is held twice.
    let mut regrouped = levels.clone();
    regrouped.meters[1].series.clear();
    roll_up(&store, &regrouped).await;
    // 15 for 15 days, then nothing.
    assert_eq!(total(&store, &regrouped, "acme", "disks").await, "7.258064516");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meter_that_became_another_is_not_priced_in_that_month() {
    let store = common::store("versions_mixed").await;
    let mixed = in_versions(
        meters(
            "- {name: peak, unit: byte, event_type: http.request, aggregation: sum, value: bytes}
- {name: peak, unit: byte, event_type: http.request, aggregation: max, value: bytes}
- {name: requests, unit: request, event_type: http.request, aggregation: count}
",
        ),
        "2015-05-10T00:00:00Z",
    );
    let events = [event("acme", "1", "http.request", "2015-05-09 00:00:00").measure("bytes", "1")];
    send(&store, &mixed, &events).await;
    let priced = catalogue(&mixed, &[("peak", "unit_price: 1")]);
    let error = bill(&store, &priced, &mixed).await.unwrap_err();
    assert!(matches!(error, BillingError::MixedVersions(_)), "{error}");
    let expected = "meter `peak` is a sum of bytes in byte until 2015-05-10 00:00:00 UTC and a max of bytes in byte from then on";
    assert!(error.to_string().starts_with(expected), "{error}");
    // Where nothing depends on it, the month is billed without it.
    let unpriced = catalogue(&mixed, &[("requests", "unit_price: 1")]);
    assert_eq!(bill(&store, &unpriced, &mixed).await.unwrap().total.to_string(), "1.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meter_of_later_is_no_late_usage() {
    let store = common::store("later_meter").await;
    let requests =
        meters("- {name: requests, unit: request, event_type: http.request, aggregation: count}\n");
    let events = [
        event("acme", "1", "http.request", "2015-05-09 00:00:00").measure("bytes", "1"),
        event("other", "1", "login", "2015-05-09 00:00:00").dimension("user", "ann"),
    ];
    send(&store, &requests, &events).await;
    let catalogue = catalogue(&requests, &[("requests", "unit_price: 1")]);
    bill(&store, &catalogue, &requests).await.unwrap();
    let mut more = meters(ALL);
    more.meters.insert(0, requests.meters[0].clone());
    roll_up(&store, &more).await;
    let again = bill(&store, &catalogue, &more).await.unwrap();
    assert_eq!((again.outcome, again.late), (Outcome::Unchanged, Vec::new()));
    send(&store, &more, &[event("acme", "2", "http.request", "2015-05-10 00:00:00")]).await;
    let again = bill(&store, &catalogue, &more).await.unwrap();
    assert_eq!((again.outcome, again.late.len()), (Outcome::LateUsage, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_that_is_voided_holds_nothing() {
    let store = common::store("voided_sample").await;
    let meters = meters(ALL);
    let mut events = vec![
        stored_gib("acme", "1", "2015-04-10 00:00:00", 1),
        stored_gib("acme", "2", "2015-04-20 00:00:00", 50),
        stored_gib("acme", "3", "2015-05-16 00:00:00", 70),
    ];
    send(&store, &meters, &events).await;
    assert_ne!(total(&store, &meters, "acme", "gib_months").await, "1");
    for voided in ["2", "3"] {
        let void = event("acme", &format!("void-{voided}"), "storage", "2015-05-17 00:00:00");
        events.push(Stored { voids: Some(voided.to_owned()), ..void });
    }
    send(&store, &meters, &events[3..]).await;
    assert_eq!(total(&store, &meters, "acme", "gib_months").await, "1");
    let explained = catalogue(&meters, &[("gib_months", "unit_price: 1")]);
    bill(&store, &explained, &meters).await.unwrap();
    let explanation = explain(&store, &meters, "RR-2015-000001", None).await.unwrap();
    let corrected: Vec<&str> =
        explanation.meters[0].corrected.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(corrected, ["3"]);
}

#[test]
fn a_rate_is_not_priced() {
    let meters = meters(ALL);
    let mut catalogue = catalogue(&meters, &[("users", "unit_price: 1")]);
    catalogue.versions[0].plans[0].charges[0].meter = "calls_a_minute".to_owned();
    let (field, reason) = catalogue.check(&meters).unwrap_err();
    assert_eq!(field, "versions[0].plans[0].charges[0].meter");
    assert!(reason.starts_with("`calls_a_minute` is a rate"), "{reason}");
}

/// Many series, in a zone with its own midnights, against the samples taken minute by minute.
#[tokio::test(flavor = "multi_thread")]
async fn levels_are_what_a_clock_that_ticks_through_the_month_says() {
    let store = common::store("levels_naive").await;
    let meters = meters(
        "- {name: level, unit: x, event_type: t, aggregation: time_weighted, per: minute, value: v, series: [s]}\n",
    );
    let start: DateTime<Utc> = "2015-02-20T00:00:00Z".parse().unwrap();
    // A linear congruence: the same samples every time.
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut samples: Vec<(usize, usize, i64, u32, i64)> = Vec::new();
    for nth in 0..300 {
        let (tenant, series) = (next(3) as usize, next(4) as usize);
        // Some of one time: whole half hours over ten weeks.
        let minute = 30 * next(48 * 70) as i64;
        samples.push((tenant, series, minute, nth, next(1_000) as i64));
    }
    let events: Vec<Stored> = samples
        .iter()
        .map(|(tenant, series, minute, nth, value)| {
            let time = (start + chrono::TimeDelta::minutes(*minute)).format("%Y-%m-%d %H:%M:%S").to_string();
            let sample = event(&format!("t{tenant}"), &nth.to_string(), "t", &time)
                .measure("v", &value.to_string())
                .dimension("s", &series.to_string());
            Stored { arrived_after: *nth, ..sample }
        })
        .collect();
    send(&store, &meters, &events).await;
    for zone in [Tz::UTC, Tz::Europe__Amsterdam, Tz::Asia__Kolkata] {
        let period = Period::parse("2015-03", zone).unwrap();
        let usage = usage::read(&store, &meters, &period).await.unwrap();
        let minute = |instant: DateTime<Utc>| (instant - start).num_minutes();
        for tenant in 0..3 {
            let level = |series: usize, at: i64| {
                let known = samples
                    .iter()
                    .filter(|sample| (sample.0, sample.1) == (tenant, series) && sample.2 <= at);
                known.max_by_key(|sample| (sample.2, sample.3)).map_or(0, |sample| sample.4)
            };
            // Levels change on half hours.
            let sum = |from: i64, to: i64| -> i64 {
                (from..to)
                    .step_by(30)
                    .map(|at| 30 * (0..4).map(|series| level(series, at)).sum::<i64>())
                    .sum()
            };
            let used = &usage.tenants[&format!("t{tenant}")];
            let expected = Quantity::from_int(sum(minute(period.from), minute(period.to)));
            assert_eq!(used.totals["level"].quantity, expected, "t{tenant} {zone}");
            for (day, from, to) in period.days() {
                let found = used.days.iter().find(|((_, known), _)| *known == day);
                let found = found.map(|(_, used)| used.quantity).unwrap_or_default();
                assert_eq!(
                    found,
                    Quantity::from_int(sum(minute(from), minute(to))),
                    "t{tenant} {zone} {day}"
                );
            }
        }
    }
}
