//! Whatever a tenant asks here, it sees nothing of another: every path, and every parameter with names of the other tenant,
//! wildcards and pieces of SQL. As in the test of our own API, each request is made before there is anybody else, and again
//! after, and the answers are the same; all texts of the other tenant begin with [`MARK`], and its numbers are multiples of
//! [`PRIME`].

use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rentroll_testing::http::Answer;
use rentroll_testing::wait_until;
use serde_json::{Map, Value, json};

use crate::api::{Served, Timeless, encoded, event, json as read};

const MARK: &str = "bravo";
const PRIME: &str = "104729";
/// Requests of each path and token.
const ROUNDS: usize = 30;

const TEXTS: [&str; 14] = [
    "bravo-tenant",
    "bravo-id",
    "bravo",
    "bravo-method",
    "%",
    "*",
    "_",
    "' OR 1=1 --",
    "alpha' OR tenant = 'bravo-tenant",
    "{scope_tenant:String}",
    "\\'",
    "\0",
    "alpha,bravo-tenant",
    "alpha",
];

const QUERY: [&str; 11] = [
    "from",
    "to",
    "windowSize",
    "windowTimeZone",
    "subject",
    "groupBy",
    "filterGroupBy[method]",
    "filterGroupBy",
    "advancedMeterGroupByFilters",
    "filterCustomerId",
    "clientId",
];

/// Methods and paths with their parameters, or the fields of their body; `!` stands for a text in the path.
const PATHS: [(&str, &str, &[&str]); 12] = [
    ("GET", "v1/events", &["from", "to", "ingestedAtFrom", "ingestedAtTo", "id", "subject", "limit"]),
    ("GET", "v2/events", &["filter", "limit", "cursor"]),
    ("GET", "v1/meters", &["page", "pageSize", "order", "orderBy", "includeDeleted"]),
    ("GET", "v1/meters/by_method/query", &QUERY),
    ("POST", "v1/meters/by_method/query", &QUERY),
    ("POST", "v1/meters/egress_bytes/query", &QUERY),
    ("GET", "v1/portal/meters/by_method/query", &QUERY),
    ("GET", "v1/meters/egress_bytes/query", &["from", "to", "subject", "windowSize", "windowTimeZone"]),
    ("GET", "v1/meters/by_method/subjects", &["from", "to"]),
    ("GET", "v1/meters/by_method/group-by/method/values", &["from", "to"]),
    ("GET", "v1/subjects", &[]),
    ("GET", "v1/subjects/!", &[]),
];

/// With one's own events alone, stored and told so.
fn served() -> Served {
    let data = json!({ "method": "GET", "bytes": 1 });
    let own = |n: usize| event("alpha", "ops/alpha", &format!("a{n}"), "http.request", data.clone());
    let served = Served::with("", &[own(0), own(1), own(2)]);
    let made = served.send(
        "POST",
        "/openmeter/api/v1/subjects",
        &served.admin,
        &json!([{ "key": "alpha" }]).to_string(),
    );
    assert_eq!(made.status, 200, "{made:?}");
    let listed = || served.get("/openmeter/api/v1/events", &served.tenant);
    let stored = wait_until(Duration::from_secs(60), || {
        (listed().body.matches("\"storedAt\":").count() == 3).then_some(())
    });
    assert!(stored.is_some(), "{:?}", listed());
    served
}

/// The other tenant, and all that is its own.
fn comes_another(served: &Served) {
    let data = json!({ "method": "bravo-method", "bytes": PRIME, "bravo-key": "bravo-value" });
    let one =
        |n: usize| event("bravo-tenant", "ops/bravo", &format!("bravo-id{n}"), "http.request", data.clone());
    let mut events: Vec<Value> = (0..5).map(one).collect();
    // Some of another time.
    for event in &mut events[..2] {
        event["time"] = (Utc::now() - TimeDelta::days(20)).to_rfc3339_opts(SecondsFormat::Secs, true).into();
    }
    let sent = served.send("POST", "/api/v1/events", &served.admin, &Value::from(events).to_string());
    assert_eq!(sent.status, 204, "{sent:?}");
    let known = json!([{ "key": "bravo-tenant", "displayName": "bravo-name", "metadata": { "bravo-tag": "bravo-tagged" } }]);
    let made = served.send("POST", "/openmeter/api/v1/subjects", &served.admin, &known.to_string());
    assert_eq!(made.status, 200, "{made:?}");
    // There is something to be found, all of it.
    let all = |path: &str| served.get(&format!("/openmeter/api/{path}"), &served.service);
    let seen = wait_until(Duration::from_secs(60), || {
        let query = all("v1/meters/by_method/query?from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z");
        (read(&query)["data"][0]["value"] == 8).then_some(())
    });
    assert!(seen.is_some(), "never counted");
    for path in ["v1/events", "v1/subjects", "v1/meters/by_method/subjects"] {
        assert!(all(path).body.contains("bravo-tenant"), "{path}: {:?}", all(path));
    }
}

#[test]
fn no_request_of_a_tenant_brings_anything_of_another() {
    let timeless = Timeless::new();
    let served = served();
    let mut random = StdRng::seed_from_u64(20_261_128);
    let mut cases = Vec::new();
    for (method, path, parameters) in PATHS {
        for token in [&served.tenant, &served.portal] {
            for _ in 0..ROUNDS {
                cases.push((method, token, make(&mut random, method, path, parameters)));
            }
        }
    }
    // A page that goes on.
    for address in ["/openmeter/api/v2/events?limit=1", "/openmeter/api/v2/events?limit=2"] {
        let cursor = read(&served.get(address, &served.tenant))["nextCursor"].as_str().unwrap().to_owned();
        let address = format!("/openmeter/api/v2/events?cursor={cursor}");
        cases.push(("GET", &served.tenant, Asked { address, ..Asked::default() }));
    }
    let ask = |method: &str, token: &str, asked: &Asked| {
        let answer = served.send(method, &asked.address, token, &asked.body);
        let told = format!("{method} {} {}: {answer:?}", asked.address, asked.body);
        assert!(answer.status < 500, "{told}");
        (answer, told)
    };
    let same = |answer: &Answer| (answer.status, timeless.body(&without_cursor(&answer.body)));
    let alone: Vec<(u16, String)> =
        cases.iter().map(|(method, token, asked)| same(&ask(method, token, asked).0)).collect();
    comes_another(&served);
    let mut answered = 0;
    for ((method, token, asked), alone) in cases.iter().zip(&alone) {
        let (answer, told) = ask(method, token, asked);
        answered += usize::from(answer.status == 200);
        assert_eq!(same(&answer), *alone, "{told}");
        shows_nothing(asked, &answer, &told);
    }
    // Questions that are all refused would prove nothing.
    assert!(answered * 5 > cases.len(), "{answered} of {} were answered", cases.len());
    // A cursor of one who sees all, in the midst of the other's events, goes on among one's own.
    let first = read(&served.get("/openmeter/api/v2/events?limit=1", &served.admin));
    assert_eq!(first["items"][0]["event"]["subject"], "bravo-tenant", "{first}");
    let cursor = first["nextCursor"].as_str().unwrap();
    let asked = Asked { address: format!("/openmeter/api/v2/events?cursor={cursor}"), ..Asked::default() };
    let (answer, told) = ask("GET", &served.tenant, &asked);
    assert_eq!(answer.status, 200, "{told}");
    shows_nothing(&asked, &answer, &told);
}

fn shows_nothing(asked: &Asked, answer: &Answer, told: &str) {
    let mut left = answer.body.clone();
    if answer.status != 200 {
        // What a request has itself can be repeated in its refusal.
        for text in TEXTS.iter().filter(|text| asked.sent.contains(**text)) {
            left = left.replace(text, "");
        }
    }
    let repeats = answer.status != 200 && asked.sent.contains(MARK);
    assert!(repeats || !left.contains(MARK), "{told}");
    assert!(!left.contains(PRIME), "{told}");
}

/// A cursor has the time from which was looked where nothing was said; the pages themselves say what it leads to.
fn without_cursor(body: &str) -> String {
    match body.split_once("\"nextCursor\":\"") {
        Some((before, after)) => {
            format!("{before}\"nextCursor\":\"{}", &after[after.find('"').unwrap_or_default()..])
        }
        None => body.to_owned(),
    }
}

/// A request.
#[derive(Default)]
struct Asked {
    address: String,
    body: String,
    /// What was put into it.
    sent: String,
}

fn make(random: &mut StdRng, method: &str, path: &str, parameters: &[&str]) -> Asked {
    let mut asked = Asked::default();
    let inner = *TEXTS.choose(random).unwrap();
    if path.contains('!') {
        asked.sent.push_str(inner);
    }
    asked.address = format!("/openmeter/api/{}", path.replace('!', &encoded(inner)));
    let mut sign = '?';
    let mut fields = Map::new();
    for name in parameters {
        // Few requests have customers: there are none.
        let seldom = if matches!(*name, "filterCustomerId" | "cursor") { 0.95 } else { 0.6 };
        if random.random_bool(seldom) {
            continue;
        }
        let value = value(random, name);
        asked.sent.push_str(&value);
        if method == "POST" {
            let field = match *name {
                "subject" | "groupBy" | "filterCustomerId" => json!([value]),
                "filterGroupBy" | "advancedMeterGroupByFilters" => serde_json::from_str(&value).unwrap(),
                "filterGroupBy[method]" => continue,
                _ => json!(value),
            };
            fields.insert((*name).to_owned(), field);
        } else {
            asked.address.push_str(&format!("{sign}{}={}", encoded(name), encoded(&value)));
            sign = '&';
        }
    }
    if method == "POST" {
        asked.body = Value::Object(fields).to_string();
    }
    asked
}

fn value(random: &mut StdRng, name: &str) -> String {
    let text = *TEXTS.choose(random).unwrap();
    let usual: &[&str] = match name {
        "from" | "ingestedAtFrom" => &["2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z"],
        "to" | "ingestedAtTo" => &["2100-01-01T00:00:00Z"],
        "limit" => &["1", "100"],
        "cursor" => &["7b7d", "7b2271223a22222c2273223a5b5d7d"],
        "pageSize" => &["1", "1000"],
        "order" => &["ASC", "DESC"],
        "windowTimeZone" => &["UTC", "Europe/Berlin"],
        "page" => &["1", "2"],
        "orderBy" => &["key", "name"],
        "includeDeleted" => &["true"],
        "windowSize" => &["MONTH", "MONTH", "DAY"],
        "groupBy" => &["subject", "method"],
        "subject" => &["alpha", "alp"],
        _ => &[],
    };
    if let Some(usual) = usual.choose(random).filter(|_| random.random_bool(0.8)) {
        return (*usual).to_owned();
    }
    let operator = *["$eq", "$ne", "$like", "$in", "$nin"].choose(random).unwrap();
    let given: Value = match operator {
        "$in" | "$nin" => json!([text]),
        _ => json!(text),
    };
    let field = *["subject", "id", "source", "type"].choose(random).unwrap();
    match name {
        "filter" => json!({ field: { operator: given } }).to_string(),
        "filterGroupBy" => json!({ "method": [text] }).to_string(),
        "advancedMeterGroupByFilters" => json!({ "method": { operator: given } }).to_string(),
        _ => text.to_owned(),
    }
}
