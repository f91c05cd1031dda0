//! Members that share a group's partitions, by both protocols.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rentroll_engines::log::kafka::{GroupProtocol, KafkaConfig, KafkaLog};
use rentroll_engines::log::{EventLog as _, LogError, PartitionReader, Result, Subscription};
use rentroll_schemas::Identity;
use rentroll_schemas::topics::Topic;
use rentroll_testing::kafka::Broker;
use rentroll_testing::wait_until;

use crate::common::{PARTITIONS, PATIENCE, World, gain, kafka_config, record};

const LANES: [Topic; 2] = [Topic::Usage, Topic::Overflow];
type Readers = Vec<Box<dyn PartitionReader>>;

macro_rules! by_both {
    ($($name:ident),* $(,)?) => {
        mod classic {
            $(#[test] fn $name() { super::$name(super::GroupProtocol::Classic); })*
        }
        mod consumer {
            $(#[test] fn $name() { super::$name(super::GroupProtocol::Consumer); })*
        }
    };
}

by_both! {
    members_share_partitions_and_a_leaver_hands_its_over,
    a_member_that_is_killed_is_missed_and_its_partitions_go_on,
    commits_while_members_come_and_go_are_kept_or_refused,
}

fn world(protocol: GroupProtocol) -> World {
    // A member that died is noticed soon; for the newer protocol the test's broker has such a setting.
    let client: &[_] = match protocol {
        GroupProtocol::Classic => {
            &[("consumer.session.timeout.ms", "6000"), ("consumer.heartbeat.interval.ms", "500")]
        }
        GroupProtocol::Consumer => &[],
    };
    let config = KafkaConfig { group_protocol: protocol, ..kafka_config(&Broker::shared(), client) };
    World::of_config(config, None)
}

pub(crate) fn is_revoked<T>(result: Result<T>) -> bool {
    matches!(result, Err(LogError::Revoked { .. }))
}

/// Drops readers that were revoked, takes what was gained, until this member holds `partitions` of each lane.
pub(crate) fn settle(members: &mut [(&mut Box<dyn Subscription>, &mut Readers)], wanted: &[usize]) {
    let settled = wait_until(PATIENCE, || {
        for (subscription, readers) in members.iter_mut() {
            readers.retain_mut(|reader| reader.committed().is_ok());
            readers.extend(subscription.gained(Duration::from_millis(50)).unwrap());
        }
        let held: Vec<usize> = members.iter().map(|(_, readers)| readers.len()).collect();
        (held == wanted).then_some(())
    });
    let held: Vec<usize> = members.iter().map(|(_, readers)| readers.len()).collect();
    assert!(settled.is_some(), "members hold {held:?} partitions, not {wanted:?}");
}

fn lane(readers: &Readers, topic: Topic) -> BTreeSet<u32> {
    readers.iter().filter(|reader| reader.topic() == topic).map(|reader| reader.partition()).collect()
}

fn members_share_partitions_and_a_leaver_hands_its_over(protocol: GroupProtocol) {
    let world = world(protocol);
    world.append(Topic::Usage, 0..400);
    let mut one = world.log().subscribe("group", &LANES).unwrap();
    let mut of_one = Vec::new();
    gain(&mut one, &mut of_one, 8);

    let mut two = world.log().subscribe("group", &LANES).unwrap();
    let mut of_two = Vec::new();
    settle(&mut [(&mut one, &mut of_one), (&mut two, &mut of_two)], &[4, 4]);
    for readers in [&of_one, &of_two] {
        assert_eq!(
            lane(readers, Topic::Usage),
            lane(readers, Topic::Overflow),
            "partition n of both lanes together"
        );
    }
    let shared: BTreeSet<u32> = &lane(&of_one, Topic::Usage) | &lane(&of_two, Topic::Usage);
    assert_eq!(shared, (0..PARTITIONS).collect());

    // The second member does half of each of its partitions, and leaves.
    let mut done = BTreeSet::new();
    for reader in of_two.iter_mut().filter(|reader| reader.topic() == Topic::Usage) {
        let read = reader.read(20, PATIENCE).unwrap();
        assert!(!read.is_empty());
        reader.commit(read.last().unwrap().position + 1).unwrap();
        done.extend(read.into_iter().map(|one| one.record.key));
    }
    drop(two);
    assert!(of_two.iter_mut().all(|reader| is_revoked(reader.read(1, Duration::ZERO))));
    settle(&mut [(&mut one, &mut of_one)], &[8]);

    // The first member reads the rest: nothing is missing, nothing of what was committed comes again.
    let expected: BTreeSet<_> =
        (0..400).map(|number| record(number).key).filter(|key| !done.contains(key)).collect();
    let mut rest = BTreeSet::new();
    let all = wait_until(PATIENCE, || {
        for reader in of_one.iter_mut().filter(|reader| reader.topic() == Topic::Usage) {
            let read = reader.read(1000, Duration::from_millis(20)).unwrap();
            rest.extend(read.into_iter().map(|one| one.record.key));
        }
        (rest.len() >= expected.len()).then_some(())
    });
    assert!(all.is_some(), "{} of {} came", rest.len(), expected.len());
    assert_eq!(rest, expected);
}

/// Names the configuration of a member that runs as a process of its own.
const MEMBER: &str = "RENTROLL_TEST_MEMBER";

/// A member in a process of its own, and word of when it holds so many partitions.
fn other_process(config: &KafkaConfig, count: usize) -> (Child, Receiver<()>) {
    let protocol = match config.group_protocol {
        GroupProtocol::Classic => "classic",
        GroupProtocol::Consumer => "consumer",
    };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "groups::member", "--ignored", "--nocapture"])
        .env(MEMBER, format!("{} {} {protocol}", config.brokers, config.prefix))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let wanted = format!("holds {count}");
    let (holds, held) = channel();
    std::thread::spawn(move || {
        // Read to the end, so that it can go on writing.
        for line in lines.map_while(std::result::Result::ok) {
            if line.ends_with(&wanted) {
                let _ = holds.send(());
            }
        }
    });
    (child, held)
}

#[test]
#[ignore = "run by the other tests, as a process of its own"]
fn member() {
    let variable = std::env::var(MEMBER).expect("run by the other tests");
    let words: Vec<&str> = variable.split(' ').collect();
    let protocol = if words[2] == "consumer" { GroupProtocol::Consumer } else { GroupProtocol::Classic };
    let client: BTreeMap<String, String> = match protocol {
        GroupProtocol::Classic => [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500")],
        GroupProtocol::Consumer => [("client.id", "other"), ("fetch.wait.max.ms", "100")],
    }
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let config = KafkaConfig {
        brokers: words[0].to_owned(),
        prefix: words[1].to_owned(),
        partitions: PARTITIONS,
        group_protocol: protocol,
        client,
        ..KafkaConfig::default()
    };
    let log = KafkaLog::open(config).unwrap();
    let mut subscription = log.subscribe("group", &LANES).unwrap();
    let mut readers: Readers = Vec::new();
    // Until it is killed, or the test that started it has ended.
    let parent = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == parent {
        readers.retain_mut(|reader| !is_revoked(reader.committed()));
        readers.extend(subscription.gained(Duration::from_millis(50)).unwrap());
        println!("holds {}", readers.len());
    }
}

fn a_member_that_is_killed_is_missed_and_its_partitions_go_on(protocol: GroupProtocol) {
    let world = world(protocol);
    world.append(Topic::Usage, 0..400);
    let mut one = world.log().subscribe("group", &LANES).unwrap();
    let mut of_one = Vec::new();
    gain(&mut one, &mut of_one, 8);
    let (mut other, held) = other_process(world.config(), 4);
    settle(&mut [(&mut one, &mut of_one)], &[4]);
    held.recv_timeout(PATIENCE).expect("the other member holds what was given up");
    assert_eq!(
        lane(&of_one, Topic::Usage),
        lane(&of_one, Topic::Overflow),
        "partition n of both lanes together"
    );
    // What stays here is read on, although the group changed.
    for reader in of_one.iter_mut().filter(|reader| reader.topic() == Topic::Usage) {
        let position = reader.committed().unwrap();
        reader.seek(position).unwrap();
        assert!(!reader.read(5, PATIENCE).unwrap().is_empty());
    }
    // SIGKILL: it leaves without a word.
    other.kill().unwrap();
    other.wait().unwrap();
    settle(&mut [(&mut one, &mut of_one)], &[8]);
    let mut come: BTreeSet<Identity> = BTreeSet::new();
    for reader in of_one.iter_mut().filter(|reader| reader.topic() == Topic::Usage) {
        let position = reader.committed().unwrap();
        reader.seek(position).unwrap();
    }
    let all = wait_until(PATIENCE, || {
        for reader in of_one.iter_mut().filter(|reader| reader.topic() == Topic::Usage) {
            let read = reader.read(1000, Duration::from_millis(20)).unwrap();
            come.extend(read.into_iter().map(|one| one.record.key));
        }
        (come.len() == 400).then_some(())
    });
    assert!(all.is_some(), "{} of 400 came", come.len());
}

fn commits_while_members_come_and_go_are_kept_or_refused(protocol: GroupProtocol) {
    let world = world(protocol);
    world.append(Topic::Usage, 0..400);
    let mut one = world.join("group", &[Topic::Usage]);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers = std::mem::take(&mut one.readers);
    // Each partition commits on and on while a second member joins and leaves.
    let threads: Vec<_> = readers
        .into_iter()
        .map(|mut reader| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let partition = reader.partition();
                for position in (1..=50_u64).cycle() {
                    match reader.commit(position) {
                        Ok(()) => {}
                        Err(LogError::Revoked { .. }) => return None,
                        Err(error) => panic!("partition {partition}: {error}"),
                    }
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        return Some((partition, position));
                    }
                }
                None
            })
        })
        .collect();
    let mut two = world.log().subscribe("group", &[Topic::Usage]).unwrap();
    let mut of_two = Vec::new();
    settle(&mut [(&mut two, &mut of_two)], &[2]);
    drop(two);
    std::thread::sleep(Duration::from_millis(500));
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let committed: BTreeMap<u32, u64> =
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
    if protocol == GroupProtocol::Consumer {
        assert_eq!(committed.len(), 2, "what did not move was not taken away");
    }
    let lag = world.log().lag("group", Topic::Usage).unwrap();
    for (partition, position) in committed {
        assert_eq!(lag[partition as usize].committed, position, "partition {partition}");
    }
}
