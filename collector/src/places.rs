//! How far each file of a source has been read, kept over restarts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::lines::{FileId, Place};
use crate::sight::Stamp;

/// The file is written no oftener than this while lines keep coming. A place that is older than it could be costs
/// some duplicates after a kill, which are recognised.
const SAVE_EVERY: Duration = Duration::from_millis(200);

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
    /// What the system says, or that the file is not what was written.
    pub(crate) fn open(dir: &Path, source: &str) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let file = dir.join(format!("{source}.files.json"));
        let families = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Places { file, families, saved_at: None, unsaved: false })
    }

    /// By log.
    pub(crate) fn families(&self) -> &BTreeMap<PathBuf, FamilyState> {
        &self.families
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.families.clear();
        self.unsaved = true;
    }

    /// Takes changes, in their order; writes them down unless that was done just now.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn apply(&mut self, changes: Vec<Change>) -> io::Result<()> {
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
        match self.saved_at {
            Some(at) if at.elapsed() < SAVE_EVERY => Ok(()),
            _ => self.save(),
        }
    }

    /// Writes down what is not yet: after a crash either the old or the new state is read.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        if !self.unsaved {
            return Ok(());
        }
        let temporary = self.file.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(&self.families)?)?;
        // Not synced: an older place costs some duplicates, which are recognised.
        fs::rename(&temporary, &self.file)?;
        (self.saved_at, self.unsaved) = (Some(Instant::now()), false);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let state = FileState {
            id: Some((1, 2)),
            path: "/a.1".into(),
            place: Place::start("a"),
            finished_as: Some(Stamp { bytes: 7, changed_ns: 8 }),
        };
        let base = PathBuf::from("/a");
        let mut places = Places::open(dir.path(), "web").unwrap();
        places
            .apply(vec![
                Change::Family { base: base.clone(), ignored_until_ns: 7 },
                Change::File { base: base.clone(), key: 3, state: state.clone() },
                Change::File { base: base.clone(), key: 4, state: state.clone() },
            ])
            .unwrap();
        places.apply(vec![Change::Gone { base: base.clone(), key: 4 }]).unwrap();
        places.save().unwrap();
        let places = Places::open(dir.path(), "web").unwrap();
        let family = &places.families()[&base];
        assert_eq!((family.ignored_until_ns, family.files.len()), (7, 1));
        assert_eq!(family.files[&3], state);
    }
}
