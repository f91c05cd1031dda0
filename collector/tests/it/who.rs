//! Who may speak, and for whom.

use std::time::{Duration, Instant};

use chrono::Utc;
use rentroll_collector::http::config::HttpConfig;
use rentroll_schemas::reject::Reject;
use rentroll_schemas::token::Grant;
use rentroll_schemas::topics::Topic;

use crate::rig::{JSON, Rig, event};

#[test]
fn without_a_good_token_nobody_is_let_in() {
    let mut rig = Rig::new(HttpConfig::default());
    let body = event("api", 1, "acme");
    let good = rig.tenant("acme");
    let over = rig.token(Grant::Tenant { tenant: "acme".into() }, Some(Utc::now() - Duration::from_secs(1)));
    let forged = format!("{}E", &good[..good.len() - 1]);
    for (secret, said) in [
        ("", "is not `Bearer"),
        ("rr_t0_", "not known"),
        (&forged, "not known"),
        (&good.replace("rr_t0", "rr_t9"), "not known"),
        (&over, "expired"),
    ] {
        let answer = rig.post(secret, &[JSON], body.as_bytes());
        assert_eq!(answer.status, 401, "{secret}");
        assert!(answer.body.contains(said), "{}", answer.body);
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
    }
    let none = rentroll_testing::http::post(rig.address, "/v1/events", &[JSON], body.as_bytes()).unwrap();
    assert_eq!(none.status, 401);
    let basic = [JSON, ("authorization", "Basic YTpi")];
    assert_eq!(
        rentroll_testing::http::post(rig.address, "/v1/events", &basic, body.as_bytes()).unwrap().status,
        401
    );
    assert!(rig.read(Topic::Usage).is_empty() && rig.read(Topic::Rejects).is_empty());
    assert_eq!(rig.post(&good, &[JSON], body.as_bytes()).status, 204);
}

#[test]
fn a_revoked_token_stops_within_two_seconds() {
    let mut rig = Rig::new(HttpConfig::default());
    let secret = rig.tenant("acme");
    let body = event("api", 1, "acme");
    assert_eq!(rig.post(&secret, &[JSON], body.as_bytes()).status, 204);
    rig.revoke(&secret);
    let revoked_at = Instant::now();
    while rig.post(&secret, &[JSON], body.as_bytes()).status != 401 {
        assert!(revoked_at.elapsed() < Duration::from_secs(2), "still let in");
        std::thread::sleep(Duration::from_millis(50));
    }
    let answer = rig.post(&secret, &[JSON], body.as_bytes());
    assert!(answer.body.contains("revoked"), "{}", answer.body);
}

#[test]
fn nobody_speaks_for_another() {
    let mut rig = Rig::new(HttpConfig { reserved_sources: vec!["gateway".into()], ..HttpConfig::default() });
    let acme = rig.tenant("acme");
    let edge = rig.source("edge");
    let gone = rig.source("gone");
    rig.revoke(&gone);
    for (secret, source, subject, status) in [
        (&acme, "api", "acme", 204),
        (&acme, "api", "other", 403),
        // Sources that belong to somebody: configured, of a token, of a revoked token, reserved.
        (&acme, "web", "acme", 403),
        (&acme, "edge", "acme", 403),
        (&acme, "edge/eu", "acme", 403),
        (&acme, "gone", "acme", 403),
        (&acme, "gateway/1", "acme", 403),
        (&acme, "edges", "acme", 204),
        (&edge, "edge", "acme", 204),
        (&edge, "edge/eu", "other", 204),
        (&edge, "edges", "acme", 403),
        (&edge, "api", "acme", 403),
        (&edge, "/edge", "acme", 403),
    ] {
        let answer = rig.post(secret, &[JSON], event(source, 1, subject).as_bytes());
        assert_eq!(answer.status, status, "{source} for {subject}: {}", answer.body);
    }
    // Under one id each, four events: the source of one cannot hide another's.
    let keys: std::collections::BTreeSet<_> =
        rig.read(Topic::Usage).iter().map(|record| record.key).collect();
    assert_eq!(keys.len(), 4);
    assert_eq!(rig.read(Topic::Rejects).len(), 9);
}

#[test]
fn a_declared_backfill_may_be_old() {
    let mut rig = Rig::new(HttpConfig::default());
    let live = rig.source("edge");
    let backfill = rig.token(Grant::Source { source: "archive".into(), backfill: true }, None);
    let old = |source: &str| event(source, 1, "acme").replacen('{', r#"{"time":"2015-05-17T10:05:03Z","#, 1);
    assert_eq!(rig.post(&live, &[JSON], old("edge").as_bytes()).status, 400);
    assert_eq!(rig.post(&backfill, &[JSON], old("archive").as_bytes()).status, 204);
    assert_eq!(rig.read(Topic::Usage)[0].header("backfill"), Some("1"));
}

#[test]
fn who_only_reads_sends_nothing_and_who_manages_sends_under_a_name() {
    let mut rig = Rig::new(HttpConfig::default());
    let acme = rig.tenant("acme");
    for (grant, said) in [
        (Grant::Portal { tenant: "acme".into(), meters: vec![] }, "is a portal's: it reads usage"),
        (Grant::Admin { source: None }, "`rentroll tokens create --admin --source NAME`"),
        (Grant::Service { source: None }, "`rentroll tokens create --service --source NAME`"),
    ] {
        let secret = rig.token(grant, None);
        let answer = rig.post(&secret, &[JSON], event("api", 1, "acme").as_bytes());
        assert_eq!(answer.status, 403, "{}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["type"], "urn:rentroll:problem:forbidden");
        let detail = problem["detail"].as_str().unwrap();
        let id = rentroll_schemas::token::id_of(&secret).unwrap();
        assert!(detail.contains(said) && detail.contains(id), "{detail}");
    }
    assert!(rig.read(Topic::Usage).is_empty() && rig.read(Topic::Rejects).is_empty());
    let ops = rig.token(Grant::Admin { source: Some("ops".into()) }, None);
    let sync = rig.token(Grant::Service { source: Some("sync".into()) }, None);
    for (secret, source, subject, status) in [
        (&ops, "ops", "acme", 204),
        (&ops, "ops/1", "other", 204),
        (&ops, "sync", "acme", 403),
        (&sync, "sync", "other", 204),
        (&sync, "api", "other", 403),
        // Their names are kept from tenants.
        (&acme, "ops", "acme", 403),
        (&acme, "sync/1", "acme", 403),
    ] {
        let answer = rig.post(secret, &[JSON], event(source, 2, subject).as_bytes());
        assert_eq!(answer.status, status, "{source} for {subject}: {}", answer.body);
    }
    let old = event("ops", 3, "acme").replacen('{', r#"{"time":"2015-05-17T10:05:03Z","#, 1);
    assert_eq!(rig.post(&ops, &[JSON], old.as_bytes()).status, 400, "an admin's is no backfill");
    let rejects = rig.read(Topic::Rejects);
    let source = |record: &rentroll_engines::log::Record| {
        serde_json::from_slice::<Reject>(&record.value).unwrap().source
    };
    assert_eq!(rejects.iter().filter(|record| source(record) == "ops").count(), 2);
}
