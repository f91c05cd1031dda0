//! The API, as its clients see it.

mod alone;
mod answers;
mod described;
mod isolation;
mod limits;
mod one_door;

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rentroll_testing::http::{self, Answer};
use rentroll_testing::wait_until;
use serde_json::Value;

use crate::rig::{Rig, Running};

/// A server with two tenants, and tokens of all kinds.
pub(crate) struct Served {
    pub(crate) rig: Rig,
    running: Running,
    address: SocketAddr,
    pub(crate) admin: String,
    pub(crate) service: String,
    pub(crate) tenant: String,
    pub(crate) portal: String,
}

const METERS: &str = "
- {name: by_method, unit: request, event_type: http.request, aggregation: count, group_by: [method]}
- {name: methods, unit: method, event_type: http.request, aggregation: unique_count, value: method}
- {name: p95, unit: byte, event_type: http.request, aggregation: percentile, percentile: 95, value: bytes}
";

impl Served {
    /// With these events, as the trusted source `ops` sends them, counted.
    pub(crate) fn with(config: &str, events: &[Value]) -> Served {
        Served::on(Rig::receiving(config).0, events)
    }

    /// As [`Served::with`], on a rig that receives.
    pub(crate) fn on(rig: Rig, events: &[Value]) -> Served {
        let meters = std::fs::read_to_string(rig.path("meters.yaml")).unwrap() + METERS;
        std::fs::write(rig.path("meters.yaml"), meters).unwrap();
        let secret =
            |arguments: &[&str]| rig.ok(&[&["tokens", "create"], arguments].concat()).trim().to_owned();
        let admin = secret(&["--admin", "--source", "ops"]);
        let (service, tenant) = (secret(&["--service"]), secret(&["--tenant", "alpha"]));
        let portal = secret(&["--portal", "alpha", "--meters", "requests,by_method"]);
        let running = rig.spawn(&["up"]);
        let address = wait_until(Duration::from_secs(60), || {
            let said = running.said();
            // The last thing that is said at the start is where events are received.
            said.contains("ingest: ").then_some(())?;
            said.split("http:       http://").nth(1)?.split('/').next()?.parse().ok()
        });
        let address = address.unwrap_or_else(|| panic!("never began: {}", running.said()));
        let served = Served { rig, running, address, admin, service, tenant, portal };
        let body = Value::from(events.to_vec()).to_string();
        let sent = served.send("POST", "/api/v1/events", &served.admin, &body);
        assert!(matches!(sent.status, 204 | 400), "{sent:?}");
        let counted = wait_until(Duration::from_secs(60), || {
            let found = served.get(&format!("/api/v1/usage?meter=requests&{SPAN}"), &served.admin);
            let requests = events.iter().filter(|event| event["type"] == "http.request").count() as u64;
            (json(&found)["rows"][0]["events"] == requests).then_some(())
        });
        assert!(counted.is_some(), "never counted: {}", served.running.said());
        served
    }

    pub(crate) fn get(&self, path: &str, token: &str) -> Answer {
        self.send("GET", path, token, "")
    }

    pub(crate) fn send(&self, method: &str, path: &str, token: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("authorization", bearer.as_str())];
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        self.exchange(method, path, &headers, body)
    }

    pub(crate) fn exchange(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        http::exchange(self.address, &http::request(method, path, headers, body.as_bytes())).unwrap()
    }
}

/// Around all events.
pub(crate) const SPAN: &str = "from=2020-01-01&to=2100-01-01";

pub(crate) fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// An event of `tenant`, of today.
pub(crate) fn event(tenant: &str, source: &str, id: &str, kind: &str, data: Value) -> Value {
    let time = Utc::now() - TimeDelta::minutes(5);
    serde_json::json!({
        "specversion": "1.0", "id": id, "source": source, "type": kind, "subject": tenant,
        "time": time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true), "data": data,
    })
}

/// What tells whether answers to one request are the same: without what says when it was asked.
pub(crate) struct Timeless {
    began: DateTime<Utc>,
}

impl Timeless {
    /// From now on.
    pub(crate) fn new() -> Timeless {
        Timeless { began: Utc::now() }
    }

    /// A body without the request's id, and without times that are as far from now as those that a request leaves out.
    pub(crate) fn body(&self, body: &str) -> String {
        let (mut left, mut rest) = (String::new(), body);
        while let Some(first) = rest.chars().next() {
            let of_time = |letter: char| letter.is_ascii_digit() || "-:.TZ+".contains(letter);
            let length = rest.find(|letter| !of_time(letter)).unwrap_or(rest.len());
            match DateTime::parse_from_rfc3339(&rest[..length]) {
                Ok(time) if self.is_near(time.to_utc()) => left.push_str("(a time)"),
                _ if length == 0 => left.push(first),
                _ => left.push_str(&rest[..length]),
            }
            rest = &rest[length.max(first.len_utf8())..];
            if let Some(id) = rest.strip_prefix(REQUEST) {
                rest = &id[id.find(|letter: char| !letter.is_ascii_hexdigit()).unwrap_or(id.len())..];
            }
        }
        left
    }

    fn is_near(&self, time: DateTime<Utc>) -> bool {
        // How far back is looked where nothing is said.
        [0, 1, 3, 30].into_iter().any(|days| {
            let since = time - (self.began - TimeDelta::days(days));
            (TimeDelta::minutes(-2)..TimeDelta::hours(1)).contains(&since)
        })
    }
}

/// Before the id of a request in a problem.
const REQUEST: &str = "urn:rentroll:request:";

#[test]
fn what_is_left_of_a_body_is_all_but_when_it_was_asked() {
    let now = Utc::now();
    let timeless = Timeless { began: now };
    let said = |time: DateTime<Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    let old = said(now - TimeDelta::days(20));
    let body = format!("é{},{old} 2026-13 {REQUEST}0a1f\" 7", said(now - TimeDelta::days(3)));
    assert_eq!(timeless.body(&body), format!("é(a time),{old} 2026-13 \" 7"));
}

/// Percent-encoded for any place of an address.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
