//! What a collector follows.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One entry of `[[collector.sources]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The CloudEvents `source` of its events, and so part of their identity.
    pub name: String,
    /// What it is.
    pub kind: SourceKind,
    /// The files, relative to the configuration file's folder.
    pub paths: Vec<PathBuf>,
    /// The lines' format.
    #[serde(default)]
    pub format: Format,
    /// The field that names the tenant.
    #[serde(default)]
    pub tenant: TenantField,
    /// The CloudEvents `type` of its events; a CloudEvents line brings its own.
    #[serde(default = "default_event_type")]
    pub event_type: String,
    /// A declared backfill: times may be older than the window.
    #[serde(default)]
    pub backfill: bool,
}

fn default_event_type() -> String {
    "http.request".to_owned()
}

/// Kinds of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A file that grows by lines.
    Log,
}

/// Formats of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Apache's and nginx's `combined`; further fields at the end are allowed.
    #[default]
    Combined,
    /// Apache's `common`.
    Common,
    /// One CloudEvent in JSON a line; its `subject` is the tenant, so the file's writer is trusted.
    Cloudevents,
}

/// Where the tenant is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantField {
    /// The first field of an access log.
    #[default]
    ClientAddress,
    /// The authenticated user of an access log.
    RemoteUser,
    /// The `subject` of a CloudEvent.
    Subject,
}

impl SourceConfig {
    /// The rules that the shape alone cannot express; the error is (field, reason).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), (String, String)> {
        let fail = |field: &str, reason: &str| Err((field.to_owned(), reason.to_owned()));
        if self.name.is_empty()
            || self.name.len() > 128
            || self.name.chars().any(|c| c.is_control() || c == '/')
        {
            return fail("name", "must be 1 to 128 bytes, without `/` and control characters");
        }
        if self.paths.is_empty() {
            return fail("paths", "must name at least one file");
        }
        if self.event_type.is_empty() {
            return fail("event_type", "must not be empty");
        }
        match (self.format, self.tenant) {
            (Format::Cloudevents, TenantField::Subject) => Ok(()),
            (Format::Cloudevents, _) => fail("tenant", "must be `subject` for format `cloudevents`"),
            (_, TenantField::Subject) => fail("tenant", "`subject` is only for format `cloudevents`"),
            _ => Ok(()),
        }
    }
}
