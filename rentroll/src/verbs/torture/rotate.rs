//! A followed log, rotated while it is written, as logrotate does it: rename, copytruncate, gzip.
//!
//! | step | what is done |
//! |---|---|
//! | rename | the log is renamed and made anew; the program keeps its old file for a few writes more, the first of which may be the second half of a line |
//! | copytruncate | the log is copied and truncated, between two writes |
//! | gzip | each rotated file that nobody writes to is compressed beside itself, then removed |
//!
//! This much no follower may lose or double: what docs/log-sources.md says is lost by nature (lines between a copy and
//! its truncation, files that are gone before they were read) does not happen here. The seed decides after how many
//! lines a step comes, and which.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::dice::Dice;

/// Lines between two rotations, from and to below: several a minute, some within a second of each other.
const LINES: (u64, u64) = (40, 2_000);
/// Most writes of a program into its old file after the rename.
const KEEPS_OLD_MAX: u64 = 12;
/// Rotated files that stay when all is stored: a reader tells by the newest what it has read.
const STAY: usize = 3;

/// Names of the steps in the tally.
const RENAME: &str = "rename";
const COPYTRUNCATE: &str = "copytruncate";
const GZIP: &str = "gzip";

/// A log that rotates.
#[derive(Debug)]
pub(super) struct RotatedLog {
    path: PathBuf,
    /// The program's file: the log, or for a while what the log was.
    file: File,
    /// Writes until the program opens the new file, after a rename.
    keeps_old: Option<u64>,
    lines_left: u64,
    /// Its follower knows of it. What was rotated away before a follower first looks is not the log any more, and is
    /// left alone.
    is_followed: bool,
    dice: Dice,
    done: BTreeMap<&'static str, u64>,
}

impl RotatedLog {
    /// An empty log at `path`.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn new(path: &Path, mut dice: Dice) -> anyhow::Result<Self> {
        Ok(RotatedLog {
            path: path.to_owned(),
            file: open(path)?,
            keeps_old: None,
            lines_left: dice.between(LINES.0, LINES.1),
            is_followed: false,
            dice,
            done: BTreeMap::new(),
        })
    }

    /// From now on it is rotated.
    pub(super) fn set_followed(&mut self) {
        self.is_followed = true;
    }

    /// Writes whole lines, and rotates when it is time.
    ///
    /// # Errors
    /// What could not be done, with the path.
    pub(super) fn append(&mut self, text: &str, lines: u64) -> anyhow::Result<()> {
        self.lines_left = self.lines_left.saturating_sub(lines);
        let is_due = self.lines_left == 0 && self.keeps_old.is_none() && self.is_followed;
        match is_due {
            false => self.write(text)?,
            true => self.rotate(text)?,
        }
        match self.keeps_old {
            Some(0) => {
                self.file = open(&self.path)?;
                self.keeps_old = None;
                self.end_step()?;
            }
            Some(writes) => self.keeps_old = Some(writes - 1),
            None => {}
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> anyhow::Result<()> {
        let path = &self.path;
        self.file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }

    fn rotate(&mut self, text: &str) -> anyhow::Result<()> {
        let rotated = numbered(&self.path, 1, false);
        if self.dice.chance(50) {
            self.shift()?;
            // All of the text is ASCII: it may be cut anywhere, mostly in the middle of a line.
            let (before, after) = text.split_at(self.dice.below(text.len() as u64 + 1) as usize);
            self.write(before)?;
            fs::rename(&self.path, &rotated)
                .with_context(|| format!("cannot rename {}", self.path.display()))?;
            open(&self.path)?;
            self.write(after)?;
            self.keeps_old = Some(self.dice.below(KEEPS_OLD_MAX + 1));
            self.count(RENAME);
            return Ok(());
        }
        self.write(text)?;
        self.shift()?;
        fs::copy(&self.path, &rotated).with_context(|| format!("cannot copy {}", self.path.display()))?;
        self.file.set_len(0).with_context(|| format!("cannot truncate {}", self.path.display()))?;
        self.count(COPYTRUNCATE);
        self.end_step()
    }

    /// Nobody writes to a rotated file any more.
    fn end_step(&mut self) -> anyhow::Result<()> {
        self.lines_left = self.dice.between(LINES.0, LINES.1);
        if self.dice.chance(50) {
            for number in self.numbers()? {
                let plain = numbered(&self.path, number, false);
                if plain.exists() {
                    let packed = numbered(&self.path, number, true);
                    gzip(&plain, &packed).with_context(|| format!("cannot compress {}", plain.display()))?;
                    self.count(GZIP);
                }
            }
        }
        Ok(())
    }

    /// Makes room for a new `.1`.
    fn shift(&self) -> anyhow::Result<()> {
        for number in self.numbers()?.into_iter().rev() {
            for packed in [false, true] {
                let path = numbered(&self.path, number, packed);
                if path.exists() {
                    fs::rename(&path, numbered(&self.path, number + 1, packed))
                        .with_context(|| format!("cannot rename {}", path.display()))?;
                }
            }
        }
        Ok(())
    }

    /// Takes the oldest files away. To be called when all that was written is stored.
    ///
    /// # Errors
    /// What could not be removed.
    pub(super) fn take_old_away(&self) -> anyhow::Result<()> {
        for number in self.numbers()?.into_iter().skip(STAY) {
            for packed in [false, true] {
                let path = numbered(&self.path, number, packed);
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The numbers of the rotated files, from the newest.
    fn numbers(&self) -> anyhow::Result<Vec<u64>> {
        let (folder, name) = (self.path.parent().unwrap_or(Path::new(".")), self.path.file_name());
        let prefix = format!("{}.", name.unwrap_or_default().to_string_lossy());
        let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
        let mut numbers: Vec<u64> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let rest = name.strip_prefix(&prefix)?;
                rest.strip_suffix(".gz").unwrap_or(rest).parse().ok()
            })
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    fn count(&mut self, step: &'static str) {
        *self.done.entry(step).or_default() += 1;
    }

    /// How often each step was done.
    pub(super) fn done(&self) -> &BTreeMap<&'static str, u64> {
        &self.done
    }
}

/// Appending is what makes copytruncate exact: a program that wrote at its own place would leave a hole.
fn open(path: &Path) -> anyhow::Result<File> {
    let file = File::options().create(true).append(true).open(path);
    file.with_context(|| format!("cannot write {}", path.display()))
}

fn numbered(path: &Path, number: u64, packed: bool) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}{}", if packed { ".gz" } else { "" }));
    name.into()
}

/// As gzip does it: under the final name from the first byte on, with the time of the file that it was.
fn gzip(plain: &Path, packed: &Path) -> io::Result<()> {
    let mut from = File::open(plain)?;
    let changed_at = from.metadata()?.modified()?;
    let mut encoder = GzEncoder::new(File::create(packed)?, Compression::default());
    io::copy(&mut from, &mut encoder)?;
    let file = encoder.finish()?;
    file.set_modified(changed_at)?;
    fs::remove_file(plain)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    /// All that is in the log's files, from the oldest.
    fn whole(log: &RotatedLog) -> String {
        let mut text = String::new();
        for number in log.numbers().unwrap().into_iter().rev() {
            let (plain, packed) = (numbered(&log.path, number, false), numbered(&log.path, number, true));
            assert_ne!(plain.exists(), packed.exists(), "{number}");
            match plain.exists() {
                true => text += &fs::read_to_string(plain).unwrap(),
                false => {
                    GzDecoder::new(File::open(packed).unwrap()).read_to_string(&mut text).map(drop).unwrap();
                }
            }
        }
        text + &fs::read_to_string(&log.path).unwrap()
    }

    #[test]
    fn rotation_loses_nothing_and_a_seed_repeats_it() {
        let run = |seed| {
            let dir = tempfile::tempdir().unwrap();
            let mut log = RotatedLog::new(&dir.path().join("a.log"), Dice::new(seed, 0)).unwrap();
            log.set_followed();
            let mut written = String::new();
            for n in 0..3_000 {
                let lines = format!("line {n}\nand {n}\nmore {n}\n");
                log.append(&lines, 3).unwrap();
                written += &lines;
            }
            assert_eq!(whole(&log), written, "seed {seed}");
            let files = log.numbers().unwrap().len();
            log.take_old_away().unwrap();
            assert_eq!(log.numbers().unwrap(), [1, 2, 3]);
            (files, log.done)
        };
        let (files, done) = run(7);
        assert!(files > STAY && done.len() == 3, "{files} {done:?}");
        assert_eq!(run(7), (files, done));
        (8..12).for_each(|seed| drop(run(seed)));
    }
}
