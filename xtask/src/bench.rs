//! `cargo xtask bench`: installs the peers, builds in release, and measures everything again.

use anyhow::Result;

use crate::install;
use crate::process::{Run, say};
use crate::workspace;

/// Runs all benchmarks; further arguments go to `rentroll bench all`. With `--install` it only installs.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let tools = install::for_bench()?;
    if arguments.iter().any(|argument| argument == "--install") {
        say("everything that the benchmarks need is installed");
        return Ok(());
    }
    say("building rentroll in release (some minutes the first time)");
    Run::new(workspace::cargo())
        .args(["build", "--release", "--locked", "--package", "rentroll"])
        .run_on_stderr()?;
    let with_tools = |run: Run| {
        run.env("RENTROLL_CHDB_LIBRARY", &tools.chdb_library).env("RENTROLL_KAFKA_LIBS", &tools.kafka_jars)
    };
    with_tools(Run::new(workspace::target().join("release/rentroll")))
        .args(["bench", "all"])
        .args(arguments)
        .run()?;
    if arguments.iter().any(|argument| argument == "--json") {
        return Ok(());
    }
    println!("\n== The embedded event log beside fjall\n");
    with_tools(Run::new(workspace::cargo()))
        .args(["run", "--quiet", "--release", "--manifest-path", "benches/log-peer/Cargo.toml"])
        .run()
}
