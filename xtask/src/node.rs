//! Node modules of the folders that have a package.json, exactly as their lock files say.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cache;
use crate::process::{Run, say};
use crate::workspace;

/// The client that speaks to the store from outside, and Grafana's own schema.
pub(crate) const FOLDERS: &[&str] = &["tests/clients", "dashboards/grafana/check"];

/// Installs the modules of every folder, where they are not there as the lock file says.
pub(crate) fn ensure() -> Result<()> {
    FOLDERS
        .iter()
        .try_for_each(|folder| ensure_in(&workspace::root().join(folder)))
}

fn ensure_in(folder: &Path) -> Result<()> {
    let lock: PathBuf = folder.join("package-lock.json");
    let wanted = cache::sha256(&lock).with_context(|| format!("no lock file {}", lock.display()))?;
    let stamp = folder.join("node_modules/.lock.sha256");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    say(format_args!(
        "installing the Node modules of {}",
        folder.display()
    ));
    // npm ci empties node_modules first, the stamp with it.
    Run::new("npm")
        .args([
            "ci",
            "--no-audit",
            "--no-fund",
            "--no-update-notifier",
            "--loglevel=error",
        ])
        .dir(folder)
        .run_on_stderr()?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}
