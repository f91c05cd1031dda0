//! Whatever a tenant asks here, it sees nothing of another: every path, and every parameter with names of the other tenant,
//! wildcards and pieces of SQL. As in the test of our own API, all texts of the other tenant begin with [`MARK`], and
//! its numbers are multiples of [`PRIME`].

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::api::{Served, encoded, event};

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

/// Paths with their parameters; `!` stands for a text in the path.
const PATHS: [(&str, &[&str]); 10] = [
    ("v1/events", &["from", "to", "ingestedAtFrom", "id", "subject", "limit"]),
    ("v2/events", &["filter", "limit"]),
    ("v1/meters", &["page", "orderBy", "includeDeleted"]),
    (
        "v1/meters/by_method/query",
        &[
            "from",
            "to",
            "windowSize",
            "subject",
            "groupBy",
            "filterGroupBy[method]",
            "filterGroupBy",
            "advancedMeterGroupByFilters",
        ],
    ),
    (
        "v1/portal/meters/by_method/query",
        &[
            "from",
            "to",
            "windowSize",
            "subject",
            "groupBy",
            "filterGroupBy[method]",
            "filterGroupBy",
            "advancedMeterGroupByFilters",
        ],
    ),
    ("v1/meters/egress_bytes/query", &["from", "to", "subject", "windowSize"]),
    ("v1/meters/by_method/subjects", &["from", "to"]),
    ("v1/meters/by_method/group-by/method/values", &["from", "to"]),
    ("v1/subjects", &[]),
    ("v1/subjects/!", &[]),
];

fn served() -> Served {
    let mut events = Vec::new();
    for n in 0..3 {
        let data = json!({ "method": "GET", "bytes": 1 });
        events.push(event("alpha", "ops/alpha", &format!("a{n}"), "http.request", data));
    }
    for n in 0..5 {
        let data = json!({ "method": "bravo-method", "bytes": PRIME, "bravo-key": "bravo-value" });
        events.push(event("bravo-tenant", "ops/bravo", &format!("bravo-id{n}"), "http.request", data));
    }
    let served = Served::with("", &events);
    let known = json!([{ "key": "bravo-tenant", "displayName": "bravo-name", "metadata": { "bravo-tag": "bravo-tagged" } }, { "key": "alpha" }]);
    let made = served.send("POST", "/openmeter/api/v1/subjects", &served.admin, &known.to_string());
    assert_eq!(made.status, 200, "{made:?}");
    served
}

#[test]
fn no_request_of_a_tenant_brings_anything_of_another() {
    let served = served();
    // There is something to be found.
    for path in ["v1/events", "v1/subjects", "v1/meters/by_method/subjects"] {
        let all = served.get(&format!("/openmeter/api/{path}"), &served.service);
        assert!(all.body.contains("bravo-tenant"), "{path}: {all:?}");
    }
    let mut random = StdRng::seed_from_u64(20_261_128);
    let (mut asked, mut answered) = (0, 0);
    for (path, parameters) in PATHS {
        for token in [&served.tenant, &served.portal] {
            for _ in 0..ROUNDS {
                let (address, sent) = make(&mut random, path, parameters);
                let answer = served.get(&address, token);
                let told = format!("{address}: {answer:?}");
                assert!(answer.status < 500, "{told}");
                asked += 1;
                answered += usize::from(answer.status == 200);
                let mut left = answer.body.clone();
                if answer.status != 200 {
                    // What a request has itself can be repeated in its refusal.
                    for text in TEXTS.iter().filter(|text| sent.contains(**text)) {
                        left = left.replace(text, "");
                    }
                }
                let repeats = answer.status != 200 && sent.contains(MARK);
                assert!(repeats || !left.contains(MARK), "{told}");
                assert!(!left.contains(PRIME), "{told}");
            }
        }
    }
    // Questions that are all refused would prove nothing.
    assert!(answered * 5 > asked, "{answered} of {asked} were answered");
}

/// An address, and what was put into it.
fn make(random: &mut StdRng, path: &str, parameters: &[&str]) -> (String, String) {
    let mut sent = String::new();
    let inner = *TEXTS.choose(random).unwrap();
    if path.contains('!') {
        sent.push_str(inner);
    }
    let mut address = format!("/openmeter/api/{}", path.replace('!', &encoded(inner)));
    let mut sign = '?';
    for name in parameters {
        if random.random_bool(0.6) {
            continue;
        }
        let value = value(random, name);
        address.push_str(&format!("{sign}{}={}", encoded(name), encoded(&value)));
        sent.push_str(&value);
        sign = '&';
    }
    (address, sent)
}

fn value(random: &mut StdRng, name: &str) -> String {
    let text = *TEXTS.choose(random).unwrap();
    let usual: &[&str] = match name {
        "from" | "ingestedAtFrom" => &["2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z"],
        "to" => &["2100-01-01T00:00:00Z"],
        "limit" => &["1", "100"],
        "page" => &["1", "2"],
        "orderBy" => &["key", "name"],
        "includeDeleted" => &["true"],
        "windowSize" => &["MONTH"],
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
