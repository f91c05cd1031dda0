//! Settings of the Kafka clients, their log lines, and their errors in the log's own words.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use super::{GroupProtocol, KafkaConfig, features};
use crate::log::{LogError, Result};

/// How long a question to the cluster (metadata, positions) may take. Doubled, a start-up against a dead
/// cluster takes that much longer to say so; halved, a controller election in the cluster becomes an error.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Settings on which the log's promises rest, and the reason for each: they cannot be passed through.
const FIXED: [(&str, &str); 22] = [
    ("bootstrap.servers", "it is the key `brokers`"),
    ("metadata.broker.list", "it is the key `brokers`"),
    ("group.id", "groups are named by the part that reads"),
    ("group.protocol", "it is the key `group_protocol`"),
    ("group.protocol.type", "members speak of topics and partitions, and nothing else"),
    ("compression.type", "it is the key `compression`"),
    ("compression.codec", "it is the key `compression`"),
    (
        "group.remote.assignor",
        "both lanes' partition n must be on one member, which the `range` assignor does",
    ),
    (
        "partition.assignment.strategy",
        "both lanes' partition n must be on one member, which the `range` assignor does",
    ),
    ("enable.auto.commit", "a position is committed only after its rows are stored"),
    ("enable.auto.offset.store", "a position is committed only after its rows are stored"),
    ("auto.offset.reset", "a new group must begin at the first record kept"),
    ("isolation.level", "records of an aborted transaction must not be read"),
    ("acks", "an append is acknowledged when all in-sync replicas have it"),
    ("request.required.acks", "an append is acknowledged when all in-sync replicas have it"),
    ("enable.idempotence", "a retry must not double or reorder records"),
    ("allow.auto.create.topics", "topics are made with stated partitions by `rentroll topics create`"),
    ("partitioner", "a record's partition follows its identity"),
    ("delivery.report.only.error", "an append waits for the delivery of each of its records"),
    (
        "transactional.id",
        "an append is not a transaction: a record that comes twice is recognised by its identity",
    ),
    ("enable.partition.eof", "the end of a partition is no error"),
    ("log.queue", "the client's log lines go where all others go"),
];

/// Other names of settings that have a default here: of two names for one setting, either could win.
const ALIASES: [(&str, &str); 3] = [
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
];

/// Settings that the broker makes for members of the newer protocol, and its names for them.
const BY_THE_BROKER: [(&str, &str); 2] = [
    ("session.timeout.ms", "group.consumer.session.timeout.ms"),
    ("heartbeat.interval.ms", "group.consumer.heartbeat.interval.ms"),
];

/// Whose settings are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Producer,
    Consumer,
}

/// The settings of a client of that side: `defaults`, then what the operator passes through.
///
/// A key `producer.x` or `consumer.x` goes to that side alone, any other to both.
pub(super) fn settings(config: &KafkaConfig, side: Side, defaults: &[(&str, &str)]) -> Result<ClientConfig> {
    let mut client = ClientConfig::new();
    client.set_log_level(RDKafkaLogLevel::Info);
    client.set("bootstrap.servers", &config.brokers);
    client.set("client.id", "rentroll");
    for (key, value) in defaults {
        client.set(*key, *value);
    }
    for (key, value) in &config.client {
        let (name, only) = match key.split_once('.') {
            Some(("producer", name)) => (name, Some(Side::Producer)),
            Some(("consumer", name)) => (name, Some(Side::Consumer)),
            _ => (key.as_str(), None),
        };
        if let Some((_, reason)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
            return Err(LogError::Setting {
                key: format!("client.{key}"),
                reason: format!("cannot be changed: {reason}"),
            });
        }
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        features::check(&format!("client.{key}"), name, value)?;
        if config.group_protocol == GroupProtocol::Consumer
            && let Some((_, of_broker)) = BY_THE_BROKER.iter().find(|(given, _)| *given == name)
        {
            return Err(LogError::Setting {
                key: format!("client.{key}"),
                reason: format!(
                    "with group_protocol = \"consumer\" the broker sets it, for all members: `{of_broker}`"
                ),
            });
        }
        if only.is_none_or(|only| only == side) {
            client.set(name, value);
        }
    }
    features::check_whole(&client)?;
    Ok(client)
}

/// What the client library said while it worked: its log lines go to `tracing`, its last complaint is kept,
/// because "timed out" alone names no cause.
#[derive(Clone, Debug, Default)]
pub(super) struct Voice(Arc<Mutex<Option<String>>>);

impl Voice {
    /// The last complaint since the last call.
    pub(super) fn take(&self) -> Option<String> {
        lock(&self.0).take()
    }
}

impl ClientContext for Voice {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
        match level {
            Emerg | Alert | Critical | Error => tracing::error!(target: "kafka", facility, "{message}"),
            Warning => tracing::warn!(target: "kafka", facility, "{message}"),
            Notice | Info => tracing::info!(target: "kafka", facility, "{message}"),
            Debug => tracing::debug!(target: "kafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            // It follows the error that says why, a hundred times within a moment.
            tracing::debug!(target: "kafka", %error, "{reason}");
            return;
        }
        // The client goes on trying; whoever waits for it is told by the call that fails.
        tracing::warn!(target: "kafka", %error, "{reason}");
        *lock(&self.0) = Some(reason.to_owned());
    }
}

impl ConsumerContext for Voice {}

/// A client that could not be made: nearly always a setting that librdkafka does not know or accept.
pub(super) fn not_made(what: &str, error: KafkaError) -> LogError {
    match error {
        KafkaError::ClientConfig(_, reason, key, _) => {
            LogError::Setting { key: format!("client.{key}"), reason }
        }
        source => LogError::Kafka { what: what.to_owned(), source },
    }
}

/// `error`, met while trying to do `what`, as the caller has to act on it.
pub(super) fn failed(config: &KafkaConfig, what: &str, error: KafkaError, voice: Option<String>) -> LogError {
    match error.rdkafka_error_code() {
        Some(code) if is_passing(code) => {
            let because = voice.map(|reason| format!("; last error: {reason}")).unwrap_or_default();
            LogError::Unavailable(format!("{what} at kafka {}: {error}{because}", config.brokers))
        }
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition,
        ) => LogError::Topics(format!(
            "{what}: kafka at {} does not have the topics or partitions that it had; check `rentroll topics create`",
            config.brokers
        )),
        _ => LogError::Kafka { what: format!("{what} at kafka {}", config.brokers), source: error },
    }
}

/// Errors that pass when the cluster is well again; the records are still with the caller.
pub(super) fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerDestroy
            | Code::BrokerNotAvailable
            | Code::BrokerTransportFailure
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::Fatal
            | Code::ISRInsufficient
            | Code::KafkaStorageError
            | Code::LeaderNotAvailable
            | Code::MessageTimedOut
            | Code::NetworkException
            | Code::NotCoordinator
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::NotLeaderForPartition
            | Code::OperationTimedOut
            | Code::PurgeInflight
            | Code::PurgeQueue
            | Code::QueueFull
            | Code::ReplicaNotAvailable
            | Code::RequestTimedOut
            | Code::Resolve
            | Code::ThrottlingQuotaExceeded
            | Code::TimedOutQueue
            | Code::WaitingForCoordinator
    )
}

/// Between two tries of a question that no broker can answer at this moment.
const ELECTION_PAUSE: Duration = Duration::from_millis(100);

/// Asks again, within [`ANSWER_WAIT`], while a partition or a group changes its leader: a moment after topics are
/// made, after a broker went. Blocking.
pub(super) fn once_led<T>(mut ask: impl FnMut() -> KafkaResult<T>) -> KafkaResult<T> {
    use RDKafkaErrorCode as Code;
    let deadline = Instant::now() + ANSWER_WAIT;
    loop {
        match ask() {
            Err(error)
                if Instant::now() < deadline
                    && matches!(
                        error.rdkafka_error_code(),
                        Some(
                            Code::NotLeaderForPartition
                                | Code::LeaderNotAvailable
                                | Code::NotCoordinator
                                | Code::CoordinatorLoadInProgress
                                | Code::CoordinatorNotAvailable
                        )
                    ) =>
            {
                std::thread::sleep(ELECTION_PAUSE);
            }
            result => return result,
        }
    }
}

/// The lock, also after a panic elsewhere: what these locks guard is replaced whole, never half-written.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> KafkaConfig {
        KafkaConfig {
            brokers: "127.0.0.1:1".into(),
            client: [(key.to_owned(), value.to_owned())].into(),
            ..KafkaConfig::default()
        }
    }

    #[test]
    fn a_setting_reaches_the_side_it_is_for() {
        for (key, producer, consumer) in [
            ("linger.ms", Some("7"), Some("7")),
            ("producer.linger.ms", Some("7"), None),
            ("consumer.linger.ms", None, Some("7")),
        ] {
            let config = with(key, "7");
            let of = |side| settings(&config, side, &[]).unwrap().get("linger.ms").map(str::to_owned);
            assert_eq!(of(Side::Producer).as_deref(), producer, "{key}");
            assert_eq!(of(Side::Consumer).as_deref(), consumer, "{key}");
        }
    }

    #[test]
    fn another_name_for_a_setting_overrides_its_default() {
        let client =
            settings(&with("queue.buffering.max.ms", "7"), Side::Producer, &[("linger.ms", "5")]).unwrap();
        assert_eq!((client.get("linger.ms"), client.get("queue.buffering.max.ms")), (Some("7"), None));
    }

    #[test]
    fn what_the_promises_rest_on_cannot_be_changed() {
        for key in [
            "acks",
            "producer.acks",
            "consumer.isolation.level",
            "group.id",
            "bootstrap.servers",
            "group.protocol",
            "compression.codec",
        ] {
            let error = settings(&with(key, "1"), Side::Producer, &[]).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("cannot be changed"), "{error}");
        }
    }

    #[test]
    fn what_the_broker_sets_for_the_newer_protocol_is_not_set_here() {
        let config = KafkaConfig {
            group_protocol: GroupProtocol::Consumer,
            ..with("consumer.session.timeout.ms", "6000")
        };
        let error = settings(&config, Side::Consumer, &[]).unwrap_err().to_string();
        assert!(error.contains("group.consumer.session.timeout.ms"), "{error}");
        let classic = KafkaConfig { group_protocol: GroupProtocol::Classic, ..config };
        assert_eq!(settings(&classic, Side::Consumer, &[]).unwrap().get("session.timeout.ms"), Some("6000"));
    }
}
