//! The face as plain HTTP sees it.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::common::{Asked, escape, number, send, send_with, store};

/// Fails after more than a hundred thousand rows, far beyond the first byte.
const FAILS_LATE: &str = "SELECT number, throwIf(number = 3000000, 'late') FROM numbers(10000000)";

#[tokio::test]
async fn nothing_without_the_credential() {
    let store = store("credential").await;
    let (url, user, password) = (store.url(), store.user(), store.password());
    let basic = |pair: String| format!("Authorization: Basic {}\r\n", base64(pair.as_bytes()));
    let query = format!("/?query={}", escape("SELECT 7"));
    for (target, headers) in [
        (query.clone(), format!("X-ClickHouse-User: {user}\r\nX-ClickHouse-Key: {password}\r\n")),
        (query.clone(), basic(format!("{user}:{password}"))),
        (format!("{query}&user={user}&password={password}"), String::new()),
    ] {
        let answer = send_with(url, &target, &headers, b"").await.answer().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "7\n"), "{headers}");
    }
    let none = send_with(url, &query, "", b"").await.answer().await;
    assert_eq!((none.status, none.header("x-clickhouse-exception-code")), (401, Some("194")));
    assert!(none.header("www-authenticate").is_some());
    let longer = format!("{password}x");
    for (name, key) in
        [(user, ""), (user, "x"), (user, &password[1..]), (user, &longer), ("other", password), ("", "")]
    {
        let wrong = send_with(url, &query, &basic(format!("{name}:{key}")), b"").await.answer().await;
        assert_eq!(
            (wrong.status, wrong.header("x-clickhouse-exception-code")),
            (403, Some("516")),
            "{name} {key}"
        );
        assert!(wrong.text().starts_with("Code: 516. DB::Exception: "), "{}", wrong.text());
    }
    let ping = send_with(url, "/ping", "", b"").await.answer().await;
    assert_eq!((ping.status, ping.text().as_str()), (200, "Ok.\n"));
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let sextet = bits >> (18 - 6 * index) & 63;
            out.push(if index > chunk.len() { '=' } else { char::from(ALPHABET[sextet as usize]) });
        }
    }
    out
}

#[tokio::test]
async fn a_query_comes_in_every_way() {
    let store = store("ways").await;
    let boundary = "Content-Type: multipart/form-data; boundary=b\r\n";
    let form = "--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT {x:UInt8} + 1\r\n\
                --b\r\nContent-Disposition: form-data; name=\"param_x\"\r\n\r\n6\r\n--b--\r\n";
    for (target, headers, body) in [
        (format!("/?query={}", escape("SELECT 7")), "", ""),
        ("/".to_owned(), "", "SELECT 7"),
        (format!("/?query={}", escape("SELECT")), "", "7"),
        (format!("/?query={}&param_x=6", escape("SELECT {x:UInt8} + 1")), "", ""),
        ("/".to_owned(), boundary, form),
        (format!("/?query={}&max_threads=7", escape("SELECT getSetting('max_threads')")), "", ""),
    ] {
        let answer = send(&store, &target, headers, body.as_bytes()).await.answer().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "7\n"), "{target} {body}");
    }
    let named = send(&store, "/?query_id=mine&default_format=CSV", "", b"SELECT currentDatabase(), 'a'")
        .await
        .answer()
        .await;
    assert_eq!(named.text(), "\"default\",\"a\"\n");
    assert_eq!(named.header("x-clickhouse-query-id"), Some("mine"));
    assert_eq!(named.header("x-clickhouse-format"), Some("CSV"));
    assert_eq!(named.header("x-clickhouse-timezone"), Some("Etc/UTC"));
    assert!(named.header("x-clickhouse-server-display-name").is_some());
}

#[tokio::test]
async fn errors_are_statuses_with_clickhouse_words() {
    let store = store("errors").await;
    for (target, body, status, code) in [
        ("/", "SELECT * FROM nosuch", 404, "60"),
        ("/", "SELEC 1", 400, "62"),
        ("/", "SELECT 1; SELECT 2", 400, "62"),
        ("/?nosuch=1", "SELECT 1", 404, "115"),
        ("/?database=nosuch", "SELECT 1", 404, "81"),
        ("/?decompress=1", "this is not a compressed frame at all", 500, "40"),
        ("/", "INSERT INTO nosuch FORMAT CSV\n1", 404, "60"),
        ("/", "SELECT throwIf(1)", 500, "395"),
        ("/?max_execution_time=1", "SELECT sum(cityHash64(number)) FROM numbers(1000000000000)", 408, "159"),
    ] {
        let answer = send(&store, target, "", body.as_bytes()).await.answer().await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert_eq!(answer.header("x-clickhouse-exception-code"), Some(code), "{body}");
        assert!(answer.text().starts_with(&format!("Code: {code}. DB::")), "{}", answer.text());
        assert!(answer.text().ends_with("(official build))\n"), "{}", answer.text());
    }
    let read_only =
        send(&store, &format!("/?query={}", escape("CREATE DATABASE x")), "", b"").await.answer().await;
    assert_eq!(read_only.header("x-clickhouse-exception-code"), Some("164"), "GET changes nothing");
}

#[tokio::test]
async fn a_late_error_is_never_an_end() {
    let store = store("late").await;
    let broken = send(&store, "/", "", FAILS_LATE.as_bytes()).await.answer().await;
    assert_eq!(broken.status, 200);
    assert!(!broken.is_whole, "the last chunk would make it whole");
    let tag = broken.header("x-clickhouse-exception-tag").unwrap();
    let text = broken.text();
    let (rows, block) =
        text.split_once(&format!("\r\n__exception__\r\n{tag}\r\n")).expect("the tagged block");
    assert!(rows.starts_with("0\t0\n1\t0\n") && rows.len() > 100_000);
    assert!(block.starts_with("Code: 395. DB::Exception: late"), "{block}");

    for target in ["/?wait_end_of_query=1", "/?wait_end_of_query=1&compress=1"] {
        let held = send(&store, target, "", FAILS_LATE.as_bytes()).await.answer().await;
        assert_eq!((held.status, held.header("x-clickhouse-exception-code")), (500, Some("395")), "{target}");
        assert!(held.is_whole && held.text().starts_with("Code: 395."));
    }
    // The crate sees the words, whatever came before them.
    let error = store.client().query(FAILS_LATE).fetch_all::<(u64, u8)>().await.unwrap_err();
    assert!(error.to_string().contains("Code: 395"), "{error}");
    // What is held in full comes back in full, also from the file.
    let held = send(&store, "/?wait_end_of_query=1", "", b"SELECT number FROM numbers(8000000)")
        .await
        .answer()
        .await;
    assert!(held.is_whole && held.body.len() > 50 << 20);
    assert!(held.text().ends_with("\n7999999\n"));
}

/// The engine gives the partial output of a failed query to the next query of the same connection. If requests
/// shared connections, the rows of the ones that fail here would be in the answers of the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_sees_rows_of_a_failed_one() {
    let store = store("isolation").await;
    let until = Instant::now() + Duration::from_secs(4);
    let mut tasks = Vec::new();
    for worker in 0..6_u32 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let mut rounds = 0;
            while Instant::now() < until || rounds < 4 {
                rounds += 1;
                if worker % 2 == 0 {
                    let sql = format!("SELECT 'secret-{worker}', throwIf(number = 70000 * {worker} + 65000) FROM numbers(1000000)");
                    let format = ["TSV", "RowBinary", "JSONEachRow"][rounds % 3];
                    let answer = send(&store, &format!("/?default_format={format}"), "", sql.as_bytes()).await.answer().await;
                    assert!(answer.status != 200 || !answer.is_whole, "it fails each time");
                    assert!(answer.text().contains("Code: 395"));
                } else {
                    let sql = format!("SELECT concat('own-', '{worker}') FROM numbers({})", 1000 * worker);
                    let answer = send(&store, "/", "", sql.as_bytes()).await.answer().await;
                    assert_eq!((answer.status, answer.is_whole), (200, true));
                    assert_eq!(answer.text(), format!("own-{worker}\n").repeat(1000 * worker as usize));
                    let rows: Vec<u64> = store.client().query("SELECT number FROM numbers(5)").fetch_all().await.unwrap();
                    assert_eq!(rows, [0, 1, 2, 3, 4]);
                }
            }
            rounds
        }));
    }
    for task in tasks {
        assert!(task.await.unwrap() >= 4);
    }
}

#[tokio::test]
async fn many_chunks_are_one_document() {
    let store = store("documents").await;
    let all = "SELECT number AS n, toString(number) AS \"a \"\"b\" FROM numbers(150000)";
    let none = "SELECT number AS n, toString(number) AS \"a \"\"b\" FROM numbers(150000) WHERE n < 0";
    let answer = async |sql: &str, format: &str| {
        let target = format!("/?default_format={format}");
        let answer = send(&store, &target, "", sql.as_bytes()).await.answer().await;
        assert!(answer.status == 200 && answer.is_whole, "{format}: {}", answer.text());
        answer
    };
    for (format, lines) in [
        ("CSVWithNames", 1),
        ("TSVWithNamesAndTypes", 2),
        ("JSONCompactEachRowWithNamesAndTypes", 2),
        ("TabSeparatedWithNames", 1),
        ("CSVWithNamesAndTypes", 2),
        ("JSONEachRow", 0),
    ] {
        assert_eq!(answer(all, format).await.text().lines().count(), 150_000 + lines, "{format}");
        assert_eq!(answer(none, format).await.text().lines().count(), lines, "{format}");
    }
    for format in ["JSON", "JSONCompact"] {
        let document: serde_json::Value = serde_json::from_slice(&answer(all, format).await.body).unwrap();
        assert_eq!(
            (document["rows"].as_u64(), document["data"].as_array().unwrap().len()),
            (Some(150_000), 150_000)
        );
        let document: serde_json::Value = serde_json::from_slice(&answer(none, format).await.body).unwrap();
        assert_eq!(document["rows"].as_u64(), Some(0));
    }
    let header = 1 + 2 + 5 + 7 + 7;
    let text_bytes: usize = (0..150_000_u32).map(|n| 8 + 1 + n.to_string().len()).sum();
    assert_eq!(answer(all, "RowBinaryWithNamesAndTypes").await.body.len(), header + text_bytes);
    assert_eq!(answer(none, "RowBinaryWithNamesAndTypes").await.body.len(), header);
    assert_eq!(answer(all, "Parquet").await.body[..4], *b"PAR1");
    // Long gaps without a row are not the end.
    let sparse = "SELECT number FROM numbers(2000000000) WHERE number % 400000000 = 399999999 SETTINGS max_threads = 1";
    assert_eq!(answer(sparse, "TSV").await.text().lines().count(), 5);
    let totals = "SELECT number % 2 AS k, count() FROM numbers(10) GROUP BY k WITH TOTALS ORDER BY k";
    assert_eq!(answer(totals, "TSVWithNames").await.text(), "k\tcount()\n0\t5\n1\t5\n\n0\t10\n");
}

/// Each type whose length the face must know, empty and not.
const TYPES: &[&str] = &[
    "toUInt8(number)",
    "toInt16(number)",
    "toUInt32(number)",
    "number",
    "toInt128(number)",
    "toUInt256(number)",
    "toFloat32(number)",
    "toFloat64(number)",
    "toDecimal32(number, 2)",
    "toDecimal64(number, 3)",
    "toDecimal128(number, 9)",
    "toDecimal256(number, 9)",
    "toDate(number)",
    "toDate32(number)",
    "toDateTime(number, 'UTC')",
    "toDateTime64(number, 3, 'UTC')",
    "toIntervalDay(number)",
    "number = 1",
    "toString(number)",
    "toFixedString(toString(number % 10), 16)",
    "generateUUIDv4()",
    "toIPv4('1.2.3.4')",
    "toIPv6('::1')",
    "CAST(number % 2, 'Enum8(\\'a,)(\\' = 0, \\'b\\' = 1)')",
    "toNullable(number)",
    "NULL",
    "[number]",
    "[]",
    "emptyArrayString()",
    "arrayMap(x -> toString(x), range(number % 3))",
    "[[toString(number)], []]",
    "map('k', number)",
    "map('k', toDecimal128(number, 9))",
    "tuple(number, 'x')",
    "CAST(tuple(number, 'x'), 'Tuple(n UInt64, `a b` String)')",
    "toLowCardinality(toString(number % 300))",
    "toLowCardinality(toNullable(toString(number % 7)))",
    "[toLowCardinality('x'), toLowCardinality('y')]",
    "CAST([], 'Array(LowCardinality(String))')",
    "CAST(map(), 'Map(LowCardinality(String), Decimal(38, 9))')",
    "map(toLowCardinality('k'), [toLowCardinality('v')])",
    "tuple(toLowCardinality('a'), [tuple(1, 'b')])",
    "CAST(number, 'SimpleAggregateFunction(sum, UInt64)')",
    "tuple(1.5, 2.5)::Point",
    "[(1.5, 2.5)]::Ring",
];

#[tokio::test]
async fn native_has_the_revision_that_the_client_reads() {
    let store = store("native").await;
    for rows in [0, 1, 1000] {
        for column in TYPES {
            let sql = format!("SELECT {column} AS a, 'end' AS b FROM numbers({rows}) FORMAT Native");
            let plain = send(&store, "/", "", sql.as_bytes()).await.answer().await;
            let old =
                send(&store, "/?client_protocol_version=54405", "", sql.as_bytes()).await.answer().await;
            let new =
                send(&store, "/?client_protocol_version=54460", "", sql.as_bytes()).await.answer().await;
            assert_eq!((plain.status, new.status), (200, 200), "{column}: {}", new.text());
            if *column != "generateUUIDv4()" {
                assert!(plain.body == old.body, "{column}");
            }
            if rows == 0 {
                assert!(plain.body.is_empty() && new.body.is_empty(), "no block for no rows");
                continue;
            }
            // The block's information, and a byte for each of two columns.
            assert_eq!(new.body.len(), plain.body.len() + 8 + 2, "{column} {rows}");
            assert!(new.body.ends_with(b"\x03end"), "{column}");
        }
    }
    let many = send(
        &store,
        "/?client_protocol_version=54460",
        "",
        b"SELECT number FROM numbers(1000000) FORMAT Native",
    );
    assert!(many.await.answer().await.body.len() > 8_000_000);
    let sql = b"SELECT sumState(number) FROM numbers(3) FORMAT Native";
    let unknown = send(&store, "/?client_protocol_version=54460", "", sql).await.answer().await;
    assert!(unknown.status == 501 && unknown.text().contains("AggregateFunction"), "{}", unknown.text());
}

#[tokio::test]
async fn answers_are_compressed_on_request() {
    let store = store("compression").await;
    let target = "/?enable_http_compression=1";
    let sql = b"SELECT number FROM numbers(200000)";
    let plain = send(&store, target, "", sql).await.answer().await;
    assert_eq!(plain.header("content-encoding"), None);
    let gzip = send(&store, target, "Accept-Encoding: deflate, gzip\r\n", sql).await.answer().await;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    let mut decoded = Vec::new();
    flate2::read::GzDecoder::new(gzip.body.as_slice()).read_to_end(&mut decoded).unwrap();
    assert!(decoded == plain.body && gzip.body.len() < plain.body.len() / 2);
    let unasked = send(&store, "/", "Accept-Encoding: gzip\r\n", sql).await.answer().await;
    assert!(unasked.body == plain.body);
}

#[tokio::test]
async fn inserts_come_in_every_way() {
    let store = store("ways_in").await;
    store
        .client()
        .query("CREATE TABLE t (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
        .execute()
        .await
        .unwrap();
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let lz4 = |data: &[u8]| {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let database = store.database();
    let in_url = |sql: &str| format!("/?database={database}&query={}", escape(sql));
    let plain = format!("/?database={database}");
    // A blank line in the rows ends an inline insert of the engine's own.
    let binary = b"\x07\0\0\0\0\0\0\0\x02\n\n\x07\0\0\0\0\0\0\0\x01;";
    let with_binary = [b"INSERT INTO t FORMAT RowBinary\n".as_slice(), binary].concat();
    for (target, headers, body, rows) in [
        (plain.clone(), "", b"INSERT INTO t VALUES (7, 'a\n\nb'), (7, ';'), (7, 'it''s')".to_vec(), 3),
        (plain.clone(), "", b"INSERT INTO t (n, s) FORMAT CSV\n7,\"a\n\nb\"\n7,x\n".to_vec(), 2),
        (plain.clone(), "", with_binary.clone(), 2),
        (plain.clone(), "Content-Encoding: gzip\r\n", gzip(&with_binary), 2),
        (plain.clone(), "Content-Encoding: lz4\r\n", lz4(&with_binary), 2),
        (in_url("INSERT INTO t FORMAT RowBinary"), "", binary.to_vec(), 2),
        (in_url("INSERT INTO t FORMAT RowBinary"), "Content-Encoding: gzip\r\n", gzip(binary), 2),
        (in_url("INSERT INTO t (s, n) VALUES"), "", b"('a', 7)".to_vec(), 1),
        (in_url("INSERT INTO t SELECT 7, toString(number) FROM numbers(4)"), "", b" ".to_vec(), 4),
        (
            in_url("INSERT INTO t SETTINGS max_threads = 1 FORMAT JSONEachRow"),
            "",
            br#"{"n":7,"s":"x"}"#.to_vec(),
            1,
        ),
    ] {
        let answer = send(&store, &target, headers, &body).await.answer().await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        assert!(
            answer.header("x-clickhouse-summary").unwrap().contains(&format!(r#""written_rows":"{rows}""#)),
            "{target}"
        );
        assert_eq!(number(&store, "SELECT count() FROM t WHERE n = 7").await, rows, "{target}");
        store.client().query("TRUNCATE TABLE t").execute().await.unwrap();
    }
}

#[tokio::test]
async fn an_insert_whose_client_goes_away_stores_nothing() {
    let store = store("broken_insert").await;
    store.client().query("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n").execute().await.unwrap();
    let target =
        format!("/?database={}&query={}", store.database(), escape("INSERT INTO t FORMAT RowBinary"));
    // Promises more than it sends.
    let credential =
        format!("X-ClickHouse-User: {}\r\nX-ClickHouse-Key: {}\r\n", store.user(), store.password());
    let Asked { mut stream } = send_with(store.url(), "/ping", "", b"").await;
    drop(tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 64]).await);
    let mut stream =
        tokio::net::TcpStream::connect(store.url().strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n{credential}\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &vec![0; 800_000]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(stream);
    wait_until_idle(&store, "INSERT INTO t").await;
    assert_eq!(number(&store, "SELECT count() FROM t").await, 0);
    // Bad rows after good ones: nothing of the block stays.
    let bad =
        send(&store, &format!("/?database={}", store.database()), "", b"INSERT INTO t FORMAT CSV\n1\n2\nx\n")
            .await
            .answer()
            .await;
    assert_eq!((bad.status, bad.header("x-clickhouse-exception-code")), (400, Some("117")), "{}", bad.text());
    assert_eq!(number(&store, "SELECT count() FROM t").await, 0);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_query() {
    let store = store("cancel").await;
    // Nothing comes out of this one until it ends; of the other, something does at once.
    for sql in [
        "SELECT 'forever-1', sum(cityHash64(number)) FROM numbers(1000000000000)",
        "SELECT 'forever-2', number FROM numbers(1000000000000)",
    ] {
        let asked = send(&store, "/", "", sql.as_bytes()).await;
        let mark = &sql[..18];
        while running(&store, mark).await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(asked);
        wait_until_idle(&store, mark).await;
    }
}

async fn running(store: &rentroll_engines::store::Store, mark: &str) -> u64 {
    let sql = "SELECT count() FROM system.processes WHERE query LIKE {mark:String} AND query NOT LIKE '%system.processes%'";
    store.client().query(sql).param("mark", format!("%{}%", mark)).fetch_one().await.unwrap()
}

async fn wait_until_idle(store: &rentroll_engines::store::Store, mark: &str) {
    let begun = Instant::now();
    while running(store, mark).await > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "{mark} still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
