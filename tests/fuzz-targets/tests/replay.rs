//! The kept corpora, on the stable compiler: what a fuzzer once found stays found.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rentroll_fuzz_targets::{TARGETS, Target};

/// Generous for a loaded machine; what takes time squared takes minutes.
const PATIENCE: Duration = Duration::from_secs(20);
/// An input is repeated up to this length to see whether time grows faster than it.
const LONG_BYTES: usize = 256 << 10;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut all: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    all.sort();
    assert!(!all.is_empty(), "{} is empty", folder.display());
    all
}

fn in_time(what: &str, target: Target, input: &[u8]) {
    let began = Instant::now();
    target(input);
    assert!(began.elapsed() < PATIENCE, "{what} took {:?}", began.elapsed());
}

#[test]
fn every_kept_input_holds() {
    for (name, target) in TARGETS {
        for (path, input) in corpus(name) {
            in_time(&path.display().to_string(), *target, &input);
        }
        in_time(name, *target, b"");
    }
}

#[test]
fn time_does_not_grow_faster_than_the_input() {
    for (name, target) in TARGETS {
        // The longest one is the whole; short ones are what a parser stumbles over.
        for (path, input) in corpus(name).into_iter().filter(|(_, input)| !input.is_empty()).take(12) {
            let long: Vec<u8> = input.iter().copied().cycle().take(LONG_BYTES).collect();
            in_time(&format!("{} repeated", path.display()), *target, &long);
        }
    }
}

#[test]
fn every_target_is_run_by_the_fuzzer() {
    let listed: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let binaries: BTreeSet<String> = fs::read_dir(fuzz().join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(binaries, listed);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in listed {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
    }
}
