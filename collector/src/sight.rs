//! What a source's paths and patterns name on the disk at this moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::family::{base_of, is_gzip};
use crate::lines::FileId;

/// As a shell matches: `*` and `?` stay within a folder's name and pass hidden files by, which are somebody's half-written
/// or swap files more often than logs.
const AS_A_SHELL: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// A path or pattern of a source.
#[derive(Clone, Debug)]
enum Named {
    Path(PathBuf),
    Pattern(String, glob::Pattern),
}

/// Sees the files of one source.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    named: Vec<Named>,
}

/// Size and last change of a file: while they stay, so does the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) bytes: u64,
    /// Nanoseconds since the epoch.
    pub(crate) changed_ns: i64,
}

/// A file that belongs to a log.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: PathBuf,
    pub(crate) id: FileId,
    pub(crate) stamp: Stamp,
    pub(crate) gzip: bool,
    /// A path or pattern names it; else it only looks like what rotation makes of a log that is named.
    pub(crate) named: bool,
    /// It is the log itself.
    pub(crate) is_log: bool,
}

/// What was seen at one moment.
#[derive(Debug)]
pub(crate) struct Look {
    /// By log; the log itself first.
    pub(crate) files: BTreeMap<PathBuf, Vec<Seen>>,
    /// Paths at which nothing can be read.
    pub(crate) missing: Vec<(PathBuf, io::Error)>,
}

/// Whether the text is a pattern and not just a path.
pub(crate) fn is_pattern(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains(['*', '?', '[']))
}

impl Sight {
    /// Of `paths`, which begin at `root` if they are relative.
    ///
    /// # Errors
    /// A pattern that cannot be understood, and why.
    pub(crate) fn new(root: &Path, paths: &[PathBuf]) -> Result<Self, String> {
        let named = paths.iter().map(|path| {
            let path = root.join(path);
            match path.to_str().filter(|_| is_pattern(&path)) {
                None => Ok(Named::Path(path)),
                Some(text) => glob::Pattern::new(text)
                    .map(|pattern| Named::Pattern(text.to_owned(), pattern))
                    .map_err(|error| format!("`{text}`: {error}")),
            }
        });
        Ok(Sight { named: named.collect::<Result<_, _>>()? })
    }

    /// What goes into the ids of that log's lines. A source with one path has one log, whatever it is called; in
    /// one with several, two logs may begin with the same line and are two logs.
    pub(crate) fn seed(&self, base: &Path) -> String {
        match self.named.as_slice() {
            [Named::Path(_)] => String::new(),
            _ => base.to_string_lossy().into_owned(),
        }
    }

    /// What is there now. `known` are
    /// files seen before, with their log: a link that now leads elsewhere leaves its old file where it was; `logs` are
    /// all logs seen before.
    pub(crate) fn look<'a>(
        &self,
        known: &[(PathBuf, PathBuf, FileId)],
        logs: impl Iterator<Item = &'a PathBuf>,
    ) -> Look {
        let (mut files, mut missing) = (BTreeMap::<PathBuf, Vec<Seen>>::new(), Vec::new());
        let mut paths = BTreeSet::new();
        for named in &self.named {
            match named {
                Named::Path(path) => drop(paths.insert(path.clone())),
                Named::Pattern(text, _) => {
                    let (found, unseen) = matching(text);
                    if found.is_empty() && unseen.is_empty() {
                        let error = io::Error::new(io::ErrorKind::NotFound, "no file matches");
                        missing.push((text.into(), error));
                    }
                    paths.extend(found);
                    missing.extend(unseen);
                }
            }
        }
        // A log that is away for a moment, between rotation and the next line, is still followed.
        let mut bases: BTreeSet<PathBuf> = logs.filter(|base| self.names(base)).cloned().collect();
        for path in &paths {
            let base = base_of(path);
            if self.names(&base) {
                bases.insert(base.clone());
            }
            match see(path) {
                Ok(metadata) => {
                    let is_log = !is_gzip(path) && (*path == base || self.is_path(path));
                    files.entry(base).or_default().push(seen(path, &metadata, true, is_log));
                }
                Err(error) => missing.push((path.clone(), error)),
            }
        }
        let mut folders = BTreeMap::new();
        for base in bases {
            for kin in rotated(&base, &mut folders) {
                if !paths.contains(&kin)
                    && let Ok(metadata) = see(&kin)
                {
                    files.entry(base.clone()).or_default().push(seen(&kin, &metadata, false, false));
                }
            }
        }
        for (base, path, id) in known {
            let there = files.get(base).is_some_and(|files| files.iter().any(|file| file.id == *id));
            if !there
                && let Ok(metadata) = see(path)
                && (metadata.dev(), metadata.ino()) == *id
            {
                files.entry(base.clone()).or_default().push(seen(path, &metadata, false, false));
            }
        }
        keep_in_one_log(&mut files, known);
        for files in files.values_mut() {
            files.sort_by_key(|file| (!file.is_log, !file.named));
            // One file under two names is one file.
            let mut ids = BTreeSet::new();
            files.retain(|file| ids.insert(file.id));
        }
        Look { files, missing }
    }

    fn names(&self, base: &Path) -> bool {
        self.named.iter().any(|named| match named {
            Named::Path(path) => path == base,
            Named::Pattern(_, pattern) => pattern.matches_path_with(base, AS_A_SHELL),
        })
    }

    fn is_path(&self, path: &Path) -> bool {
        self.named.iter().any(|named| matches!(named, Named::Path(named) if named == path))
    }
}

/// The files that a pattern matches, and what kept it from looking everywhere.
fn matching(pattern: &str) -> (Vec<PathBuf>, Vec<(PathBuf, io::Error)>) {
    let found = match glob::glob_with(pattern, AS_A_SHELL) {
        Ok(found) => found,
        // Checked when it was made.
        Err(error) => return (Vec::new(), vec![(pattern.into(), io::Error::other(error))]),
    };
    let (mut paths, mut unseen) = (Vec::new(), Vec::new());
    for entry in found {
        match entry {
            // A folder is no file that somebody could have meant; one that went away meanwhile matches no more.
            Ok(path) if path.is_dir() || path.symlink_metadata().is_err() => {}
            Ok(path) => paths.push(path),
            Err(error) => unseen.push((error.path().to_owned(), error.into())),
        }
    }
    (paths, unseen)
}

/// A file that several logs lead to, by links, is read as one of them, or its lines would count once for each: as the
/// one that has begun to read it, else as the one that it is called after, else as the first by name.
fn keep_in_one_log(files: &mut BTreeMap<PathBuf, Vec<Seen>>, known: &[(PathBuf, PathBuf, FileId)]) {
    let known: BTreeSet<(&Path, FileId)> = known.iter().map(|(log, _, id)| (log.as_path(), *id)).collect();
    let mut best: BTreeMap<FileId, (bool, bool, PathBuf)> = BTreeMap::new();
    for (base, files) in files.iter() {
        for file in files {
            let is_known = known.contains(&(base.as_path(), file.id));
            let rank = (!is_known, base_of(&file.path) != *base, base.clone());
            match best.get_mut(&file.id) {
                Some(best) => *best = rank.min(best.clone()),
                None => drop(best.insert(file.id, rank)),
            }
        }
    }
    for (base, files) in files.iter_mut() {
        files.retain(|file| best.get(&file.id).is_some_and(|(_, _, of)| of == base));
    }
}

/// What rotation made of `base`, and of the file that it leads to.
fn rotated(base: &Path, folders: &mut BTreeMap<PathBuf, Vec<PathBuf>>) -> Vec<PathBuf> {
    let target = fs::canonicalize(base).ok().filter(|target| target != base);
    let mut found = Vec::new();
    for log in [Some(base.to_owned()), target].into_iter().flatten() {
        let Some(folder) = log.parent() else { continue };
        let entries = folders.entry(folder.to_owned()).or_insert_with(|| {
            let entries = fs::read_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
            entries
                .map(|entries| {
                    entries.filter_map(Result::ok).map(|entry| folder.join(entry.file_name())).collect()
                })
                .unwrap_or_default()
        });
        found.extend(entries.iter().filter(|path| **path != log && base_of(path) == log).cloned());
    }
    found
}

/// Only a regular file can be read over again; opening a pipe would wait for its writer.
fn see(path: &Path) -> io::Result<Metadata> {
    let metadata = fs::metadata(path)?;
    match metadata.is_file() {
        true => Ok(metadata),
        false => Err(io::Error::other("not a regular file")),
    }
}

fn seen(path: &Path, metadata: &Metadata, named: bool, is_log: bool) -> Seen {
    // A link may lead elsewhere tomorrow, and its file is to be found again.
    let target = path.is_symlink().then(|| fs::canonicalize(path).ok()).flatten();
    Seen {
        path: target.unwrap_or_else(|| path.to_owned()),
        id: (metadata.dev(), metadata.ino()),
        stamp: Stamp {
            bytes: metadata.len(),
            changed_ns: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
        },
        gzip: is_gzip(path),
        named,
        is_log,
    }
}
