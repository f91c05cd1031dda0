//! `rentroll torture`: faults into real processes, by a seed, and the store against a model to the event.
//!
//! | file | |
//! |---|---|
//! | `dice` | numbers that a seed decides |
//! | `traffic`, `clients` | a log that grows, and clients over HTTP that retry |
//! | `lines` | a second log, whose lines are known by their place alone |
//! | `rotate` | what rotates both |
//! | `items`, `corrections` | what is sent: item *n* is the same whenever it is asked for; which correct which |
//! | `schedule` | which faults, when, for how long |
//! | `model` | what was sent, and what must therefore be stored |
//! | `check` | the store against the model |
//! | `scene` | folder, small disks, wires, brokers, configurations |
//! | `proxy` | a wire that can be cut, held, made one-way, or lose an answer |
//! | `fleet` | the processes: this binary, once per part |
//! | `act` | does what a fault says, and undoes it |
//! | `play` | the run itself |
//!
//! The seed decides every item and every fault, and after how many items a fault comes. It does not decide how
//! the system's threads and the machine's disk run against each other: a seed that failed fails again often, not
//! always.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{anyhow, bail};

use crate::cli::{Exit, WrongUse};

mod act;
mod check;
mod clients;
mod corrections;
mod dice;
mod fleet;
mod items;
mod lines;
mod model;
mod play;
mod progress;
mod proxy;
mod report;
mod rotate;
mod scene;
mod schedule;
mod traffic;
mod watch;

use report::Report;
use scene::{CLIENTS, ENGINE, NODE, Scene, Wanted};
use schedule::LogSide;

/// Arguments of `rentroll torture`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll torture --seed 7 --faults 40                one broker, a collector, two aggregators, the engine
  rentroll torture --seed 7 --faults 40 --brokers 3    three brokers, each record on all of them
  rentroll torture --log embedded --faults 40          no Kafka: the log on disk

It makes everything it needs in a folder of its own below the temporary folder, and takes it away again; nothing
that exists is touched. As root it has small disks to fill; without, `unshare --mount --map-root-user rentroll
torture …` has them too. Stepping clocks wants Debian's package libfaketime. What cannot be done is listed as
not run.

Exits with 3, and keeps the logs, if an event or a line is missing, doubled, foreign or wrong, if what counts after
corrections is not what the rules say, if a rollup is not its events, if the books do not balance, or if the system stands still.")]
pub struct Args {
    /// Decides what is sent and which faults come.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many faults.
    #[arg(long, default_value_t = 40)]
    faults: usize,
    /// Brokers.
    #[arg(long, default_value = "1", value_parser = ["1", "3"])]
    brokers: String,
    /// Which event log.
    #[arg(long, value_enum, default_value_t = LogSide::Kafka)]
    log: LogSide,
    /// Items sent a second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// Only faults of these kinds, by the names in the tally with `_` for spaces; for looking into one.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    only: Vec<String>,
    /// Folder of the brokers' jars; without it where `cargo xtask install` puts them.
    #[arg(long, value_name = "DIR", env = "RENTROLL_KAFKA_LIBS")]
    kafka_libs: Option<PathBuf>,
    /// The ClickHouse engine's library; without it where `cargo xtask install` puts it.
    #[arg(long, value_name = "FILE", env = "RENTROLL_CHDB_LIBRARY")]
    library: Option<PathBuf>,
    /// Print the tally as JSON.
    #[arg(long)]
    json: bool,
    /// Keep the logs and configurations even if everything holds.
    #[arg(long)]
    keep: bool,
}

/// Runs it.
///
/// # Errors
/// What is missing on this machine, or what kept a fault from being done.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let wanted = Wanted {
        log: args.log,
        brokers: if args.brokers == "3" { 3 } else { 1 },
        jars: args.kafka_libs.clone(),
        library: args.library.clone(),
    };
    let begun = Instant::now();
    let scene = Scene::set(&wanted).await?;
    let mut report = Report {
        seed: args.seed,
        faults: args.faults,
        log: args.log,
        brokers: wanted.brokers,
        seconds: 0.0,
        holds: false,
        kinds: Default::default(),
        not_run: scene.not_run.iter().cloned().collect(),
        comparisons: 0,
        expected: Default::default(),
        found: Default::default(),
        duplicates: 0,
        repairs: 0,
        rotations: Default::default(),
        ended_by_themselves: Default::default(),
        complaints: Vec::new(),
        kept: None,
    };
    eprintln!("seed {}, {} faults, in {}", args.seed, args.faults, scene.folder.display());
    let played = tokio::select! {
        played = whole(&scene, &args, &mut report) => played,
        asked = crate::services::asked_to_stop() => asked.and_then(|()| bail!("stopped before the end")),
        still = scene.standstill() => Err(anyhow!(still)),
    };
    report.seconds = begun.elapsed().as_secs_f64();
    report.ended_by_themselves =
        scene.fleet.ended_by_themselves().into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    report.holds = played.is_ok() && report.complaints.is_empty() && report.found.differing == 0;
    let keep = args.keep || !report.holds;
    report.kept = keep.then(|| scene.folder.display().to_string());
    scene.strike(keep).await;
    report.print(args.json)?;
    played?;
    Ok(if report.holds { Exit::Done } else { Exit::DoesNotHold })
}

async fn whole(scene: &Scene, args: &Args, report: &mut Report) -> anyhow::Result<()> {
    let mut targets = scene.targets();
    if !args.only.is_empty() {
        let known: Vec<String> =
            targets.kinds.iter().map(|kind| report::name(*kind).replace(' ', "_")).collect();
        if let Some(name) = args.only.iter().find(|name| !known.contains(name)) {
            return Err(WrongUse(format!("no fault `{name}` here; there are {}", known.join(", "))).into());
        }
        targets.kinds.retain(|kind| args.only.contains(&report::name(*kind).replace(' ', "_")));
    }
    let steps = schedule::schedule(args.seed, args.faults, &targets);
    if args.log == LogSide::Kafka {
        let (code, _, said) = scene.run(&["topics", "create", "--replication", &args.brokers]).await?;
        if code != Some(0) {
            bail!("`rentroll topics create` ended with {code:?}: {said}");
        }
    }
    let (code, token, said) = scene.run(&["tokens", "create", "--source", traffic::HTTP_SOURCE]).await?;
    if code != Some(0) {
        bail!("`rentroll tokens create` ended with {code:?}: {said}");
    }
    scene.fleet.start(ENGINE)?;
    scene.engine_answers().await?;
    for name in if args.log == LogSide::Kafka { &CLIENTS[..] } else { &[NODE] } {
        scene.fleet.start(name)?;
    }
    let url = format!("http://127.0.0.1:{}/v1/events", scene.ingest.port());
    let mut traffic =
        traffic::Traffic::begin(args.seed, args.rate, &scene.followed, &scene.places, &url, token.trim())?;
    let mut progress = progress::Progress::begin(args.faults as u64);
    play::play(scene, &mut traffic, &steps, report, &mut progress).await
}
