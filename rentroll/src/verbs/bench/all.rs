//! Every benchmark, one after the other, each in a process of its own.

use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::cli::Exit;
use crate::output;

/// Arguments of `rentroll bench all`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll bench all            about an hour on two cores
  rentroll bench all --quick    a tenth of the events: to see that all of it runs
  rentroll bench all --json     one document, by benchmark

Exits with 3 if any of them does.")]
pub(super) struct Args {
    /// A tenth of the events, and shorter measurements.
    #[arg(long)]
    quick: bool,
    /// Without the peers that have to be installed.
    #[arg(long)]
    alone: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A benchmark: its name in the JSON, its arguments, what makes it quick.
struct Bench {
    name: &'static str,
    arguments: &'static [&'static str],
    quick: &'static [&'static str],
    /// Takes `--alone`.
    has_peers: bool,
}

const ALL: &[Bench] = &[
    Bench {
        name: "pipeline",
        arguments: &["pipeline", "--runs", "3"],
        quick: &["pipeline", "--events", "200000"],
        has_peers: true,
    },
    Bench {
        name: "pipeline-compact",
        arguments: &["pipeline", "--encoding", "compact", "--runs", "3"],
        quick: &["pipeline", "--encoding", "compact", "--events", "200000"],
        has_peers: true,
    },
    Bench { name: "ingest", arguments: &["ingest"], quick: &["ingest", "--seconds", "1"], has_peers: true },
    Bench {
        name: "dedup",
        arguments: &["dedup"],
        quick: &["dedup", "--events", "10000000", "--rows", "1000000"],
        has_peers: false,
    },
    Bench {
        name: "query",
        arguments: &["query"],
        quick: &["query", "--events", "3000000", "--seconds", "10"],
        has_peers: false,
    },
    Bench { name: "noisy", arguments: &["noisy"], quick: &["noisy", "--seconds", "10"], has_peers: false },
    Bench {
        name: "sidecar",
        arguments: &["sidecar"],
        quick: &["sidecar", "--seconds", "10"],
        has_peers: false,
    },
    Bench {
        name: "access-log",
        arguments: &["access-log"],
        quick: &["access-log", "--lines", "100000"],
        has_peers: false,
    },
];

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    let mut document = serde_json::Map::new();
    for bench in ALL {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bench").args(if args.quick { bench.quick } else { bench.arguments });
        if args.alone && bench.has_peers {
            command.arg("--alone");
        }
        if args.json {
            command.arg("--json").stdout(Stdio::piped());
        } else {
            output::line(&format!("\n== {}\n", bench.name))?;
        }
        let done = command.stdin(Stdio::null()).stderr(Stdio::inherit()).spawn()?.wait_with_output()?;
        match done.status.code() {
            Some(0) => {}
            Some(3) => exit = Exit::DoesNotHold,
            _ => anyhow::bail!("the benchmark {} ended with {}", bench.name, done.status),
        }
        if args.json {
            let answer = serde_json::from_slice(&done.stdout)
                .with_context(|| format!("cannot read what the benchmark {} printed", bench.name))?;
            document.insert(bench.name.to_owned(), answer);
        }
    }
    if args.json {
        output::json(&document)?;
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::ALL;

    #[test]
    fn every_benchmark_takes_its_arguments() {
        for bench in ALL {
            for arguments in [bench.arguments, bench.quick] {
                let peers = bench.has_peers.then_some("--alone");
                let words = ["rentroll", "bench"].into_iter().chain(arguments.iter().copied());
                let words = words.chain(peers).chain(["--json"]);
                assert!(
                    crate::cli::Cli::try_parse_from(words.clone()).is_ok(),
                    "{:?}",
                    words.collect::<Vec<_>>()
                );
            }
        }
    }
}
