//! The rows of `events`, as columns, in the order in which the table sorts them.

use rentroll_schemas::event::CorrectionKind;
use rentroll_schemas::topics::Topic;
use uuid::Uuid;

use crate::block::{Block, BlockBuilder, Words, put_text};
use crate::columns::{Columns, Row};
use crate::plan::Plan;

/// Rows being encoded.
pub struct EventRows<'a> {
    columns: &'a Columns,
    rows: usize,
    tenant: Vec<u8>,
    kind: Words<'a>,
    time: Vec<u8>,
    identity_high: Vec<u8>,
    identity_low: Vec<u8>,
    id_uuid: Vec<u8>,
    id_text: Vec<u8>,
    source: Words<'a>,
    arrived_at: Vec<u8>,
    content: Vec<u8>,
    measure_names: Words<'a>,
    measure_ends: Vec<u8>,
    measure_values: Vec<u8>,
    measures: u64,
    dimension_names: Words<'a>,
    dimension_ends: Vec<u8>,
    dimension_values: Vec<u8>,
    dimensions: u64,
    meters: Vec<u8>,
    corrections: Vec<u8>,
    corrects: Vec<u8>,
}

impl<'a> EventRows<'a> {
    /// For `rows` events of `columns`.
    pub fn new(columns: &'a Columns, rows: usize) -> Self {
        let room = |bytes| Vec::with_capacity(rows * bytes);
        let sizes = columns.sizes();
        EventRows {
            columns,
            rows,
            tenant: Vec::with_capacity(sizes.tenants),
            kind: Words::new(columns.kinds.texts(), rows),
            time: room(8),
            identity_high: room(8),
            identity_low: room(8),
            id_uuid: room(16),
            id_text: room(1),
            source: Words::new(columns.sources.texts(), rows),
            arrived_at: room(8),
            content: room(4),
            measure_names: Words::new(columns.measure_names.texts(), rows),
            measure_ends: room(8),
            measure_values: Vec::with_capacity(sizes.values),
            measures: 0,
            dimension_names: Words::new(columns.dimension_names.texts(), rows),
            dimension_ends: room(8),
            dimension_values: Vec::with_capacity(sizes.texts),
            dimensions: 0,
            meters: room(2),
            corrections: Vec::new(),
            corrects: Vec::new(),
        }
    }

    /// An event, which so many meters matched.
    pub fn push(&mut self, row: &Row, matched: u16) {
        let columns = self.columns;
        let class = columns.class_of(row);
        put_text(&mut self.tenant, columns.tenants.text(row.tenant));
        self.kind.push(class.kind);
        self.time.extend_from_slice(&row.time_us.to_le_bytes());
        // The columns are the identity's halves as little-endian numbers: its bytes as they are.
        self.identity_high.extend_from_slice(&row.identity.0[..8]);
        self.identity_low.extend_from_slice(&row.identity.0[8..]);
        let id = columns.id(row);
        let uuid = canonical_uuid(id);
        put_uuid(&mut self.id_uuid, uuid.unwrap_or_default());
        put_text(&mut self.id_text, if uuid.is_some() { b"" } else { id });
        self.source.push(row.source);
        self.arrived_at.extend_from_slice(&row.arrived_at_ms.to_le_bytes());
        self.content.extend_from_slice(&row.content.to_le_bytes());
        self.measure_names.push(class.measure_names);
        self.measure_values.extend_from_slice(columns.encoded_values(row));
        self.measures += class.measures.len() as u64;
        self.measure_ends.extend_from_slice(&self.measures.to_le_bytes());
        self.dimension_names.push(class.dimension_names);
        for nth in 0..class.dimensions.len() {
            put_text(&mut self.dimension_values, columns.text(row, nth));
        }
        self.dimensions += class.dimensions.len() as u64;
        self.dimension_ends.extend_from_slice(&self.dimensions.to_le_bytes());
        self.meters.extend_from_slice(&matched.to_le_bytes());
        if columns.has_corrections() {
            let (correction, corrects) = match columns.correction(row) {
                None => (0, [0; 16]),
                Some((CorrectionKind::Voids, identity)) => (1, identity.0),
                Some((CorrectionKind::Amends, identity)) => (2, identity.0),
            };
            self.corrections.push(correction);
            self.corrects.extend_from_slice(&corrects);
        }
    }

    /// The block, as rows of that batch.
    pub fn finish(self, plan: &Plan) -> Block {
        let rows = self.rows;
        let partition = (plan.partition as u16).to_le_bytes().repeat(rows);
        let first = plan.first.to_le_bytes().repeat(rows);
        let mut block = BlockBuilder::new(rows);
        block
            .column("tenant", "String", self.tenant)
            .words("type", self.kind)
            .column("time", "DateTime64(6, 'UTC')", self.time)
            .column("identity_high", "UInt64", self.identity_high)
            .column("identity_low", "UInt64", self.identity_low)
            .column("id_uuid", "UUID", self.id_uuid)
            .column("id_text", "String", self.id_text)
            .words("source", self.source)
            .column("arrived_at", "DateTime64(3, 'UTC')", self.arrived_at)
            .column("content", "UInt32", self.content)
            .words("measure_names", self.measure_names)
            .arrays("measure_values", "Array(Decimal(38, 9))", self.measure_ends, self.measure_values)
            .words("dimension_names", self.dimension_names)
            .arrays("dimension_values", "Array(String)", self.dimension_ends, self.dimension_values)
            .column("meters", "UInt16", self.meters)
            .column("log_topic", LOG_TOPIC, vec![log_topic(plan.topic); rows])
            .column("log_partition", "UInt16", partition)
            .column("log_batch", "UInt64", first);
        if self.columns.has_corrections() {
            block
                .column("correction", "Enum8('none' = 0, 'voids' = 1, 'amends' = 2)", self.corrections)
                .column("corrects", "FixedString(16)", self.corrects);
        }
        block.finish()
    }
}

/// The column's type.
const LOG_TOPIC: &str = "Enum8('' = 0, 'usage' = 1, 'usage.overflow' = 2)";

/// A topic's number there. Rejects are no events.
fn log_topic(topic: Topic) -> u8 {
    match topic {
        Topic::Usage | Topic::Rejects => 1,
        Topic::Overflow => 2,
    }
}

/// The UUID that an id is, if it is written as RFC 9562 writes it: in lower case, with hyphens. Others would not read the
/// same.
fn canonical_uuid(id: &[u8]) -> Option<Uuid> {
    if id.len() != uuid::fmt::Hyphenated::LENGTH {
        return None;
    }
    let uuid = Uuid::try_parse_ascii(id).ok()?;
    let mut written = Uuid::encode_buffer();
    (uuid.hyphenated().encode_lower(&mut written).as_bytes() == id).then_some(uuid)
}

/// Appends a `UUID`: two little-endian numbers, the higher half first.
fn put_uuid(out: &mut Vec<u8>, uuid: Uuid) {
    let (high, low) = uuid.as_u64_pair();
    out.extend_from_slice(&high.to_le_bytes());
    out.extend_from_slice(&low.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_numbered_as_the_column_names_them() {
        for topic in [Topic::Usage, Topic::Overflow] {
            assert!(LOG_TOPIC.contains(&format!("'{}' = {}", topic.name(), log_topic(topic))));
        }
    }

    #[test]
    fn only_what_reads_the_same_is_a_uuid() {
        let text = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let uuid = canonical_uuid(text.as_bytes()).unwrap();
        assert_eq!(uuid.to_string(), text);
        for other in [
            "0F8FAD5B-D9CB-469F-A165-70867728950E",
            "0f8fad5bd9cb469fa16570867728950e",
            "{0f8fad5b-d9cb-469f-a165-70867728950e}",
            "urn:uuid:0f8fad5b-d9cb-469f-a165-70867728950e",
            "0f8fad5b-d9cb-469f-a165-70867728950g",
            "0f8fad5b-d9cb-469f-a165-70867728950e ",
            "0f8fad5bd-9cb-469f-a165-70867728950e",
            "",
        ] {
            assert_eq!(canonical_uuid(other.as_bytes()), None, "{other}");
        }
        let mut bytes = Vec::new();
        put_uuid(&mut bytes, uuid);
        assert_eq!(bytes[..8], [0x9f, 0x46, 0xcb, 0xd9, 0x5b, 0xad, 0x8f, 0x0f]);
    }
}
