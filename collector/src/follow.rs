//! Which files a source reads, and from where: through rotation by rename, copytruncate and compression, over
//! restarts.
//!
//! A file is known by its device and inode, and checked by what stands before the place up to which it was read.
//! A file that is not known may still be a known text: the copy that copytruncate made, or what a compressor made
//! of a rotated file. It is read from the furthest place whose bytes are its beginning, since the lines before it
//! are those that were taken already, under the same ids. What is neither is new, and is read from its beginning.
//!
//! A file that turns up under another log's name, since somebody renamed it to what a pattern matches too, is the file
//! that it was: it is read on from where the other log's reading left it.
//!
//! What was rotated before a log was followed at all is left alone, unless the source names it: it is told by its
//! last change, which renaming and compressing keep.
//!
//! A rotated file is read on until it has been quiet for [`Pace::quiet`], because writers keep their old file for
//! a while. Only then is a line without an end at its end taken for a line.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::edges::furthest;
use crate::followed::Followed;
use crate::lines::{FileId, LineReader, Place, ReadError};
use crate::places::{Change, FamilyState, FileState};
use crate::sight::{Look, Seen, Sight, Stamp};

/// Files of a log that are gone but remembered, so that what is made of them is recognised. Rotation makes a new
/// file before it takes the old one away, so one or two would do.
const GONE_KEPT: usize = 16;

/// How patiently files are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Whether a file that is not the log itself must be seen twice without a change before it is looked into:
    /// somebody may still be copying or compressing it.
    pub(crate) settle: bool,
    /// How long a rotated file must not have grown before it counts as finished.
    pub(crate) quiet: Duration,
}

/// The files of one source.
pub(crate) struct Follower {
    sight: Sight,
    pace: Pace,
    families: BTreeMap<PathBuf, Family>,
    changes: Vec<Change>,
    next_key: u64,
    problems: BTreeMap<PathBuf, Problem>,
    /// When it began, nanoseconds since the epoch: a log that appears later, and is rotated before it is seen, is
    /// told by it from one that was rotated long ago.
    began_ns: i64,
}

/// Why a file is not read.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) error: io::Error,
    /// It is only not there: that passes by itself.
    pub(crate) waiting: bool,
}

/// One log and what rotation made of it.
#[derive(Default)]
struct Family {
    seed: String,
    ignored_until_ns: i64,
    files: Vec<Followed>,
    /// Files looked at and left: as they were then.
    left: BTreeMap<FileId, Stamp>,
    /// Files not looked into yet: as they were last time.
    unsettled: BTreeMap<FileId, Stamp>,
}

impl Follower {
    /// Follows what `sight` sees, from where `known` left off.
    pub(crate) fn new(
        sight: Sight,
        pace: Pace,
        known: &BTreeMap<PathBuf, FamilyState>,
        now: Instant,
    ) -> Self {
        let began_ns = chrono::Utc::now().timestamp_nanos_opt().unwrap_or(i64::MAX);
        let mut next_key = 0;
        let mut families = BTreeMap::new();
        for (base, state) in known {
            let followed = |(key, state): (&u64, &FileState)| {
                next_key = next_key.max(key + 1);
                Followed::new(*key, state.clone(), now)
            };
            let family = Family {
                seed: sight.seed(base),
                ignored_until_ns: state.ignored_until_ns,
                files: state.files.iter().map(followed).collect(),
                ..Family::default()
            };
            families.insert(base.clone(), family);
        }
        Follower { sight, pace, families, changes: Vec::new(), next_key, problems: BTreeMap::new(), began_ns }
    }

    /// Looks which files there are, and opens what is to be read.
    pub(crate) fn scan(&mut self, now: Instant) {
        let mut known = Vec::new();
        for (base, family) in &mut self.families {
            for file in &mut family.files {
                (file.seen, file.is_log) = (false, false);
                known.extend(file.state.id.map(|id| (base.clone(), file.state.path.clone(), id)));
            }
        }
        let Look { files: seen, missing } = self.sight.look(&known, self.families.keys());
        self.problems = missing
            .into_iter()
            .map(|(path, error)| {
                let waiting = error.kind() == io::ErrorKind::NotFound;
                (path, Problem { error, waiting })
            })
            .collect();
        let is_unknown = |base: &PathBuf, id: FileId| {
            self.families.get(base).is_none_or(|family| family.position(id).is_none())
        };
        let unknown: BTreeSet<FileId> = seen
            .iter()
            .flat_map(|(base, files)| files.iter().map(move |file| (base, file.id)))
            .filter_map(|(base, id)| is_unknown(base, id).then_some(id))
            .collect();
        // Where those were left that are seen as another log's now.
        let left_at: BTreeMap<FileId, Place> = self
            .families
            .values()
            .flat_map(|family| &family.files)
            .filter_map(|file| Some((file.state.id?, &file.state.place)))
            .filter(|(id, _)| unknown.contains(id))
            .map(|(id, place)| (id, place.clone()))
            .collect();
        for (base, files) in seen {
            self.scan_family(&base, &files, &left_at, now);
        }
        for (base, family) in &mut self.families {
            family.forget_gone(base, &mut self.changes);
        }
    }

    fn scan_family(&mut self, base: &Path, seen: &[Seen], left_at: &BTreeMap<FileId, Place>, now: Instant) {
        let family = match self.families.entry(base.to_owned()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let rotated = seen.iter().filter(|file| !file.named).map(|file| file.stamp.changed_ns);
                let ignored_until_ns = rotated.filter(|changed| *changed <= self.began_ns).max().unwrap_or(0);
                self.changes.push(Change::Family { base: base.to_owned(), ignored_until_ns });
                let seed = self.sight.seed(base);
                entry.insert(Family { seed, ignored_until_ns, ..Family::default() })
            }
        };
        let unsettled = std::mem::take(&mut family.unsettled);
        for file in seen {
            let result = match family.position(file.id) {
                Some(index) => family.look_at_known(base, index, file, now, &mut self.changes),
                None => Ok(false),
            };
            let result = match result {
                Ok(true) => Ok(()),
                Ok(false) => {
                    let settled =
                        !self.pace.settle || file.is_log || unsettled.get(&file.id) == Some(&file.stamp);
                    let elsewhere = left_at.get(&file.id);
                    let next_key = &mut self.next_key;
                    if family.is_left(file) {
                        Ok(())
                    } else if settled {
                        family.look_at_unknown(base, file, elsewhere, now, next_key, &mut self.changes)
                    } else {
                        family.unsettled.insert(file.id, file.stamp);
                        Ok(())
                    }
                }
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                self.problems.insert(file.path.clone(), Problem { error, waiting: false });
            }
        }
    }

    /// The files that are being read, with the log each belongs to.
    pub(crate) fn open_files(&mut self) -> impl Iterator<Item = (&PathBuf, &mut Followed)> {
        self.families.iter_mut().flat_map(|(base, family)| {
            family.files.iter_mut().filter(|file| file.reader.is_some()).map(move |file| (base, file))
        })
    }

    /// What became known since the last call, to be kept behind all that was read before.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Files that cannot be read, and logs that are not there.
    pub(crate) fn problems(&self) -> &BTreeMap<PathBuf, Problem> {
        &self.problems
    }

    /// How patiently files are looked at.
    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }
}

impl Family {
    fn position(&self, id: FileId) -> Option<usize> {
        self.files.iter().position(|file| file.state.id == Some(id))
    }

    /// A file whose device and inode are known. `false` if it is another one nevertheless.
    fn look_at_known(
        &mut self,
        base: &Path,
        index: usize,
        seen: &Seen,
        now: Instant,
        changes: &mut Vec<Change>,
    ) -> io::Result<bool> {
        let file = &mut self.files[index];
        file.seen = true;
        file.is_log = seen.is_log;
        if file.state.path != seen.path {
            file.state.path.clone_from(&seen.path);
            changes.push(file.change(base));
        }
        let is_done = [file.state.finished_as, file.done_at].contains(&Some(seen.stamp));
        if file.reader.is_some() || is_done {
            return Ok(true);
        }
        match LineReader::open(&seen.path, seen.gzip, &file.state.place) {
            // Renamed between the two looks: the next scan sees it as it is then.
            Ok(reader) if reader.id() != seen.id => Ok(true),
            Ok(reader) => {
                file.moved_at = now;
                file.done_at = Some(seen.stamp);
                let more = seen.is_log || seen.gzip || seen.stamp.bytes > file.state.place.offset;
                file.reader = more.then_some(reader);
                Ok(true)
            }
            Err(ReadError::Differs) => {
                file.let_go(base, changes);
                Ok(false)
            }
            Err(error) => {
                // A compressed file is looked at again when it has changed.
                file.done_at = Some(seen.stamp).filter(|_| matches!(error, ReadError::Incomplete));
                Err(io::Error::other(error))
            }
        }
    }

    /// Whether it was looked at and left, and is as it was then.
    fn is_left(&self, seen: &Seen) -> bool {
        self.left.get(&seen.id) == Some(&seen.stamp)
    }

    fn look_at_unknown(
        &mut self,
        base: &Path,
        seen: &Seen,
        elsewhere: Option<&Place>,
        now: Instant,
        next_key: &mut u64,
        changes: &mut Vec<Change>,
    ) -> io::Result<()> {
        let places: Vec<&Place> = self.files.iter().map(|file| &file.state.place).chain(elsewhere).collect();
        let result = furthest(&seen.path, seen.gzip, &places).and_then(|found| {
            let place = match found {
                Some(index) => places[index].clone(),
                None if seen.named || seen.stamp.changed_ns > self.ignored_until_ns => {
                    Place::start(&self.seed)
                }
                None => return Ok(None),
            };
            let reader = LineReader::open(&seen.path, seen.gzip, &place)?;
            match reader.id() == seen.id {
                true => Ok(Some((place, reader))),
                false => Err(ReadError::Differs),
            }
        });
        let (place, reader) = match result {
            Ok(Some(found)) => found,
            // Truncated or renamed between two looks: the next scan sees it as it is then.
            Err(ReadError::Differs) => return Ok(()),
            Ok(None) => {
                self.left.insert(seen.id, seen.stamp);
                return Ok(());
            }
            Err(error) => {
                if matches!(error, ReadError::Incomplete) {
                    self.left.insert(seen.id, seen.stamp);
                }
                return Err(io::Error::other(error));
            }
        };
        tracing::info!(path = %seen.path.display(), offset = place.offset, "reading a file");
        let state = FileState { id: Some(seen.id), path: seen.path.clone(), place, finished_as: None };
        let mut file = Followed::new(*next_key, state, now);
        *next_key += 1;
        (file.reader, file.is_log, file.seen) = (Some(reader), seen.is_log, true);
        file.done_at = Some(seen.stamp);
        changes.push(file.change(base));
        self.files.push(file);
        Ok(())
    }

    /// Forgets files that are gone, but for the last few.
    fn forget_gone(&mut self, base: &Path, changes: &mut Vec<Change>) {
        let gone: Vec<u64> = self
            .files
            .iter()
            .filter(|file| !file.seen && file.reader.is_none())
            .map(|file| file.key)
            .collect();
        for key in gone.iter().rev().skip(GONE_KEPT) {
            self.files.retain(|file| file.key != *key);
            changes.push(Change::Gone { base: base.to_owned(), key: *key });
        }
    }
}

#[cfg(test)]
mod tests;
