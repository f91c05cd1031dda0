//! `rentroll topics create` on topics that are there.

use rentroll_testing::kafka::Broker;

use crate::rig::Rig;

#[test]
fn settings_that_are_not_as_asked_are_named_and_left() {
    let mut rig = Rig::with_config(None);
    rig.set("log.kind", "kafka");
    rig.set("log.kafka.brokers", &Broker::shared());
    rig.set("log.kafka.prefix", "topics.");
    assert!(rig.ok(&["topics", "create"]).contains("topics.usage: created"));
    assert!(rig.ok(&["topics", "create"]).contains("topics.usage: is there"));
    for _ in 0..2 {
        let said = rig.fails(3, &["topics", "create", "--retention-days", "8"]);
        for topic in ["usage", "usage.overflow", "usage.rejects"] {
            let warning = format!("warning: topics.{topic}: retention.ms is 604800000, not 691200000");
            assert!(said.contains(&warning), "no `{warning}` in {said}");
        }
        assert_eq!(said.matches("warning:").count(), 3, "{said}");
    }
    let said = rig.fails(3, &["topics", "create", "--replication", "3"]);
    assert!(said.contains("replication is 1, not 3"), "{said}");
    assert!(said.contains("min.insync.replicas is 1, not 2"), "{said}");
    rig.ok(&["topics", "create"]);
}
