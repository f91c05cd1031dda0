//! `rentroll bench`: measured rates, always beside a peer or a limit in the same run.
//!
//! Machines are shared and noisy, so a time alone says little: what is compared is CPU time, and both sides run
//! one after the other on the same input.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::Subcommand;

use crate::cli::Exit;
use crate::output;

mod access_log;
mod all;
mod dedup;
mod events;
mod ingest;
mod kafka;
mod measured;
mod noisy;
mod pipeline;
mod process;
mod query;
mod sidecar;
mod writer;

/// Arguments of `rentroll bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Every benchmark, one after the other.
    All(all::Args),
    /// The whole chain from a log's lines to rows and rollups, beside the same sums by awk.
    AccessLog(access_log::Args),
    /// Topic to queryable raw rows and rollups, beside ClickHouse's own Kafka table engine.
    Pipeline(pipeline::Args),
    /// HTTP ingest with a durable ack, beside Benthos, and beside what disk and Kafka can do at most.
    Ingest(ingest::Args),
    /// Duplicates at a hundred million events: memory, false alarms, cost, rebuild.
    Dedup(dedup::Args),
    /// Questions of usage over a hundred million events, beside raw events, and from fifty dashboards at once.
    Query(query::Args),
    /// What a hot tenant costs the others, from accepted to queryable.
    Noisy(noisy::Args),
    /// The collector alone: memory at a steady rate.
    Sidecar(sidecar::Args),
    /// One side of a benchmark, in a process of its own, so that its CPU time can be told.
    #[command(hide = true)]
    Part {
        /// Which.
        name: String,
        /// What it is told, as JSON.
        spec: String,
    },
}

/// Runs it.
///
/// # Errors
/// If a side cannot be run. Sums that differ are exit code 3.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    match args.bench {
        Bench::All(args) => all::run(&args),
        Bench::AccessLog(args) => access_log::run(args),
        Bench::Pipeline(args) => pipeline::run(args).await,
        Bench::Ingest(args) => ingest::run(args).await,
        Bench::Dedup(args) => dedup::run(&args),
        Bench::Query(args) => query::run(&args).await,
        Bench::Noisy(args) => noisy::run(&args).await,
        Bench::Sidecar(args) => sidecar::run(&args).await,
        Bench::Part { name, spec } => part_main(&name, &spec).await,
    }
}

async fn part_main(name: &str, spec: &str) -> anyhow::Result<Exit> {
    match name {
        "own" => answer(&pipeline::own_part(serde_json::from_str(spec)?).await?),
        "limit" => answer(&pipeline::limit_part(serde_json::from_str(spec)?).await?),
        "alone" => answer(&pipeline::alone_part(serde_json::from_str(spec)?).await?),
        "peer" => answer(&pipeline::peer_part(serde_json::from_str(spec)?).await?),
        "load" => answer(&ingest::load_part(serde_json::from_str(spec)?).await?),
        "sync" => answer(&ingest::sync_part(&serde_json::from_str(spec)?)?),
        "dedup-filters" => answer(&dedup::filter_part(&serde_json::from_str(spec)?)?),
        "dedup-rebuild" => answer(&dedup::rebuild_part(serde_json::from_str(spec)?).await?),
        "query-ask" => answer(&query::ask_part(serde_json::from_str(spec)?).await?),
        "check" => answer(&pipeline::check_part(serde_json::from_str(spec)?).await?),
        other => anyhow::bail!("a benchmark has no part `{other}`"),
    }
}

/// One line: whoever started this process reads it at the end.
fn answer(answer: &impl serde::Serialize) -> anyhow::Result<Exit> {
    output::line(&serde_json::to_string(answer)?)?;
    Ok(Exit::Done)
}

/// This binary, doing one part of a benchmark; what it answered, and what it took.
fn part<S: serde::Serialize, A: serde::de::DeserializeOwned>(
    name: &str,
    spec: &S,
) -> anyhow::Result<(A, process::Taken)> {
    let mut command = this_binary()?;
    command.args(["bench", "part", name, &serde_json::to_string(spec)?]);
    let taken = process::Watched::spawn(&mut command)?.wait()?;
    let answer = serde_json::from_str(&taken.stdout)
        .with_context(|| format!("cannot read what `bench part {name}` answered: {}", taken.stdout))?;
    Ok((answer, taken))
}

/// This binary again. What it is told stands in files: settings of this process's own environment would go over
/// them.
fn this_binary() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "RENTROLL_CONFIG" || (text.starts_with("RENTROLL_") && text.contains("__")) {
            command.env_remove(&name);
        }
    }
    command.env("RENTROLL_LOG", "error");
    Ok(command)
}

/// A folder for everything, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("rentroll-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Scratch(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
