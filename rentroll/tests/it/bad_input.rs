//! Bad input: a clear error that names what and why; what is rejected is kept and listed.

use std::net::TcpListener;

use rentroll_testing::free_port;

use crate::rig::{Rig, field};

const GOOD: &str = "10.0.0.1 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 5 \"-\" \"-\"";

#[test]
fn what_cannot_be_read_is_kept_with_its_bytes_reason_and_place() {
    let rig = Rig::following("web.log");
    let garbage: &[u8] = b"\xff\xfe not a log line";
    let bad_time = GOOD.replace("17/May", "17/Mai");
    let nobody = GOOD.replace("10.0.0.1", "-");
    let lines = [GOOD.as_bytes(), garbage, b"", bad_time.as_bytes(), nobody.as_bytes(), GOOD.as_bytes()];
    std::fs::write(rig.path("web.log"), lines.join(&b"\n"[..])).unwrap();
    rig.ok(&["up", "--once"]);
    rig.ok(&["up", "--once", "--from-start"]);
    let rejects = rig.json(&["rejects", "list", "--json"]);
    let rejects = rejects.as_array().unwrap();
    assert_eq!(rejects.len(), 3, "{rejects:?}");
    let of = |line: &str| {
        rejects.iter().find(|reject| field::<String>(reject, "/place").starts_with(line)).unwrap()
    };
    let unreadable = of("web.log:2 ");
    assert_eq!(
        field::<String>(unreadable, "/bytes_hex"),
        garbage.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    );
    assert_eq!(field::<String>(unreadable, "/reason"), "unreadable");
    assert_eq!(field::<String>(of("web.log:4 "), "/field"), "time");
    assert_eq!(field::<String>(of("web.log:5 "), "/field"), "client_address");
    let books = rig.json(&["books", "--json"]);
    let sum = |key: &str| {
        books["hours"].as_array().unwrap().iter().map(|hour| hour[key].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((sum("accepted"), sum("stored"), sum("duplicate"), sum("rejected")), (10, 2, 5, 3));
    let table = rig.ok(&["rejects", "list"]);
    assert!(table.contains("unreadable") && table.contains("web.log:2"), "{table}");
}

#[test]
fn an_event_of_the_wrong_shape_is_refused_by_its_field() {
    let mut rig = Rig::following("events.jsonl");
    let config = std::fs::read_to_string(rig.path("rentroll.toml")).unwrap();
    let config = config.replace("\"combined\"", "\"cloudevents\"\ntenant = \"subject\"");
    std::fs::write(rig.path("rentroll.toml"), config).unwrap();
    let event = |id: &str, rest: &str| {
        format!(r#"{{"specversion":"1.0","id":{id},"source":"api","type":"db.read","subject":"acme"{rest}}}"#)
    };
    let lines = [
        event("\"1\"", r#","time":"2015-05-17T10:05:03Z","data":{"rows":3}"#),
        event("1", r#","time":"2015-05-17T10:05:03Z""#),
        event("\"2\"", ""),
        event("\"3\"", r#","time":"2999-05-17T10:05:03Z""#),
        event("\"4\"", r#","time":"2015-05-17T10:05:03Z","data":{"rows":1e-12}"#),
    ];
    std::fs::write(rig.path("events.jsonl"), lines.join("\n")).unwrap();
    rig.set("files.meters", "meters.yaml");
    rig.ok(&["up", "--once"]);
    let rejects = rig.json(&["rejects", "list", "--json"]);
    let mut found: Vec<(String, String)> = rejects
        .as_array()
        .unwrap()
        .iter()
        .map(|reject| (field(reject, "/field"), field(reject, "/reason")))
        .collect();
    found.sort();
    let expected = [("data.rows", "invalid"), ("id", "invalid"), ("time", "in_future"), ("time", "invalid")];
    assert_eq!(found, expected.map(|(field, reason)| (field.to_owned(), reason.to_owned())));
    // Accepted, but no meter counts it: said, not hidden.
    let doctor = rig.json(&["doctor", "--json"]);
    let unmatched =
        doctor.as_array().unwrap().iter().find(|finding| finding["check"] == "unmatched").unwrap();
    assert_eq!(unmatched["state"], "warn", "{unmatched}");
}

#[test]
fn a_live_source_does_not_take_old_lines() {
    let rig = Rig::following("web.log");
    let config = std::fs::read_to_string(rig.path("rentroll.toml")).unwrap().replace("backfill = true", "");
    std::fs::write(rig.path("rentroll.toml"), config).unwrap();
    std::fs::write(rig.path("web.log"), format!("{GOOD}\n")).unwrap();
    rig.ok(&["up", "--once"]);
    let rejects = rig.json(&["rejects", "list", "--json"]);
    assert_eq!(field::<String>(&rejects, "/0/reason"), "too_old");
    assert!(field::<String>(&rejects, "/0/detail").contains("backfill"));
}

#[test]
fn mistakes_in_files_name_file_and_place() {
    let rig = Rig::following("web.log");
    std::fs::write(rig.path("web.log"), "").unwrap();
    let catalogue = std::fs::read_to_string(rig.path("catalogue.yaml")).unwrap();
    let gap = catalogue.replacen("- {from: 50, to: 100,", "- {from: 51, to: 100,", 1);
    assert_ne!(gap, catalogue);
    std::fs::write(rig.path("catalogue.yaml"), gap).unwrap();
    let said = rig.fails(1, &["config", "check"]);
    assert!(said.contains("catalogue.yaml") && said.contains("tiers[1].from"), "{said}");
    std::fs::write(rig.path("catalogue.yaml"), catalogue).unwrap();
    rig.ok(&["config", "check"]);

    std::fs::write(
        rig.path("meters.yaml"),
        "meters:\n- {name: a, unit: b, event_type: t, aggregation: median}\n",
    )
    .unwrap();
    let said = rig.fails(1, &["config", "check"]);
    assert!(said.contains("meters.yaml") && said.contains("median"), "{said}");

    std::fs::write(rig.path("rentroll.toml"), "[log]\nkindd = \"kafka\"\n").unwrap();
    let said = rig.fails(2, &["config", "check"]);
    assert!(said.contains("rentroll.toml:2") && said.contains("kindd"), "{said}");

    assert!(rig.fails(2, &["bil", "run"]).contains("bill"), "did you mean");
}

#[test]
fn a_missing_file_a_taken_port_and_absent_servers_are_named() {
    let mut rig = Rig::following("nowhere.log");
    let said = rig.fails(1, &["up", "--once"]);
    assert!(said.contains("nowhere.log") && said.contains("No such file"), "{said}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    std::fs::write(rig.path("nowhere.log"), "").unwrap();
    rig.set("http.listen", &taken.local_addr().unwrap().to_string());
    let said = rig.fails(1, &["up", "--once"]);
    assert!(said.contains("http.listen") && said.contains("in use"), "{said}");
    let said = rig.run(&["doctor"]);
    assert_eq!(said.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&said.stdout).contains("http.listen"));
    rig.set("http.listen", "127.0.0.1:0");

    rig.set("store.listen", &taken.local_addr().unwrap().to_string());
    let said = rig.fails(1, &["up", "--once"]);
    assert!(said.contains("store.listen"), "{said}");
    rig.set("store.listen", "127.0.0.1:0");

    let nobody = format!("127.0.0.1:{}", free_port().unwrap());
    rig.set("store.url", &format!("http://{nobody}"));
    let said = rig.fails(1, &["up", "--once"]);
    assert!(said.contains(&nobody) && said.contains("store"), "{said}");

    let mut rig = Rig::following("web.log");
    std::fs::write(rig.path("web.log"), "").unwrap();
    rig.set("log.kind", "kafka");
    rig.set("log.kafka.brokers", &nobody);
    let said = rig.fails(1, &["up", "--once"]);
    assert!(said.to_lowercase().contains("kafka") && said.contains(&nobody), "{said}");
}

#[test]
fn what_config_init_writes_passes_its_check_and_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rentroll"));
        command.current_dir(dir.path()).args(arguments).output().unwrap()
    };
    assert!(run(&["config", "init"]).status.success());
    let checked = run(&["config", "check"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    std::fs::write(dir.path().join("meters.yaml"), "mine").unwrap();
    assert_eq!(run(&["config", "init"]).status.code(), Some(2));
    assert_eq!(std::fs::read(dir.path().join("meters.yaml")).unwrap(), b"mine");
}
