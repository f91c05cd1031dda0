//! The schema, applied to the real engine.

use rentroll_engines::store::{SchemaError, StoreError};
use rentroll_schemas::migrations::{MIGRATIONS, Migration};

use crate::common::{number, store};

const FIRST: Migration = Migration {
    version: 1,
    name: "0001_first",
    sql: "CREATE TABLE IF NOT EXISTS a (n UInt8) ENGINE = MergeTree ORDER BY n;\n\
          CREATE TABLE IF NOT EXISTS b (n UInt8) ENGINE = MergeTree ORDER BY n;\n",
};
const SECOND: Migration =
    Migration { version: 2, name: "0002_second", sql: "ALTER TABLE a ADD COLUMN IF NOT EXISTS m UInt8;\n" };

#[tokio::test]
async fn the_schema_is_applied_once() {
    let store = store("schema").await;
    let first = store.migrate(MIGRATIONS).await.unwrap();
    assert_eq!((first.from, first.to as usize, first.applied.len()), (0, MIGRATIONS.len(), MIGRATIONS.len()));
    let second = store.migrate(MIGRATIONS).await.unwrap();
    assert_eq!((second.from, second.applied.len()), (first.to, 0));
    assert_eq!(store.check_schema(MIGRATIONS).await.unwrap(), first.to);
}

#[tokio::test]
async fn missing_steps_are_applied_in_order() {
    let store = store("steps").await;
    assert_eq!(store.schema_version().await.unwrap(), 0);
    store.migrate(&[FIRST]).await.unwrap();
    let older = store.check_schema(&[FIRST, SECOND]).await.unwrap_err();
    assert!(matches!(older, StoreError::Schema(SchemaError::Older { known: 2, found: 1 })), "{older}");
    let migrated = store.migrate(&[FIRST, SECOND]).await.unwrap();
    assert_eq!((migrated.from, migrated.to, migrated.applied), (1, 2, vec!["0002_second"]));
    assert_eq!(store.schema_version().await.unwrap(), 2);
    store.client().query("SELECT m FROM a").execute().await.unwrap();
}

#[tokio::test]
async fn an_old_binary_refuses_a_newer_schema() {
    let store = store("newer").await;
    store.migrate(&[FIRST, SECOND]).await.unwrap();
    for refused in [store.migrate(&[FIRST]).await.map(|_| ()), store.check_schema(&[FIRST]).await.map(|_| ())]
    {
        let error = refused.unwrap_err();
        assert!(matches!(error, StoreError::Schema(SchemaError::Newer { known: 1, found: 2 })), "{error}");
        assert_eq!(error.to_string(), "this binary knows schema 1, the store has 2: use a newer rentroll");
    }
}

#[tokio::test]
async fn an_edited_step_is_refused() {
    let store = store("edited").await;
    store.migrate(&[FIRST]).await.unwrap();
    let edited =
        Migration { sql: "CREATE TABLE IF NOT EXISTS c (n UInt8) ENGINE = MergeTree ORDER BY n;\n", ..FIRST };
    let error = store.migrate(&[edited, SECOND]).await.unwrap_err();
    assert!(matches!(error, StoreError::Schema(SchemaError::Edited { version: 1, .. })), "{error}");
    assert!(error.to_string().contains("0001_first"), "{error}");
    let tables = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'c'";
    assert_eq!(number(&store, tables).await, 0, "nothing is changed");
}

#[tokio::test]
async fn a_step_that_stopped_halfway_is_finished() {
    let store = store("halfway").await;
    let broken = Migration {
        sql: "CREATE TABLE IF NOT EXISTS a (n UInt8) ENGINE = MergeTree ORDER BY n;\nCREATE NONSENSE;\n",
        ..FIRST
    };
    let error = store.migrate(&[broken]).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { code: 62, .. }), "{error}");
    assert_eq!(store.schema_version().await.unwrap(), 0);
    assert_eq!(store.migrate(&[FIRST]).await.unwrap().applied, ["0001_first"]);
}

#[tokio::test]
async fn a_table_that_lost_its_deduplication_is_found() {
    let store = store("settings").await;
    store.migrate(MIGRATIONS).await.unwrap();
    store.check_settings().await.unwrap();
    let client = store.client();
    for (change, setting) in [
        ("MODIFY SETTING non_replicated_deduplication_window = 0", "non_replicated_deduplication_window"),
        ("RESET SETTING fsync_after_insert", "fsync_after_insert"),
    ] {
        client.query(&format!("ALTER TABLE rollup_hour {change}")).execute().await.unwrap();
        let error = store.check_settings().await.unwrap_err();
        let StoreError::Schema(SchemaError::Setting { table, setting: found, needed, .. }) = &error else {
            panic!("{error}")
        };
        assert_eq!((table.as_str(), found.as_str()), ("rollup_hour", setting));
        client
            .query(&format!("ALTER TABLE rollup_hour MODIFY SETTING {setting} = {needed}"))
            .execute()
            .await
            .unwrap();
        store.check_settings().await.unwrap();
    }
}

#[tokio::test]
async fn an_identity_is_found_by_the_projection() {
    let store = store("projection").await;
    store.migrate(MIGRATIONS).await.unwrap();
    let client = store.client();
    let fill = "INSERT INTO events (tenant, arrived_at, identity_high, identity_low) \
                SELECT toString(number % 100), now(), number, number FROM numbers(100000)";
    client.query_raw(fill).execute().await.unwrap();
    let sql = "EXPLAIN indexes = 1, projections = 1 SELECT identity_high, identity_low, content FROM events \
               WHERE identity_high IN (7) AND toDate(arrived_at) >= toDate(19000)";
    let plan: Vec<String> = client.query_raw(sql).fetch_all().await.unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains("by_identity") && plan.contains("Granules: 1/"), "{plan}");
    let sql = "SELECT hex(identity) FROM events WHERE identity_high IN (7)";
    let identity: String = client.query_raw(sql).fetch_one().await.unwrap();
    assert_eq!(identity, "07000000000000000700000000000000");
}

/// A question about all tenants reads no more than the partitions of its span.
#[tokio::test]
async fn a_short_span_reads_its_partitions() {
    let store = store("spans").await;
    store.migrate(MIGRATIONS).await.unwrap();
    let client = store.client();
    let explain = async |sql: &str| {
        let plan: Vec<String> =
            client.query_raw(&format!("EXPLAIN indexes = 1 {sql}")).fetch_all().await.unwrap();
        plan.join("\n")
    };
    // Four weeks from a Monday on; of days two months.
    for (table, hours, parts) in
        [("rollup_minute", 1, "1/4"), ("rollup_hour", 1, "1/4"), ("rollup_day", 2, "1/2")]
    {
        let fill = format!(
            "INSERT INTO {table} (meters, tenant, bucket, dimensions, events) \
             SELECT 'a\\0', toString(number % 7), toDateTime('2026-06-01 00:00:00', 'UTC') + number * 3600 * {hours}, '{{}}', 1 FROM numbers(672)"
        );
        client.query_raw(&fill).execute().await.unwrap();
        let sql = format!(
            "SELECT sum(events) FROM {table} WHERE bucket >= toDateTime('2026-06-10 05:00:00', 'UTC') \
             AND bucket < toDateTime('2026-06-10 06:00:00', 'UTC')"
        );
        let plan = explain(&sql).await;
        assert!(plan.contains(&format!("Parts: {parts}")), "{table}: {plan}");
    }
    // Events of four weeks, of which those of the third came a week late.
    client
        .query_raw(
            "INSERT INTO events (tenant, time, arrived_at) SELECT toString(number % 7), \
             toDateTime64('2026-06-01 00:00:00', 6, 'UTC') + number * 3600 AS at, \
             at + if(toMonday(at) = '2026-06-15', 7 * 86400, 0) FROM numbers(672)",
        )
        .execute()
        .await
        .unwrap();
    for day in ["2026-06-03", "2026-06-16", "2026-06-23"] {
        let sql = format!(
            "SELECT count() FROM events WHERE time >= toDateTime64('{day} 00:00:00', 6, 'UTC') \
             AND time < toDateTime64('{day} 01:00:00', 6, 'UTC')"
        );
        let plan = explain(&sql).await;
        assert!(plan.contains("times") && plan.contains("Parts: 1/3"), "{day}: {plan}");
    }
}

/// What a former version stored reads the same after the table has been made anew, however often the step runs.
#[tokio::test]
async fn events_of_a_former_layout_read_the_same() {
    let store = store("relaid").await;
    store.migrate(&MIGRATIONS[..2]).await.unwrap();
    let client = store.client();
    let fill = "INSERT INTO events (tenant, type, time, identity, id, source, arrived_at, measures, dimensions, meters, log_batch) \
                SELECT toString(number % 7), 't', toDateTime64(1700000000 + number, 6, 'UTC'), reinterpretAsFixedString(sipHash128(number)), \
                if(number % 3 = 0, toString(reinterpretAsUUID(sipHash128(number, 1))), if(number % 3 = 1, upper(toString(reinterpretAsUUID(sipHash128(number, 1)))), toString(number))), 's', toDateTime64(now() - number, 3, 'UTC'), \
                multiIf(number % 3 = 0, map(), number % 3 = 1, map('bytes', toDecimal128(number, 9)), map('a.b', toDecimal128('0.5', 9), 'bytes', toDecimal128(number, 9))), \
                if(number % 2 = 0, map(), map('zone', 'z1', 'empty', '')), 2, number FROM numbers(1000)";
    client.query_raw(fill).execute().await.unwrap();
    let sql = "SELECT count(), sum(cityHash64(tenant, toString(type), time, identity, id, toString(source), arrived_at, \
               toString(mapSort(CAST(measures AS Map(String, Decimal(38, 9))))), toString(mapSort(CAST(dimensions AS Map(String, String)))), meters, log_batch)), \
               toString(sum(measures['bytes'])) FROM events";
    let before: (u64, u64, String) = client.query_raw(sql).fetch_one().await.unwrap();
    assert_eq!(before.0, 1000);
    for step in 2..MIGRATIONS.len() {
        store.migrate(&MIGRATIONS[..=step]).await.unwrap();
        let after: (u64, u64, String) = client.query_raw(sql).fetch_one().await.unwrap();
        assert_eq!(after, before, "{}", MIGRATIONS[step].name);
        // As after a crash between its last statement and its record.
        for statement in MIGRATIONS[step].statements() {
            client.query_raw(statement).execute().await.unwrap();
        }
        let again: (u64, u64, String) = client.query_raw(sql).fetch_one().await.unwrap();
        assert_eq!(again, before, "{} again", MIGRATIONS[step].name);
    }
}

/// Rollups of a former layout read the same, however often the steps run; and rows of several meters read as one of each.
#[tokio::test]
async fn rollups_of_a_former_layout_read_the_same() {
    let store = store("rollups").await;
    store.migrate(&MIGRATIONS[..6]).await.unwrap();
    let client = store.client();
    let views = ["usage_minute", "usage_hour", "usage_day"];
    for table in views {
        let fill = format!(
            "INSERT INTO {table} SELECT if(number % 3 = 0, 'bytes', 'most'), toString(number % 7), \
             toDateTime(1700000000 + number * 60, 'UTC'), if(number % 2 = 0, '{{}}', '{{\"zone\":\"a\"}}'), \
             1, number / 8, -1, number FROM numbers(1000)"
        );
        client.query_raw(&fill).execute().await.unwrap();
    }
    let sql = |view: &str| {
        format!(
            "SELECT count(), sum(cityHash64(toString(meter), tenant, bucket, dimensions, events, total, least_value, \
             greatest_value)), toString(sum(total)) FROM {view}"
        )
    };
    let read = async || {
        let mut all = Vec::new();
        for view in views {
            let row: (u64, u64, String) = client.query_raw(&sql(view)).fetch_one().await.unwrap();
            all.push(row);
        }
        all
    };
    let before = read().await;
    for step in 6..MIGRATIONS.len() {
        store.migrate(&MIGRATIONS[..=step]).await.unwrap();
        assert_eq!(read().await, before, "{}", MIGRATIONS[step].name);
        for statement in MIGRATIONS[step].statements() {
            client.query_raw(statement).execute().await.unwrap();
        }
        assert_eq!(read().await, before, "{} again", MIGRATIONS[step].name);
    }
    store.check_settings().await.unwrap();
    let row = "INSERT INTO rollup_hour (meters, tenant, bucket, dimensions, events, total_1, total_2) \
               VALUES ('a\\0b\\0', 't', '2030-01-01 00:00:00', '{}', 3, '1.5', '-2')";
    client.query_raw(row).execute().await.unwrap();
    let sql = "SELECT meter, events, toString(total) FROM usage_hour WHERE tenant = 't' ORDER BY meter";
    let rows: Vec<(String, i64, String)> = client.query(sql).fetch_all().await.unwrap();
    assert_eq!(rows, [("a".into(), 3, "1.5".into()), ("b".into(), 3, "-2".into())]);
    // The view does not hide the table's order from a tenant's query.
    let sql = "EXPLAIN indexes = 1 SELECT sum(total) FROM usage_hour WHERE tenant = 't' AND bucket >= '2030-01-01 00:00:00' AND meter = 'a'";
    let plan: Vec<String> = client.query_raw(sql).fetch_all().await.unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains("Parts: 1/") && plan.contains("tenant"), "{plan}");
}

/// Each step makes its table anew and exchanges it: two at once would exchange each other's unfinished tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_several_at_once_one_applies_and_the_others_wait() {
    const MADE_ANEW: Migration = Migration {
        version: 2,
        name: "0002_anew",
        sql: "DROP TABLE IF EXISTS a_anew SYNC;\n\
              CREATE TABLE a_anew (n UInt8) ENGINE = MergeTree ORDER BY n;\n\
              INSERT INTO a_anew SELECT n FROM a SETTINGS insert_deduplicate = 0;\n\
              EXCHANGE TABLES a AND a_anew;\n\
              DROP TABLE IF EXISTS a_anew SYNC;\n",
    };
    let store = store("at_once").await;
    store.migrate(&[FIRST]).await.unwrap();
    store.client().query("INSERT INTO a SELECT number FROM numbers(100)").execute().await.unwrap();
    let started: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.migrate(&[FIRST, MADE_ANEW]).await })
        })
        .collect();
    let mut applied = 0;
    for task in started {
        let migrated = task.await.unwrap().unwrap();
        assert_eq!(migrated.to, 2);
        applied += migrated.applied.len();
    }
    assert_eq!((applied, number(&store, "SELECT count() FROM a").await), (1, 100));
}

#[tokio::test]
async fn whoever_died_in_its_turn_is_waited_for_and_then_followed() {
    let store = store("died").await;
    store.migrate(&[FIRST]).await.unwrap();
    let died = "INSERT INTO schema_turns (turn, owner, ended) VALUES (2, 'gone', 0)";
    store.client().query(died).execute().await.unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(store.migrate(&[FIRST, SECOND]).await.unwrap().applied, ["0002_second"]);
    assert!(begun.elapsed() >= std::time::Duration::from_secs(15), "{:?}", begun.elapsed());
}
