//! Billing and allocation by the command: exit codes, what is printed, several processes at once, kill -9.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rentroll_testing::wait_until;

use crate::rig::{Rig, field};

/// 30 requests of one address and one of another, a megabyte each.
fn small_log(rig: &Rig) {
    let mut lines = String::new();
    for second in 0..30 {
        lines.push_str(&line("192.0.2.1", &format!("17/May/2015:10:05:{second:02}")));
    }
    lines.push_str(&line("192.0.2.2", "18/May/2015:00:00:00"));
    std::fs::write(rig.path("small.log"), lines).unwrap();
}

fn line(address: &str, time: &str) -> String {
    format!("{address} - - [{time} +0000] \"GET / HTTP/1.1\" 200 1000000 \"-\" \"test\"\n")
}

fn append(rig: &Rig, line: &str) {
    let mut file = std::fs::File::options().append(true).open(rig.path("small.log")).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}

/// A CSV column added up, in nano-units. No field of these exports holds a comma.
fn sum(csv: &str, column: &str) -> i128 {
    let mut lines = csv.lines();
    let at = lines.next().unwrap().split(',').position(|name| name == column).unwrap();
    lines
        .map(|line| {
            let amount = line.split(',').nth(at).unwrap();
            amount.parse::<rentroll_schemas::Quantity>().unwrap().nanos()
        })
        .sum()
}

#[test]
fn a_month_by_the_command() {
    let rig = Rig::following("small.log");
    small_log(&rig);
    rig.ok(&["up", "--once"]);

    assert!(rig.fails(1, &["allocate", "show", "--period", "2015-05"]).contains("rentroll allocate run"));
    let draft = rig.json(&["bill", "run", "--period", "2015-05", "--dry-run", "--json"]);
    assert_eq!((field::<String>(&draft, "/outcome"), field::<u64>(&draft, "/invoices")), ("draft".into(), 2));
    assert!(rig.ok(&["invoices", "list", "--json"]).contains("[]"), "a dry run writes nothing");
    let run = rig.json(&["bill", "run", "--period", "2015-05", "--json"]);
    assert_eq!(field::<String>(&run, "/outcome"), "closed");
    assert_eq!(run["total"], draft["total"]);
    // 30 requests: Pro, nothing above what is included.
    assert_eq!(field::<String>(&run, "/total"), "20.00");
    let documents = rig.ok(&["invoices", "export", "--format", "json"]);
    assert_eq!(sum(&rig.ok(&["invoices", "export", "--format", "csv"]), "amount"), 20_000_000_000);

    rig.ok(&["allocate", "run", "--period", "2015-05"]);
    let costs = rig.ok(&["allocate", "export", "--period", "2015-05"]);
    assert_eq!(sum(&costs, "total"), 1_700_000_000_000);
    let shown = rig.json(&["allocate", "show", "--period", "2015-05", "--json"]);
    assert_eq!(field::<String>(&shown, "/allocation/total"), "1700");
    let explained = rig.json(&["allocate", "explain", "--period", "2015-05", "192.0.2.2", "--json"]);
    assert!(field::<bool>(&explained, "/is_stored"));
    // One of 31 requests of the database's 500.
    assert_eq!(field::<String>(&explained, "/pools/0/total"), "16.129032258");

    let again = rig.json(&["bill", "run", "--period", "2015-05", "--json"]);
    assert_eq!(field::<String>(&again, "/outcome"), "unchanged");
    assert!(rig.ok(&["bill", "explain", "RR-2015-000001"]).contains("[0, 50)"));

    // What arrives later is reported, and changes no invoice.
    append(&rig, &line("192.0.2.2", "19/May/2015:00:00:00"));
    rig.ok(&["up", "--once"]);
    let output = rig.run(&["bill", "run", "--period", "2015-05", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let late: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(field::<String>(&late, "/late/0/tenant"), "192.0.2.2");
    assert_eq!(rig.ok(&["invoices", "export", "--format", "json"]), documents);
    let output = rig.run(&["bill", "explain", "RR-2015-000002"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains("NOT THE SAME"));
}

#[test]
fn mistakes_say_what_and_why() {
    let rig = Rig::following("small.log");
    small_log(&rig);
    rig.ok(&["up", "--once"]);
    for (code, arguments, said) in [
        (2, &["bill", "run", "--period", "2015-13"][..], "`2015-13` is not a month: write it as YYYY-MM"),
        (2, &["bill", "run"], "--period"),
        (1, &["bill", "run", "--period", "2999-01"], "only `--dry-run` can be run before"),
        (1, &["bill", "run", "--period", "2015-04"], "no usage in 2015-04"),
        (1, &["bill", "run", "--period", "2014-12"], "its first version takes effect on 2015-01-01"),
        (1, &["bill", "explain", "RR-2015-000001"], "there is no invoice `RR-2015-000001`"),
        (
            1,
            &["allocate", "run", "--period", "2015-06"],
            "costs.yaml has no pool for 2015-06: it has 2015-05",
        ),
        (
            1,
            &["allocate", "explain", "--period", "2015-05", "nobody"],
            "tenant `nobody` used nothing in 2015-05",
        ),
    ] {
        let message = rig.fails(code, arguments);
        assert!(message.contains(said), "{arguments:?}: {message}");
    }
    let good = std::fs::read_to_string(rig.path("catalogue.yaml")).unwrap();
    std::fs::write(rig.path("catalogue.yaml"), good.replace("{from: 250, plan", "{from: 251, plan")).unwrap();
    let message = rig.fails(1, &["catalogue", "check"]);
    for part in ["catalogue.yaml", "versions[0].assignment.by_usage.ladder[2].from", "from 250 up to 251"] {
        assert!(message.contains(part), "{message}");
    }
}

/// Invoices, tenants, numbers, last number, Σ lines = Σ invoices, closed months, total.
fn state(rig: &Rig) -> (u64, u64, u64, u64, u8, u64, String) {
    rig.query(
        "SELECT count(), uniqExact(tenant), uniqExact(sequence), max(sequence), \
         toUInt8(sum(total) = assumeNotNull((SELECT sum(amount) FROM invoice_lines))), \
         assumeNotNull((SELECT count() FROM periods)), toString(sum(total)) FROM invoices",
    )
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_run_that_is_killed_is_taken_up_and_runs_at_once_are_one() {
    let rig = Rig::example();
    rig.ok(&["up", "--once"]);
    let collected = rig.path("collected");
    std::fs::rename(rig.path("data"), &collected).unwrap();
    let bill = ["bill", "run", "--period", "2015-05"];

    copy(&collected, &rig.path("data"));
    rig.ok(&bill);
    let expected = state(&rig);
    assert_eq!(
        (expected.0, expected.1, expected.2, expected.3, expected.4, expected.5),
        (1753, 1753, 1753, 1753, 1, 1)
    );

    // kill -9 takes the engine of the same process down with it, at moments all over the run.
    let mut killed = 0;
    for milliseconds in [350, 500, 650, 800, 1000, 1300] {
        std::fs::remove_dir_all(rig.path("data")).unwrap();
        copy(&collected, &rig.path("data"));
        let mut run = rig.command(&bill).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        run.kill().unwrap();
        killed += u8::from(!run.wait().unwrap().success());
        rig.ok(&bill);
        assert_eq!(state(&rig), expected, "killed after {milliseconds} ms");
    }
    assert!(killed > 0, "every run was over before it was killed");

    // Three processes at once, clients of a fourth that serves the store.
    std::fs::remove_dir_all(rig.path("data")).unwrap();
    copy(&collected, &rig.path("data"));
    let serving = rig.spawn(&["serve"]);
    let face = rig.path("data/clickhouse/face.json");
    wait_until(Duration::from_secs(20), || face.exists().then_some(())).expect("the store is served");
    let runs: Vec<_> = (0..3)
        .map(|_| rig.command(&bill).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        .collect();
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    drop(serving);
    assert_eq!(state(&rig), expected);
}
