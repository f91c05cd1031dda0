//! `rentroll up`, `collect`, `aggregate`, `serve`: the long-running parts, together or apart.

use anyhow::Context as _;
use rentroll_collector::collect::Mode;

use crate::cli::{Exit, WrongUse};
use crate::config::{Config, LogKind};
use crate::context::Context;
use crate::output;
use crate::services::{self, Parts, System, progress};

/// Examples of `rentroll up`.
pub const UP: &str = "\
Examples:
  rentroll up                       run until Ctrl-C
  rentroll up --once                read the sources to their ends, aggregate all of it, and leave
  rentroll up --once --from-start   read the files again from their beginnings: all duplicates, nothing changes";
/// Examples of `rentroll collect`.
pub const COLLECT: &str = "\
Examples:
  rentroll collect          follow the sources and listen for events until Ctrl-C
  rentroll collect --once   read the sources to their ends, empty the spool, and leave; nobody is listened to";
/// Examples of `rentroll aggregate`.
pub const AGGREGATE: &str = "\
Examples:
  rentroll aggregate          aggregate what comes until Ctrl-C; any number of these share the partitions in Kafka
  rentroll aggregate --once   aggregate all that is in the log, and leave";

/// Whether to leave.
#[derive(Debug, clap::Args)]
pub struct Once {
    /// End when there is nothing more to do: the sources' files are read, the spool is empty, the log is aggregated.
    #[arg(long)]
    once: bool,
}

/// Arguments of those that read sources.
#[derive(Debug, clap::Args)]
pub struct Reading {
    #[command(flatten)]
    once: Once,
    /// Read the sources' files from their beginnings; what was read before is recognised as duplicate.
    #[arg(long)]
    from_start: bool,
}

impl From<Once> for Mode {
    fn from(args: Once) -> Self {
        Mode { once: args.once, ..Mode::default() }
    }
}

impl From<Reading> for Mode {
    fn from(args: Reading) -> Self {
        Mode { from_start: args.from_start, ..args.once.into() }
    }
}

/// Runs `parts`.
///
/// # Errors
/// Says which part could not start, or failed, and why.
pub async fn run(context: &Context, mode: Mode, parts: Parts) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let nothing_comes = config.collector.sources.is_empty() && !config.ingest_is_on();
    if parts.collector && nothing_comes && !parts.aggregator {
        return Err(WrongUse(
            "no [[collector.sources]] in the configuration, and no tokens (`rentroll tokens create`): there is \
             nothing to collect"
                .into(),
        )
        .into());
    }
    let mut system = System::start(&config, parts, mode).await?;
    // Before it says that it runs: who reads that may ask it to stop.
    let mut stop = services::AskedToStop::listen().context("cannot listen for signals")?;
    announce(&config, &system, parts);
    if mode.once {
        let shown = progress::Shown::start(system.progress.clone());
        let drained = tokio::select! {
            drained = system.drain() => drained,
            () = stop.asked() => Ok(()),
        };
        output::note(&shown.finish());
        let stopped = system.stop().await;
        drained.and(stopped)?;
        return Ok(Exit::Done);
    }
    let failed = tokio::select! {
        failure = system.until_failure() => failure.map(|never| match never {}),
        () = stop.asked() => Ok(()),
    };
    output::note("stopping");
    let stopped = system.stop().await;
    failed.and(stopped)?;
    Ok(Exit::Done)
}

fn announce(config: &Config, system: &System, parts: Parts) {
    let log = match config.log.kind {
        LogKind::Embedded => format!("{}", config.data_dir().join("log").display()),
        LogKind::Kafka => format!("Kafka at {}", config.log.kafka.brokers),
    };
    output::note(&format!("event log:  {log}"));
    if let Some(store) = &system.store {
        let whose = if store.is_embedded_here() {
            "embedded engine, ClickHouse's HTTP protocol"
        } else {
            "ClickHouse"
        };
        output::note(&format!("store:      {} ({whose}, user {})", store.url(), store.user()));
    }
    let what = if parts.console {
        "console, /api/v1, /healthz, /readyz, /metrics"
    } else {
        "/healthz, /readyz, /metrics"
    };
    output::note(&format!("http:       http://{}/ ({what})", system.address));
    if let Some(url) = system.ingest_url() {
        output::note(&format!("ingest:     {url}"));
    }
}
