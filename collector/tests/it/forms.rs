//! Every form that an event may come in, and what becomes of the bad ones in a batch.

use std::collections::BTreeSet;
use std::io::Write as _;

use rentroll_collector::http::config::HttpConfig;
use rentroll_schemas::Event;
use rentroll_schemas::reject::Reject;
use rentroll_schemas::topics::{Topic, headers};

use crate::rig::{JSON, Rig, event, events};

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn ids(rig: &Rig) -> BTreeSet<String> {
    let records = rig.read(Topic::Usage);
    let id = |record: &rentroll_engines::log::Record| {
        let event = Event::from_json(&record.value).unwrap();
        assert_eq!(event.identity(), record.key);
        assert_eq!(record.header(headers::TENANT), Some("acme"));
        assert_eq!(event.measure("rows").unwrap().to_string(), "7");
        event.id.to_string()
    };
    records.iter().map(id).collect()
}

#[test]
fn every_form_is_taken_and_durable_when_answered() {
    let mut rig = Rig::new(HttpConfig::default());
    let secret = rig.tenant("acme");
    let whole = |id: &str| event("api", id, "acme").replacen('{', r#"{"specversion":"1.0","#, 1);
    let structured = ("content-type", "application/cloudevents+json; charset=UTF-8");
    let batch = ("content-type", "Application/CloudEvents-Batch+JSON");
    let many = events("api", "acme", 100..3100);
    type Step<'a> = (Vec<(&'a str, &'a str)>, Vec<u8>, Vec<String>);
    let steps: Vec<Step<'_>> = vec![
        (vec![structured], whole("structured").into(), vec!["structured".into()]),
        (vec![batch], format!("[{},\n{}]", whole("b1"), whole("b2")).into(), vec!["b1".into(), "b2".into()]),
        (vec![batch], b" [ ] ".to_vec(), vec![]),
        (vec![JSON], event("api", "plain", "acme").into(), vec!["plain".into()]),
        (
            vec![JSON],
            b"{\"id\":\"bare\",\"source\":\"api\",\"type\":\"t\",\"data\":{\"rows\":7}}".to_vec(),
            vec!["bare".into()],
        ),
        (
            vec![
                JSON,
                ("ce-specversion", "1.0"),
                ("ce-id", "binary%20one"),
                ("ce-source", "api"),
                ("ce-type", "t"),
            ],
            b"{\"rows\":7}".to_vec(),
            vec!["binary one".into()],
        ),
        (vec![JSON, ("content-encoding", "gzip")], gzip(&event("api", "gz", "acme")), vec!["gz".into()]),
        (
            vec![JSON, ("content-encoding", "ZSTD")],
            zstd::encode_all(many.as_bytes(), 1).unwrap(),
            (100..3100).map(|id| id.to_string()).collect(),
        ),
    ];
    let mut expected = BTreeSet::new();
    for (headers, body, ids_of_step) in steps {
        let answer = rig.post(&secret, &headers, &body);
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{headers:?}");
        assert_eq!(answer.header("x-request-id").map(str::len), Some(16));
        expected.extend(ids_of_step);
        assert_eq!(ids(&rig), expected, "{headers:?}");
    }
    assert!(rig.read(Topic::Rejects).is_empty());
    // OpenMeter's clients have a path of their own.
    let bearer = format!("Bearer {secret}");
    let body = event("api", "om", "acme");
    let headers = [("authorization", bearer.as_str()), JSON];
    let answer = rentroll_testing::http::post(rig.address, "/api/v1/events", &headers, body.as_bytes());
    assert_eq!(answer.unwrap().status, 204);
}

#[test]
fn the_good_of_a_batch_are_taken_and_the_bad_are_answered_and_kept() {
    let mut rig = Rig::new(HttpConfig { event_bytes_max: 1024, ..HttpConfig::default() });
    let secret = rig.tenant("acme");
    let bad = [
        (1, r#"{"id":01}"#.to_owned(), "unreadable", "body"),
        (2, r#"{"source":"api","type":"t"}"#.to_owned(), "invalid", "id"),
        (
            4,
            event("api", "old", "acme").replacen('{', r#"{"time":"2015-05-17T10:05:03Z","#, 1),
            "too_old",
            "time",
        ),
        (
            5,
            event("api", "ahead", "acme").replacen('{', r#"{"time":"2100-01-01T00:00:00Z","#, 1),
            "in_future",
            "time",
        ),
        (6, event("api", "x", "other"), "forbidden", "subject"),
        (7, event("web", "x", "acme"), "forbidden", "source"),
        (8, event("api", "7", "acme").replace("7}", r#"[1]}"#), "invalid", "data.rows"),
        (9, event("api", "y".repeat(1024), "acme"), "too_large", ""),
        (
            10,
            r#"{"id":"1","source":"api","type":"t","data_base64":"AA=="}"#.to_owned(),
            "invalid",
            "data_base64",
        ),
    ];
    let mut all = vec![event("api", "good-1", "acme"); 11];
    all[3] = event("api", "good-2", "acme");
    for (index, text, ..) in &bad {
        all[*index].clone_from(text);
    }
    let answer = rig.post(&secret, &[JSON], format!("[{}]", all.join(",")).as_bytes());
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let document: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        (&document["accepted"], &document["rejected"], &document["status"]),
        (&2.into(), &9.into(), &400.into())
    );
    let request_id = answer.header("x-request-id").unwrap();
    assert_eq!(document["request_id"], request_id);
    let kept: Vec<Reject> = rig
        .read(Topic::Rejects)
        .iter()
        .map(|record| serde_json::from_slice(&record.value).unwrap())
        .collect();
    assert_eq!(kept.len(), bad.len());
    for (answered, (index, text, reason, field)) in document["errors"].as_array().unwrap().iter().zip(&bad) {
        assert_eq!(answered["index"], *index);
        assert_eq!(answered["reason"], *reason, "{answered}");
        assert_eq!(answered.get("field").map_or("", |field| field.as_str().unwrap()), *field, "{answered}");
        let place = format!("http:t0:{request_id}:{index}");
        let reject = kept.iter().find(|reject| reject.place == place).unwrap();
        assert_eq!((reject.reason.as_str(), reject.field.as_str()), (*reason, *field));
        assert_eq!((reject.tenant.as_str(), reject.source.as_str()), ("acme", "http"));
        assert_eq!(reject.bytes, &text.as_bytes()[..text.len().min(1024)]);
    }
    assert_eq!(ids(&rig), ["good-1", "good-2"].map(str::to_owned).into());
    // What cannot be told apart into events is one reject.
    for (headers, body) in
        [(vec![JSON], &b"[{}"[..]), (vec![JSON, ("content-encoding", "gzip")], b"not gzip")]
    {
        let answer = rig.post(&secret, &headers, body);
        assert_eq!(answer.status, 400, "{}", answer.body);
        let last: Vec<Reject> = rig
            .read(Topic::Rejects)
            .iter()
            .map(|record| serde_json::from_slice(&record.value).unwrap())
            .filter(|reject: &Reject| reject.bytes == body)
            .collect();
        assert_eq!((last.len(), last[0].reason.as_str()), (1, "unreadable"));
    }
}

#[test]
fn what_is_not_supported_is_answered_with_what_is() {
    let mut rig = Rig::new(HttpConfig::default());
    let secret = rig.tenant("acme");
    let answer = rig.post(&secret, &[("content-type", "text/csv")], b"a,b");
    assert_eq!(answer.status, 415);
    assert!(answer.header("accept-post").unwrap().contains("application/cloudevents-batch+json"));
    let answer = rig.post(&secret, &[("content-type", "application/xml"), ("ce-id", "1")], b"<a/>");
    assert_eq!((answer.status, answer.body.contains("application/xml")), (415, true), "{}", answer.body);
    let answer = rig.post(&secret, &[JSON, ("content-encoding", "br")], b"{}");
    assert_eq!((answer.status, answer.header("accept-encoding")), (415, Some("gzip, zstd, identity")));
    let exchange = |method, path| {
        rentroll_testing::http::exchange(
            rig.address,
            &rentroll_testing::http::request(method, path, &[], b""),
        )
        .unwrap()
    };
    assert_eq!(exchange("POST", "/v2/events").status, 404);
    let answer = exchange("GET", "/v1/events");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
}

#[test]
fn attributes_that_are_not_known_are_passed_over_and_not_kept() {
    let mut rig = Rig::new(HttpConfig::default());
    let secret = rig.tenant("acme");
    let further = r#"{"traceparent":"00-secret","dataschema":"urn:secret","datacontenttype":"text/secret","#;
    let structured = event("api", 1, "acme").replacen('{', further, 1);
    assert_eq!(rig.post(&secret, &[JSON], structured.as_bytes()).status, 204);
    let binary = [JSON, ("ce-specversion", "1.0"), ("ce-id", "2"), ("ce-source", "api"), ("ce-type", "t")];
    let headers = [&binary[..], &[("ce-traceparent", "00-secret")]].concat();
    assert_eq!(rig.post(&secret, &headers, b"{\"rows\":7}").status, 204);
    let kept = rig.read(Topic::Usage);
    assert_eq!(kept.len(), 2);
    for record in kept {
        let text = String::from_utf8(record.value.to_vec()).unwrap();
        assert!(text.contains("rows") && !text.contains("secret") && !text.contains("trace"), "{text}");
    }
}

/// The bodies are those of OpenMeter's SDKs and of LiteLLM's callback; what their server takes and this one does not
/// is told, never passed over.
#[test]
fn of_the_values_in_data_objects_are_taken_and_numbers_are_exact_or_refused() {
    let mut rig = Rig::new(HttpConfig::default());
    let secret = rig.tenant("acme");
    let structured = ("content-type", "application/cloudevents+json");
    let post = |data: &str| {
        let body = format!(
            r#"{{"specversion":"1.0","id":"{}","source":"@openmeter/sdk","type":"prompt","subject":"acme","data":{data}}}"#,
            data.len()
        );
        rig.post(&secret, &[structured], body.as_bytes())
    };
    let sent_at_ms = chrono::Utc::now().timestamp_millis();
    let data = r#"{"tokens":"12","cost":1.5e-7,"model":null,"stream":true,"usage":{"prompt":7,"details":{"cached":0}}}"#;
    assert_eq!(post(data).status, 204);
    let records = rig.read(Topic::Usage);
    let kept = Event::from_json(&records[0].value).unwrap();
    let now_ms = chrono::Utc::now().timestamp_millis();
    assert!((sent_at_ms..=now_ms).contains(&kept.time.timestamp_millis()), "no time is the arrival");
    assert_eq!((kept.dimension("tokens"), kept.measure("tokens")), (Some("12"), None), "a text stays one");
    assert_eq!(kept.measure("cost").unwrap().to_string(), "0.00000015");
    assert_eq!(kept.measure("usage.prompt").unwrap().to_string(), "7");
    assert_eq!(kept.measure("usage.details.cached").unwrap().to_string(), "0");
    assert_eq!((kept.dimension("stream"), kept.dimension("model")), (Some("true"), None));
    for (data, field) in [
        ("null", "data"),
        (r#""text""#, "data"),
        ("[1]", "data"),
        ("7", "data"),
        (r#"{"tags":["a"]}"#, "data.tags"),
        // Three times 1.1e-6 in floats.
        (r#"{"cost":3.3000000000000003e-06}"#, "data.cost"),
    ] {
        let answer = post(data);
        assert_eq!(answer.status, 400, "{data}");
        let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let error = &problem["errors"][0];
        assert_eq!((error["reason"].as_str(), error["field"].as_str()), (Some("invalid"), Some(field)));
    }
}
