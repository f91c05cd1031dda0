//! Events over HTTP into ClickHouse, with the real binary: each acknowledged event counts once, whatever is killed
//! or away in between.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rentroll_testing::http::{self, Answer};
use rentroll_testing::kafka::Broker;
use rentroll_testing::wait_until;

use crate::rig::{Rig, field};

const PATH: &str = "/v1/events";

fn secret(rig: &Rig, arguments: &[&str]) -> String {
    rig.ok(&[&["tokens", "create"], arguments].concat()).trim().to_owned()
}

/// Events `from..to` of 97 tenants; each has as many bytes as its number.
fn batch(from: u64, to: u64) -> String {
    let event = |n: u64| {
        format!(
            r#"{{"specversion":"1.0","id":"{n}","source":"edge","type":"http.request","subject":"tenant-{}","time":"{}","data":{{"bytes":{n}}}}}"#,
            n % 97,
            Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
        )
    };
    format!("[{}]", (from..to).map(event).collect::<Vec<_>>().join(","))
}

fn post(address: SocketAddr, secret: &str, body: &str) -> std::io::Result<Answer> {
    let bearer = format!("Bearer {secret}");
    http::post(
        address,
        PATH,
        &[("authorization", &bearer), ("content-type", "application/json")],
        body.as_bytes(),
    )
}

/// Sends `0..total` in batches of 50, each until it is acknowledged, as a client's library would.
fn send_all(address: SocketAddr, secret: &str, range: std::ops::Range<u64>) {
    for from in range.clone().step_by(50) {
        let body = batch(from, (from + 50).min(range.end));
        let acked = wait_until(Duration::from_secs(120), || match post(address, secret, &body) {
            Ok(answer) if answer.status == 204 => Some(()),
            Ok(answer) => {
                assert!(matches!(answer.status, 429 | 503), "{}: {}", answer.status, answer.body);
                None
            }
            Err(_) => None,
        });
        assert!(acked.is_some(), "never acknowledged from {from}");
    }
}

/// Aggregates what is there, and holds it against `0..total`.
fn holds_each_once(rig: &Rig, total: u64) {
    rig.ok(&["up", "--once"]);
    let sums: (u64, u64, String, String) = rig.query(
        "SELECT count(), uniqExact(id), toString(sum(toUInt64(id))), \
         assumeNotNull((SELECT toString(sumIf(total, meter = 'egress_bytes')) FROM usage_minute)) FROM events",
    );
    let sum = (total * (total - 1) / 2).to_string();
    assert_eq!(sums, (total, total, sum.clone(), sum));
    let books = rig.json(&["books", "--json"]);
    assert!(field::<bool>(&books, "/balanced"), "{books}");
}

#[test]
fn killed_in_mid_stream_every_acknowledged_event_counts_once() {
    let (rig, address) = Rig::receiving("");
    let secret = secret(&rig, &["--source", "edge"]);
    const TOTAL: u64 = 12_000;
    let senders: Vec<_> = (0..3)
        .map(|sender| {
            let secret = secret.clone();
            let share = TOTAL / 3;
            std::thread::spawn(move || send_all(address, &secret, sender * share..(sender + 1) * share))
        })
        .collect();
    // Killed at different steps of its life, until there is nothing left to send.
    let mut lives = 0;
    while !senders.iter().all(std::thread::JoinHandle::is_finished) {
        let running = rig.spawn(&["up"]);
        std::thread::sleep(Duration::from_millis(900 + lives * 130 % 700));
        running.kill();
        lives += 1;
        assert!(lives < 120, "never done");
    }
    for sender in senders {
        sender.join().unwrap();
    }
    assert!(lives > 1, "nothing was killed in mid-stream");
    holds_each_once(&rig, TOTAL);
}

#[test]
fn with_kafka_away_the_spool_takes_over_and_drains_exactly_what_was_taken() {
    let (mut rig, address) = Rig::receiving("");
    let mut broker = Broker::start().unwrap();
    rig.set("log.kind", "kafka");
    rig.set("log.kafka.brokers", &broker.address());
    rig.set("collector.spool.takeover_ms", "500");
    rig.ok(&["topics", "create"]);
    let secret = secret(&rig, &["--source", "edge"]);
    let running = rig.spawn(&["collect"]);
    send_all(address, &secret, 0..1_000);
    broker.kill();
    // In mid-stream; then the collector dies, too, and begins again with nobody to speak to.
    send_all(address, &secret, 1_000..3_000);
    running.kill();
    let running = rig.spawn(&["collect"]);
    let begun = Instant::now();
    send_all(address, &secret, 3_000..4_000);
    assert!(begun.elapsed() < Duration::from_secs(60), "without kafka it took {:?}", begun.elapsed());
    broker.restart().unwrap();
    send_all(address, &secret, 4_000..5_000);
    running.kill();
    holds_each_once(&rig, 5_000);
}

#[test]
fn tokens_and_send_work_from_end_to_end() {
    let (rig, address) = Rig::receiving("");
    let tenant = secret(&rig, &["--tenant", "acme", "--name", "their app", "--expires", "30d"]);
    let edge = secret(&rig, &["--source", "edge"]);
    let file = rig.path("tokens.toml");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(!kept.contains(&tenant) && !kept.contains(&tenant[12..]), "the secret is in the file");
    let listed = rig.json(&["tokens", "list", "--json"]);
    assert_eq!((listed[0]["tenant"].as_str(), listed[1]["source"].as_str()), (Some("acme"), Some("edge")));
    for wrong in [
        &["--tenant", "a", "--source", "b"][..],
        &[],
        &["--source", "a/b"],
        &["--tenant", "a", "--expires", "2000-01-01"],
    ] {
        rig.fails(2, &[&["tokens", "create"], wrong].concat());
    }

    let running = rig.spawn(&["up"]);
    wait_until(Duration::from_secs(30), || post(address, &edge, "[]").ok()).unwrap();
    let url = format!("http://{address}{PATH}");
    let send = |secret: &str, name: &str, events: &str| {
        std::fs::write(rig.path(name), events).unwrap();
        rig.run(&["send", rig.path(name).to_str().unwrap(), "--url", &url, "--token", secret, "--json"])
    };
    let lines: String =
        (0..700).map(|n| batch(n, n + 1).trim_matches(['[', ']']).to_owned() + "\n").collect();
    assert_eq!(send(&edge, "good.ndjson", &lines).status.code(), Some(0));
    assert_eq!(send(&edge, "again.json", &batch(0, 700)).status.code(), Some(0));
    let some = format!(
        "{}not json\n{}",
        &lines[..lines.find('\n').unwrap() + 1],
        r#"{"id":"1","source":"other","type":"t","subject":"a"}"#
    );
    let output = send(&edge, "some.ndjson", &some);
    assert_eq!(output.status.code(), Some(3));
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&outcome["accepted"], &outcome["rejected"]), (&1.into(), &2.into()), "{outcome}");
    let numbers: Vec<u64> =
        outcome["rejects"].as_array().unwrap().iter().map(|one| one["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [2, 3]);

    // From stdin, by the environment.
    let mut command = rig.command(&["send"]);
    command.env("RENTROLL_TOKEN", &tenant).env("RENTROLL_COLLECTOR_URL", &url).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    use std::io::Write as _;
    child.stdin.take().unwrap().write_all(br#"{"id":"own","source":"app","type":"http.request"}"#).unwrap();
    assert!(child.wait().unwrap().success());

    // Taken back, it opens nothing any more.
    let id = tenant.split('_').nth(1).unwrap();
    rig.ok(&["tokens", "revoke", id]);
    let revoked_at = Instant::now();
    while post(address, &tenant, "[]").unwrap().status != 401 {
        assert!(revoked_at.elapsed() < Duration::from_secs(2), "still let in");
    }
    let said =
        rig.fails(1, &["send", rig.path("some.ndjson").to_str().unwrap(), "--url", &url, "--token", &tenant]);
    assert!(said.contains("401") && said.contains("revoked"), "{said}");
    rig.fails(1, &["tokens", "revoke", "nobody"]);
    drop(running);
    rig.ok(&["up", "--once"]);
    let stored: (u64, u64) = rig.query("SELECT count(), countIf(tenant = 'acme' AND id = 'own') FROM events");
    assert_eq!(stored, (701, 1));
    let rejects = rig.json(&["rejects", "list", "--json"]);
    assert_eq!(rejects.as_array().unwrap().len(), 1, "what send found itself was not sent: {rejects}");
}

#[test]
fn tokens_of_every_kind_are_made_listed_and_taken_back() {
    let (rig, _) = Rig::receiving("");
    for (arguments, said) in [
        (&["--admin", "--expires", "12h"][..], "admin"),
        (&["--admin", "--source", "ops"], "admin (source ops)"),
        (&["--service"], "service"),
        (&["--service", "--source", "sync", "--name", "billing"], "service (source sync)"),
        (&["--portal", "acme", "--expires", "1h"], "portal acme"),
        (&["--portal", "acme", "--meters", "egress_bytes,requests"], "portal acme (egress_bytes, requests)"),
        (&["--source", "edge", "--backfill"], "source edge (backfill)"),
        (&["--tenant", "acme"], "tenant acme"),
    ] {
        let output = rig.run(&[&["tokens", "create"], arguments].concat());
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && told.contains(&format!(" for {said}, in ")), "{told}");
        assert!(output.stdout.starts_with(b"rr_"));
        let listed = rig.ok(&["tokens", "list"]);
        assert!(listed.contains(said), "{said}: {listed}");
    }
    let listed = rig.json(&["tokens", "list", "--json"]);
    let kinds: Vec<&str> =
        listed.as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["admin", "admin", "service", "service", "portal", "portal", "source", "tenant"]);
    assert_eq!(listed[1]["source"], "ops");
    assert_eq!(listed[5]["meters"], serde_json::json!(["egress_bytes", "requests"]));
    let portal = rig.json(&["tokens", "revoke", listed[5]["id"].as_str().unwrap(), "--json"]);
    assert_eq!((&portal["state"], &portal["tenant"]), (&"revoked".into(), &"acme".into()));
    for (wrong, said) in [
        (&["--admin", "--service"][..], "--service"),
        (&["--admin", "--tenant", "a"], "--tenant"),
        (&["--portal", "a", "--source", "b"], "--source"),
        (&["--portal", "a", "--tenant", "a"], "--portal"),
        (&["--tenant", "a", "--meters", "m"], "--meters"),
        (&["--tenant", "a", "--backfill"], "--backfill"),
        (&["--admin", "--source", "b", "--backfill"], "--backfill"),
        (&["--admin", "--source", "a/b"], "--source: `a/b` must be"),
        (&["--portal", ""], "--portal: `` must be"),
        (&["--tenant", &"x".repeat(600)], "x…` (600 bytes) must be 1 to 512 bytes"),
        (&["--tenant", "a", "--expires", "2000-01-01"], "--expires: 2000-01-01T00:00:00Z is over already"),
        (&["--portal", "a", "--meters", "a b"], "--meters: `a b` cannot be"),
        (&["--name", "nobody's"], "--tenant"),
    ] {
        let told = rig.fails(2, &[&["tokens", "create"], wrong].concat());
        assert!(told.contains(said), "{wrong:?}: {told}");
    }
    let told = rig.fails(1, &["tokens", "revoke", "nobody"]);
    assert!(told.contains("no token `nobody`") && told.contains("rentroll tokens list"), "{told}");
    assert_eq!(rig.json(&["tokens", "list", "--json"]).as_array().unwrap().len(), 8);
    let help = rig.ok(&["tokens", "create", "--help"]);
    assert!(help.contains("rentroll tokens create --portal acme --meters"), "{help}");
}

#[test]
fn a_collector_with_certificates_takes_from_those_who_show_one() {
    let (mut rig, address) = Rig::receiving(
        "[collector.http.tls]\ncert = \"server.pem\"\nkey = \"server.key\"\nclient_ca = \"root.pem\"\n",
    );
    let mut params = CertificateParams::new(vec!["root".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(rig.path("root.pem"), root.pem()).unwrap();
    for (name, host, usage) in [
        ("server", "localhost", ExtendedKeyUsagePurpose::ServerAuth),
        ("client", "edge", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        std::fs::write(rig.path(&format!("{name}.pem")), params.signed_by(&key, &root).unwrap().pem())
            .unwrap();
        std::fs::write(rig.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    std::fs::write(rig.path("events.json"), batch(0, 300)).unwrap();
    let running = rig.spawn(&["up"]);
    let path = |name: &str| rig.path(name).to_string_lossy().into_owned();
    let url = format!("https://localhost:{}{PATH}", address.port());
    let (events, ca, cert, key) =
        (path("events.json"), path("root.pem"), path("client.pem"), path("client.key"));
    let common = ["send", &events, "--url", &url, "--ca", &ca];
    rig.ok(&[&common[..], &["--cert", &cert, "--key", &key]].concat());
    let said = rig.fails(1, &[&common[..], &["--token", "rr_no_one"]].concat());
    assert!(said.contains("401"), "{said}");
    drop(running);
    holds_each_once(&rig, 300);
    rig.set("collector.http.tls.cert", "nowhere.pem");
    let said = rig.fails(1, &["up"]);
    assert!(said.contains("collector.http.tls.cert") && said.contains("nowhere.pem"), "{said}");
}

#[test]
fn a_log_of_cloudevents_speaks_for_what_is_listed_and_tenants_do_not() {
    let (rig, address) = Rig::receiving(
        "[[collector.sources]]\nname = \"web\"\nkind = \"log\"\npaths = [\"events.jsonl\"]\n\
         format = \"cloudevents\"\nsources = [\"billing\"]\n",
    );
    let event = |source: &str| {
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        format!(
            r#"{{"specversion":"1.0","id":"1","source":"{source}","type":"t","subject":"acme","time":"{time}"}}"#
        )
    };
    let lines = ["web/1", "billing/eu", "elsewhere"].map(event).join("\n");
    std::fs::write(rig.path("events.jsonl"), lines + "\n").unwrap();
    let tenant = secret(&rig, &["--tenant", "acme"]);
    let running = rig.spawn(&["up"]);
    wait_until(Duration::from_secs(30), || post(address, &tenant, "[]").ok()).unwrap();
    for (source, status) in [("billing/eu", 403), ("billing", 403), ("web", 403), ("api", 204)] {
        assert_eq!(post(address, &tenant, &event(source)).unwrap().status, status, "{source}");
    }
    drop(running);
    rig.ok(&["up", "--once"]);
    let sources: Vec<String> =
        rig.query("SELECT groupArray(source) FROM (SELECT source FROM events ORDER BY source)");
    assert_eq!(sources, ["api", "billing/eu", "web/1"]);
    let rejects = rig.json(&["rejects", "list", "--json"]);
    assert_eq!(rejects.as_array().unwrap().len(), 4, "{rejects}");
}

#[test]
fn without_tokens_there_is_no_open_door() {
    let rig = Rig::with_config(None);
    let said = rig.fails(2, &["collect"]);
    assert!(said.contains("rentroll tokens create"), "{said}");
    // A file of tokens that cannot be used lets nobody in, and is said at once.
    std::fs::write(rig.path("tokens.toml"), "[[tokens]]\nid = \"x\"\n").unwrap();
    let said = rig.fails(1, &["collect"]);
    assert!(said.contains("tokens.toml") && said.contains("hash"), "{said}");
}
