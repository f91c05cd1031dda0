//! What becomes of a record, apart from whether it was there before. Pure.

use chrono::{DateTime, Utc};
use rentroll_engines::log::Record;
use rentroll_schemas::reject::{Reject, reason};
use rentroll_schemas::topics::{Topic, headers};
use rentroll_schemas::{Event, window};

/// Where a record stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// Topic.
    pub topic: Topic,
    /// Partition.
    pub partition: u32,
    /// Position.
    pub position: u64,
}

impl std::fmt::Display for LogPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.position)
    }
}

/// The event that a record of a usage topic carries.
///
/// # Errors
/// The reject that it becomes: unreadable, outside the window, or under a key that is not its own.
pub fn event<'a>(place: LogPlace, record: &'a Record) -> Result<Event<'a>, Box<Reject>> {
    let refuse = |source: &str, reason: &str, field: &str, detail: String| {
        Box::new(Reject {
            source: source.to_owned(),
            place: place.to_string(),
            tenant: record.header(headers::TENANT).unwrap_or_default().to_owned(),
            reason: reason.to_owned(),
            field: field.to_owned(),
            detail,
            rejected_at: arrival(record),
            bytes: record.value.to_vec(),
        })
    };
    let event = Event::from_json(&record.value).map_err(|error| {
        let word = if error.field == "body" { reason::UNREADABLE } else { reason::INVALID };
        refuse(place.topic.name(), word, &error.field, error.reason)
    })?;
    if event.identity() != record.key {
        let detail = format!("the record's key is {}, the event's identity {}", record.key, event.identity());
        return Err(refuse(&event.source, reason::IDENTITY_MISMATCH, "key", detail));
    }
    if let Some(tenant) = record.header(headers::TENANT)
        && tenant != event.tenant
    {
        let detail = format!("`{}` is not the tenant `{tenant}` that sent it", event.tenant);
        return Err(refuse(&event.source, reason::INVALID, "subject", detail));
    }
    let backfill = record.header(headers::BACKFILL) == Some("1");
    window::check(event.time, arrival(record), backfill)
        .map_err(|(word, detail)| refuse(&event.source, word, "time", detail))?;
    Ok(event)
}

/// The reject that a record of the rejects topic carries; an unreadable one becomes a reject itself.
pub fn reject(place: LogPlace, record: &Record) -> Reject {
    serde_json::from_slice(&record.value).unwrap_or_else(|error| Reject {
        source: place.topic.name().to_owned(),
        place: place.to_string(),
        tenant: String::new(),
        reason: reason::UNREADABLE.to_owned(),
        field: "body".to_owned(),
        detail: format!("not a reject: {error}"),
        rejected_at: arrival(record),
        bytes: record.value.to_vec(),
    })
}

/// When the record arrived. A time that no clock can show is taken as the epoch: the record is then judged
/// as arriving long before its event, and rejected rather than lost.
pub fn arrival(record: &Record) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(record.arrived_at_ms).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rentroll_schemas::Identity;

    const PLACE: LogPlace = LogPlace { topic: Topic::Usage, partition: 1, position: 7 };

    fn record(tenant: &str, time: &str) -> Record {
        let json = format!(
            r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"acme","time":"{time}","data":{{}}}}"#
        );
        Record {
            key: Identity::of("acme", "s", "1"),
            headers: [(headers::TENANT, tenant)].into_iter().collect(),
            value: json.into(),
            arrived_at_ms: 1_700_000_000_000,
        }
    }

    #[test]
    fn what_does_not_fit_becomes_a_reject_with_its_bytes() {
        let good = record("acme", "2023-11-14T22:00:00Z");
        assert!(event(PLACE, &good).is_ok());
        let mut forged = good.clone();
        forged.key = Identity::of("other", "s", "1");
        let mut garbage = good.clone();
        garbage.value = vec![0xff].into();
        for (record, word, field) in [
            (forged, reason::IDENTITY_MISMATCH, "key"),
            (garbage, reason::UNREADABLE, "body"),
            (record("other", "2023-11-14T22:00:00Z"), reason::INVALID, "subject"),
            (record("acme", "2023-11-15T22:00:00Z"), reason::IN_FUTURE, "time"),
            (record("acme", "2023-01-15T22:00:00Z"), reason::TOO_OLD, "time"),
        ] {
            let reject = event(PLACE, &record).unwrap_err();
            assert_eq!((reject.reason.as_str(), reject.field.as_str()), (word, field));
            assert_eq!(reject.place, "usage/1/7");
            assert_eq!(reject.bytes, record.value);
        }
    }

    #[test]
    fn a_declared_backfill_may_be_old() {
        let mut old = record("acme", "2015-05-17T10:05:03Z");
        old.headers = [(headers::BACKFILL, "1")].into_iter().collect();
        assert!(event(PLACE, &old).is_ok());
    }
}
