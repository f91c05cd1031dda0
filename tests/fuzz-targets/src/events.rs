//! Events, alone and as records of the log.

use rentroll_aggregator::judge::{self, LogPlace};
use rentroll_engines::log::{Headers, Record};
use rentroll_schemas::reject::Reject;
use rentroll_schemas::topics::{Topic, headers};
use rentroll_schemas::{Event, Identity, Quantity};

/// A CloudEvent in JSON.
pub fn event(data: &[u8]) {
    match Event::from_json(data) {
        Ok(event) => is_read_again(&event),
        Err(error) => {
            assert!(!error.field.is_empty(), "a refusal names its field");
            assert!(!error.reason.is_empty(), "a refusal names its reason");
        }
    }
}

/// What an event says does not depend on who wrote it last: the bill is made of it.
pub(crate) fn is_read_again(event: &Event<'_>) {
    let written = event.to_json();
    let again = Event::from_json(&written)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&written)));
    assert_eq!(sorted(&again), sorted(event));
    assert_eq!(again.identity(), event.identity());
    assert_eq!(again.to_json(), Event::from_json(&again.to_json()).unwrap().to_json());
}

/// An object has no order.
fn sorted<'a>(event: &Event<'a>) -> Event<'a> {
    let mut event = event.clone();
    event.measures.sort();
    event.dimensions.sort();
    event
}

/// A number of a measure.
pub fn quantity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(quantity) = text.parse::<Quantity>() {
        let written = quantity.to_string();
        assert_eq!(written.parse::<Quantity>().unwrap(), quantity, "{text} was written as {written}");
        let decimal = quantity.to_decimal();
        assert!(decimal.is_none_or(|decimal| Quantity::from_decimal(decimal) == Some(quantity)));
        assert!(quantity.checked_add(Quantity::ZERO) == Some(quantity));
    }
}

/// A record of a usage topic, from whoever may write into it: the first line is its tenant's header, the second
/// its other headers, the rest its value.
pub fn record(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (tenant, other, value) = (String::from_utf8_lossy(part()), String::from_utf8_lossy(part()), part());
    let mut headers: Headers = other.split('&').filter_map(|pair| pair.split_once('=')).collect();
    if !tenant.is_empty() {
        headers = [(headers::TENANT, &*tenant)].into_iter().chain(headers.iter()).collect();
    }
    let key = match Event::from_json(value) {
        Ok(event) => event.identity(),
        Err(_) => Identity::of("", "", ""),
    };
    let value = bytes::Bytes::copy_from_slice(value);
    let record = Record { key, headers, value, arrived_at_ms: 1_750_000_000_000 };
    let place = LogPlace { topic: Topic::Usage, partition: 3, position: 7 };
    match judge::event(place, &record) {
        Ok(event) => {
            assert_eq!(event.identity(), record.key);
            assert!(record.header(headers::TENANT).is_none_or(|tenant| tenant == event.tenant));
        }
        Err(reject) => {
            assert_eq!(reject.bytes, record.value, "a reject keeps its bytes");
            assert!(!reject.reason.is_empty() && !reject.field.is_empty());
        }
    }
    // The same bytes in the rejects topic.
    let _ = judge::reject(place, &record);
}

/// A record of the rejects topic.
pub fn reject(data: &[u8]) {
    if let Ok(reject) = serde_json::from_slice::<Reject>(data) {
        let written = serde_json::to_vec(&reject).unwrap();
        let again: Reject = serde_json::from_slice(&written)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&written)));
        assert_eq!(again, reject);
        assert_eq!(again.identity(), reject.identity());
    }
}
