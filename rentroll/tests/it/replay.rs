//! Rejects, judged again after a fix: by a command of its own, and while `rentroll up` holds the log; lines, and events
//! that came over HTTP.

use std::time::Duration;

use rentroll_testing::{http, wait_until};

use crate::rig::{Rig, field};

const OLD: &str = "10.0.0.1 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 5 \"-\" \"-\"";

/// Replays what was refused of the log.
fn replay(rig: &Rig, further: &[&str]) -> (u64, u64) {
    replay_of(rig, &[&["--source", "web"], further].concat())
}

/// Replays, and returns (appended, refused) with the exit code that belongs to it.
fn replay_of(rig: &Rig, which: &[&str]) -> (u64, u64) {
    let arguments = [&["rejects", "replay", "--json"], which].concat();
    let output = rig.run(&arguments);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let refused: u64 = field(&report, "/refused");
    assert_eq!(output.status.code(), Some(if refused == 0 { 0 } else { 3 }), "{report}");
    (field(&report, "/appended"), refused)
}

fn events(rig: &Rig) -> u64 {
    rig.query("SELECT count() FROM events")
}

#[test]
fn what_was_refused_counts_once_after_the_fix_however_often_it_is_replayed() {
    let rig = Rig::following("web.log");
    let config = std::fs::read_to_string(rig.path("rentroll.toml")).unwrap();
    std::fs::write(rig.path("rentroll.toml"), config.replace("backfill = true", "backfill = false")).unwrap();
    std::fs::write(rig.path("web.log"), format!("{OLD}\nno log line\n{OLD}\n")).unwrap();
    rig.ok(&["up", "--once"]);
    assert_eq!(events(&rig), 0);
    // Nothing was mended.
    assert_eq!(replay(&rig, &[]), (0, 3));
    std::fs::write(rig.path("rentroll.toml"), &config).unwrap();
    assert_eq!(replay(&rig, &["--dry-run"]), (2, 1));
    assert_eq!(replay(&rig, &["--reason", "too_old"]), (2, 0));
    // The same again: they are replayed already.
    assert_eq!(replay(&rig, &["--reason", "too_old"]), (0, 0));
    rig.ok(&["up", "--once"]);
    assert_eq!(events(&rig), 2);
    // Once more by request, and once more from the file itself: the same identities.
    assert_eq!(replay(&rig, &["--reason", "too_old", "--again"]), (2, 0));
    rig.ok(&["up", "--once", "--from-start"]);
    assert_eq!(events(&rig), 2);
    assert!(field::<bool>(&rig.json(&["books", "--json"]), "/balanced"));
    let open = rig.json(&["rejects", "list", "--open", "--json"]);
    assert_eq!(
        (open.as_array().unwrap().len(), field::<String>(&open, "/0/reason")),
        (1, "unreadable".to_owned())
    );
    let all = rig.json(&["rejects", "list", "--json"]);
    assert_eq!(all.as_array().unwrap().len(), 3, "the rejects stay");
    let id: String = field(&open, "/0/id");
    let shown = rig.ok(&["rejects", "show", &id[..8]]);
    for said in ["no log line", "unreadable", "refused again", "to do"] {
        assert!(shown.contains(said), "no `{said}` in {shown}");
    }
    assert!(rig.fails(2, &["rejects", "show", "xyz"]).contains("no id of a reject"));
    assert!(rig.fails(2, &["rejects", "replay"]).contains("say which"));
}

#[test]
fn an_id_must_name_one_reject_that_was_not_replayed_yet() {
    let rig = Rig::following("web.log");
    let config = std::fs::read_to_string(rig.path("rentroll.toml")).unwrap();
    std::fs::write(rig.path("rentroll.toml"), config.replace("backfill = true", "backfill = false")).unwrap();
    // More of them than there are digits, so that two begin with the same one.
    std::fs::write(rig.path("web.log"), format!("{OLD}\n").repeat(17)).unwrap();
    rig.ok(&["up", "--once"]);
    std::fs::write(rig.path("rentroll.toml"), &config).unwrap();
    let list = rig.json(&["rejects", "list", "--json"]);
    let ids: Vec<String> = list.as_array().unwrap().iter().map(|reject| field(reject, "/id")).collect();
    assert_eq!(ids.len(), 17);
    let digit = |id: &String| id[..1].to_owned();
    let shared = ids.iter().map(digit).find(|one| ids.iter().filter(|id| digit(id) == *one).count() > 1);
    let shared = shared.unwrap();
    let unknown = (0_u32..).map(|n| format!("{n:032x}")).find(|id| !ids.contains(id)).unwrap();
    let (one, other) = (&ids[0], &ids[1]);

    let said = rig.fails(2, &["rejects", "replay", one, &unknown]);
    assert!(said.contains("no reject has an id") && said.contains(&unknown), "{said}");
    let said = rig.fails(2, &["rejects", "replay", one, &shared]);
    assert!(said.contains("more than one id") && said.contains(&format!("`{shared}`")), "{said}");
    let said = rig.fails(2, &["rejects", "replay", one, "--source", "api"]);
    assert!(said.contains("filters") && said.contains(one.as_str()), "{said}");
    let said = rig.fails(2, &["rejects", "replay", one, "xyz"]);
    assert!(said.contains("`xyz` is no id"), "{said}");
    let open = || rig.json(&["rejects", "list", "--open", "--json"]).as_array().unwrap().len();
    assert_eq!(open(), 17, "nothing was replayed");

    // By its beginning in capitals, twice: one reject.
    let beginning = one[..12].to_ascii_uppercase();
    assert_eq!(replay_of(&rig, &[&beginning, one]), (1, 0));
    assert_eq!(open(), 16);
    // All that was asked for is replayed already.
    let said = rig.fails(3, &["rejects", "replay", one]);
    assert!(said.contains(&one[..12]) && said.contains("was replayed before, 2"), "{said}");
    assert!(said.contains("0 appended") && said.contains("1 replayed before"), "{said}");
    let output = rig.run(&["rejects", "replay", "--json", one]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(field::<String>(&report, "/replayed_before/0/id"), *one);
    assert_eq!((output.status.code(), field::<u64>(&report, "/appended")), (Some(3), 0));
    // A part of it is.
    let said = rig.run(&["rejects", "replay", one, other]);
    assert_eq!(said.status.code(), Some(0));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("1 appended") && said.contains("1 replayed before"), "{said}");
    assert_eq!(open(), 15);
    assert_eq!(replay_of(&rig, &[one, "--again"]), (1, 0));
    rig.ok(&["up", "--once"]);
    assert_eq!(events(&rig), 2);
}

#[test]
fn while_up_runs_the_replay_goes_through_it() {
    let rig = Rig::following("web.log");
    let config = std::fs::read_to_string(rig.path("rentroll.toml")).unwrap();
    std::fs::write(rig.path("rentroll.toml"), config.replace("backfill = true", "backfill = false")).unwrap();
    std::fs::write(rig.path("web.log"), format!("{OLD}\n")).unwrap();
    rig.ok(&["up", "--once"]);
    std::fs::write(rig.path("rentroll.toml"), &config).unwrap();
    let running = rig.spawn(&["up"]);
    let door = rig.path("data/log/door/socket");
    assert!(wait_until(Duration::from_secs(60), || door.exists().then_some(())).is_some(), "no door");
    assert_eq!(replay(&rig, &[]), (1, 0));
    let stored = wait_until(Duration::from_secs(180), || {
        let totals = rig.json(&["tenants", "--from", "2015-05-01", "--totals", "--json"]);
        (field::<u64>(&totals, "/events") == 1).then_some(())
    });
    assert!(
        stored.is_some(),
        "what was replayed did not come through: {}",
        rig.json(&["rejects", "list", "--json"])
    );
    drop(running);
    let books = rig.json(&["books", "--json"]);
    assert!(field::<bool>(&books, "/balanced"), "{books}");
}

#[test]
fn what_was_refused_over_http_counts_once_after_the_fix_and_speaks_for_nobody_else() {
    const RESERVED: &str = "[collector.http]\nreserved_sources = [\"jobs\"]\n";
    let (rig, address) = Rig::receiving(RESERVED);
    let secret = rig.ok(&["tokens", "create", "--tenant", "acme"]).trim().to_owned();
    let bearer = format!("Bearer {secret}");
    let post = |body: &str| {
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        // Until it listens.
        let answer = wait_until(Duration::from_secs(60), || {
            http::post(address, "/v1/events", &headers, body.as_bytes()).ok()
        });
        answer.expect("an answer")
    };
    // One that is good, one of a source that a tenant may not name yet, one for another tenant. None says when: the
    // arrival is their time.
    let event = |id: &str, source: &str, rest: &str| {
        format!(r#"{{"id":"{id}","type":"http.request","source":"{source}"{rest},"data":{{"bytes":7}}}}"#)
    };
    let of_jobs = event("2", "jobs/nightly", "");
    let all = [event("1", "api", ""), of_jobs.clone(), event("3", "api", r#","subject":"other""#)].join(",");
    let running = rig.spawn(&["up"]);
    let answer = post(&format!("[{all}]"));
    assert_eq!(answer.status, 400, "{}", answer.body);
    drop(running);
    rig.ok(&["up", "--once"]);
    assert_eq!(events(&rig), 1);
    // Nothing was mended.
    assert_eq!(replay_of(&rig, &["--tenant", "acme"]), (0, 2));
    std::fs::write(rig.path("rentroll.toml"), "").unwrap();
    assert_eq!(replay_of(&rig, &["--tenant", "acme"]), (1, 1), "not the one for another tenant");
    rig.ok(&["up", "--once"]);
    // Sent again by its sender, as well: the same identity.
    let running = rig.spawn(&["up"]);
    let answer = post(&of_jobs);
    assert_eq!(answer.status, 204, "{}", answer.body);
    drop(running);
    rig.ok(&["up", "--once"]);
    let stored: (u64, u64, u64) = rig.query(
        "SELECT count(), countIf(tenant = 'acme'), \
         countIf(source = 'jobs/nightly' AND time = (SELECT min(rejected_at) FROM rejects)) FROM events",
    );
    assert_eq!(stored, (2, 2, 1), "its time is that of its first arrival");
    let books = rig.json(&["books", "--json"]);
    assert!(field::<bool>(&books, "/balanced"), "{books}");
}
