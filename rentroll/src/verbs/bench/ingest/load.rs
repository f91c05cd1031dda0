//! The load generator: HTTP/1.1 over connections that are kept, as fast as answers come or at a steady rate.
//!
//! Its own cost must be small beside the server's: bodies are made beforehand, and before each request only the
//! events' ids are written over. At a steady rate a request's latency counts from when it was due, so that a
//! server that stalls pays for every request that it kept waiting. Latencies are kept as they are, one number
//! each, so that percentiles are exact.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::verbs::bench::events::{Generator, Shape};
use crate::verbs::bench::process::{Clock, Cost};

/// What of a UUID is written over: its last group.
const ID_DIGITS: usize = 12;
/// Where that begins, behind `"id":"`.
const ID_OFFSET: usize = 24;
/// After an answer that says *later*, a client waits this long.
const LATER: Duration = Duration::from_millis(20);
/// Of an answer, before it is taken to be none of HTTP.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What to send, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct LoadSpec {
    pub(super) address: SocketAddr,
    pub(super) path: String,
    /// Of each request, beside length and host.
    pub(super) headers: Vec<(String, String)>,
    /// Events of a request.
    pub(super) batch: u64,
    pub(super) connections: u32,
    /// Latencies are taken for so long…
    pub(super) seconds: f64,
    /// …after this.
    pub(super) warm_up_seconds: f64,
    /// Requests per second, of all connections; without it each sends when its last one was answered.
    pub(super) requests_per_second: Option<f64>,
    /// Of the events.
    pub(super) shape: Shape,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct LoadAnswer {
    /// Events that were answered with 2xx, from the first to the last request.
    pub(super) events: u64,
    /// Answers by status.
    pub(super) answers: BTreeMap<u16, u64>,
    /// Of the requests after the warm-up.
    pub(super) latency: Latency,
    /// The load generator's own.
    pub(super) cost: Cost,
}

/// Percentiles, µs.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Latency {
    pub(super) p50_us: u32,
    pub(super) p99_us: u32,
    pub(super) max_us: u32,
}

impl Latency {
    /// Of all of them.
    pub(super) fn of(mut latencies_us: Vec<u32>) -> Self {
        latencies_us.sort_unstable();
        // The smallest that at least that share does not exceed.
        let at = |share: usize| {
            let rank = (latencies_us.len() * share).div_ceil(100).max(1);
            latencies_us.get(rank - 1).copied().unwrap_or_default()
        };
        Latency { p50_us: at(50), p99_us: at(99), max_us: at(100) }
    }
}

/// The load generator's process.
pub(in crate::verbs::bench) async fn part_main(spec: LoadSpec) -> anyhow::Result<LoadAnswer> {
    let spec = Arc::new(spec);
    let ids = Arc::new(AtomicU64::new(0));
    let mut bodies = Vec::new();
    for number in 0..spec.connections {
        bodies.push(Body::new(&spec, u64::from(number)));
    }
    let clock = Clock::start();
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (number, body) in bodies.into_iter().enumerate() {
        let client =
            Client { spec: Arc::clone(&spec), ids: Arc::clone(&ids), number: number as u64, body, started };
        tasks.spawn(client.run());
    }
    let mut sum = Seen::default();
    while let Some(task) = tasks.join_next().await {
        let seen = task.context("a connection of the load generator broke off")??;
        sum.events += seen.events;
        sum.latencies_us.extend(seen.latencies_us);
        for (status, count) in seen.answers {
            *sum.answers.entry(status).or_default() += count;
        }
    }
    let cost = clock.cost();
    let Seen { events, answers, latencies_us } = sum;
    Ok(LoadAnswer { events, answers, latency: Latency::of(latencies_us), cost })
}

/// A request, and where the ids are in it.
struct Body {
    bytes: Vec<u8>,
    ids: Vec<usize>,
}

impl Body {
    /// A batch of its own for each connection: other tenants, other numbers.
    fn new(spec: &LoadSpec, number: u64) -> Self {
        let shape = Shape { events: spec.batch, seed: spec.shape.seed + number, ..spec.shape.clone() };
        let mut generator = Generator::new(&shape);
        let mut json = b"[".to_vec();
        let mut ids = Vec::new();
        loop {
            let begin = json.len();
            if generator.next(&mut json).is_none() {
                break;
            }
            let key = br#""id":""#;
            let found = json[begin..].windows(key.len()).position(|window| window == key).unwrap_or_default();
            ids.push(begin + found + key.len() + ID_OFFSET);
            json.push(b',');
        }
        json.pop();
        json.push(b']');
        let mut head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n",
            spec.path,
            spec.address,
            json.len()
        );
        for (name, value) in &spec.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let ids = ids.into_iter().map(|at| at + head.len()).collect();
        let mut bytes = head.into_bytes();
        bytes.append(&mut json);
        Body { bytes, ids }
    }

    /// Gives every event an id that no other has.
    fn renew(&mut self, ids: &AtomicU64) {
        let first = ids.fetch_add(self.ids.len() as u64, Ordering::Relaxed);
        for (number, at) in (first..).zip(&self.ids) {
            let mut rest = number;
            for digit in self.bytes[*at..*at + ID_DIGITS].iter_mut().rev() {
                *digit = b"0123456789abcdef"[(rest & 0xf) as usize];
                rest >>= 4;
            }
        }
    }
}

#[derive(Default)]
struct Seen {
    events: u64,
    answers: BTreeMap<u16, u64>,
    latencies_us: Vec<u32>,
}

struct Client {
    spec: Arc<LoadSpec>,
    ids: Arc<AtomicU64>,
    number: u64,
    body: Body,
    started: Instant,
}

impl Client {
    async fn run(mut self) -> anyhow::Result<Seen> {
        let mut stream = TcpStream::connect(self.spec.address)
            .await
            .with_context(|| format!("cannot connect to {}", self.spec.address))?;
        stream.set_nodelay(true)?;
        let warm_up = Duration::from_secs_f64(self.spec.warm_up_seconds);
        let end = warm_up + Duration::from_secs_f64(self.spec.seconds);
        let mut seen = Seen::default();
        let mut answer = Vec::with_capacity(4096);
        for turn in 0_u64.. {
            let due = match self.spec.requests_per_second {
                None => self.started.elapsed(),
                Some(rate) => {
                    let request = turn * u64::from(self.spec.connections) + self.number;
                    Duration::from_secs_f64(request as f64 / rate)
                }
            };
            if due >= end || self.started.elapsed() >= end {
                break;
            }
            tokio::time::sleep_until((self.started + due).into()).await;
            self.body.renew(&self.ids);
            stream.write_all(&self.body.bytes).await.context("the server closed the connection")?;
            let status = read_answer(&mut stream, &mut answer).await?;
            *seen.answers.entry(status).or_default() += 1;
            match status {
                200..300 => seen.events += self.spec.batch,
                429 | 503 => tokio::time::sleep(LATER).await,
                _ => anyhow::bail!("answered with {status}: {}", String::from_utf8_lossy(&answer)),
            }
            if due >= warm_up {
                let latency = self.started.elapsed().saturating_sub(due).as_micros();
                seen.latencies_us.push(u32::try_from(latency).unwrap_or(u32::MAX));
            }
        }
        Ok(seen)
    }
}

/// Reads one answer to its end; the body stays in `answer`.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> anyhow::Result<u16> {
    answer.clear();
    let mut head_end = None;
    loop {
        let head_end = match head_end {
            Some(at) => at,
            None => match answer.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(at) => *head_end.insert(at + 4),
                None => {
                    more(stream, answer).await?;
                    continue;
                }
            },
        };
        let head = parse_head(&answer[..head_end])?;
        let body = &answer[head_end..];
        let complete = match head.length {
            Some(length) => body.len() >= length,
            None => body.ends_with(b"0\r\n\r\n"),
        };
        if complete {
            answer.drain(..head_end);
            return Ok(head.status);
        }
        more(stream, answer).await?;
    }
}

async fn more(stream: &mut TcpStream, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    let read = stream.read_buf(answer).await.context("the server closed the connection")?;
    anyhow::ensure!(read > 0, "the server closed the connection in the middle of an answer");
    anyhow::ensure!(answer.len() <= ANSWER_BYTES_MAX, "an answer of more than {ANSWER_BYTES_MAX} bytes");
    Ok(())
}

struct Head {
    status: u16,
    /// Of the body; `None` if it comes in chunks.
    length: Option<usize>,
}

fn parse_head(head: &[u8]) -> anyhow::Result<Head> {
    let text = std::str::from_utf8(head).context("an answer's head is not UTF-8")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("not an answer of HTTP: {text}"))?;
    let mut length = Some(0);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse().context("an answer's length is no number")?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            length = None;
        }
    }
    Ok(Head { status, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(address: SocketAddr) -> LoadSpec {
        LoadSpec {
            address,
            path: "/v1/events".into(),
            headers: vec![("authorization".into(), "Bearer x".into())],
            batch: 3,
            connections: 2,
            seconds: 0.2,
            warm_up_seconds: 0.0,
            requests_per_second: Some(100.0),
            shape: Shape {
                events: 0,
                tenants: 10,
                zipf: 1.0,
                minutes: 1,
                ends_at_ms: 1_700_000_000_000,
                seed: 1,
            },
        }
    }

    #[test]
    fn percentiles_are_exact() {
        let latency = Latency::of((1..=200).rev().collect());
        assert_eq!((latency.p50_us, latency.p99_us, latency.max_us), (100, 198, 200));
        assert_eq!(Latency::of(vec![7]).p99_us, 7);
        assert_eq!(Latency::of(Vec::new()).p99_us, 0);
    }

    #[test]
    fn every_event_of_every_request_has_an_id_of_its_own() {
        let spec = spec("127.0.0.1:1".parse().unwrap());
        let ids = AtomicU64::new(0);
        let mut seen = std::collections::HashSet::new();
        for connection in 0..2 {
            let mut body = Body::new(&spec, connection);
            for _ in 0..3 {
                body.renew(&ids);
                let text = String::from_utf8(body.bytes.clone()).unwrap();
                let (head, json) = text.split_once("\r\n\r\n").unwrap();
                assert!(head.contains(&format!("content-length: {}", json.len())));
                let events: Vec<&serde_json::value::RawValue> = serde_json::from_str(json).unwrap();
                for event in events {
                    let event = rentroll_schemas::Event::from_json(event.get().as_bytes()).unwrap();
                    assert!(seen.insert(event.id.into_owned()));
                }
            }
        }
        assert_eq!(seen.len(), 18);
    }

    /// Against a real server, one request at a time: chunked and plain answers, a steady rate.
    #[tokio::test]
    async fn counts_what_is_answered_and_keeps_to_the_rate() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut bytes = Vec::new();
                    for turn in 0.. {
                        while !bytes.ends_with(b"}}]") {
                            if stream.read_buf(&mut bytes).await.unwrap() == 0 {
                                return;
                            }
                        }
                        bytes.clear();
                        let answer: &[u8] = match turn % 2 {
                            0 => b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok",
                            _ => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                        };
                        stream.write_all(answer).await.unwrap();
                    }
                });
            }
        });
        let answer = part_main(spec(address)).await.unwrap();
        assert_eq!(answer.answers.keys().copied().collect::<Vec<_>>(), [200, 202]);
        let requests: u64 = answer.answers.values().sum();
        assert!((15..=20).contains(&requests), "{requests} requests in 0.2 s at 100 a second");
        assert_eq!(answer.events, requests * 3);
    }
}
