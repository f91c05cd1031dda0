//! The whole chain on the example: log in, usage, invoices and a cost split out, on both event logs.

use std::time::Duration;

use rentroll_testing::kafka::Broker;
use rentroll_testing::wait_until;

use crate::rig::{EXAMPLE, Rig, field};

/// Σ bytes of the example.
const BYTES: &str = "2747282740";

fn totals(rig: &Rig) -> (u64, u64, String, u64) {
    rig.query(
        "SELECT count(), uniqExact(tenant), toString(sum(measures['bytes'])), uniqExact(toStartOfHour(time)) FROM events",
    )
}

/// The same from each rollup: requests, bytes, tenants.
fn rollup(rig: &Rig, table: &str) -> (String, String, u64) {
    rig.query(&format!(
        "SELECT toString(sumIf(total, meter = 'requests')), toString(sumIf(total, meter = 'egress_bytes')), uniqExact(tenant) FROM {table}"
    ))
}

fn books(rig: &Rig) -> (u64, u64, u64, u64) {
    let books = rig.json(&["books", "--json"]);
    assert!(field::<bool>(&books, "/balanced"), "{books}");
    let sum =
        |key: &str| books["hours"].as_array().unwrap().iter().map(|hour| hour[key].as_u64().unwrap()).sum();
    (sum("accepted"), sum("stored"), sum("duplicate"), sum("rejected"))
}

fn holds_the_example(rig: &Rig) {
    // Events, tenants, bytes, distinct hours.
    assert_eq!(totals(rig), (10_000, 1_753, BYTES.to_owned(), 84));
    for table in ["usage_minute", "usage_hour", "usage_day"] {
        assert_eq!(rollup(rig, table), ("10000".to_owned(), BYTES.to_owned(), 1_753), "{table}");
    }
}

/// What billing stored: Σ invoices, Σ their lines, invoices, distinct numbers, the last number, the split.
fn money(rig: &Rig) -> (String, String, u64, u64, u64, String) {
    let scalar = |sql: &str| format!("assumeNotNull(({sql}))");
    let columns = [
        scalar("SELECT toString(sum(total)) FROM invoices"),
        scalar("SELECT toString(sum(amount)) FROM invoice_lines"),
        scalar("SELECT count() FROM invoices"),
        scalar("SELECT uniqExact(number) FROM invoices"),
        scalar("SELECT max(sequence) FROM invoices"),
        scalar("SELECT toString(sum(total)) FROM allocations"),
    ];
    rig.query(&format!("SELECT {}", columns.join(", ")))
}

fn bills_and_splits(rig: &Rig) {
    rig.ok(&["bill", "run", "--period", "2015-05"]);
    rig.ok(&["allocate", "run", "--period", "2015-05"]);
    let first = money(rig);
    let (invoiced, lines, invoices, numbers, last, split) = &first;
    assert_eq!(invoiced, lines, "Σ invoice lines = Σ invoices");
    assert_eq!(invoiced, "2013.76");
    assert_eq!((*invoices, *numbers, *last), (1_753, 1_753, 1_753), "a number each, without gaps");
    assert_eq!(split, "1700", "the split is exact");
    // Again: nothing changes.
    rig.ok(&["bill", "run", "--period", "2015-05"]);
    rig.ok(&["allocate", "run", "--period", "2015-05"]);
    assert_eq!(money(rig), first);
}

fn whole_chain(rig: &Rig) {
    rig.ok(&["up", "--once"]);
    holds_the_example(rig);
    assert_eq!(books(rig), (10_000, 10_000, 0, 0));

    // The places are kept: nothing is read twice.
    rig.ok(&["up", "--once"]);
    assert_eq!(books(rig), (10_000, 10_000, 0, 0));

    // From the start of the file: 10,000 duplicates, nothing changes.
    rig.ok(&["up", "--once", "--from-start"]);
    assert_eq!(books(rig), (20_000, 10_000, 10_000, 0));
    holds_the_example(rig);

    bills_and_splits(rig);
}

#[test]
fn on_the_embedded_log() {
    whole_chain(&Rig::example());
}

#[test]
fn on_kafka() {
    let mut rig = Rig::example();
    rig.set("log.kind", "kafka");
    rig.set("log.kafka.brokers", &Broker::shared());
    rig.set("log.kafka.prefix", "chain.");
    let said = rig.fails(1, &["up", "--once"]);
    assert!(said.contains("rentroll topics create"), "{said}");
    rig.ok(&["topics", "create"]);
    rig.ok(&["topics", "create"]);
    whole_chain(&rig);
}

#[test]
fn a_copy_of_the_file_is_the_same_file_and_equal_lines_are_not_equal_operations() {
    let rig = Rig::following("copy.log");
    std::fs::copy(format!("{EXAMPLE}/access.log"), rig.path("copy.log")).unwrap();
    rig.ok(&["up", "--once"]);
    // Some of its lines are equal to an earlier one; they are among the 10,000.
    assert_eq!(books(&rig), (10_000, 10_000, 0, 0));
    std::fs::rename(rig.path("copy.log"), rig.path("old.log")).unwrap();
    std::fs::copy(rig.path("old.log"), rig.path("copy.log")).unwrap();
    rig.ok(&["up", "--once"]);
    assert_eq!(books(&rig), (10_000, 10_000, 0, 0), "its text is known");
    // Without its places it is read again, and its lines have the ids that they had.
    rig.ok(&["up", "--once", "--from-start"]);
    assert_eq!(books(&rig), (20_000, 10_000, 10_000, 0));
}

#[test]
fn a_log_that_grows_and_rotates_is_read_to_the_last_line() {
    let rig = Rig::following("web.log");
    let line = |n: u32| {
        format!(
            "10.0.0.{} - - [17/May/2015:10:05:03 +0000] \"GET /{n} HTTP/1.1\" 200 1 \"-\" \"-\"\n",
            n % 250
        )
    };
    let append = |from: u32, to: u32| {
        use std::io::Write as _;
        let mut file = std::fs::File::options().create(true).append(true).open(rig.path("web.log")).unwrap();
        for n in from..to {
            file.write_all(line(n).as_bytes()).unwrap();
        }
    };
    append(0, 500);
    let running = rig.spawn(&["up"]);
    let pause = || std::thread::sleep(Duration::from_millis(900));
    // What was rotated before the log was followed would be left alone.
    let followed = rig.path("data/collector/web.files.json");
    wait_until(Duration::from_secs(60), || followed.exists().then_some(())).unwrap();
    append(500, 1_000);
    std::fs::rename(rig.path("web.log"), rig.path("web.log.1")).unwrap();
    append(1_000, 1_500);
    pause();
    append(1_500, 2_000);
    pause();
    drop(running);
    rig.ok(&["up", "--once"]);
    assert_eq!(books(&rig), (2_000, 2_000, 0, 0));
}

/// logrotate's other ways, with the collector killed in between: copytruncate, and compression of what it had not
/// read to the end.
#[test]
fn a_log_that_is_copied_truncated_and_compressed_counts_every_line_once() {
    use flate2::write::GzEncoder;
    use std::io::Write as _;
    let rig = Rig::following("web.log");
    let path = |name: &str| rig.path(name);
    let append = |from: u32, to: u32| {
        let mut file = std::fs::File::options().create(true).append(true).open(path("web.log")).unwrap();
        for n in from..to {
            let tenant = n % 250;
            writeln!(
                file,
                "10.0.0.{tenant} - - [17/May/2015:10:05:03 +0000] \"GET /{n} HTTP/1.1\" 200 1 \"-\" \"-\""
            )
            .unwrap();
        }
    };
    let copy_and_truncate = || {
        std::fs::copy(path("web.log"), path("web.log.1")).unwrap();
        std::fs::File::options().write(true).truncate(true).open(path("web.log")).unwrap();
    };
    let compress = || {
        let mut encoder =
            GzEncoder::new(std::fs::File::create(path("web.log.2.gz")).unwrap(), flate2::Compression::fast());
        encoder.write_all(&std::fs::read(path("web.log.1")).unwrap()).unwrap();
        encoder.finish().unwrap();
        std::fs::remove_file(path("web.log.1")).unwrap();
    };
    append(0, 1_000);
    let running = rig.spawn(&["up"]);
    let followed = path("data/collector/web.files.json");
    wait_until(Duration::from_secs(60), || followed.exists().then_some(())).unwrap();
    append(1_000, 2_000);
    running.kill();
    append(2_000, 3_000);
    copy_and_truncate();
    compress();
    append(3_000, 3_500);
    let running = rig.spawn(&["up"]);
    std::thread::sleep(Duration::from_millis(1_500));
    append(3_500, 4_000);
    copy_and_truncate();
    append(4_000, 4_500);
    running.kill();
    append(4_500, 5_000);
    rig.ok(&["up", "--once"]);
    let (accepted, stored, _, rejected) = books(&rig);
    assert_eq!((stored, rejected), (5_000, 0), "of {accepted}");
    assert_eq!(
        rig.query::<(u64, u64)>("SELECT count(), uniqExact(dimensions['path']) FROM events"),
        (5_000, 5_000)
    );
}
