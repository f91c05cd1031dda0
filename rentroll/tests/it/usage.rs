//! The verbs that ask of usage, as they are typed, over the log of the example.

use std::path::Path;

use crate::rig::{EXAMPLE, Rig, field};

/// The example's log in the store.
pub(crate) fn rig() -> Rig {
    let rig = Rig::following("access.log");
    std::fs::copy(Path::new(EXAMPLE).join("access.log"), rig.path("access.log")).unwrap();
    rig.ok(&["up", "--once"]);
    rig
}

const MAY: [&str; 2] = ["--month", "2015-05"];

fn with<'a>(words: &[&'a str]) -> Vec<&'a str> {
    words.iter().copied().chain(MAY).collect()
}

/// The lines of a table with this word, without the spaces between cells.
pub(crate) fn line(table: &str, word: &str) -> String {
    let line =
        table.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("no {word} in\n{table}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn usage_is_asked_for_in_tables_pictures_and_documents() {
    let rig = rig();
    // The log's own sums are known.
    let whole = rig.json(&with(&["query", "egress_bytes", "--json"]));
    assert_eq!(field::<String>(&whole, "/rows/0/quantity"), "2747282740");
    assert_eq!(field::<u64>(&whole, "/rows/0/events"), 10_000);
    let days = rig.json(&with(&["query", "requests", "--window", "day", "--json"]));
    let rows = days["rows"].as_array().unwrap();
    let sum: u64 = rows.iter().map(|row| row["quantity"].as_str().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!((rows.len(), sum), (4, 10_000));
    assert_eq!(days["read_from"], serde_json::json!(["day"]));
    let berlin =
        rig.json(&with(&["query", "requests", "--window", "day", "--zone", "Europe/Berlin", "--json"]));
    assert_eq!(berlin["rows"][1]["from"], "2015-05-17T22:00:00Z");
    assert_eq!(berlin["read_from"], serde_json::json!(["hour"]));

    let table = rig.ok(&with(&["query", "requests", "--window", "day"]));
    assert_eq!(line(&table, "2015-05-18"), "2015-05-18 2,893 2,893");
    assert_eq!(line(&table, "all"), "all 4 rows 10,000 10,000");
    let plot = rig.ok(&with(&["query", "requests", "--window", "day", "--plot"]));
    assert!(line(&plot, "2015-05-18").contains("█████"), "{plot}");
    let csv = rig.ok(&with(&["query", "requests", "--by", "tenant", "--tenant", "66.249.73.135", "--csv"]));
    let lines: Vec<&str> = csv.lines().map(str::trim_end).collect();
    assert_eq!(lines[0], "from,to,\"tenant\",meter,unit,quantity,events");
    assert_eq!(
        lines[1],
        "2015-05-01T00:00:00Z,2015-06-01T00:00:00Z,\"66.249.73.135\",\"requests\",\"request\",482,482"
    );
    // A dimension that the rollups do not have is read from the events.
    let errors =
        rig.json(&with(&["query", "requests", "--by", "status", "--where", "status>=500", "--json"]));
    assert_eq!(errors["read_from"], serde_json::json!(["events"]));
    assert_eq!(errors["rows"][0]["dimensions"]["status"], "500");
    assert_eq!(errors["rows"][0]["quantity"], "3");

    let top = rig.json(&with(&["top", "requests", "--limit", "2", "--json"]));
    assert_eq!(top["rows"][0]["key"], "66.249.73.135");
    assert_eq!(top["rows"][0]["share"], "0.0482");
    assert_eq!(top["keys"], 1_753);
    assert_eq!(top["total"]["quantity"], "10000");
    let table = rig.ok(&with(&["top", "requests", "--limit", "2"]));
    assert_eq!(line(&table, "others"), "1,751 others 9,154 91.5 – +9,154 – 9,154");
    assert!(rig.ok(&with(&["top", "requests", "--limit", "2", "--csv"])).lines().count() == 5);

    let events = rig.json(&["events", "--tenant", "66.249.73.135", "--limit", "3", "--json"]);
    let found = events["events"].as_array().unwrap();
    assert!(found.len() == 3 && found.iter().all(|event| event["verdict"] == "counted"), "{events}");
    let id = field::<String>(&events, "/events/0/id");
    let full = rig.ok(&["events", "--tenant", "66.249.73.135", "--id", &id, "--full"]);
    assert!(line(&full, "counts, or why not").contains("requests 1"), "{full}");
    assert!(line(&full, "verdict").ends_with("counted"));

    let meters = rig.json(&["meters", "--days", "36600", "--json"]);
    assert_eq!(meters["meters"][0]["meter"], "egress_bytes");
    assert_eq!(
        (&meters["meters"][0]["events"], &meters["meters"][0]["tenants"]),
        (&10_000.into(), &1_753.into())
    );
    assert_eq!(meters["without_value"]["totals"], serde_json::json!([]));
    assert_eq!(meters["unmatched"]["totals"], serde_json::json!([]));
    assert!(line(&rig.ok(&["meters"]), "egress_bytes").ends_with("none 0"), "no events of late");
}

#[test]
fn a_meter_is_applied_shown_and_ended_and_counts_what_came_before() {
    let rig = rig();
    let path = rig.path("meters.yaml");
    let before = rig.json(&["meters", "apply", "--json"]);
    assert_eq!(before, serde_json::json!([]), "as the file says it");
    let more = "\n- {name: failures, unit: request, event_type: http.request, aggregation: count, filter: {status: {from: 500}}, group_by: [status]}\n";
    let text = std::fs::read_to_string(&path).unwrap() + more;
    std::fs::write(&path, &text).unwrap();
    let would = rig.ok(&["meters", "apply", "--dry-run"]);
    assert_eq!(would.trim(), "failures: new, counts all events");
    assert_eq!(rig.ok(&["meters", "apply"]).trim(), "failures: new, counts all events");
    // The next aggregator counts what came before.
    rig.ok(&["up", "--once"]);
    let counted = rig.json(&with(&["query", "failures", "--by", "status", "--json"]));
    assert_eq!(counted["rows"][0]["quantity"], "3");
    assert_eq!(counted["read_from"], serde_json::json!(["day"]));
    assert_eq!(rig.query::<u64>("SELECT count() FROM repairs"), 0);
    let shown = rig.ok(&["meters", "show", "failures"]);
    assert!(line(&shown, "always").contains("count of http.request"), "{shown}");
    assert!(rig.ok(&["meters", "end", "failures"]).starts_with("failures: ends at "));
    // The file has it still, and brings it back.
    assert!(rig.ok(&["meters", "apply"]).starts_with("failures: version 3"), "after its end");
}

#[test]
fn a_wrong_question_says_what_is_wrong_and_what_is_right() {
    let rig = rig();
    for (words, said) in [
        (vec!["query", "request"], "did you mean `requests`?"),
        (
            vec!["query", "requests", "--from", "2015-05-18", "--to", "2015-05-17"],
            "is not before --to 2015-05-17T00:00:00+00:00",
        ),
        (vec!["query", "requests", "--where", "status~500"], "key=value"),
        (vec!["query", "requests", "--last", "soon"], "24h"),
        (vec!["query", "requests", "--zone", "Mars"], "IANA time zone"),
        (vec!["query", "requests", "--by", "tag:"], "tag:KEY"),
        (vec!["query", "requests", "--window", "minute", "--from", "2000-01-01"], "window"),
        (vec!["top", "requests", "--limit", "0"], "1..=10000"),
        (vec!["top", "requests", "--month", "2015-5"], "--month: `2015-5` is not a month"),
        (vec!["query", "requests", "--from", "2015-05-17T10:00:30"], "--from: `2015-05-17T10:00:30+00:00`"),
        (vec!["query", "requests", "--by", "path,path"], "--by: `path` is not allowed: each once"),
        (vec!["query", "requests", "--rolling", "24h"], "--rolling: `1d` is not allowed"),
        (
            [&["query", "requests"][..], &["--where=a<1"; 101]].concat(),
            "--where: `101` is not allowed: at most 100",
        ),
        (vec!["events", "--verdict", "good"], "counted, unmatched"),
        (
            vec!["events", "--from", "2015-05-18", "--to", "2015-05-17"],
            "--from 2015-05-18T00:00:00+00:00 is not before --to 2015-05-17T00:00:00+00:00",
        ),
        (vec!["events", "--cursor", "x"], "--cursor: `x` is not allowed"),
        (vec!["tenants", "--from", "2015-05-18", "--to", "2015-05-17"], "is not before --to"),
        (vec!["meters", "show", "nothing"], "there is no meter `nothing`"),
        (vec!["meters", "end", "nothing"], "there is no meter `nothing`"),
    ] {
        let message = rig.fails(2, &words);
        assert!(message.contains(said), "{words:?}: {message}");
    }
    let path = rig.path("meters.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("unit: byte", "unit: kilobyte")).unwrap();
    let message = rig.fails(2, &["meters", "apply"]);
    assert!(message.contains("unit: `kilobyte`") && message.contains("another name"), "{message}");
}

const KINDS: &str = "
- {name: longest, unit: ms, event_type: job, aggregation: max, value: ms}
- {name: mean, unit: ms, event_type: job, aggregation: avg, value: ms}
- {name: queues, unit: queue, event_type: job, aggregation: unique_count, value: queue}
- {name: last, unit: ms, event_type: job, aggregation: latest, value: ms}
- {name: p95, unit: ms, event_type: job, aggregation: percentile, percentile: 95, value: ms, filter: {queue: {not: [q0]}}}
- {name: stored, unit: byte, event_type: snapshot, aggregation: time_weighted, value: bytes, series: [bucket], per: window}
- {name: held, unit: connection, event_type: snapshot, aggregation: time_weighted, value: open, per: hour}
";

/// Events of two months, so that levels are carried in; some come late, some are corrected.
fn events_of_all_kinds() -> String {
    let mut lines = Vec::new();
    let mut random = 7_u64;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for number in 0..600 {
        let (month, day) = (if number % 6 == 0 { "04" } else { "05" }, draw(30) + 1);
        let time = format!(
            "2015-{month}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
            draw(24),
            draw(60),
            draw(60),
            draw(1_000_000)
        );
        let tenant = draw(4);
        let (kind, data) = match number % 2 {
            0 => ("job", format!(r#""ms":"{}.{}","queue":"q{}""#, draw(500), draw(1_000), draw(9))),
            _ => (
                "snapshot",
                format!(r#""bytes":{},"open":{},"bucket":"b{}""#, draw(1 << 40), draw(100), draw(3)),
            ),
        };
        let voids = if number % 50 == 49 { format!(r#""voids":"{}","#, number - 20) } else { String::new() };
        lines.push(format!(
            r#"{{"specversion":"1.0","id":"{number}","source":"s","type":"{kind}","subject":"t{tenant}","time":"{time}",{voids}"data":{{{data}}}}}"#
        ));
    }
    // Each tenant pays for something.
    for tenant in 0..4 {
        lines.push(format!(
            r#"{{"specversion":"1.0","id":"h{tenant}","source":"s","type":"http.request","subject":"t{tenant}","time":"2015-05-05T00:00:00Z","data":{{"bytes":1}}}}"#
        ));
    }
    lines.join("\n") + "\n"
}

/// Two programs compute the same from the same events: what is looked at, and what is billed.
#[test]
fn what_is_shown_is_what_is_billed() {
    let source = "[[collector.sources]]\nname = \"s\"\nkind = \"log\"\npaths = [\"events.ndjson\"]\n\
                  format = \"cloudevents\"\nsources = [\"s\"]\nbackfill = true\n";
    let rig = Rig::with_config(Some(source));
    let path = rig.path("meters.yaml");
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + KINDS).unwrap();
    std::fs::write(rig.path("events.ndjson"), events_of_all_kinds()).unwrap();
    rig.ok(&["up", "--once"]);
    rig.ok(&["bill", "run", "--period", "2015-05"]);
    let invoices = rig.json(&["invoices", "list", "--period", "2015-05", "--json"]);
    let mut compared = std::collections::BTreeSet::new();
    for invoice in invoices["invoices"].as_array().or(invoices.as_array()).unwrap() {
        let invoice = rig.json(&["invoices", "show", invoice["number"].as_str().unwrap(), "--json"]);
        let tenant = field::<String>(&invoice, "/tenant");
        for total in invoice["usage"].as_array().unwrap() {
            let meter = total["meter"].as_str().unwrap();
            let shown = rig.json(&with(&["query", meter, "--by", "tenant", "--tenant", &tenant, "--json"]));
            assert_eq!(shown["rows"][0]["quantity"], total["quantity"], "{meter} of {tenant}: {total}");
            compared.insert((meter.to_owned(), tenant.clone()));
        }
    }
    // About right, it is named so; of few it is the same.
    let about = rig.ok(&with(&["query", "queues", "--approximate", "--csv"]));
    let exact = rig.ok(&with(&["query", "queues", "--csv"]));
    assert!(about.starts_with("from,to,meter,unit,approximate_quantity,events"), "{about}");
    assert_eq!(about.replace("approximate_", ""), exact);
    let top = rig.json(&with(&["top", "queues", "--approximate", "--json"]));
    assert_eq!(top["approximation"]["standard_error_percent"], "0.3", "{top}");
    let message = rig.fails(2, &with(&["query", "stored", "--approximate"]));
    assert!(
        message.contains("--approximate: `true` is not allowed: for meters of `unique_count`"),
        "{message}"
    );
    // Seven kinds and the requests' two, of four tenants.
    assert_eq!(compared.len(), 36, "{compared:?}");
}
