//! A Kafka message as a record of ours.

use std::borrow::Cow;
use std::ffi::CStr;
use std::ptr;

use bytes::BytesMut;
use rdkafka::bindings::{rd_kafka_header_get_all, rd_kafka_message_headers};
use rdkafka::error::IsError as _;
use rentroll_schemas::Identity;

use super::queue::Message;
use crate::log::{Headers, Record};

/// The message as a record, whose bytes are put into `arena`. What is not ours is kept as well as it can be, so
/// that it becomes a reject with its bytes and holds up nothing: a key that is no identity is replaced by one of
/// the record's place in `topic`, which no event can have; text that is not UTF-8 is mended.
pub(super) fn of(message: &Message<'_>, topic: &str, partition: u32, arena: &mut BytesMut) -> Record {
    let key = message.key().try_into().map(Identity);
    let key = key.unwrap_or_else(|_| Identity::of("", topic, &format!("{partition}/{}", message.position())));
    arena.extend_from_slice(message.payload());
    let value = arena.split().freeze();
    Record { key, headers: mended(headers(message), arena), value, arrived_at_ms: message.timestamp_ms() }
}

/// Headers as text, whatever bytes they are.
pub(crate) fn mended<'a>(
    headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    arena: &mut BytesMut,
) -> Headers {
    Headers::collect(headers.into_iter().map(|(name, value)| (lossy(name), lossy(value))), arena)
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

/// Names and values; no value counts as an empty one. The client crate's own way panics at a name that is not
/// UTF-8, which anybody who may write into the topic can send.
fn headers<'a>(message: &'a Message<'_>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let mut block = ptr::null_mut();
    // SAFETY: the message is valid; the headers that the call puts into `block` belong to it.
    let found = unsafe { rd_kafka_message_headers(message.native(), &mut block) };
    let count = if found.is_error() { 0 } else { usize::MAX };
    (0..count).map_while(move |index| {
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the headers live as long as the message, which is borrowed for 'a; past the last one the call
        // fails and touches nothing.
        let got = unsafe { rd_kafka_header_get_all(block, index, &mut name, &mut value, &mut length) };
        if got.is_error() {
            return None;
        }
        // SAFETY: the library ends each name with a zero, and a value that is not null has `length` bytes; both
        // belong to the headers.
        let (name, value) = unsafe {
            let value: &'a [u8] = match value.is_null() {
                true => &[],
                false => std::slice::from_raw_parts(value.cast(), length),
            };
            (CStr::from_ptr::<'a>(name).to_bytes(), value)
        };
        Some((name, value))
    })
}
