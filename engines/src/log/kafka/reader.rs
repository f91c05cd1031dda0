//! Reading one partition.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rentroll_schemas::topics::Topic;

use super::client::{ANSWER_WAIT, failed, lock, once_led};
use super::commit::Commit;
use super::member::{Consumer, Slot};
use super::queue::Message;
use super::{KafkaConfig, record};
use crate::log::{LogError, PartitionReader, Positioned, Result};

/// A read ends at this many bytes even if more records were asked for.
const READ_BYTES_MAX: usize = 32 << 20;
/// Records' bytes are split off from blocks of this size; a thousand of some 300 bytes fill one.
const ARENA_BYTES: usize = 384 << 10;
/// A waiting reader looks at its queue this often even if nothing woke it.
const LOOK: Duration = Duration::from_millis(500);
/// How long a commit may take. It is only a hint of where to resume, so waiting longer gains nothing.
const COMMIT_WAIT: Duration = Duration::from_secs(30);
/// Between two tries of a commit while the group changes.
const COMMIT_PAUSE: Duration = Duration::from_millis(50);
/// One try of a seek. A revocation waits for it, so it is short; tries are repeated up to [`ANSWER_WAIT`].
const SEEK_TRY: Duration = Duration::from_millis(500);
/// Between two tries of a seek on a partition whose fetching has not begun yet.
const SEEK_PAUSE: Duration = Duration::from_millis(10);

pub(super) struct KafkaReader {
    slot: Arc<Slot>,
    consumer: Arc<Consumer>,
    config: KafkaConfig,
    /// Every record read from here on is at this position or after it; `None` before the first.
    next: Option<u64>,
    /// Met after records that had to be handed out first.
    failure: Option<LogError>,
    /// What records' bytes are split off from, so that a record costs no allocation of its own.
    arena: BytesMut,
}

impl KafkaReader {
    pub(super) fn new(slot: Arc<Slot>, consumer: Arc<Consumer>, config: KafkaConfig) -> Self {
        KafkaReader { slot, consumer, config, next: None, failure: None, arena: BytesMut::new() }
    }

    fn failed(&self, what: &str, error: KafkaError) -> LogError {
        let what = format!("{what} {}/{}", self.slot.name, self.slot.partition);
        failed(&self.config, &what, error, None)
    }

    fn at(&self, offset: Offset) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(1);
        let mut element = list.add_partition(&self.slot.name, self.slot.partition as i32);
        // Only an offset past i64::MAX is refused, and the callers have checked that.
        let _ = element.set_offset(offset);
        list
    }

    /// The first position kept, and the one after the last.
    fn watermarks(&self) -> KafkaResult<(i64, i64)> {
        let partition = self.slot.partition as i32;
        once_led(|| self.consumer.fetch_watermarks(&self.slot.name, partition, ANSWER_WAIT))
    }

    fn offset(&self, position: u64) -> Result<Offset> {
        i64::try_from(position)
            .map(Offset::Offset)
            .map_err(|_| self.beyond(position, "no kafka offset is that large"))
    }

    fn beyond(&self, position: u64, reason: &str) -> LogError {
        LogError::Topics(format!(
            "position {position} of {}/{} does not exist: {reason}",
            self.slot.name, self.slot.partition
        ))
    }

    /// Moves whatever is in the queue into `out`, as far as it goes.
    fn drain(&mut self, records_max: usize, out: &mut Vec<Positioned>) -> Result<()> {
        self.slot.expect_more();
        let slot = Arc::clone(&self.slot);
        let mut queue = lock(&slot.queue);
        let queue = queue.as_mut().ok_or_else(|| self.slot.revoked())?;
        let mut bytes = 0;
        while out.len() < records_max && bytes < READ_BYTES_MAX {
            let messages = queue.take(records_max - out.len(), Duration::ZERO);
            if messages.len() == 0 {
                break;
            }
            out.reserve(messages.len());
            // What was read before has mostly been dropped: its memory is taken again.
            self.arena.reserve(ARENA_BYTES);
            for message in messages {
                let record = match message {
                    Ok(message) => self.record(&message),
                    Err(error) => Err(self.failed("read", error)),
                };
                match record {
                    Ok(record) => {
                        bytes += record.record.value.len();
                        out.push(record);
                    }
                    // Records behind it have left the queue with it: they are handed out, and it is told next.
                    Err(error) => drop(self.failure.get_or_insert(error)),
                }
            }
            if self.failure.is_some() {
                break;
            }
        }
        match self.failure.take() {
            Some(failure) if out.is_empty() => Err(failure),
            failure => {
                self.failure = failure;
                Ok(())
            }
        }
    }

    fn record(&mut self, message: &Message<'_>) -> Result<Positioned> {
        let position = message.position();
        if let Some(next) = self.next.filter(|next| position < *next) {
            let reason = format!("the log went back to {position}; it lost records or was made anew");
            return Err(self.beyond(next, &reason));
        }
        self.next = Some(position + 1);
        let record = record::of(message, &self.slot.name, self.slot.partition, &mut self.arena);
        Ok(Positioned { position, record })
    }
}

impl PartitionReader for KafkaReader {
    fn topic(&self) -> Topic {
        self.slot.topic
    }

    fn partition(&self) -> u32 {
        self.slot.partition
    }

    fn committed(&mut self) -> Result<u64> {
        if lock(&self.slot.queue).is_none() {
            return Err(self.slot.revoked());
        }
        let asked = once_led(|| self.consumer.committed_offsets(self.at(Offset::Invalid), ANSWER_WAIT))
            .map_err(|error| self.failed("ask for the committed position of", error))?;
        for element in asked.elements() {
            element.error().map_err(|error| self.failed("ask for the committed position of", error))?;
            if let Offset::Offset(offset) = element.offset() {
                return Ok(offset as u64);
            }
        }
        let (first, _) =
            self.watermarks().map_err(|error| self.failed("ask for the first position of", error))?;
        Ok(first.max(0) as u64)
    }

    fn seek(&mut self, position: u64) -> Result<()> {
        let offset = self.offset(position)?;
        if lock(&self.slot.queue).is_none() {
            return Err(self.slot.revoked());
        }
        let (first, end) = self.watermarks().map_err(|error| self.failed("ask for the end of", error))?;
        if end >= 0 && position > end as u64 {
            // Kafka would go back to the first record and say nothing.
            let reason = format!("it ends at {end}; it lost records or was made anew");
            return Err(self.beyond(position, &reason));
        }
        if first >= 0 && position < first as u64 {
            tracing::error!(
                topic = self.slot.name,
                partition = self.slot.partition,
                position,
                first,
                "records were deleted by the topic's retention before they were read"
            );
        }
        let deadline = Instant::now() + ANSWER_WAIT;
        loop {
            let result = {
                let queue = lock(&self.slot.queue);
                if queue.is_none() {
                    return Err(self.slot.revoked());
                }
                self.consumer
                    .seek_partitions(self.at(offset), SEEK_TRY)
                    .and_then(|list| list.elements().iter().try_for_each(|element| element.error()))
            };
            match result {
                Ok(()) => break,
                Err(error) if Instant::now() >= deadline => return Err(self.failed("seek in", error)),
                // Mostly "erroneous state": the partition was assigned and its fetching has not begun.
                Err(_) => std::thread::sleep(SEEK_PAUSE),
            }
        }
        self.next = Some(position);
        self.failure = None;
        Ok(())
    }

    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Positioned>> {
        let deadline = Instant::now() + wait;
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        let mut out = Vec::new();
        loop {
            if let Some(stray) = self.slot.take_stray() {
                self.seek(self.next.unwrap_or(stray))?;
            }
            self.drain(records_max, &mut out)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if !out.is_empty() || left.is_zero() {
                return Ok(out);
            }
            self.slot.wait(left.min(LOOK));
        }
    }

    fn commit(&mut self, position: u64) -> Result<()> {
        let list = self.at(self.offset(position)?);
        let deadline = Instant::now() + COMMIT_WAIT;
        loop {
            let commit = {
                let queue = lock(&self.slot.queue);
                if queue.is_none() {
                    return Err(self.slot.revoked());
                }
                // Taken up in the order in which it is handed in: ahead of any revocation, which needs the lock.
                Commit::hand_in(&self.consumer, &list).map_err(|error| self.failed("commit in", error))?
            };
            match commit.answer(deadline.saturating_duration_since(Instant::now())) {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) if is_of_rebalance(&error) && Instant::now() < deadline => {
                    // Either the member learns its new epoch, or this partition is about to be revoked.
                    std::thread::sleep(COMMIT_PAUSE);
                }
                Some(Err(error)) => return Err(self.failed("commit in", error)),
                None if lock(&self.slot.queue).is_none() => return Err(self.slot.revoked()),
                None => {
                    return Err(LogError::Unavailable(format!(
                        "commit in {}/{} at kafka {}: no answer within {} s",
                        self.slot.name,
                        self.slot.partition,
                        self.config.brokers,
                        COMMIT_WAIT.as_secs()
                    )));
                }
            }
        }
    }
}

/// Whether a commit was refused because the group is changing: the member has not heard of it yet.
fn is_of_rebalance(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::StaleMemberEpoch
                | Code::FencedMemberEpoch
                | Code::RebalanceInProgress
                | Code::IllegalGeneration
                | Code::UnknownMemberId
        )
    )
}
