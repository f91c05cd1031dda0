//! Events, alone and as records of the log.

use rentroll_aggregator::judge::{self, LogPlace};
use rentroll_engines::log::{Headers, Record};
use rentroll_schemas::reject::Reject;
use rentroll_schemas::topics::{Topic, headers};
use rentroll_schemas::{Event, Identity, Quantity, compact};

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
    assert_eq!(&again, event);
    assert_eq!(again.identity(), event.identity());
    assert_eq!(again.content(), event.content());
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
    let place = LogPlace { topic: Topic::Usage, partition: key.partition(4), position: 7 };
    let (mut events, mut rejects) = (0, 0);
    judge::events(place, &record, 4, |verdict| match verdict {
        Ok((event, identity)) => {
            events += 1;
            assert_eq!(event.identity(), identity);
            assert_eq!(identity.partition(4), place.partition, "a resend would be looked for elsewhere");
            let alone = !judge::is_batch(&record);
            assert!(!alone || record.header(headers::TENANT).is_none_or(|tenant| tenant == event.tenant));
            is_read_again(&event);
        }
        Err(reject) => {
            rejects += 1;
            assert!(!reject.reason.is_empty() && !reject.field.is_empty());
            assert!(judge::is_batch(&record) || reject.bytes == record.value, "a reject keeps its bytes");
        }
    });
    assert!(events + rejects > 0, "a record comes to something");
    // The same bytes in the rejects topic.
    let _ = judge::reject(place, &record);
}

/// Many events in one record.
pub fn compact(data: &[u8]) {
    let Ok(decoded) = compact::decode(data) else { return };
    let events: Vec<Event<'_>> = decoded.events().collect();
    assert!(!events.is_empty() && events.len() == decoded.len());
    events.iter().for_each(is_read_again);
    let written = compact::encode(events.iter());
    let again = compact::decode(&written).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again.events().collect::<Vec<_>>(), events);
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
