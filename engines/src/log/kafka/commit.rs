//! Commits that are answered, and whose wait is bounded.
//!
//! The client crate has two kinds: one that never tells how it went, and one that waits without end while no
//! broker is there. The library below it has a third, with a queue for the answer; this is all of its use.

use std::ptr;
use std::time::Duration;

use rdkafka::bindings::{
    rd_kafka_commit_queue, rd_kafka_event_destroy, rd_kafka_event_error, rd_kafka_event_topic_partition_list,
    rd_kafka_queue_destroy, rd_kafka_queue_new, rd_kafka_queue_poll,
};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{IsError as _, KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafkaQueue, RDKafkaRespErr};

use super::member::Consumer;

/// A commit that was handed in.
pub(super) struct Commit<'consumer> {
    /// Never null; destroyed on drop, before the consumer can be.
    queue: *mut RDKafkaQueue,
    _consumer: &'consumer Consumer,
}

impl<'consumer> Commit<'consumer> {
    /// Hands in `offsets` as this member of the group, as it is in this moment. Does not wait.
    pub(super) fn hand_in(consumer: &'consumer Consumer, offsets: &TopicPartitionList) -> KafkaResult<Self> {
        let client = consumer.client().native_ptr();
        // SAFETY: the client lives as long as `consumer`, which is borrowed for as long as the queue lives.
        let queue = unsafe { rd_kafka_queue_new(client) };
        let commit = Commit { queue, _consumer: consumer };
        // SAFETY: all three pointers are valid; the library copies the list and keeps the queue alive until
        // it has answered. Without a callback the answer is an event on that queue.
        let error =
            unsafe { rd_kafka_commit_queue(client, offsets.ptr(), commit.queue, None, ptr::null_mut()) };
        result(error).map(|()| commit)
    }

    /// The coordinator's answer, if it comes within `wait`.
    pub(super) fn answer(self, wait: Duration) -> Option<KafkaResult<()>> {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is valid; what it gives is null or an event that is ours to destroy.
        let event = unsafe { rd_kafka_queue_poll(self.queue, wait_ms) };
        if event.is_null() {
            return None;
        }
        // SAFETY: the event is valid until it is destroyed; its list is null or belongs to it and has `cnt`
        // elements.
        let answers = unsafe {
            let whole = rd_kafka_event_error(event);
            let list = rd_kafka_event_topic_partition_list(event);
            let mut answers = vec![whole];
            if !list.is_null() && (*list).cnt > 0 {
                let elements = std::slice::from_raw_parts((*list).elems, (*list).cnt as usize);
                answers.extend(elements.iter().map(|element| element.err));
            }
            rd_kafka_event_destroy(event);
            answers
        };
        Some(answers.into_iter().try_for_each(result))
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_new`, and destroyed nowhere else.
        unsafe { rd_kafka_queue_destroy(self.queue) };
    }
}

fn result(error: RDKafkaRespErr) -> KafkaResult<()> {
    if error.is_error() { Err(KafkaError::ConsumerCommit(error.into())) } else { Ok(()) }
}
