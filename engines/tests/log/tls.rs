//! Kafka that asks who is there: TLS, client certificates, SASL. Only in builds with `kafka-tls`.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use rentroll_engines::log::LogError;
use rentroll_engines::log::kafka::{Compression, KafkaConfig, KafkaLog};
use rentroll_schemas::topics::Topic;
use rentroll_testing::kafka::{Broker, USER, USER_PASSWORD};
use rentroll_testing::tls::PASSWORD;

use crate::common::{World, by_partition, kafka_config, record, records};

/// One broker for all tests here; keytool and java take seconds.
static BROKER: LazyLock<Mutex<Broker>> =
    LazyLock::new(|| Mutex::new(Broker::start_secure().unwrap_or_else(|error| panic!("{error}"))));

/// A configuration of `client` settings for that broker, made with what the broker knows of itself.
fn config(make: impl FnOnce(&Broker) -> (String, Vec<(&'static str, String)>)) -> KafkaConfig {
    let broker = BROKER.lock().unwrap_or_else(PoisonError::into_inner);
    let (address, mut client) = make(&broker);
    client.push(("ssl.ca.location", broker.keys().certificate("server").display().to_string()));
    let client: Vec<(&str, &str)> = client.iter().map(|(key, value)| (*key, value.as_str())).collect();
    kafka_config(&address, &client)
}

fn by_password(mechanism: &'static str, password: &str) -> KafkaConfig {
    config(|broker| {
        (
            broker.by_password(),
            vec![
                ("security.protocol", "SASL_SSL".to_owned()),
                ("sasl.mechanism", mechanism.to_owned()),
                ("sasl.username", USER.to_owned()),
                ("sasl.password", password.to_owned()),
            ],
        )
    })
}

fn by_certificate(name: &str) -> KafkaConfig {
    config(|broker| {
        (
            broker.by_certificate(),
            vec![
                ("security.protocol", "SSL".to_owned()),
                ("ssl.keystore.location", broker.keys().store(name).display().to_string()),
                ("ssl.keystore.password", PASSWORD.to_owned()),
            ],
        )
    })
}

/// Topics are made, records appended, read back and committed: each by a client of its own.
fn works(config: KafkaConfig) {
    let world = World::of_config(config, None);
    world.append(Topic::Usage, 0..200);
    let mut joined = world.join("group", &[Topic::Usage]);
    let read = joined.read_all(200);
    assert_eq!(records(&read), by_partition((0..200).map(record)));
    for reader in &mut joined.readers {
        let end = read[&reader.partition()].last().unwrap().position + 1;
        reader.commit(end).unwrap();
    }
    let left: u64 =
        world.log().lag("group", Topic::Usage).unwrap().iter().map(|lag| lag.end - lag.committed).sum();
    assert_eq!(left, 0);
}

/// The error of a client that is not let in.
fn refused(config: KafkaConfig) -> String {
    let error = KafkaLog::open(config).err().expect("it was let in");
    assert!(matches!(error, LogError::Unavailable(_)), "{error}");
    error.to_string()
}

#[test]
fn a_user_with_a_password_by_plain() {
    works(by_password("PLAIN", USER_PASSWORD));
}

#[test]
fn a_user_with_a_password_by_scram() {
    works(by_password("SCRAM-SHA-512", USER_PASSWORD));
}

#[test]
fn a_client_with_a_certificate() {
    works(by_certificate("client"));
}

#[test]
fn zstd_over_tls() {
    works(KafkaConfig { compression: Compression::Zstd, ..by_certificate("client") });
}

#[test]
fn a_wrong_password_is_said_to_be_one() {
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let said = refused(by_password(mechanism, "guess"));
        assert!(said.contains("uthentication"), "{said}");
    }
}

#[test]
fn a_stranger_s_certificate_is_refused() {
    let said = refused(by_certificate("stranger"));
    assert!(said.to_lowercase().contains("ssl"), "{said}");
}

#[test]
fn a_broker_whose_certificate_nobody_vouches_for_is_not_spoken_to() {
    let mut config = by_certificate("client");
    let stranger = BROKER
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .keys()
        .certificate("stranger")
        .display()
        .to_string();
    config.client.insert("ssl.ca.location".to_owned(), stranger);
    let said = refused(config);
    assert!(said.contains("certificate"), "{said}");
}

#[test]
fn an_open_client_at_a_closed_door_is_refused_in_time() {
    let config = config(|broker| (broker.by_password(), vec![("socket.timeout.ms", "3000".to_owned())]));
    let began = std::time::Instant::now();
    refused(config);
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
}
