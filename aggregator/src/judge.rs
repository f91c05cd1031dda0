//! What becomes of a record, apart from whether it was there before. Pure.

use chrono::{DateTime, Utc};
use rentroll_engines::log::Record;
use rentroll_schemas::reject::{Reject, reason};
use rentroll_schemas::topics::{COMPACT_BATCH, Topic, headers};
use rentroll_schemas::{Event, Identity, compact, window};

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

/// What becomes of each event that a record of a usage topic carries, in order: the event with its identity, or
/// the reject that it becomes. `partitions` is how many the topic has.
///
/// A record that cannot be read is one reject; in a batch, each event is judged by itself.
pub fn events(
    place: LogPlace,
    record: &Record,
    partitions: u32,
    mut tell: impl FnMut(Result<(Event<'_>, Identity), Box<Reject>>),
) {
    if !is_batch(record) {
        return tell(event(place, record, partitions).map(|event| (event, record.key)));
    }
    let decoded = match compact::decode(&record.value) {
        Ok(decoded) => decoded,
        Err(error) => {
            let refusal = Refusal { reason: reason::UNREADABLE, field: error.field, detail: error.reason };
            return tell(Err(refuse(
                place.to_string(),
                record,
                place.topic.name(),
                refusal,
                record.value.to_vec(),
            )));
        }
    };
    for (index, event) in decoded.events().enumerate() {
        let identity = event.identity();
        let verdict = at_home(place, &identity, partitions).and_then(|()| in_window(&event, record));
        tell(match verdict {
            Ok(()) => Ok((event, identity)),
            Err(refusal) => {
                let place = format!("{place}/{index}");
                let mut reject = refuse(place, record, &event.source, refusal, event.to_json());
                reject.tenant = event.tenant.to_string();
                Err(reject)
            }
        });
    }
}

/// Whether the record carries many events.
pub fn is_batch(record: &Record) -> bool {
    // An event's JSON begins with a brace, mostly: the headers of each of a million need not be searched.
    record.value.first() != Some(&b'{') && record.header(headers::CONTENT_TYPE) == Some(COMPACT_BATCH)
}

/// Whether the record's source had declared a backfill.
fn is_backfill(record: &Record) -> bool {
    record.header(headers::BACKFILL) == Some("1")
}

struct Refusal {
    reason: &'static str,
    field: String,
    detail: String,
}

fn refuse(place: String, record: &Record, source: &str, refusal: Refusal, bytes: Vec<u8>) -> Box<Reject> {
    Box::new(Reject {
        source: source.to_owned(),
        place,
        tenant: record.header(headers::TENANT).unwrap_or_default().to_owned(),
        reason: refusal.reason.to_owned(),
        field: refusal.field,
        detail: refusal.detail,
        rejected_at: arrival(record),
        backfill: is_backfill(record),
        bytes,
    })
}

/// Whether the event is where its resend would be: another partition's worker does not know of it.
fn at_home(place: LogPlace, identity: &Identity, partitions: u32) -> Result<(), Refusal> {
    let home = identity.partition(partitions);
    match home == place.partition {
        true => Ok(()),
        false => Err(Refusal {
            reason: reason::IDENTITY_MISMATCH,
            field: "key".to_owned(),
            detail: format!("an event of partition {home}"),
        }),
    }
}

fn in_window(event: &Event<'_>, record: &Record) -> Result<(), Refusal> {
    let arrived_at = first_arrival(record);
    // Few events are outside of it: for the others the header need not be looked for.
    if window::check(event.time, arrived_at, false).is_ok() {
        return Ok(());
    }
    window::check(event.time, arrived_at, is_backfill(record)).map_err(|(reason, detail)| Refusal {
        reason,
        field: "time".to_owned(),
        detail,
    })
}

/// When what the record carries arrived first: what is replayed says so, and is as late as it was then.
fn first_arrival(record: &Record) -> DateTime<Utc> {
    let replayed = record.header(headers::ORIGINAL_ARRIVAL).and_then(|text| text.parse().ok());
    let first = replayed.and_then(DateTime::from_timestamp_millis);
    first.map_or(arrival(record), |first| first.min(arrival(record)))
}

/// The event that a record carries alone.
fn event<'a>(place: LogPlace, record: &'a Record, partitions: u32) -> Result<Event<'a>, Box<Reject>> {
    let refuse = |source: &str, reason: &'static str, field: &str, detail: String| {
        let refusal = Refusal { reason, field: field.to_owned(), detail };
        refuse(place.to_string(), record, source, refusal, record.value.to_vec())
    };
    let event = Event::from_json(&record.value).map_err(|error| {
        let word = if error.field == "body" { reason::UNREADABLE } else { reason::INVALID };
        refuse(place.topic.name(), word, &error.field, error.reason)
    })?;
    let identity = event.identity();
    if identity != record.key {
        let detail = format!("the record's key is {}, the event's identity {identity}", record.key);
        return Err(refuse(&event.source, reason::IDENTITY_MISMATCH, "key", detail));
    }
    if let Some(tenant) = record.header(headers::TENANT)
        && tenant != event.tenant
    {
        let detail = format!("`{}` is not the tenant `{tenant}` that sent it", event.tenant);
        return Err(refuse(&event.source, reason::INVALID, "subject", detail));
    }
    match at_home(place, &identity, partitions).and_then(|()| in_window(&event, record)) {
        Ok(()) => Ok(event),
        Err(Refusal { reason, field, detail }) => Err(refuse(&event.source, reason, &field, detail)),
    }
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
        backfill: false,
        bytes: record.value.to_vec(),
    })
}

/// When the record arrived.
fn arrival(record: &Record) -> DateTime<Utc> {
    moment(record.arrived_at_ms)
}

/// A moment of arrival. A time that no clock can show is taken as the epoch: the record is then judged as arriving
/// long before its event, and rejected rather than lost.
pub fn moment(arrived_at_ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(arrived_at_ms).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: LogPlace = LogPlace { topic: Topic::Usage, partition: 0, position: 7 };

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
        assert!(event(PLACE, &good, 1).is_ok());
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
            let reject = event(PLACE, &record, 1).unwrap_err();
            assert_eq!((reject.reason.as_str(), reject.field.as_str()), (word, field));
            assert_eq!(reject.place, "usage/0/7");
            assert_eq!(reject.bytes, record.value);
        }
    }

    /// Others' producers partition by a hash of their own: there a resend by a collector would not be recognised.
    #[test]
    fn an_event_in_another_partition_than_its_own_is_refused() {
        let record = record("acme", "2023-11-14T22:00:00Z");
        let home = record.key.partition(12);
        for partition in 0..12 {
            let verdict = event(LogPlace { partition, ..PLACE }, &record, 12);
            assert_eq!(verdict.is_ok(), partition == home, "{partition}");
            if let Err(reject) = verdict {
                assert_eq!(
                    (reject.reason.as_str(), reject.field.as_str()),
                    (reason::IDENTITY_MISMATCH, "key")
                );
                assert_eq!(reject.detail, format!("an event of partition {home}"));
            }
        }
    }

    #[test]
    fn a_declared_backfill_may_be_old() {
        let mut old = record("acme", "2015-05-17T10:05:03Z");
        old.headers = [(headers::BACKFILL, "1")].into_iter().collect();
        assert!(event(PLACE, &old, 1).is_ok());
        // Refused for something else it is one still, for a replay to know.
        old.key = Identity::of("other", "s", "1");
        assert!(event(PLACE, &old, 1).unwrap_err().backfill);
    }

    #[test]
    fn each_event_of_a_batch_is_judged_by_itself() {
        let arrived_at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let event = |id: &'static str, days_old: i64| Event {
            id: id.into(),
            source: "s".into(),
            kind: "t".into(),
            tenant: "acme".into(),
            time: arrived_at - chrono::Duration::days(days_old),
            measures: vec![],
            dimensions: vec![],
            correction: None,
        };
        let given = [event("1", 0), event("2", 40), event("3", 1)];
        let partition = given[0].identity().partition(1);
        let mut record = record("acme", "2023-11-14T22:00:00Z");
        record.headers = [(headers::CONTENT_TYPE, COMPACT_BATCH)].into_iter().collect();
        record.value = compact::encode(given.iter()).into();
        let place = LogPlace { partition, ..PLACE };
        let judge = |record: &Record, partitions| {
            let mut verdicts = Vec::new();
            events(place, record, partitions, |verdict| {
                verdicts.push(
                    verdict
                        .map(|(event, _)| event.id.to_string())
                        .map_err(|reject| (reject.place, reject.reason)),
                );
            });
            verdicts
        };
        let old = Err(("usage/0/7/1".to_owned(), reason::TOO_OLD.to_owned()));
        assert_eq!(judge(&record, 1), [Ok("1".to_owned()), old, Ok("3".to_owned())]);
        let foreign = judge(&record, 1_000_000);
        assert!(
            foreign
                .iter()
                .any(|verdict| matches!(verdict, Err((_, word)) if word == reason::IDENTITY_MISMATCH))
        );
        record.value = record.value.slice(..10);
        assert_eq!(judge(&record, 1), [Err(("usage/0/7".to_owned(), reason::UNREADABLE.to_owned()))]);
    }
}
