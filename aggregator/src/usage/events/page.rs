//! The events of a page, whole, with what became of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use clickhouse::Row;
use rentroll_schemas::{Event, Quantity};
use serde::Deserialize;

use super::cursor::Key;
use super::search::{CONFLICTS, EVENTS, REJECTS};
use super::storing::Storings;
use super::verdict::Judges;
use super::{CorrectedBy, FoundEvent, LogPlace, Verdict};
use crate::usage::UsageError;
use crate::usage::ask::{Ask, Params};
use crate::usage::scope::Table;

/// What a search found.
pub(super) struct Located {
    pub(super) key: Key,
    pub(super) tenant: String,
    /// Of a stored event its row: they are found with it.
    pub(super) stored: Option<StoredRow>,
}

/// A row of `events`.
pub(super) struct StoredRow {
    row: EventRow,
    /// Of several rows of one identity the one that arrived first counts: as `effective` has it.
    is_first: bool,
}

/// The columns of an [`EventRow`].
pub(super) const EVENT_COLUMNS: &str = "lower(hex(identity)) AS identity_hex, tenant, type AS kind, source, id AS event_id, \
    toUnixTimestamp64Micro(time) AS moment, toUnixTimestamp64Milli(arrived_at) AS arrived, \
    toString(correction) AS correction_kind, toString(log_topic) AS topic, log_partition, log_batch, \
    measures AS numbers, dimensions AS texts";

#[derive(Row, Deserialize)]
pub(super) struct EventRow {
    identity_hex: String,
    tenant: String,
    kind: String,
    source: String,
    event_id: String,
    moment: i64,
    arrived: i64,
    /// `none`, `voids` or `amends`.
    correction_kind: String,
    topic: String,
    log_partition: u16,
    log_batch: u64,
    numbers: Vec<(String, i128)>,
    texts: Vec<(String, String)>,
}

#[derive(Row, Deserialize)]
struct RejectRow {
    identity_hex: String,
    tenant: String,
    source: String,
    place: String,
    reason: String,
    field: String,
    detail: String,
    arrived: i64,
    topic: String,
    log_partition: u16,
    log_batch: u64,
    kind: String,
    event_id: String,
    time: String,
}

#[derive(Row, Deserialize)]
struct ConflictRow {
    identity_hex: String,
    arrived: i64,
    event: String,
    topic: String,
    log_partition: u16,
    log_batch: u64,
}

/// Makes events of what was found.
pub(super) struct Reader<'a> {
    pub(super) ask: &'a Ask<'a>,
    /// When batches were stored.
    pub(super) storings: &'a Storings,
    pub(super) visible: &'a Judges,
    pub(super) judges: &'a Judges,
}

pub(super) fn millis(at: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at).unwrap_or_default()
}

impl Reader<'_> {
    /// The events of these keys, in their order. `corrections`: whether their tenants have any, where that is known.
    pub(super) async fn read(
        &self,
        corrections: Option<bool>,
        keys: &[Located],
    ) -> Result<Vec<FoundEvent>, UsageError> {
        let of =
            |kind: u8| -> Vec<&Located> { keys.iter().filter(|located| located.key.kind == kind).collect() };
        let (events, rejects, conflicts) = (of(EVENTS), of(REJECTS), of(CONFLICTS));
        let (events, rejects, conflicts) = tokio::try_join!(
            self.stored(&events, corrections),
            self.rejects(&rejects),
            self.conflicts(&conflicts)
        )?;
        let mut found: HashMap<Key, FoundEvent> =
            events.into_iter().chain(rejects).chain(conflicts).collect();
        let mut events: Vec<FoundEvent> =
            keys.iter().filter_map(|located| found.remove(&located.key)).collect();
        self.add_storing(&mut events).await?;
        Ok(events)
    }

    async fn stored(
        &self,
        located: &[&Located],
        corrections: Option<bool>,
    ) -> Result<Vec<(Key, FoundEvent)>, UsageError> {
        if located.is_empty() {
            return Ok(Vec::new());
        }
        // Hardly any tenant has corrections, and to follow which are in force takes as long as all else. One that came since
        // it was looked for may be among what was found.
        let is_correction = |row: &StoredRow| row.row.correction_kind != "none";
        let shows_one = || located.iter().filter_map(|located| located.stored.as_ref()).any(is_correction);
        let corrections = match corrections {
            Some(false) if !shows_one() => HashMap::new(),
            None if !shows_one() && !self.any_corrections(located).await? => HashMap::new(),
            _ => self.corrections(located).await?,
        };
        let found = |located: &&Located| {
            let StoredRow { row, is_first } = located.stored.as_ref()?;
            // Copies of an event are corrected by the same.
            let corrected_by = corrections.get(&located.key.identity).cloned().unwrap_or_default();
            Some((located.key.clone(), self.event(row, corrected_by, *is_first)))
        };
        Ok(located.iter().filter_map(found).collect())
    }

    fn event(&self, row: &EventRow, corrected_by: Vec<CorrectedBy>, is_first: bool) -> FoundEvent {
        let measures: BTreeMap<String, Quantity> =
            row.numbers.iter().map(|(name, nanos)| (name.clone(), Quantity::from_nanos(*nanos))).collect();
        let event = Event {
            id: row.event_id.as_str().into(),
            source: row.source.as_str().into(),
            kind: row.kind.as_str().into(),
            tenant: row.tenant.as_str().into(),
            time: DateTime::from_timestamp_micros(row.moment).unwrap_or_default(),
            measures: measures.iter().map(|(name, value)| (name.as_str().into(), *value)).collect(),
            dimensions: row
                .texts
                .iter()
                .map(|(name, text)| (name.as_str().into(), text.as_str().into()))
                .collect(),
            correction: None,
        };
        let is_void = row.correction_kind == "voids";
        let verdict = match corrected_by.first() {
            _ if !is_first => Verdict::Copy,
            _ if is_void => Verdict::Void,
            Some(_) if corrected_by.iter().any(|by| by.is_amendment) => Verdict::Amended,
            Some(_) => Verdict::Voided,
            None => self.judges.verdict(&event),
        };
        FoundEvent {
            id: row.event_id.clone(),
            source: row.source.clone(),
            kind: row.kind.clone(),
            tenant: row.tenant.clone(),
            time: Some(event.time),
            arrived_at: millis(row.arrived),
            stored_at: None,
            verdict,
            reason: String::new(),
            field: String::new(),
            detail: String::new(),
            place: String::new(),
            meters: if is_void { Vec::new() } else { self.visible.of(&event) },
            corrected_by,
            dimensions: row.texts.iter().cloned().collect(),
            measures,
            identity: row.identity_hex.clone(),
            log: LogPlace { topic: row.topic.clone(), partition: row.log_partition, batch: row.log_batch },
        }
    }

    /// Whether the tenants of these events have corrections.
    async fn any_corrections(&self, located: &[&Located]) -> Result<bool, UsageError> {
        let mut params = Params::default();
        let sql = format!(
            "SELECT toUInt8(1) FROM {} WHERE correction != 'none' AND tenant IN {} LIMIT 1",
            self.ask.scope().table(Table::Events),
            params.texts(&tenants_of(located)),
        );
        Ok(!self.ask.fetch::<u8>(&sql, &params).await?.is_empty())
    }

    /// The corrections in force that name these events, by identity.
    async fn corrections(
        &self,
        located: &[&Located],
    ) -> Result<HashMap<String, Vec<CorrectedBy>>, UsageError> {
        let mut params = Params::default();
        let tenants = params.texts(&tenants_of(located));
        let identities: Vec<String> = located.iter().map(|located| located.key.identity.clone()).collect();
        let in_force = self.ask.scope().corrections(
            "lower(hex(corrects)) AS original, toUInt8(correction = 'amends') AS is_amendment, id AS by_id",
            &format!("tenant IN {tenants}"),
        );
        let sql = format!(
            "SELECT original, by_id, is_amendment FROM ({in_force}) WHERE original IN {} ORDER BY original, by_id",
            params.texts(&identities)
        );
        let rows: Vec<(String, String, u8)> = self.ask.fetch(&sql, &params).await?;
        let mut corrections: HashMap<String, Vec<CorrectedBy>> = HashMap::new();
        for (original, id, is_amendment) in rows {
            let by = CorrectedBy { id, is_amendment: is_amendment != 0 };
            let of_original = corrections.entry(original).or_default();
            // A correction that is stored twice is one.
            if !of_original.contains(&by) {
                of_original.push(by);
            }
        }
        Ok(corrections)
    }

    async fn rejects(&self, located: &[&Located]) -> Result<Vec<(Key, FoundEvent)>, UsageError> {
        let Some((params, conditions)) = found_by_identity(located, "rejected_at") else {
            return Ok(Vec::new());
        };
        let sql = format!(
            "SELECT lower(hex(identity)) AS identity_hex, tenant, source, place, reason, field, detail, \
             toUnixTimestamp64Milli(rejected_at) AS arrived, toString(log_topic) AS topic, log_partition, log_batch, \
             JSONExtractString(bytes, 'type') AS kind, JSONExtractString(bytes, 'id') AS event_id, \
             JSONExtractString(bytes, 'time') AS time FROM {} WHERE {conditions}",
            self.ask.scope().table(Table::Rejects)
        );
        let rows: Vec<RejectRow> = self.ask.fetch(&sql, &params).await?;
        let found = |row: RejectRow| {
            let key = Key {
                moment: row.arrived * 1_000,
                kind: REJECTS,
                identity: row.identity_hex.clone(),
                arrived: row.arrived,
                partition: row.log_partition,
                batch: row.log_batch,
            };
            let event = FoundEvent {
                id: row.event_id,
                source: row.source,
                kind: row.kind,
                tenant: row.tenant,
                time: row.time.parse().ok(),
                arrived_at: millis(row.arrived),
                stored_at: None,
                verdict: Verdict::Rejected,
                reason: row.reason,
                field: row.field,
                detail: row.detail,
                place: row.place,
                meters: Vec::new(),
                corrected_by: Vec::new(),
                measures: BTreeMap::new(),
                dimensions: BTreeMap::new(),
                identity: row.identity_hex,
                log: LogPlace { topic: row.topic, partition: row.log_partition, batch: row.log_batch },
            };
            (key, event)
        };
        Ok(rows.into_iter().map(found).collect())
    }

    async fn conflicts(&self, located: &[&Located]) -> Result<Vec<(Key, FoundEvent)>, UsageError> {
        let Some((params, conditions)) = found_by_identity(located, "arrived_at") else {
            return Ok(Vec::new());
        };
        let sql = format!(
            "SELECT lower(hex(identity)) AS identity_hex, toUnixTimestamp64Milli(arrived_at) AS arrived, event, \
             toString(log_topic) AS topic, log_partition, log_batch FROM {} WHERE {conditions}",
            self.ask.scope().table(Table::Conflicts)
        );
        let rows: Vec<ConflictRow> = self.ask.fetch(&sql, &params).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            // It is as the aggregator wrote it.
            let Ok(event) = Event::from_json(row.event.as_bytes()) else { continue };
            let key = Key {
                moment: event.time.timestamp_micros(),
                kind: CONFLICTS,
                identity: row.identity_hex.clone(),
                arrived: row.arrived,
                partition: row.log_partition,
                batch: row.log_batch,
            };
            let event = FoundEvent {
                id: event.id.to_string(),
                source: event.source.to_string(),
                kind: event.kind.to_string(),
                tenant: event.tenant.to_string(),
                time: Some(event.time),
                arrived_at: millis(row.arrived),
                stored_at: None,
                verdict: Verdict::Conflict,
                reason: String::new(),
                field: String::new(),
                detail: String::new(),
                place: String::new(),
                meters: Vec::new(),
                corrected_by: Vec::new(),
                measures: event.measures.iter().map(|(name, value)| (name.to_string(), *value)).collect(),
                dimensions: event
                    .dimensions
                    .iter()
                    .map(|(name, text)| (name.to_string(), text.to_string()))
                    .collect(),
                identity: row.identity_hex,
                log: LogPlace { topic: row.topic, partition: row.log_partition, batch: row.log_batch },
            };
            found.push((key, event));
        }
        Ok(found)
    }

    /// Adds when batches were stored.
    async fn add_storing(&self, events: &mut [FoundEvent]) -> Result<(), UsageError> {
        let arrivals: Vec<(&LogPlace, DateTime<Utc>)> =
            events.iter().map(|event| (&event.log, event.arrived_at)).collect();
        let times = self.storings.of(self.ask, &arrivals).await?;
        for (event, stored_at) in events.iter_mut().zip(times) {
            event.stored_at = stored_at;
        }
        Ok(())
    }
}

/// Rows with their keys: of each time that is among them, all.
pub(super) fn located(rows: Vec<EventRow>) -> Vec<Located> {
    let keys: Vec<Key> = rows.iter().map(key).collect();
    let arrival = |key: &Key| (key.arrived, key.partition, key.batch);
    let mut first: HashMap<&str, _> = HashMap::new();
    for key in &keys {
        let held = first.entry(&key.identity).or_insert_with(|| arrival(key));
        *held = arrival(key).min(*held);
    }
    let is_first: Vec<bool> =
        keys.iter().map(|key| first.get(&*key.identity) == Some(&arrival(key))).collect();
    let each = rows.into_iter().zip(keys).zip(is_first);
    each.map(|((row, key), is_first)| Located {
        key,
        tenant: row.tenant.clone(),
        stored: Some(StoredRow { row, is_first }),
    })
    .collect()
}

fn key(row: &EventRow) -> Key {
    Key {
        moment: row.moment,
        kind: EVENTS,
        identity: row.identity_hex.clone(),
        arrived: row.arrived,
        partition: row.log_partition,
        batch: row.log_batch,
    }
}

/// The tenants, each once.
fn tenants_of(located: &[&Located]) -> Vec<String> {
    let tenants: BTreeSet<&String> = located.iter().map(|located| &located.tenant).collect();
    tenants.into_iter().cloned().collect()
}

/// The conditions that find rows by their identities and their arrivals.
fn found_by_identity(located: &[&Located], arrival: &str) -> Option<(Params, String)> {
    let first = located.iter().map(|located| located.key.arrived).min()?;
    let last = located.iter().map(|located| located.key.arrived).max()?;
    let mut params = Params::default();
    let identities: Vec<String> = located.iter().map(|located| located.key.identity.clone()).collect();
    let conditions = format!(
        "lower(hex(identity)) IN {} AND {arrival} >= fromUnixTimestamp64Milli({}) AND {arrival} <= fromUnixTimestamp64Milli({})",
        params.texts(&identities),
        params.number(first),
        params.number(last)
    );
    Some((params, conditions))
}
