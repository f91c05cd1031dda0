//! What requests hold in memory is bounded until their answers are sent: while the log is slow, and while a client
//! does not read.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rentroll_collector::http::config::HttpConfig;
use rentroll_engines::log::{BoxFuture, EventLog, Lag, LogError, Record, SharedLog, Subscription};
use rentroll_schemas::topics::Topic;
use rentroll_testing::{http, wait_until};
use tokio::sync::watch;

use crate::rig::{JSON, Rig, event, events, open_log};

/// A log that acknowledges nothing before it may.
struct Slow {
    log: SharedLog,
    may: watch::Receiver<bool>,
}

impl EventLog for Slow {
    fn partitions(&self) -> u32 {
        self.log.partitions()
    }

    fn append(&self, topic: Topic, records: Vec<Record>) -> BoxFuture<'_, Result<(), LogError>> {
        let mut may = self.may.clone();
        Box::pin(async move {
            let _ = may.wait_for(|may| *may).await;
            self.log.append(topic, records).await
        })
    }

    fn subscribe(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Subscription>, LogError> {
        self.log.subscribe(group, topics)
    }

    fn lag(&self, group: &str, topic: Topic) -> Result<Vec<Lag>, LogError> {
        self.log.lag(group, topic)
    }

    fn arrivals(
        &self,
        group: &str,
        topic: Topic,
        places: &[(u32, u64)],
    ) -> Result<Vec<Option<i64>>, LogError> {
        self.log.arrivals(group, topic, places)
    }
}

/// A listener on a log that waits for the sender that is returned.
fn rig(bytes_in_flight_max: usize) -> (Rig, watch::Sender<bool>) {
    let dir = tempfile::tempdir().unwrap();
    let (let_go, may) = watch::channel(false);
    let log = Arc::new(Slow { log: open_log(&dir.path().join("log")), may });
    let config = HttpConfig { bytes_in_flight_max, ..HttpConfig::default() };
    (Rig::with(dir, config, log, None), let_go)
}

/// Sends `body`, and does not wait for the answer.
fn send(rig: &Rig, secret: &str, body: &str) -> TcpStream {
    let bearer = format!("Bearer {secret}");
    let request = http::request("POST", "/v1/events", &[JSON, ("authorization", &bearer)], body.as_bytes());
    let mut stream = TcpStream::connect(rig.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(&request).unwrap();
    stream
}

#[test]
fn what_waits_for_a_slow_log_fills_the_memory() {
    // Good events, and bad ones of which more is kept than came.
    let good = events("api", "acme", 0..400);
    let bad = format!("[{}]", vec!["1"; 400].join(","));
    for (body, limit, status) in [(&good, good.len() * 2, 204), (&bad, bad.len() * 100, 400)] {
        let (mut rig, let_go) = rig(limit);
        let secret = rig.tenant("acme");
        let mut waiting = Vec::new();
        let told = wait_until(Duration::from_secs(10), || {
            assert!(waiting.len() < 20, "nothing fills the memory");
            let mut stream = send(&rig, &secret, body);
            stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
            let answer = http::finish(&mut stream).ok();
            if answer.is_none() {
                waiting.push(stream);
            }
            answer
        });
        let told = told.unwrap();
        assert_eq!((told.status, told.header("retry-after")), (429, Some("1")), "{}", told.body);
        assert!(!waiting.is_empty(), "a request that is alone is taken, whatever it holds");
        let_go.send(true).unwrap();
        for mut stream in waiting {
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            assert_eq!(http::finish(&mut stream).unwrap().status, status);
        }
        assert_eq!(rig.post(&secret, &[JSON], body.as_bytes()).status, status);
    }
}

#[test]
fn a_client_that_does_not_read_its_answer_is_cut() {
    const EVENTS: u64 = 20_000;
    let config = HttpConfig {
        bytes_in_flight_max: 4 << 20,
        batch_events_max: EVENTS as usize,
        idle_timeout_ms: 3_000,
        ..HttpConfig::default()
    };
    let mut rig = Rig::new(config);
    let secret = rig.tenant("acme");
    // The answer names the wrong tenant of each: twice what the sockets' buffers hold.
    let packed = zstd::encode_all(events("api", &"x".repeat(500), 0..EVENTS).as_bytes(), 1).unwrap();
    let bearer = format!("Bearer {secret}");
    let headers = [JSON, ("authorization", &bearer), ("content-encoding", "zstd")];
    let mut deaf = TcpStream::connect(rig.address).unwrap();
    deaf.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    deaf.write_all(&http::request("POST", "/v1/events", &headers, &packed)).unwrap();
    let kept = wait_until(Duration::from_secs(60), || {
        let lag = rig.log.lag("test", Topic::Rejects).unwrap();
        (lag.iter().map(|lag| lag.end).sum::<u64>() == EVENTS).then_some(())
    });
    assert!(kept.is_some(), "never judged");
    let answered = Instant::now();
    std::thread::sleep(Duration::from_millis(700));

    // While its answer waits in memory others are told to come again; then it is gone.
    let one = event("api", 1, "acme");
    let answer = rig.post(&secret, &[JSON], one.as_bytes());
    assert_eq!(answer.status, 429, "its answer is taken account of nowhere");
    let over = wait_until(Duration::from_secs(20), || {
        (rig.post(&secret, &[JSON], one.as_bytes()).status == 204).then(|| answered.elapsed())
    });
    let over = over.expect("its answer is kept for ever");
    assert!(over < Duration::from_secs(8), "it was waited for {over:?}");
    let mut said = Vec::new();
    let _ = deaf.read_to_end(&mut said);
    assert!(said.starts_with(b"HTTP/1.1 403"), "{} bytes were sent", said.len());
    assert!(!said.ends_with(b"]}"), "all of it went out: {} bytes", said.len());
}
