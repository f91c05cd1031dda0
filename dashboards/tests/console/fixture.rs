//! A real store with a little of everything in it, and a console over it.

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use rentroll_dashboards::{ConsoleState, router};
use rentroll_engines::store::{Store, StoreConfig};
use rentroll_schemas::invoice::Invoice;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::migrations::MIGRATIONS;
use tower::ServiceExt;

use super::sample;

/// Two meters, as in the access-log example, and one whose values do not add up.
pub(crate) const METERS: &str = "meters:
- {name: requests, description: HTTP requests, unit: request, event_type: http.request, aggregation: count}
- {name: egress_bytes, unit: byte, event_type: http.request, aggregation: sum, value: bytes}
- {name: slowest_ms, unit: ms, event_type: http.request, aggregation: max, value: ms}
";

/// A process holds one engine: all tests share it, each in a database of its own.
static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console-store");
    // What an earlier run left behind; on the first there is nothing.
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
});

static DATABASES: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Console {
    pub(crate) store: Store,
    pub(crate) router: Router,
}

/// The meters of [`METERS`].
pub(crate) fn meters() -> Arc<Meters> {
    Arc::new(rentroll_schemas::yaml::parse(METERS, "meters.yaml".as_ref()).unwrap())
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Console {
    /// Without tables.
    pub(crate) async fn bare() -> Self {
        let database = format!("console_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let store = Store::open(&StoreConfig { database, ..StoreConfig::embedded(&*DIR) }).await.unwrap();
        let router =
            router(ConsoleState::new(store.client().clone(), meters().as_ref().clone().into(), None));
        Console { store, router }
    }

    /// With tables, and nothing in them.
    pub(crate) async fn empty() -> Self {
        let console = Self::bare().await;
        console.store.migrate(MIGRATIONS).await.unwrap();
        console
    }

    /// With usage on two days of May 2015 and one of June, invoices, an allocation, and rejects.
    pub(crate) async fn filled() -> Self {
        let console = Self::empty().await;
        for sql in fill() {
            console.sql(&sql).await;
        }
        console
    }

    pub(crate) async fn sql(&self, sql: &str) {
        self.store.client().query_raw(sql).execute().await.unwrap_or_else(|error| panic!("{error}\n{sql}"));
    }

    pub(crate) async fn get(&self, address: &str) -> Answer {
        get(&self.router, address).await
    }

    /// The page at `address`, which must be there.
    pub(crate) async fn page(&self, address: &str) -> String {
        let answer = self.get(address).await;
        assert_eq!(answer.status, StatusCode::OK, "{address}: {}", answer.body);
        answer.body
    }
}

/// One request to a router.
pub(crate) async fn get(router: &Router, address: &str) -> Answer {
    let request = Request::get(address).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap();
    Answer { status, headers, body: String::from_utf8(bytes.to_vec()).unwrap() }
}

/// A ClickHouse string literal.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The invoice that is stored for `acme`; its lines are the sample's.
pub(crate) fn invoice() -> Invoice {
    Invoice { number: "RR-2015-000001".into(), tenant: "acme".into(), ..sample::invoice().invoice }
}

fn fill() -> Vec<String> {
    let hostile = quoted(sample::HOSTILE);
    // (tenant, hour, requests, bytes, slowest)
    let usage = [
        ("'acme'", "2015-05-17 10:00:00", 7, 2_000_000_000_u64, 12),
        ("'acme'", "2015-05-17 23:00:00", 3, 500, 40),
        (hostile.as_str(), "2015-05-18 09:00:00", 4, 747_282_240, 9),
        ("'zeta'", "2015-05-20 21:00:00", 1, 0, 7),
        ("'..'", "2015-05-20 20:00:00", 2, 11, 3),
        ("'acme'", "2015-06-01 00:00:00", 5, 1_000, 90),
    ];
    let mut sql = Vec::new();
    for table in ["rollup_minute", "rollup_hour", "rollup_day"] {
        let rows: Vec<String> = usage
            .iter()
            .flat_map(|(tenant, time, requests, bytes, slowest)| {
                let bucket = match table {
                    "rollup_day" => format!("toStartOfDay(toDateTime('{time}', 'UTC'))"),
                    _ => format!("toDateTime('{time}', 'UTC')"),
                };
                let row = |meter: &str, value: u64| {
                    format!(
                        "('{meter}\\0', {tenant}, {bucket}, '{{}}', {requests}, {value}, {value}, {value})"
                    )
                };
                [row("requests", *requests), row("egress_bytes", *bytes), row("slowest_ms", *slowest)]
            })
            .collect();
        sql.push(format!("INSERT INTO {table} (meters, tenant, bucket, dimensions, events, total_1, least_value, greatest_value) VALUES {}", rows.join(", ")));
    }
    sql.push(
        "INSERT INTO batches (topic, partition, first, next, state, written_at, tallies) VALUES \
         ('usage', 0, 0, 20, 0, '2015-07-01 08:00:00', []), \
         ('usage', 0, 0, 20, 1, '2015-07-01 08:00:01', [('log', '2015-07-01 08:00:00', 20, 17, 2, 1)])"
            .to_owned(),
    );
    let document = serde_json::to_string(&invoice()).unwrap();
    let digest = blake3::hash(document.as_bytes()).to_hex();
    let row = |number: u32, tenant: &str, plan: &str, total: &str, digest: &str, document: &str| {
        format!(
            "('RR-2015-{number:06}', 'RR-2015', {number}, 1, 'run', {tenant}, '2015-05', 'UTC', '{plan}', 'USD', {total}, 0, \
             {total}, '2015-07-01', '2015-07-31', '2015-07-01 08:00:00', 'u', '{digest}', {})",
            quoted(document)
        )
    };
    sql.push(format!(
        "INSERT INTO invoices VALUES {}, {}, {}",
        row(1, "'acme'", "enterprise", "250.71", &digest, &document),
        row(2, &hostile, "free", "0", "not the digest", &document),
        row(3, "'zeta'", "pro", "19.99", &digest, &document),
    ));
    sql.push(
        "INSERT INTO allocation_runs VALUES \
         ('old', '2015-05', 'UTC', 'c', 'u', 'USD', 3, 999, '2015-07-01 07:00:00'), \
         ('new', '2015-05', 'UTC', 'c', 'u', 'USD', 3, 1700, '2015-07-01 09:00:00')"
            .to_owned(),
    );
    let allocation = |run: &str, pool: &str, tenant: &str, direct: &str, idle: &str, total: &str| {
        format!("('{run}', '2015-05', '{pool}', {tenant}, 1, {direct}, {idle}, {total}, 'USD')")
    };
    let allocations = [
        allocation("old", "database", "'acme'", "999", "0", "999"),
        allocation("new", "database", "'acme'", "333.333333334", "0", "333.333333334"),
        allocation("new", "database", &hostile, "166.666666666", "0", "166.666666666"),
        allocation("new", "object_storage", "'acme'", "100", "50", "150"),
        allocation("new", "object_storage", "'__unallocated__'", "0", "0", "50"),
        allocation("new", "compute", "'acme'", "700.5", "0", "700.5"),
        allocation("new", "compute", "'zeta'", "0.25", "0", "0.25"),
        allocation("new", "compute", "'__idle__'", "299.25", "0", "299.25"),
    ];
    sql.push(format!("INSERT INTO allocations VALUES {}", allocations.join(", ")));
    sql.push(
        "INSERT INTO rejects (identity, source, place, tenant, reason, field, detail, rejected_at, bytes) VALUES \
         (unhex('00000000000000000000000000000001'), 'log', 'access.log:10', '', 'unreadable', '', 'no time', \
          '2015-07-01 08:00:00', 'a\\0<script>\\xff'), \
         (unhex('00000000000000000000000000000001'), 'log', 'access.log:10', '', 'unreadable', '', 'no time', \
          '2015-08-01 08:00:00', 'a\\0<script>\\xff'), \
         (unhex('00000000000000000000000000000002'), 'log', 'usage/0/3', 'acme', 'invalid', 'time', 'not a time', \
          '2015-07-01 08:00:01', repeat('x', 600))"
            .to_owned(),
    );
    sql
}
