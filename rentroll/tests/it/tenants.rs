//! The tenant registry by its verbs: seeded from a file, imported, changed, exported.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::rig::{Rig, field};

/// Three events of two tenants, in May 2015.
fn rig() -> Rig {
    let rig = Rig::following("events.jsonl");
    let config = std::fs::read_to_string(rig.path("rentroll.toml")).unwrap();
    let config = config.replace("\"combined\"", "\"cloudevents\"\ntenant = \"subject\"");
    std::fs::write(rig.path("rentroll.toml"), config).unwrap();
    let event = |tenant: &str, id: u32| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"api","type":"http.request","subject":"{tenant}","time":"2015-05-17T10:05:03Z","data":{{"bytes":1000,"cpu_ms":7}}}}"#
        )
    };
    let events = [event("acme", 1), event("acme", 2), event("016c8fe2d93c37f7", 3)];
    std::fs::write(rig.path("events.jsonl"), events.join("\n") + "\n").unwrap();
    rig
}

/// The list of the month that the events are of, or of another span.
fn list(rig: &Rig, span: &[&str], words: &[&str]) -> String {
    let span = if span.is_empty() { &["--month", "2015-05"][..] } else { span };
    rig.ok(&[&["tenants", "list"], span, words].concat())
}

fn listed(rig: &Rig, span: &[&str], words: &[&str]) -> Value {
    serde_json::from_str(&list(rig, span, &[words, &["--json"]].concat())).unwrap()
}

/// The head of a table, its words.
fn head(table: &str) -> Vec<&str> {
    table
        .lines()
        .next()
        .unwrap_or_default()
        .split("  ")
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect()
}

fn import_stdin(rig: &Rig, text: &str) -> std::process::Output {
    let mut command = rig.command(&["tenants", "import", "-", "--json"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Without a registry all is as it was: scripts read the list and its sums. With one, the columns come.
#[test]
fn the_list_shows_who_uses_how_much_and_what_is_known_of_them() {
    let rig = rig();
    rig.ok(&["up", "--once"]);
    let _serving = rig.spawn(&["serve"]);
    let plain = json!([
        {"tenant": "acme", "events": 2, "bytes": "2000",
         "first_event": "2015-05-17 10:05:03", "last_event": "2015-05-17 10:05:03"},
        {"tenant": "016c8fe2d93c37f7", "events": 1, "bytes": "1000",
         "first_event": "2015-05-17 10:05:03", "last_event": "2015-05-17 10:05:03"},
    ]);
    assert_eq!(rig.json(&["tenants", "--from", "2015-05-17", "--json"]), plain);
    assert_eq!(listed(&rig, &[], &[]), plain);
    let totals = listed(&rig, &[], &["--totals"]);
    assert_eq!(totals, json!({"tenants": 2, "registered": 0, "events": 3, "bytes": "3000"}));
    assert_eq!(list(&rig, &[], &["--totals"]), "2 tenants, 3 events\n");
    assert_eq!(head(&list(&rig, &[], &[])), ["tenant", "events", "first event (UTC)", "last event (UTC)"]);
    assert_eq!(listed(&rig, &[], &["--limit", "1"]).as_array().unwrap().len(), 1);
    // Only the span counts: without one, the last 30 days.
    assert_eq!(rig.json(&["tenants", "--json"]), json!([]));
    let minute = ["--from", "2015-05-17T12:05", "--to", "2015-05-17T12:06"];
    assert_eq!(listed(&rig, &minute, &["--totals"])["events"], 0);
    let minute = [&minute[..], &["--zone", "Europe/Berlin"]].concat();
    assert_eq!(listed(&rig, &minute, &["--totals"])["events"], 3);

    // As the example of functions has it.
    let csv = "tenant,name,organisation,tier\n\
               016c8fe2d93c37f7,app 016c8fe2,cf761b48931a2f6f,pro\n\
               02377f0bc7cce883,app 02377f0b,7bf9b2f90bbce2a6,free\n\
               acme,=Acme,Acme,free\n";
    std::fs::write(rig.path("tenants.csv"), csv).unwrap();
    let file = rig.path("tenants.csv");
    let imported = rig.json(&["tenants", "import", file.to_str().unwrap(), "--json"]);
    assert_eq!((field::<u64>(&imported, "/added"), field::<bool>(&imported, "/is_applied")), (3, true));
    let again = rig.json(&["tenants", "import", file.to_str().unwrap(), "--json"]);
    assert_eq!((field::<u64>(&again, "/unchanged"), &again["changes"]), (3, &json!([])));

    let table = list(&rig, &[], &["--measure", "cpu_ms"]);
    let expected = [
        "tenant",
        "name",
        "organisation",
        "tier",
        "events",
        "cpu_ms",
        "first event (UTC)",
        "last event (UTC)",
    ];
    assert_eq!(head(&table), expected);
    assert!(table.contains("all 2 tenants"), "{table}");
    let free = listed(&rig, &[], &["--tier", "free", "--measure", "cpu_ms"]);
    let acme = json!({"tenant": "acme", "name": "=Acme", "organisation": "Acme", "tier": "free", "events": 2,
        "bytes": "2000", "measure": "cpu_ms", "total": "14",
        "first_event": "2015-05-17 10:05:03", "last_event": "2015-05-17 10:05:03"});
    let idle = json!({"tenant": "02377f0bc7cce883", "name": "app 02377f0b", "organisation": "7bf9b2f90bbce2a6",
        "tier": "free", "events": 0, "bytes": "0", "measure": "cpu_ms", "total": "0",
        "first_event": Value::Null, "last_event": Value::Null});
    assert_eq!(free, json!([acme, idle]));
    let lines = list(&rig, &[], &["--search", "ACME", "--csv"]);
    let expected = "tenant,name,organisation,tier,events,bytes,first_event,last_event\r\n\
                    \"acme\",\"'=Acme\",\"Acme\",\"free\",2,2000,2015-05-17 10:05:03,2015-05-17 10:05:03\r\n";
    assert_eq!(lines, expected);
}

#[test]
fn a_tenant_is_set_shown_exported_imported_and_removed() {
    let rig = rig();
    rig.ok(&["migrate"]);
    let _serving = rig.spawn(&["serve"]);
    let set = |further: &[&str]| rig.json(&[&["tenants", "set", "acme", "--json"], further].concat());
    let added = set(&["--tier", "free", "--organisation", "Acme", "--name", "=1+1", "--tag", "region=eu"]);
    assert_eq!((&added["action"], &added["valid_from"]), (&json!("added"), &Value::Null));
    let changed = set(&["--tier", "pro", "--from", "2026-05-17T10:01"]);
    assert_eq!(changed["valid_from"], "2026-05-17T10:01:00Z");
    assert_eq!(changed["differences"], json!([{"field": "tier", "before": "free", "after": "pro"}]));
    let tags = set(&[
        "--tag",
        "region=",
        "--tag",
        "team=red",
        "--external-id",
        "stripe=cus_1",
        "--from",
        "2026-06-01",
    ]);
    assert_eq!(tags["differences"].as_array().unwrap().len(), 3);
    assert_eq!(set(&["--tier", "pro", "--from", "2026-06-10"])["action"], "unchanged");

    let versions = rig.json(&["tenants", "show", "acme", "--json"]);
    let stretches: Vec<(Value, Value, Value)> = versions
        .as_array()
        .unwrap()
        .iter()
        .map(|version| (version["tier"].clone(), version["valid_from"].clone(), version["valid_to"].clone()))
        .collect();
    let (may, june) = (json!("2026-05-17T10:01:00Z"), json!("2026-06-01T00:00:00Z"));
    let expected = [
        (json!("free"), Value::Null, may.clone()),
        (json!("pro"), may, june.clone()),
        (json!("pro"), june, Value::Null),
    ];
    assert_eq!(stretches, expected);
    assert_eq!(versions[2]["tags"], json!({"team": "red"}));
    assert_eq!(versions[2]["name"], "=1+1", "what is not named stays");
    let shown = rig.ok(&["tenants", "show", "acme"]);
    assert!(shown.contains("the beginning") && shown.contains("stripe=cus_1"), "{shown}");

    rig.ok(&["tenants", "set", "beta"]);
    rig.ok(&["tenants", "remove", "beta", "--from", "2026-08-01"]);
    let exported = rig.ok(&["tenants", "export"]);
    assert!(exported.contains("acme,'=1+1,Acme,pro,2026-05-17T10:01:00Z,"), "{exported}");
    let report: Value = serde_json::from_slice(&import_stdin(&rig, &exported).stdout).unwrap();
    assert_eq!((field::<u64>(&report, "/unchanged"), &report["changes"]), (5, &json!([])));
    assert_eq!(rig.ok(&["tenants", "export"]), exported);
    let then = rig.ok(&["tenants", "export", "--at", "2026-05-17"]);
    assert_eq!(
        then,
        "tenant,name,organisation,tier,valid_from,tag.region\r\nacme,'=1+1,Acme,free,,eu\r\nbeta,,,,,\r\n"
    );

    for (arguments, code, expected) in [
        (&["set", "acme", "--tier", " x"][..], 2, "--tier: begins or ends with a space"),
        (&["set", "acme", "--tag", "a b=c"], 2, "--tag: `a b`: only letters"),
        (&["set", "acme", "--tag", "novalue"], 2, "write key=value"),
        (&["set", "acme", "--from", "2026-05-17T10:01:30"], 2, "is not a whole minute"),
        (&["set", "", "--tier", "x"], 2, "TENANT: must be 1 to 512 bytes"),
        (&["show", "nobody"], 1, "nothing is known of tenant `nobody`"),
        (&["remove", "nobody"], 1, "nothing is known of tenant `nobody`"),
        (&["import"], 2, "tenants.yaml (files.tenants) is not there"),
        (&["import", "nothing.csv"], 1, "cannot read nothing.csv"),
    ] {
        let said = rig.fails(code, &[&["tenants"], arguments].concat());
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn bad_lines_are_told_and_nothing_is_imported_unless_they_are_to_be_skipped() {
    let rig = rig();
    rig.ok(&["migrate"]);
    let _serving = rig.spawn(&["serve"]);
    let text = "tenant,tier,valid_from\nacme,free,\n,free,\nbeta,pro,soon\n";
    std::fs::write(rig.path("tenants.csv"), text).unwrap();
    let file = rig.path("tenants.csv").to_string_lossy().into_owned();
    let said = rig.fails(1, &["tenants", "import", &file]);
    for expected in [
        format!("{file}:3: tenant: must be 1 to 512 bytes"),
        format!("{file}:4: valid_from: `soon` is no time"),
        "2 of 3 lines are bad, nothing was imported".to_owned(),
    ] {
        assert!(said.contains(&expected), "{said}");
    }
    assert_eq!(rig.json(&["tenants", "export", "--json"]), json!([]));
    rig.fails(3, &["tenants", "import", &file, "--dry-run"]);

    let bad = rig.path("bad.csv").to_string_lossy().into_owned();
    let report = rig.json(&["tenants", "import", &file, "--skip-bad", &bad, "--json"]);
    assert_eq!(field::<u64>(&report, "/added"), 1);
    let reason = "`soon` is no time: write 2026-05-01 (UTC) or 2026-05-01T10:30:00Z";
    assert_eq!(report["bad"][1], json!({"line": 4, "field": "valid_from", "reason": reason}));
    let left = std::fs::read_to_string(&bad).unwrap();
    assert_eq!(left, "tenant,tier,valid_from\n,free,\nbeta,pro,soon\n");
    let said = rig.fails(2, &["tenants", "import", &file, "--skip-bad", &bad]);
    assert!(said.contains("is there already; nothing was imported"), "{said}");

    std::fs::write(rig.path("tenants.csv"), "tenant,plan\nacme,free\n").unwrap();
    let said = rig.fails(2, &["tenants", "import", &file]);
    assert!(
        said.contains("header: unknown column `plan`: known are tenant, name, organisation, tier"),
        "{said}"
    );
}

#[test]
fn the_file_is_taken_up_at_a_start_and_by_import() {
    let rig = rig();
    std::fs::write(rig.path("tenants.yaml"), "tenants:\n- {tenant: acme, tier: free, organisation: Acme}\n")
        .unwrap();
    assert!(rig.ok(&["config", "check"]).contains("tenants.yaml: ok, 1 tenants and versions"));
    rig.ok(&["up", "--once"]);
    let versions = rig.json(&["tenants", "show", "acme", "--json"]);
    assert_eq!((&versions[0]["tier"], &versions[0]["origin"]), (&json!("free"), &json!("file")));

    std::fs::write(rig.path("tenants.yaml"), "tenants:\n- {tenant: acme, tier: pro, organisation: Acme}\n")
        .unwrap();
    let imported = rig.json(&["tenants", "import", "--json"]);
    assert_eq!(field::<u64>(&imported, "/changed"), 1);
    assert_eq!(imported["changes"][0]["differences"][0]["after"], "pro");
    let later = "tenant: acme, tier: trial, valid_from: 2015-05-10";
    std::fs::write(rig.path("more.yaml"), format!("tenants:\n- {{{later}}}\n")).unwrap();
    rig.ok(&["bill", "run", "--period", "2015-05"]);
    let file = rig.path("more.yaml").to_string_lossy().into_owned();
    let said = rig.fails(1, &["tenants", "import", &file]);
    assert!(
        said.contains("tenants[0] (`acme`): valid_from: it would hold within the billing period 2015-05"),
        "{said}"
    );

    // A mistake in the file is found before anything is started.
    std::fs::write(rig.path("tenants.yaml"), "tenants:\n- {tenant: acme, teir: pro}\n").unwrap();
    let said = rig.fails(1, &["up", "--once"]);
    assert!(said.contains("tenants.yaml") && said.contains("teir"), "{said}");
}
