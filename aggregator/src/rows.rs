//! ClickHouse's RowBinary, as far as the tables need it.
//!
//! Rows are encoded as soon as they are known: a batch is held as bytes and a count, at less than half the
//! memory of typed rows, and a retry sends the same bytes.
//!
//! Source: <https://clickhouse.com/docs/interfaces/formats/RowBinary>.

use bytes::{BufMut, Bytes, BytesMut};
use rentroll_schemas::Quantity;

/// Rows being encoded.
#[derive(Debug, Default)]
pub struct Rows {
    bytes: BytesMut,
    count: u64,
}

impl Rows {
    /// With room for so many bytes: a batch's buffer that grows by doubling is copied over and over.
    pub fn with_capacity(bytes: usize) -> Self {
        Rows { bytes: BytesMut::with_capacity(bytes), count: 0 }
    }

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

    /// `Decimal(38, 9)`.
    pub fn quantity(&mut self, value: Quantity) -> &mut Self {
        self.bytes.put_i128_le(value.nanos());
        self
    }

    /// The number of elements of an array or map, or of bytes of a string.
    pub fn length(&mut self, length: usize) -> &mut Self {
        let mut rest = length;
        while rest >= 0x80 {
            self.bytes.put_u8((rest as u8 & 0x7f) | 0x80);
            rest >>= 7;
        }
        self.bytes.put_u8(rest as u8);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Rows;

    #[test]
    fn lengths_are_leb128() {
        for (length, encoded) in
            [(0_usize, vec![0]), (127, vec![127]), (128, vec![0x80, 1]), (300, vec![0xac, 2])]
        {
            let mut rows = Rows::default();
            rows.length(length);
            assert_eq!(rows.into_bytes(), encoded);
        }
    }
}
