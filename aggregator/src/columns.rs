//! The good events of one batch, side by side: texts that repeat are numbered, the rest lies end to end, so that
//! an event costs no allocation of its own and can be visited in any order.

use std::borrow::Cow;
use std::hash::BuildHasher as _;

use chrono::DateTime;
use foldhash::HashMap;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rentroll_schemas::event::{self, Correction, CorrectionKind};
use rentroll_schemas::{Event, Identity, Quantity};

use crate::arena::{Arena, Place};
use crate::block::put_quantity;
use crate::names::Names;

/// What events of one type and one set of names have in common.
#[derive(Debug, Default)]
pub struct Class {
    /// Number of the type.
    pub kind: u32,
    /// Number of the measures' names, each followed by a NUL.
    pub measure_names: u32,
    /// Number of the dimensions' names, each followed by a NUL.
    pub dimension_names: u32,
    /// The measures' names, in the order of the values.
    pub measures: Vec<String>,
    /// The dimensions' names, in the order of the texts.
    pub dimensions: Vec<String>,
    /// Where the content of its events begins.
    content: u32,
}

/// One event. Rows are visited in another order than they came in: each lies in one line of the cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Row {
    /// Its identity.
    pub identity: Identity,
    /// When it happened, microseconds since the epoch.
    pub time_us: i64,
    /// When it arrived, milliseconds since the epoch.
    pub arrived_at_ms: i64,
    /// Number of the tenant.
    pub tenant: u32,
    /// Number of the source.
    pub source: u32,
    /// Number of its class.
    pub class: u32,
    /// See [`Event::content`].
    pub content: u32,
    /// One more than its place in `corrections`; 0 for none.
    correction: u32,
    /// Its values, where each of its texts ends, its id, its texts.
    rest: Place,
    id_bytes: u16,
}

const _: () = assert!(size_of::<Row>() == 64, "a row is one line of the cache");

/// Bytes of a value: that of a `Decimal(38, 9)`.
const VALUE_BYTES: usize = size_of::<i128>();
/// Bytes of where a text ends.
const END_BYTES: usize = size_of::<u32>();

/// How much memory the columns of all rows take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sizes {
    /// Bytes of the tenants, each with its length.
    pub(crate) tenants: usize,
    /// Bytes of the measures' values.
    pub(crate) values: usize,
    /// Bytes of the dimensions' texts, each with its length.
    pub(crate) texts: usize,
}

/// At most so many bytes say how long a text is.
const LENGTH_BYTES_MAX: usize = 2;

/// The events of one batch, in the order in which they came.
#[derive(Debug, Default)]
pub struct Columns {
    /// Tenants.
    pub tenants: Names,
    /// Sources.
    pub sources: Names,
    /// Types.
    pub kinds: Names,
    /// Lists of measures' names.
    pub measure_names: Names,
    /// Lists of dimensions' names.
    pub dimension_names: Names,
    /// Classes, by number.
    pub classes: Vec<Class>,
    /// The events.
    pub rows: Vec<Row>,
    /// Events whose identity came before in the same batch, in order: their place, and that of the first one.
    pub repeats: Vec<(u32, u32)>,
    /// Places of the first of each identity.
    firsts: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    class_numbers: HashMap<(u32, u32, u32), u32>,
    last_class: u32,
    rest: Arena,
    sizes: Sizes,
    corrections: Vec<(CorrectionKind, Identity, Box<str>)>,
    scratch: Vec<u8>,
}

impl Columns {
    /// Forgets the events, and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        for names in [
            &mut self.tenants,
            &mut self.sources,
            &mut self.kinds,
            &mut self.measure_names,
            &mut self.dimension_names,
        ] {
            names.clear();
        }
        self.classes.clear();
        self.rows.clear();
        self.repeats.clear();
        self.firsts.clear();
        self.class_numbers.clear();
        self.rest.clear();
        self.sizes = Sizes::default();
        self.corrections.clear();
    }

    /// Adds an event.
    pub fn push(&mut self, event: &Event<'_>, identity: Identity, arrived_at_ms: i64) {
        let class = self.class_of_event(event);
        let correction = match &event.correction {
            None => 0,
            Some(correction) => {
                let corrects = Identity::of(&event.tenant, &event.source, &correction.id);
                self.corrections.push((correction.kind, corrects, correction.id.as_ref().into()));
                self.corrections.len() as u32
            }
        };
        let content = content(self.classes[class as usize].content, event);
        self.note_place(&identity);
        let rest = self.keep_rest(event);
        self.rows.push(Row {
            identity,
            time_us: event.time.timestamp_micros(),
            arrived_at_ms,
            tenant: self.tenants.number(event.tenant.as_bytes()),
            source: self.sources.number(event.source.as_bytes()),
            class,
            content,
            correction,
            rest,
            // At most [`event::ID_BYTES_MAX`].
            id_bytes: event.id.len() as u16,
        });
    }

    fn keep_rest(&mut self, event: &Event<'_>) -> Place {
        let (values, texts) = (&event.measures, &event.dimensions);
        let text_bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
        let bytes = values.len() * VALUE_BYTES + texts.len() * END_BYTES + event.id.len() + text_bytes;
        self.sizes.tenants += LENGTH_BYTES_MAX + event.tenant.len();
        self.sizes.values += values.len() * VALUE_BYTES;
        self.sizes.texts += texts.len() * LENGTH_BYTES_MAX + text_bytes;
        let (place, out) = self.rest.begin(bytes);
        for (_, quantity) in values {
            put_quantity(out, *quantity);
        }
        let mut end = 0;
        for (_, text) in texts {
            end += text.len() as u32;
            out.extend_from_slice(&end.to_le_bytes());
        }
        out.extend_from_slice(event.id.as_bytes());
        for (_, text) in texts {
            out.extend_from_slice(text.as_bytes());
        }
        place
    }

    /// Notes where an identity comes first, or again.
    fn note_place(&mut self, identity: &Identity) {
        let (rows, hasher) = (&self.rows, &self.hasher);
        let place = rows.len() as u32;
        let hash = hasher.hash_one(identity);
        let entry = self.firsts.entry(
            hash,
            |first| rows[*first as usize].identity == *identity,
            |first| hasher.hash_one(rows[*first as usize].identity),
        );
        match entry {
            Entry::Occupied(first) => self.repeats.push((place, *first.get())),
            Entry::Vacant(free) => drop(free.insert(place)),
        }
    }

    /// The number of an event's class: mostly that of the event before.
    fn class_of_event(&mut self, event: &Event<'_>) -> u32 {
        if self.classes.get(self.last_class as usize).is_some_and(|last| {
            self.kinds.text(last.kind) == event.kind.as_bytes()
                && last.measures.iter().eq(event.measures.iter().map(|(name, _)| name))
                && last.dimensions.iter().eq(event.dimensions.iter().map(|(name, _)| name))
        }) {
            return self.last_class;
        }
        let kind = self.kinds.number(event.kind.as_bytes());
        let measures = event.measures.iter().map(|(name, _)| name.as_ref());
        let measure_names = number_list(&mut self.measure_names, &mut self.scratch, measures);
        let dimensions = event.dimensions.iter().map(|(name, _)| name.as_ref());
        let dimension_names = number_list(&mut self.dimension_names, &mut self.scratch, dimensions);
        self.last_class = self.class(kind, measure_names, dimension_names);
        self.last_class
    }

    fn class(&mut self, kind: u32, measure_names: u32, dimension_names: u32) -> u32 {
        if let Some(class) = self.class_numbers.get(&(kind, measure_names, dimension_names)) {
            return *class;
        }
        let list = |names: &Names, number| {
            let text = names.str(number);
            text.split_terminator('\0').map(str::to_owned).collect()
        };
        let number = self.classes.len() as u32;
        let measures: Vec<String> = list(&self.measure_names, measure_names);
        let dimensions: Vec<String> = list(&self.dimension_names, dimension_names);
        let names = measures.iter().chain(&dimensions).map(String::as_str);
        let content = event::content_of_class(self.kinds.str(kind), names);
        self.classes.push(Class { kind, measure_names, dimension_names, measures, dimensions, content });
        self.class_numbers.insert((kind, measure_names, dimension_names), number);
        number
    }

    /// The class of a row.
    pub fn class_of(&self, row: &Row) -> &Class {
        &self.classes[row.class as usize]
    }

    /// The sender's id.
    pub fn id(&self, row: &Row) -> &[u8] {
        &self.ends_and_texts(row).1[..row.id_bytes.into()]
    }

    /// Where its texts end, and its id with the texts behind it.
    fn ends_and_texts(&self, row: &Row) -> (&[u8], &[u8]) {
        let class = self.class_of(row);
        let behind_values = &self.rest.from(row.rest)[class.measures.len() * VALUE_BYTES..];
        behind_values.split_at(class.dimensions.len() * END_BYTES)
    }

    /// Its measures, in the order of its class, each as a `Decimal(38, 9)`.
    pub fn encoded_values(&self, row: &Row) -> &[u8] {
        &self.rest.from(row.rest)[..self.class_of(row).measures.len() * VALUE_BYTES]
    }

    /// Its `nth` measure, in the order of its class.
    pub fn value(&self, row: &Row, nth: usize) -> Quantity {
        let nanos = self.encoded_values(row).as_chunks().0[nth];
        Quantity::from_nanos(i128::from_le_bytes(nanos))
    }

    /// The text of its `nth` dimension, in the order of its class.
    pub fn text(&self, row: &Row, nth: usize) -> &[u8] {
        let (ends, texts) = self.ends_and_texts(row);
        let end = |nth: usize| u32::from_le_bytes(ends.as_chunks().0[nth]) as usize;
        let from = nth.checked_sub(1).map_or(0, end);
        &texts[row.id_bytes.into()..][from..end(nth)]
    }

    /// Reads a little of each of these rows, so that they are in the cache when they are gone through: one that is not
    /// is waited for, and here the processor waits for many at once.
    pub(crate) fn fetch(&self, places: &[u32]) {
        let rows = || places.iter().map(|place| &self.rows[*place as usize]);
        std::hint::black_box(rows().fold(0, |all, row| all ^ row.tenant));
        let first = |row: &Row| self.rest.from(row.rest).first().copied().unwrap_or_default();
        std::hint::black_box(rows().fold(0, |all, row| all ^ first(row)));
    }

    /// What all rows take.
    pub(crate) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// What it corrects.
    pub fn correction(&self, row: &Row) -> Option<(CorrectionKind, Identity)> {
        let place = (row.correction as usize).checked_sub(1)?;
        self.corrections.get(place).map(|(kind, identity, _)| (*kind, *identity))
    }

    /// Whether some event corrects another one.
    pub fn has_corrections(&self) -> bool {
        !self.corrections.is_empty()
    }

    /// The event at `index`, as it came.
    pub fn event(&self, index: usize) -> Event<'_> {
        let row = &self.rows[index];
        let class = self.class_of(row);
        // Only UTF-8 was put in.
        let utf8 = |bytes| Cow::Borrowed(std::str::from_utf8(bytes).unwrap_or_default());
        let correction =
            (row.correction as usize).checked_sub(1).and_then(|place| self.corrections.get(place));
        Event {
            id: utf8(self.id(row)),
            source: utf8(self.sources.text(row.source)),
            kind: utf8(self.kinds.text(class.kind)),
            tenant: utf8(self.tenants.text(row.tenant)),
            time: DateTime::from_timestamp_micros(row.time_us).unwrap_or_default(),
            measures: class
                .measures
                .iter()
                .enumerate()
                .map(|(nth, name)| (Cow::Borrowed(name.as_str()), self.value(row, nth)))
                .collect(),
            dimensions: class
                .dimensions
                .iter()
                .enumerate()
                .map(|(nth, name)| (Cow::Borrowed(name.as_str()), utf8(self.text(row, nth))))
                .collect(),
            correction: correction
                .map(|(kind, _, id)| Correction { kind: *kind, id: Cow::Borrowed(id.as_ref()) }),
        }
    }

    /// The given places in the order in which the table sorts its rows: tenant, type, time.
    pub fn sorted(&self, places: Vec<u32>) -> Vec<u32> {
        let (tenants, kinds) = (self.tenants.ranks(), self.kinds.ranks());
        // Keys beside each other: looking into the rows for each comparison would miss the cache every time.
        let key = |place: u32| {
            let row = &self.rows[place as usize];
            let (tenant, kind) = (tenants[row.tenant as usize], kinds[self.class_of(row).kind as usize]);
            (u64::from(tenant) << 32 | u64::from(kind), row.time_us, place)
        };
        let mut keys: Vec<(u64, i64, u32)> = places.into_iter().map(key).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, _, place)| place).collect()
    }
}

/// [`Event::content`], from where its class begins: names are gone through once a class, not once an event.
fn content(of_class: u32, event: &Event<'_>) -> u32 {
    if event.correction.is_some() {
        return event.content();
    }
    let mut bytes = [0; 16 * 8];
    let mut crc = of_class;
    for measures in event.measures.chunks(8) {
        for (place, (_, quantity)) in bytes.chunks_exact_mut(16).zip(measures) {
            place.copy_from_slice(&quantity.nanos().to_le_bytes());
        }
        crc = crc32c::crc32c_append(crc, &bytes[..16 * measures.len()]);
    }
    event.dimensions.iter().fold(crc, |crc, (_, text)| event::content_of_text(crc, text))
}

fn number_list<'n>(names: &mut Names, scratch: &mut Vec<u8>, list: impl Iterator<Item = &'n str>) -> u32 {
    scratch.clear();
    for name in list {
        scratch.extend_from_slice(name.as_bytes());
        scratch.push(0);
    }
    names.number(scratch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_put_in_comes_out(
            events in proptest::collection::vec(
                (0_u8..4, "[a-z]{1,9}", 0_i64..1_000, proptest::collection::btree_map("[a-d]", any::<i32>(), 0..4), proptest::collection::btree_map("[e-h]", "\\PC{0,9}", 0..4), proptest::option::of("[a-z]{1,9}")),
                1..40,
            )
        ) {
            let events: Vec<Event<'_>> = events
                .into_iter()
                .map(|(tenant, id, time, measures, dimensions, voids)| Event {
                    id: id.into(),
                    source: format!("s{}", tenant % 2).into(),
                    kind: "t".into(),
                    tenant: format!("tenant-{tenant}").into(),
                    time: DateTime::from_timestamp_micros(time).unwrap(),
                    measures: measures.into_iter().map(|(name, n)| (name.into(), Quantity::from_int(n.into()))).collect(),
                    dimensions: dimensions.into_iter().map(|(name, text)| (name.into(), text.into())).collect(),
                    correction: voids.map(|id| Correction { kind: CorrectionKind::Voids, id: id.into() }),
                })
                .collect();
            let mut columns = Columns::default();
            for event in &events {
                columns.push(event, event.identity(), 7);
            }
            for (index, event) in events.iter().enumerate() {
                prop_assert_eq!(&columns.event(index), event);
                prop_assert_eq!(columns.rows[index].content, event.content());
            }
            let sorted = columns.sorted((0..events.len() as u32).collect());
            let key = |place: &u32| {
                let event = &events[*place as usize];
                (event.tenant.clone(), event.kind.clone(), event.time)
            };
            prop_assert!(sorted.is_sorted_by_key(key));
        }
    }
}
