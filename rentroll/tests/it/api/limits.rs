//! What `[api]` allows, and what those are told who want more.

use std::process::Command;
use std::time::Duration;

use rentroll_testing::http::Answer;
use rentroll_testing::wait_until;
use serde_json::{Value, json};

use super::{SPAN, Served, event, json as read};
use crate::rig::Rig;

/// More than may be read; as few as may be configured, one query at once, and no time to wait for a turn.
const EVENTS: usize = 1_200;
const TINY: &str =
    "[api]\nrows_read_max = 1000\nqueries_at_once = 1\nqueries_at_once_per_token = 1\nqueue_ms_max = 0\n";

fn events(count: usize) -> Vec<Value> {
    let data = json!({ "method": "GET", "region": "eu", "bytes": 1 });
    (0..count).map(|n| event("alpha", "ops/web", &n.to_string(), "http.request", data.clone())).collect()
}

/// Of the kind, with its words.
fn refused(answer: &Answer, status: u16, kind: &str, words: &str) {
    let problem = read(answer);
    assert_eq!((answer.status, &problem["status"]), (status, &json!(status)), "{answer:?}");
    assert!(problem["type"].as_str().unwrap().ends_with(kind), "{answer:?}");
    assert!(problem["detail"].as_str().unwrap().contains(words), "{answer:?}");
}

#[test]
fn who_wants_more_than_is_allowed_is_told_how_to_ask_for_less() {
    let served = Served::with(TINY, &events(EVENTS));
    too_much(&served);
    no_turn(&served);
}

#[test]
fn a_tenants_queries_together_take_no_more_of_a_minute_than_they_may() {
    let served = Served::with("[api]\ntenant_token_seconds_per_minute_max = 1\n", &events(1));
    let path = format!("/api/v1/usage?meter=requests&{SPAN}");
    // A second is some hundred of these.
    let refusal = wait_until(Duration::from_secs(60), || {
        let answer = served.get(&path, &served.tenant);
        (answer.status != 200).then_some(answer)
    });
    let answer = refusal.expect("never refused");
    refused(&answer, 429, "#too-many-requests", "have taken the 1 s of a minute that they may take together");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&seconds), "{answer:?}");
    // What a portal's token may take is its own, and who reads all may take more.
    assert_eq!(served.get(&path, &served.portal).status, 200);
    assert_eq!(served.get(&path, &served.service).status, 200);
    let again = wait_until(Duration::from_secs(seconds + 30), || {
        std::thread::sleep(Duration::from_millis(200));
        (served.get(&path, &served.tenant).status == 200).then_some(())
    });
    assert!(again.is_some(), "nothing comes back");
}

fn too_much(served: &Served) {
    // The rollups do not keep regions apart: the events would be read.
    let path = format!("/api/v1/usage?meter=requests&{SPAN}&filter=region=eu");
    for token in [&served.service, &served.tenant, &served.portal] {
        let answer = served.get(&path, token);
        refused(&answer, 422, "#too-much-to-read", "more than 1000: ask for a shorter span");
        let narrow = served.get(&format!("{path}&tenant=nobody"), token);
        assert_eq!(narrow.status, 200, "{narrow:?}");
    }
    let path = "/openmeter/api/v1/meters/p95/query";
    for token in [&served.service, &served.tenant] {
        let answer = served.get(path, token);
        refused(&answer, 422, ":too-much-to-read", "more than 1000: ask for a shorter span");
    }
}

fn no_turn(served: &Served) {
    let usage = format!("/api/v1/usage?meter=requests&{SPAN}");
    let portal = format!("/openmeter/api/v1/portal/meters/requests/query?{SPAN}");
    let Served { service, tenant, .. } = served;
    for (path, token) in [
        (usage.as_str(), service),
        (&usage, tenant),
        (&usage, &served.portal),
        // What is known of meters and tenants is asked for in turn as well.
        ("/api/v1/meters", tenant),
        ("/api/v1/tenants", tenant),
        ("/api/v1/organisations", service),
    ] {
        let answer = at_once(served, &[(path, token); 6], "#too-many-requests");
        refused(&answer, 429, "#too-many-requests", "this token has as many queries in work");
        assert_eq!(answer.header("retry-after"), Some("1"), "{path}");
    }
    let portal =
        portal.replace("2020-01-01", "2020-01-01T00:00:00Z").replace("2100-01-01", "2100-01-01T00:00:00Z");
    for (path, token) in [
        ("/openmeter/api/v1/meters", service),
        ("/openmeter/api/v1/subjects", tenant),
        (&portal, &served.portal),
    ] {
        let answer = at_once(served, &[(path, token); 6], ":too-many-requests");
        refused(&answer, 503, ":too-many-requests", "this token has as many queries in work");
        assert_eq!(answer.header("retry-after"), Some("1"), "{path}");
    }
    // One token's query stands before another's.
    for path in [usage.as_str(), "/api/v1/meters"] {
        let others = [service, tenant, &served.portal].map(|token| (path, token));
        let answer = at_once(served, &others, "#unavailable");
        refused(&answer, 503, "#unavailable", "as many queries are in work as may be");
        assert_eq!(answer.header("retry-after"), Some("1"), "{path}");
    }
}

/// Asks all of it at once, again and again, until one is refused so.
fn at_once(served: &Served, requests: &[(&str, &String)], kind: &str) -> Answer {
    let found = wait_until(Duration::from_secs(60), || {
        std::thread::scope(|scope| {
            let ask = |(path, token): &(&str, &String)| {
                let (path, token) = ((*path).to_owned(), (*token).clone());
                scope.spawn(move || served.get(&path, &token))
            };
            let asking: Vec<_> = requests.iter().map(ask).collect();
            let mut answers = asking.into_iter().map(|one| one.join().unwrap());
            answers.find(|answer| answer.status >= 400 && answer.body.contains(kind))
        })
    });
    found.unwrap_or_else(|| panic!("never {kind}: {requests:?}"))
}

#[test]
fn a_store_that_stands_still_is_waited_for_no_longer_than_a_query_may_take() {
    let rig = Rig::receiving("[api]\nquery_seconds_max = 1\n").0;
    // In a process of its own, which can be stopped.
    let store = rig.spawn(&["serve"]);
    let is_there = || rig.path("data/clickhouse/face.json").exists().then_some(());
    assert!(wait_until(Duration::from_secs(60), is_there).is_some(), "{}", store.said());
    let served = Served::on(rig, &events(1));
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &store.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "{name}");
    };
    let path = format!("/api/v1/usage?meter=requests&{SPAN}");
    signal("-STOP");
    let answers = [&served.service, &served.tenant, &served.portal].map(|token| served.get(&path, token));
    signal("-CONT");
    for answer in answers {
        refused(&answer, 503, "#too-long", "no answer within 1 s: ask for a shorter span");
        assert_eq!(answer.header("retry-after"), Some("10"));
    }
    let again = wait_until(Duration::from_secs(60), || {
        (served.get(&path, &served.tenant).status == 200).then_some(())
    });
    assert!(again.is_some(), "{:?}", served.get(&path, &served.tenant));
    // Whoever uses the store ends first.
    drop(served);
    drop(store);
}
