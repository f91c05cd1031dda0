//! A group that takes one lane of a partition away and leaves the other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rentroll_aggregator::run::aggregate;
use rentroll_engines::log::embedded::EmbeddedLog;
use rentroll_engines::log::{
    BoxFuture, EventLog, Lag, LogError, PartitionReader, Positioned, Record, Result, Subscription,
};
use rentroll_schemas::topics::Topic;

use crate::common::{Pipeline, Sent};

type Key = (Topic, u32);
type Shared<T> = Arc<Mutex<T>>;

/// The embedded log's readers, lent to members of a group that this test directs: what a broker does with members of
/// its own choice, whose assignor would not part the lanes.
struct Group {
    log: Arc<EmbeddedLog>,
    _subscription: Box<dyn Subscription>,
    readers: BTreeMap<Key, Shared<Box<dyn PartitionReader>>>,
}

impl Group {
    fn of(log: Arc<EmbeddedLog>) -> Group {
        let mut subscription = log.subscribe("test", &Topic::ALL).unwrap();
        let readers = subscription.gained(Duration::ZERO).unwrap().into_iter();
        let readers = readers
            .map(|reader| ((reader.topic(), reader.partition()), Arc::new(Mutex::new(reader))))
            .collect();
        Group { log, _subscription: subscription, readers }
    }

    fn member(&self) -> Arc<Member> {
        Arc::new(Member { log: self.log.clone(), lent: Mutex::default(), news: Arc::default() })
    }

    fn lend(&self, key: Key, to: &Member) {
        let is_away = Arc::new(AtomicBool::new(false));
        let lent = Lent { key, reader: self.readers[&key].clone(), is_away: is_away.clone() };
        to.lent.lock().unwrap().insert(key, is_away);
        to.news.lock().unwrap().push(Box::new(lent));
    }

    fn take_back(&self, key: Key, from: &Member) {
        let is_away = from.lent.lock().unwrap().remove(&key).unwrap();
        // Between two calls of its reader, as a revocation comes.
        let _reader = self.readers[&key].lock().unwrap();
        is_away.store(true, Ordering::SeqCst);
    }
}

/// The log as one member sees it.
struct Member {
    log: Arc<EmbeddedLog>,
    lent: Mutex<BTreeMap<Key, Arc<AtomicBool>>>,
    news: Shared<Vec<Box<dyn PartitionReader>>>,
}

impl EventLog for Member {
    fn partitions(&self) -> u32 {
        self.log.partitions()
    }

    fn append(&self, topic: Topic, records: Vec<Record>) -> BoxFuture<'_, Result<()>> {
        self.log.append(topic, records)
    }

    fn subscribe(&self, _: &str, _: &[Topic]) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(Joined(self.news.clone())))
    }

    fn lag(&self, group: &str, topic: Topic) -> Result<Vec<Lag>> {
        self.log.lag(group, topic)
    }

    fn arrivals(&self, group: &str, topic: Topic, places: &[(u32, u64)]) -> Result<Vec<Option<i64>>> {
        self.log.arrivals(group, topic, places)
    }
}

struct Joined(Shared<Vec<Box<dyn PartitionReader>>>);

impl Subscription for Joined {
    fn gained(&mut self, wait: Duration) -> Result<Vec<Box<dyn PartitionReader>>> {
        let gained = std::mem::take(&mut *self.0.lock().unwrap());
        if gained.is_empty() {
            std::thread::sleep(wait.min(Duration::from_millis(20)));
        }
        Ok(gained)
    }
}

struct Lent {
    key: Key,
    reader: Shared<Box<dyn PartitionReader>>,
    is_away: Arc<AtomicBool>,
}

impl Lent {
    fn with<T>(&self, work: impl FnOnce(&mut dyn PartitionReader) -> Result<T>) -> Result<T> {
        let mut reader = self.reader.lock().unwrap();
        match self.is_away.load(Ordering::SeqCst) {
            true => Err(LogError::Revoked { topic: self.key.0, partition: self.key.1 }),
            false => work(reader.as_mut()),
        }
    }
}

impl PartitionReader for Lent {
    fn topic(&self) -> Topic {
        self.key.0
    }

    fn partition(&self) -> u32 {
        self.key.1
    }

    fn committed(&mut self) -> Result<u64> {
        self.with(|reader| reader.committed())
    }

    fn seek(&mut self, position: u64) -> Result<()> {
        self.with(|reader| reader.seek(position))
    }

    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Positioned>> {
        // A reader that waits must not keep others from taking it away.
        let read = self.with(|reader| reader.read(records_max, Duration::ZERO))?;
        if read.is_empty() {
            std::thread::sleep(wait.min(Duration::from_millis(10)));
        }
        Ok(read)
    }

    fn commit(&mut self, position: u64) -> Result<()> {
        self.with(|reader| reader.commit(position))
    }
}

fn event(id: &str) -> Record {
    Sent { tenant: "acme", id, time: "2026-11-24T10:00:00Z", bytes: 1, method: "GET" }.record()
}

/// Rows stored, and distinct events among them; waits until all that was appended is through.
async fn through(pipeline: &Pipeline, group: &Group) -> (u64, u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let left = |topic: &Topic| -> u64 {
        group.log.lag("test", *topic).unwrap().iter().map(|lag| lag.end - lag.committed).sum()
    };
    while Topic::ALL.iter().map(left).sum::<u64>() > 0 {
        assert!(Instant::now() < deadline, "a lane is read by nobody");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let sql = "SELECT count(), uniqExact(identity) FROM events";
    pipeline.store.client().query(sql).fetch_one().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_loses_one_lane_goes_on_with_the_other_and_stays_exact() {
    let pipeline = Pipeline::new("lanes").await;
    let group = Group::of(Arc::new(pipeline.log()));
    let (one, other) = (group.member(), group.member());
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = Vec::new();
    for member in [&one, &other] {
        let setup = pipeline.setup(member.clone(), &stop);
        let runtime = tokio::runtime::Handle::current();
        running.push(tokio::task::spawn_blocking(move || aggregate(&setup, &runtime)));
    }
    let keys: Vec<Key> = group.readers.keys().copied().collect();
    keys.iter().for_each(|key| group.lend(*key, &one));
    let overflow: Vec<Key> = keys.into_iter().filter(|(topic, _)| *topic == Topic::Overflow).collect();
    let move_overflow = |from: &Member, to: &Member| {
        for key in &overflow {
            group.take_back(*key, from);
            group.lend(*key, to);
        }
    };
    let send = async |topic: Topic, ids: std::ops::Range<u32>| {
        let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
        let records = ids.iter().map(|id| event(id)).collect();
        group.log.append(topic, records).await.unwrap();
        through(&pipeline, &group).await
    };

    assert_eq!(send(Topic::Usage, 0..20).await, (20, 20));
    assert_eq!(send(Topic::Overflow, 10..30).await, (30, 30));
    // The lanes are parted. What was stored by either, and comes again by the other, is known.
    move_overflow(&one, &other);
    assert_eq!(send(Topic::Overflow, 20..50).await, (50, 50));
    assert_eq!(send(Topic::Usage, 30..60).await, (60, 60), "the lane that stayed is still read");
    assert_eq!(send(Topic::Overflow, 40..70).await, (70, 70));
    // And together again: what the other stored meanwhile is known too.
    move_overflow(&other, &one);
    assert_eq!(send(Topic::Usage, 0..80).await, (80, 80));
    assert_eq!(send(Topic::Overflow, 0..90).await, (90, 90));
    stop.store(true, Ordering::Relaxed);
    for member in running {
        member.await.unwrap().unwrap();
    }
}
