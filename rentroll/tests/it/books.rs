//! `rentroll books` of a part: the verdict is that of the hours and the source that were asked for.

use chrono::{DateTime, TimeDelta, Utc};

use crate::rig::{Rig, field};

const SOURCES: [&str; 2] = ["web", "api"];

/// Two sources with three lines each, three hours ago and now; the first and the end of the earlier hours.
fn two_sources_in_two_hours() -> (Rig, DateTime<Utc>, DateTime<Utc>) {
    let source = |name: &str| {
        format!(
            "[[collector.sources]]\nname = \"{name}\"\nkind = \"log\"\npaths = [\"{name}.log\"]\nformat = \"combined\"\nbackfill = true\n"
        )
    };
    let rig = Rig::with_config(Some(&SOURCES.map(source).join("\n")));
    let write = |from: u32, to: u32| {
        let line = |n| {
            format!("10.0.0.1 - - [17/May/2015:10:05:03 +0000] \"GET /{n} HTTP/1.1\" 200 5 \"-\" \"-\"\n")
        };
        for source in SOURCES {
            use std::io::Write as _;
            let path = rig.path(&format!("{source}.log"));
            let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
            file.write_all((from..to).map(line).collect::<String>().as_bytes()).unwrap();
        }
        rig.ok(&["up", "--once"]);
    };
    write(0, 3);
    // As if that had been three hours ago.
    for sql in [
        "INSERT INTO events SELECT * REPLACE (arrived_at - INTERVAL 3 HOUR AS arrived_at) FROM events",
        "ALTER TABLE events DELETE WHERE arrived_at > now() - INTERVAL 2 HOUR SETTINGS mutations_sync = 2",
        "INSERT INTO batches SELECT * REPLACE (arrayMap(tally -> (tally.source, tally.hour - INTERVAL 3 HOUR, \
           tally.accepted, tally.stored, tally.duplicate, tally.rejected), tallies) AS tallies) \
         FROM batches FINAL WHERE state = 1",
    ] {
        rig.execute(sql);
    }
    write(3, 6);
    let books = rig.json(&["books", "--json"]);
    let hours: Vec<DateTime<Utc>> =
        books["hours"].as_array().unwrap().iter().map(|hour| field(hour, "/hour")).collect();
    let earlier = || hours.iter().filter(|hour| **hour < Utc::now() - TimeDelta::hours(2));
    let (first, last) = (*earlier().min().unwrap(), *earlier().max().unwrap());
    assert!(hours.iter().any(|hour| *hour > last), "one hour: {books}");
    (rig, first, last + TimeDelta::hours(1))
}

/// Exit code, stdout and stderr of the books of a part.
fn books(rig: &Rig, which: &[&str]) -> (i32, String, String) {
    let output = rig.run(&[&["books"], which].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn exits(rig: &Rig, code: i32, which: &[&str]) -> (String, String) {
    let (found, printed, said) = books(rig, which);
    assert_eq!(found, code, "{which:?}: {printed}{said}");
    (printed, said)
}

#[test]
fn a_part_is_judged_by_itself_and_what_is_amiss_elsewhere_is_told() {
    let (rig, begin, end) = two_sources_in_two_hours();
    let (before, behind) = (begin.to_rfc3339(), end.to_rfc3339());
    let (before, behind) = (before.as_str(), behind.as_str());
    exits(&rig, 0, &[]);
    // Of web, what arrived in the earlier hours is lost in the store.
    rig.execute(
        "ALTER TABLE events DELETE WHERE source = 'web' AND arrived_at < now() - INTERVAL 2 HOUR \
         SETTINGS mutations_sync = 2",
    );
    let (printed, said) = exits(&rig, 3, &[]);
    let line = printed.lines().find(|line| line.contains("events missing")).unwrap();
    assert!(line.trim_start().starts_with("web "), "{printed}");
    assert!(line.contains(&begin.format("%Y-%m-%d %H:").to_string()), "{printed}");
    assert!(said.contains("NO"), "{said}");
    let document: serde_json::Value = serde_json::from_str(&exits(&rig, 3, &["--json"]).0).unwrap();
    let off: Vec<(String, DateTime<Utc>)> = document["hours"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|hour| hour["balances"] == false)
        .map(|hour| (field(hour, "/source"), field(hour, "/hour")))
        .collect();
    assert!(!off.is_empty());
    assert!(off.iter().all(|(source, hour)| source == "web" && (begin..end).contains(hour)), "{off:?}");
    exits(&rig, 3, &["--source", "web"]);
    exits(&rig, 3, &["--from", before, "--to", behind]);
    for sound in [
        &["--source", "api"][..],
        &["--to", before],
        &["--from", behind],
        &["--source", "web", "--from", behind],
        &["--source", "api", "--from", before, "--to", behind],
    ] {
        let (_, said) = exits(&rig, 0, sound);
        assert!(said.contains("yes (of what was selected)") && !said.contains("elsewhere"), "{said}");
    }

    // And the log lost ten positions behind what arrived now: of which source, nobody knows.
    rig.execute(
        "INSERT INTO batches SELECT * REPLACE (next + 10 AS first, next + 15 AS next, 5 AS records, \
           now64(3) AS written_at, [('web', tallies[-1].hour, 0, 0, 0, 0)] AS tallies) \
         FROM (SELECT * FROM batches FINAL WHERE topic = 'usage' AND state = 1 \
           ORDER BY tallies[-1].hour DESC, written_at DESC LIMIT 1)",
    );
    for unsound in [&["--source", "api"][..], &["--from", behind], &["--source", "api", "--from", behind]] {
        let (printed, _) = exits(&rig, 3, unsound);
        assert!(printed.contains("missing: no batch has them; arrived from"), "{printed}");
    }
    for sound in [&["--to", before][..], &["--source", "api", "--to", behind]] {
        let (printed, said) = exits(&rig, 0, sound);
        assert!(said.contains("elsewhere: positions missing: 10;"), "{said}");
        assert!(!printed.contains("missing"), "{printed}");
    }
    let part = rig.json(&["books", "--to", before, "--json"]);
    let gaps: Vec<&serde_json::Value> = part["chains"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|chain| chain["gaps"].as_array().unwrap())
        .collect();
    assert_eq!((gaps.len(), &gaps[0]["elsewhere"]), (1, &serde_json::json!(true)), "{part}");
}

#[test]
fn what_cannot_be_asked_for_is_told_with_its_parameter_and_what_can() {
    let rig = Rig::with_config(None);
    for (which, parts) in [
        (&["--from", "yesterday"][..], &["--from", "yesterday", "2026-11-24T10:00"][..]),
        (&["--to", "2026-13-01"], &["--to", "2026-13-01", "2026-11-24T10:00"]),
        (&["--from", "2026-11-24T10:30"], &["--from", "2026-11-24T10:30", "by the hour"]),
        (
            &["--from", "2026-11-25", "--to", "2026-11-24"],
            &["--from 2026-11-25T00:00Z", "not before --to 2026-11-24T00:00Z"],
        ),
        (&["--from", "2026-11-24", "--to", "2026-11-24"], &["--from", "--to", "not before"]),
        (&["--source", ""], &["--source", "no source", "the name of one"]),
        (&["--repair"], &["--rollups"]),
    ] {
        let (_, said) = exits(&rig, 2, which);
        for part in parts {
            assert!(said.contains(part), "{which:?}: no `{part}` in {said}");
        }
    }
}
