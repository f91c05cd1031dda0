//! The description and the routes are one.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Served, encoded, event, json};

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

#[test]
fn every_operation_is_there_and_nothing_else_is() {
    let served = Served::with("", &[event("alpha", "ops/web", "1", "http.request", serde_json::json!({}))]);
    let document = json(&served.exchange("GET", "/api/v1/openapi.json", &[], ""));
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
    assert_eq!(described, rentroll_aggregator::api::paths().into_iter().collect());

    for (path, item) in paths {
        let address = filled(&document, path, item);
        for method in METHODS {
            let answer = served.send(&method.to_uppercase(), &address, &served.admin, "");
            if item.get(method).is_some() {
                let is_nowhere = answer.status == 404 && answer.body.contains("there is nothing at");
                assert!(answer.status != 405 && !is_nowhere, "{method} {path}: {answer:?}");
                let responses = item[method]["responses"].as_object().unwrap();
                assert!(responses.contains_key(&answer.status.to_string()), "{method} {path}: {answer:?}");
            } else {
                assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
                let allow = answer.header("allow").unwrap_or_default();
                assert!(!allow.is_empty(), "{method} {path}: {answer:?}");
            }
        }
    }
    let yaml = served.exchange("GET", "/api/v1/openapi.yaml", &[], "");
    assert_eq!(yaml.header("content-type"), Some("application/yaml"));
    let docs = served.exchange("GET", "/api/v1/docs", &[], "");
    assert!(docs.body.starts_with("# The API"), "{docs:?}");
    let moved = served.exchange("GET", "/api/v1", &[], "");
    assert_eq!((moved.status, moved.header("location")), (308, Some("/api/v1/")));
}

/// The path, with its parameters' examples.
fn filled(document: &Value, path: &str, item: &Value) -> String {
    let mut address = path.to_owned();
    let own = item["parameters"].as_array().into_iter().flatten();
    let of_methods = METHODS.iter().filter_map(|method| item[method]["parameters"].as_array()).flatten();
    for parameter in own.chain(of_methods) {
        let parameter = match parameter["$ref"].as_str() {
            Some(place) => document.pointer(place.trim_start_matches('#')).unwrap(),
            None => parameter,
        };
        if parameter["in"] == "path" {
            let name = parameter["name"].as_str().unwrap();
            let example = parameter["example"].as_str().unwrap_or_else(|| panic!("no example of {name}"));
            address = address.replace(&format!("{{{name}}}"), &encoded(example));
        }
    }
    assert!(!address.contains('{'), "{address}");
    address
}
