//! What the user typed, and the exit code they get.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rentroll_collector::collect::Mode;

use crate::context::Context;
use crate::memory;
use crate::services::Parts;
use crate::verbs;

/// Metering, billing and cost allocation for many tenants on shared infrastructure.
#[derive(Debug, Parser)]
#[command(name = "rentroll", version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Cli {
    /// Configuration file; without it `rentroll.toml` in this folder, and defaults if there is none.
    #[arg(long, short, global = true, value_name = "FILE", env = "RENTROLL_CONFIG")]
    pub config: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  rentroll config init                 write a commented rentroll.toml
  rentroll up                          collector, aggregator, API and console in one process
  rentroll bill run --period 2015-05   invoices of a month
  rentroll doctor                      what is wrong with this set-up, and what to do

Exit codes: 0 done, 1 failed, 2 wrong use, 3 the books or a check do not hold.";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything on one machine: collector, aggregator, API and console.
    #[command(after_help = verbs::up::UP)]
    Up(verbs::up::Reading),
    /// Run the collector: sources to event log.
    #[command(after_help = verbs::up::COLLECT)]
    Collect(verbs::up::Reading),
    /// Run the aggregator: event log to ClickHouse.
    #[command(after_help = verbs::up::AGGREGATE)]
    Aggregate(verbs::up::Once),
    /// Run the console, and the embedded store for other parts.
    Serve,
    /// Bring the store's schema up to this binary's.
    Migrate,
    /// Make the event log's topics in Kafka.
    Topics(verbs::topics::Args),
    /// Make, list and revoke the tokens of those who send events and read usage.
    Tokens(verbs::tokens::Args),
    /// Send events from a file or stdin to a collector.
    Send(verbs::send::Args),
    /// Write, check and show the configuration.
    Config(verbs::config::Args),
    /// Issue a month's invoices, and explain them.
    Bill(verbs::bill::Args),
    /// List, show and export invoices.
    Invoices(verbs::invoices::Args),
    /// Check and show plans and prices.
    Catalogue(verbs::catalogue::Args),
    /// Check and show the cost pools.
    Costs(verbs::costs::Args),
    /// Split a month's costs over the tenants, and explain the split.
    Allocate(verbs::allocate::Args),
    /// The balance per source and hour: accepted = stored + duplicate + rejected.
    Books(verbs::books::Args),
    /// Measure, beside a peer in the same run.
    Bench(verbs::bench::Args),
    /// Break it on purpose: faults by a seed, and the store against a model to the event.
    Torture(verbs::torture::Args),
    /// Usage of one meter: windows, groups, filters.
    Query(verbs::usage::query::Args),
    /// Who uses most of a meter, and how that changed.
    Top(verbs::usage::top::Args),
    /// Look for events: did it count, and if not, why not.
    Events(verbs::usage::events::Args),
    /// What is counted, whether it is alive, and what nothing counts.
    Meters(verbs::meters::Args),
    /// Who uses how much.
    Tenants(verbs::tenants::Args),
    /// Run the whole chain on a real log, and show what comes of it.
    Demo(verbs::demo::Args),
    /// What is wrong with this set-up, and what to do.
    Doctor(verbs::doctor::Args),
    /// What could not be accepted, with its bytes, reason and place.
    Rejects(verbs::rejects::Args),
}

/// How a verb ended, when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// The verb ran, and found that something does not hold.
    DoesNotHold,
}

/// A mistake of the user's: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongUse(pub String);

/// Parses, runs, reports.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(cli) {
        Ok(Exit::Done) => ExitCode::SUCCESS,
        Ok(Exit::DoesNotHold) => ExitCode::from(3),
        // Whoever read our output has seen enough: `rentroll invoices list | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", said(&error));
            ExitCode::from(if is_wrong_use(&error) { 2 } else { 1 })
        }
    }
}

/// An error and its causes in one line. Many errors of ours say their cause themselves; it is not said again.
pub fn said(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if line.ends_with(&cause) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&cause);
    }
    line
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn is_wrong_use(error: &anyhow::Error) -> bool {
    error.is::<WrongUse>() || error.is::<crate::config::ConfigError>()
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    init_tracing();
    let sidecar = matches!(cli.command, Command::Collect(_));
    memory::settle(sidecar);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if sidecar {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        runtime.worker_threads(cores.min(memory::SIDECAR_THREADS_MAX));
    }
    let runtime = runtime.enable_all().build()?;
    let context = Context::new(cli.config);
    let result = runtime.block_on(async {
        match cli.command {
            Command::Up(args) => verbs::up::run(&context, args.into(), Parts::ALL).await,
            Command::Collect(args) => {
                verbs::up::run(&context, args.into(), Parts { collector: true, ..Parts::default() }).await
            }
            Command::Aggregate(args) => {
                verbs::up::run(&context, args.into(), Parts { aggregator: true, ..Parts::default() }).await
            }
            Command::Serve => {
                verbs::up::run(&context, Mode::default(), Parts { console: true, ..Parts::default() }).await
            }
            Command::Migrate => verbs::migrate::run(&context).await,
            Command::Topics(args) => verbs::topics::run(&context, args).await,
            Command::Tokens(args) => verbs::tokens::run(&context, args),
            Command::Send(args) => verbs::send::run(&context, args).await,
            Command::Config(args) => verbs::config::run(&context, args),
            Command::Bill(args) => verbs::bill::run(&context, args).await,
            Command::Invoices(args) => verbs::invoices::run(&context, args).await,
            Command::Catalogue(args) => verbs::catalogue::run(&context, args).await,
            Command::Costs(args) => verbs::costs::run(&context, args).await,
            Command::Allocate(args) => verbs::allocate::run(&context, args).await,
            Command::Books(args) => verbs::books::run(&context, args).await,
            Command::Bench(args) => verbs::bench::run(args).await,
            Command::Torture(args) => verbs::torture::run(args).await,
            Command::Query(args) => verbs::usage::query::run(&context, args).await,
            Command::Top(args) => verbs::usage::top::run(&context, args).await,
            Command::Events(args) => verbs::usage::events::run(&context, args).await,
            Command::Meters(args) => verbs::meters::run(&context, args).await,
            Command::Tenants(args) => verbs::tenants::run(&context, args).await,
            Command::Demo(args) => verbs::demo::run(&context, args).await,
            Command::Doctor(args) => verbs::doctor::run(&context, args).await,
            Command::Rejects(args) => verbs::rejects::run(&context, args).await,
        }
    });
    // Threads that wait in a blocking read must not keep a finished command from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    result
}

/// Logs go to stderr; data alone goes to stdout.
fn init_tracing() {
    use std::io::IsTerminal as _;
    let filter = tracing_subscriber::EnvFilter::try_from_env("RENTROLL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,rentroll=info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A second call (tests run verbs in one process) keeps the first subscriber.
    let _ = builder.with_ansi(colour).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let missing = || std::io::Error::other("no such file");
        let own = crate::config::ConfigError::Read { path: "a.toml".into(), source: missing() };
        let error = anyhow::Error::from(own).context("cannot start");
        assert_eq!(said(&error), "cannot start: cannot read a.toml: no such file");
        let error = anyhow::Error::from(missing()).context("cannot start");
        assert_eq!(said(&error), "cannot start: no such file");
    }
}
