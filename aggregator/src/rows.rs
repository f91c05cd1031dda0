//! ClickHouse's RowBinary, as far as the smaller tables need it: rows that are encoded as soon as they are known.
//!
//! Source: <https://clickhouse.com/docs/interfaces/formats/RowBinary>.

use bytes::{BufMut, Bytes, BytesMut};

/// Rows being encoded.
#[derive(Debug, Default)]
pub struct Rows {
    bytes: BytesMut,
    count: u64,
}

impl Rows {
    /// Ends a row.
    pub fn end_row(&mut self) {
        self.count += 1;
    }

    /// How many rows were ended.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The encoded rows.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }

    /// `String`, `LowCardinality(String)`.
    pub fn text(&mut self, text: &[u8]) -> &mut Self {
        self.length(text.len());
        self.bytes.put_slice(text);
        self
    }

    /// `FixedString(N)`; the length must be N.
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.put_slice(bytes);
        self
    }

    /// `UInt8`.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.put_u8(value);
        self
    }

    /// `UInt16`.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes.put_u16_le(value);
        self
    }

    /// `UInt32`, `DateTime`.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.put_u32_le(value);
        self
    }

    /// `UInt64`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.put_u64_le(value);
        self
    }

    /// `Int64`, `DateTime64` in its own ticks.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes.put_i64_le(value);
        self
    }

    /// The number of elements of an array or map, or of bytes of a string.
    pub fn length(&mut self, length: usize) -> &mut Self {
        crate::block::put_length(&mut self.bytes, length);
        self
    }
}
