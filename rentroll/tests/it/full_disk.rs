//! A full disk: said, waited for, and nothing lost once there is room.

use std::fmt::Write as _;
use std::process::Command;

use crate::rig::{Rig, field};

const LINES: u64 = 150_000;

/// On a file system that is full until the message has come, and that goes with the script.
const SCRIPT: &str = r#"
set -eu
mkdir -p "$DATA"
mount -t tmpfs -o size=340m tmpfs "$DATA"
trap 'umount -l "$DATA"' EXIT
fallocate -l 256m "$DATA/ballast"
"$BIN" --config "$CONFIG" up --once 2>"$DIR/said" &
pid=$!
tries=0
while ! grep -q 'trying again' "$DIR/said"; do
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || { echo "the disk never filled" >&2; exit 7; }
    kill -0 "$pid" 2>/dev/null || { echo "ended early" >&2; cat "$DIR/said" >&2; exit 8; }
    sleep 0.1
done
rm "$DATA/ballast"
wait "$pid"
"$BIN" --config "$CONFIG" books --json
"#;

#[test]
fn a_full_disk_is_said_and_waited_for() {
    let rig = Rig::following("web.log");
    let mut text = String::new();
    for n in 0..LINES {
        let _ = writeln!(
            text,
            "10.0.{}.{} - - [17/May/2015:10:{:02}:03 +0000] \"GET /{n} HTTP/1.1\" 200 1 \"-\" \"-\"",
            n % 200,
            n % 250,
            n % 60
        );
    }
    std::fs::write(rig.path("web.log"), text).unwrap();
    // Root may mount; others may in a user namespace of their own.
    let mut command = match rustix::process::geteuid().is_root() {
        true => Command::new("sh"),
        false => {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--map-root-user", "sh"]);
            command
        }
    };
    command.args(["-c", SCRIPT]);
    for (name, value) in rig.command(&[]).get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command
        .env("BIN", env!("CARGO_BIN_EXE_rentroll"))
        .env("CONFIG", rig.path("rentroll.toml"))
        .env("DATA", rig.path("data"))
        .env("DIR", rig.dir.path());
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaint}");
    let said = std::fs::read_to_string(rig.path("said")).unwrap();
    assert!(said.contains("No space left on device") || said.contains("disk is full"), "{said}");
    let books: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(field::<bool>(&books, "/balanced"), "{books}");
    let stored: u64 =
        books["hours"].as_array().unwrap().iter().map(|hour| hour["stored"].as_u64().unwrap()).sum();
    assert_eq!(stored, LINES);
}
