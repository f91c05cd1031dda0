//! One record on disk.
//!
//! ```text
//! u32 magic  u32 length  u32 crc32c(position, body)  u64 position  body
//! body: 16 bytes key, i64 arrived_at_ms, u32 length of the headers, headers, value to the end
//! ```
//! All little-endian; `length` is that of the body. The magic lets recovery find the next frame behind a
//! damaged length.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rentroll_schemas::Identity;

use crate::log::{Headers, Positioned, Record};

/// First bytes of a frame.
pub const MAGIC: u32 = 0x3152_4652; // "RFR1"
/// Bytes before the body.
pub const HEAD_BYTES: usize = 20;
/// Bytes of a body beside headers and value.
const FIXED_BYTES: usize = 28;
/// Largest body. Bounds what a damaged length can make a reader allocate.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// What stands at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A good frame, and its whole length in bytes.
    Frame(Positioned, usize),
    /// The bytes end before the frame does.
    Incomplete,
    /// Not a frame.
    Damaged,
}

/// Bytes that [`encode`] will write for `record`.
pub fn encoded_len(record: &Record) -> usize {
    HEAD_BYTES + FIXED_BYTES + record.headers.as_bytes().len() + record.value.len()
}

/// Appends the frame of `record` at `position`.
pub fn encode(out: &mut BytesMut, position: u64, record: &Record) {
    let start = out.len();
    out.reserve(encoded_len(record));
    out.put_u32_le(MAGIC);
    out.put_u32_le((encoded_len(record) - HEAD_BYTES) as u32);
    out.put_u32_le(0);
    out.put_u64_le(position);
    out.put_slice(&record.key.0);
    out.put_i64_le(record.arrived_at_ms);
    let headers = record.headers.as_bytes();
    out.put_u32_le(headers.len() as u32);
    out.put_slice(headers);
    out.put_slice(&record.value);
    let checksum = crc32c::crc32c(&out[start + 12..]);
    out[start + 8..start + 12].copy_from_slice(&checksum.to_le_bytes());
}

/// Whether `record` fits a frame's length fields.
pub fn fits(record: &Record) -> bool {
    encoded_len(record) - HEAD_BYTES <= BODY_BYTES_MAX
}

/// Reads the frame at the start of `bytes`; the record's value shares their memory.
pub fn decode(bytes: &Bytes) -> Decoded {
    let Some(head) = bytes.get(..HEAD_BYTES) else {
        return Decoded::Incomplete;
    };
    let mut head = head;
    let (magic, length, checksum) = (head.get_u32_le(), head.get_u32_le() as usize, head.get_u32_le());
    let position = head.get_u64_le();
    if magic != MAGIC || length > BODY_BYTES_MAX {
        return Decoded::Damaged;
    }
    let end = HEAD_BYTES + length;
    if bytes.len() < end {
        return Decoded::Incomplete;
    }
    if crc32c::crc32c(&bytes[12..end]) != checksum {
        return Decoded::Damaged;
    }
    match read_body(bytes.slice(HEAD_BYTES..end)) {
        Some(record) => Decoded::Frame(Positioned { position, record }, end),
        None => Decoded::Damaged,
    }
}

fn read_body(mut body: Bytes) -> Option<Record> {
    if body.len() < FIXED_BYTES {
        return None;
    }
    let mut key = [0; 16];
    body.copy_to_slice(&mut key);
    let arrived_at_ms = body.get_i64_le();
    let headers_len = body.get_u32_le() as usize;
    if body.len() < headers_len {
        return None;
    }
    let headers = Headers::from_bytes(body.split_to(headers_len))?;
    Some(Record { key: Identity(key), headers, value: body, arrived_at_ms })
}
