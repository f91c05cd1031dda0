//! What the verbs of usage are told by flags, over the log of the example: four days of May 2015.

use serde_json::{Value, json};

use crate::rig::{Rig, field};
use crate::usage::{line, rig};

const SPAN: [&str; 4] = ["--from", "2015-05-16", "--to", "2015-05-22"];
const BUSY: &str = "66.249.73.135";

fn with<'a>(words: &[&'a str]) -> Vec<&'a str> {
    words.iter().copied().chain(SPAN).collect()
}

/// Requests of each row.
fn quantities(answer: &Value) -> Vec<u64> {
    let rows = answer["rows"].as_array().unwrap();
    rows.iter().map(|row| field::<String>(row, "/quantity").parse().unwrap()).collect()
}

fn ids(page: &Value) -> Vec<String> {
    page["events"].as_array().unwrap().iter().map(|event| field(event, "/id")).collect()
}

/// Asks for events of one tenant that count.
fn counted<'a>(words: &[&'a str]) -> Vec<&'a str> {
    with(&[&["events", "--tenant", BUSY, "--verdict", "counted"], words].concat())
}

/// Asks who used most in a day.
fn top<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let day = ["top", "requests", "--from", "2015-05-18", "--to", "2015-05-19", "--limit", "1"];
    [&day[..], words].concat()
}

/// The lines of a CSV document.
fn lines(csv: &str) -> Vec<&str> {
    csv.lines().map(str::trim_end).collect()
}

#[test]
fn windows_roll_and_gaps_are_filled() {
    let rig = rig();
    let days = quantities(&rig.json(&with(&["query", "requests", "--window", "day", "--json"])));
    assert_eq!(days.len(), 4, "{days:?}");
    let rolling = rig.json(&with(&["query", "requests", "--window", "day", "--rolling", "2d", "--json"]));
    // The day after the last one looks back at it.
    let expected = [days[0], days[0] + days[1], days[1] + days[2], days[2] + days[3], days[3]];
    assert_eq!(quantities(&rolling), expected);
    assert_eq!(
        (&rolling["rows"][1]["from"], &rolling["rows"][1]["to"]),
        (&json!("2015-05-17T00:00:00Z"), &json!("2015-05-19T00:00:00Z"))
    );

    let filled = |fill| rig.ok(&with(&["query", "requests", "--window", "day", "--csv", "--fill", fill]));
    let (first, last) =
        ("2015-05-16T00:00:00Z,2015-05-17T00:00:00Z", "2015-05-21T00:00:00Z,2015-05-22T00:00:00Z");
    let row = |span: &str, cells: &str| format!("{span},\"requests\",\"request\",{cells}");
    for (fill, cells) in [("zero", "0,0"), ("null", ",0")] {
        let csv = filled(fill);
        let lines = lines(&csv);
        assert_eq!(lines.len(), 7, "{csv}");
        assert_eq!((lines[1], lines[6]), (&*row(first, cells), &*row(last, cells)), "{fill}");
    }
    let csv = filled("previous");
    assert_eq!(lines(&csv).last().unwrap(), &row(last, &format!("{},0", days[3])), "{csv}");
    assert_eq!(lines(&filled("none")).len(), 5);
}

#[test]
fn groups_are_drawn_as_lines_each_on_its_own_scale() {
    let rig = rig();
    let top = rig.json(&with(&["top", "requests", "--limit", "2", "--json"]));
    let tenants: [String; 2] = [field(&top, "/rows/0/key"), field(&top, "/rows/1/key")];
    let asked = ["query", "requests", "--window", "day", "--by", "tenant"];
    let whose = ["--tenant", &tenants[0], "--tenant", &tenants[1]];
    let plot = rig.ok(&with(&[&asked[..], &whose, &["--plot"]].concat()));
    for tenant in &tenants {
        let own = rig.json(&with(&[&asked[..], &["--tenant", tenant, "--json"]].concat()));
        let own = quantities(&own);
        let most = *own.iter().max().unwrap();
        // A seventh of the greatest is a step; less than nothing is none.
        let level = |quantity: &u64| "▁▂▃▄▅▆▇█".chars().nth((quantity * 7).div_ceil(most) as usize).unwrap();
        let drawn: String = own.iter().map(level).collect();
        assert!(drawn.contains('█') && own.len() == 4, "{own:?}");
        assert_eq!(line(&plot, tenant), format!("{tenant} {drawn} {most}"), "{plot}");
    }
}

#[test]
fn events_are_paged_chosen_by_verdict_and_exported() {
    let rig = rig();
    let four = rig.json(&counted(&["--limit", "4", "--json"]));
    let first = rig.json(&counted(&["--limit", "2", "--json"]));
    let cursor: String = field(&first, "/next");
    let second = rig.json(&counted(&["--limit", "2", "--cursor", &cursor, "--json"]));
    assert_eq!([ids(&first), ids(&second)].concat(), ids(&four));
    assert!(four["events"].as_array().unwrap().iter().all(|event| event["verdict"] == "counted"), "{four}");

    let output = rig.run(&counted(&["--limit", "2", "--csv"]));
    let (csv, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let lines = lines(&csv);
    assert_eq!(lines[0], "time,arrived_at,stored_at,tenant,type,id,source,verdict,reason,field,detail,data");
    assert_eq!(lines.len(), 3);
    let source: String = field(&first, "/events/0/source");
    for (line, id) in lines[1..].iter().zip(ids(&first)) {
        let cells = format!("\"{BUSY}\",\"http.request\",\"{id}\",\"{source}\",counted,\"\",\"\",\"\",");
        assert!(line.starts_with("2015-05-") && line.contains(&cells), "{line}");
    }
    assert!(said.contains(&format!("there are more: --cursor {cursor}")), "{said}");
    let none = rig.run(&with(&["events", "--tenant", BUSY, "--verdict", "unmatched,rejected"]));
    assert!(String::from_utf8_lossy(&none.stderr).contains("no such events"));
}

#[test]
fn days_and_months_are_those_of_the_zone() {
    let rig = rig();
    let zone = ["--zone", "Europe/Berlin", "--json"];
    let day = ["--from", "2015-05-18", "--to", "2015-05-19"];
    let asked = |words: &[&str]| rig.json(&[words, &zone].concat());
    let expected = (json!("2015-05-17T22:00:00Z"), json!("2015-05-18T22:00:00Z"));
    let span = |answer: &Value| (answer["from"].clone(), answer["to"].clone());
    assert_eq!(span(&asked(&[&["query", "requests"], &day[..]].concat())), expected);
    assert_eq!(span(&asked(&[&["top", "requests"], &day[..]].concat())), expected);
    let month = asked(&["top", "requests", "--month", "2015-05"]);
    assert_eq!(span(&month), (json!("2015-04-30T22:00:00Z"), json!("2015-05-31T22:00:00Z")));
    let oldest = asked(&[&["events", "--oldest-first", "--limit", "1"], &day[..]].concat());
    let oldest: String = field(&oldest, "/events/0/time");
    assert!(oldest.starts_with("2015-05-17T22:"), "{oldest}");
}

#[test]
fn top_is_compared_unless_it_is_not_to_be() {
    let rig = rig();
    let compared = rig.json(&top(&["--json"]));
    let alone = rig.json(&top(&["--no-compare", "--json"]));
    assert_eq!(compared["previous_from"], "2015-05-17T00:00:00Z");
    assert!(compared["total"]["change"].is_string(), "{compared}");
    assert_eq!((&alone["previous_from"], &alone["total"]["change"]), (&Value::Null, &Value::Null));
    assert_eq!(alone["total"]["quantity"], compared["total"]["quantity"]);
    let heads = |table: String| line(&table, "tenant");
    assert_eq!(
        heads(rig.ok(&top(&[]))),
        "# tenant requests (requests) share % before change change % events"
    );
    assert_eq!(heads(rig.ok(&top(&["--no-compare"]))), "# tenant requests (requests) share % events");
    let total = line(&rig.ok(&top(&["--no-compare"])), "total");
    assert_eq!(total, "total 2,893 100 2,893");
}

#[test]
fn meters_are_exported_with_their_versions() {
    let rig: Rig = rig();
    let csv = rig.ok(&["meters", "--days", "36600", "--csv"]);
    let rows = lines(&csv);
    assert_eq!(rows[0], "meter,version,aggregation,unit,event_type,events,tenants,first,last,without_value");
    assert_eq!(
        rows[1],
        "\"egress_bytes\",1,sum,\"byte\",\"http.request\",10000,1753,2015-05-17T00:00:00Z,2015-05-20T00:00:00Z,0"
    );
    assert_eq!(rig.ok(&["meters", "list", "--days", "36600", "--csv"]), csv);
    let csv = rig.ok(&["meters", "show", "egress_bytes", "--csv"]);
    let rows = lines(&csv);
    assert_eq!((rows[0], rows.len()), ("version,effective_from,definition,origin,written_at", 2));
    let definition = "\"{\"\"name\"\":\"\"egress_bytes\"\",";
    assert!(rows[1].starts_with(&format!("1,,{definition}")) && rows[1].contains(",\"file\","), "{csv}");
    rig.fails(2, &["meters", "--csv", "--json"]);
}
