//! `rentroll bench`: measured rates, always beside a peer or a limit in the same run.
//!
//! Machines are shared and noisy, so a time alone says little: what is compared is CPU time, and both sides run
//! one after the other on the same input.

use clap::Subcommand;

use crate::cli::Exit;
use crate::output;

mod access_log;
mod events;
mod kafka;
mod measured;
mod pipeline;
mod process;

/// Arguments of `rentroll bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// The whole chain from a log's lines to rows and rollups, beside the same sums by awk.
    AccessLog(access_log::Args),
    /// Topic to queryable raw rows and rollups, beside ClickHouse's own Kafka table engine.
    Pipeline(pipeline::Args),
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
        Bench::AccessLog(args) => access_log::run(args),
        Bench::Pipeline(args) => pipeline::run(args).await,
        Bench::Part { name, spec } => part(&name, &spec).await,
    }
}

async fn part(name: &str, spec: &str) -> anyhow::Result<Exit> {
    match name {
        "peer" => answer(&pipeline::peer_part(serde_json::from_str(spec)?).await?),
        "check" => answer(&pipeline::check_part(serde_json::from_str(spec)?).await?),
        other => anyhow::bail!("a benchmark has no part `{other}`"),
    }
}

/// One line: whoever started this process reads it at the end.
fn answer(answer: &impl serde::Serialize) -> anyhow::Result<Exit> {
    output::line(&serde_json::to_string(answer)?)?;
    Ok(Exit::Done)
}
