//! Lines of logs.

use rentroll_collector::format;
use rentroll_collector::source::{Format, SourceConfig, SourceKind, TenantField};

use crate::events::is_read_again;

fn source(format: Format, tenant: TenantField) -> SourceConfig {
    SourceConfig {
        name: "web".to_owned(),
        kind: SourceKind::Log,
        paths: vec!["/var/log/access.log".into()],
        format,
        tenant,
        event_type: "http.request".to_owned(),
        backfill: false,
    }
}

fn read(source: &SourceConfig, line: &[u8]) {
    match format::read(source, line, "0-0") {
        Ok(event) => is_read_again(&event),
        Err(refusal) => {
            assert!(!refusal.reason.is_empty() && !refusal.field.is_empty() && !refusal.detail.is_empty());
        }
    }
}

/// A line of an Apache or nginx access log.
pub fn access_line(data: &[u8]) {
    read(&source(Format::Combined, TenantField::ClientAddress), data);
    read(&source(Format::Common, TenantField::RemoteUser), data);
}

/// A line that is a CloudEvent.
pub fn json_line(data: &[u8]) {
    read(&source(Format::Cloudevents, TenantField::Subject), data);
}
