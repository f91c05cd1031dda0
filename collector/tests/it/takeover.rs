//! The log is away: the spool takes over, fills, drains, and holds exactly what was taken.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rentroll_collector::http::config::HttpConfig;
use rentroll_collector::spool::Spool;
use rentroll_collector::spool::drain::Drain;
use rentroll_collector::spool::intake::Ack;
use rentroll_engines::health::Health;
use rentroll_engines::log::embedded::{EmbeddedConfig, EmbeddedLog};
use rentroll_engines::log::late::LateLog;
use rentroll_engines::log::{LogError, Record, SharedLog};
use rentroll_schemas::Event;
use rentroll_schemas::topics::Topic;
use rentroll_testing::wait_until;

use crate::rig::{JSON, Rig, event, events, read};

/// A log that cannot be opened before `there` is set.
fn late(dir: &Path, there: &Arc<AtomicBool>) -> SharedLog {
    let (dir, there) = (dir.to_owned(), there.clone());
    LateLog::open(2, Duration::ZERO, move || {
        if !there.load(Ordering::Relaxed) {
            return Err(LogError::Unavailable("as a test".into()));
        }
        Ok(Arc::new(EmbeddedLog::open(EmbeddedConfig { partitions: 2, ..EmbeddedConfig::new(&dir) })?))
    })
    .unwrap()
}

fn ids(records: &[Record]) -> BTreeSet<u64> {
    records.iter().map(|record| Event::from_json(&record.value).unwrap().id.parse().unwrap()).collect()
}

fn part(health: &Health, name: &str) -> (bool, String) {
    let report = health.report();
    let part = report.iter().find(|part| part.part == name).unwrap();
    (part.ready, part.detail.clone())
}

#[test]
fn what_was_taken_while_the_log_was_away_is_drained_once_and_then_the_way_is_direct() {
    for ack in [Ack::Log, Ack::Spool] {
        let dir = tempfile::tempdir().unwrap();
        let there = Arc::new(AtomicBool::new(false));
        let log = late(&dir.path().join("log"), &there);
        let spool = Spool::open(dir.path().join("spool"), 64 << 20).unwrap();
        let mut rig = Rig::with(dir, HttpConfig::default(), log, Some((spool.clone(), ack)));
        let secret = rig.source("edge");
        let drain = {
            let _within = rig.runtime().enter();
            Drain::start(spool.clone(), rig.log.clone(), &rig.health).unwrap()
        };
        for batch in 0..20 {
            let answer =
                rig.post(&secret, &[JSON], events("edge", "acme", batch * 50..batch * 50 + 50).as_bytes());
            assert_eq!(answer.status, 204, "{}", answer.body);
        }
        assert_eq!(rig.post(&secret, &[JSON], event("other", 1, "acme").as_bytes()).status, 403);
        assert_eq!(spool.waiting().unwrap(), 1_001);
        assert_eq!(spool.has_taken_over(), ack == Ack::Log);
        let unready = wait_until(Duration::from_secs(5), || {
            let (ready, detail) = part(&rig.health, "collector/spool/usage");
            (!ready && detail.contains("as a test")).then_some(())
        });
        assert!(unready.is_some(), "{:?}", rig.health.report());
        there.store(true, Ordering::Relaxed);
        let drained = wait_until(Duration::from_secs(20), || (spool.waiting().unwrap() == 0).then_some(()));
        assert!(drained.is_some(), "{} still wait", spool.waiting().unwrap());
        let usage = rig.read(Topic::Usage);
        assert_eq!((usage.len(), ids(&usage)), (1_000, (0..1_000).collect()));
        assert_eq!(rig.read(Topic::Rejects).len(), 1);
        let direct = wait_until(Duration::from_secs(5), || (!spool.has_taken_over()).then_some(()));
        assert!(direct.is_some());
        let end = spool.bytes();
        assert_eq!(rig.post(&secret, &[JSON], event("edge", 1_000, "acme").as_bytes()).status, 204);
        assert_eq!(spool.bytes() > end, ack == Ack::Spool);
        wait_until(Duration::from_secs(5), || (rig.read(Topic::Usage).len() == 1_001).then_some(())).unwrap();
        rig.runtime().block_on(drain.stop()).unwrap();
    }
}

#[test]
fn a_full_spool_says_so_and_holds_what_it_took_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let there = Arc::new(AtomicBool::new(false));
    let log = late(&dir.path().join("log"), &there);
    let spool = Spool::open(dir.path().join("spool"), 1 << 20).unwrap();
    let mut rig = Rig::with(dir, HttpConfig::default(), log, Some((spool.clone(), Ack::Log)));
    let secret = rig.source("edge");
    let mut taken = 0;
    let refused = loop {
        let answer = rig.post(&secret, &[JSON], events("edge", "acme", taken..taken + 100).as_bytes());
        match answer.status {
            204 => taken += 100,
            _ => break answer,
        }
        assert!(taken < 1_000_000, "1 MiB never filled");
    };
    assert!(taken > 1_000, "only {taken} fit in 1 MiB");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")), "{}", refused.body);
    assert!(refused.body.contains("collector.spool.bytes_max"), "{}", refused.body);
    let (ready, detail) = part(&rig.health, "collector/http");
    assert!(!ready && detail.contains("turned away"), "{detail}");

    // The process ends and begins again; then the log is back.
    let path = rig.dir.path().join("spool");
    let log_path = rig.dir.path().join("log");
    let keep = tempfile::tempdir().unwrap();
    drop(spool);
    std::fs::rename(rig.dir.path(), keep.path().join("moved")).unwrap();
    let moved = |path: &Path| keep.path().join("moved").join(path.file_name().unwrap());
    let (path, log_path) = (moved(&path), moved(&log_path));
    drop(rig);
    there.store(true, Ordering::Relaxed);
    let log = late(&log_path, &there);
    wait_until(Duration::from_secs(10), || log.lag("g", Topic::Usage).ok()).unwrap();
    let spool = Spool::open(path, 1 << 20).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut drain = {
        let _within = runtime.enter();
        Drain::start(spool.clone(), log.clone(), &Health::default()).unwrap()
    };
    runtime.block_on(drain.finish()).unwrap();
    let usage = read(&log, Topic::Usage);
    // A batch that was refused may have been taken in part; nothing that was taken is missing.
    assert!(ids(&usage).is_superset(&(0..taken).collect()));
    assert!(usage.len() as u64 <= taken + 100, "{} of {taken}", usage.len());
    assert!(spool.bytes() < 256 << 10, "{} bytes are kept of an empty spool", spool.bytes());
    runtime.block_on(drain.stop()).unwrap();
}

#[test]
fn without_a_spool_a_log_that_is_away_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let log = late(&dir.path().join("log"), &Arc::default());
    let mut rig = Rig::with(dir, HttpConfig::default(), log, None);
    let secret = rig.source("edge");
    let answer = rig.post(&secret, &[JSON], event("edge", 1, "acme").as_bytes());
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{}", answer.body);
    assert!(answer.body.contains("as a test"), "{}", answer.body);
    assert!(!part(&rig.health, "collector/http").0);
}
