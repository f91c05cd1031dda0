//! `rentroll bench`: measured rates, always beside a peer or a limit in the same run.
//!
//! Machines are shared and noisy, so a time alone says little: what is compared is CPU time, and both sides run
//! one after the other on the same input.

use clap::Subcommand;

use crate::cli::Exit;

mod access_log;
mod measured;

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
}

/// Runs it.
///
/// # Errors
/// If a side cannot be run. Sums that differ are exit code 3.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    match args.bench {
        Bench::AccessLog(args) => access_log::run(args),
    }
}
