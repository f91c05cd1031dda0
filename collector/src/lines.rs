//! From a growing, rotating file to lines, each with a place of its own.
//!
//! A line's id is `<byte offset>-<digest>`, where the digest is that of all lines before it and its own: two
//! files are the same for Rentroll as far as they begin the same. So a copy of a file brings duplicates and
//! not usage, two equal lines of one file are two operations, and a rotated file is a new one from its first
//! line that differs.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A line is refused beyond this: the largest request line that servers accept, with room.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// How much of a refused long line is kept; the rest is in the file, whose place the reject names.
pub const LONG_LINE_KEPT_BYTES: usize = 64 << 10;
/// Bytes read from the file at once.
const CHUNK_BYTES: usize = 1 << 18;

/// How far a file has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Device and inode: which file the path meant.
    pub file: (u64, u64),
    /// Bytes taken.
    pub offset: u64,
    /// Lines taken.
    pub lines: u64,
    /// Running digest of the lines taken, hexadecimal.
    pub digest: String,
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

/// A file being read.
#[derive(Debug)]
pub struct LineReader {
    path: PathBuf,
    file: File,
    identity: (u64, u64),
    /// Where `buffer` begins in the file.
    buffer_offset: u64,
    buffer: Vec<u8>,
    /// Bytes of `buffer` already handed out.
    taken: usize,
    /// Bytes of `buffer` in which no line's end was found.
    searched: usize,
    /// Bytes of a too long line that were already let go.
    skipped: u64,
    lines: u64,
    digest: [u8; 32],
}

impl LineReader {
    /// Opens `path` where `place` left off, if it is still the same file; else at its beginning.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path, place: Option<&Place>) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        let mut reader = LineReader {
            path: path.to_owned(),
            file,
            identity,
            buffer_offset: 0,
            buffer: Vec::new(),
            taken: 0,
            searched: 0,
            skipped: 0,
            lines: 0,
            digest: [0; 32],
        };
        if let Some(place) = place
            && place.file == identity
            && place.offset <= metadata.len()
            && hex::decode_to_slice(&place.digest, &mut reader.digest).is_ok()
        {
            reader.buffer_offset = place.offset;
            reader.lines = place.lines;
        }
        Ok(reader)
    }

    /// How far it has been read.
    pub fn place(&self) -> Place {
        Place {
            file: self.identity,
            offset: self.offset(),
            lines: self.lines,
            digest: hex::encode(self.digest),
        }
    }

    fn offset(&self) -> u64 {
        self.buffer_offset + self.taken as u64
    }

    /// Bytes in the file that have not been taken.
    ///
    /// # Errors
    /// What the system says.
    pub fn remaining(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len().saturating_sub(self.offset()))
    }

    /// Whether the path now means another file, or this one was cut off at its beginning.
    ///
    /// # Errors
    /// What the system says; a missing file is not an error, it is still to be made.
    pub fn is_replaced(&self) -> io::Result<bool> {
        if self.file.metadata()?.len() < self.offset() {
            return Ok(true);
        }
        match std::fs::metadata(&self.path) {
            Ok(metadata) => Ok((metadata.dev(), metadata.ino()) != self.identity),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next line. `None` if there is no whole one; with `at_end` the file will not grow any more, and what
    /// is left is a line too.
    ///
    /// # Errors
    /// What the system says.
    pub fn next_line(&mut self, at_end: bool) -> io::Result<Option<Line<'_>>> {
        let end = loop {
            if let Some(found) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                break self.searched + found;
            }
            self.searched = self.buffer.len();
            if self.searched - self.taken > LINE_BYTES_MAX {
                self.let_go_of_long_line();
            }
            if !self.fill()? {
                if at_end && (self.buffer.len() > self.taken || self.skipped > 0) {
                    break self.buffer.len();
                }
                return Ok(None);
            }
        };
        let start = self.taken;
        let offset = self.offset() - self.skipped;
        let mut stop = end;
        if stop > start && self.buffer[stop - 1] == b'\r' {
            stop -= 1;
        }
        let length = self.skipped + (stop - start) as u64;
        self.skipped = 0;
        self.taken = (end + 1).min(self.buffer.len());
        self.searched = self.taken;
        self.lines += 1;
        let too_long = (length > LINE_BYTES_MAX as u64).then_some(length);
        let kept = if too_long.is_some() { stop.min(start + LONG_LINE_KEPT_BYTES) } else { stop };
        let bytes = &self.buffer[start..kept];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.digest).update(&length.to_le_bytes()).update(bytes);
        self.digest = *hasher.finalize().as_bytes();
        let id = format!("{offset}-{}", hex::encode(&self.digest[..8]));
        Ok(Some(Line { offset, number: self.lines, id, bytes, too_long }))
    }

    /// Keeps the beginning of a line that is already too long, and only counts the rest.
    fn let_go_of_long_line(&mut self) {
        let keep = self.taken + LONG_LINE_KEPT_BYTES;
        let gone = self.buffer.len() - keep;
        self.buffer.truncate(keep);
        self.buffer_offset += gone as u64;
        self.skipped += gone as u64;
        self.searched = keep;
    }

    fn fill(&mut self) -> io::Result<bool> {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.buffer_offset += self.taken as u64;
            self.searched -= self.taken;
            self.taken = 0;
        }
        let old = self.buffer.len();
        self.buffer.resize(old + CHUNK_BYTES, 0);
        let read = self.file.read_at(&mut self.buffer[old..], self.buffer_offset + old as u64);
        self.buffer.truncate(old + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    fn all(path: &Path, place: Option<&Place>) -> (Vec<(u64, String, Vec<u8>)>, Place) {
        let mut reader = LineReader::open(path, place).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line(true).unwrap() {
            lines.push((line.offset, line.id, line.bytes.to_vec()));
        }
        (lines, reader.place())
    }

    #[test]
    fn equal_lines_are_told_apart_by_their_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a\na\r\nb").unwrap();
        let (lines, _) = all(file.path(), None);
        let texts: Vec<&[u8]> = lines.iter().map(|(_, _, bytes)| bytes.as_slice()).collect();
        assert_eq!(texts, [b"a", b"a", b"b"]);
        assert_ne!(lines[0].1, lines[1].1);
    }

    #[test]
    fn a_copy_has_the_same_ids_and_another_file_has_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a"), "1\n2\n3\n").unwrap();
        std::fs::write(path("copy"), "1\n2\n3\n").unwrap();
        std::fs::write(path("other"), "0\n2\n3\n").unwrap();
        let ids = |name: &str| all(&path(name), None).0.into_iter().map(|(_, id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids("a"), ids("copy"));
        assert!(ids("a").iter().zip(ids("other")).all(|(one, other)| *one != other));
    }

    #[test]
    fn an_unfinished_line_waits() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"one\ntw").unwrap();
        let mut reader = LineReader::open(file.path(), None).unwrap();
        assert_eq!(reader.next_line(false).unwrap().unwrap().bytes, b"one");
        assert_eq!(reader.next_line(false).unwrap(), None);
        file.write_all(b"o\n").unwrap();
        assert_eq!(reader.next_line(false).unwrap().unwrap().bytes, b"two");
    }

    #[test]
    fn a_line_beyond_the_limit_is_cut_and_the_next_one_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = LINE_BYTES_MAX * 3 + 17;
        std::fs::write(file.path(), [vec![b'x'; long], b"\nnext\n".to_vec()].concat()).unwrap();
        let mut reader = LineReader::open(file.path(), None).unwrap();
        let line = reader.next_line(true).unwrap().unwrap();
        assert_eq!(
            (line.offset, line.too_long, line.bytes.len()),
            (0, Some(long as u64), LONG_LINE_KEPT_BYTES)
        );
        let line = reader.next_line(true).unwrap().unwrap();
        assert_eq!((line.offset, line.bytes), (long as u64 + 1, b"next".as_slice()));
        assert_eq!(reader.place().offset, long as u64 + 6);
    }

    #[test]
    fn rotation_and_truncation_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "one\n").unwrap();
        let mut reader = LineReader::open(&path, None).unwrap();
        reader.next_line(false).unwrap();
        assert!(!reader.is_replaced().unwrap());
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        assert!(!reader.is_replaced().unwrap());
        std::fs::write(&path, "two\n").unwrap();
        assert!(reader.is_replaced().unwrap());
        let mut reader = LineReader::open(&path, None).unwrap();
        reader.next_line(false).unwrap();
        std::fs::write(&path, "x\n").unwrap();
        assert!(reader.is_replaced().unwrap());
    }

    proptest! {
        #[test]
        fn stopping_anywhere_and_going_on_reads_every_line_once(
            lines in proptest::collection::vec("[a-z]{0,300}", 0..60), stop in 0_usize..60,
        ) {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
            let (whole, end) = all(file.path(), None);
            let mut reader = LineReader::open(file.path(), None).unwrap();
            for _ in 0..stop.min(lines.len()) {
                reader.next_line(false).unwrap();
            }
            let place = reader.place();
            let (rest, end_again) = all(file.path(), Some(&place));
            prop_assert_eq!(&whole[stop.min(lines.len())..], &rest[..]);
            prop_assert_eq!(end, end_again);
            prop_assert_eq!(whole.len(), lines.len());
        }
    }
}
