//! Making the topics in Kafka.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rentroll_schemas::topics::Topic;
use serde::Serialize;

use super::KafkaConfig;
use super::client::{Side, Voice, failed, not_made, settings};
use crate::log::{LogError, Result};

/// How the topics are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// Partitions of each topic: equal, because one member reads partition *n* of both lanes.
    pub partitions: u32,
    /// Copies of each record. With 3 or more, an append needs one less than that many in sync.
    pub replication: u16,
    /// How long a record is kept after its arrival. Must outlast the longest time for which the store may be
    /// away.
    pub retention: Duration,
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicReport {
    /// Its name in Kafka.
    pub name: String,
    /// It was made now; otherwise it was there.
    pub created: bool,
    /// Settings of a topic that was there which are not as wanted. They are left as they are.
    pub differences: Vec<Difference>,
}

/// A setting that is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `retention.ms`, `replication`, …
    pub setting: String,
    /// The value wanted.
    pub wanted: String,
    /// The value found.
    pub found: String,
}

const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// New topics are known to all brokers after moments; a log opened at once must find them.
const VISIBLE_WAIT: Duration = Duration::from_secs(10);

/// Makes those of the topics that are missing. Running it again changes nothing.
///
/// # Errors
/// [`LogError::Topics`], with nothing made, if a topic exists with another number of partitions: changing it
/// moves identities to other partitions, and with them the dedup window, so it is a planned operation.
/// `config.partitions` is not looked at; `settings.partitions` is.
pub async fn create_topics(config: &KafkaConfig, settings: &TopicSettings) -> Result<Vec<TopicReport>> {
    let config = KafkaConfig { partitions: settings.partitions, ..config.clone() };
    let client = admin(&config)?;
    let existing = replicas(&config).await?;
    let others: Vec<String> = existing
        .iter()
        .filter(|(_, replicas)| replicas.len() != settings.partitions as usize)
        .map(|(topic, replicas)| format!("{} has {} partitions", config.topic(*topic), replicas.len()))
        .collect();
    if !others.is_empty() {
        return Err(LogError::Topics(format!(
            "kafka at {}: {}, not {}; changing it moves events away from the partition in which a resend would \
             be recognised, so it is a planned operation and nothing was made",
            config.brokers,
            others.join(", "),
            settings.partitions
        )));
    }
    let wanted = wanted(settings);
    let missing: Vec<Topic> = Topic::ALL.into_iter().filter(|topic| !existing.contains_key(topic)).collect();
    make(&config, &client, settings, &wanted, &missing).await?;
    let mut reports = Vec::new();
    for topic in Topic::ALL {
        let name = config.topic(topic);
        let mut differences = Vec::new();
        if let Some(replicas) = existing.get(&topic) {
            let fewest = replicas.iter().min().copied().unwrap_or_default();
            if fewest != usize::from(settings.replication) {
                differences.push(Difference {
                    setting: "replication".into(),
                    wanted: settings.replication.to_string(),
                    found: fewest.to_string(),
                });
            }
            differences.extend(compare(&config, &client, &name, &wanted).await?);
        }
        reports.push(TopicReport { name, created: missing.contains(&topic), differences });
    }
    Ok(reports)
}

fn admin(config: &KafkaConfig) -> Result<AdminClient<Voice>> {
    config.check()?;
    settings(config, Side::Producer, &[("allow.auto.create.topics", "false")])?
        .create_with_context(Voice::default())
        .map_err(|error| not_made("make a kafka client", error))
}

/// For each of our topics that exist: the number of replicas of each partition.
async fn replicas(config: &KafkaConfig) -> Result<BTreeMap<Topic, Vec<usize>>> {
    let observer = config.observer(None)?;
    tokio::task::spawn_blocking(move || observer.replicas()).await.map_err(|error| LogError::Io {
        what: "ask kafka for its topics".into(),
        source: std::io::Error::other(error),
    })?
}

/// The topics' configuration in Kafka's words.
fn wanted(settings: &TopicSettings) -> Vec<(&'static str, String)> {
    let mut wanted = vec![
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", settings.retention.as_millis().to_string()),
        // As the producer compressed it: a broker that compresses anew costs CPU for nothing.
        ("compression.type", "producer".to_owned()),
        // The record's time is its arrival, stamped by the collector; retention looks at it.
        ("message.timestamp.type", "CreateTime".to_owned()),
        // A collector whose clock was an hour ahead for a moment has records that Kafka, since 4.0, would refuse until it
        // is that late; and all that follow wait behind them.
        ("message.timestamp.after.max.ms", i64::MAX.to_string()),
    ];
    if settings.replication >= 3 {
        wanted.push(("min.insync.replicas", (settings.replication - 1).to_string()));
    }
    wanted
}

async fn make(
    config: &KafkaConfig,
    client: &AdminClient<Voice>,
    settings: &TopicSettings,
    wanted: &[(&'static str, String)],
    missing: &[Topic],
) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = missing.iter().map(|topic| config.topic(*topic)).collect();
    let replication = TopicReplication::Fixed(i32::from(settings.replication));
    let topics: Vec<NewTopic<'_>> = names
        .iter()
        .map(|name| {
            // `check` bounds the partitions to 65,535.
            let topic = NewTopic::new(name, settings.partitions as i32, copy(&replication));
            wanted.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WAIT)).operation_timeout(Some(ANSWER_WAIT));
    let made = client
        .create_topics(&topics, &options)
        .await
        .map_err(|error| failed(config, &format!("make topics {}", names.join(", ")), error, None))?;
    for result in made {
        match result {
            // Somebody else made it in this moment; the check below sees with how many partitions.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                let error = KafkaError::AdminOp(code);
                return Err(failed(config, &format!("make topic {name}"), error, None));
            }
        }
    }
    let deadline = Instant::now() + VISIBLE_WAIT;
    loop {
        let found = replicas(config).await?;
        let seen = missing.iter().all(|topic| {
            found.get(topic).is_some_and(|replicas| replicas.len() == settings.partitions as usize)
        });
        if seen {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(LogError::Unavailable(format!(
                "kafka at {} has made topics {} and does not show them",
                config.brokers,
                names.join(", ")
            )));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// `TopicReplication` is not `Clone`.
fn copy<'a>(replication: &TopicReplication<'a>) -> TopicReplication<'a> {
    match replication {
        TopicReplication::Fixed(copies) => TopicReplication::Fixed(*copies),
        TopicReplication::Variable(assignment) => TopicReplication::Variable(assignment),
    }
}

async fn compare(
    config: &KafkaConfig,
    client: &AdminClient<Voice>,
    name: &str,
    wanted: &[(&'static str, String)],
) -> Result<Vec<Difference>> {
    let what = format!("ask for the settings of topic {name}");
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WAIT));
    let resources = client
        .describe_configs(&[ResourceSpecifier::Topic(name)], &options)
        .await
        .map_err(|error| failed(config, &what, error, None))?;
    let mut differences = Vec::new();
    for resource in resources {
        let resource = resource.map_err(|code| failed(config, &what, KafkaError::AdminOp(code), None))?;
        for (setting, wanted) in wanted {
            let found = resource.get(setting).and_then(|entry| entry.value.clone()).unwrap_or_default();
            if found != *wanted {
                differences.push(Difference {
                    setting: (*setting).to_owned(),
                    wanted: wanted.clone(),
                    found,
                });
            }
        }
    }
    Ok(differences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_replica_may_be_missing_when_there_are_three() {
        let settings =
            |replication| TopicSettings { partitions: 1, replication, retention: Duration::from_secs(1) };
        let insync = |replication| {
            wanted(&settings(replication))
                .into_iter()
                .find(|(key, _)| *key == "min.insync.replicas")
                .map(|(_, n)| n)
        };
        assert_eq!(insync(1), None);
        assert_eq!(insync(2), None);
        assert_eq!(insync(3).as_deref(), Some("2"));
    }
}
