//! Rows in, rows out.

use rentroll_engines::store::StoreError;
use rentroll_schemas::migrations::MIGRATIONS;
use serde::{Deserialize, Serialize};

use crate::common::{number, store};

#[derive(Debug, PartialEq, Eq, clickhouse::Row, Serialize, Deserialize)]
struct Row {
    n: u64,
    text: String,
}

#[tokio::test]
async fn the_crate_inserts_and_selects() {
    let store = store("crate").await;
    let client = store.client();
    client
        .query("CREATE TABLE t (n UInt64, text String) ENGINE = MergeTree ORDER BY n")
        .execute()
        .await
        .unwrap();
    let mut insert = client.insert::<Row>("t").await.unwrap();
    for n in 0..200_000 {
        insert.write(&Row { n, text: format!("row {n}") }).await.unwrap();
    }
    insert.end().await.unwrap();
    // Several chunks, each of which the engine begins with the names and types again.
    let rows: Vec<Row> = client.query("SELECT ?fields FROM t ORDER BY n").fetch_all().await.unwrap();
    assert_eq!(rows.len(), 200_000);
    assert!(
        rows.iter()
            .enumerate()
            .all(|(index, row)| row.n == index as u64 && row.text == format!("row {index}"))
    );
    let none: Vec<Row> = client.query("SELECT ?fields FROM t WHERE n > 200000").fetch_all().await.unwrap();
    assert!(none.is_empty());
}

#[tokio::test]
async fn parameters_are_bound() {
    let store = store("parameters").await;
    for text in
        ["plain", "it's", "back\\slash", "tab\tline\nend", "'); DROP TABLE t; --", "ünïcode \u{1F600}", ""]
    {
        let found: String =
            store.client().query("SELECT {text:String}").param("text", text).fetch_one().await.unwrap();
        assert_eq!(found, text);
    }
    // They do not reach the next request.
    let error = store.client().query("SELECT {text:String}").fetch_one::<String>().await.unwrap_err();
    assert!(error.to_string().contains("456"), "{error}");
}

/// One row of `rollup_minute` as RowBinary.
fn usage(bucket: u32, events: i64, total_nanos: i128) -> Vec<u8> {
    let mut row = Vec::new();
    for text in ["requests\0", "acme"] {
        row.push(text.len() as u8);
        row.extend_from_slice(text.as_bytes());
    }
    row.extend_from_slice(&bucket.to_le_bytes());
    row.extend_from_slice(b"\x02{}");
    row.extend_from_slice(&events.to_le_bytes());
    for nanos in [total_nanos, total_nanos, total_nanos] {
        row.extend_from_slice(&nanos.to_le_bytes());
    }
    row
}

const USAGE: &[&str] =
    &["meters", "tenant", "bucket", "dimensions", "events", "total_1", "least_value", "greatest_value"];

#[tokio::test]
async fn a_block_with_a_token_is_stored_once() {
    let store = store("tokens").await;
    store.migrate(MIGRATIONS).await.unwrap();
    let rows: Vec<u8> = (0..1000).flat_map(|n| usage(n * 60, 1, 1_500_000_000)).collect();
    for (table, view) in
        [("rollup_minute", "usage_minute"), ("rollup_hour", "usage_hour"), ("rollup_day", "usage_day")]
    {
        for token in [Some("a"), Some("a"), Some("b"), None, None] {
            store.insert(table, USAGE, "RowBinary", rows.clone().into(), token).await.unwrap();
        }
        let (events, total): (i64, String) = store
            .client()
            .query(&format!("SELECT sum(events), toString(sum(total)) FROM {view} WHERE meter = 'requests'"))
            .fetch_one()
            .await
            .unwrap();
        // Without a token ClickHouse goes by the block's content: the third copy is the first one's.
        assert_eq!((events, total.as_str()), (3000, "4500"), "{table}");
    }
}

#[tokio::test]
async fn errors_are_sorted_by_what_can_be_done() {
    let store = store("sorted").await;
    let client = store.client();
    client.query("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n").execute().await.unwrap();
    // A disk that lacks an exabyte is a full one.
    let full = "CREATE TABLE full (n UInt64) ENGINE = MergeTree ORDER BY n \
                SETTINGS min_free_disk_bytes_to_perform_insert = 1000000000000000000";
    client.query(full).execute().await.unwrap();
    let row = bytes::Bytes::from_static(&[7; 8]);
    let error = store.insert("full", &["n"], "RowBinary", row.clone(), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }) && error.is_retryable(), "{error}");
    let cut = store.insert("t", &["n"], "RowBinary", row.slice(..5), None).await.unwrap_err();
    assert!(matches!(cut, StoreError::Refused { code: 33, .. }) && !cut.is_retryable(), "{cut}");
    let text = bytes::Bytes::from_static(b"seven\n");
    let bad = store.insert("t", &["n"], "CSV", text, None).await.unwrap_err();
    assert!(matches!(bad, StoreError::Refused { code: 27 | 117, .. }), "{bad}");
    let missing = store.insert("nosuch", &["n"], "RowBinary", row.clone(), None).await.unwrap_err();
    assert!(matches!(missing, StoreError::Refused { code: 60, .. }), "{missing}");
    assert_eq!(number(&store, "SELECT count() FROM t").await, 0);
    store.insert("t", &["n"], "RowBinary", row, None).await.unwrap();
    assert_eq!(number(&store, "SELECT count() FROM t").await, 1);
}

#[tokio::test]
async fn a_large_insert_is_one_block() {
    let store = store("block").await;
    let client = store.client();
    let table = "CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 10";
    client.query(table).execute().await.unwrap();
    // More than the engine's own block of a million rows.
    let rows: Vec<u8> = (0..1_500_000_u64).flat_map(u64::to_le_bytes).collect();
    let rows = bytes::Bytes::from(rows);
    for _ in 0..2 {
        store.insert("t", &["n"], "RowBinary", rows.clone(), Some("one")).await.unwrap();
    }
    assert_eq!(number(&store, "SELECT count() FROM t").await, 1_500_000);
    let parts =
        "SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 't' AND level = 0";
    assert_eq!(number(&store, parts).await, 1);
    // What is cut off within the block leaves nothing.
    let cut = rows.slice(..rows.len() - 3);
    assert!(store.insert("t", &["n"], "RowBinary", cut, Some("two")).await.is_err());
    assert_eq!(number(&store, "SELECT count() FROM t").await, 1_500_000);
}
