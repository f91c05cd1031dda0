//! From a line's bytes to a usage event. Pure, and total: any bytes are an event or a reason.

use std::borrow::Cow;

use rentroll_schemas::reject::reason;
use rentroll_schemas::token::belongs_to;
use rentroll_schemas::{Event, EventError};

use self::fields::Mapping;
use self::pattern::Pattern;
use crate::source::{FieldMap, Format, SourceConfig, TenantField};

mod access;
mod fields;
mod json;
mod pattern;
mod time;

pub use access::parse_time;

/// Why a line is not an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A word of [`rentroll_schemas::reject::reason`].
    pub reason: &'static str,
    /// The field at fault.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

impl Refusal {
    fn unreadable(field: &str, detail: impl Into<String>) -> Self {
        Refusal { reason: reason::UNREADABLE, field: field.to_owned(), detail: detail.into() }
    }
}

impl From<EventError> for Refusal {
    fn from(error: EventError) -> Self {
        let word = if error.field == "body" { reason::UNREADABLE } else { reason::INVALID };
        Refusal { reason: word, field: error.field, detail: error.reason }
    }
}

/// Reads the lines of one source.
#[derive(Clone, Debug)]
pub struct LineFormat {
    source: SourceConfig,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Access(TenantField),
    Cloudevents,
    Json(Mapping),
    Pattern(Box<Pattern>),
}

impl LineFormat {
    /// As `source` says; the error is (field, reason).
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(source: &SourceConfig) -> Result<Self, (String, String)> {
        let fail = |field: &str, reason: &str| Err((field.to_owned(), reason.to_owned()));
        let has_fields = source.fields != FieldMap::default();
        match source.format {
            Format::Combined | Format::Common | Format::Cloudevents if has_fields => {
                return fail("fields", "are only for the formats `json` and `regex`");
            }
            Format::Json | Format::Regex if source.tenant.is_some() => {
                return fail("tenant", "for this format, `fields.tenant` names the field");
            }
            Format::Combined | Format::Common | Format::Json | Format::Regex if source.sources.is_some() => {
                return fail(
                    "sources",
                    "is only for format `cloudevents`: other lines have the source's name",
                );
            }
            Format::Regex => {}
            _ if source.pattern.is_some() => return fail("pattern", "is only for format `regex`"),
            _ => {}
        }
        let kind = match (source.format, source.tenant) {
            (Format::Cloudevents, None | Some(TenantField::Subject)) => Kind::Cloudevents,
            (Format::Cloudevents, _) => return fail("tenant", "must be `subject` for format `cloudevents`"),
            (Format::Json, _) => Kind::Json(Mapping::new(&source.fields)?),
            (Format::Regex, _) => match &source.pattern {
                Some(pattern) => Kind::Pattern(Box::new(Pattern::new(pattern, &source.fields)?)),
                None => return fail("pattern", "must be given for format `regex`"),
            },
            (_, Some(TenantField::Subject)) => {
                return fail("tenant", "`subject` is only for format `cloudevents`");
            }
            (_, tenant) => Kind::Access(tenant.unwrap_or(TenantField::ClientAddress)),
        };
        Ok(LineFormat { source: source.clone(), kind })
    }

    /// Whoever may write to a log that brings its own sources could else speak for any of them.
    fn of_source<'a>(&self, event: Event<'a>) -> Result<Event<'a>, Refusal> {
        let is_own =
            self.source.sources.is_none() || self.source.names().any(|name| belongs_to(&event.source, name));
        match is_own {
            true => Ok(event),
            false => Err(Refusal {
                reason: reason::FORBIDDEN,
                field: "source".to_owned(),
                detail: format!(
                    "`{}` is neither `{}` nor among its `sources`, nor below one of them",
                    event.source, self.source.name
                ),
            }),
        }
    }

    /// Reads `line`. `id` is the line's own: its place in its file.
    ///
    /// # Errors
    /// Names the field that cannot be read.
    pub fn read<'a>(&'a self, line: &'a [u8], id: &'a str) -> Result<Event<'a>, Refusal> {
        match &self.kind {
            Kind::Access(tenant) => access::parse(line)?.into_event(&self.source, *tenant, Cow::Borrowed(id)),
            Kind::Cloudevents => self.of_source(Event::from_json(line)?),
            Kind::Json(mapping) => mapping.event(&self.source, &json::values(mapping, line)?, id),
            Kind::Pattern(pattern) => pattern.mapping.event(&self.source, &pattern.values(line)?, id),
        }
    }
}

#[cfg(test)]
mod tests;
