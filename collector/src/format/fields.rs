//! From the values found in a line to an event: which is the tenant, which the time, what is measured. The same
//! for every format whose fields the operator names.

use std::borrow::Cow;

use rentroll_schemas::event::{DIMENSION_BYTES_MAX, ID_BYTES_MAX, NAME_BYTES_MAX};
use rentroll_schemas::{Event, Quantity};

use super::Refusal;
use super::time::TimeFormat;
use crate::source::{FieldMap, SourceConfig};

/// What stands in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A number, as written.
    Number(&'a str),
    /// `true` or `false`.
    Truth(&'a str),
    /// Neither: a list or an object.
    Other,
}

/// A [`FieldMap`] whose names are numbers: of the fields to look for in a line.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    /// What to look for; a line's values are given in this order.
    pub(super) wanted: Vec<String>,
    tenant: usize,
    time: usize,
    time_format: TimeFormat,
    id: Option<usize>,
    kind: Option<usize>,
    measures: Vec<(String, usize)>,
    dimensions: Vec<(String, usize)>,
}

impl Mapping {
    /// The error is (field, reason).
    pub(super) fn new(fields: &FieldMap) -> Result<Self, (String, String)> {
        let mut wanted: Vec<String> = Vec::new();
        let mut index = |key: &str, name: &str| match name.is_empty() {
            true => Err((format!("fields.{key}"), "must not be empty".to_owned())),
            false => Ok(wanted.iter().position(|known| known == name).unwrap_or_else(|| {
                wanted.push(name.to_owned());
                wanted.len() - 1
            })),
        };
        let tenant = index("tenant", &fields.tenant)?;
        let time = index("time", &fields.time)?;
        let id = fields.id.as_deref().map(|name| index("id", name)).transpose()?;
        let kind = fields.kind.as_deref().map(|name| index("type", name)).transpose()?;
        let mut all = |key: &str, names: &crate::source::Names| {
            names
                .pairs()
                .map(|(name, from)| Ok::<_, (String, String)>((name.to_owned(), index(key, from)?)))
                .collect::<Result<Vec<_>, _>>()
        };
        let measures = all("measures", &fields.measures)?;
        let dimensions = all("dimensions", &fields.dimensions)?;
        if let Some((name, _)) =
            dimensions.iter().find(|(name, _)| measures.iter().any(|(other, _)| other == name))
        {
            return Err(("fields.dimensions".to_owned(), format!("`{name}` is a measure already")));
        }
        let count = measures.len() + dimensions.len();
        if count > rentroll_schemas::event::DATA_KEYS_MAX {
            let reason = format!("{count} measures and dimensions, at most 64 are taken");
            return Err(("fields.measures".to_owned(), reason));
        }
        let time_format = TimeFormat::new(&fields.time_format)
            .map_err(|reason| ("fields.time_format".to_owned(), reason))?;
        Ok(Mapping { wanted, tenant, time, time_format, id, kind, measures, dimensions })
    }

    /// The event of a line in which `values` were found. `id` is the line's own, used unless a field is one.
    pub(super) fn event<'a>(
        &'a self,
        source: &'a SourceConfig,
        values: &[Option<Value<'a>>],
        id: &'a str,
    ) -> Result<Event<'a>, Refusal> {
        let tenant = self.name(values, self.tenant, NAME_BYTES_MAX)?;
        if tenant == "-" {
            // How logs say that there is none: usage without an owner is not guessed.
            return Err(Refusal::unreadable(&self.wanted[self.tenant], "names no tenant"));
        }
        let time = self.name(values, self.time, 128)?;
        let time = self
            .time_format
            .read(&time)
            .map_err(|reason| Refusal::unreadable(&self.wanted[self.time], reason))?;
        let id = match self.id {
            Some(field) => self.name(values, field, ID_BYTES_MAX)?,
            None => Cow::Borrowed(id),
        };
        let kind = match self.kind {
            Some(field) => self.name(values, field, NAME_BYTES_MAX)?,
            None => source.event_type.as_str().into(),
        };
        let mut event = Event {
            id,
            source: source.name.as_str().into(),
            kind,
            tenant,
            time,
            measures: Vec::with_capacity(self.measures.len()),
            dimensions: Vec::with_capacity(self.dimensions.len()),
            correction: None,
        };
        for (name, field) in &self.measures {
            if let Some(quantity) = self.quantity(values, *field)? {
                event.measures.push((name.as_str().into(), quantity));
            }
        }
        for (name, field) in &self.dimensions {
            if let Some(text) = self.dimension(values, *field)? {
                event.dimensions.push((name.as_str().into(), text));
            }
        }
        event.sort_data();
        Ok(event)
    }

    /// A field that must be there.
    fn name<'a>(
        &self,
        values: &[Option<Value<'a>>],
        field: usize,
        bytes_max: usize,
    ) -> Result<Cow<'a, str>, Refusal> {
        let refuse = |reason: String| Err(Refusal::unreadable(&self.wanted[field], reason));
        let text: Cow<'a, str> = match values.get(field).and_then(Option::as_ref) {
            None => return refuse("missing".to_owned()),
            Some(Value::Text(text)) => text.clone(),
            Some(Value::Number(text) | Value::Truth(text)) => Cow::Borrowed(text),
            Some(Value::Other) => return refuse("must be a text or a number".to_owned()),
        };
        if text.is_empty() {
            return refuse("must not be empty".to_owned());
        }
        if text.len() > bytes_max {
            return refuse(format!("longer than {bytes_max} bytes"));
        }
        Ok(text)
    }

    /// A measure; one that is missing, empty or `-` is not measured.
    fn quantity(&self, values: &[Option<Value<'_>>], field: usize) -> Result<Option<Quantity>, Refusal> {
        let text = match values.get(field).and_then(Option::as_ref) {
            None => return Ok(None),
            Some(Value::Text(text)) if text.is_empty() || text == "-" => return Ok(None),
            Some(Value::Text(text)) => text.as_ref(),
            Some(Value::Number(text)) => text,
            Some(Value::Truth(_) | Value::Other) => {
                return Err(Refusal::unreadable(&self.wanted[field], "must be a number"));
            }
        };
        text.parse().map(Some).map_err(|error| Refusal::unreadable(&self.wanted[field], format!("{error}")))
    }

    fn dimension<'a>(
        &self,
        values: &[Option<Value<'a>>],
        field: usize,
    ) -> Result<Option<Cow<'a, str>>, Refusal> {
        let text = match values.get(field).and_then(Option::as_ref) {
            None => return Ok(None),
            Some(Value::Text(text)) => text.clone(),
            Some(Value::Number(text) | Value::Truth(text)) => Cow::Borrowed(*text),
            Some(Value::Other) => {
                return Err(Refusal::unreadable(
                    &self.wanted[field],
                    "must be a text, a number or a truth value",
                ));
            }
        };
        if text.len() > DIMENSION_BYTES_MAX {
            let reason = format!("longer than {DIMENSION_BYTES_MAX} bytes");
            return Err(Refusal::unreadable(&self.wanted[field], reason));
        }
        Ok(Some(text))
    }
}
