//! `cargo xtask demo`: install, build in release, become `rentroll demo`.

use std::os::unix::process::CommandExt as _;

use anyhow::{Result, anyhow};

use crate::install;
use crate::process::{Run, say};
use crate::workspace;

/// Runs the demo in this process's place, so that Ctrl-C and the exit code are its own. Returns only on failure.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    install::for_demo()?;
    say("building rentroll in release (some minutes the first time)");
    Run::new(workspace::cargo())
        .args(["build", "--release", "--locked", "--package", "rentroll"])
        .run_on_stderr()?;
    let demo = Run::new(workspace::target().join("release/rentroll")).arg("demo").args(arguments);
    let line = demo.line();
    let mut command = demo.into_inner();
    let error = command.stdin(std::process::Stdio::inherit()).exec();
    Err(anyhow!("cannot run `{line}`: {error}"))
}
