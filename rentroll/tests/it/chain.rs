//! The whole chain on the example: log in, usage, invoices and a cost split out, on both event logs.

use rentroll_testing::kafka::Broker;

use crate::rig::{EXAMPLE, Rig, field};

/// Events, tenants, bytes, hours: what must come of the example.
const EXPECTED: (u64, u64, String, u64) = (10_000, 1_753, String::new(), 84);
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
    let expected = (EXPECTED.0, EXPECTED.1, BYTES.to_owned(), EXPECTED.3);
    assert_eq!(totals(rig), expected);
    for table in ["usage_minute", "usage_hour", "usage_day"] {
        assert_eq!(rollup(rig, table), ("10000".to_owned(), BYTES.to_owned(), 1_753), "{table}");
    }
}

/// Sums of what billing stored, in cents: invoices, their lines, the split of 1,700.00.
fn money(rig: &Rig) -> (i64, i64, u64, String) {
    rig.query(
        "SELECT (SELECT sum(total_minor) FROM invoices), (SELECT sum(amount_minor) FROM invoice_lines), \
         (SELECT count() FROM invoices), (SELECT toString(sum(total)) FROM allocations)",
    )
}

fn bills_and_splits(rig: &Rig) {
    rig.ok(&["bill", "run", "--period", "2015-05"]);
    rig.ok(&["allocate", "run", "--period", "2015-05"]);
    let first = money(rig);
    assert_eq!(first.0, first.1, "Σ lines = Σ invoices");
    assert!(first.0 > 0);
    assert_eq!(first.2, 1_753);
    assert_eq!(first.3, "1700", "the split is exact");
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
    // 17 lines of it are equal to an earlier one; they are among the 10,000.
    assert_eq!(books(&rig), (10_000, 10_000, 0, 0));
    std::fs::rename(rig.path("copy.log"), rig.path("old.log")).unwrap();
    std::fs::copy(rig.path("old.log"), rig.path("copy.log")).unwrap();
    rig.ok(&["up", "--once"]);
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
    let pause = || std::thread::sleep(std::time::Duration::from_millis(900));
    pause();
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
