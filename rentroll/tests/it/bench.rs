//! The benchmarks, small: every side runs, and what is stored adds up. Rates are not looked at.

use std::process::Command;

use rentroll_testing::kafka::Broker;
use serde_json::Value;

fn bench(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_rentroll"))
        .arg("bench")
        .args(arguments)
        .arg("--json")
        // A setting of the user's that would ruin it if it were not kept from the parts.
        .env("RENTROLL_DATA__DIR", "/dev/null/nowhere")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} ended with {}: {said}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(value: &Value, pointer: &str) -> f64 {
    value
        .pointer(pointer)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("no number at {pointer}: {value}"))
}

#[test]
fn topic_to_rows_adds_up_on_every_side() {
    let broker = Broker::shared();
    let report =
        bench(&["pipeline", "--events", "5000", "--tenants", "500", "--minutes", "30", "--brokers", &broker]);
    let sides: Vec<&str> =
        report["runs"].as_array().unwrap().iter().map(|run| run["side"].as_str().unwrap()).collect();
    assert_eq!(sides.len(), 4, "{sides:?}");
    assert_eq!(report["checks"][0]["differences"], Value::Array(Vec::new()));
    // The peer may have stored a block twice, and is then told so.
    for check in &report["checks"].as_array().unwrap()[..3] {
        assert!(check["sizes"].as_array().unwrap().len() >= 2);
    }
    assert_eq!(number(&report, "/alone/events"), 5_000.0);
    for step in ["consume", "judge", "dedup", "encode", "insert"] {
        assert!(number(&report, &format!("/alone/steps/{step}")) > 0.0);
        assert!(number(&report, &format!("/inside/{step}")) > 0.0);
    }
}

#[test]
fn compact_records_add_up_too() {
    let broker = Broker::shared();
    let report = bench(&[
        "pipeline",
        "--encoding",
        "compact",
        "--events",
        "20000",
        "--tenants",
        "500",
        "--brokers",
        &broker,
    ]);
    assert_eq!(report["checks"][0]["differences"], Value::Array(Vec::new()));
    // Fewer than one record for a hundred events, each of less than half its JSON.
    assert!(number(&report, "/filled/0") < 200.0);
    assert!(number(&report, "/filled/1") < 20_000.0 * 125.0);
}

#[test]
fn ingest_is_acknowledged_by_log_and_by_kafka() {
    let broker = Broker::shared();
    let report = bench(&[
        "ingest",
        "--alone",
        "--batches",
        "20",
        "--seconds",
        "0.3",
        "--connections",
        "4",
        "--brokers",
        &broker,
    ]);
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for run in runs {
        assert!(number(run, "/events") > 0.0, "{run}");
        let answers = run["answers"].as_object().unwrap();
        assert!(answers.keys().all(|status| status.starts_with('2')), "{run}");
        assert!(number(run, "/steady/1/p99_us") >= number(run, "/steady/1/p50_us"));
    }
}

#[test]
fn dedup_knows_what_it_was_told() {
    let report = bench(&["dedup", "--events", "200000", "--rows", "20000"]);
    assert_eq!(number(&report, "/filters/missed"), 0.0);
    assert_eq!(number(&report, "/store/rows"), 20_000.0);
    assert_eq!((number(&report, "/store/missed"), number(&report, "/store/lookup_missed")), (0.0, 0.0));
}
