//! Whatever a tenant asks, it sees nothing of another: every operation and every parameter of the description, with names of
//! the other tenant, wildcards and pieces of SQL in all of them.
//!
//! Each request is made before there is anybody else, and again after: the answers are the same to the byte, but for what
//! says when they were given. So no sum, count, share or number of keys has anything of others in it.
//!
//! All texts of the other tenant begin with [`MARK`], and its numbers are multiples of [`PRIME`]. No answer has one of
//! them: a success none at all, but for the names of keys that were asked for; a problem none but those that the request
//! itself had.

use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rentroll_testing::wait_until;
use serde_json::{Map, Value, json};

use super::{SPAN, Served, Timeless, encoded, event, json as read};

const MARK: &str = "bravo";
const PRIME: &str = "104729";
/// Requests for each operation and token.
const ROUNDS: usize = 30;

/// What belongs to the other tenant.
const FOREIGN: [&str; 16] = [
    "bravo-tenant",
    "bravo-name",
    "bravo-organisation",
    "bravo-tier",
    "bravo-key",
    "bravo-value",
    "bravo-tag",
    "bravo-tagged",
    "bravo-system",
    "bravo-external",
    "bravo-id",
    "ops/bravo-source",
    "bravo.type",
    "bravo-portal",
    "bravo-method",
    "bravo-reject",
];

const TRICKS: [&str; 16] = [
    "%",
    "*",
    "_",
    "' OR 1=1 --",
    "') OR (tenant != '",
    "alpha' OR tenant = 'bravo-tenant",
    "alpha') UNION ALL SELECT * FROM events --",
    "{tenant:String}",
    "{scope_tenant:String}",
    "\\",
    "\\'",
    "\0",
    "\u{1f4a5}",
    "alpha,bravo-tenant",
    "../bravo-tenant",
    "alpha\r\nx: y",
];

/// With one's own events alone, stored and told so.
fn served() -> Served {
    let own =
        |id: &str| event("alpha", "ops/alpha", id, "http.request", json!({ "method": "GET", "bytes": 1 }));
    let events =
        vec![own("a1"), own("a2"), own("a3"), event("alpha", "ops/alpha", "a4", "alpha.type", json!({}))];
    let served = Served::with("", &events);
    let stored = wait_until(Duration::from_secs(60), || {
        let found = read(&served.get("/api/v1/events", &served.tenant));
        let found = found["events"].as_array()?;
        (found.len() == events.len() && found.iter().all(|event| event["stored_at"].is_string()))
            .then_some(())
    });
    assert!(stored.is_some(), "{:?}", served.get("/api/v1/events", &served.tenant));
    served
}

/// The other tenant, and all that is its own.
fn comes_another(served: &Served) {
    let data = json!({ "method": "bravo-method", "bytes": PRIME, "bravo-key": "bravo-value" });
    let request =
        |id: &str, data: &Value| event("bravo-tenant", "ops/bravo-source", id, "http.request", data.clone());
    let mut events: Vec<Value> = (0..7).map(|n| request(&format!("bravo-id{n}"), &data)).collect();
    // Some of another time.
    for event in &mut events[..2] {
        event["time"] = (Utc::now() - TimeDelta::days(20)).to_rfc3339_opts(SecondsFormat::Secs, true).into();
    }
    events.push(request("bravo-id-none", &json!({ "method": "bravo-method" })));
    let counted = events.len() + 3;
    let other = json!({ "bravo-key": "bravo-value" });
    events.push(event("bravo-tenant", "ops/bravo-source", "bravo-id", "bravo.type", other));
    // It names an event of the first one, and takes nothing back of it.
    let mut void = event("bravo-tenant", "ops/alpha", "bravo-void", "http.request", json!({}));
    void["voids"] = "a1".into();
    events.push(void);
    let sent = served.send("POST", "/api/v1/events", &served.admin, &Value::from(events).to_string());
    assert_eq!(sent.status, 204, "{sent:?}");
    let path = format!("/api/v1/usage?meter=requests&{SPAN}");
    let seen = wait_until(Duration::from_secs(60), || {
        (read(&served.get(&path, &served.admin))["rows"][0]["events"] == counted).then_some(())
    });
    assert!(seen.is_some(), "{:?}", served.get(&path, &served.admin));
    let known = json!({
        "name": "bravo-name", "organisation": "bravo-organisation", "tier": "bravo-tier",
        "tags": { "bravo-tag": "bravo-tagged" }, "external_ids": { "bravo-system": "bravo-external" },
    });
    let put = served.send("PUT", "/api/v1/tenants/bravo-tenant", &served.admin, &known.to_string());
    assert_eq!(put.status, 201, "{put:?}");
    // A reject is the tenant's whose token sent it.
    let token = served.rig.ok(&["tokens", "create", "--tenant", "bravo-tenant"]);
    let mut rejected = event(
        "bravo-tenant",
        "bravo-source",
        "bravo-reject",
        "bravo.type",
        json!({ "bravo-key": "bravo-value" }),
    );
    rejected["time"] = "2001-01-01T00:00:00Z".into();
    let kept = wait_until(Duration::from_secs(10), || {
        let answer = served.send("POST", "/api/v1/events", token.trim(), &rejected.to_string());
        (answer.status == 400).then_some(())
    });
    assert!(kept.is_some(), "the token is not known");
    let portal = json!({ "tenant": "bravo-tenant", "name": "bravo-portal" }).to_string();
    assert_eq!(served.send("POST", "/api/v1/portal-tokens", &served.admin, &portal).status, 201);
    // There is something to be found, the reject as well, which comes by a log of its own.
    for (query, found) in [("type=http.request", PRIME), ("verdict=rejected", "bravo-reject")] {
        let path = format!("/api/v1/events?tenant=bravo-tenant&{query}");
        let seen = wait_until(Duration::from_secs(60), || {
            served.get(&path, &served.admin).body.contains(found).then_some(())
        });
        assert!(seen.is_some(), "{path}: {:?}", served.get(&path, &served.admin));
    }
}

/// A request, and the texts in it.
struct Asked {
    method: String,
    address: String,
    body: String,
    media: String,
    /// Texts that were sent.
    sent: Vec<String>,
    /// Those of them that name keys: an answer may have them.
    keys: Vec<String>,
}

#[test]
fn no_request_of_a_tenant_brings_anything_of_another() {
    let timeless = Timeless::new();
    let served = served();
    let document = read(&served.exchange("GET", "/api/v1/openapi.json", &[], ""));
    let mut random = StdRng::seed_from_u64(20_261_124);
    let (mut cases, mut sending) = (Vec::new(), Vec::new());
    for (path, item) in document["paths"].as_object().unwrap() {
        let methods = item.as_object().unwrap().iter().filter(|(method, _)| *method != "parameters");
        for (method, operation) in methods {
            for name in ["tenant", "portal"].iter().flat_map(|name| [*name; ROUNDS]) {
                let request = make(&mut random, &document, path, item, method, operation);
                // What gives a tenant more events of its own is last, and once.
                let to = if operation["operationId"] == "postEvents" { &mut sending } else { &mut cases };
                to.push((name, request));
            }
        }
    }
    let ask = |name: &str, request: &Asked| {
        let bearer = format!("Bearer {}", if name == "portal" { &served.portal } else { &served.tenant });
        let mut headers = vec![("authorization", bearer.as_str())];
        if !request.media.is_empty() {
            headers.push(("content-type", request.media.as_str()));
        }
        let answer = served.exchange(&request.method, &request.address, &headers, &request.body);
        let told = format!("{name}: {} {} {}: {answer:?}", request.method, request.address, request.body);
        assert!(answer.status < 500, "{told}");
        (answer, told)
    };
    // The description is the same for all, and has words of everything.
    cases.retain(|(_, request)| {
        let is_description = request.address.contains("/docs") || request.address.contains("/openapi");
        if is_description {
            ask("tenant", request);
        }
        !is_description
    });
    let alone: Vec<(u16, String)> = cases
        .iter()
        .map(|(name, request)| ask(name, request).0)
        .map(|answer| (answer.status, timeless.body(&answer.body)))
        .collect();
    comes_another(&served);
    let mut answered = 0;
    for ((name, request), alone) in cases.iter().zip(&alone) {
        let (answer, told) = ask(name, request);
        answered += usize::from(answer.status == 200);
        assert_eq!((answer.status, timeless.body(&answer.body)), *alone, "{told}");
        shows_nothing(request, answer.status, &answer.body, &told);
    }
    for (name, request) in &sending {
        let (answer, told) = ask(name, request);
        shows_nothing(request, answer.status, &answer.body, &told);
    }
    // Questions that are all refused would prove nothing.
    assert!(answered * 5 > cases.len(), "{answered} of {} were answered", cases.len());
}

fn shows_nothing(request: &Asked, status: u16, body: &str, told: &str) {
    let mut left = body.to_owned();
    let repeated = if status < 300 { &request.keys } else { &request.sent };
    for word in FOREIGN {
        // What a request has itself can be repeated in its answer.
        if repeated.iter().any(|text| text.contains(word)) {
            left = left.replace(word, "");
        }
    }
    assert!(!left.contains(MARK), "{told}");
    let sent_number = request.sent.iter().any(|text| text.contains(PRIME));
    assert!(sent_number || !left.contains(PRIME), "{told}");
}

fn make(
    random: &mut StdRng,
    document: &Value,
    path: &str,
    item: &Value,
    method: &str,
    operation: &Value,
) -> Asked {
    let mut asked = Asked {
        method: method.to_uppercase(),
        address: path.to_owned(),
        body: String::new(),
        media: String::new(),
        sent: Vec::new(),
        keys: Vec::new(),
    };
    let mut query = Vec::new();
    let lists = [&item["parameters"], &operation["parameters"]];
    for parameter in lists.iter().filter_map(|list| list.as_array()).flatten() {
        let parameter = resolved(document, parameter);
        let name = parameter["name"].as_str().unwrap();
        let is_path = parameter["in"] == "path";
        // A span that is left out ends now: what is read for it, and how exactly, is another matter a minute later.
        let is_needed = is_path || parameter["required"] == true || matches!(name, "from" | "to");
        if !is_needed && random.random_bool(0.7) {
            continue;
        }
        let schema = resolved(document, &parameter["schema"]);
        let is_list = schema["type"] == "array";
        let count = if is_list && parameter["explode"] != false { random.random_range(1..3) } else { 1 };
        for _ in 0..count {
            let text = text(random, document, name, if is_list { &schema["items"] } else { schema });
            if matches!(name, "group_by" | "by" | "dimension" | "tag") {
                asked.keys.push(text.clone());
            }
            asked.sent.push(text.clone());
            match is_path {
                true => asked.address = asked.address.replace(&format!("{{{name}}}"), &encoded(&text)),
                false => query.push(format!("{name}={}", encoded(&text))),
            }
        }
    }
    if random.random_bool(0.02) {
        query.push(format!("{}=x", encoded(FOREIGN.choose(random).unwrap())));
        asked.sent.extend(FOREIGN.map(str::to_owned));
    }
    if !query.is_empty() {
        asked.address = format!("{}?{}", asked.address, query.join("&"));
    }
    if let Some(content) = operation["requestBody"]["content"].as_object() {
        let media: Vec<&String> = content.keys().collect();
        asked.media = (*media.choose(random).unwrap()).clone();
        let body = value(random, document, "", &content[&asked.media]["schema"], &mut asked, 0);
        asked.body = match body {
            Value::String(text) => text,
            other => other.to_string(),
        };
    }
    asked
}

/// A text for a parameter: mostly what it may be, else anything.
fn text(random: &mut StdRng, document: &Value, name: &str, schema: &Value) -> String {
    let schema = resolved(document, schema);
    if let Some(words) = schema["enum"].as_array().filter(|_| random.random_bool(0.9)) {
        return words.choose(random).unwrap().as_str().unwrap().to_owned();
    }
    if random.random_bool(0.8) {
        let usual: &[&str] = match name {
            "meter" | "meters" => &["requests", "requests", "by_method", "egress_bytes", "p95", "methods"],
            "from" => &["2020-01-01", "2026-01-01T00:00Z"],
            "to" => &["2099-01-01", "2100-01-01T00:00:00Z"],
            "at" => &["2099-01-01"],
            "approximate" => &["true", "false"],
            "zone" => &["UTC", "Europe/Berlin"],
            "rolling" => &["P1D", "24h"],
            "limit" => &["1", "10", "1000"],
            "cursor" => &["62726176", "00000000000000006272"],
            "group_by" | "by" => {
                &["tenant", "organisation", "tier", "tag:bravo-tag", "method", "bravo-key", "tenant,method"]
            }
            "dimension" => &["method", "bravo-key"],
            "filter" => &[
                "method=bravo-method",
                "method^=bravo-method",
                "bravo-key!=x",
                "bytes>=2",
                "tenant=bravo-tenant",
            ],
            "tag" => &["bravo-tag=bravo-tagged"],
            _ => &[],
        };
        if let Some(text) = usual.choose(random) {
            return (*text).to_owned();
        }
    }
    match random.random_range(0..4) {
        0 => (*TRICKS.choose(random).unwrap()).to_owned(),
        1 => format!("{}{}", FOREIGN.choose(random).unwrap(), TRICKS.choose(random).unwrap()),
        2 => "alpha".to_owned(),
        _ => (*FOREIGN.choose(random).unwrap()).to_owned(),
    }
}

/// A value for a body.
fn value(
    random: &mut StdRng,
    document: &Value,
    name: &str,
    schema: &Value,
    asked: &mut Asked,
    depth: usize,
) -> Value {
    let schema = resolved(document, schema);
    if let Some(any) = schema["anyOf"].as_array() {
        let one = any.choose(random).unwrap().clone();
        return value(random, document, name, &one, asked, depth);
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds[0].as_str().unwrap_or_default(),
        kind => kind.as_str().unwrap_or_default(),
    };
    match kind {
        "object" if depth < 4 => {
            let mut fields = Map::new();
            let needed: Vec<&str> =
                schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            for (field, of) in schema["properties"].as_object().into_iter().flatten() {
                if needed.contains(&field.as_str()) || random.random_bool(0.3) {
                    let made = value(random, document, field, of, asked, depth + 1);
                    fields.insert(field.clone(), made);
                }
            }
            Value::Object(fields)
        }
        "array" if depth < 4 => {
            let count = random.random_range(0..3);
            (0..count).map(|_| value(random, document, name, &schema["items"], asked, depth + 1)).collect()
        }
        "integer" | "number" => random.random_range(0..100).into(),
        "boolean" => random.random_bool(0.5).into(),
        _ => {
            let text = text(random, document, name, schema);
            if matches!(name, "group_by") {
                asked.keys.push(text.clone());
            }
            asked.sent.push(text.clone());
            text.into()
        }
    }
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(place) => document.pointer(place.trim_start_matches('#')).unwrap(),
        None => value,
    }
}
