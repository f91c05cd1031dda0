//! When the record at a position arrived, without reading it.
//!
//! Whoever asks does so every few seconds for a position that only grows. So the place of the last answer is kept,
//! and the search goes on from there over the frames' heads alone: no checksums, nothing decoded.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf as _, Bytes};

use super::partition::{self, Partition, SEGMENT_HEAD_BYTES, Segment};
use super::{Result, frame, io_error};

/// Bytes read at once: some hundred frames, and always room for a frame's head.
const CHUNK_BYTES: u64 = 256 << 10;
/// Head, key and arrival.
const WANTED_BYTES: usize = frame::HEAD_BYTES + 24;

/// The place of the last answer.
#[derive(Default)]
pub(super) struct Peek {
    last: Option<Place>,
}

struct Place {
    segment: Arc<Segment>,
    file: File,
    /// Of a frame.
    offset: u64,
    /// At most the frame's.
    position: u64,
}

impl Peek {
    /// When the first durable record at or after `position` arrived.
    pub(super) fn arrival(&mut self, partition: &Partition, position: u64) -> Result<Option<i64>> {
        let Some(mut segment) = partition.segment_of(position) else { return Ok(None) };
        loop {
            let goes_on = self
                .last
                .take()
                .filter(|place| place.segment.first == segment.first && place.position <= position);
            let mut place = match goes_on {
                Some(place) => place,
                None => Place::at_start(segment.clone())?,
            };
            let found = place.find(position)?;
            self.last = Some(place);
            if found.is_some() {
                return Ok(found);
            }
            match partition.segment_after(segment.first) {
                Some(next) => segment = next,
                None => return Ok(None),
            }
        }
    }
}

impl Place {
    fn at_start(segment: Arc<Segment>) -> Result<Self> {
        let file = File::open(&segment.path).map_err(|source| io_error("open", &segment.path, source))?;
        let position = segment.first;
        Ok(Place { segment, file, offset: SEGMENT_HEAD_BYTES, position })
    }

    /// Goes to the first frame at or after `position` in this segment.
    fn find(&mut self, position: u64) -> Result<Option<i64>> {
        let mut chunk = Bytes::new();
        let mut chunk_at = self.offset;
        loop {
            let start = self.offset.saturating_sub(chunk_at) as usize;
            if chunk.len() < start + WANTED_BYTES {
                let durable = self.segment.durable_bytes.load(Ordering::Acquire);
                let length = durable.saturating_sub(self.offset).min(CHUNK_BYTES) as usize;
                if length < WANTED_BYTES {
                    return Ok(None);
                }
                let mut buffer = vec![0; length];
                self.file
                    .read_exact_at(&mut buffer, self.offset)
                    .map_err(|source| io_error("read", &self.segment.path, source))?;
                (chunk, chunk_at) = (buffer.into(), self.offset);
                continue;
            }
            let mut head = &chunk[start..start + WANTED_BYTES];
            let (magic, length) = (head.get_u32_le(), head.get_u32_le());
            head.advance(4);
            let found = head.get_u64_le();
            if magic != frame::MAGIC || length as usize > frame::BODY_BYTES_MAX {
                // Damage: on to the next good frame of this chunk, or to the chunk behind it.
                let next = partition::next_frame(&chunk, start + 1, self.position);
                self.offset = chunk_at + next.unwrap_or(chunk.len()) as u64;
                continue;
            }
            self.position = found;
            if found >= position {
                head.advance(16);
                return Ok(Some(head.get_i64_le()));
            }
            self.offset += frame::HEAD_BYTES as u64 + u64::from(length);
        }
    }
}
