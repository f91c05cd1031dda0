//! What a hot tenant costs the others: the time from accepted to queryable of everybody else's events, in a quiet
//! run and in one with a tenant at a hundred times its share, through the real chain.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{SecondsFormat, Utc};
use rentroll_engines::store::{Store, StoreConfig};
use serde::Serialize;

use super::Scratch;
use super::events::Random;
use super::kafka::Cluster;
use super::process::Watched;
use super::writer::{Load, Writer, tenant};
use crate::cli::Exit;
use crate::output::{self, Sheet, grouped};

/// Probes are sent at this pace: rare enough to be no load.
const PROBE_EVERY: Duration = Duration::from_millis(40);
/// How often the store is asked for those that are on their way. The times are as exact as this.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Before measuring begins: shares are known, the engine is warm.
const WARM: Duration = Duration::from_secs(12);
/// How long the last probes are waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the chain may take to start.
const START_WAIT: Duration = Duration::from_secs(60);

/// Arguments of `rentroll bench noisy`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll bench noisy                     embedded log and engine, 10,000 tenants by Zipf
  rentroll bench noisy --no-overflow       the same without the overflow lane, for comparison
  rentroll bench noisy --kafka localhost:9092

Exits with 3 if the others' p99 is more than twice that of the quiet run.")]
pub(super) struct Args {
    /// Lines a second of all tenants, before one of them gets hot.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Tenants.
    #[arg(long, default_value_t = 10_000)]
    tenants: u32,
    /// The Zipf law's exponent.
    #[arg(long, default_value_t = 1.0)]
    zipf: f64,
    /// The tenant that gets hot: the so many-th largest.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    hot_rank: u32,
    /// How many times its share it sends.
    #[arg(long, default_value_t = 100)]
    hot_times: u64,
    /// How long each run measures.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// The largest ratio of the p99s that holds.
    #[arg(long, default_value_t = 2.0)]
    ratio_max: f64,
    /// Without the overflow lane.
    #[arg(long)]
    no_overflow: bool,
    /// Through a Kafka cluster instead of the embedded log.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// One run.
#[derive(Debug, Serialize)]
struct Run {
    name: &'static str,
    lines_per_second: u64,
    probes: usize,
    p50_ms: u64,
    p99_ms: u64,
    max_ms: u64,
    hot_main_events: u64,
    hot_overflow_events: u64,
    cpu_percent: u64,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<Exit> {
    anyhow::ensure!(
        args.hot_rank <= args.tenants,
        "there is no tenant {} of {}",
        args.hot_rank,
        args.tenants
    );
    let load = Load { per_second: args.rate, tenants: args.tenants, zipf: args.zipf, hot: None };
    let hot = Load { hot: Some((args.hot_rank - 1, args.hot_times)), ..load };
    let quiet = measure(args, "quiet", load).await?;
    let noisy = measure(args, "one tenant hot", hot).await?;
    let ratio = noisy.p99_ms as f64 / quiet.p99_ms.max(1) as f64;
    let holds = ratio <= args.ratio_max;
    if args.json {
        output::json(&serde_json::json!({
            "tenants": args.tenants, "zipf": args.zipf, "hot_share": load.share(args.hot_rank - 1), "hot_times": args.hot_times,
            "overflow": !args.no_overflow, "log": if args.kafka.is_some() { "kafka" } else { "embedded" },
            "runs": [quiet, noisy], "p99_ratio": (ratio * 100.0).round() / 100.0, "ratio_max": args.ratio_max, "holds": holds,
        }))?;
    } else {
        let mut sheet = Sheet::new(&[
            "run",
            ">lines/s",
            ">probes",
            ">p50 ms",
            ">p99 ms",
            ">max ms",
            ">hot, main lane",
            ">hot, overflow",
            ">CPU %",
        ]);
        for run in [&quiet, &noisy] {
            sheet.row(&[
                run.name,
                &grouped(&run.lines_per_second.to_string()),
                &run.probes.to_string(),
                &run.p50_ms.to_string(),
                &run.p99_ms.to_string(),
                &run.max_ms.to_string(),
                &grouped(&run.hot_main_events.to_string()),
                &grouped(&run.hot_overflow_events.to_string()),
                &run.cpu_percent.to_string(),
            ]);
        }
        sheet.print()?;
        eprintln!(
            "accepted to queryable, the others' events; {} tenants by Zipf {}, the hot one at {} times its share of {:.2} %; overflow lane {}; p99 {ratio:.2} times the quiet run's: {}",
            grouped(&args.tenants.to_string()),
            args.zipf,
            args.hot_times,
            load.share(args.hot_rank - 1) * 100.0,
            if args.no_overflow { "off" } else { "on" },
            if holds { "holds" } else { "DOES NOT HOLD" },
        );
    }
    Ok(if holds { Exit::Done } else { Exit::DoesNotHold })
}

/// One run on a chain of its own.
async fn measure(args: &Args, name: &'static str, load: Load) -> anyhow::Result<Run> {
    let scratch = Scratch::new("noisy")?;
    let prefix = format!("noisy-{}-{}.", std::process::id(), Utc::now().timestamp_millis());
    if let Some(brokers) = &args.kafka {
        drop(Cluster::of(Some(brokers))?.log(&prefix, 4).await?);
    }
    let config = configure(args, scratch.path(), &prefix)?;
    let (log, probe_log) = (scratch.path().join("access.log"), scratch.path().join("probes.log"));
    std::fs::write(&log, "")?;
    let probe_file = File::create(&probe_log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--config").arg(&config).arg("up").env("RENTROLL_LOG", "error");
    let mut chain = Watched::spawn(&mut command)?;
    let store = serving(&scratch.path().join("data"), &mut chain).await?;

    let run_for = WARM + Duration::from_secs(args.seconds);
    eprintln!(
        "{name}: {} + {} lines a second for {} s…",
        load.per_second,
        load.excess_per_second(),
        run_for.as_secs()
    );
    let (started, cpu_before) = (Instant::now(), chain.so_far().0);
    let writer = Writer::start(&log, load)?;
    let probes = Probes::default();
    let sender = probes.sender(args, probe_file, run_for);
    while started.elapsed() < run_for {
        probes.look(&store).await?;
        anyhow::ensure!(!chain.has_ended()?, "the chain ended by itself");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let (elapsed, cpu) = (started.elapsed(), chain.so_far().0.saturating_sub(cpu_before));
    let lines = writer.finish()?;
    sender.join().map_err(|_| anyhow::anyhow!("the probes' thread broke off"))??;
    let until = Instant::now() + PATIENCE;
    loop {
        let left = probes.look(&store).await?;
        if left == 0 {
            break;
        }
        anyhow::ensure!(Instant::now() < until, "{left} probes did not come in {} s", PATIENCE.as_secs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let (hot_main_events, hot_overflow_events) = hot_lanes(&store, args.hot_rank - 1).await?;
    let latencies = probes.latencies();
    anyhow::ensure!(!latencies.is_empty(), "no probe was measured");
    let at = |percent: usize| latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)];
    Ok(Run {
        name,
        lines_per_second: (lines as f64 / elapsed.as_secs_f64()) as u64,
        probes: latencies.len(),
        p50_ms: at(50),
        p99_ms: at(99),
        max_ms: at(100),
        hot_main_events,
        hot_overflow_events,
        cpu_percent: (cpu.as_secs_f64() * 100.0 / elapsed.as_secs_f64()) as u64,
    })
}

/// Events of sampled tenants, on their way from a log to the store.
#[derive(Clone, Default)]
struct Probes {
    state: Arc<Mutex<Probing>>,
}

#[derive(Default)]
struct Probing {
    /// By id: the tenant, and whether it counts.
    waiting: HashMap<String, (String, bool)>,
    /// From accepted to queryable, ms.
    done: Vec<u64>,
}

impl Probes {
    fn lock(&self) -> MutexGuard<'_, Probing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends them at a steady pace from a thread of its own, whatever becomes of those before.
    fn sender(&self, args: &Args, mut file: File, run_for: Duration) -> JoinHandle<anyhow::Result<()>> {
        let (probes, hot, tenants) = (self.clone(), args.hot_rank - 1, args.tenants);
        std::thread::spawn(move || {
            let (mut random, started) = (Random(11), Instant::now());
            for number in 0_u32.. {
                let due = PROBE_EVERY * number;
                if due >= run_for {
                    break;
                }
                std::thread::sleep(due.saturating_sub(started.elapsed()));
                let mut rank = random.below(tenants.into()) as u32;
                if rank == hot {
                    rank = (rank + 1) % tenants;
                }
                let (id, tenant) = (format!("probe-{number}"), tenant(rank));
                let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
                probes.lock().waiting.insert(id.clone(), (tenant.clone(), due >= WARM));
                writeln!(file, r#"{{"time":"{time}","tenant":"{tenant}","id":"{id}"}}"#)?;
            }
            Ok(())
        })
    }

    /// Asks for those that are on their way; says how many are.
    async fn look(&self, store: &Store) -> anyhow::Result<usize> {
        let (ids, tenants): (Vec<String>, Vec<String>) =
            self.lock().waiting.iter().map(|(id, (tenant, _))| (id.clone(), tenant.clone())).unzip();
        if ids.is_empty() {
            return Ok(0);
        }
        let found: Vec<(String, i64)> = store
            .client()
            .query(
                "SELECT id, toUnixTimestamp64Milli(arrived_at) FROM events \
                 WHERE tenant IN {tenants:Array(String)} AND type = 'probe' AND id IN {ids:Array(String)}",
            )
            .param("tenants", &tenants)
            .param("ids", &ids)
            .fetch_all()
            .await
            .map_err(|error| store.error(error))?;
        let now_ms = Utc::now().timestamp_millis();
        let mut state = self.lock();
        for (id, arrived_at_ms) in found {
            if let Some((_, true)) = state.waiting.remove(&id) {
                state.done.push(u64::try_from(now_ms - arrived_at_ms).unwrap_or_default());
            }
        }
        Ok(state.waiting.len())
    }

    fn latencies(&self) -> Vec<u64> {
        let mut done = std::mem::take(&mut self.lock().done);
        done.sort_unstable();
        done
    }
}

/// What came of the hot tenant's events, by lane.
async fn hot_lanes(store: &Store, rank: u32) -> anyhow::Result<(u64, u64)> {
    let counts = store
        .client()
        .query("SELECT countIf(log_topic = 'usage'), countIf(log_topic = 'usage.overflow') FROM events WHERE tenant = {tenant:String}")
        .param("tenant", tenant(rank))
        .fetch_one()
        .await;
    Ok(counts.map_err(|error| store.error(error))?)
}

fn configure(args: &Args, folder: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    let meters = "meters:\n- {name: requests, unit: request, event_type: http.request, aggregation: count}\n\
                  - {name: bytes, unit: byte, event_type: http.request, aggregation: sum, value: bytes}\n";
    std::fs::write(folder.join("meters.yaml"), meters)?;
    let log = match &args.kafka {
        Some(brokers) => format!(
            "kind = \"kafka\"\n[log.kafka]\nbrokers = {brokers:?}\nprefix = {prefix:?}\ngroup = {prefix:?}\n"
        ),
        None => "kind = \"embedded\"\n".to_owned(),
    };
    let text = format!(
        "[data]\ndir = \"data\"\n[store]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n[log]\n{log}\
         [collector.overflow]\nenabled = {}\n\
         [[collector.sources]]\nname = \"web\"\nkind = \"log\"\npaths = [\"access.log\"]\n\
         [[collector.sources]]\nname = \"probes\"\nkind = \"log\"\npaths = [\"probes.log\"]\nformat = \"json\"\n\
         event_type = \"probe\"\nfields = {{ id = \"id\" }}\n",
        !args.no_overflow
    );
    let config = folder.join("rentroll.toml");
    std::fs::write(&config, text)?;
    Ok(config)
}

/// The store that the chain serves, once it does. Opened before, it would be ours and not the chain's.
async fn serving(data: &Path, chain: &mut Watched) -> anyhow::Result<Store> {
    let until = Instant::now() + START_WAIT;
    let face = data.join("clickhouse").join("face.json");
    let sources = data.join("collector").join("probes.files.json");
    loop {
        anyhow::ensure!(!chain.has_ended()?, "the chain ended by itself");
        anyhow::ensure!(Instant::now() < until, "the chain did not start in {} s", START_WAIT.as_secs());
        if face.exists() && sources.exists() {
            return Store::open(&StoreConfig::embedded(data)).await.context("cannot reach the chain's store");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
