//! The files that operators write, and what people ask for.

use std::path::Path;

use rentroll_aggregator::usage;
use rentroll_schemas::catalogue::Catalogue;
use rentroll_schemas::costs::Costs;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::tenant::{TenantRecord, Tenants, csv};
use rentroll_schemas::token::{self, Tokens};
use rentroll_schemas::yaml;

/// Meters that prices and costs may name.
const METERS: &str = "meters:
- {name: requests, unit: request, event_type: http.request, aggregation: count}
- {name: egress_bytes, unit: byte, event_type: http.request, aggregation: sum, value: bytes}
";

fn known() -> Meters {
    let meters: Meters = yaml::parse(METERS, Path::new("meters.yaml")).expect("the meters above are right");
    meters.check().expect("the meters above are right");
    meters
}

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// What a check says has the path of a value and a reason.
fn told(checked: Result<(), (String, String)>) -> bool {
    match checked {
        Ok(()) => true,
        Err((field, reason)) => {
            assert!(!field.is_empty() && !reason.is_empty(), "{field}: {reason}");
            false
        }
    }
}

/// `meters.yaml`.
pub fn meters(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(meters) = yaml::parse::<Meters>(text, Path::new("meters.yaml"))
        && told(meters.check())
    {
        for meter in &meters.meters {
            assert!(meters.get(&meter.name).is_some());
        }
    }
}

/// `catalogue.yaml`.
pub fn catalogue(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(catalogue) = yaml::parse::<Catalogue>(text, Path::new("catalogue.yaml"))
        && told(catalogue.check(&known()))
    {
        let newest = catalogue.newest().expect("a checked catalogue has a version");
        assert!(catalogue.version_on(newest.effective_from).is_some());
    }
}

/// `costs.yaml`.
pub fn costs(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(costs) = yaml::parse::<Costs>(text, Path::new("costs.yaml")) {
        told(costs.check(&known()));
    }
}

/// `tokens.toml`, and whatever a client sends as a secret.
pub fn tokens(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let _ = token::id_of(text);
    if let Ok(tokens) = Tokens::parse(text) {
        let written = tokens.to_toml().expect("what was read can be written");
        assert_eq!(Tokens::parse(&written).as_ref(), Ok(&tokens), "{written}");
        for token in &tokens.tokens {
            let secret = format!("rr_{}_{}", token.id, "A".repeat(43));
            assert_eq!(token::id_of(&secret), Some(token.id.as_str()));
            assert!(token.admits(&secret, token.created_at).is_err(), "a guess opened");
        }
    }
}

/// `tenants.yaml`.
pub fn tenants(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(tenants) = yaml::parse::<Tenants>(text, Path::new("tenants.yaml")) {
        match tenants.check() {
            Ok(()) => assert!(tenants.tenants.iter().all(|record| record.check().is_ok())),
            Err((nth, fault)) => {
                assert!(nth < tenants.tenants.len());
                assert!(!fault.field.is_empty() && !fault.reason.is_empty(), "{fault:?}");
            }
        }
    }
}

/// The registry as CSV.
pub fn tenant_lines(data: &[u8]) {
    match csv::Reading::new(data.to_vec()) {
        Err(fault) => assert!(!fault.field.is_empty() && !fault.reason.is_empty(), "{fault:?}"),
        Ok(reading) => {
            for bad in &reading.bad {
                assert!(!bad.fault.field.is_empty() && !bad.fault.reason.is_empty(), "{bad:?}");
                assert!(bad.place.start <= bad.place.end && bad.place.end <= data.len(), "{bad:?}");
            }
            let records: Vec<TenantRecord> = reading.lines.iter().map(|line| line.record.clone()).collect();
            let again =
                csv::Reading::new(csv::write(&records).into_bytes()).expect("what is written has a header");
            assert!(again.bad.is_empty(), "{:?}", again.bad);
            assert!(again.lines.iter().map(|line| &line.record).eq(&records), "{records:?}");
            // Lines that are bad stay so, byte for byte, in what is handed back to be mended.
            let excerpt = reading.excerpt(reading.bad.iter().map(|bad| bad.place.clone()));
            if let Ok(of_bad) = csv::Reading::new(excerpt) {
                assert!(of_bad.lines.is_empty(), "{:?}", of_bad.lines);
            }
        }
    }
}

/// Filters, groups and lengths of time of a question, a line each.
pub fn question(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match usage::text::filters(text.lines()) {
        Ok(filters) => assert!(filters.iter().all(|filter| !filter.key.is_empty())),
        Err(none) => assert!(usage::text::filters([none]).is_err(), "{none}"),
    }
    for line in text.lines() {
        if let Some(group) = usage::text::group(line) {
            assert_eq!(usage::text::group(&usage::text::written(&group)), Some(group));
        }
        if let Some(length) = usage::text::length(line) {
            assert!(length.num_minutes() > 0, "{line}");
        }
    }
}
