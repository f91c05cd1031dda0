//! One engine for all tests of a process, a database for each, and events to bill.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rentroll_engines::store::{Store, StoreConfig};
use rentroll_schemas::Identity;
use rentroll_schemas::catalogue::Catalogue;
use rentroll_schemas::costs::Costs;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::migrations::MIGRATIONS;
use rentroll_schemas::yaml;

/// The data directory of this process' engine: emptied at first use.
fn data_dir() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let name = test.file_stem().unwrap().to_string_lossy().into_owned();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp/billing").join(name);
        if let Err(error) = std::fs::remove_dir_all(&path) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
        path
    })
    .clone()
}

/// The shared engine, with a migrated database of that name.
pub async fn store(database: &str) -> Store {
    // Keeps the engine open between tests.
    static FIRST: tokio::sync::OnceCell<Store> = tokio::sync::OnceCell::const_new();
    let config = |database: &str| StoreConfig {
        database: format!("test_{database}"),
        ..StoreConfig::embedded(data_dir())
    };
    FIRST.get_or_init(|| async { Store::open(&config("first")).await.unwrap() }).await;
    let store = Store::open(&config(database)).await.unwrap();
    store.migrate(MIGRATIONS).await.unwrap();
    store
}

pub fn meters() -> Meters {
    let text = "meters:
- {name: requests, unit: request, event_type: http.request, aggregation: count}
- {name: egress_bytes, unit: byte, event_type: http.request, aggregation: sum, value: bytes}
";
    yaml::parse(text, Path::new("meters.yaml")).unwrap()
}

/// Free below 3 requests, then Pro: 20 and 0.015 a request, 0.50 a GB.
pub fn catalogue(zone: &str) -> Catalogue {
    let text = format!(
        "currency: USD
time_zone: {zone}
invoice_prefix: RR
seller: {{name: Us, payment_terms_days: 30}}
versions:
- effective_from: 2015-01-01
  plans:
  - {{name: free, title: Free, base_fee: 0, limits: {{requests_per_minute: 100, connections: 5}}}}
  - name: pro
    title: Pro
    base_fee: 20
    limits: {{requests_per_minute: 1000, connections: 20}}
    charges:
    - meter: requests
      title: Requests
      unit: request
      model: graduated
      tiers: [{{from: 0, to: 2, unit_price: 0}}, {{from: 2, unit_price: 0.015}}]
    - {{meter: egress_bytes, title: Data sent, unit: GB, unit_divisor: 1000000000, model: per_unit, unit_price: 0.50}}
  assignment:
    by_usage: {{meter: requests, ladder: [{{from: 0, to: 3, plan: free}}, {{from: 3, plan: pro}}]}}
"
    );
    let catalogue: Catalogue = yaml::parse(&text, Path::new("catalogue.yaml")).unwrap();
    catalogue.check(&meters()).unwrap();
    catalogue
}

pub fn costs(text: &str) -> Costs {
    let costs: Costs = yaml::parse(text, Path::new("costs.yaml")).unwrap();
    costs.check(&meters()).unwrap();
    costs
}

/// An event: tenant, id, time, bytes if it has any.
pub type Sent<'a> = (&'a str, &'a str, &'a str, Option<u64>);

/// Stores events and their rollups, as the aggregator does.
pub async fn send(store: &Store, events: &[Sent<'_>]) {
    send_raw(store, events).await;
    roll_up(store, events).await;
}

/// Stores raw events alone.
pub async fn send_raw(store: &Store, events: &[Sent<'_>]) {
    let rows: Vec<String> = events
        .iter()
        .map(|(tenant, id, time, bytes)| {
            let identity = Identity::of(tenant, "test", id);
            let names = bytes.map_or("", |_| "bytes\\0");
            let values = bytes.map_or("[]".to_owned(), |bytes| format!("[toDecimal128('{bytes}', 9)]"));
            let half = |from| format!("reinterpretAsUInt64(substring(unhex('{identity}'), {from}, 8))");
            format!(
                "('{tenant}', 'http.request', '{time}', {}, {}, '{id}', 'test', now64(3), '{names}', {values})",
                half(1),
                half(9)
            )
        })
        .collect();
    let sql = format!(
        "INSERT INTO events (tenant, type, time, identity_high, identity_low, id_text, source, arrived_at, measure_names, measure_values) VALUES {}",
        rows.join(", ")
    );
    store.client().query(&sql).execute().await.unwrap();
}

/// Stores rollups alone.
pub async fn roll_up(store: &Store, events: &[Sent<'_>]) {
    for (table, start) in [("rollup_hour", "toStartOfHour"), ("rollup_minute", "toStartOfMinute")] {
        let mut rows = Vec::new();
        for (tenant, _, time, bytes) in events {
            let bucket = format!("{start}(toDateTime64('{time}', 6, 'UTC'))");
            rows.push(format!("('requests\\0', '{tenant}', {bucket}, '{{}}', 1, 1, 1, 1)"));
            if let Some(bytes) = bytes {
                rows.push(format!(
                    "('egress_bytes\\0', '{tenant}', {bucket}, '{{}}', 1, {bytes}, {bytes}, {bytes})"
                ));
            }
        }
        let sql = format!(
            "INSERT INTO {table} (meters, tenant, bucket, dimensions, events, total_1, least_value, greatest_value) VALUES {}",
            rows.join(", ")
        );
        store.client().query(&sql).execute().await.unwrap();
    }
}

/// Many tenants at once, each with that many requests of 1,000 bytes in May 2015.
pub async fn send_many(store: &Store, tenants: u64, requests: u64) {
    for sql in [
        "INSERT INTO events (tenant, type, time, identity_high, identity_low, id_text, source, arrived_at, measure_names, measure_values) \
         SELECT format('t{}', leftPad(toString(intDiv(number, {requests:UInt64})), 6, '0')), 'http.request', \
         '2015-05-10 10:00:00', sipHash64(number), cityHash64(number), toString(number), 'many', now64(3), \
         'bytes\\0', [toDecimal128('1000', 9)] FROM numbers({tenants:UInt64} * {requests:UInt64})",
        "INSERT INTO rollup_hour (meters, tenant, bucket, dimensions, events, total_1, least_value, greatest_value) \
         SELECT 'requests\\0', tenant, toStartOfHour(time), '{}', count(), count(), 1, 1 FROM events GROUP BY tenant, time",
        "INSERT INTO rollup_hour (meters, tenant, bucket, dimensions, events, total_1, least_value, greatest_value) \
         SELECT 'egress_bytes\\0', tenant, toStartOfHour(time), '{}', count(), count() * 1000, 1000, 1000 \
         FROM events GROUP BY tenant, time",
    ] {
        store
            .client()
            .query(sql)
            .param("tenants", tenants)
            .param("requests", requests)
            .execute()
            .await
            .unwrap();
    }
}

/// The single value of a query, as text.
pub async fn one(store: &Store, sql: &str) -> String {
    store.client().query(&format!("SELECT assumeNotNull(toString(({sql})))")).fetch_one().await.unwrap()
}
