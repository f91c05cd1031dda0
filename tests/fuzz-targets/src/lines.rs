//! Lines of logs.

use std::sync::LazyLock;

use rentroll_collector::format::LineFormat;
use rentroll_collector::source::{FieldMap, Format, Names, SourceConfig, TenantField};

use crate::events::is_read_again;

fn format(change: impl FnOnce(&mut SourceConfig)) -> LineFormat {
    let mut source = SourceConfig::log("web", "/var/log/web.log");
    change(&mut source);
    LineFormat::new(&source).expect("the sources below are right")
}

fn names(pairs: &[(&str, &str)]) -> Names {
    Names::Map(pairs.iter().map(|(name, field)| ((*name).to_owned(), (*field).to_owned())).collect())
}

fn read(format: &LineFormat, line: &[u8]) {
    match format.read(line, "0-0") {
        Ok(event) => is_read_again(&event),
        Err(refusal) => {
            assert!(!refusal.reason.is_empty() && !refusal.field.is_empty() && !refusal.detail.is_empty());
        }
    }
}

/// A line of an Apache or nginx access log.
pub fn access_line(data: &[u8]) {
    static BY_ADDRESS: LazyLock<LineFormat> =
        LazyLock::new(|| format(|source| source.format = Format::Combined));
    static BY_USER: LazyLock<LineFormat> = LazyLock::new(|| {
        format(|source| (source.format, source.tenant) = (Format::Common, Some(TenantField::RemoteUser)))
    });
    read(&BY_ADDRESS, data);
    read(&BY_USER, data);
}

/// A line that is a CloudEvent, and one of JSON whose fields a source maps.
pub fn json_line(data: &[u8]) {
    static CLOUDEVENTS: LazyLock<LineFormat> =
        LazyLock::new(|| format(|source| source.format = Format::Cloudevents));
    static MAPPED: LazyLock<LineFormat> = LazyLock::new(|| {
        format(|source| {
            source.format = Format::Json;
            source.fields = FieldMap {
                tenant: "app.id".to_owned(),
                time: "ts".to_owned(),
                time_format: "unix_ms".to_owned(),
                id: Some("id".to_owned()),
                measures: names(&[("bytes", "res.bytes"), ("ms", "took")]),
                dimensions: names(&[("status", "res.status"), ("note", "note")]),
                ..FieldMap::default()
            };
        })
    });
    read(&CLOUDEVENTS, data);
    read(&MAPPED, data);
}

/// A line that a pattern takes apart. Its time is written by a pattern too.
pub fn pattern_line(data: &[u8]) {
    const PATTERN: &str =
        r"^(?P<time>\S+ \S+) (?P<tenant>\S+) (?P<verb>[A-Z]+)(?: (?P<ms>\S+))?(?: (?P<note>.*))?$";
    static MAPPED: LazyLock<LineFormat> = LazyLock::new(|| {
        format(|source| {
            source.format = Format::Regex;
            source.pattern = Some(PATTERN.to_owned());
            source.fields = FieldMap {
                time_format: "%Y-%m-%d %H:%M:%S%.f".to_owned(),
                measures: Names::List(vec!["ms".to_owned()]),
                ..FieldMap::default()
            };
        })
    });
    read(&MAPPED, data);
}
