//! Kafka's jars, by Maven: a real broker for the tests, and Kafka's own load tools for the benchmarks. Every jar is
//! pinned by its SHA-256.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::cache::{self, Scratch};
use crate::process::{Run, say};
use crate::workspace;

/// A set of jars.
pub(crate) struct Jars {
    /// For messages.
    what: &'static str,
    /// The folder in the cache.
    folder: &'static str,
    /// What Maven resolves, from the root of the clone.
    pom: &'static str,
    /// What that must come to.
    sums: &'static str,
}

/// A broker.
pub(crate) const BROKER: Jars = Jars {
    what: "Apache Kafka 4.4.0 (45 jars, 43 MB)",
    folder: "kafka-4.4.0",
    pom: "xtask/assets/kafka/pom.xml",
    sums: include_str!("../assets/kafka/jars.sha256"),
};

/// The load tools, which stop at an older version than the broker.
pub(crate) const TOOLS: Jars = Jars {
    what: "Kafka's load tools 4.3.1 (86 jars, 45 MB)",
    folder: "kafka-tools-4.3.1",
    pom: "benches/peers/kafka-tools/pom.xml",
    sums: include_str!("../../benches/peers/kafka-tools/jars.sha256"),
};

impl Jars {
    /// The folder of the jars, fetched if need be.
    pub(crate) fn ensure(&self) -> Result<PathBuf> {
        let home = cache::dir()?.join(self.folder);
        let jars = home.join("lib");
        if jars.is_dir() {
            match self.verify(&jars) {
                Ok(()) => return Ok(jars),
                Err(error) => say(format_args!("{error:#}; fetching the Kafka jars again")),
            }
        }
        let scratch = Scratch::new(self.folder)?;
        let filled = scratch.path().join("lib");
        say(format_args!("fetching {} by Maven, once", self.what));
        // Maven resets a terminal's colours even when it is told to be quiet: its words are kept for an error.
        Run::new("mvn")
            .args(["-B", "-q", "-Dstyle.color=never", "-f"])
            .arg(workspace::root().join(self.pom))
            .arg("dependency:copy-dependencies")
            .arg(format!("-DoutputDirectory={}", filled.display()))
            .output()?;
        self.verify(&filled)?;
        fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
        cache::remove(&jars)?;
        cache::rename(&filled, &jars)?;
        Ok(jars)
    }

    /// The jars are the pinned ones, all of them and no others.
    fn verify(&self, folder: &Path) -> Result<()> {
        let expected: BTreeSet<String> =
            self.sums.lines().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect();
        let mut present = BTreeSet::new();
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            present.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        if let Some(name) = expected.symmetric_difference(&present).next() {
            let how = if present.contains(name) { "is not one of the pinned jars" } else { "is missing" };
            bail!("{} {how}", folder.join(name).display());
        }
        for line in self.sums.lines() {
            let Some((sum, name)) = line.split_once("  ") else {
                bail!("{}: a malformed line: {line}", self.pom)
            };
            cache::verify(&folder.join(name), sum)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_lists_names_one_jar() {
        for (jars, count) in [(BROKER, 45), (TOOLS, 86)] {
            for line in jars.sums.lines() {
                let (sum, name) = line.split_once("  ").unwrap();
                assert!(sum.len() == 64 && name.ends_with(".jar"), "{line}");
            }
            assert_eq!(jars.sums.lines().count(), count);
            assert!(workspace::root().join(jars.pom).is_file());
        }
    }
}
