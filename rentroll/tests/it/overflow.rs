//! The overflow lane: what a hot tenant sends beyond its share leaves the main lane to the others, and counts all
//! the same.

use std::fmt::Write as _;

use crate::rig::{Rig, field};

const TENANTS: u64 = 200;
const LINES_EACH: u64 = 100;
/// A hundred times as many.
const HOT_LINES: u64 = 100 * LINES_EACH;

#[test]
fn a_hot_tenants_excess_takes_the_other_lane_and_every_event_counts_once() {
    let mut rig = Rig::following("web.log");
    // All is read within moments, so shares are what may be saved up: twice what the others send.
    rig.set("collector.overflow.events_per_second_min", "200");
    rig.set("collector.overflow.burst_seconds", "1");
    rig.set("collector.overflow.share_max", "0.001");
    let mut text = String::new();
    for n in 0..LINES_EACH {
        let mut line = |tenant: &str, n: u64| {
            let _ = writeln!(
                text,
                "{tenant} - - [17/May/2015:10:05:03 +0000] \"GET /{n} HTTP/1.1\" 200 1 \"-\" \"-\""
            );
        };
        for tenant in 0..TENANTS {
            line(&format!("10.0.0.{tenant}"), n);
        }
        for hot in 0..HOT_LINES / LINES_EACH {
            line("10.9.9.9", n * 1000 + hot);
        }
    }
    std::fs::write(rig.path("web.log"), text).unwrap();
    rig.ok(&["up", "--once"]);
    let books = rig.json(&["books", "--json"]);
    assert!(field::<bool>(&books, "/balanced"), "{books}");
    let (events, distinct, others, others_main, hot, hot_main): (u64, u64, u64, u64, u64, u64) = rig.query(
        "SELECT count(), uniqExact(identity), countIf(tenant != '10.9.9.9'), \
         countIf(tenant != '10.9.9.9' AND log_topic = 'usage'), countIf(tenant = '10.9.9.9'), \
         countIf(tenant = '10.9.9.9' AND log_topic = 'usage') FROM events",
    );
    let all = TENANTS * LINES_EACH + HOT_LINES;
    assert_eq!((events, distinct), (all, all));
    assert_eq!((others, others_main), (TENANTS * LINES_EACH, TENANTS * LINES_EACH), "nobody else is marked");
    // Its share: 200 saved up, and 200 more for each second that the reading takes.
    assert_eq!(hot, HOT_LINES);
    assert!((200..HOT_LINES / 2).contains(&hot_main), "{hot_main} of {hot} in the main lane");
    let rolled_up: String = rig
        .query("SELECT toString(sumIf(total, meter = 'requests' AND tenant = '10.9.9.9')) FROM usage_minute");
    assert_eq!(rolled_up, HOT_LINES.to_string());
}
