//! Our own side: `rentroll aggregate --once` as a user would run it.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use super::check::{Check, CheckSpec};
use super::{Run, events, part};
use crate::verbs::bench::events::Shape;
use crate::verbs::bench::process::{Taken, Watched};

/// Where it runs.
pub(super) struct Own<'a> {
    pub(super) folder: &'a Path,
    pub(super) brokers: &'a str,
    pub(super) partitions: u32,
}

impl Own<'_> {
    /// Once on empty topics, to know what start and end cost, then on the full ones.
    pub(super) fn run(&self, empty: &str, full: &str) -> anyhow::Result<Run> {
        eprintln!("rentroll aggregate --once…");
        let startup = self.aggregate("empty", empty)?.cost;
        let taken = self.aggregate("full", full)?;
        Ok(Run {
            side: "rentroll aggregate",
            work: taken.cost.without(startup),
            startup,
            rss_peak_bytes: taken.rss_peak_bytes,
            threads: taken.threads,
        })
    }

    /// Holds what is stored against what was sent.
    pub(super) fn check(&self, shape: &Shape) -> anyhow::Result<Check> {
        let spec = CheckSpec { folder: self.folder.join("full"), shape: shape.clone() };
        Ok(part("check", &spec)?.0)
    }

    fn aggregate(&self, name: &str, prefix: &str) -> anyhow::Result<Taken> {
        std::fs::create_dir_all(self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        // JSON is YAML.
        std::fs::write(self.folder.join("meters.yaml"), serde_json::to_string(&events::meters())?)?;
        let config = self.folder.join(format!("{name}.toml"));
        let text = format!(
            "[data]\ndir = \"{name}\"\n[store]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n[log]\n\
             kind = \"kafka\"\npartitions = {}\n[log.kafka]\nbrokers = {:?}\nprefix = {prefix:?}\n\
             group = \"group-{}\"\n",
            self.partitions,
            self.brokers,
            // Each run reads the topic from its beginning.
            self.folder.file_name().unwrap_or_default().to_string_lossy(),
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--config").arg(config).args(["aggregate", "--once"]).env("RENTROLL_LOG", "error");
        Watched::spawn(&mut command)?.wait()
    }
}
