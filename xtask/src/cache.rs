//! What is downloaded once, outside the clone: `$XDG_CACHE_HOME/rentroll`, else `~/.cache/rentroll`.
//!
//! An entry is filled in a scratch folder beside it and moved into place by a rename when it is whole and its
//! checksum is right, so an interrupted download leaves nothing that looks finished.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::process::{Run, say};

/// The cache's folder, made if need be.
pub(crate) fn dir() -> Result<PathBuf> {
    let not_empty = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = not_empty("XDG_CACHE_HOME")
        .filter(|dir| dir.is_absolute())
        .or_else(|| not_empty("HOME").map(|home| home.join(".cache")))
        .ok_or_else(|| anyhow!("neither XDG_CACHE_HOME nor HOME is set: there is no place for downloads"))?;
    let dir = base.join("rentroll");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make the cache folder {}", dir.display()))?;
    Ok(dir)
}

/// Holds the cache for this process until it is dropped; waits for another one that fills it.
pub(crate) fn lock() -> Result<File> {
    let path = dir()?.join("install.lock");
    let open = File::options().create(true).truncate(false).write(true).open(&path);
    let file = open.with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        say("another install is running; waiting for it");
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// A folder to fill; removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// An empty one inside the cache, so that a rename out of it stays on one file system.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = dir()?.join(format!(".{name}.partial"));
        remove(&path)?;
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Scratch(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover is removed by the next run; there is nobody to tell here.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes a folder or file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let outcome = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match outcome {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Moves `from` to `to`, replacing what is there.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
}

/// Checks a file's SHA-512 or SHA-256 (told apart by length), in hex.
pub(crate) fn verify(path: &Path, expected: &str) -> Result<()> {
    let actual = checksum(path, if expected.len() == 128 { "sha512sum" } else { "sha256sum" })?;
    if actual != expected {
        bail!("checksum of {} is {actual}, expected {expected}: refused", path.display());
    }
    Ok(())
}

/// The SHA-256 of a file, in hex.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    checksum(path, "sha256sum")
}

fn checksum(path: &Path, program: &str) -> Result<String> {
    let output = Run::new(program).arg(path).output()?;
    // coreutils puts a backslash before the sum of a file whose name it had to escape.
    let sum = output.split_whitespace().next().unwrap_or_default().trim_start_matches('\\');
    Ok(sum.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_checksum_is_refused_and_named() {
        let path = std::env::temp_dir().join(format!("xtask-sum-{}", std::process::id()));
        fs::write(&path, "abc").unwrap();
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        verify(&path, sum).unwrap();
        fs::write(&path, "abd").unwrap();
        let error = verify(&path, sum).unwrap_err().to_string();
        assert!(error.contains("expected ba7816bf") && error.contains("refused"), "{error}");
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
