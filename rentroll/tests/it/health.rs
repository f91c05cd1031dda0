//! Ready means that it makes progress: true of an idle system for as long as it idles, false of one whose store
//! is gone, true again once it is back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use rentroll_testing::kafka::Broker;
use rentroll_testing::{free_port, http, wait_until};

use crate::rig::{Rig, field};

const PASSWORD: &str = "a password of the tests' own";

const LINE: &str = "10.0.0.1 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 5 \"-\" \"-\"\n";

/// Status and body; `None` while nobody listens.
fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

fn ready(port: u16) -> Option<bool> {
    get(port, "/readyz").map(|(status, _)| status == 200)
}

fn append(rig: &Rig, lines: usize) {
    let mut file = std::fs::File::options().create(true).append(true).open(rig.path("web.log")).unwrap();
    file.write_all(LINE.repeat(lines).as_bytes()).unwrap();
}

#[test]
fn an_idle_system_stays_ready_and_counts() {
    let (rig, port) = followed();
    append(&rig, 300);
    let _running = rig.spawn(&["up"]);
    let stored = wait_until(Duration::from_secs(90), || {
        let (_, metrics) = get(port, "/metrics")?;
        metrics.contains("rentroll_aggregator_events_total{verdict=\"stored\"} 300").then_some(metrics)
    });
    assert!(stored.is_some(), "300 lines were not counted: {:?}", get(port, "/metrics"));
    // Longer than a part with work to do may stand still.
    std::thread::sleep(rentroll_engines::health::STALL + Duration::from_secs(3));
    let (status, body) = get(port, "/readyz").unwrap();
    assert_eq!(status, 200, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body["lag"][0],
        serde_json::json!({"topic": "usage", "records": 0, "events": 0, "seconds": 0.0})
    );
    let lag = body["parts"].as_array().unwrap().iter().find(|part| part["part"] == "aggregator/lag").unwrap();
    assert_eq!(lag["detail"], "nothing waits");
    assert_eq!(get(port, "/healthz").unwrap().0, 200);
    let (_, metrics) = get(port, "/metrics").unwrap();
    for name in [
        "rentroll_collector_records_total{source=\"web\",verdict=\"accepted\"} 300",
        "rentroll_aggregator_lag_events{partition=\"0\",topic=\"usage\"} 0",
        "rentroll_aggregator_lag_seconds{partition=\"0\",topic=\"usage\"} 0",
        "rentroll_aggregator_committed_position{partition=\"0\",topic=\"usage\"}",
        "rentroll_aggregator_unfinished_batches 0",
        "rentroll_store_up 1",
        "rentroll_ready{part=\"aggregator\"} 1",
        "rentroll_tenant_events_per_minute{tenant=\"10.0.0.1\"} 60",
        "rentroll_tenant_limit_events_per_minute{tenant=\"10.0.0.1\"} 100",
        "rentroll_tenant_share_ratio{tenant=\"10.0.0.1\"} 1",
        "rentroll_build_info",
    ] {
        assert!(metrics.contains(name), "no {name} in {metrics}");
    }
}

/// Follows `web.log`; the port is that of its health.
fn followed() -> (Rig, u16) {
    let mut rig = Rig::following("web.log");
    let port = free_port().unwrap();
    rig.set("http.listen", &format!("127.0.0.1:{port}"));
    (rig, port)
}

/// Serves a store with a port and a password that are known beforehand.
fn store_of_its_own() -> (Rig, u16) {
    let mut server = Rig::following("none.log");
    let port = free_port().unwrap();
    server.set("store.listen", &format!("127.0.0.1:{port}"));
    server.set("store.password", PASSWORD);
    (server, port)
}

/// As [`followed`], into the store at `store_port`.
fn using(store_port: u16) -> (Rig, u16) {
    let (mut rig, port) = followed();
    rig.set("store.url", &format!("http://127.0.0.1:{store_port}"));
    rig.set("store.password", PASSWORD);
    (rig, port)
}

#[test]
fn a_store_that_is_away_at_the_start_is_waited_for() {
    let (server, store_port) = store_of_its_own();
    let (rig, port) = using(store_port);
    append(&rig, 300);
    // Who runs it once is told at once.
    let said = rig.fails(1, &["up", "--once"]);
    assert!(said.contains(&format!("the store at http://127.0.0.1:{store_port} does not answer")), "{said}");
    let running = rig.spawn(&["up"]);
    let unready = wait_until(Duration::from_secs(30), || get(port, "/readyz"));
    let (status, body) = unready.unwrap_or_else(|| panic!("nobody answers; it said: {}", running.said()));
    assert_eq!(status, 503, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["parts"][0]["part"], "store", "{body}");
    assert!(body["parts"][0]["detail"].as_str().unwrap().contains(&store_port.to_string()), "{body}");
    assert_eq!(get(port, "/healthz").unwrap().0, 200);
    assert!(get(port, "/metrics").unwrap().1.contains("rentroll_ready{part=\"store\"} 0"));
    let _serving = server.spawn(&["serve"]);
    let stored = wait_until(Duration::from_secs(90), || {
        let (_, metrics) = get(port, "/metrics")?;
        metrics.contains("rentroll_aggregator_events_total{verdict=\"stored\"} 300").then_some(())
    });
    assert!(stored.is_some(), "{:?}; it said: {}", get(port, "/metrics"), running.said());
    assert_eq!(ready(port), Some(true), "{:?}", get(port, "/readyz"));
}

#[test]
fn a_kafka_that_is_away_at_the_start_is_waited_for() {
    let mut broker = Broker::start().unwrap();
    let (mut rig, port) = followed();
    rig.set("log.kind", "kafka");
    rig.set("log.kafka.brokers", &broker.address());
    rig.ok(&["topics", "create"]);
    broker.kill();
    append(&rig, 300);
    // Both on one port: one after the other, each without Kafka first.
    for verb in ["collect", "aggregate"] {
        let running = rig.spawn(&[verb]);
        let unready =
            wait_until(Duration::from_secs(60), || get(port, "/readyz").filter(|(status, _)| *status == 503));
        let (_, body) =
            unready.unwrap_or_else(|| panic!("{verb} is ready without Kafka: {}", running.said()));
        assert!(body.contains("log"), "{verb} does not say what it waits for: {body}");
        broker.restart().unwrap();
        let counted = wait_until(Duration::from_secs(90), || {
            let (_, metrics) = get(port, "/metrics")?;
            let name = match verb {
                "collect" => "rentroll_collector_records_total{source=\"web\",verdict=\"accepted\"} 300",
                _ => "rentroll_aggregator_events_total{verdict=\"stored\"} 300",
            };
            metrics.contains(name).then_some(())
        });
        assert!(counted.is_some(), "{verb}: {:?}; it said: {}", get(port, "/metrics"), running.said());
        assert_eq!(ready(port), Some(true), "{:?}", get(port, "/readyz"));
        drop(running);
        broker.kill();
    }
}

#[test]
fn a_token_that_is_made_while_it_runs_opens_the_door() {
    let (rig, port) = followed();
    append(&rig, 1);
    let running = rig.spawn(&["up"]);
    assert!(wait_until(Duration::from_secs(60), || ready(port)).is_some(), "{}", running.said());
    // Where it listens unless it is told otherwise: saying so would open the door at once.
    let door = "127.0.0.1:8402".parse().unwrap();
    let post = |secret: &str| {
        let bearer = format!("Bearer {secret}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        http::post(door, "/v1/events", &headers, br#"{"id":"1","source":"app","type":"http.request"}"#)
    };
    assert!(post("nobody's").is_err(), "somebody listens before there is a token");
    let secret = rig.ok(&["tokens", "create", "--tenant", "acme"]);
    let taken = wait_until(Duration::from_secs(30), || post(secret.trim()).ok());
    assert_eq!(taken.map(|answer| answer.status), Some(204), "{}", running.said());
    assert!(running.said().contains("ingest:     http://127.0.0.1:8402/v1/events"), "{}", running.said());
}

#[test]
fn without_its_store_it_is_not_ready_and_loses_nothing() {
    let (server, store_port) = store_of_its_own();
    let (mut rig, port) = using(store_port);
    rig.set("aggregator.stall_seconds", "5");
    let serving = server.spawn(&["serve"]);
    // Many events a record, so that their number can only come from what the first batches held.
    append(&rig, 400);
    let running = rig.spawn(&["up"]);
    let begun = wait_until(Duration::from_secs(90), || ready(port).filter(|ready| *ready));
    assert!(begun.is_some(), "{:?}; it said: {}", get(port, "/readyz"), running.said());
    let stored = wait_until(Duration::from_secs(30), || {
        let (_, metrics) = get(port, "/metrics")?;
        metrics.contains("rentroll_aggregator_events_total{verdict=\"stored\"} 400").then_some(())
    });
    assert!(stored.is_some(), "400 lines were not stored: {:?}", get(port, "/metrics"));
    serving.kill();
    append(&rig, 400);
    let unready = wait_until(Duration::from_secs(30), || ready(port).filter(|ready| !ready));
    assert!(unready.is_some(), "still ready without a store");
    let (_, body) = get(port, "/readyz").unwrap();
    assert!(body.contains(&store_port.to_string()), "does not say what it waits for: {body}");
    // What waits shows in events and in seconds, and that it does not get less is a fault of its own.
    let stands = wait_until(Duration::from_secs(30), || {
        let body: serde_json::Value = serde_json::from_str(&get(port, "/readyz")?.1).ok()?;
        let lag = body["parts"].as_array()?.iter().find(|part| part["part"] == "aggregator/lag")?;
        let stands = lag["ready"] == false && lag["detail"].as_str()?.contains("has not moved for 5 s");
        let usage = &body["lag"][0];
        let (records, events) = (usage["records"].as_u64()?, usage["events"].as_u64()?);
        // About the 400: how many of them share a record is not the same twice.
        (stands && records <= 100 && (200..=800).contains(&events) && usage["seconds"].as_f64()? >= 5.0)
            .then_some(())
    });
    assert!(stands.is_some(), "{:?}", get(port, "/readyz"));
    let _serving = server.spawn(&["serve"]);
    let again = wait_until(Duration::from_secs(60), || ready(port).filter(|ready| *ready));
    assert!(again.is_some(), "{:?}; it said: {}", get(port, "/readyz"), running.said());
    drop(running);
    rig.ok(&["up", "--once"]);
    let books = rig.json(&["books", "--json"]);
    let stored: u64 =
        books["hours"].as_array().unwrap().iter().map(|hour| hour["stored"].as_u64().unwrap()).sum();
    assert_eq!((stored, field::<bool>(&books, "/balanced")), (800, true));
}

#[test]
fn one_whose_words_nobody_reads_any_more_stops_when_it_is_asked_to() {
    let rig = Rig::with_config(None);
    let mut command = rig.command(&["up"]);
    let mut running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut stderr = BufReader::new(running.stderr.take().unwrap());
    while !said.contains("http:") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    // As when its parent has gone.
    drop((stderr, running.stdout.take()));
    let asked = Command::new("kill").args(["-TERM", &running.id().to_string()]).status().unwrap();
    assert!(asked.success());
    let ended = wait_until(Duration::from_secs(60), || running.try_wait().unwrap());
    let _ = running.kill();
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
}
