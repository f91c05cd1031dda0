//! kill -9 at any instant: every line counts once.

use std::fmt::Write as _;
use std::time::Duration;

use crate::rig::{Rig, field};

const LINES: u64 = 60_000;

#[test]
fn killed_again_and_again_every_line_counts_once() {
    let rig = Rig::following("web.log");
    let mut text = String::new();
    for n in 0..LINES {
        let (tenant, bytes) = (n % 997, n % 100);
        let _ = writeln!(
            text,
            "10.0.{}.{} - - [{:02}/May/2015:10:{:02}:03 +0000] \"GET /{n} HTTP/1.1\" 200 {bytes} \"-\" \"-\"",
            tenant / 250,
            tenant % 250,
            n % 28 + 1,
            n % 60
        );
    }
    std::fs::write(rig.path("web.log"), text).unwrap();
    // Each attempt gets further before it dies; the delays are spread so that death comes at different steps.
    for attempt in 0..8 {
        let running = rig.spawn(&["up"]);
        std::thread::sleep(Duration::from_millis(250 + attempt * 170));
        running.kill();
    }
    rig.ok(&["up", "--once"]);
    let books = rig.json(&["books", "--json"]);
    assert!(field::<bool>(&books, "/balanced"), "{books}");
    let sums: (u64, u64, String, String, String) = rig.query(
        "SELECT count(), uniqExact(identity), toString(sum(measures['bytes'])), \
         assumeNotNull((SELECT toString(sumIf(total, meter = 'requests')) FROM usage_minute)), \
         assumeNotNull((SELECT toString(sumIf(total, meter = 'egress_bytes')) FROM usage_day)) FROM events",
    );
    let bytes: u64 = (0..LINES).map(|n| n % 100).sum();
    assert_eq!(sums, (LINES, LINES, bytes.to_string(), LINES.to_string(), bytes.to_string()));
}
