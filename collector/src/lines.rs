//! From a growing file, or a compressed one, to lines, each with a place of its own.
//!
//! A line's id is `<byte offset>-<digest>`, where the digest is that of all lines before it and its own: two
//! files are the same for Rentroll as far as they begin the same. So a copy of a file brings duplicates and
//! not usage, two equal lines of one file are two operations, and a rotated file is a new one from its first
//! line that differs. Offsets count the text's bytes, compressed or not: `access.log.1.gz` gives the ids that
//! `access.log` gave.
//!
//! That is why reading may begin at any [`Place`] whose bytes are the file's own beginning ([`crate::edges`]): the
//! lines before it have been taken under the very ids that this file would give them.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use crate::edges::{CHUNK_BYTES, Edges, Print, edges_at, holds, skip};

/// A line is refused beyond this: the largest request line that servers accept, with room.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// How much of a refused long line is kept; the rest is in the file, whose place the reject names.
pub const LONG_LINE_KEPT_BYTES: usize = 64 << 10;
/// Device and inode: which file a path means.
pub type FileId = (u64, u64);

/// How far a text has been taken, and which text it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Bytes taken.
    pub offset: u64,
    /// Lines taken.
    pub lines: u64,
    /// Running digest of the lines taken.
    #[serde(with = "hex::serde")]
    pub digest: [u8; 32],
    /// What stands at the beginning and at the end of the bytes taken.
    pub print: Print,
}

impl Place {
    /// The beginning of a file. `seed` goes into the ids of all its lines: files of one source that may begin the
    /// same and are not the same have different ones.
    pub fn start(seed: &str) -> Self {
        let digest = if seed.is_empty() { [0; 32] } else { *blake3::hash(seed.as_bytes()).as_bytes() };
        Place { offset: 0, lines: 0, digest, print: Edges::default().print_with(&[]) }
    }
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Where it begins.
    pub offset: u64,
    /// Its number, from 1.
    pub number: u64,
    /// Its identity in its source.
    pub id: String,
    /// Without the line's end; cut to [`LONG_LINE_KEPT_BYTES`] if it was too long.
    pub bytes: &'a [u8],
    /// Its whole length if it was longer than [`LINE_BYTES_MAX`].
    pub too_long: Option<u64>,
}

/// Why there is no next line.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file does not hold, or no longer holds, what was read from it.
    #[error("the file was truncated or is another one")]
    Differs,
    /// A compressed file ends in the middle: somebody is still writing it.
    #[error("the compressed file is not complete")]
    Incomplete,
    /// The system refuses, or a compressed file is corrupt.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Only a decoder says so of itself.
            io::ErrorKind::UnexpectedEof => ReadError::Incomplete,
            _ => ReadError::Io(error),
        }
    }
}

/// Where the bytes come from.
enum Input {
    Plain(File),
    Gzip(Box<MultiGzDecoder<File>>),
}

/// A file being read.
pub struct LineReader {
    input: Input,
    id: FileId,
    /// Where `buffer` begins in the text.
    buffer_offset: u64,
    buffer: Vec<u8>,
    /// Bytes of `buffer` already handed out.
    taken: usize,
    /// Bytes of `buffer` in which no line's end was found.
    searched: usize,
    /// Of all bytes before `buffer`.
    edges: Edges,
    /// A line that is already too long, and whose end has not come.
    long: Option<LongLine>,
    /// What is kept of the last such line.
    long_kept: Vec<u8>,
    lines: u64,
    digest: [u8; 32],
}

/// The beginning of a line that is too long; the bytes behind it are only counted.
struct LongLine {
    kept: Vec<u8>,
    bytes: u64,
    /// Where it begins, and what stands before it.
    offset: u64,
    print: Print,
}

impl LineReader {
    /// Opens `path` at `place`. `gzip` says that it is compressed.
    ///
    /// # Errors
    /// [`ReadError::Differs`] if the bytes before the place are not those that were taken;
    /// [`ReadError::Incomplete`] if a compressed file does not reach it; else what the system says.
    pub fn open(path: &Path, gzip: bool, place: &Place) -> Result<Self, ReadError> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let id = (metadata.dev(), metadata.ino());
        let (input, edges) = if gzip {
            // There is no way into the middle of a compressed file but through its beginning.
            let mut decoder = MultiGzDecoder::new(file);
            let mut edges = Edges::default();
            skip(&mut decoder, place.offset, &mut edges)?;
            (Input::Gzip(Box::new(decoder)), edges)
        } else {
            let edges = edges_at(&file, place.offset)?.ok_or(ReadError::Differs)?;
            (Input::Plain(file), edges)
        };
        if edges.print_with(&[]) != place.print {
            return Err(ReadError::Differs);
        }
        Ok(LineReader {
            input,
            id,
            buffer_offset: place.offset,
            buffer: Vec::new(),
            taken: 0,
            searched: 0,
            edges,
            long: None,
            long_kept: Vec::new(),
            lines: place.lines,
            digest: place.digest,
        })
    }

    /// Which file it reads, whatever its name is by now.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// How far it has been read.
    pub fn place(&self) -> Place {
        let print = match &self.long {
            Some(long) => long.print.clone(),
            None => self.edges.print_with(&self.buffer[..self.taken]),
        };
        Place { offset: self.offset(), lines: self.lines, digest: self.digest, print }
    }

    /// Bytes taken, up to a line's end.
    pub fn offset(&self) -> u64 {
        self.long.as_ref().map_or(self.buffer_offset + self.taken as u64, |long| long.offset)
    }

    /// Bytes in the file that have not been taken; nothing is known of a compressed file's.
    ///
    /// # Errors
    /// What the system says.
    pub fn remaining(&self) -> io::Result<u64> {
        match &self.input {
            Input::Plain(file) => Ok(file.metadata()?.len().saturating_sub(self.offset())),
            Input::Gzip(_) => Ok(0),
        }
    }

    /// The next line. `None` if there is no whole one; with `at_end` the file will not grow any more, and what
    /// is left is a line too. A compressed file never grows.
    ///
    /// # Errors
    /// See [`ReadError`]. The lines taken before, and the place behind them, hold.
    pub fn next_line(&mut self, at_end: bool) -> Result<Option<Line<'_>>, ReadError> {
        let at_end = at_end || matches!(self.input, Input::Gzip(_));
        let end = loop {
            if let Some(found) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
                break self.searched + found;
            }
            self.searched = self.buffer.len();
            // One more than the longest, for the CR that may stand before the line's end.
            if self.long.is_some() || self.searched - self.taken > LINE_BYTES_MAX + 1 {
                self.let_go_of_long_line(self.searched);
            }
            if self.read_more()? == 0 {
                if at_end && (self.long.is_some() || self.taken < self.buffer.len()) {
                    break self.buffer.len();
                }
                if self.buffer.is_empty() {
                    // Of thousands of files few are written to at any time.
                    self.buffer = Vec::new();
                }
                return Ok(None);
            }
        };
        let offset = self.offset();
        if self.long.is_some() {
            self.let_go_of_long_line(end);
        }
        let start = self.taken;
        let ends_with_cr = match end.checked_sub(1) {
            Some(last) => self.buffer[last] == b'\r',
            None => self.edges.last() == Some(b'\r'),
        };
        self.taken = (end + 1).min(self.buffer.len());
        self.searched = self.taken;
        self.lines += 1;
        let (bytes, length) = match self.long.take() {
            Some(long) => {
                self.long_kept = long.kept;
                (&self.long_kept[..], long.bytes - u64::from(ends_with_cr))
            }
            None => {
                let stop = end - usize::from(ends_with_cr && end > start);
                let kept = if stop - start > LINE_BYTES_MAX { start + LONG_LINE_KEPT_BYTES } else { stop };
                (&self.buffer[start..kept], (stop - start) as u64)
            }
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.digest).update(&length.to_le_bytes()).update(bytes);
        self.digest = *hasher.finalize().as_bytes();
        let id = format!("{offset}-{}", hex::encode(&self.digest[..8]));
        let too_long = (length > LINE_BYTES_MAX as u64).then_some(length);
        Ok(Some(Line { offset, number: self.lines, id, bytes, too_long }))
    }

    /// Keeps the beginning of a line that is already too long, and only counts the rest, up to `end` in the
    /// buffer.
    fn let_go_of_long_line(&mut self, end: usize) {
        if self.long.is_none() {
            let place = self.place();
            self.long =
                Some(LongLine { kept: Vec::new(), bytes: 0, offset: place.offset, print: place.print });
        }
        let Some(long) = &mut self.long else { return };
        let bytes = &self.buffer[self.taken..end];
        let room = LONG_LINE_KEPT_BYTES - long.kept.len();
        long.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        long.bytes += bytes.len() as u64;
        self.taken = end;
        self.searched = end;
    }

    /// Appends the next bytes to the buffer; says how many.
    fn read_more(&mut self) -> Result<usize, ReadError> {
        if self.taken > 0 {
            self.edges.push(&self.buffer[..self.taken]);
            self.buffer.drain(..self.taken);
            self.buffer_offset += self.taken as u64;
            self.searched -= self.taken;
            self.taken = 0;
        }
        let old = self.buffer.len();
        self.buffer.resize(old + CHUNK_BYTES, 0);
        let end = self.buffer_offset + old as u64;
        let read = match &mut self.input {
            Input::Plain(file) => file.read_at(&mut self.buffer[old..], end),
            Input::Gzip(decoder) => decoder.read(&mut self.buffer[old..]),
        };
        self.buffer.truncate(old + *read.as_ref().unwrap_or(&0));
        let read = read?;
        // Looked at after reading: if the old bytes are still there, the new ones follow them.
        if let Input::Plain(file) = &self.input {
            let expected = self.edges.tail_with(&self.buffer[..old]);
            if !holds(file, end, &expected)? {
                self.buffer.truncate(old);
                return Err(ReadError::Differs);
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
