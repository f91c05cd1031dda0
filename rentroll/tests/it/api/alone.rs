//! The API at an address of its own, where nothing else is.

use rentroll_testing::{free_port, http};
use serde_json::json;

use super::{SPAN, Served, event, json};

#[test]
fn an_address_of_its_own_has_the_api_and_nothing_else() {
    let port = free_port().unwrap();
    let events = [event("alpha", "ops", "1", "http.request", json!({"bytes": 1}))];
    let served = Served::with(&format!("[api]\nlisten = \"127.0.0.1:{port}\"\n"), &events);
    let get = |path: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        let request = http::request("GET", path, &[("authorization", &bearer)], b"");
        http::exchange(([127, 0, 0, 1], port).into(), &request).unwrap()
    };
    let usage = format!("/api/v1/usage?meter=requests&{SPAN}");
    assert_eq!(json(&get(&usage, &served.tenant))["rows"], json(&served.get(&usage, &served.tenant))["rows"]);
    assert_eq!(json(&get(&usage, &served.tenant))["rows"][0]["events"], 1);
    assert_eq!(get("/openmeter/api/v1/meters", &served.admin).status, 200);
    assert_eq!(get("/healthz", "").status, 200);
    for path in ["/", "/tenants", "/tenants.csv", "/invoices", "/metrics", "/readyz"] {
        assert_eq!(get(path, &served.admin).status, 404, "{path}");
        assert_eq!(served.get(path, "").status, 200, "{path}");
    }
}
