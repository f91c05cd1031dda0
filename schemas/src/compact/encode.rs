//! From events to a batch.

use std::collections::HashMap;

use prost::Message as _;

use super::{CorrectionMessage, EVENTS_MAX, EventBatch, LARGE, Shape};
use crate::event::CorrectionKind;
use crate::{Event, Quantity};

/// Writes a batch. The events must be of one partition, at most [`EVENTS_MAX`] of them, and as
/// [`Event::from_json`] leaves them: names in order, texts within their limits.
pub fn encode<'e, 'a: 'e>(events: impl ExactSizeIterator<Item = &'e Event<'a>>) -> Vec<u8> {
    debug_assert!(events.len() <= EVENTS_MAX);
    let mut writer = Writer::default();
    for event in events {
        writer.add(event);
    }
    writer.batch.encode_to_vec()
}

/// No fewer bytes than `event` can add to a batch.
pub fn bytes_at_most(event: &Event<'_>) -> usize {
    let measures: usize = event.measures.iter().map(|(name, _)| name.len() + 64).sum();
    let dimensions: usize = event.dimensions.iter().map(|(name, text)| name.len() + text.len() + 24).sum();
    let corrected = event.correction.as_ref().map_or(0, |correction| correction.id.len() + 32);
    96 + event.id.len()
        + event.tenant.len()
        + event.source.len()
        + event.kind.len()
        + measures
        + dimensions
        + corrected
}

#[derive(Default)]
struct Writer<'e> {
    batch: EventBatch,
    strings: HashMap<&'e str, u32, foldhash::fast::RandomState>,
    shapes: HashMap<(u32, Vec<u32>, Vec<u32>), u32, foldhash::fast::RandomState>,
    scratch: (u32, Vec<u32>, Vec<u32>),
    time_us: i64,
}

impl<'e> Writer<'e> {
    fn add(&mut self, event: &'e Event<'_>) {
        let shape = self.shape(event);
        let (subject, source) = (self.string(&event.tenant), self.string(&event.source));
        let time_us = event.time.timestamp_micros();
        let batch = &mut self.batch;
        batch.shape.push(shape);
        batch.subject.push(subject);
        batch.source.push(source);
        batch.time_delta_us.push(time_us - self.time_us);
        self.time_us = time_us;
        batch.id_length.push(event.id.len() as u32);
        batch.ids.extend_from_slice(event.id.as_bytes());
        for (_, quantity) in &event.measures {
            let (value, scale) = narrow(*quantity).unwrap_or_else(|| {
                batch.large_values.push(quantity.to_string());
                (0, LARGE)
            });
            batch.value.push(value);
            batch.value_scale.push(scale);
        }
        if let Some(correction) = &event.correction {
            let kind = match correction.kind {
                CorrectionKind::Voids => 1,
                CorrectionKind::Amends => 2,
            };
            let event = batch.shape.len() as u32 - 1;
            batch.corrections.push(CorrectionMessage { event, kind, id: correction.id.to_string() });
        }
        for (_, text) in &event.dimensions {
            let text = self.string(text);
            self.batch.text.push(text);
        }
    }

    fn shape(&mut self, event: &'e Event<'_>) -> u32 {
        let mut shape = std::mem::take(&mut self.scratch);
        shape.0 = self.string(&event.kind);
        shape.1.clear();
        shape.1.extend(event.measures.iter().map(|(name, _)| self.string(name)));
        shape.2.clear();
        shape.2.extend(event.dimensions.iter().map(|(name, _)| self.string(name)));
        let number = match self.shapes.get(&shape) {
            Some(number) => *number,
            None => {
                let number = self.batch.shapes.len() as u32;
                let (kind, measure, dimension) = shape.clone();
                self.batch.shapes.push(Shape { kind, measure, dimension });
                self.shapes.insert(shape.clone(), number);
                number
            }
        };
        self.scratch = shape;
        number
    }

    fn string(&mut self, text: &'e str) -> u32 {
        let strings = &mut self.batch.strings;
        *self.strings.entry(text).or_insert_with(|| {
            strings.push(text.to_owned());
            strings.len() as u32 - 1
        })
    }
}

/// The quantity as an integer and its digits after the point, without trailing zeros, if 64 bits hold it.
fn narrow(quantity: Quantity) -> Option<(i64, u8)> {
    const ONE: i128 = 1_000_000_000;
    let nanos = quantity.nanos();
    let Ok(mut value) = i64::try_from(nanos) else {
        return (nanos % ONE == 0).then(|| i64::try_from(nanos / ONE).ok().map(|value| (value, 0)))?;
    };
    if value % ONE as i64 == 0 {
        return Some((value / ONE as i64, 0));
    }
    let mut scale = 9;
    while value % 10 == 0 {
        value /= 10;
        scale -= 1;
    }
    Some((value, scale))
}
