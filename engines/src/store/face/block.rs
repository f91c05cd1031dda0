//! ClickHouse's own compressed frames, as `compress=1` and `decompress=1` have them.
//!
//! | bytes | |
//! |---|---|
//! | 16 | CityHash 1.0.2, 128 bits, of all that follows |
//! | 1 | method: `0x82` LZ4, `0x02` none |
//! | 4 | length of this frame without the checksum, little-endian |
//! | 4 | length of the uncompressed data, little-endian |
//! | … | data |

use std::io::{self, Read};

const CHECKSUM_BYTES: usize = 16;
const HEADER_BYTES: usize = 9;
const METHOD_LZ4: u8 = 0x82;
const METHOD_NONE: u8 = 0x02;
/// Most bytes that a frame may hold: ClickHouse writes 1 MiB, its clients up to a whole request. Bounds what one
/// forged length can make us allocate.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// `data` as one frame.
pub(super) fn compress(data: &[u8]) -> Vec<u8> {
    let bound = lz4_flex::block::get_maximum_output_size(data.len());
    let mut frame = vec![0; CHECKSUM_BYTES + HEADER_BYTES + bound];
    let body = CHECKSUM_BYTES + HEADER_BYTES;
    // The output has the size that the algorithm asks for, so that it cannot fail.
    let length = lz4_flex::block::compress_into(data, &mut frame[body..]).unwrap_or(0);
    frame.truncate(body + length);
    frame[CHECKSUM_BYTES] = METHOD_LZ4;
    write_length(&mut frame[CHECKSUM_BYTES + 1..], HEADER_BYTES + length);
    write_length(&mut frame[CHECKSUM_BYTES + 5..], data.len());
    let checksum = checksum(&frame[CHECKSUM_BYTES..]);
    frame[..CHECKSUM_BYTES].copy_from_slice(&checksum);
    frame
}

/// A frame with that head and `body`, well-formed or not, under the right checksum.
#[cfg(feature = "fuzz")]
pub(super) fn sealed(method: u8, data_length: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; CHECKSUM_BYTES + HEADER_BYTES];
    frame[CHECKSUM_BYTES] = method;
    write_length(&mut frame[CHECKSUM_BYTES + 1..], HEADER_BYTES + body.len());
    write_length(&mut frame[CHECKSUM_BYTES + 5..], data_length as usize);
    frame.extend_from_slice(body);
    let checksum = checksum(&frame[CHECKSUM_BYTES..]);
    frame[..CHECKSUM_BYTES].copy_from_slice(&checksum);
    frame
}

fn write_length(at: &mut [u8], length: usize) {
    // Frames are made of chunks far below 4 GiB.
    at[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    // The wire has the low half first.
    cityhash_rs::cityhash_102_128(bytes).rotate_right(64).to_le_bytes()
}

/// Reads frames, gives their data.
pub(super) struct FrameReader<R> {
    inner: R,
    data: Vec<u8>,
    given: usize,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(inner: R) -> Self {
        FrameReader { inner, data: Vec::new(), given: 0 }
    }

    /// Reads the next frame; false at the end of the input.
    fn advance(&mut self) -> io::Result<bool> {
        let mut head = [0; CHECKSUM_BYTES + HEADER_BYTES];
        let got = read_up_to(&mut self.inner, &mut head)?;
        if got == 0 {
            return Ok(false);
        }
        if got < head.len() {
            return Err(bad("compressed frame is cut off"));
        }
        let length =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (frame_length, data_length) = (length(CHECKSUM_BYTES + 1), length(CHECKSUM_BYTES + 5));
        if !(HEADER_BYTES..=FRAME_BYTES_MAX).contains(&frame_length) || data_length > FRAME_BYTES_MAX {
            return Err(bad("compressed frame has an impossible length"));
        }
        let mut frame = vec![0; frame_length];
        frame[..HEADER_BYTES].copy_from_slice(&head[CHECKSUM_BYTES..]);
        if read_up_to(&mut self.inner, &mut frame[HEADER_BYTES..])? < frame_length - HEADER_BYTES {
            return Err(bad("compressed frame is cut off"));
        }
        if checksum(&frame) != head[..CHECKSUM_BYTES] {
            return Err(bad("checksum of a compressed frame does not match: corrupted data"));
        }
        self.data.clear();
        self.given = 0;
        match frame[0] {
            METHOD_NONE => self.data.extend_from_slice(&frame[HEADER_BYTES..]),
            METHOD_LZ4 => {
                self.data.resize(data_length, 0);
                let written = lz4_flex::block::decompress_into(&frame[HEADER_BYTES..], &mut self.data)
                    .map_err(|error| bad(&format!("compressed frame cannot be read: {error}")))?;
                if written != data_length {
                    return Err(bad("compressed frame is shorter than it says"));
                }
            }
            other => {
                return Err(bad(&format!("compression method {other:#04x} is not supported, only LZ4 is")));
            }
        }
        Ok(true)
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.data.len() {
            if !self.advance()? {
                return Ok(0);
            }
        }
        let length = out.len().min(self.data.len() - self.given);
        out[..length].copy_from_slice(&self.data[self.given..self.given + length]);
        self.given += length;
        Ok(length)
    }
}

fn read_up_to(from: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match from.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_compressed_is_read_back(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..4)) {
            let frames: Vec<u8> = parts.iter().flat_map(|part| compress(part)).collect();
            let mut data = Vec::new();
            FrameReader::new(frames.as_slice()).read_to_end(&mut data).unwrap();
            prop_assert_eq!(data, parts.concat());
        }

        #[test]
        fn a_changed_byte_is_found(at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let mut frame = compress(b"twelve bytes and some more, twelve bytes and some more");
            let at = at.index(frame.len());
            frame[at] ^= flip;
            prop_assert!(FrameReader::new(frame.as_slice()).read_to_end(&mut Vec::new()).is_err());
        }
    }

    /// The layout; that the checksum is ClickHouse's own is seen by the foreign clients' tests.
    #[test]
    fn the_layout_is_pinned() {
        assert_eq!(hex::encode(&compress(b"1\n")[CHECKSUM_BYTES..]), "820c0000000200000020310a");
    }
}
