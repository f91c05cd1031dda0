//! OpenMeter's interface, request by request: what its published clients do not do or do not show. They are driven in
//! `tests/openmeter/`.

mod isolation;

use std::time::Duration;

use rentroll_testing::http::Answer;
use rentroll_testing::wait_until;
use serde_json::{Value, json};

use crate::api::{Served, event, json as read};

const API: &str = "/openmeter/api/v1";
const SPAN: &str = "from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z";

fn served() -> Served {
    let request = |tenant: &str, id: &str, method: &str| {
        event(tenant, "ops/web", id, "http.request", json!({ "method": method, "bytes": "0.1" }))
    };
    let events = [request("alpha", "1", "GET"), request("alpha", "2", "=1+1"), request("beta", "3", "GET")];
    Served::with("", &events)
}

#[test]
fn openmeters_interface_answers_as_it_says() {
    let served = served();
    who_may_what(&served);
    ones_own(&served);
    queries(&served);
    mistakes(&served);
    meters(&served);
    events(&served);
    subjects(&served);
    portals(&served);
}

/// The status of each request by each kind of token: admin, service, tenant, portal, source, none.
fn who_may_what(served: &Served) {
    let source = served.rig.ok(&["tokens", "create", "--source", "edge"]).trim().to_owned();
    let known = wait_until(Duration::from_secs(10), || {
        (served.get(&format!("{API}/meters"), &source).status == 403).then_some(())
    });
    assert!(known.is_some(), "the token is not known");
    let tokens = [&served.admin, &served.service, &served.tenant, &served.portal, &source];
    let query = format!("/portal/meters/requests/query?{SPAN}");
    // A body that cannot be: who may not is told so first.
    for (method, path, expected) in [
        ("GET", "/events", [200, 200, 200, 403, 403]),
        ("GET", "/meters", [200, 200, 200, 403, 403]),
        ("GET", "/meters/requests", [200, 200, 200, 403, 403]),
        ("GET", "/meters/requests/query", [200, 200, 200, 403, 403]),
        ("POST", "/meters/requests/query", [200, 200, 200, 403, 403]),
        ("GET", "/meters/requests/subjects", [200, 200, 200, 403, 403]),
        ("GET", "/meters/by_method/group-by/method/values", [200, 200, 200, 403, 403]),
        ("GET", "/subjects", [200, 200, 200, 403, 403]),
        ("GET", "/subjects/alpha", [404, 404, 404, 403, 403]),
        ("POST", "/meters", [415, 403, 403, 403, 403]),
        ("PUT", "/meters/requests", [415, 403, 403, 403, 403]),
        ("DELETE", "/meters/none", [404, 403, 403, 403, 403]),
        ("POST", "/subjects", [415, 403, 403, 403, 403]),
        ("DELETE", "/subjects/none", [404, 403, 403, 403, 403]),
        ("GET", "/portal/tokens", [200, 403, 403, 403, 403]),
        ("POST", "/portal/tokens", [415, 403, 403, 403, 403]),
        ("POST", "/portal/tokens/invalidate", [415, 403, 403, 403, 403]),
        ("GET", &query, [403, 403, 200, 200, 403]),
        ("POST", "/events", [415, 403, 415, 403, 415]),
    ] {
        let path = format!("{API}{path}");
        let found = tokens.map(|token| served.send(method, &path, token, "").status);
        assert_eq!(found, expected, "{method} {path}");
        let stranger = served.exchange(method, &path, &[], "");
        assert_eq!(stranger.status, 401, "{method} {path}");
        assert_eq!(stranger.header("content-type"), Some("application/problem+json"), "{method} {path}");
    }
    let v2 = "/openmeter/api/v2/events";
    assert_eq!(tokens.map(|token| served.get(v2, token).status), [200, 200, 200, 403, 403]);
}

/// A tenant's token is answered as if nothing else existed, and told where it asks for others.
fn ones_own(served: &Served) {
    let get = |path: &str| served.get(&format!("{API}{path}"), &served.tenant);
    let value = |path: &str| read(&get(path))["data"][0]["value"].clone();
    assert_eq!(value(&format!("/meters/requests/query?{SPAN}")), 2);
    assert_eq!(value(&format!("/meters/requests/query?{SPAN}&subject=alpha")), 2);
    assert_eq!(read(&get(&format!("/meters/requests/subjects?{SPAN}"))), json!(["alpha"]));
    let listed = read(&get("/events"));
    assert!(listed.as_array().unwrap().iter().all(|one| one["event"]["subject"] == "alpha"), "{listed}");
    for path in [
        format!("/meters/requests/query?{SPAN}&subject=alpha&subject=beta"),
        "/events?subject=beta".to_owned(),
        "/subjects/beta".to_owned(),
    ] {
        assert_eq!(get(&path).status, 403, "{path}");
    }
    let filter = "%7B%22subject%22:%7B%22$eq%22:%22beta%22%7D%7D";
    assert_eq!(served.get(&format!("/openmeter/api/v2/events?filter={filter}"), &served.tenant).status, 403);
    let body = json!({ "subject": ["beta"] }).to_string();
    let asked = served.send("POST", &format!("{API}/meters/requests/query"), &served.tenant, &body);
    assert_eq!(asked.status, 403);
    // A portal's meters alone, and its subject always.
    let portal = |path: &str| served.get(&format!("{API}/portal/meters/{path}"), &served.portal);
    let rows = read(&portal(&format!("requests/query?{SPAN}")))["data"].clone();
    assert_eq!((&rows[0]["subject"], &rows[0]["value"]), (&json!("alpha"), &json!(2)));
    assert_eq!(portal("egress_bytes/query").status, 403);
    assert_eq!(portal("requests/query?subject=alpha").status, 400);
}

fn queries(served: &Served) {
    let path = |query: &str| format!("{API}/meters/by_method/query?{SPAN}{query}");
    let get = |query: &str| served.get(&path(query), &served.service);
    let answer = get("&groupBy=method&groupBy=subject");
    let expected = json!([["alpha", "=1+1", 1], ["alpha", "GET", 1], ["beta", "GET", 1]]);
    let rows: Vec<Value> = read(&answer)["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| json!([row["subject"], row["groupBy"]["method"], row["value"]]))
        .collect();
    assert_eq!(Value::from(rows), expected);
    // Decimals are exact, and numbers.
    let bytes = served.get(&format!("{API}/meters/egress_bytes/query?{SPAN}"), &served.service);
    assert!(bytes.body.contains("\"value\":0.3,"), "{bytes:?}");
    // In CSV, nothing that a spreadsheet would compute.
    let bearer = format!("Bearer {}", served.service);
    let with = |headers: &[(&str, &str)]| {
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        served.exchange("GET", &path("&groupBy=method"), &headers, "")
    };
    let csv = with(&[("accept", "text/csv")]);
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    let name = csv.header("content-disposition");
    assert_eq!(name, Some("attachment; filename=\"by_method.csv\""));
    let span = "2020-01-01T00:00:00Z,2100-01-01T00:00:00Z";
    let lines =
        format!("window_start,window_end,subject,method,value\r\n{span},,'=1+1,1\r\n{span},,GET,2\r\n");
    assert_eq!(csv.body, lines);
    assert_eq!(with(&[("accept", "image/png")]).status, 406);
    assert_eq!(
        with(&[("accept", "application/json, text/csv")]).header("content-type"),
        Some("application/json")
    );
    assert_eq!(with(&[("accept-encoding", "gzip")]).header("content-encoding"), Some("gzip"));
    // A body may be left out, or be of the right type.
    let post = |media: Option<&str>, body: &str| {
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(media.map(|media| ("content-type", media)));
        served.exchange("POST", &format!("{API}/meters/by_method/query"), &headers, body)
    };
    for (media, body, status) in [
        (None, "", 200),
        (Some("application/json"), "", 200),
        (Some("Application/JSON; charset=UTF-8"), "{}", 200),
        (Some("application/json"), r#"{"groupBy":["method"],"filterGroupBy":{"method":["GET"]}}"#, 200),
        (None, "{}", 415),
        (Some("text/plain"), "{}", 415),
        (Some("application/json"), "[]", 400),
        (Some("application/json"), "{", 400),
    ] {
        let answer = post(media, body);
        assert_eq!(answer.status, status, "{media:?} {body}: {answer:?}");
    }
    // Without a span: from the first month that has something.
    let all = read(&served.get(&format!("{API}/meters/by_method/query"), &served.service));
    assert_eq!((&all["from"], &all["data"][0]["value"]), (&Value::Null, &json!(3)), "{all}");
    assert_ne!(all["data"][0]["windowStart"], "1970-01-01T00:00:00Z");
}

/// The problem of a request that is refused.
fn refused(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = read(answer);
    for field in ["type", "title", "detail", "instance"] {
        assert!(problem[field].is_string(), "{problem}");
    }
    assert_eq!(problem["status"], status);
    assert_eq!(problem["extensions"].is_object(), status == 400, "{problem}");
    problem
}

fn mistakes(served: &Served) {
    let told = |problem: &Value, field: &str, given: &str| {
        assert_eq!(problem["extensions"]["validationErrors"][0]["field"], field, "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(field) && detail.contains(&format!("`{given}`")), "{given}: {problem}");
    };
    for (path, field, given) in [
        ("meters/by_method/query?from=soon", "from", "soon"),
        (
            "meters/by_method/query?from=2026-01-01T00:00:00Z&from=2026-01-02T00:00:00Z",
            "from",
            "2026-01-02T00:00:00Z",
        ),
        (
            "meters/by_method/query?from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z",
            "from",
            "2026-01-02T00:00:00Z",
        ),
        ("meters/by_method/query?windowSize=day", "windowSize", "day"),
        ("meters/by_method/query?windowTimeZone=CET2", "windowTimeZone", "CET2"),
        ("meters/by_method/query?groupBy=colour", "groupBy", "colour"),
        ("meters/by_method/query?groupBy=customer_id", "groupBy", "customer_id"),
        ("meters/by_method/query?subject=", "subject", ""),
        ("meters/by_method/query?filterGroupBy[colour]=red", "filterGroupBy", "colour"),
        (
            "meters/by_method/query?filterGroupBy[method]=GET&filterGroupBy[method]=PUT",
            "filterGroupBy",
            "method",
        ),
        ("meters/by_method/query?filterGroupBy=GET", "filterGroupBy", "GET"),
        (
            "meters/by_method/query?filterGroupBy[method]=GET&advancedMeterGroupByFilters=%7B%7D",
            "advancedMeterGroupByFilters",
            "{}",
        ),
        (
            "meters/by_method/query?advancedMeterGroupByFilters=%7B%22colour%22:%7B%22$eq%22:%22a%22%7D%7D",
            "advancedMeterGroupByFilters",
            "colour",
        ),
        ("meters/by_method/query?filterCustomerId=x", "filterCustomerId", "x"),
        ("meters/by_method/query?subjects=a", "subjects", "subjects"),
        ("meters/by_method/group-by/colour/values", "groupByKey", "colour"),
        ("meters?pageSize=0", "pageSize", "0"),
        ("meters?orderBy=slug", "orderBy", "slug"),
        ("events?limit=101", "limit", "101"),
        ("events?customerId=x", "customerId", "x"),
        (
            "events?ingestedAtFrom=2026-01-02T00:00:00Z&ingestedAtTo=2026-01-01T00:00:00Z",
            "ingestedAtFrom",
            "2026-01-02T00:00:00Z",
        ),
        ("portal/tokens?limit=0", "limit", "0"),
        ("subjects?limit=1", "limit", "limit"),
    ] {
        told(&refused(&served.get(&format!("{API}/{path}"), &served.admin), 400), field, given);
    }
    for (body, field, given) in [
        (json!({ "groupBy": ["customer_id"] }), "groupBy", "customer_id"),
        (json!({ "filterCustomerId": ["x"] }), "filterCustomerId", "x"),
        (
            json!({ "filterGroupBy": { "method": ["a"] }, "advancedMeterGroupByFilters": {} }),
            "advancedMeterGroupByFilters",
            "{}",
        ),
        (json!({ "subject": [1] }), "subject", "1"),
    ] {
        let path = format!("{API}/meters/by_method/query");
        told(&refused(&served.send("POST", &path, &served.admin, &body.to_string()), 400), field, given);
    }
    // Given and left empty is not given.
    let none =
        served.get(&format!("{API}/meters/by_method/query?filterCustomerId=&clientId=x"), &served.admin);
    assert_eq!(none.status, 200, "{none:?}");
    for path in
        ["/openmeter", "/openmeter/", "/openmeter/api/v1/features", "/openmeter/api/v1/meters/none/query"]
    {
        refused(&served.get(path, &served.admin), 404);
    }
    let method = served.send("PATCH", &format!("{API}/meters"), &served.admin, "");
    refused(&method, 405);
    let allow = method.header("allow").unwrap();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
}

fn meters(served: &Served) {
    let send = |method: &str, path: &str, body: &Value| {
        served.send(method, &format!("{API}/meters{path}"), &served.admin, &body.to_string())
    };
    // Those of the file are as OpenMeter would have them, and are changed there.
    let of_file = read(&served.get(&format!("{API}/meters/by_method"), &served.tenant));
    assert_eq!(of_file["groupBy"], json!({ "method": "$.method" }), "{of_file}");
    assert_eq!(
        (&of_file["aggregation"], &of_file["annotations"]["unit"]),
        (&json!("COUNT"), &json!("request"))
    );
    refused(&send("PUT", "/by_method", &json!({ "name": "x" })), 409);
    refused(&served.send("DELETE", &format!("{API}/meters/by_method"), &served.admin, ""), 409);
    let good = json!({ "slug": "mine", "aggregation": "SUM", "eventType": "t", "valueProperty": "$.a.b" });
    for (field, wrong, given) in [
        ("slug", json!("__unmatched__"), "`__unmatched__`"),
        ("aggregation", json!("PERCENTILE"), "`PERCENTILE`"),
        ("valueProperty", json!("$.a[*]"), "`$.a[*]`"),
        ("groupBy", json!({ "customer_id": "$.a" }), "`customer_id`"),
        ("metadata", json!({ "openmeter.group_by.x": "a" }), "`openmeter.group_by.x`"),
        ("metadata", json!({ "x": 1 }), "`1`"),
        ("metadata", json!({ "x": "y".repeat(2_000) }), "`x`"),
        ("name", json!(""), "``"),
        ("eventType", json!(""), "must not be empty"),
        ("eventFrom", json!("2026-01-01T00:00:01Z"), "`2026-01-01T00:00:01Z`"),
        ("annotations", json!({}), "`annotations`"),
    ] {
        let mut body = good.clone();
        body[field] = wrong;
        let problem = refused(&send("POST", "", &body), 400);
        assert_eq!(problem["extensions"]["validationErrors"][0]["field"], field, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(given), "{given}: {problem}");
    }
    let mut body = good;
    body["metadata"] = json!({ "unit": "token", "team": "ai" });
    body["groupBy"] = json!({ "kind": "$.meta.kind" });
    let made = send("POST", "", &body);
    assert_eq!(made.status, 201, "{made:?}");
    let made = read(&made);
    assert_eq!(
        (&made["id"], &made["name"], &made["annotations"]["unit"]),
        (&json!("mine"), &json!("mine"), &json!("token"))
    );
    assert_eq!((&made["metadata"], &made["groupBy"]), (&body["metadata"], &body["groupBy"]));
    // Our own API has the same meter.
    let ours = read(&served.get("/api/v1/meters/mine", &served.admin));
    assert_eq!(ours["versions"][0]["group_by"], json!(["meta.kind"]), "{ours}");
    refused(&send("POST", "", &body), 409);
    // Nobody has taken it up yet, or it has counted nothing: either way there is nothing.
    let nothing = read(&served.get(&format!("{API}/meters/mine/query?{SPAN}"), &served.admin));
    assert_eq!(nothing["data"], json!([]));
    let erased = read(&send("PUT", "/mine", &json!({ "metadata": null })));
    assert_eq!((&erased["metadata"], &erased["groupBy"]), (&Value::Null, &body["groupBy"]));
    assert_eq!(served.send("DELETE", &format!("{API}/meters/mine"), &served.admin, "").status, 204);
    refused(&served.get(&format!("{API}/meters/mine"), &served.admin), 404);
}

fn events(served: &Served) {
    let bearer = format!("Bearer {}", served.admin);
    let post = |headers: &[(&str, &str)], body: &str| {
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        served.exchange("POST", &format!("{API}/events"), &headers, body)
    };
    let plain = ("content-type", "application/json");
    // Floats are rounded, and what is null is not there.
    let one = r#"{"id":"f1","source":"ops","type":"float","subject":"alpha","time":null,"specversion":"1.0",
        "data":{"cost":0.00022500000000000002,"less":1.35e-05,"none":null,"in":{"a":{"b":7}}}}"#;
    let two = r#"[{"specversion":"1.0","id":"f2","source":"ops","type":"float","subject":"alpha","data":null,"datacontenttype":null}]"#;
    for (headers, body) in [
        (vec![plain], one),
        (vec![("content-type", "application/CloudEvents-Batch+JSON; charset=utf-8")], two),
        // Binary mode: the body is the data.
        (
            vec![
                plain,
                ("ce-specversion", "1.0"),
                ("ce-id", "f3"),
                ("ce-source", "ops"),
                ("ce-type", "float"),
                ("ce-subject", "alpha"),
            ],
            r#"{"cost":0.30000000000000004}"#,
        ),
    ] {
        let answer = post(&headers, body);
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{answer:?}");
    }
    let listed = || {
        let filter = "%7B%22type%22:%7B%22$eq%22:%22float%22%7D%7D";
        read(&served.get(&format!("/openmeter/api/v2/events?filter={filter}"), &served.service))
    };
    let all = wait_until(Duration::from_secs(60), || {
        let found = listed();
        (found["items"].as_array().unwrap().len() == 3).then_some(found)
    });
    let all = all.unwrap_or_else(|| panic!("{}", listed()));
    let data = |id: &str| {
        let found = all["items"].as_array().unwrap().iter().find(|item| item["event"]["id"] == id).unwrap();
        assert_eq!(found["validationError"], "no meter counts events of type `float`");
        found["event"]["data"].to_string()
    };
    assert_eq!(data("f1"), r#"{"cost":0.000225,"in":{"a":{"b":7}},"less":0.0000135}"#);
    assert_eq!((data("f2"), data("f3")), ("null".to_owned(), r#"{"cost":0.3}"#.to_owned()));
    // What is not of the door's forms is refused as it does.
    let problem = read(&post(&[plain], r#"{"id":"f4","source":"other","type":"float","subject":"alpha"}"#));
    assert_eq!(
        (&problem["rejected"], &problem["errors"][0]["field"]),
        (&json!(1), &json!("source")),
        "{problem}"
    );
    assert_eq!(post(&[("content-type", "text/plain")], "{}").status, 415);
    let path = format!("{API}/events?source=x");
    assert_eq!(served.send("POST", &path, &served.admin, "{}").status, 400);
}

fn subjects(served: &Served) {
    let upsert =
        |body: Value| served.send("POST", &format!("{API}/subjects"), &served.admin, &body.to_string());
    let made = upsert(
        json!([{ "key": "alpha", "displayName": "Alpha", "metadata": { "n": 1.5, "b": true } }, { "key": "beta" }]),
    );
    assert_eq!(made.status, 200, "{made:?}");
    assert_eq!(read(&made)[0]["metadata"], json!({ "n": "1.5", "b": "true" }));
    // It is what our own API has.
    let ours = read(&served.get("/api/v1/tenants/alpha", &served.admin));
    assert_eq!(ours["now"]["name"], "Alpha", "{ours}");
    let keys = |token: &str| {
        let listed = read(&served.get(&format!("{API}/subjects"), token));
        listed
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["key"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (keys(&served.service), keys(&served.tenant)),
        (vec!["alpha".into(), "beta".into()], vec!["alpha".to_owned()])
    );
    assert_eq!(served.get(&format!("{API}/subjects/alpha"), &served.tenant).status, 200);
    // One that cannot be refuses all, and each is named.
    let long = "x".repeat(300);
    let problem = refused(
        &upsert(json!([{ "key": "gamma" }, { "key": "d", "displayName": long }, { "key": "" }])),
        400,
    );
    let faults = problem["extensions"]["validationErrors"].as_array().unwrap();
    let fields: Vec<&str> = faults.iter().map(|fault| fault["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["[1].displayName", "[2].key"], "{problem}");
    assert_eq!(keys(&served.service).len(), 2);
    for wrong in [
        json!([]),
        json!({ "key": "a" }),
        json!([{ "key": "a", "colour": "red" }]),
        json!([{ "key": "a" }, { "key": "a" }]),
    ] {
        refused(&upsert(wrong), 400);
    }
}

fn portals(served: &Served) {
    let send = |path: &str, body: Value| {
        served.send("POST", &format!("{API}/portal/tokens{path}"), &served.admin, &body.to_string())
    };
    let long = "x".repeat(600);
    for (body, status, field, given) in [
        (json!({}), 400, "subject", ""),
        (json!({ "subject": "alpha", "allowedMeterSlugs": [] }), 400, "allowedMeterSlugs", "`[]`"),
        (
            json!({ "subject": "alpha", "allowedMeterSlugs": ["requests", "none"] }),
            404,
            "allowedMeterSlugs",
            "`none`",
        ),
        (
            json!({ "subject": "alpha", "expiresAt": "2100-01-01T00:00:00Z" }),
            400,
            "expiresAt",
            "`2100-01-01T00:00:00Z`",
        ),
        (json!({ "subject": "alpha", "expired": false }), 400, "expired", "`expired`"),
        (json!({ "subject": "" }), 400, "subject", "``"),
        (json!({ "subject": long }), 400, "subject", "`xxx"),
    ] {
        let problem = refused(&send("", body), status);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("`{field}`")) && detail.contains(given), "{problem}");
    }
    let made = send("", json!({ "subject": "alpha", "allowedMeterSlugs": ["requests"] }));
    assert_eq!((made.status, made.header("cache-control")), (200, Some("no-store")));
    let made = read(&made);
    let (id, secret) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let path = format!("{API}/portal/meters/requests/query?{SPAN}");
    let answer = served.get(&path, secret);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("*")));
    // A browser sees why it is refused, too.
    let stranger = served.exchange("GET", &path, &[], "");
    assert_eq!((stranger.status, stranger.header("access-control-allow-origin")), (401, Some("*")));
    let preflight = served.exchange("OPTIONS", &path, &[("origin", "https://shop.example")], "");
    assert_eq!((preflight.status, preflight.body.as_str()), (204, ""));
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("authorization"));
    assert_eq!(
        served.get(&format!("{API}/meters"), &served.admin).header("access-control-allow-origin"),
        None
    );
    // The operator's own tokens are not taken back.
    let admin = served.admin.split('_').nth(1).unwrap();
    assert_eq!(send("/invalidate", json!({ "id": admin })).status, 204);
    assert_eq!(served.get(&format!("{API}/portal/tokens"), &served.admin).status, 200);
    assert_eq!(send("/invalidate", json!({ "id": id })).status, 204);
    assert_eq!(served.get(&path, secret).status, 401);
    for wrong in [json!({}), json!({ "id": "a", "subject": "b" }), json!({ "tenant": "b" })] {
        refused(&send("/invalidate", wrong), 400);
    }
}
