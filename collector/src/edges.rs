//! What stands at the beginning and at the end of the bytes taken from a file: enough to tell whether another
//! file, or the same one after a while, begins with the very same bytes.
//!
//! Lines of a log differ from each other by their times at the least, so two texts that agree in the kilobyte
//! before one offset, and in their first one, are the same text up to there. Up to two kilobytes it is certain.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use crate::lines::{Place, ReadError};

/// Bytes looked at on either side: a few lines.
const EDGE_BYTES: usize = 1024;
/// Bytes read from the file at once. Smaller, and system calls show; larger, and memory does.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

/// The bytes themselves, kept while a file is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edges {
    head: Vec<u8>,
    tail: Vec<u8>,
}

/// Digests of them, kept over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// Of the first bytes.
    #[serde(with = "hex::serde")]
    head: [u8; 16],
    /// Of the last bytes.
    #[serde(with = "hex::serde")]
    tail: [u8; 16],
}

impl Edges {
    fn of(head: Vec<u8>, tail: Vec<u8>) -> Self {
        Edges { head, tail }
    }

    /// Takes the bytes that follow.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = EDGE_BYTES - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        extend_tail(&mut self.tail, bytes);
    }

    /// The last of the bytes taken and `more`.
    pub(crate) fn tail_with(&self, more: &[u8]) -> Vec<u8> {
        let mut tail = self.tail.clone();
        extend_tail(&mut tail, more);
        tail
    }

    pub(crate) fn last(&self) -> Option<u8> {
        self.tail.last().copied()
    }

    /// Of the bytes taken and `more`.
    pub(crate) fn print_with(&self, more: &[u8]) -> Print {
        let mut edges = self.clone();
        edges.push(more);
        Print { head: digest(&edges.head), tail: digest(&edges.tail) }
    }
}

fn extend_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    let new = &bytes[bytes.len().saturating_sub(EDGE_BYTES)..];
    let old = tail.len().min(EDGE_BYTES - new.len());
    tail.drain(..tail.len() - old);
    tail.extend_from_slice(new);
}

fn digest(bytes: &[u8]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    short
}

/// Which of `places` lies furthest in the text of `path` among those whose bytes are the text's beginning.
///
/// # Errors
/// [`ReadError::Incomplete`] if a compressed file breaks off before that is known; else what the system says.
pub(crate) fn furthest(path: &Path, gzip: bool, places: &[&Place]) -> Result<Option<usize>, ReadError> {
    let mut by_offset: Vec<(usize, &Place)> =
        places.iter().copied().enumerate().filter(|(_, place)| place.offset > 0).collect();
    by_offset.sort_by_key(|(_, place)| place.offset);
    let file = File::open(path)?;
    if !gzip {
        for (index, place) in by_offset.into_iter().rev() {
            if let Some(edges) = edges_at(&file, place.offset)?
                && edges.print_with(&[]) == place.print
            {
                return Ok(Some(index));
            }
        }
        return Ok(None);
    }
    let mut decoder = MultiGzDecoder::new(file);
    let (mut edges, mut offset, mut found) = (Edges::default(), 0, None);
    for (index, place) in by_offset {
        match skip(&mut decoder, place.offset - offset, &mut edges) {
            Ok(()) => offset = place.offset,
            // The text is shorter than this place and all that follow.
            Err(ReadError::Differs) => break,
            Err(error) => return Err(error),
        }
        if edges.print_with(&[]) == place.print {
            found = Some(index);
        }
    }
    Ok(found)
}

/// The edges of a file's first `offset` bytes; `None` if it has fewer.
pub(crate) fn edges_at(file: &File, offset: u64) -> io::Result<Option<Edges>> {
    let bytes = offset.min(EDGE_BYTES as u64) as usize;
    let (mut head, mut tail) = (vec![0; bytes], vec![0; bytes]);
    let read =
        file.read_exact_at(&mut head, 0).and_then(|()| file.read_exact_at(&mut tail, offset - bytes as u64));
    match read {
        Ok(()) => Ok(Some(Edges::of(head, tail))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether `expected` are the bytes before `end`.
pub(crate) fn holds(file: &File, end: u64, expected: &[u8]) -> io::Result<bool> {
    let mut there = vec![0; expected.len()];
    match file.read_exact_at(&mut there, end - expected.len() as u64) {
        Ok(()) => Ok(there == expected),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads over `bytes` bytes. [`ReadError::Differs`] if the text ends before.
pub(crate) fn skip(
    decoder: &mut MultiGzDecoder<File>,
    bytes: u64,
    edges: &mut Edges,
) -> Result<(), ReadError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let want = left.min(CHUNK_BYTES as u64) as usize;
        let read = decoder.read(&mut chunk[..want])?;
        if read == 0 {
            return Err(ReadError::Differs);
        }
        edges.push(&chunk[..read]);
        left -= read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn however_they_come_the_edges_are_those_of_the_whole(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..6),
        ) {
            let whole = pieces.concat();
            let mut edges = Edges::default();
            for piece in &pieces {
                edges.push(piece);
            }
            prop_assert_eq!(&edges.head, &whole[..whole.len().min(EDGE_BYTES)]);
            prop_assert_eq!(&edges.tail, &whole[whole.len().saturating_sub(EDGE_BYTES)..]);
            prop_assert_eq!(edges.last(), whole.last().copied());
            prop_assert_eq!(edges.print_with(&[]), Edges::default().print_with(&whole));
        }
    }
}
