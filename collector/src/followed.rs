//! A file that is known to its source, open or not.

use std::path::Path;
use std::time::Instant;

use crate::family::is_gzip;
use crate::follow::Pace;
use crate::lines::{LineReader, ReadError};
use crate::places::{Change, FileState};
use crate::sight::Stamp;

/// A known file.
pub(crate) struct Followed {
    pub(crate) key: u64,
    pub(crate) state: FileState,
    pub(crate) reader: Option<LineReader>,
    /// It is the log itself, and not what rotation made of it.
    pub(crate) is_log: bool,
    /// As it was when it was opened last. Once there is nothing more to read in it, or it cannot be read, it is left
    /// for as long as it stays so.
    pub(crate) done_at: Option<Stamp>,
    pub(crate) moved_at: Instant,
    pub(crate) seen: bool,
}

/// Why there are no more lines.
pub(crate) enum End {
    /// Enough were taken.
    Full,
    /// There are no more for now.
    Drained,
    /// The file cannot be read on.
    Broken(ReadError),
}

impl Followed {
    pub(crate) fn new(key: u64, state: FileState, now: Instant) -> Self {
        Followed { key, state, reader: None, is_log: false, done_at: None, moved_at: now, seen: false }
    }

    /// What is to be kept of it.
    pub(crate) fn change(&self, base: &Path) -> Change {
        Change::File { base: base.to_owned(), key: self.key, state: self.state.clone() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.state.path
    }

    pub(crate) fn reader(&mut self) -> Option<&mut LineReader> {
        self.reader.as_mut()
    }

    /// Lines were taken from it.
    pub(crate) fn moved(&mut self, now: Instant) {
        self.moved_at = now;
        if let Some(reader) = &self.reader {
            self.state.place = reader.place();
        }
    }

    /// Whether nothing more will be written to it.
    pub(crate) fn is_quiet(&self, pace: Pace, now: Instant) -> bool {
        !self.is_log && now.saturating_duration_since(self.moved_at) >= pace.quiet
    }

    /// What follows from there being no more lines. Returns why it cannot be read on, if so: the next scan sees
    /// what has become of it.
    pub(crate) fn after(
        &mut self,
        base: &Path,
        end: End,
        pace: Pace,
        now: Instant,
        changes: &mut Vec<Change>,
    ) -> Option<ReadError> {
        match end {
            End::Full => None,
            End::Drained if is_gzip(&self.state.path) => {
                self.reader = None;
                self.state.finished_as = self.done_at;
                changes.push(self.change(base));
                None
            }
            End::Drained => {
                if self.is_quiet(pace, now) {
                    self.close();
                }
                None
            }
            End::Broken(error) => {
                match error {
                    ReadError::Differs => self.let_go(base, changes),
                    // A compressed file is left until it has changed.
                    ReadError::Incomplete => self.reader = None,
                    ReadError::Io(_) => self.close(),
                }
                Some(error)
            }
        }
    }

    /// The next scan may open it again.
    fn close(&mut self) {
        self.reader = None;
        self.done_at = None;
    }

    /// It holds something else now; what was read of it may turn up in a copy.
    pub(crate) fn let_go(&mut self, base: &Path, changes: &mut Vec<Change>) {
        self.reader = None;
        self.state.id = None;
        self.is_log = false;
        changes.push(self.change(base));
    }
}
