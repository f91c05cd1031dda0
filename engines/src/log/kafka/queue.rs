//! The records of one partition, many at a time.
//!
//! The client crate hands out one message with an event of its own, a lock and a look at the clock each; asked
//! for a thousand at once, the library behind it takes a third of that time.

use std::ffi::CString;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings::{
    rd_kafka_consume_batch_queue, rd_kafka_message_destroy, rd_kafka_message_t, rd_kafka_message_timestamp,
    rd_kafka_queue_destroy, rd_kafka_queue_get_partition, rd_kafka_queue_t, rd_kafka_resp_err_t,
    rd_kafka_timestamp_type_t,
};
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{IsError as _, KafkaError, KafkaResult};

use super::member::{Consumer, Member};

/// So many messages are taken from the library at once.
const TAKEN_MAX: usize = 1024;

/// A partition's queue, split off from its consumer's.
pub(super) struct Queue {
    /// The same queue as `split`. Given back before that and before the consumer that it belongs to.
    native: NonNull<rd_kafka_queue_t>,
    /// Keeps the queue apart, calls back when something comes into the empty one, and keeps the consumer alive.
    split: PartitionQueue<Member>,
    /// Where the library puts messages; none is kept here from one call to the next.
    taken: Vec<*mut rd_kafka_message_t>,
}

// SAFETY: the library's queues may be used from any thread, and `taken` holds nothing between calls.
unsafe impl Send for Queue {}

impl Queue {
    /// Splits off the queue of a partition; `None` if there is no such partition or the name is none.
    pub(super) fn split(consumer: &Arc<Consumer>, topic: &str, partition: i32) -> Option<Self> {
        let split = consumer.split_partition_queue(topic, partition)?;
        let topic = CString::new(topic).ok()?;
        // SAFETY: the consumer is alive, and the name is a text that ends with a zero.
        let native = unsafe {
            rd_kafka_queue_get_partition(consumer.client().native_ptr(), topic.as_ptr(), partition)
        };
        Some(Queue { native: NonNull::new(native)?, split, taken: Vec::with_capacity(TAKEN_MAX) })
    }

    /// Calls `tell` when something comes into the empty queue.
    pub(super) fn set_nonempty_callback(&mut self, tell: impl Fn() + Send + Sync + 'static) {
        self.split.set_nonempty_callback(tell);
    }

    /// Up to `messages_max` messages; waits up to `wait` for them. What is not taken from the answer is dropped,
    /// and its offsets are not seen again.
    pub(super) fn take(
        &mut self,
        messages_max: usize,
        wait: Duration,
    ) -> impl ExactSizeIterator<Item = KafkaResult<Message<'_>>> {
        self.taken.resize(messages_max.min(TAKEN_MAX), ptr::null_mut());
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive; there is room for as many pointers as are asked for.
        let count = unsafe {
            rd_kafka_consume_batch_queue(
                self.native.as_ptr(),
                wait_ms,
                self.taken.as_mut_ptr(),
                self.taken.len(),
            )
        };
        // The library says -1 for a failure that it has none of where the arguments are right.
        self.taken.truncate(usize::try_from(count).unwrap_or(0));
        // Each pointer is owned by what comes out; dropping the iterator early drops, and so destroys, the rest.
        Taken { queue: PhantomData, rest: self.taken.drain(..) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and the consumer still lives: `split` holds it and is dropped later.
        unsafe { rd_kafka_queue_destroy(self.native.as_ptr()) };
    }
}

struct Taken<'a> {
    queue: PhantomData<&'a mut Queue>,
    rest: std::vec::Drain<'a, *mut rd_kafka_message_t>,
}

impl<'a> Iterator for Taken<'a> {
    type Item = KafkaResult<Message<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let message = Message { native: NonNull::new(self.rest.next()?)?, queue: PhantomData };
        Some(message.checked())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rest.size_hint()
    }
}

impl ExactSizeIterator for Taken<'_> {}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// A message as the library holds it.
pub(super) struct Message<'a> {
    native: NonNull<rd_kafka_message_t>,
    queue: PhantomData<&'a Queue>,
}

impl Message<'_> {
    fn checked(self) -> KafkaResult<Self> {
        match self.get().err {
            error if !error.is_error() => Ok(self),
            rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                Err(KafkaError::PartitionEOF(self.get().partition))
            }
            error => Err(KafkaError::MessageConsumption(error.into())),
        }
    }

    fn get(&self) -> &rd_kafka_message_t {
        // SAFETY: the message lives until it is destroyed, in `drop`.
        unsafe { self.native.as_ref() }
    }

    /// For the library's functions.
    pub(super) fn native(&self) -> *mut rd_kafka_message_t {
        self.native.as_ptr()
    }

    pub(super) fn position(&self) -> u64 {
        self.get().offset as u64
    }

    pub(super) fn key(&self) -> &[u8] {
        let message = self.get();
        // SAFETY: the library keeps the key for as long as the message.
        unsafe { bytes_of(message.key.cast(), message.key_len) }
    }

    pub(super) fn payload(&self) -> &[u8] {
        let message = self.get();
        // SAFETY: as the key.
        unsafe { bytes_of(message.payload.cast(), message.len) }
    }

    /// Milliseconds since the epoch; 0 where the record has none.
    pub(super) fn timestamp_ms(&self) -> i64 {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive.
        let timestamp_ms = unsafe { rd_kafka_message_timestamp(self.native(), &mut kind) };
        match kind {
            rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => 0,
            _ => timestamp_ms,
        }
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        // SAFETY: the message is ours, and nothing borrowed from it is left.
        unsafe { rd_kafka_message_destroy(self.native.as_ptr()) };
    }
}

/// # Safety
/// `bytes` is null or points to `length` bytes that live as long as `'a`.
unsafe fn bytes_of<'a>(bytes: *const u8, length: usize) -> &'a [u8] {
    match bytes.is_null() {
        true => &[],
        // SAFETY: by this function's contract.
        false => unsafe { std::slice::from_raw_parts(bytes, length) },
    }
}
