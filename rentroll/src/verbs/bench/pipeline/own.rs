//! Our own side: the aggregator as `rentroll aggregate` runs it, in a process of its own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rentroll_collector::collect::Mode;
use serde::{Deserialize, Serialize};

use super::check::{Check, CheckSpec};
use super::steps::Steps;
use super::{Run, events, part};
use crate::config;
use crate::services::{Parts, System};
use crate::verbs::bench::events::Shape;
use crate::verbs::bench::process::{Clock, Cost, own_rss_peak};

/// How often the log is asked how much is left, as the peer is.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// An aggregator that takes longer is not coming.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Where it runs.
pub(super) struct Own<'a> {
    pub(super) folder: &'a Path,
    pub(super) brokers: &'a str,
    pub(super) prefix: &'a str,
    pub(super) partitions: u32,
}

/// What its process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct OwnSpec {
    config: PathBuf,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct OwnAnswer {
    startup: Cost,
    work: Cost,
    rss_peak_bytes: u64,
    steps: Steps,
}

impl Own<'_> {
    /// Aggregates the topic from its first record to its last.
    pub(super) fn run(&self) -> anyhow::Result<(Run, Steps)> {
        eprintln!("rentroll aggregate…");
        let (answer, taken): (OwnAnswer, _) = part("own", &OwnSpec { config: self.config()? })?;
        let OwnAnswer { startup, work, rss_peak_bytes, steps } = answer;
        Ok((Run { side: super::OWN, work, startup, rss_peak_bytes, threads: taken.threads }, steps))
    }

    /// Holds what is stored against what was sent.
    pub(super) fn check(&self, shape: &Shape) -> anyhow::Result<Check> {
        let spec = CheckSpec { folder: self.folder.join("data"), shape: shape.clone() };
        Ok(part("check", &spec)?.0)
    }

    fn config(&self) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        // JSON is YAML.
        std::fs::write(self.folder.join("meters.yaml"), serde_json::to_string(&events::meters())?)?;
        let config = self.folder.join("rentroll.toml");
        let text = format!(
            "[data]\ndir = \"data\"\n[store]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n[log]\n\
             kind = \"kafka\"\npartitions = {}\n[log.kafka]\nbrokers = {:?}\nprefix = {:?}\ngroup = \"group-{}\"\n",
            self.partitions,
            self.brokers,
            self.prefix,
            // Each run reads the topic from its beginning.
            self.folder.file_name().unwrap_or_default().to_string_lossy(),
        );
        std::fs::write(&config, text)?;
        Ok(config)
    }
}

/// The aggregator's process.
pub(in crate::verbs::bench) async fn part_main(spec: OwnSpec) -> anyhow::Result<OwnAnswer> {
    let clock = Clock::start();
    let config = config::load(Some(&spec.config))?;
    let parts = Parts { aggregator: true, ..Parts::default() };
    let system = System::start(&config, parts, Mode { once: true, from_start: false }).await?;
    let startup = clock.cost();
    let clock = Clock::start();
    let begun = Instant::now();
    loop {
        // The group's coordinator may need a moment; a broker that is away for good comes out below.
        match system.waiting().await {
            Ok(0) => break,
            answer if begun.elapsed() > WAIT_MAX => {
                anyhow::bail!("the aggregator did not come to the end of the topic: {answer:?}")
            }
            _ => tokio::time::sleep(ASK_EVERY).await,
        }
    }
    let work = clock.cost();
    let steps = Steps::read(system.address).await?;
    system.stop().await?;
    Ok(OwnAnswer { startup, work, rss_peak_bytes: own_rss_peak(), steps })
}
