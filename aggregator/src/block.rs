//! ClickHouse's Native format, as far as the tables need it: a block is its columns, one after the other.
//!
//! Columns are built side by side, row by row, so that the rows can be visited in the order in which the table
//! sorts them. A batch is held as bytes, and a retry sends the same bytes.
//!
//! Source: <https://clickhouse.com/docs/interfaces/formats/Native>; low cardinality as in
//! <https://github.com/ClickHouse/ClickHouse/blob/master/src/DataTypes/Serializations/SerializationLowCardinality.cpp>.

use bytes::{BufMut as _, Bytes, BytesMut};
use rentroll_schemas::Quantity;

/// A finished block.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Names of the columns, in their order.
    pub columns: Vec<&'static str>,
    /// Rows in it.
    pub rows: usize,
    /// The encoded block, cut where columns end: what is large is not copied together. Empty for no rows.
    pub parts: Vec<Bytes>,
}

/// Columns on their way to a block.
pub struct BlockBuilder {
    columns: Vec<&'static str>,
    rows: usize,
    parts: Vec<Bytes>,
    /// What follows `parts`.
    out: BytesMut,
}

/// Columns from this size on go out as they are.
const OWN_PART_BYTES: usize = 4096;

impl BlockBuilder {
    /// For `rows` rows in at most 127 columns.
    pub fn new(rows: usize) -> Self {
        let mut out = BytesMut::with_capacity(OWN_PART_BYTES);
        out.put_u8(0);
        put_length(&mut out, rows);
        BlockBuilder { columns: Vec::new(), rows, parts: Vec::new(), out }
    }

    /// A column of fixed width, already encoded. It must hold as many values as the block has rows.
    pub fn column(&mut self, name: &'static str, kind: &str, values: Vec<u8>) -> &mut Self {
        self.head(name, kind);
        self.put(values);
        self
    }

    /// A `String` column of few different texts.
    pub fn words(&mut self, name: &'static str, column: Words<'_>) -> &mut Self {
        self.column(name, "String", column.values)
    }

    /// An array column: where each row's elements end, then the elements.
    pub fn arrays(&mut self, name: &'static str, kind: &str, ends: Vec<u8>, elements: Vec<u8>) -> &mut Self {
        self.head(name, kind);
        self.put(ends);
        self.put(elements);
        self
    }

    /// The block.
    pub fn finish(mut self) -> Block {
        if self.rows == 0 {
            return Block { columns: self.columns, rows: 0, parts: Vec::new() };
        }
        self.parts.push(self.out.freeze());
        // The first part begins with the number of columns.
        let mut first = BytesMut::from(self.parts[0].as_ref());
        first[0] = self.columns.len() as u8;
        self.parts[0] = first.freeze();
        Block { columns: self.columns, rows: self.rows, parts: self.parts }
    }

    fn put(&mut self, bytes: Vec<u8>) {
        if bytes.len() < OWN_PART_BYTES {
            return self.out.put_slice(&bytes);
        }
        self.parts.push(self.out.split().freeze());
        self.parts.push(bytes.into());
    }

    fn head(&mut self, name: &'static str, kind: &str) {
        self.columns.push(name);
        for text in [name, kind] {
            put_length(&mut self.out, text.len());
            self.out.put_slice(text.as_bytes());
        }
    }
}

/// Room is made for texts of this length at most; for longer ones there will be.
const WORD_BYTES_MAX: usize = 63;

/// A column of few different texts, told by their numbers.
pub struct Words<'a> {
    texts: Vec<&'a [u8]>,
    values: Vec<u8>,
}

impl<'a> Words<'a> {
    /// With these texts.
    pub fn new(texts: Vec<&'a [u8]>, rows: usize) -> Self {
        // Mostly there is one, or they are much alike. What is not filled costs nothing.
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or_default();
        Words { texts, values: Vec::with_capacity(rows * (1 + longest.min(WORD_BYTES_MAX))) }
    }

    /// A row.
    pub fn push(&mut self, number: u32) {
        put_text(&mut self.values, self.texts[number as usize]);
    }
}

/// Appends a length as LEB128.
pub fn put_length(out: &mut impl bytes::BufMut, length: usize) {
    let mut rest = length;
    while rest >= 0x80 {
        out.put_u8((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Appends a `String`.
pub fn put_text(out: &mut impl bytes::BufMut, text: &[u8]) {
    put_length(out, text.len());
    out.put_slice(text);
}

/// Appends a `Decimal(38, 9)`.
pub fn put_quantity(out: &mut impl bytes::BufMut, value: Quantity) {
    out.put_i128_le(value.nanos());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_leb128() {
        for (length, encoded) in
            [(0_usize, vec![0]), (127, vec![127]), (128, vec![0x80, 1]), (300, vec![0xac, 2])]
        {
            let mut out = Vec::new();
            put_length(&mut out, length);
            assert_eq!(out, encoded);
        }
    }

    #[test]
    fn a_block_names_its_columns_and_their_types() {
        let mut block = BlockBuilder::new(2);
        let mut words = Words::new(vec![b"a", b"b"], 2);
        words.push(1);
        words.push(0);
        block.column("n", "UInt8", vec![7, 8]).words("w", words);
        let block = block.finish();
        assert_eq!((block.rows, &block.columns[..]), (2, &["n", "w"][..]));
        let bytes = block.parts.concat();
        assert_eq!(&bytes[..12], b"\x02\x02\x01n\x05UInt8\x07\x08");
        assert_eq!(&bytes[12..], b"\x01w\x06String\x01b\x01a");
    }

    #[test]
    fn a_large_column_is_a_part_of_its_own() {
        let mut block = BlockBuilder::new(OWN_PART_BYTES);
        block.column("a", "UInt8", vec![1; OWN_PART_BYTES]).column("b", "UInt8", vec![2; OWN_PART_BYTES]);
        let block = block.finish();
        assert_eq!(block.parts[0][0], 2);
        let whole = block.parts.concat();
        assert_eq!(whole.len(), 3 + 2 * (2 + 6 + OWN_PART_BYTES));
        assert_eq!(&whole[whole.len() - OWN_PART_BYTES - 8..][..8], b"\x01b\x05UInt8");
    }
}
