//! Many events in one record: a Protobuf message (`proto/batch.proto`) that holds them column by column.
//!
//! A batch costs a fraction of its events' JSON to write, send and read: names are there once, quantities are
//! integers, and nothing has to be scanned for its end. All its events are of one partition of the log, and the
//! record's key is the first one's identity.

use std::borrow::Cow;

use chrono::DateTime;
use prost::Message as _;

use crate::event::{
    Correction, CorrectionKind, DATA_KEYS_MAX, DIMENSION_BYTES_MAX, EventError, ID_BYTES_MAX, NAME_BYTES_MAX,
    is_writable,
};
use crate::{Event, Quantity};

mod encode;

pub use encode::{bytes_at_most, encode};

/// Most events in a batch: bounds what a reader holds for one record.
pub const EVENTS_MAX: usize = 16_384;
/// Marks a value that does not fit into 64 bits.
const LARGE: u8 = 255;

/// The message. See `proto/batch.proto` for what each field means.
#[derive(Clone, PartialEq, prost::Message)]
struct EventBatch {
    #[prost(string, repeated, tag = "1")]
    strings: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    shapes: Vec<Shape>,
    #[prost(uint32, repeated, tag = "3")]
    shape: Vec<u32>,
    #[prost(uint32, repeated, tag = "4")]
    subject: Vec<u32>,
    #[prost(uint32, repeated, tag = "5")]
    source: Vec<u32>,
    #[prost(sint64, repeated, tag = "6")]
    time_delta_us: Vec<i64>,
    #[prost(uint32, repeated, tag = "7")]
    id_length: Vec<u32>,
    #[prost(bytes = "vec", tag = "8")]
    ids: Vec<u8>,
    #[prost(sint64, repeated, tag = "9")]
    value: Vec<i64>,
    #[prost(bytes = "vec", tag = "10")]
    value_scale: Vec<u8>,
    #[prost(string, repeated, tag = "11")]
    large_values: Vec<String>,
    #[prost(uint32, repeated, tag = "12")]
    text: Vec<u32>,
    #[prost(message, repeated, tag = "13")]
    corrections: Vec<CorrectionMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Shape {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint32, repeated, tag = "2")]
    measure: Vec<u32>,
    #[prost(uint32, repeated, tag = "3")]
    dimension: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CorrectionMessage {
    #[prost(uint32, tag = "1")]
    event: u32,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(string, tag = "3")]
    id: String,
}

/// A batch that has been read and checked as a whole.
#[derive(Debug)]
pub struct Decoded {
    batch: EventBatch,
    ids: String,
    values: Vec<Quantity>,
}

/// Reads a batch.
///
/// # Errors
/// `body` and what is wrong with it. A batch is good or bad as a whole: it is written by a sidecar, not by hand.
/// Whether each event is in the window is another matter.
pub fn decode(bytes: &[u8]) -> Result<Decoded, EventError> {
    let fail = |reason: String| EventError { field: "body".to_owned(), reason };
    let batch = EventBatch::decode(bytes).map_err(|error| fail(format!("not a batch of events: {error}")))?;
    check(&batch).map_err(|reason| fail(format!("not a batch of events: {reason}")))?;
    let mut batch = batch;
    let ids = String::from_utf8(std::mem::take(&mut batch.ids))
        .map_err(|_| fail("not a batch of events: `ids` is not UTF-8".to_owned()))?;
    let values = values(&batch).map_err(|reason| fail(format!("not a batch of events: {reason}")))?;
    let decoded = Decoded { batch, ids, values };
    decoded.check_events().map_err(|reason| fail(format!("not a batch of events: {reason}")))?;
    Ok(decoded)
}

/// That every place points into its list, and every list is as long as it must be.
fn check(batch: &EventBatch) -> Result<(), String> {
    let events = batch.shape.len();
    if events == 0 || events > EVENTS_MAX {
        return Err(format!("{events} events; 1 to {EVENTS_MAX} are allowed"));
    }
    for (name, length) in [
        ("subject", batch.subject.len()),
        ("source", batch.source.len()),
        ("time_delta_us", batch.time_delta_us.len()),
        ("id_length", batch.id_length.len()),
    ] {
        if length != events {
            return Err(format!("`{name}` has {length} entries for {events} events"));
        }
    }
    let is_string = |place: &u32| (*place as usize) < batch.strings.len();
    for shape in &batch.shapes {
        if shape.measure.len() + shape.dimension.len() > DATA_KEYS_MAX {
            return Err(format!("a shape has more than {DATA_KEYS_MAX} names"));
        }
        let mut places = std::iter::once(&shape.kind).chain(&shape.measure).chain(&shape.dimension);
        if !places.all(is_string) {
            return Err("`shapes` names a string that is not there".to_owned());
        }
        for names in [&shape.measure, &shape.dimension] {
            let name = |place: &u32| &batch.strings[*place as usize];
            if names.iter().any(|place| name(place).contains('\0')) {
                return Err("the name of a measure or dimension holds a NUL".to_owned());
            }
            if !names.is_sorted_by(|a, b| name(a) < name(b)) {
                return Err("the names of a shape are not in order, or one is there twice".to_owned());
            }
        }
    }
    for (name, places) in [("subject", &batch.subject), ("source", &batch.source), ("text", &batch.text)] {
        if !places.iter().all(is_string) {
            return Err(format!("`{name}` names a string that is not there"));
        }
    }
    let (mut measures, mut dimensions) = (0, 0);
    for place in &batch.shape {
        let shape =
            batch.shapes.get(*place as usize).ok_or("`shape` names a shape that is not there".to_owned())?;
        measures += shape.measure.len();
        dimensions += shape.dimension.len();
    }
    for (name, length, needed) in [
        ("value", batch.value.len(), measures),
        ("value_scale", batch.value_scale.len(), measures),
        ("text", batch.text.len(), dimensions),
    ] {
        if length != needed {
            return Err(format!("`{name}` has {length} entries for {needed} in the shapes"));
        }
    }
    let id_bytes: u64 = batch.id_length.iter().map(|length| u64::from(*length)).sum();
    if id_bytes != batch.ids.len() as u64 {
        return Err(format!("`ids` has {} bytes for {id_bytes} in `id_length`", batch.ids.len()));
    }
    Ok(())
}

fn values(batch: &EventBatch) -> Result<Vec<Quantity>, String> {
    const POWERS: [i128; 10] =
        [1_000_000_000, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
    let mut large = batch.large_values.iter();
    let mut values = Vec::with_capacity(batch.value.len());
    for (value, scale) in batch.value.iter().zip(&batch.value_scale) {
        values.push(match (*scale, POWERS.get(usize::from(*scale))) {
            (LARGE, _) => {
                let text = large.next().ok_or("a large value is missing")?;
                text.parse().map_err(|error| format!("large value: {error}"))?
            }
            (_, Some(power)) => Quantity::from_nanos(i128::from(*value) * power),
            (scale, None) => return Err(format!("scale {scale}; 0 to 9 digits are allowed")),
        });
    }
    Ok(values)
}

impl Decoded {
    /// How many events there are; never 0.
    pub fn len(&self) -> usize {
        self.batch.shape.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.batch.shape.is_empty()
    }

    /// The events, in their order.
    pub fn events(&self) -> Events<'_> {
        Events { decoded: self, next: 0, time_us: 0, id: 0, value: 0, text: 0, correction: 0 }
    }

    /// What the lists alone do not show: lengths of texts, times, corrections in order.
    fn check_events(&self) -> Result<(), String> {
        let batch = &self.batch;
        for (name, places) in [("subject", &batch.subject), ("source", &batch.source)] {
            let bad = |place: &&u32| !(1..=NAME_BYTES_MAX).contains(&batch.strings[**place as usize].len());
            if let Some(place) = places.iter().find(bad) {
                let length = batch.strings[*place as usize].len();
                return Err(format!("`{name}` of {length} bytes; 1 to {NAME_BYTES_MAX} are allowed"));
            }
        }
        for shape in &batch.shapes {
            let length = batch.strings[shape.kind as usize].len();
            if !(1..=NAME_BYTES_MAX).contains(&length) {
                return Err(format!("type of {length} bytes; 1 to {NAME_BYTES_MAX} are allowed"));
            }
        }
        if batch.text.iter().any(|place| batch.strings[*place as usize].len() > DIMENSION_BYTES_MAX) {
            return Err(format!("the text of a dimension is longer than {DIMENSION_BYTES_MAX} bytes"));
        }
        let mut at = 0;
        let mut corrections = batch.corrections.iter().peekable();
        for (event, length) in batch.id_length.iter().enumerate() {
            let length = *length as usize;
            if !(1..=ID_BYTES_MAX).contains(&length) {
                return Err(format!("an id of {length} bytes; 1 to {ID_BYTES_MAX} are allowed"));
            }
            if !self.ids.is_char_boundary(at + length) {
                return Err("`id_length` cuts a character".to_owned());
            }
            let own = &self.ids[at..at + length];
            if corrections
                .next_if(|correction| correction.event as usize == event)
                .is_some_and(|it| it.id == own)
            {
                return Err("an event cannot correct itself".to_owned());
            }
            at += length;
        }
        let mut time_us: i64 = 0;
        for delta in &batch.time_delta_us {
            time_us = time_us
                .checked_add(*delta)
                .filter(|time_us| DateTime::from_timestamp_micros(*time_us).is_some_and(is_writable))
                .ok_or("a time that no calendar holds")?;
        }
        let mut last = None;
        for correction in &batch.corrections {
            let place = Some(correction.event);
            if correction.event as usize >= self.len() || place <= last {
                return Err("`corrections` are not in the order of their events".to_owned());
            }
            last = place;
            if !matches!(correction.kind, 1 | 2) {
                return Err(format!("correction of kind {}; 1 and 2 are allowed", correction.kind));
            }
            if !(1..=ID_BYTES_MAX).contains(&correction.id.len()) {
                return Err(format!("a corrected id of {} bytes", correction.id.len()));
            }
        }
        Ok(())
    }
}

/// The events of a batch.
pub struct Events<'a> {
    decoded: &'a Decoded,
    next: usize,
    time_us: i64,
    id: usize,
    value: usize,
    text: usize,
    correction: usize,
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        let Decoded { batch, ids, values } = self.decoded;
        let place = self.next;
        let shape = &batch.shapes[*batch.shape.get(place)? as usize];
        let string = |place: u32| Cow::Borrowed(batch.strings[place as usize].as_str());
        self.next += 1;
        self.time_us += batch.time_delta_us[place];
        let id = &ids[self.id..self.id + batch.id_length[place] as usize];
        self.id += id.len();
        let measures: Vec<_> = shape
            .measure
            .iter()
            .zip(&values[self.value..])
            .map(|(name, value)| (string(*name), *value))
            .collect();
        self.value += measures.len();
        let dimensions: Vec<_> = shape
            .dimension
            .iter()
            .zip(&batch.text[self.text..])
            .map(|(name, text)| (string(*name), string(*text)))
            .collect();
        self.text += dimensions.len();
        let correction =
            batch.corrections.get(self.correction).filter(|correction| correction.event as usize == place);
        self.correction += usize::from(correction.is_some());
        Some(Event {
            id: Cow::Borrowed(id),
            source: string(batch.source[place]),
            kind: string(shape.kind),
            tenant: string(batch.subject[place]),
            time: DateTime::from_timestamp_micros(self.time_us).unwrap_or_default(),
            measures,
            dimensions,
            correction: correction.map(|correction| Correction {
                kind: if correction.kind == 1 { CorrectionKind::Voids } else { CorrectionKind::Amends },
                id: Cow::Borrowed(correction.id.as_str()),
            }),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.decoded.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Events<'_> {}

#[cfg(test)]
mod tests;
