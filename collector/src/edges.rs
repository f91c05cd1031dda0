//! What stands at the beginning and at the end of the bytes taken from a file: enough to tell whether another
//! file, or the same one after a while, begins with the very same bytes.
//!
//! Lines of a log differ from each other by their times at the least, so two texts that agree in the kilobyte
//! before one offset, and in their first one, are the same text up to there. Up to two kilobytes it is certain.

use serde::{Deserialize, Serialize};

/// Bytes looked at on either side: a few lines.
pub(crate) const EDGE_BYTES: usize = 1024;

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
    pub(crate) fn of(head: Vec<u8>, tail: Vec<u8>) -> Self {
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
