//! How far each file of a source has been read, kept over restarts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::lines::Place;

/// The places of one source, in one small file.
#[derive(Debug)]
pub struct Places {
    file: PathBuf,
    by_path: BTreeMap<PathBuf, Place>,
}

impl Places {
    /// Reads the places of `source` from `dir`, which is made if missing.
    ///
    /// # Errors
    /// What the system says, or that the file is not what was written.
    pub fn open(dir: &Path, source: &str) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let file = dir.join(format!("{source}.places.json"));
        let by_path = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Places { file, by_path })
    }

    /// The place in `path`.
    pub fn get(&self, path: &Path) -> Option<&Place> {
        self.by_path.get(path)
    }

    /// Moves the place in `path`: after a crash either the old or the new one is read.
    ///
    /// # Errors
    /// What the system says.
    pub fn set(&mut self, path: &Path, place: Place) -> io::Result<()> {
        self.by_path.insert(path.to_owned(), place);
        let temporary = self.file.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(&self.by_path)?)?;
        // Not synced: an older place costs some duplicates, which are recognised.
        fs::rename(&temporary, &self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { file: (1, 2), offset: 3, lines: 4, digest: "00".into() };
        Places::open(dir.path(), "web").unwrap().set(Path::new("/a"), place.clone()).unwrap();
        let places = Places::open(dir.path(), "web").unwrap();
        assert_eq!(places.get(Path::new("/a")), Some(&place));
        assert_eq!(places.get(Path::new("/b")), None);
    }
}
