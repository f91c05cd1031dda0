//! Benthos, the peer of the ingest benchmark, built from `benches/peers/benthos` into the cache.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::cache;
use crate::install::TestTools;
use crate::process::say;
use crate::workspace;

/// What it is built from, every module pinned by go.sum.
const SOURCES: [&str; 3] = ["main.go", "go.mod", "go.sum"];

/// The program, built if need be.
pub(crate) fn ensure(tools: &TestTools) -> Result<PathBuf> {
    let source = workspace::root().join("benches/peers/benthos");
    let home = cache::dir()?.join("benthos-4.27.0");
    let program = home.join("benthos");
    let mut wanted = String::new();
    for name in SOURCES {
        wanted.push_str(&cache::sha256(&source.join(name))?);
    }
    let stamp = home.join("made-from");
    if program.is_file() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(program);
    }
    say("building Benthos 4.27.0, the peer (half a minute, once)");
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    tools
        .go()
        .args(["build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o"])
        .arg(&program)
        .arg(".")
        .dir(&source)
        .run_on_stderr()?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(program)
}
