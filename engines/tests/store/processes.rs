//! Several processes, and processes that die.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rentroll_engines::store::{Store, StoreConfig, StoreError};
use rentroll_schemas::migrations::{MIGRATIONS, Migration};

use crate::common::{config, folder, number, store};

/// Names the data directory of a test that runs as a process of its own.
const DATA_DIR: &str = "RENTROLL_TEST_DATA_DIR";

/// Where it listens.
const LISTEN: &str = "RENTROLL_TEST_LISTEN";

/// A process with an engine of its own: this test binary, told to run [`child`].
struct Process {
    child: Child,
    said: String,
    /// Kept open: what the test harness says at the end must go somewhere.
    _lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn spawn(data_dir: &Path, variables: &[(&str, &str)]) -> Process {
        Process::spawn_test("processes::child", data_dir, variables)
    }

    fn spawn_test(test: &str, data_dir: &Path, variables: &[(&str, &str)]) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(DATA_DIR, data_dir)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said =
            lines.find_map(|line| line.unwrap().split_once("child: ").map(|(_, said)| said.to_owned()));
        Process { child, said: said.expect("a child that opened the store or said why not"), _lines: lines }
    }

    /// Lets it end by itself.
    fn stop(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "it closes the engine and ends cleanly: {status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "run by the other tests, as a process of its own"]
fn child() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut config = StoreConfig::embedded(std::env::var_os(DATA_DIR).expect("run by the other tests"));
    if let Ok(address) = std::env::var(LISTEN) {
        config.listen = address.parse().unwrap();
    }
    match runtime.block_on(Store::open(&config)) {
        Ok(store) => {
            println!("child: {}", if store.is_embedded_here() { "serves" } else { "client" });
            // Until the parent closes its end, or kills.
            let _ = std::io::stdin().read_line(&mut String::new());
            runtime.block_on(store.close());
        }
        Err(error) => println!("child: {error}"),
    }
}

#[tokio::test]
async fn the_second_process_is_a_client_of_the_first() {
    let data_dir = folder("store-shared");
    let first = Process::spawn(&data_dir, &[]);
    assert_eq!(first.said, "serves");
    let second = Process::spawn(&data_dir, &[]);
    assert_eq!(second.said, "client");
    // So is this process, which has an engine of its own open.
    let _own = store("processes").await;
    let third = Store::open(&StoreConfig::embedded(&data_dir)).await.unwrap();
    assert!(!third.is_embedded_here());
    third.migrate(&[]).await.unwrap();
    assert_eq!(number(&third, "SELECT toUInt64(1)").await, 1);
    second.stop();
    first.stop();
    assert!(!data_dir.join("clickhouse/face.json").exists());
    assert!(third.ping().await.unwrap_err().is_retryable());
}

#[test]
#[ignore = "run by the other tests, as a process of its own"]
fn reopening_child() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let data_dir = PathBuf::from(std::env::var_os(DATA_DIR).expect("run by the other tests"));
    for round in 0..3 {
        for name in ["a", "b"] {
            let config = StoreConfig::embedded(data_dir.join(name));
            let rows = runtime.block_on(async {
                let store = Store::open(&config).await.unwrap();
                assert!(store.is_embedded_here());
                store.migrate(&[]).await.unwrap();
                let table = "CREATE TABLE IF NOT EXISTS t (n UInt64) ENGINE = MergeTree ORDER BY n";
                store.client().query(table).execute().await.unwrap();
                let row = Bytes::copy_from_slice(&u64::to_le_bytes(round));
                store.insert("t", &["n"], "RowBinary", row, None).await.unwrap();
                let rows = number(&store, "SELECT count() FROM t").await;
                // A clone that lives a little longer.
                let clone = store.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    clone.close().await;
                });
                store.close().await;
                rows
            });
            assert_eq!(rows, round + 1, "{name}");
            runtime.block_on(async { tokio::time::sleep(Duration::from_millis(100)).await });
        }
    }
    println!("child: reopened");
}

#[tokio::test]
async fn a_process_may_close_one_store_and_open_another() {
    let process = Process::spawn_test("processes::reopening_child", &folder("store-reopened"), &[]);
    assert_eq!(process.said, "reopened");
    process.stop();
}

#[tokio::test]
async fn its_secrets_are_its_owners() {
    use std::os::unix::fs::PermissionsExt as _;
    let store = store("secrets").await;
    let folder = config("secrets").data_dir.join("clickhouse");
    let mode = |name: &str| std::fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("credential"), mode("face.json"), mode(".")), (0o600, 0o600, 0o700));
    assert_eq!(std::fs::read_to_string(folder.join("credential")).unwrap(), store.password());
    assert!(store.password().len() >= 32);
}

#[tokio::test]
async fn what_was_confirmed_survives_kill_9() {
    const BLOCK_ROWS: u64 = 20_000;
    let data_dir = folder("store-killed");
    let _own = store("killed").await;
    let mut process = Process::spawn(&data_dir, &[]);
    let client = Store::open(&StoreConfig::embedded(&data_dir)).await.unwrap();
    let table = Migration {
        version: 1,
        name: "0001_t",
        sql: "CREATE TABLE IF NOT EXISTS t (block UInt64, n UInt64) ENGINE = MergeTree ORDER BY n \
              SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;\n",
    };
    client.migrate(&[table]).await.unwrap();
    let block = |index: u64| -> Bytes {
        (0..BLOCK_ROWS)
            .flat_map(|n| [index.to_le_bytes(), n.to_le_bytes()].concat())
            .collect::<Vec<u8>>()
            .into()
    };
    let insert = async |store: &Store, index: u64| {
        let token = format!("block-{index}");
        store.insert("t", &["block", "n"], "RowBinary", block(index), Some(&token)).await
    };
    for round in 0..3 {
        let store = Store::open(&StoreConfig::embedded(&data_dir)).await.unwrap();
        let pid = process.child.id();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(400));
            Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap()
        });
        let first = round * 1000;
        let mut confirmed = first;
        let error = loop {
            match insert(&store, confirmed).await {
                Ok(()) => confirmed += 1,
                Err(error) => break error,
            }
        };
        assert!(killer.join().unwrap().success());
        assert!(error.is_retryable(), "{error}");
        process = Process::spawn(&data_dir, &[]);
        assert_eq!(process.said, "serves");
        let store = Store::open(&StoreConfig::embedded(&data_dir)).await.unwrap();
        let whole = "SELECT toUInt64(countIf(c = 20000 AND s = 199990000) = count()) \
                     FROM (SELECT count() AS c, sum(n) AS s FROM t GROUP BY block)";
        assert_eq!(number(&store, whole).await, 1, "blocks are whole or absent");
        let blocks = format!("SELECT uniqExact(block) FROM t WHERE block >= {first}");
        let found = number(&store, &blocks).await;
        assert!(confirmed > first && found >= confirmed - first, "{found} of {confirmed}");
        // What was not confirmed is sent again, with what was.
        for index in first..=confirmed {
            insert(&store, index).await.unwrap();
        }
        assert_eq!(number(&store, &blocks).await, confirmed - first + 1);
        let rows = format!("SELECT count() FROM t WHERE block >= {first}");
        assert_eq!(number(&store, &rows).await, (confirmed - first + 1) * BLOCK_ROWS, "round {round}");
    }
    process.stop();
}

#[tokio::test]
async fn closing_in_the_middle_of_an_insert_stores_nothing() {
    let data_dir = folder("store-closing");
    let _own = store("closing").await;
    let process = Process::spawn(&data_dir, &[]);
    let client = Store::open(&StoreConfig::embedded(&data_dir)).await.unwrap();
    client.migrate(&[]).await.unwrap();
    client.client().query("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n").execute().await.unwrap();
    let mut insert = client.client().insert_formatted_with("INSERT INTO t FORMAT RowBinary");
    insert.send(vec![0; 80_000].into()).await.unwrap();
    // Closing waits for requests, but not for ever.
    let begun = Instant::now();
    tokio::task::spawn_blocking(|| process.stop()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(client.error(insert.end().await.unwrap_err()).is_retryable());
    let process = Process::spawn(&data_dir, &[]);
    let client = Store::open(&StoreConfig::embedded(&data_dir)).await.unwrap();
    assert_eq!(number(&client, "SELECT count() FROM t").await, 0);
    process.stop();
}

#[tokio::test]
async fn what_stands_in_the_way_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let process = Process::spawn(&folder("store-port"), &[(LISTEN, &address)]);
    assert!(process.said.starts_with(&format!("cannot serve the store on {address}: ")), "{}", process.said);
    assert!(process.said.contains("store.listen"), "{}", process.said);

    let process =
        Process::spawn(&folder("store-library"), &[("RENTROLL_CHDB_LIBRARY", "/nowhere/libchdb.so")]);
    assert!(process.said.contains("/nowhere/libchdb.so (no such file)"), "{}", process.said);
    assert!(process.said.contains("cargo xtask install"), "{}", process.said);

    let not_a_library = folder("store-not-a-library");
    std::fs::create_dir_all(&not_a_library).unwrap();
    let path = not_a_library.join("libchdb.so");
    std::fs::write(&path, "not an ELF file").unwrap();
    let process = Process::spawn(&not_a_library, &[("RENTROLL_CHDB_LIBRARY", path.to_str().unwrap())]);
    assert!(
        process.said.contains(path.to_str().unwrap()) && process.said.contains("file too short"),
        "{}",
        process.said
    );

    // A file where a folder should be.
    let blocked = folder("store-blocked");
    std::fs::create_dir_all(&blocked).unwrap();
    std::fs::write(blocked.join("clickhouse"), "").unwrap();
    let process = Process::spawn(&blocked, &[]);
    assert!(process.said.contains(blocked.join("clickhouse").to_str().unwrap()), "{}", process.said);
}

#[tokio::test]
async fn a_server_is_spoken_to_by_its_address() {
    let store = store("server").await;
    let server = StoreConfig {
        url: Some(format!("{}/", store.url())),
        password: Some(store.password().to_owned()),
        database: "test_by_address".to_owned(),
        ..StoreConfig::embedded("/nowhere")
    };
    let found = Store::open(&server).await.unwrap();
    assert!(!found.is_embedded_here());
    found.migrate(MIGRATIONS).await.unwrap();
    assert_eq!(number(&found, "SELECT count() FROM events").await, 0);

    let wrong = StoreConfig { password: Some("wrong".to_owned()), ..server.clone() };
    let error = Store::open(&wrong).await.unwrap_err();
    assert!(matches!(error, StoreError::Credential { .. }) && !error.is_retryable(), "{error}");
    let away = StoreConfig { url: Some("http://127.0.0.1:1".to_owned()), ..server.clone() };
    let error = Store::open(&away).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }) && error.is_retryable(), "{error}");
    assert!(error.to_string().contains("http://127.0.0.1:1"), "{error}");
    for (url, database) in
        [("https://x", "d"), ("http://x", "a`b"), ("http://x", "default"), ("http://x", "")]
    {
        let config =
            StoreConfig { url: Some(url.to_owned()), database: database.to_owned(), ..server.clone() };
        let error = Store::open(&config).await.unwrap_err();
        assert!(matches!(error, StoreError::Config { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_process_has_one_embedded_store() {
    let _own = store("one").await;
    let begun = Instant::now();
    let error = Store::open(&StoreConfig::embedded(folder("store-other"))).await.unwrap_err();
    assert!(matches!(error, StoreError::Occupied { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
#[ignore = "run by the other tests, as a process of its own"]
fn hurried_child() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = StoreConfig::embedded(std::env::var_os(DATA_DIR).expect("run by the other tests"));
    runtime.block_on(async {
        let store = Store::open(&config).await.unwrap();
        store.migrate(&[]).await.unwrap();
        println!("child: serves");
        // Gone after the first row: the query is ended, as nobody waits for the others.
        for limit in [10, 100_000, 1_000_000, 3_000_000] {
            let sql = format!("SELECT number FROM system.numbers LIMIT {limit}");
            let mut rows = store.client().query(&sql).fetch::<u64>().unwrap();
            rows.next().await.unwrap();
        }
        store.close().await;
    });
    // One that is still in the library when the process ends crashes it.
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let name = std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap_or_default();
        assert!(!name.starts_with("rentroll-"), "{name}");
    }
}

/// Queries of clients that have gone are ended by threads of their own, and these have ended with the store.
#[test]
fn who_leaves_its_answers_unread_ends_cleanly() {
    let data_dir = folder("hurried");
    for _ in 0..5 {
        Process::spawn_test("processes::hurried_child", &data_dir, &[]).stop();
    }
}
