//! Later events that correct earlier ones: usage, rollups and money are what is left, whatever came first.

use std::io::Write as _;

use crate::rig::{Rig, field};

/// A source of CloudEvents, one a line.
fn rig() -> Rig {
    let rig = Rig::following("events.jsonl");
    let config = std::fs::read_to_string(rig.path("rentroll.toml")).unwrap();
    let config = config.replace("\"combined\"", "\"cloudevents\"\ntenant = \"subject\"");
    std::fs::write(rig.path("rentroll.toml"), config).unwrap();
    std::fs::write(rig.path("events.jsonl"), "").unwrap();
    rig
}

fn send(rig: &Rig, id: &str, time: &str, bytes: u64, further: &str) {
    let event = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"api","type":"http.request","subject":"acme","time":"{time}"{further},"data":{{"bytes":{bytes}}}}}"#
    );
    let mut file = std::fs::File::options().append(true).open(rig.path("events.jsonl")).unwrap();
    writeln!(file, "{event}").unwrap();
}

/// Events and bytes of acme, by raw events.
fn used(rig: &Rig) -> (u64, String) {
    let totals = rig.json(&["tenants", "--from", "2015-05-01", "--totals", "--json"]);
    (field(&totals, "/events"), field(&totals, "/bytes"))
}

fn rollups_hold(rig: &Rig) {
    let rollups = rig.json(&["books", "--rollups", "--json"]);
    assert!(field::<bool>(&rollups, "/hold"), "{rollups}");
    assert_eq!(rollups["in_motion"], serde_json::json!([]), "{rollups}");
    assert!(field::<bool>(&rig.json(&["books", "--json"]), "/balanced"));
}

#[test]
fn money_is_what_the_corrections_leave_and_a_closed_month_does_not_change() {
    let rig = rig();
    // A void before its original.
    send(&rig, "void-4", "2015-05-20T00:00:00Z", 0, r#","voids":"4""#);
    for id in ["1", "2", "3", "4"] {
        send(&rig, id, "2015-05-17T10:05:03Z", 1_000_000_000, "");
    }
    rig.ok(&["up", "--once"]);
    assert_eq!(used(&rig), (3, "3000000000".to_owned()));
    rollups_hold(&rig);
    rig.ok(&["bill", "run", "--period", "2015-05"]);
    let documents = rig.ok(&["invoices", "export", "--format", "json"]);
    let explained = rig.ok(&["bill", "explain", "RR-2015-000001"]);
    assert!(explained.contains("`void-4` voids it"), "{explained}");

    // After the month was closed: a void, and an amendment that moves an event into the next month.
    send(&rig, "void-1", "2015-06-01T00:00:00Z", 0, r#","voids":"1""#);
    send(&rig, "new-2", "2015-06-01T00:00:01Z", 500, r#","amends":"2""#);
    rig.ok(&["up", "--once"]);
    assert_eq!(used(&rig), (2, "1000000500".to_owned()));
    rollups_hold(&rig);
    let output = rig.run(&["bill", "run", "--period", "2015-05", "--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let late: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(field::<String>(&late, "/late/0/tenant"), "acme");
    assert_eq!(
        rig.ok(&["invoices", "export", "--format", "json"]),
        documents,
        "an issued invoice never changes"
    );
    let june = rig.json(&["bill", "run", "--period", "2015-06", "--dry-run", "--json"]);
    assert_eq!(field::<u64>(&june, "/invoices"), 1);

    // The void is voided, and the amendment too: May is what was invoiced again.
    send(&rig, "void-void-1", "2015-06-02T00:00:00Z", 0, r#","voids":"void-1""#);
    send(&rig, "void-new-2", "2015-06-02T00:00:00Z", 0, r#","voids":"new-2""#);
    rig.ok(&["up", "--once"]);
    assert_eq!(used(&rig), (3, "3000000000".to_owned()));
    rollups_hold(&rig);
    let again = rig.json(&["bill", "run", "--period", "2015-05", "--json"]);
    assert_eq!(field::<String>(&again, "/outcome"), "unchanged");
    // Original and correction both stay, and the books have all of them.
    let (events, corrections): (u64, u64) =
        rig.query("SELECT count(), countIf(correction != 'none') FROM events");
    assert_eq!((events, corrections), (9, 5));
}

#[test]
fn damaged_rollups_are_told_and_put_right_by_command() {
    let rig = rig();
    for id in ["1", "2"] {
        send(&rig, id, "2015-05-17T10:05:03Z", 7, "");
    }
    rig.ok(&["up", "--once"]);
    rollups_hold(&rig);
    rig.execute("INSERT INTO rollup_hour SELECT * FROM rollup_hour");
    let said = rig.fails(3, &["books", "--rollups"]);
    assert!(said.contains("cells DIFFER"), "{said}");
    let refused = rig.fails(3, &["bill", "run", "--period", "2015-05"]);
    assert!(refused.contains("rentroll books --rollups --repair"), "{refused}");
    let repaired = rig.json(&["books", "--rollups", "--repair", "--json"]);
    assert!(repaired["differences"].as_array().unwrap().len() >= 2, "{repaired}");
    rollups_hold(&rig);
    rig.ok(&["bill", "run", "--period", "2015-05"]);
    let repairs: u64 = rig.query("SELECT count() FROM repairs WHERE why = 'command'");
    assert!(repairs >= 2);
}
