//! What a collector follows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rentroll_schemas::token::is_source;
use serde::{Deserialize, Serialize};

use crate::format::LineFormat;
use crate::sight::Sight;

/// One entry of `[[collector.sources]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The CloudEvents `source` of its events, and so part of their identity.
    pub name: String,
    /// What it is.
    pub kind: SourceKind,
    /// The files, relative to the configuration file's folder; `*`, `?`, `[ab]` and `**` make a pattern.
    pub paths: Vec<PathBuf>,
    /// The lines' format.
    #[serde(default)]
    pub format: Format,
    /// The field of an access log that names the tenant; by default the client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantField>,
    /// The sources that CloudEvents lines may bear beside `name`, which no tenant's token may use. Unset: any, and
    /// nothing is kept from tenants but `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<String>>,
    /// The regular expression of format `regex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What the fields of formats `json` and `regex` mean.
    #[serde(default)]
    pub fields: FieldMap,
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
    /// A JSON object a line; `fields` says what they mean.
    Json,
    /// Whatever `pattern` takes apart; `fields` says what its named captures mean.
    Regex,
    /// One CloudEvent in JSON a line; its `subject` is the tenant, so the file's writer is trusted.
    Cloudevents,
}

/// Where the tenant is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantField {
    /// The first field of an access log.
    ClientAddress,
    /// The authenticated user of an access log.
    RemoteUser,
    /// The `subject` of a CloudEvent.
    Subject,
}

/// Which fields of a line mean what: paths with dots into JSON, or names of a pattern's captures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FieldMap {
    /// Whose it is.
    pub tenant: String,
    /// When it happened.
    pub time: String,
    /// How the time is written: `rfc3339`, `unix_s`, `unix_ms`, `unix_us`, `unix_ns`, or a pattern of strftime.
    pub time_format: String,
    /// The event's id, unique in this source; without it, the line's place in its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The operation; without it, the source's `event_type`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Numbers to meter.
    pub measures: Names,
    /// Texts to tell operations apart.
    pub dimensions: Names,
}

impl Default for FieldMap {
    fn default() -> Self {
        FieldMap {
            tenant: "tenant".to_owned(),
            time: "time".to_owned(),
            time_format: "rfc3339".to_owned(),
            id: None,
            kind: None,
            measures: Names::default(),
            dimensions: Names::default(),
        }
    }
}

/// Fields that keep their names, or get new ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Names {
    /// As they are called in the line.
    List(Vec<String>),
    /// New name to field.
    Map(BTreeMap<String, String>),
}

impl Default for Names {
    fn default() -> Self {
        Names::List(Vec::new())
    }
}

impl Names {
    /// (name in the event, field of the line).
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let (list, map) = match self {
            Names::List(list) => (Some(list), None),
            Names::Map(map) => (None, Some(map)),
        };
        let list = list.into_iter().flatten().map(|name| (name.as_str(), name.as_str()));
        list.chain(map.into_iter().flatten().map(|(name, field)| (name.as_str(), field.as_str())))
    }
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
        if let Some(wrong) = self.sources.iter().flatten().find(|source| !is_source(source)) {
            return fail("sources", &format!("`{wrong}` cannot be a source's name"));
        }
        Sight::new(Path::new(""), &self.paths).map_err(|reason| ("paths".to_owned(), reason))?;
        LineFormat::new(self).map(drop)
    }

    /// The names that it speaks for, which are closed to tenants: its own, and its `sources`.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.name).chain(self.sources.iter().flatten())
    }

    /// An access log's, with everything else as it is by default.
    pub fn log(name: &str, path: &str) -> Self {
        SourceConfig {
            name: name.to_owned(),
            kind: SourceKind::Log,
            paths: vec![path.into()],
            format: Format::Combined,
            tenant: None,
            sources: None,
            pattern: None,
            fields: FieldMap::default(),
            event_type: default_event_type(),
            backfill: false,
        }
    }
}
