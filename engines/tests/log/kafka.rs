//! What only a cluster has: members that share, a broker that goes away, topics that may be wrong.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::bindings::{
    rd_kafka_header_add, rd_kafka_headers_new, rd_kafka_produceva, rd_kafka_vtype_t,
    rd_kafka_vu_s__bindgen_ty_1, rd_kafka_vu_t,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rentroll_engines::log::kafka::topics::{TopicSettings, create_topics};
use rentroll_engines::log::kafka::{KafkaConfig, KafkaLog};
use rentroll_engines::log::{LogError, Record, Result};
use rentroll_schemas::topics::Topic;
use rentroll_testing::kafka::Broker;
use rentroll_testing::wait_until;
use tokio::runtime::Runtime;

use crate::common::{PARTITIONS, PATIENCE, Side, World, by_partition, kafka_config, record, record_in};
use crate::groups::{is_revoked, settle};

fn settings(partitions: u32) -> TopicSettings {
    TopicSettings { partitions, replication: 1, retention: Duration::from_secs(7200) }
}

fn create(config: &KafkaConfig, settings: &TopicSettings) -> Result<Vec<(String, bool, Vec<String>)>> {
    let reports = Runtime::new().unwrap().block_on(create_topics(config, settings))?;
    Ok(reports
        .into_iter()
        .map(|report| {
            let differences =
                report.differences.iter().map(|one| format!("{} {} {}", one.setting, one.wanted, one.found));
            (report.name, report.created, differences.collect())
        })
        .collect())
}

#[test]
fn a_revoked_reader_can_do_nothing_even_if_its_member_has_the_partition_again() {
    let world = World::new(Side::Kafka);
    world.append(Topic::Usage, 0..400);
    let mut one = world.join("group", &[Topic::Usage]);
    let position = one.reader(Topic::Usage, 0).read(10, PATIENCE).unwrap()[5].position;
    let mut stale = std::mem::take(&mut one.readers);
    let mut waiting = stale.pop().unwrap();
    // A reader that waits when it is revoked is told at once.
    let waiter = std::thread::spawn(move || {
        let result = loop {
            match waiting.read(1000, Duration::from_secs(600)) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(result, LogError::Revoked { .. }), "{result}");
    });

    let mut two = world.log().subscribe("group", &[Topic::Usage]).unwrap();
    settle(&mut [(&mut one.subscription, &mut one.readers), (&mut two, &mut Vec::new())], &[2, 2]);
    waiter.join().unwrap();
    for reader in &mut stale {
        assert!(is_revoked(reader.read(1, Duration::ZERO)));
        assert!(is_revoked(reader.commit(position)));
        assert!(is_revoked(reader.seek(0)));
        assert!(is_revoked(reader.committed()));
    }
    // Those that took over lack nothing: no stale reader took records away from them.
    drop(two);
    settle(&mut [(&mut one.subscription, &mut one.readers)], &[4]);
    let read = one.read_all(400);
    assert_eq!(crate::common::records(&read), by_partition((0..400).map(record)));
}

#[test]
fn a_reader_that_stands_still_costs_no_membership() {
    let quick = [
        ("consumer.session.timeout.ms", "1000"),
        ("consumer.heartbeat.interval.ms", "200"),
        ("consumer.max.poll.interval.ms", "1500"),
    ];
    let world = World::kafka(&Broker::shared(), None, &quick);
    world.append(Topic::Usage, 0..400);
    let mut joined = world.join("group", &[Topic::Usage]);
    let slow = joined.reader(Topic::Usage, 0);
    let read = slow.read(5, PATIENCE).unwrap();
    // A store that is away for long, measured against the timeouts above.
    std::thread::sleep(Duration::from_secs(5));
    slow.commit(read.last().unwrap().position + 1).unwrap();
    assert!(joined.subscription.gained(Duration::ZERO).unwrap().is_empty(), "there was a rebalance");
    joined.read_all(400 - read.len());
}

#[test]
fn a_broker_that_is_away_is_back_pressure_and_nothing_acked_is_lost() {
    let client = [
        ("producer.queue.buffering.max.messages", "100"),
        ("producer.message.timeout.ms", "3000"),
        ("reconnect.backoff.max.ms", "500"),
        ("consumer.session.timeout.ms", "6000"),
    ];
    let mut world = World::kafka_alone(&client);
    let address = world.config().brokers.clone();
    // More than the queue holds: waits for room, and is done.
    world.append(Topic::Usage, 0..2000);
    let mut joined = world.join("group", &[Topic::Usage]);
    assert_eq!(joined.read_all(2000).values().map(Vec::len).sum::<usize>(), 2000);

    world.broker().kill();
    let mut tried = 2000;
    for count in [1, 500] {
        let began = Instant::now();
        let error = world.try_append(Topic::Usage, (tried..tried + count).map(record).collect()).unwrap_err();
        assert!(matches!(&error, LogError::Unavailable(reason) if reason.contains(&address)), "{error}");
        assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
        tried += count;
    }
    world.broker().restart().unwrap();

    // The caller kept what failed and appends it again; the same readers go on.
    let retried: Vec<_> = (2000..tried).map(record).collect();
    let done = wait_until(PATIENCE, || world.try_append(Topic::Usage, retried.clone()).ok());
    assert!(done.is_some());
    let wanted: BTreeSet<_> = retried.iter().map(|record| record.key).collect();
    let mut come = BTreeSet::new();
    let all = wait_until(PATIENCE, || {
        joined.readers.retain_mut(|reader| reader.committed().is_ok());
        joined.readers.extend(joined.subscription.gained(Duration::ZERO).unwrap());
        for reader in &mut joined.readers {
            match reader.read(1000, Duration::from_millis(20)) {
                Ok(read) => come.extend(read.into_iter().map(|one| one.record.key)),
                Err(LogError::Revoked { .. } | LogError::Unavailable(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        come.is_superset(&wanted).then_some(())
    });
    assert!(all.is_some(), "{} came, wanted {}", come.len(), wanted.len());
}

#[test]
fn appends_during_a_kill_are_acked_or_refused_never_half_true() {
    let mut world = World::kafka_alone(&[("producer.message.timeout.ms", "60000")]);
    let log = world.shared_log();
    let runtime = Runtime::new().unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let appender = std::thread::spawn(move || {
        let mut acked = Vec::new();
        for start in (0..).step_by(50) {
            if stopped.try_recv().is_ok() {
                break;
            }
            let records: Vec<_> = (start..start + 50).map(record).collect();
            if runtime.block_on(log.append(Topic::Usage, records)).is_ok() {
                acked.extend(start..start + 50);
            }
        }
        acked
    });
    std::thread::sleep(Duration::from_millis(500));
    world.crash();
    std::thread::sleep(Duration::from_millis(500));
    stop.send(()).unwrap();
    let acked = appender.join().unwrap();
    assert!(!acked.is_empty());
    // The retries of an idempotent producer double nothing and reorder nothing.
    let read = world.all(Topic::Usage, acked.len());
    assert_eq!(crate::common::records(&read), by_partition(acked.into_iter().map(record)));
}

#[test]
fn leaving_a_group_of_a_dead_cluster_takes_seconds() {
    let mut world = World::kafka_alone(&[]);
    world.append(Topic::Usage, 0..40);
    let mut joined = world.join("group", &[Topic::Usage]);
    joined.read_all(40);
    world.log().lag("group", Topic::Usage).unwrap();
    world.broker().kill();
    let began = Instant::now();
    drop(joined);
    drop(world);
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
}

#[test]
fn topics_are_made_once_and_checked() {
    let config = kafka_config(&Broker::shared(), &[]);
    let missing = KafkaLog::open(config.clone()).err().unwrap().to_string();
    for name in ["usage", "usage.overflow", "usage.rejects"] {
        assert!(missing.contains(&format!("{}{name} is missing", config.prefix)), "{missing}");
    }
    assert!(missing.contains("`rentroll topics create`"), "{missing}");

    let report =
        |created| Topic::ALL.map(|topic| (config.topic(topic), created, Vec::<String>::new())).to_vec();
    assert_eq!(create(&config, &settings(PARTITIONS)).unwrap(), report(true));
    assert_eq!(create(&config, &settings(PARTITIONS)).unwrap(), report(false));
    KafkaLog::open(config.clone()).unwrap();

    let longer = TopicSettings { retention: Duration::from_secs(9000), ..settings(PARTITIONS) };
    for (_, created, differences) in create(&config, &longer).unwrap() {
        assert!(!created);
        assert_eq!(differences, ["retention.ms 9000000 7200000"]);
    }
    for other in [2, 6] {
        let error = create(&config, &settings(other)).unwrap_err().to_string();
        assert!(error.contains("has 4 partitions") && error.contains("planned operation"), "{error}");
        let error = KafkaLog::open(KafkaConfig { partitions: other, ..config.clone() }).err().unwrap();
        assert!(matches!(&error, LogError::Topics(reason) if reason.contains("has 4 partitions")), "{error}");
    }
}

/// Hours ahead of the broker's clock.
fn ahead() -> Record {
    let record = record_in(0, 1);
    Record { arrived_at_ms: record.arrived_at_ms + 3 * 3_600_000, ..record }
}

#[test]
fn records_of_a_clock_that_was_hours_ahead_are_taken() {
    let world = World::new(Side::Kafka);
    world.try_append(Topic::Usage, vec![ahead()]).unwrap();
    assert_eq!(world.all(Topic::Usage, 1)[&0][0].record, ahead());
}

#[test]
fn a_topic_of_others_that_refuses_them_is_told_with_the_setting() {
    let config = kafka_config(&Broker::shared(), &[]);
    let admin: AdminClient<DefaultClientContext> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &config.brokers).create().unwrap();
    let names = Topic::ALL.map(|topic| config.topic(topic));
    let topics: Vec<_> = names
        .iter()
        .map(|name| {
            NewTopic::new(name, PARTITIONS as i32, TopicReplication::Fixed(1))
                .set("message.timestamp.after.max.ms", "3600000")
        })
        .collect();
    let made = Runtime::new().unwrap().block_on(admin.create_topics(&topics, &AdminOptions::new())).unwrap();
    assert!(made.iter().all(|topic| topic.is_ok()), "{made:?}");
    for (_, created, differences) in create(&config, &settings(PARTITIONS)).unwrap() {
        let limit = format!("message.timestamp.after.max.ms {} 3600000", i64::MAX);
        assert!(!created && differences.contains(&limit), "{differences:?}");
    }
    let world = World::of_config(config, None);
    let error = world.try_append(Topic::Usage, vec![ahead()]).unwrap_err().to_string();
    assert!(error.contains("clock") && error.contains("message.timestamp.after.max.ms"), "{error}");
}

#[test]
fn more_copies_than_brokers_is_an_error_that_says_so() {
    let config = kafka_config(&Broker::shared(), &[]);
    let error = create(&config, &TopicSettings { replication: 3, ..settings(1) }).unwrap_err().to_string();
    assert!(error.to_lowercase().contains("replication"), "{error}");
}

#[test]
fn no_broker_at_all_is_named_with_the_reason() {
    let address = format!("127.0.0.1:{}", rentroll_testing::free_port().unwrap());
    let error = KafkaLog::open(kafka_config(&address, &[])).err().unwrap();
    assert!(matches!(error, LogError::Unavailable(_)), "{error}");
    let message = error.to_string();
    assert!(message.contains(&address) && message.contains("refused"), "{message}");
}

#[test]
fn a_setting_that_the_library_does_not_know_is_named() {
    let error = KafkaLog::open(kafka_config("127.0.0.1:1", &[("linger.minutes", "1")])).err().unwrap();
    assert!(matches!(&error, LogError::Setting { key, .. } if key == "client.linger.minutes"), "{error}");
}

#[test]
fn what_others_wrote_into_a_topic_is_read_and_holds_up_nothing() {
    let world = World::new(Side::Kafka);
    let name = world.config().topic(Topic::Usage);
    let producer: BaseProducer =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &world.config().brokers).create().unwrap();
    let headers = OwnedHeaders::new()
        .insert(Header { key: "tenant", value: Some(&[0xff, b'a'][..]) })
        .insert(Header::<&[u8]> { key: "empty", value: None });
    producer
        .send(BaseRecord::<[u8], [u8]>::to(&name).partition(0).headers(headers))
        .map_err(|(e, _)| e)
        .unwrap();
    send_with_a_name_that_is_no_text(&producer, &name);
    producer
        .send(BaseRecord::to(&name).partition(0).key("short").payload("text"))
        .map_err(|(e, _)| e)
        .unwrap();
    producer.flush(PATIENCE).unwrap();
    world.try_append(Topic::Usage, vec![record_in(0, 1)]).unwrap();
    let mut read = world.all(Topic::Usage, 4)[&0].clone();
    assert_eq!(read.remove(1).record.headers, [("te\u{fffd}nt", "acme")].into_iter().collect());
    assert_eq!(read[0].record.headers, [("tenant", "\u{fffd}a"), ("empty", "")].into_iter().collect());
    assert_eq!((&read[0].record.value[..], &read[1].record.value[..]), (&b""[..], &b"text"[..]));
    assert_ne!(read[0].record.key, read[1].record.key);
    assert_eq!(read[2].record, record_in(0, 1));
}

/// The client crate only takes names that are text; others' clients do not ask.
fn send_with_a_name_that_is_no_text(producer: &BaseProducer, topic: &str) {
    let topic = std::ffi::CString::new(topic).unwrap();
    // SAFETY: the client lives; both texts end with a zero; the list is made here, and given to the library, which
    // frees it, only if the record is taken; what is not named is zero, as the library wants it.
    unsafe {
        let headers = rd_kafka_headers_new(1);
        rd_kafka_header_add(headers, c"te\xffnt".as_ptr(), 5, c"acme".as_ptr().cast(), 4);
        let fields: [rd_kafka_vu_t; 3] = [
            rd_kafka_vu_t {
                vtype: rd_kafka_vtype_t::RD_KAFKA_VTYPE_TOPIC,
                u: rd_kafka_vu_s__bindgen_ty_1 { cstr: topic.as_ptr() },
            },
            rd_kafka_vu_t {
                vtype: rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION,
                u: rd_kafka_vu_s__bindgen_ty_1 { i32_: 0 },
            },
            rd_kafka_vu_t {
                vtype: rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
                u: rd_kafka_vu_s__bindgen_ty_1 { headers },
            },
        ];
        let error = rd_kafka_produceva(producer.client().native_ptr(), fields.as_ptr(), fields.len());
        assert!(error.is_null(), "the record was not taken");
    }
}
