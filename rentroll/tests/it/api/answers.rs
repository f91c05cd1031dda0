//! Answers and refusals, by hand.

use std::time::Duration;

use rentroll_testing::wait_until;
use serde_json::{Value, json};

use super::{SPAN, Served, event, json as read};

fn served() -> Served {
    let request = |tenant: &str, id: &str, method: &str, bytes: &str| {
        event(tenant, "ops/web", id, "http.request", json!({ "method": method, "bytes": bytes }))
    };
    Served::with(
        "",
        &[
            request("alpha", "1", "GET", "0.1"),
            request("alpha", "2", "=1+1", "0.2"),
            request("beta", "3", "GET", "1000"),
            event("beta", "ops/web", "4", "job.run", json!({})),
        ],
    )
}

#[test]
fn the_api_answers_as_it_says() {
    let served = served();
    usage(&served);
    forms(&served);
    who_may_what(&served);
    mistakes(&served);
    fields(&served);
    pages(&served);
    registries(&served);
    portal_tokens(&served);
    metrics(&served);
}

fn usage(served: &Served) {
    let found =
        served.get(&format!("/api/v1/usage?meter=egress_bytes&{SPAN}&group_by=tenant"), &served.service);
    let rows = &read(&found)["rows"];
    assert_eq!((&rows[0]["tenant"], &rows[0]["quantity"]), (&json!("alpha"), &json!("0.3")), "{rows}");
    assert_eq!((&rows[1]["tenant"], &rows[1]["quantity"]), (&json!("beta"), &json!("1000")), "{rows}");
    // The same as a body.
    let body = json!({
        "meter": "egress_bytes", "from": "2020-01-01", "to": "2100-01-01", "group_by": ["tenant"]
    });
    let posted = served.send("POST", "/api/v1/usage", &served.service, &body.to_string());
    assert_eq!(read(&posted)["rows"], *rows);
    // Page by page.
    let mut pages: Vec<Value> = Vec::new();
    let path = format!("/api/v1/usage?meter=egress_bytes&{SPAN}&group_by=tenant&limit=1");
    let mut next = path.clone();
    loop {
        let found = served.get(&next, &served.service);
        let page = read(&found);
        pages.extend(page["rows"].as_array().unwrap().iter().cloned());
        let Some(cursor) = page["next_cursor"].as_str() else {
            assert_eq!(found.header("link"), None);
            break;
        };
        next = format!("{path}&cursor={cursor}");
        let link = found.header("link").unwrap();
        assert!(link.contains(cursor) && link.ends_with("rel=\"next\""), "{link}");
    }
    assert_eq!(Value::from(pages), *rows);
    // About right, where that is asked for, and named so.
    let path = format!("/api/v1/usage?meter=methods&{SPAN}");
    let exact = read(&served.get(&path, &served.service));
    let about = served.get(&format!("{path}&approximate=true"), &served.service);
    let body = json!({ "meter": "methods", "from": "2020-01-01", "to": "2100-01-01", "approximate": true });
    for about in [about, served.send("POST", "/api/v1/usage", &served.service, &body.to_string())] {
        let about = read(&about);
        assert_eq!((&about["rows"], &exact["approximation"]), (&exact["rows"], &Value::Null), "{about}");
        assert_eq!(about["approximation"]["method"], "uniqCombined64(17)", "{about}");
    }
    let top = read(&served.get(&format!("/api/v1/usage/top?meter=requests&{SPAN}&limit=1"), &served.service));
    assert_eq!(top["rows"][0]["key"], "alpha", "{top}");
}

fn forms(served: &Served) {
    let path = format!("/api/v1/usage?meter=by_method&{SPAN}&group_by=tenant,method");
    let bearer = format!("Bearer {}", served.service);
    let with = |more: &[(&str, &str)]| {
        let headers = [&[("authorization", bearer.as_str())], more].concat();
        served.exchange("GET", &path, &headers, "")
    };
    // How fresh the store is stands in each answer, and is looked up once a second: until all is stored and that is known, two answers
    // may differ by it.
    let all = wait_until(Duration::from_secs(60), || {
        let events = read(&served.get("/api/v1/events", &served.service));
        (events["events"].as_array()?.len() == 4).then_some(())
    });
    assert!(all.is_some(), "{}", served.running.said());
    std::thread::sleep(Duration::from_millis(1_200));
    let csv = with(&[("accept", "text/csv")]);
    assert!(csv.header("content-type").unwrap().starts_with("text/csv"), "{csv:?}");
    let lines: Vec<&str> = csv.body.lines().collect();
    assert_eq!(lines[0], "from,to,tenant,method,quantity,unit,events");
    assert_eq!(lines[1], "2020-01-01T00:00:00Z,2100-01-01T00:00:00Z,alpha,'=1+1,1,request,1");
    assert_eq!(served.get(&format!("{path}&format=csv"), &served.service).body, csv.body);
    let plain = with(&[]);
    let tag = plain.header("etag").unwrap().to_owned();
    let known = with(&[("if-none-match", &tag)]);
    assert_eq!((known.status, known.body.as_str()), (304, ""));
    assert_eq!(with(&[("accept", "image/png")]).status, 406);
    let packed = with(&[("accept-encoding", "gzip")]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"), "{packed:?}");
    let head = served.exchange("HEAD", &path, &[("authorization", &bearer)], "");
    assert_eq!((head.status, head.body.as_str(), head.header("etag")), (200, "", Some(tag.as_str())));
}

fn who_may_what(served: &Served) {
    let usage = format!("/api/v1/usage?meter=requests&{SPAN}");
    for headers in [&[][..], &[("authorization", "Basic YTpi")], &[("authorization", "Bearer rr_x_y")]] {
        let answer = served.exchange("GET", &usage, headers, "");
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, Some("Bearer realm=\"rentroll\""))
        );
    }
    let events = |path: &str, token: &str| read(&served.get(path, token))["rows"][0]["events"].clone();
    assert_eq!(events(&usage, &served.service), 3);
    for token in [&served.tenant, &served.portal] {
        assert_eq!(events(&usage, token), 2);
        assert_eq!(events(&format!("{usage}&tenant=beta"), token), Value::Null);
        assert_eq!(served.send("PUT", "/api/v1/tenants/alpha", token, "{}").status, 403);
        assert_eq!(served.get("/api/v1/portal-tokens", token).status, 403);
    }
    // A service reads everything, and changes nothing.
    for (method, path) in [
        ("PUT", "/api/v1/meters/jobs"),
        ("DELETE", "/api/v1/meters/by_method"),
        ("PUT", "/api/v1/tenants/alpha"),
        ("DELETE", "/api/v1/tenants/alpha"),
        ("POST", "/api/v1/tenants/import"),
        ("POST", "/api/v1/portal-tokens"),
        ("DELETE", "/api/v1/portal-tokens/none"),
    ] {
        let answer = served.send(method, path, &served.service, "{}");
        assert_eq!(answer.status, 403, "{method} {path}: {answer:?}");
    }
    assert_eq!(read(&served.get("/api/v1/meters/by_method", &served.service))["is_in_force"], true);
    // A browser asks before it asks, and sees why it is refused.
    for path in [usage.as_str(), "/api/v1/usage/top", "/api/v1/usage/meters/by_method/dimensions/method"] {
        let origin = ("origin", "https://shop.example");
        let preflight = served.exchange("OPTIONS", path, &[origin], "");
        assert_eq!((preflight.status, preflight.body.as_str()), (204, ""), "{path}");
        assert!(preflight.header("access-control-allow-headers").unwrap().contains("authorization"));
        assert_eq!(served.exchange("GET", path, &[origin], "").status, 401);
        for token in [served.portal.as_str(), "none"] {
            let answer = served.get(path, token);
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
            assert!(answer.header("access-control-expose-headers").unwrap().contains("link"), "{answer:?}");
        }
    }
    assert_eq!(served.get("/api/v1/tenants", &served.service).header("access-control-allow-origin"), None);
    assert_eq!(served.exchange("OPTIONS", "/api/v1/tenants", &[], "").status, 405);
    // A portal's meters, and nothing else.
    let other = served.get(&format!("/api/v1/usage?meter=egress_bytes&{SPAN}"), &served.portal);
    assert_eq!(other.status, 422, "{other:?}");
    assert!(!other.body.contains("p95"), "{other:?}");
    for path in ["/api/v1/events", "/api/v1/tenants", "/api/v1/events/unmatched"] {
        assert_eq!(served.get(path, &served.portal).status, 403, "{path}");
        assert_eq!(served.get(path, &served.tenant).status, 200, "{path}");
    }
    let named = |token: &str| {
        let meters = read(&served.get("/api/v1/meters", token))["meters"].clone();
        meters
            .as_array()
            .unwrap()
            .iter()
            .map(|meter| meter["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(named(&served.portal), ["by_method", "requests"]);
    assert_eq!(named(&served.tenant), ["by_method", "egress_bytes", "methods", "p95", "requests"]);
    let own = read(&served.get("/api/v1/tokens/self", &served.portal));
    assert_eq!(
        (&own["kind"], &own["reads"], &own["sends"]),
        (&json!("portal"), &json!("tenant"), &json!("nothing"))
    );
}

fn mistakes(served: &Served) {
    let said = |path: &str| {
        let answer = served.get(&format!("/api/v1/{path}"), &served.admin);
        let problem = read(&answer);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
        assert_eq!(problem["status"], answer.status);
        let id = answer.header("x-request-id").unwrap();
        assert_eq!(problem["instance"], format!("urn:rentroll:request:{id}"));
        problem
    };
    for (path, status, parameter, given, allowed) in [
        ("usage?meter=requests&from=2026-01-01", 400, "to", None, "RFC 3339"),
        ("usage?meter=requests&from=soon&to=2026-01-02", 400, "from", Some("soon"), "RFC 3339"),
        ("usage?meter=requests&from=2026-01-02&to=2026-01-02", 422, "to", Some("2026-01-02"), "after `from`"),
        ("usage?meter=requests&from=2026-01-02T00:00:01Z&to=2026-01-03", 422, "from", None, "whole minute"),
        ("usage?metre=requests", 400, "metre", Some("metre"), "meter"),
        ("usage?meter=request&from=2026-01-01&to=2026-01-02", 422, "meter", Some("request"), "requests"),
        ("usage?meter=A&from=2026-01-01&to=2026-01-02", 400, "meter", Some("A"), "a-z"),
        (
            "usage?meter=requests&from=2026-01-01&to=2026-01-02&window=year",
            400,
            "window",
            Some("year"),
            "month",
        ),
        (
            "usage?meter=requests&from=2026-01-01&to=2026-01-02&zone=Mars/X",
            422,
            "zone",
            Some("Mars/X"),
            "IANA",
        ),
        (
            "usage?meter=requests&from=2026-01-01&to=2026-01-02&filter=a",
            400,
            "filter",
            Some("a"),
            "key=value",
        ),
        ("usage?meter=requests&from=2026-01-01&to=2026-01-02&limit=0", 400, "limit", Some("0"), "1 to 10000"),
        ("usage?meter=requests&from=2026-01-01&to=2026-01-02&tenant=", 400, "tenant", Some(""), "not empty"),
        (
            "usage?meter=requests&from=2026-01-01&to=2026-01-02&approximate=yes",
            400,
            "approximate",
            Some("yes"),
            "true",
        ),
        (
            "usage/top?meter=requests&from=2026-01-01&to=2026-01-02&approximate=true",
            422,
            "approximate",
            Some("true"),
            "`unique_count`; `requests` is one of `count`",
        ),
        ("events?verdict=fine", 400, "verdict", Some("fine"), "rejected"),
        ("meters?cursor=x", 400, "cursor", Some("x"), "next_cursor"),
    ] {
        let problem = said(path);
        assert_eq!(
            (&problem["status"], &problem["parameter"]),
            (&json!(status), &json!(parameter)),
            "{problem}"
        );
        assert!(given.is_none_or(|given| problem["given"] == given), "{problem}");
        assert!(problem["allowed"].as_str().unwrap().contains(allowed), "{path}: {problem}");
    }
    assert_eq!(said("nowhere")["status"], 404);
    let method = served.send("PATCH", "/api/v1/usage", &served.admin, "{}");
    assert_eq!(method.status, 405);
    assert!(method.header("allow").unwrap().contains("POST"), "{method:?}");
    let bearer = format!("Bearer {}", served.admin);
    let post = |kind: &str, body: &str| {
        let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
        served.exchange("POST", "/api/v1/usage", &headers, body).status
    };
    assert_eq!(post("text/plain", "{}"), 415);
    assert_eq!(post("application/json", "{"), 400);
    assert_eq!(post("application/json", &" ".repeat((4 << 20) + 1)), 413);
}

/// Of a body, the field at fault is named by its path.
fn fields(served: &Served) {
    let meter = |field: &str, value: Value| {
        let mut body = json!({ "unit": "job", "event_type": "job.run", "aggregation": "count" });
        body[field] = value;
        ("PUT", "/api/v1/meters/faulty", body)
    };
    let tenant = |body: Value| ("PUT", "/api/v1/tenants/faulty", body);
    let portal = |body: Value| ("POST", "/api/v1/portal-tokens", body);
    let span = json!({ "meter": "requests", "from": "2026-01-01", "to": "2026-01-02" });
    let usage = |field: &str, value: Value| {
        let mut body = span.clone();
        body[field] = value;
        ("POST", "/api/v1/usage", body)
    };
    for ((method, path, body), status, parameter, given, allowed) in [
        (meter("value", json!(5)), 400, "value", json!("5"), "a text"),
        (meter("aggregation", json!("median")), 400, "aggregation", json!("median"), "one of count, sum"),
        (meter("filter", json!({ "status": [500] })), 400, "filter.status[0]", json!("500"), "in quotes"),
        (meter("filter", json!({ "status": [] })), 422, "filter.status", json!("[]"), "empty list"),
        (meter("value", json!("bytes")), 422, "value", json!("bytes"), "a count takes no value"),
        (meter("agregation", json!("sum")), 400, "agregation", json!("agregation"), "aggregation"),
        (meter("version", json!(2)), 400, "version", json!("version"), "left out"),
        (
            ("PUT", "/api/v1/meters/faulty", json!({ "unit": "job", "aggregation": "count" })),
            400,
            "event_type",
            Value::Null,
            "a text",
        ),
        (tenant(json!({ "tags": { "region": 7 } })), 400, "tags.region", json!("7"), "a text"),
        (tenant(json!({ "tier": " pro" })), 422, "tier", json!(" pro"), ""),
        (tenant(json!({ "teir": "pro" })), 400, "teir", json!("teir"), "tier"),
        (portal(json!({ "tenant": "a", "meters": ["requests", 1] })), 400, "meters[1]", json!("1"), "a text"),
        (portal(json!({ "tenant": "a", "meters": ["A b"] })), 422, "meters", json!("A b"), ""),
        (usage("group_by", json!([{}])), 400, "group_by[0]", json!("{}"), "a text"),
        (usage("limit", json!(true)), 400, "limit", json!("true"), "a whole number"),
        (usage("rolling", json!("90m")), 422, "rolling", json!("90m"), "minute, hour or day"),
    ] {
        let answer = served.send(method, path, &served.admin, &body.to_string());
        let problem = read(&answer);
        assert_eq!(
            (answer.status, &problem["parameter"], &problem["given"]),
            (status, &json!(parameter), &given),
            "{body}: {problem}"
        );
        assert!(problem["allowed"].as_str().unwrap().contains(allowed), "{body}: {problem}");
    }
    // A text alone is a list of one, and kept as such.
    let (method, path, body) = meter("filter", json!({ "method": "GET", "path": { "not": "/healthz" } }));
    assert_eq!(served.send(method, path, &served.admin, &body.to_string()).status, 201);
    let filter = &read(&served.get(path, &served.admin))["versions"][0]["filter"];
    assert_eq!(*filter, json!({ "method": ["GET"], "path": { "not": ["/healthz"] } }));
    assert_eq!(served.send("DELETE", path, &served.admin, "").status, 200);

    let of = |query: &str| read(&served.get(&format!("/api/v1/usage{query}"), &served.admin));
    let rolling = of("?meter=requests&from=2026-01-01&to=2026-01-02&window=hour&rolling=90m");
    assert_eq!((&rolling["parameter"], &rolling["given"]), (&json!("rolling"), &json!("90m")), "{rolling}");
    assert!(rolling["allowed"].as_str().unwrap().ends_with("1h"), "{rolling}");
    // Each a key of its own: as many as are allowed.
    let filters = |count: usize| (0..count).map(|nth| format!("&filter=k{nth}=x")).collect::<String>();
    let many = of(&format!("?meter=requests&{SPAN}{}", filters(100)));
    assert_eq!(many["rows"], json!([]), "{many}");
    let many = of(&format!("?meter=requests&{SPAN}{}", filters(101)));
    assert_eq!((&many["status"], &many["parameter"]), (&json!(422), &json!("filter")), "{many}");
    let top = of(&format!("/top?meter=requests&{SPAN}&compare=none"));
    assert_eq!((&top["rows"][0]["key"], &top["previous_from"]), (&json!("alpha"), &Value::Null), "{top}");
}

/// What has no `next_cursor` in its body says it in a header.
fn pages(served: &Served) {
    let bearer = format!("Bearer {}", served.admin);
    let post = |cursor: Option<&str>| {
        let mut body = json!({
            "meter": "requests", "from": "2020-01-01", "to": "2100-01-01", "group_by": ["tenant"],
            "format": "csv", "limit": 1,
        });
        if let Some(cursor) = cursor {
            body["cursor"] = json!(cursor);
        }
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        served.exchange("POST", "/api/v1/usage", &headers, &body.to_string())
    };
    let first = post(None);
    let second = post(Some(first.header("x-next-cursor").unwrap()));
    assert!(first.body.contains(",alpha,2,") && second.body.contains(",beta,1,"), "{first:?} {second:?}");
    assert_eq!(second.header("x-next-cursor"), None);

    let event = |tenant: &str, id: &str, kind: &str| event(tenant, "ops/web", id, kind, json!({}));
    let events = json!([event("alpha", "u1", "odd"), event("beta", "u2", "odd"), event("beta", "u3", "odd")]);
    let sent = served.send("POST", "/api/v1/events", &served.admin, &events.to_string());
    assert_eq!(sent.status, 204, "{sent:?}");
    let path = "/api/v1/events/unmatched?from=2020-01-01&to=2100-01-01";
    let all = rentroll_testing::wait_until(std::time::Duration::from_secs(60), || {
        let all = served.get(&format!("{path}&format=csv"), &served.admin);
        (all.body.lines().count() == 4).then_some(all.body)
    });
    let all = all.expect("never counted");
    assert!(all.lines().nth(1).unwrap().starts_with("odd,beta,2,"), "{all}");
    let mut lines: Vec<String> = Vec::new();
    let mut next = format!("{path}&format=csv&limit=1");
    loop {
        let page = served.get(&next, &served.admin);
        assert_eq!(page.status, 200, "{page:?}");
        lines.extend(page.body.lines().skip(usize::from(!lines.is_empty())).map(str::to_owned));
        let Some(link) = page.header("link") else { break };
        next = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
    }
    assert_eq!(lines, all.lines().collect::<Vec<_>>());
}

fn registries(served: &Served) {
    let admin = &served.admin;
    let put = |path: &str, body: Value| served.send("PUT", path, admin, &body.to_string());
    let definition = json!({ "unit": "job", "event_type": "job.run", "aggregation": "count" });
    let unmatched = read(&served.get("/api/v1/events/unmatched", admin));
    for list in ["totals", "rows"] {
        let jobs = unmatched[list].as_array().unwrap().iter().find(|row| row["key"] == "job.run");
        let jobs = jobs.unwrap_or_else(|| panic!("{unmatched}"));
        assert!(jobs["events"] == 1 && (list == "totals" || jobs["tenant"] == "beta"), "{unmatched}");
    }
    assert_eq!(put("/api/v1/meters/jobs", definition.clone()).status, 201);
    assert_eq!(read(&put("/api/v1/meters/jobs", definition))["change"], "unchanged");
    let other = json!({ "unit": "hour", "event_type": "job.run", "aggregation": "count" });
    let refused = put("/api/v1/meters/jobs", other);
    assert_eq!((refused.status, &read(&refused)["parameter"]), (422, &json!("unit")));
    let meter = read(&served.get("/api/v1/meters/jobs", admin));
    assert_eq!(
        (&meter["is_in_force"], &meter["versions"][0]["origin"]),
        (&json!(true), &json!("api")),
        "{meter}"
    );
    assert_eq!(served.send("DELETE", "/api/v1/meters/jobs", admin, "").status, 200);
    assert_eq!(served.send("DELETE", "/api/v1/meters/none", admin, "").status, 404);

    let tenant =
        json!({ "name": "Alpha", "organisation": "Greek", "tier": "pro", "tags": { "region": "eu" } });
    assert_eq!(put("/api/v1/tenants/alpha", tenant).status, 201);
    let csv = "tenant,name,organisation\r\nbeta,Beta,Greek\r\n";
    let bearer = format!("Bearer {admin}");
    let import = |csv: &str, query: &str| {
        let headers = [("authorization", bearer.as_str()), ("content-type", "text/csv")];
        served.exchange("POST", &format!("/api/v1/tenants/import{query}"), &headers, csv)
    };
    let refused = import("tenant,tier\r\nbeta, x\r\n", "");
    assert_eq!((refused.status, &read(&refused)["errors"][0]["line"]), (422, &json!(2)));
    assert_eq!(read(&import(csv, "?dry_run=true"))["is_applied"], false);
    assert_eq!(read(&import(csv, ""))["added"], 1);
    let listed = read(&served.get("/api/v1/tenants?organisation=Greek&limit=1", admin));
    assert_eq!(listed["tenants"][0]["tenant"], "alpha", "{listed}");
    let cursor = listed["next_cursor"].as_str().unwrap();
    let listed =
        read(&served.get(&format!("/api/v1/tenants?organisation=Greek&limit=1&cursor={cursor}"), admin));
    assert_eq!((&listed["tenants"][0]["tenant"], &listed["next_cursor"]), (&json!("beta"), &Value::Null));
    let organisations = read(&served.get("/api/v1/organisations", admin));
    assert_eq!(organisations["organisations"], json!([{ "organisation": "Greek", "tenants": 2 }]));
    let own = read(&served.get("/api/v1/tenants", &served.tenant));
    assert_eq!((own["tenants"].as_array().unwrap().len(), &own["tenants"][0]["tier"]), (1, &json!("pro")));
    assert_eq!(served.get("/api/v1/tenants/beta", &served.tenant).status, 404);
    assert_eq!(served.get("/api/v1/tenants/never", &served.tenant).status, 404);
}

fn portal_tokens(served: &Served) {
    let body = json!({ "tenant": "beta", "meters": ["requests"], "expires_in": "10m" }).to_string();
    let made = served.send("POST", "/api/v1/portal-tokens", &served.admin, &body);
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")));
    let made = read(&made);
    let (id, secret) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let usage = format!("/api/v1/usage?meter=requests&{SPAN}");
    // At once, without waiting for the file to be looked at.
    assert_eq!(read(&served.get(&usage, secret))["rows"][0]["events"], 1);
    let listed = served.get("/api/v1/portal-tokens?tenant=beta", &served.admin);
    assert_eq!(read(&listed)["portal_tokens"][0]["id"], id);
    assert!(!listed.body.contains(secret));
    let admin = served.admin.split('_').nth(1).unwrap();
    assert_eq!(
        served.send("DELETE", &format!("/api/v1/portal-tokens/{admin}"), &served.admin, "").status,
        404
    );
    assert_eq!(served.send("DELETE", &format!("/api/v1/portal-tokens/{id}"), &served.admin, "").status, 204);
    assert_eq!(served.get(&usage, secret).status, 401);
    for wrong in [
        json!({ "tenant": "beta", "expires_in": "53w" }),
        json!({ "tenant": "beta", "expires_at": "2020-01-01" }),
    ] {
        let refused = served.send("POST", "/api/v1/portal-tokens", &served.admin, &wrong.to_string());
        assert_eq!(refused.status, 422, "{refused:?}");
    }
}

fn metrics(served: &Served) {
    let metrics = served.exchange("GET", "/metrics", &[], "").body;
    for line in [
        "rentroll_api_requests_total{method=\"GET\",route=\"/api/v1/usage\",status=\"200\"} ",
        "rentroll_api_request_duration_seconds_count{route=\"/api/v1/meters/{meter}\"} ",
        "rentroll_api_rows_total{route=\"/api/v1/usage\"} ",
        "rentroll_api_queries{state=\"running\"} ",
    ] {
        assert!(metrics.contains(line), "no {line}");
    }
}
