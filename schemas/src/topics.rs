//! The event log's topics.

/// A stream of the event log; both lanes have the same partitions, and one member reads partition *n* of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub enum Topic {
    /// Usage events.
    Usage,
    /// Usage that a tenant sends beyond its share: decided once, by the collector, so that the main lane
    /// never waits behind a hot tenant.
    Overflow,
    /// What could not be accepted, with its bytes and the reason.
    Rejects,
}

impl Topic {
    /// Every topic, in the order in which `rentroll topics create` makes them.
    pub const ALL: [Topic; 3] = [Topic::Usage, Topic::Overflow, Topic::Rejects];

    /// The name, without the installation's prefix.
    pub const fn name(self) -> &'static str {
        match self {
            Topic::Usage => "usage",
            Topic::Overflow => "usage.overflow",
            Topic::Rejects => "usage.rejects",
        }
    }

    /// The topic of that name.
    pub fn from_name(name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

impl std::fmt::Display for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Record headers, spelled as in Kafka; the embedded log stores the same.
pub mod headers {
    /// The tenant, as the collector resolved it.
    pub const TENANT: &str = "tenant";
    /// The CloudEvents type.
    pub const TYPE: &str = "type";
    /// Version of the value's schema.
    pub const SCHEMA: &str = "schema";
    /// Present, and `1`, on events of a declared backfill: their time may be older than the window.
    pub const BACKFILL: &str = "backfill";
    /// When what is replayed arrived at first, in milliseconds since the epoch: the window is held against it.
    pub const ORIGINAL_ARRIVAL: &str = "original-arrival";
    /// The value's media type: CloudEvents' Kafka binding, structured mode, or our batches.
    pub const CONTENT_TYPE: &str = "content-type";
    /// How many events the value carries; only on batches.
    pub const EVENTS: &str = "events";
}

/// The schema version that this binary writes.
pub const SCHEMA_VERSION: &str = "1";
/// Structured-mode CloudEvents.
pub const CLOUDEVENTS_JSON: &str = "application/cloudevents+json";
/// Many events of one partition: see [`crate::compact`].
pub const COMPACT_BATCH: &str = "application/vnd.rentroll.batch+protobuf";
