use proptest::prelude::*;

use super::*;
use crate::source::Names;

fn json() -> SourceConfig {
    let names = |pairs: &[(&str, &str)]| {
        Names::Map(pairs.iter().map(|(name, field)| ((*name).to_owned(), (*field).to_owned())).collect())
    };
    SourceConfig {
        format: Format::Json,
        fields: FieldMap {
            tenant: "app.id".into(),
            time: "ts".into(),
            time_format: "unix_ms".into(),
            measures: names(&[("bytes", "res.bytes"), ("ms", "took")]),
            dimensions: names(&[("status", "res.status"), ("cached", "cached")]),
            ..FieldMap::default()
        },
        ..SourceConfig::log("api", "api.log")
    }
}

fn regex(pattern: &str) -> SourceConfig {
    SourceConfig {
        format: Format::Regex,
        pattern: Some(pattern.into()),
        fields: FieldMap { measures: Names::List(vec!["ms".into()]), ..FieldMap::default() },
        ..SourceConfig::log("api", "api.log")
    }
}

const PATTERN: &str = r"^(?P<time>\S+) (?P<tenant>\S+) (?P<verb>[A-Z]+)(?: (?P<ms>\S+))?(?: (?P<note>.*))?$";

#[test]
fn json_fields_are_found_nested_flat_and_in_any_order() {
    let format = LineFormat::new(&json()).unwrap();
    for line in [
        r#"{"ts":1431857103500,"app":{"id":"acme"},"res":{"bytes":12.5,"status":200},"took":"7","cached":true,"more":[{}]}"#,
        r#"{"res.bytes":12.5,"res.status":"200","cached":true,"took":7,"app.id":"acme","ts":"1431857103500"}"#,
        r#" { "res" : { "more" : { "bytes" : 1 } , "status" : 200 , "bytes" : 12.5e0 } , "app" : { "id" : "\u0061cme" , "x" : null }, "took" : 7 , "cached" : true, "ts" : 1431857103500 } "#,
    ] {
        let event = format.read(line.as_bytes(), "1").unwrap();
        assert_eq!(
            (event.tenant.as_ref(), event.id.as_ref(), event.source.as_ref()),
            ("acme", "1", "api"),
            "{line}"
        );
        assert_eq!(event.time.to_rfc3339(), "2015-05-17T10:05:03.500+00:00");
        assert_eq!(event.measure("bytes").unwrap().to_string(), "12.5");
        assert_eq!(event.measure("ms").unwrap().to_string(), "7");
        assert_eq!((event.dimension("status"), event.dimension("cached")), (Some("200"), Some("true")));
    }
    let bare = format.read(br#"{"ts":0,"app":{"id":7},"res":null,"took":"-"}"#, "1").unwrap();
    assert_eq!((bare.tenant.as_ref(), bare.measures.len(), bare.dimensions.len()), ("7", 0, 0));
}

#[test]
fn cloudevents_speak_for_the_sources_that_are_listed() {
    let with = |sources: Option<&[&str]>| SourceConfig {
        format: Format::Cloudevents,
        sources: sources.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        ..SourceConfig::log("api", "api.log")
    };
    let read = |config: &SourceConfig, source: &str| {
        let line = format!(
            r#"{{"specversion":"1.0","id":"1","source":"{source}","type":"t","subject":"acme","time":"2015-05-17T10:05:03Z"}}"#
        );
        let read =
            LineFormat::new(config).unwrap().read(line.as_bytes(), "1").map(|event| event.source.to_string());
        read.map_err(|refusal| (refusal.reason, refusal.field))
    };
    let listed = with(Some(&["edge"]));
    for (source, is_own) in
        [("api", true), ("api/1", true), ("edge", true), ("edge/eu", true), ("edges", false), ("web", false)]
    {
        let expected = is_own.then(|| source.to_owned()).ok_or((reason::FORBIDDEN, "source".to_owned()));
        assert_eq!(read(&listed, source), expected);
        assert!(read(&with(None), source).is_ok());
    }
    assert!(read(&with(Some(&[])), "api/1").is_ok() && read(&with(Some(&[])), "edge").is_err());
    assert_eq!(with(Some(&["a/b"])).check().unwrap_err().0, "sources");
    assert_eq!(SourceConfig { sources: Some(Vec::new()), ..json() }.check().unwrap_err().0, "sources");
}

#[test]
fn json_refuses_by_field() {
    let format = LineFormat::new(&json()).unwrap();
    for (line, field) in [
        ("", "line"),
        ("[]", "line"),
        ("{", "line"),
        (r#"{"ts":0,"app":{"id":"a"}} x"#, "line"),
        (r#"{"ts":0}"#, "app.id"),
        (r#"{"ts":0,"app":"acme"}"#, "app.id"),
        (r#"{"ts":0,"app":{"id":""}}"#, "app.id"),
        (r#"{"ts":0,"app":{"id":"-"}}"#, "app.id"),
        (r#"{"ts":0,"app":{"id":["a"]}}"#, "app.id"),
        (r#"{"app":{"id":"a"}}"#, "ts"),
        (r#"{"ts":"today","app":{"id":"a"}}"#, "ts"),
        (r#"{"ts":0,"app":{"id":"a"},"took":true}"#, "took"),
        (r#"{"ts":0,"app":{"id":"a"},"took":"7ms"}"#, "took"),
        (r#"{"ts":0,"app":{"id":"a"},"res":{"bytes":0.0000000001}}"#, "res.bytes"),
        (r#"{"ts":0,"app":{"id":"a"},"res":{"status":{}}}"#, "res.status"),
    ] {
        assert_eq!(format.read(line.as_bytes(), "1").unwrap_err().field, field, "{line}");
    }
    assert_eq!(format.read(b"{\"ts\":\"\xff\"}", "1").unwrap_err().field, "line");
}

#[test]
fn an_id_and_a_type_may_be_fields() {
    let mut source = json();
    (source.fields.id, source.fields.kind) = (Some("req".into()), Some("op".into()));
    let format = LineFormat::new(&source).unwrap();
    let event = format.read(br#"{"ts":0,"app":{"id":"a"},"req":"r-1","op":"db.read"}"#, "1").unwrap();
    assert_eq!((event.id.as_ref(), event.kind.as_ref()), ("r-1", "db.read"));
    let refusal = format.read(br#"{"ts":0,"app":{"id":"a"},"op":"db.read"}"#, "1").unwrap_err();
    assert_eq!((refusal.field.as_str(), refusal.detail.as_str()), ("req", "missing"));
}

#[test]
fn a_pattern_takes_lines_apart() {
    let format = LineFormat::new(&regex(PATTERN)).unwrap();
    let event = format.read(b"2015-05-17T10:05:03Z acme GET 7.5 all well", "1").unwrap();
    assert_eq!((event.tenant.as_ref(), event.measure("ms").unwrap().to_string()), ("acme", "7.5".to_owned()));
    // What is neither tenant, time nor measure is a dimension.
    assert_eq!((event.dimension("verb"), event.dimension("note")), (Some("GET"), Some("all well")));
    let event = format.read(b"2015-05-17T10:05:03Z acme GET", "1").unwrap();
    assert_eq!((event.measures.len(), event.dimensions.len()), (0, 1));
    for (line, field) in [
        (&b"hello"[..], "line"),
        (b"today acme GET", "time"),
        (b"2015-05-17T10:05:03Z - GET", "tenant"),
        (b"2015-05-17T10:05:03Z acme GET fast", "ms"),
        (b"2015-05-17T10:05:03Z acme GET 1 \xff", "line"),
    ] {
        assert_eq!(format.read(line, "1").unwrap_err().field, field, "{line:?}");
    }
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let wrong = |source: SourceConfig| source.check().unwrap_err();
    let field = |change: fn(&mut FieldMap)| {
        let mut source = json();
        change(&mut source.fields);
        wrong(source).0
    };
    assert_eq!(field(|fields| fields.tenant.clear()), "fields.tenant");
    assert_eq!(field(|fields| fields.time_format = "iso".into()), "fields.time_format");
    assert_eq!(field(|fields| fields.id = Some(String::new())), "fields.id");
    assert_eq!(field(|fields| fields.dimensions = Names::List(vec!["ms".into()])), "fields.dimensions");
    assert_eq!(wrong(SourceConfig { pattern: None, ..regex("") }).0, "pattern");
    for (pattern, says) in
        [("(", "unclosed group"), ("(?P<time>.)", "(?P<tenant>…)"), ("(?P<time>.)(?P<tenant>.)", "(?P<ms>…)")]
    {
        let (field, reason) = wrong(regex(pattern));
        assert!(field == "pattern" && reason.contains(says), "{pattern}: {reason}");
    }
    let log = || SourceConfig::log("web", "a.log");
    assert_eq!(wrong(SourceConfig { tenant: Some(TenantField::RemoteUser), ..json() }).0, "tenant");
    assert_eq!(wrong(SourceConfig { tenant: Some(TenantField::Subject), ..log() }).0, "tenant");
    assert_eq!(wrong(SourceConfig { fields: json().fields, ..log() }).0, "fields");
    assert_eq!(wrong(SourceConfig { pattern: Some("x".into()), ..log() }).0, "pattern");
    assert_eq!(wrong(SourceConfig { paths: vec!["/var/log/[.log".into()], ..log() }).0, "paths");
    assert_eq!(wrong(SourceConfig { paths: Vec::new(), ..log() }).0, "paths");
    log().check().unwrap();
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_without_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        for source in [json(), regex(PATTERN)] {
            let _ = LineFormat::new(&source).unwrap().read(&line, "1");
        }
    }

    #[test]
    fn json_values_come_through(tenant in "[^-\\s\\p{C}]\\PC{0,20}", status in "\\PC{0,20}", nanos in any::<i64>(), ms in 0_i64..4_000_000_000_000) {
        let bytes = rentroll_schemas::Quantity::from_nanos(nanos.into());
        let line = format!(
            r#"{{"ts":{ms},"app":{{"id":{}}},"res":{{"bytes":{bytes},"status":{}}}}}"#,
            serde_json::to_string(&tenant).unwrap(), serde_json::to_string(&status).unwrap(),
        );
        let format = LineFormat::new(&json()).unwrap();
        let event = format.read(line.as_bytes(), "1").unwrap();
        prop_assert_eq!(event.tenant.as_ref(), tenant);
        prop_assert_eq!(event.time.timestamp_millis(), ms);
        prop_assert_eq!(event.measure("bytes"), Some(bytes));
        prop_assert_eq!(event.dimension("status"), Some(status.as_str()));
    }
}
