//! `examples/functions/`: a part of the trace through the whole chain, held against sums made here from its files, and
//! the tenants' file, which is made of the trace.

use std::collections::BTreeMap;
use std::path::Path;

use rentroll::verbs::demo::functions::{registry, trace::Trace};
use rentroll_schemas::catalogue::Catalogue;
use rentroll_schemas::meter::Meters;

use crate::rig::{Rig, field};

const FUNCTIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/functions");
/// The functions that are taken: those with fewer invocations. Three in five of them, in a hundredth of the events.
const INVOCATIONS_BELOW: u64 = 200;

/// The file's lines, split.
fn lines(name: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(Path::new(FUNCTIONS).join(name)).unwrap();
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// What must come out, in the words of the store.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    events: u64,
    duration_ms: u128,
    gb_nanos: u128,
    tenants: BTreeMap<String, u64>,
    triggers: BTreeMap<String, u64>,
    /// Function and minute, where there was something.
    cells: u64,
    /// Σ of a cell's count squared: an event in another minute changes it.
    squares: u64,
}

/// A folder with the part of the trace, and its sums.
fn part_of_the_trace(rig: &Rig) -> Sums {
    for file in ["meters.yaml", "catalogue.yaml", "costs.yaml", "durations.csv", "memory.csv", "tenants.csv"]
    {
        std::fs::copy(Path::new(FUNCTIONS).join(file), rig.path(file)).unwrap();
    }
    let by_function = |name: &str, key: [usize; 3], value: usize| -> BTreeMap<Vec<String>, String> {
        let rows = lines(name).into_iter().skip(1);
        rows.map(|row| (key.map(|column| row[column].clone()).to_vec(), row[value].clone())).collect()
    };
    let duration = by_function("durations.csv", [0, 1, 2], 3);
    let memory = by_function("memory.csv", [1, 2, 0], 4);
    let (mut sums, mut kept) = (Sums::default(), String::new());
    for (number, row) in lines("invocations.csv").into_iter().enumerate() {
        let counts: Vec<u64> = row[4..].iter().map(|count| count.parse().unwrap()).collect();
        let events: u64 = counts.iter().sum();
        if number > 0 && (events == 0 || events >= INVOCATIONS_BELOW) {
            continue;
        }
        kept.push_str(&row.join(","));
        kept.push('\n');
        if number == 0 {
            continue;
        }
        let ms: u128 = duration[&row[..3]].parse().unwrap();
        // Memory in units of 10^-18 MB: no average has more decimals.
        let (whole, fraction) = memory[&row[..3]].split_once('.').unwrap();
        let mb: u128 = format!("{whole}{fraction:0<18}").parse().unwrap();
        // In units of 10^-9 GB-seconds: × 10^9, ÷ 10^18, ÷ 1000, ÷ 1024; a half goes up.
        let (product, divisor) = (ms * mb, 1_000_000_000 * 1_000 * 1_024);
        let up = u128::from(product % divisor * 2 >= divisor);
        sums.events += events;
        sums.duration_ms += u128::from(events) * ms;
        sums.gb_nanos += u128::from(events) * (product / divisor + up);
        *sums.tenants.entry(row[1].clone()).or_default() += events;
        *sums.triggers.entry(row[3].clone()).or_default() += events;
        sums.cells += counts.iter().filter(|count| **count > 0).count() as u64;
        sums.squares += counts.iter().map(|count| count * count).sum::<u64>();
    }
    std::fs::write(rig.path("invocations.csv"), kept).unwrap();
    sums
}

fn rig() -> Rig {
    Rig::with_config(Some(&std::fs::read_to_string(format!("{FUNCTIONS}/rentroll.toml")).unwrap()))
}

fn demo(rig: &Rig) -> Vec<String> {
    let data = rig.path("data").to_string_lossy().into_owned();
    ["demo", "--example", "functions", "--exit", "--json", "--data", &data].map(str::to_owned).to_vec()
}

/// A quantity as the store writes it.
fn plain(nanos: u128) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// As the store says it.
#[derive(clickhouse::Row, serde::Deserialize)]
struct Stored {
    events: u64,
    duration_ms: String,
    gb_seconds: String,
    tenants: (Vec<String>, Vec<u64>),
    triggers: (Vec<String>, Vec<u64>),
    cells: u64,
    squares: u64,
}

fn stored(rig: &Rig) -> Sums {
    let found: Stored = rig.query(
        "SELECT sum(n) AS events, toString(sum(ms)) AS duration_ms, toString(sum(gb)) AS gb_seconds, \
           sumMap([tenant], [n]) AS tenants, sumMap([trigger], [n]) AS triggers, count() AS cells, sum(n * n) AS squares \
         FROM (SELECT tenant, dimensions['trigger'] AS trigger, count() AS n, \
                 sum(measures['duration_ms']) AS ms, sum(measures['gb_seconds']) AS gb \
               FROM events WHERE type = 'function.invocation' AND source = 'functions' \
               GROUP BY tenant, dimensions['function'], trigger, toStartOfMinute(time))",
    );
    let nanos = |text: &str| -> u128 {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        format!("{whole}{fraction:0<9}").parse().unwrap()
    };
    let by_name = |(names, counts): (Vec<String>, Vec<u64>)| names.into_iter().zip(counts).collect();
    Sums {
        events: found.events,
        duration_ms: found.duration_ms.parse().unwrap(),
        gb_nanos: nanos(&found.gb_seconds),
        tenants: by_name(found.tenants),
        triggers: by_name(found.triggers),
        cells: found.cells,
        squares: found.squares,
    }
}

/// In the order in which a difference tells most; hundreds of tenants are not printed.
fn holds(rig: &Rig, expected: &Sums) {
    let found = stored(rig);
    assert_eq!((found.events, found.duration_ms), (expected.events, expected.duration_ms));
    assert_eq!(found.gb_nanos, expected.gb_nanos, "GB-seconds × 10^9");
    assert_eq!((found.cells, found.squares), (expected.cells, expected.squares));
    assert_eq!(found.triggers, expected.triggers);
    assert!(found == *expected, "other tenants, or other numbers of their events");
}

/// From the books, which must balance.
fn stored_and_duplicate(rig: &Rig) -> (u64, u64) {
    let books = rig.json(&["books", "--json"]);
    assert!(field::<bool>(&books, "/balanced"), "{books}");
    let hours = books["hours"].as_array().unwrap();
    let sum = |key: &str| hours.iter().map(|hour| hour[key].as_u64().unwrap()).sum();
    (sum("stored"), sum("duplicate"))
}

#[test]
fn a_part_of_the_trace_goes_through_the_whole_chain() {
    let rig = rig();
    let expected = part_of_the_trace(&rig);
    assert!(expected.events > 10_000 && expected.tenants.len() > 250 && expected.triggers.len() > 5);
    let arguments = demo(&rig);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();

    let overview = rig.json(&arguments);
    holds(&rig, &expected);
    let (first, last): (String, String) =
        rig.query("SELECT toString(min(time)), toString(max(time)) FROM events");
    assert!(first.starts_with("2019-07-15 08:0") && last.starts_with("2019-07-15 15:5"), "{first} {last}");

    // Each meter in each rollup, and what the demo shows of them.
    let of_meters = [
        ("invocations", expected.events.to_string()),
        ("compute_ms", expected.duration_ms.to_string()),
        ("gb_seconds", plain(expected.gb_nanos)),
    ];
    for (meter, total) in &of_meters {
        for table in ["usage_minute", "usage_hour", "usage_day"] {
            let sql = format!("SELECT toString(sum(total)) FROM {table} WHERE meter = '{meter}'");
            assert_eq!(&rig.query::<String>(&sql), total, "{meter} in {table}");
        }
        assert_eq!(&field::<String>(&overview, &format!("/total/usage/{meter}")), total, "{meter}");
    }
    assert_eq!(field::<String>(&overview, "/period"), "2019-07");
    assert_eq!(field::<usize>(&overview, "/tenants"), expected.tenants.len());
    let invoices: (u64, u64) = rig.query("SELECT count(), uniqExact(tenant) FROM invoices");
    assert_eq!(invoices, (expected.tenants.len() as u64, expected.tenants.len() as u64));
    assert_eq!(rig.query::<String>("SELECT toString(sum(total)) FROM allocations"), "1700");
    assert_eq!(stored_and_duplicate(&rig), (expected.events, 0));

    // The registry knows whose apps they are.
    let by_owner =
        rig.json(&["query", "invocations", "--month", "2019-07", "--by", "organisation", "--json"]);
    let rows = by_owner["rows"].as_array().unwrap();
    let sum: u64 = rows.iter().map(|row| row["quantity"].as_str().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(sum, expected.events);
    assert!(rows.len() > 200 && rows.iter().all(|row| row["organisation"].as_str().unwrap().len() == 64));
    assert_eq!(by_owner["read_from"], serde_json::json!(["day"]));

    // Again: nothing is read twice. From the file's start, made anew: duplicates, and nothing changes.
    assert_eq!(rig.json(&arguments), overview);
    std::fs::remove_file(rig.path("data/invocations.ndjson.gz")).unwrap();
    std::fs::remove_dir_all(rig.path("data/collector")).unwrap();
    assert_eq!(rig.json(&arguments), overview);
    holds(&rig, &expected);
    assert_eq!(stored_and_duplicate(&rig), (expected.events, expected.events));

    // Another trace than the one that the data are of is told.
    let trace = std::fs::read_to_string(rig.path("invocations.csv")).unwrap();
    let (but_the_last, _) = trace.trim_end().rsplit_once('\n').unwrap();
    std::fs::write(rig.path("invocations.csv"), but_the_last).unwrap();
    let said = rig.fails(3, &arguments);
    assert!(said.contains("differs"), "{said}");
}

/// After a change of the trace, the plans or the names: `RENTROLL_BLESS=1 cargo test -p rentroll --test it functions::`.
#[test]
fn the_tenants_file_is_the_traces() {
    let folder = Path::new(FUNCTIONS);
    let meters = Meters::read(&folder.join("meters.yaml")).unwrap();
    let catalogue = Catalogue::read(&folder.join("catalogue.yaml"), &meters).unwrap();
    let made = registry::tenants_csv(&Trace::read(folder).unwrap(), &catalogue).unwrap();
    if std::env::var_os("RENTROLL_BLESS").is_some() {
        std::fs::write(folder.join("tenants.csv"), &made).unwrap();
    }
    let committed = std::fs::read_to_string(folder.join("tenants.csv")).unwrap();
    assert!(committed == made, "examples/functions/tenants.csv is stale: see this test's comment");
    let reading = rentroll_schemas::tenant::csv::Reading::new(committed.into_bytes()).unwrap();
    assert_eq!((reading.lines.len(), reading.bad.len()), (476, 0), "as the registry reads it");
}

#[test]
fn a_log_and_an_example_are_not_asked_for_together() {
    let said = rig().fails(2, &["demo", "--example", "functions", "--log", "access.log"]);
    assert!(said.contains("cannot be used with"), "{said}");
}
