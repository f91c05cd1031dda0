//! `rentroll torture`, short: every kind of fault, on both event logs, and what failed once.

use std::process::Command;

use serde_json::Value;

use crate::rig::{Rig, field};

/// Runs it; everything must hold.
fn torture(arguments: &[&str]) -> Value {
    let output = as_root(&[&["torture", "--json"], arguments].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?} ended with {}: {said}\n{printed}", output.status);
    let report: Value = serde_json::from_str(&printed).unwrap();
    let (expected, stored) =
        (field::<u64>(&report, "/expected/events"), field::<u64>(&report, "/found/stored"));
    // Everything that was sent is acknowledged by the end, so that nothing may be missing or more.
    assert_eq!((stored, field::<u64>(&report, "/found/rows")), (expected, expected), "{report}");
    assert!(stored > 0 && field::<u64>(&report, "/duplicates") > 0, "{report}");
    report
}

/// Seconds after which a run is asked to stop: it takes one or two minutes, and some more where much else runs.
const SECONDS_MAX: &str = "1500";

/// Root may mount small disks; others may in a user namespace of their own.
fn as_root(arguments: &[&str]) -> Command {
    let run = Rig::example().command(arguments);
    let mut plain = Command::new("timeout");
    plain.args(["--kill-after=60", SECONDS_MAX]).arg(run.get_program()).args(run.get_args());
    for (name, value) in run.get_envs() {
        match value {
            Some(value) => plain.env(name, value),
            None => plain.env_remove(name),
        };
    }
    if rustix::process::geteuid().is_root() {
        return plain;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user"]).arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command
}

fn injected(report: &Value) -> u64 {
    let kinds = report["kinds"].as_object().unwrap();
    kinds.values().map(|counted| counted["injected"].as_u64().unwrap()).sum()
}

#[test]
fn every_fault_on_kafka() {
    let report = torture(&["--seed", "4", "--faults", "24"]);
    assert!(injected(&report) >= 18, "{report}");
}

#[test]
fn every_fault_on_the_embedded_log() {
    let report = torture(&["--seed", "4", "--faults", "16", "--log", "embedded"]);
    assert!(injected(&report) >= 10, "{report}");
}

/// What failed once. The schedule of a seed changes when a kind of fault is added, so that each story stands with
/// the kinds that it needs.
const FAILED_ONCE: [(&str, &[&str]); 3] = [
    (
        // A broker's restart made both members rebalance twice. A worker that was still busy with its last batch
        // was handed the new reader of its own partition, met the revocation, ended, and took that reader with
        // it: the partition was read by nobody, and nobody said so.
        "a partition that comes back while its former worker is busy",
        &["--seed", "2", "--faults", "6", "--only", "restart_broker,stall_broker,slow_engine"],
    ),
    (
        // A zombie had planned a batch under other boundaries than its successor; both were inserted.
        "a zombie that wakes with a batch in its hands",
        &["--seed", "1", "--faults", "5", "--only", "zombie,rebalance,kill_aggregator"],
    ),
    (
        // The engine takes no notice of a write that fails for want of room: merged parts came out with empty
        // files, and what they replaced was unreadable.
        "a full disk under the engine",
        &["--seed", "5", "--faults", "8", "--log", "embedded", "--only", "full_disk_store"],
    ),
];

#[test]
fn what_failed_once_holds() {
    for (story, arguments) in FAILED_ONCE {
        eprintln!("{story}");
        torture(arguments);
    }
}
