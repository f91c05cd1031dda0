//! The jars of a real Apache Kafka broker, for the tests, by Maven. Every jar is pinned by its SHA-256.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::cache::{self, Scratch};
use crate::process::{Run, say};
use crate::workspace;

const JARS: &str = include_str!("../assets/kafka/jars.sha256");

/// The folder of the jars, fetched if need be.
pub(crate) fn ensure() -> Result<PathBuf> {
    let home = cache::dir()?.join("kafka-4.4.0");
    let jars = home.join("lib");
    if jars.is_dir() {
        match verify(&jars) {
            Ok(()) => return Ok(jars),
            Err(error) => say(format_args!("{error:#}; fetching the Kafka jars again")),
        }
    }
    let scratch = Scratch::new("kafka")?;
    let filled = scratch.path().join("lib");
    say("fetching Apache Kafka 4.4.0 by Maven (45 jars, 43 MB, once)");
    // Maven resets a terminal's colours even when it is told to be quiet: its words are kept for an error.
    Run::new("mvn")
        .args(["-B", "-q", "-Dstyle.color=never", "-f"])
        .arg(workspace::root().join("xtask/assets/kafka/pom.xml"))
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", filled.display()))
        .output()?;
    verify(&filled)?;
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    cache::remove(&jars)?;
    cache::rename(&filled, &jars)?;
    Ok(jars)
}

/// The jars are the pinned ones, all of them and no others.
fn verify(folder: &Path) -> Result<()> {
    let expected: BTreeSet<String> =
        JARS.lines().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect();
    let mut present = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        present.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    if let Some(name) = expected.symmetric_difference(&present).next() {
        let how = if present.contains(name) { "is not one of the pinned jars" } else { "is missing" };
        bail!("{} {how}", folder.join(name).display());
    }
    for line in JARS.lines() {
        let Some((sum, name)) = line.split_once("  ") else {
            bail!("jars.sha256 has a malformed line: {line}")
        };
        cache::verify(&folder.join(name), sum)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_list_names_one_jar() {
        for line in JARS.lines() {
            let (sum, name) = line.split_once("  ").unwrap();
            assert!(sum.len() == 64 && name.ends_with(".jar"), "{line}");
        }
        assert_eq!(JARS.lines().count(), 45);
    }
}
