//! Each limit, from outside: what is too much, too many or too slow is cut, and nothing else suffers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rentroll_collector::http::config::HttpConfig;
use rentroll_schemas::topics::Topic;
use rentroll_testing::http::{self, finish};

use crate::rig::{JSON, Rig, event, events};

/// The head of a request that says it will send `length` bytes.
fn head(secret: &str, length: &str) -> String {
    format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {secret}\r\n\
         content-type: application/json\r\n{length}\r\n\r\n"
    )
}

fn open(rig: &Rig, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(rig.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// How long until the other side closes, and what it said before.
fn until_closed(stream: &mut TcpStream) -> (Duration, String) {
    let begun = Instant::now();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    (begun.elapsed(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn sizes_are_bounded() {
    let config = HttpConfig {
        body_bytes_max: 2_000,
        decoded_bytes_max: 4_000,
        event_bytes_max: 1_024,
        batch_events_max: 20,
        ..HttpConfig::default()
    };
    let mut rig = Rig::new(config);
    let secret = rig.tenant("acme");
    let answer = rig.post(&secret, &[JSON], events("api", "acme", 0..30).as_bytes());
    assert_eq!(answer.status, 413, "{}", answer.body);
    // A length that is not stated is counted.
    let chunk = format!("[{}]", " ".repeat(1_500));
    let chunked = format!(
        "{}{:x}\r\n{chunk}\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n",
        head(&secret, "transfer-encoding: chunked"),
        chunk.len(),
        chunk.len()
    );
    assert_eq!(http::exchange(rig.address, chunked.as_bytes()).unwrap().status, 413);
    let zipped = |text: &str| zstd::encode_all(text.as_bytes(), 3).unwrap();
    let zstd = [JSON, ("content-encoding", "zstd")];
    let bomb = zipped(&" ".repeat(64 << 20));
    assert!(bomb.len() < 2_100, "{}", bomb.len());
    let answer = rig.post(&secret, &zstd, &zipped(&" ".repeat(5_000)));
    assert!(answer.status == 413 && answer.body.contains("after decompression"), "{}", answer.body);
    let answer = rig.post(&secret, &zstd, &zipped(&events("api", "acme", 0..21)));
    assert!(answer.status == 413 && answer.body.contains("21 events"), "{}", answer.body);
    assert!(rig.read(Topic::Usage).is_empty());
    assert_eq!(rig.post(&secret, &zstd, &zipped(&events("api", "acme", 0..20))).status, 204);
    assert_eq!(rig.read(Topic::Usage).len(), 20);
}

#[test]
fn a_bomb_is_cut_at_the_limit() {
    let mut rig = Rig::new(HttpConfig::default());
    let secret = rig.tenant("acme");
    let bomb = zstd::encode_all(std::io::repeat(b' ').take(2 << 30), 1).unwrap();
    assert!(bomb.len() < 4 << 20);
    let begun = Instant::now();
    let answer = rig.post(&secret, &[JSON, ("content-encoding", "zstd")], &bomb);
    assert_eq!(answer.status, 413, "{}", answer.body);
    assert!(begun.elapsed() < Duration::from_secs(10), "took {:?}", begun.elapsed());
}

#[test]
fn past_the_number_of_requests_others_are_told_to_come_again() {
    let mut rig = Rig::new(HttpConfig { requests_max: 2, ..HttpConfig::default() });
    let secret = rig.tenant("acme");
    let body = event("api", 1, "acme");
    let length = format!("content-length: {}", body.len());
    let mut waiting = [open(&rig, &head(&secret, &length)), open(&rig, &head(&secret, &length))];
    std::thread::sleep(Duration::from_millis(300));
    let answer = rig.post(&secret, &[JSON], body.as_bytes());
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{}", answer.body);
    for stream in &mut waiting {
        stream.write_all(body.as_bytes()).unwrap();
        assert_eq!(finish(stream).unwrap().status, 204);
    }
    assert_eq!(rig.post(&secret, &[JSON], body.as_bytes()).status, 204);
}

#[test]
fn bodies_share_a_bounded_memory() {
    let config = HttpConfig {
        body_bytes_max: 60_000,
        decoded_bytes_max: 60_000,
        bytes_in_flight_max: 100_000,
        ..HttpConfig::default()
    };
    let mut rig = Rig::new(config);
    let secret = rig.tenant("acme");
    let body = format!("{}{}", event("api", 1, "acme"), " ".repeat(59_000));
    let length = format!("content-length: {}", body.len());
    let mut waiting = open(&rig, &head(&secret, &length));
    std::thread::sleep(Duration::from_millis(300));
    let answer = rig.post(&secret, &[JSON], body.as_bytes());
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{}", answer.body);
    waiting.write_all(body.as_bytes()).unwrap();
    assert_eq!(finish(&mut waiting).unwrap().status, 204);
    assert_eq!(rig.post(&secret, &[JSON], body.as_bytes()).status, 204);
}

#[test]
fn past_the_number_of_connections_others_are_turned_away() {
    let mut rig = Rig::new(HttpConfig { connections_max: 2, ..HttpConfig::default() });
    let secret = rig.tenant("acme");
    let held = [open(&rig, "POST"), open(&rig, "POST")];
    std::thread::sleep(Duration::from_millis(300));
    let mut third = open(&rig, "");
    let answer = finish(&mut third).unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    drop(held);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(rig.post(&secret, &[JSON], event("api", 1, "acme").as_bytes()).status, 204);
}

#[test]
fn slow_and_silent_clients_are_cut() {
    let config = HttpConfig {
        head_timeout_ms: 400,
        body_timeout_ms: 400,
        body_bytes_per_second_min: 10_000,
        idle_timeout_ms: 1_500,
        ..HttpConfig::default()
    };
    let mut rig = Rig::new(config);
    let secret = rig.tenant("acme");
    let body = event("api", 1, "acme");

    // Half a head, then a byte now and then.
    let mut slow = open(&rig, "POST /v1/events HTTP/1.1\r\nx: ");
    let mut writer = slow.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(50));
            if writer.write_all(b"a").is_err() {
                return;
            }
        }
    });
    let (took, _) = until_closed(&mut slow);
    assert!(took < Duration::from_millis(1_500), "a slow head was waited for {took:?}");
    dripping.join().unwrap();

    // A connection that never says anything.
    let (took, _) = until_closed(&mut open(&rig, ""));
    assert!(took < Duration::from_millis(1_500), "a silent client was waited for {took:?}");

    // A body of which nothing comes, and one that comes at 100 bytes a second.
    for dripped in [false, true] {
        let mut slow = open(&rig, &head(&secret, "content-length: 2000"));
        let mut writer = slow.try_clone().unwrap();
        let dripping = std::thread::spawn(move || {
            for _ in 0..if dripped { 100 } else { 0 } {
                std::thread::sleep(Duration::from_millis(50));
                if writer.write_all(b"    5").is_err() {
                    return;
                }
            }
        });
        let (took, said) = until_closed(&mut slow);
        assert!(said.starts_with("HTTP/1.1 408"), "{said}");
        assert!(took < Duration::from_secs(2), "a slow body was waited for {took:?}");
        dripping.join().unwrap();
    }

    // Between requests a connection lives as long as the idle timeout, which is not that of the head.
    let request =
        head(&secret, &format!("content-length: {}", body.len())).replace("connection: close\r\n", "");
    let mut kept = open(&rig, &format!("{request}{body}"));
    std::thread::sleep(Duration::from_millis(900));
    kept.write_all(format!("{request}{body}").as_bytes()).unwrap();
    let (took, said) = until_closed(&mut kept);
    assert_eq!(said.matches("HTTP/1.1 204").count(), 2, "{said}");
    assert!((Duration::from_millis(1_200)..Duration::from_secs(4)).contains(&took), "idle for {took:?}");

    assert_eq!(rig.post(&secret, &[JSON], body.as_bytes()).status, 204);
}
