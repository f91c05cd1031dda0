//! Membership in a consumer group: one consumer, one thread that serves it, one queue per partition.
//!
//! The thread polls the consumer without pause, so heartbeats, `max.poll.interval.ms` and rebalances never
//! wait for a reader: a store that is away for minutes costs no membership. Each partition's records go to a
//! queue of their own, split off *before* fetching starts, so that one slow reader holds up no other
//! partition and nothing of it lands on the main queue.
//!
//! On a revocation the thread takes the queue out of the [`Slot`] before it lets the partition go; from then
//! on its reader can neither read nor commit, even if this member gets the same partition again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rentroll_schemas::topics::Topic;

use super::client::{Side, Voice, failed, is_passing, lock, not_made, settings};
use super::queue::Queue;
use super::reader::KafkaReader;
use super::{GroupProtocol, KafkaConfig};
use crate::log::{LogError, PartitionReader, Result, Subscription};

const DEFAULTS: [(&str, &str); 12] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "earliest"),
    ("isolation.level", "read_committed"),
    ("allow.auto.create.topics", "false"),
    // Counts from the polling thread's last poll, not from a reader's.
    ("max.poll.interval.ms", "300000"),
    // What waits in memory is bounded per partition: two lanes of 16 partitions take at most 128 MiB. Halved,
    // a fast reader starves between fetches.
    ("queued.max.messages.kbytes", "4096"),
    ("queued.min.messages", "20000"),
    ("fetch.message.max.bytes", "1048576"),
    ("fetch.max.bytes", "16777216"),
    // A partition whose queue was full is asked for again after this; at the library's default of 1 s a
    // reader of 4 MiB/s and more would stand still in between.
    ("fetch.queue.backoff.ms", "10"),
    // How long the broker may hold a fetch that finds nothing. It answers one request of a connection at a time,
    // so a seek waits behind it: at the library's default of 500 ms taking on eight partitions took 8 s. Halved,
    // an idle reader asks 20 times a second.
    ("fetch.wait.max.ms", "100"),
];

/// The first member assigns.
const CLASSIC: [(&str, &str); 4] = [
    ("group.protocol", "classic"),
    ("partition.assignment.strategy", "range"),
    // A member that died is noticed after this long; a pause of the process shorter than this costs nothing.
    ("session.timeout.ms", "20000"),
    ("heartbeat.interval.ms", "3000"),
];
/// The broker assigns; it also says how long a member may be silent.
const CONSUMER: [(&str, &str); 2] = [("group.protocol", "consumer"), ("group.remote.assignor", "range")];

/// The settings of a member of a group.
pub(super) fn of_member(config: &KafkaConfig) -> Result<ClientConfig> {
    let of_protocol = match config.group_protocol {
        GroupProtocol::Classic => &CLASSIC[..],
        GroupProtocol::Consumer => &CONSUMER[..],
    };
    settings(config, Side::Consumer, &[&DEFAULTS[..], of_protocol].concat())
}

/// How long the thread sleeps in a poll without events; an event ends it at once. Bounds how long leaving
/// takes to begin.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// How long leaving the group may take; past it the group notices by the session's end.
const LEAVE_WAIT: Duration = Duration::from_secs(5);

pub(super) type Consumer = BaseConsumer<Member>;
type Key = (Topic, u32);

/// One partition in the hands of this member.
pub(super) struct Slot {
    pub(super) topic: Topic,
    pub(super) partition: u32,
    /// The topic's name in Kafka.
    pub(super) name: String,
    /// `None` once the partition is revoked. Held while reading, seeking and handing in a commit, so that a
    /// revocation happens before or after each of them, never within.
    pub(super) queue: Mutex<Option<Queue>>,
    /// Never held while the client library is called: its callback takes this lock too.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Records may have come since the reader last looked.
    ready: bool,
    revoked: bool,
    /// The first position that surfaced on the main queue instead of the partition's own.
    stray: Option<u64>,
}

impl Slot {
    pub(super) fn revoked(&self) -> LogError {
        LogError::Revoked { topic: self.topic, partition: self.partition }
    }

    /// To be called before the queue is looked at: what comes after it wakes [`Slot::wait`].
    pub(super) fn expect_more(&self) {
        lock(&self.state).ready = false;
    }

    /// Waits for records or a revocation. The caller looks again anyway after `wait`.
    pub(super) fn wait(&self, wait: Duration) {
        let state = lock(&self.state);
        let idle = |state: &mut State| !state.ready && !state.revoked && state.stray.is_none();
        drop(self.changed.wait_timeout_while(state, wait, idle));
    }

    pub(super) fn take_stray(&self) -> Option<u64> {
        lock(&self.state).stray.take()
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    fn revoke(&self) {
        // The queue goes here and now: a handle that lingered in a reader would compete with the next one.
        drop(lock(&self.queue).take());
        self.update(|state| state.revoked = true);
    }
}

/// The consumer's context: which partitions this member holds.
pub(super) struct Member {
    config: KafkaConfig,
    group: String,
    voice: Voice,
    /// Kafka's names of the topics subscribed to.
    topics: HashMap<String, Topic>,
    consumer: OnceLock<Weak<Consumer>>,
    held: Mutex<HashMap<Key, Arc<Slot>>>,
    /// Gained and not handed out yet; or why this membership came to nothing.
    news: Mutex<News>,
    told: Condvar,
}

#[derive(Default)]
struct News {
    gained: Vec<Arc<Slot>>,
    failure: Option<LogError>,
}

impl Member {
    fn gain(&self, name: &str, partition: i32) {
        let (Some(topic), Ok(number)) = (self.topics.get(name).copied(), u32::try_from(partition)) else {
            return;
        };
        // Set before the consumer subscribed, and alive as long as it is polled.
        let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) else {
            return;
        };
        let Some(mut queue) = Queue::split(&consumer, name, partition) else {
            let reason = format!("cannot read partition {partition} of {name} by itself");
            return self.fail(LogError::Unavailable(reason));
        };
        let slot = Arc::new(Slot {
            topic,
            partition: number,
            name: name.to_owned(),
            queue: Mutex::new(None),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let waker = Arc::downgrade(&slot);
        queue.set_nonempty_callback(move || {
            if let Some(slot) = waker.upgrade() {
                slot.update(|state| state.ready = true);
            }
        });
        *lock(&slot.queue) = Some(queue);
        if let Some(old) = lock(&self.held).insert((topic, number), slot) {
            old.revoke();
        }
    }

    fn lose(&self, lost: impl Fn(&Key) -> bool) {
        lock(&self.news).gained.retain(|slot| !lost(&(slot.topic, slot.partition)));
        let slots: Vec<Arc<Slot>> =
            lock(&self.held).extract_if(|key, _| lost(key)).map(|(_, slot)| slot).collect();
        for slot in slots {
            slot.revoke();
        }
    }

    fn key(&self, name: &str, partition: i32) -> Option<Key> {
        Some((*self.topics.get(name)?, u32::try_from(partition).ok()?))
    }

    fn slot(&self, name: &str, partition: i32) -> Option<Arc<Slot>> {
        let key = self.key(name, partition)?;
        lock(&self.held).get(&key).cloned()
    }

    fn fail(&self, error: LogError) {
        lock(&self.news).failure = Some(error);
        self.told.notify_all();
    }

    /// An error outside any partition's queue.
    fn hear(&self, error: KafkaError) {
        use RDKafkaErrorCode as Code;
        let passes = error.rdkafka_error_code().is_some_and(|code| {
            let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_)) || code == Code::Fatal;
            (is_passing(code) && !fatal) || matches!(code, Code::PollExceeded | Code::AutoOffsetReset)
        });
        if passes {
            tracing::warn!(group = self.group, %error, "kafka consumer");
        } else {
            self.fail(failed(
                &self.config,
                &format!("read as group {}", self.group),
                error,
                self.voice.take(),
            ));
        }
    }
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.voice.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(error, reason);
    }
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                for element in partitions.elements() {
                    self.gain(element.topic(), element.partition());
                }
            }
            Rebalance::Revoke(partitions) => {
                let lost: Vec<Key> = partitions
                    .elements()
                    .iter()
                    .filter_map(|element| self.key(element.topic(), element.partition()))
                    .collect();
                self.lose(|key| lost.contains(key));
            }
            Rebalance::Error(error) => {
                tracing::error!(group = self.group, %error, "kafka rebalance failed");
                self.lose(|_| true);
            }
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // Handed out only now: a reader may seek, which needs the assignment to be in force.
        if let Rebalance::Assign(partitions) = rebalance {
            let gained = partitions.elements();
            let gained = gained.iter().filter_map(|element| self.slot(element.topic(), element.partition()));
            lock(&self.news).gained.extend(gained);
            self.told.notify_all();
        }
    }
}

/// A membership. Dropping it leaves the group, and every reader is revoked.
pub(super) struct KafkaSubscription {
    consumer: Arc<Consumer>,
    leaving: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl KafkaSubscription {
    /// Joins `group` as a reader of `topics`, given by their names in Kafka.
    pub(super) fn join(config: &KafkaConfig, group: &str, topics: HashMap<String, Topic>) -> Result<Self> {
        let group = format!("{}{group}", config.prefix);
        let what = format!("read as group {group}");
        let mut client = of_member(config)?;
        client.set("group.id", &group);
        let names: Vec<String> = topics.keys().cloned().collect();
        let member = Member {
            config: config.clone(),
            group,
            voice: Voice::default(),
            topics,
            consumer: OnceLock::new(),
            held: Mutex::default(),
            news: Mutex::default(),
            told: Condvar::new(),
        };
        let consumer: Arc<Consumer> =
            Arc::new(client.create_with_context(member).map_err(|error| not_made(&what, error))?);
        // The cell is new, so setting it cannot fail.
        let _ = consumer.context().consumer.set(Arc::downgrade(&consumer));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        consumer.subscribe(&names).map_err(|error| failed(config, &what, error, None))?;
        let leaving = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("kafka-member".into())
            .spawn({
                let (consumer, leaving) = (Arc::clone(&consumer), Arc::clone(&leaving));
                move || serve(&consumer, &leaving)
            })
            .map_err(|source| LogError::Io {
                what: "start a thread for the kafka consumer".into(),
                source,
            })?;
        Ok(KafkaSubscription { consumer, leaving, thread: Some(thread) })
    }
}

impl Subscription for KafkaSubscription {
    fn gained(&mut self, wait: Duration) -> Result<Vec<Box<dyn PartitionReader>>> {
        let member = self.consumer.context();
        let idle = |news: &mut News| news.gained.is_empty() && news.failure.is_none();
        let mut news = match member.told.wait_timeout_while(lock(&member.news), wait, idle) {
            Ok((news, _)) => news,
            Err(poisoned) => poisoned.into_inner().0,
        };
        if let Some(error) = news.failure.take() {
            return Err(error);
        }
        let mut gained = std::mem::take(&mut news.gained);
        drop(news);
        gained.sort_by_key(|slot| (slot.partition, slot.topic));
        Ok(gained
            .into_iter()
            .map(|slot| {
                Box::new(KafkaReader::new(slot, Arc::clone(&self.consumer), member.config.clone())) as _
            })
            .collect())
    }
}

impl Drop for KafkaSubscription {
    fn drop(&mut self) {
        self.leaving.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread is already on stderr, and there is nothing left to leave.
            let _ = thread.join();
        }
    }
}

/// Polls until told to leave, then leaves.
fn serve(consumer: &Arc<Consumer>, leaving: &AtomicBool) {
    while !leaving.load(Ordering::Acquire) {
        poll(consumer, POLL_WAIT);
    }
    consumer.context().lose(|_| true);
    if let Err(error) = consumer.close_queue() {
        tracing::warn!(%error, "cannot leave the kafka group; it notices when the session ends");
        return;
    }
    let deadline = Instant::now() + LEAVE_WAIT;
    while !consumer.closed() && Instant::now() < deadline {
        poll(consumer, Duration::from_millis(20));
    }
}

fn poll(consumer: &Arc<Consumer>, wait: Duration) {
    match consumer.poll(wait) {
        None => {}
        Some(Ok(message)) => {
            // Not expected, as queues are split before fetching starts; its reader goes back for it.
            if let Some(slot) = consumer.context().slot(message.topic(), message.partition()) {
                let position = message.offset() as u64;
                slot.update(|state| {
                    state.stray = Some(state.stray.map_or(position, |first| first.min(position)))
                });
            }
        }
        Some(Err(error)) => consumer.context().hear(error),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

    use super::*;

    /// It cannot be provoked, as queues are split in time; if a version of the library changes that, this is
    /// what keeps the records.
    #[test]
    fn what_surfaces_on_the_main_queue_is_read_again() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("usage", 1, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
        for number in 0..20 {
            let value = format!("{number}");
            producer.send(BaseRecord::to("usage").partition(0).key("k").payload(&value)).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        let config = KafkaConfig { brokers, partitions: 1, ..KafkaConfig::default() };
        let topics = [("usage".to_owned(), Topic::Usage)].into();
        let mut subscription = KafkaSubscription::join(&config, "group", topics).unwrap();
        let mut readers = Vec::new();
        while readers.is_empty() {
            readers = subscription.gained(Duration::from_secs(30)).unwrap();
        }
        let reader = &mut readers[0];
        let mut positions = Vec::new();
        let slot = subscription.consumer.context().slot("usage", 0).unwrap();
        while positions.len() < 20 {
            if positions.len() == 5 {
                // The queue is emptied behind the reader's back, and the slot is told as `poll` tells it.
                while lock(&slot.queue).as_mut().unwrap().take(1, Duration::from_millis(200)).len() > 0 {}
                slot.update(|state| state.stray = Some(5));
            }
            let read = reader.read(5, Duration::from_secs(30)).unwrap();
            assert!(!read.is_empty(), "only {positions:?} came");
            positions.extend(read.iter().map(|one| one.position));
        }
        assert_eq!(positions, (0..20).collect::<Vec<_>>());
    }
}
