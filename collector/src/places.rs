//! How far each file of a source has been read, kept over restarts.
//!
//! The file is replaced as a whole, synced before it takes the old one's name: after a power cut it is the old one or
//! the new one. An older place costs duplicates, since a line's id is its place in its file: what is read again is sent
//! under the same identities, and is recognised.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::lines::{FileId, Place};
use crate::sight::Stamp;

/// The file is written no oftener than this, since each time takes two syncs: ten times as often would show on a disk
/// that others sync to. A kill costs as many duplicates as came in this time.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Why the places of a source cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// What the system said.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is not what was written.
    #[error("{}: {reason}", file.display())]
    Damaged { file: PathBuf, reason: serde_json::Error },
}

/// What is known of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileState {
    /// Which file it is; `None` if it is gone: truncated, or its name means another one.
    pub(crate) id: Option<FileId>,
    /// Where it was last seen.
    pub(crate) path: PathBuf,
    /// How far it has been read.
    pub(crate) place: Place,
    /// A compressed file that was read to its end: as it was then. The inode alone would not do: a file that is
    /// compressed after another one was taken away may get the number of that one.
    #[serde(default)]
    pub(crate) finished_as: Option<Stamp>,
}

/// What is known of one log and what rotation made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FamilyState {
    /// Rotated files that were last written no later than this were there before the log was followed.
    pub(crate) ignored_until_ns: i64,
    /// By a number that the reader chose.
    pub(crate) files: BTreeMap<u64, FileState>,
}

/// One step of what is known, to be kept once everything before it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A log is followed from now on.
    Family { base: PathBuf, ignored_until_ns: i64 },
    /// A file is known, or has been read further.
    File { base: PathBuf, key: u64, state: FileState },
    /// A file is forgotten.
    Gone { base: PathBuf, key: u64 },
}

/// The places of one source, in one small file.
#[derive(Debug)]
pub(crate) struct Places {
    file: PathBuf,
    families: BTreeMap<PathBuf, FamilyState>,
    saved_at: Option<Instant>,
    unsaved: bool,
}

impl Places {
    /// Reads the places of `source` from `dir`, which is made if missing.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn open(dir: &Path, source: &str) -> Result<Self, OpenError> {
        let mut places = Places::none(dir, source)?;
        match fs::read(&places.file) {
            Ok(text) => {
                places.families = serde_json::from_slice(&text)
                    .map_err(|reason| OpenError::Damaged { file: places.file.clone(), reason })?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        Ok(places)
    }

    /// As if nothing had been read, whatever was kept. That is kept until there is something to put in its place, or
    /// nothing comes.
    ///
    /// # Errors
    /// The folder's, which is made if missing.
    pub(crate) fn forgotten(dir: &Path, source: &str) -> io::Result<Self> {
        Ok(Places { saved_at: Some(Instant::now()), unsaved: true, ..Places::none(dir, source)? })
    }

    fn none(dir: &Path, source: &str) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let file = dir.join(format!("{source}.files.json"));
        Ok(Places { file, families: BTreeMap::new(), saved_at: None, unsaved: false })
    }

    /// By log.
    pub(crate) fn families(&self) -> &BTreeMap<PathBuf, FamilyState> {
        &self.families
    }

    /// Takes changes, in their order.
    pub(crate) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.unsaved = true;
            match change {
                Change::Family { base, ignored_until_ns } => {
                    self.families.entry(base).or_default().ignored_until_ns = ignored_until_ns;
                    // A log whose first sight is forgotten would be seen for the first time again, and what was
                    // rotated meanwhile taken for older than it.
                    self.saved_at = None;
                }
                Change::File { base, key, state } => {
                    self.families.entry(base).or_default().files.insert(key, state);
                }
                Change::Gone { base, key } => {
                    self.families.entry(base).or_default().files.remove(&key);
                }
            }
        }
    }

    /// How long they may wait to be written down; `None` if there is nothing to write.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        let since = self.saved_at.map_or(SAVE_EVERY, |at| at.elapsed());
        self.unsaved.then(|| SAVE_EVERY.saturating_sub(since))
    }

    /// Writes down what is not yet, synced. The syncs may take long, and others run on this thread: they are done on
    /// another one.
    ///
    /// # Errors
    /// What the system says. What was written before is still there, and the next call tries again.
    pub(crate) async fn save(&mut self) -> io::Result<()> {
        if !self.unsaved {
            return Ok(());
        }
        let (file, text) = (self.file.clone(), serde_json::to_vec(&self.families)?);
        match tokio::task::spawn_blocking(move || replace(&file, &text)).await {
            Ok(written) => written?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
        (self.saved_at, self.unsaved) = (Some(Instant::now()), false);
        Ok(())
    }
}

/// Puts `text` in the place of what `file` holds.
fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = file.with_extension("tmp");
    let write = || {
        let mut new = File::create(&temporary)?;
        new.write_all(text)?;
        new.sync_data()?;
        fs::rename(&temporary, file)
    };
    write().inspect_err(|_| {
        // On a full disk half of it takes room that is wanted.
        let _ = fs::remove_file(&temporary);
    })?;
    match file.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let state = FileState {
            id: Some((1, 2)),
            path: "/a.1".into(),
            place: Place::start("a"),
            finished_as: Some(Stamp { bytes: 7, changed_ns: 8 }),
        };
        let base = PathBuf::from("/a");
        let mut places = Places::open(dir.path(), "web").unwrap();
        assert_eq!(places.due_in(), None);
        places.apply(vec![
            Change::File { base: base.clone(), key: 3, state: state.clone() },
            Change::File { base: base.clone(), key: 4, state: state.clone() },
        ]);
        places.save().await.unwrap();
        places.apply(vec![Change::Gone { base: base.clone(), key: 4 }]);
        assert!(places.due_in().unwrap() > Duration::ZERO, "just saved");
        places.apply(vec![Change::Family { base: base.clone(), ignored_until_ns: 7 }]);
        assert_eq!(places.due_in(), Some(Duration::ZERO), "a first sight may not be forgotten");
        places.save().await.unwrap();
        assert_eq!(places.due_in(), None);
        let places = Places::open(dir.path(), "web").unwrap();
        let family = &places.families()[&base];
        assert_eq!((family.ignored_until_ns, family.files.len()), (7, 1));
        assert_eq!(family.files[&3], state);
    }
}
