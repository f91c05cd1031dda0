//! From a line's bytes to a usage event. Pure, and total: any bytes are an event or a reason.

use std::borrow::Cow;

use rentroll_schemas::reject::reason;
use rentroll_schemas::{Event, EventError};

use crate::source::{Format, SourceConfig};

mod access;

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

/// Reads `line` as `source` says. `id` is the line's own: its place in its file.
///
/// # Errors
/// Names the field that cannot be read.
pub fn read<'a>(source: &'a SourceConfig, line: &'a [u8], id: &'a str) -> Result<Event<'a>, Refusal> {
    match source.format {
        Format::Combined | Format::Common => {
            let request = access::parse(line)?;
            request.into_event(source, Cow::Borrowed(id))
        }
        Format::Cloudevents => Ok(Event::from_json(line)?),
    }
}
