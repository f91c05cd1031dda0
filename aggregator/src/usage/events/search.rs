//! The search: keys of what is looked for, a page of them.

use std::sync::OnceLock;

use chrono::{TimeDelta, Utc};
use clickhouse::Row;
use rentroll_schemas::meter::Meter;
use rentroll_schemas::window::FUTURE;
use serde::Deserialize;

use super::cursor::Key;
use super::page::{self, EVENT_COLUMNS, Located, Reader};
use super::verdict::{self, Judges, STORED};
use super::{EVENTS_MAX, EventPage, EventQuery, Order, Verdict};
use crate::usage::ask::{Ask, Params};
use crate::usage::raw::in_span_micros;
use crate::usage::scope::Table;
use crate::usage::{Scoped, UsageError, plan};

/// How far from where a search begins it looks at first, and next, in seconds: the newest events of a tenant are found without a look
/// at all its others.
const LOOKS: [i64; 2] = [86_400, 40 * 86_400];
const SECOND: i64 = 1_000_000;

/// The places of the tables in a key.
pub(super) const EVENTS: u8 = 0;
pub(super) const REJECTS: u8 = 1;
pub(super) const CONFLICTS: u8 = 2;
/// What a tenant may have besides, and hardly any has.
const CORRECTIONS: u8 = 3;

#[derive(Row, Deserialize)]
struct KeyRow {
    /// Which table it is of.
    of: u8,
    moment: i64,
    identity_hex: String,
    arrived: i64,
    log_partition: u16,
    log_batch: u64,
    tenant: String,
}

impl Scoped {
    /// Looks for events.
    ///
    /// # Errors
    /// As [`Scoped::query`].
    pub async fn events(&self, query: &EventQuery) -> Result<EventPage, UsageError> {
        let ask = self.ask("name a tenant, or ask for a shorter span with `from` and `to`");
        let search = Search::new(&ask, query, &self.usage.meters.now())?;
        let reader = Reader {
            ask: &ask,
            storings: &self.usage.storings,
            visible: &search.visible,
            judges: &search.judges,
        };
        let mut after = search.after.clone();
        let mut events = Vec::new();
        loop {
            let missing = query.limit - events.len();
            let mut keys = search.keys(after.as_ref(), missing + 1).await?;
            let is_last = keys.len() <= missing;
            keys.truncate(missing);
            after = keys.last().map(|located| located.key.clone()).or(after);
            let corrections = search.has_corrections.get().copied();
            events.extend(reader.read(corrections, &keys).await?);
            // Only a look at the whole event tells a copy from what it is one of.
            events.retain(|event: &super::FoundEvent| search.wanted.contains(&event.verdict));
            if is_last {
                return Ok(EventPage { events, next: None });
            }
            if events.len() == query.limit {
                return Ok(EventPage { events, next: after.map(|key| key.to_string()) });
            }
        }
    }
}

/// What has this time or a later one, in microseconds, arrived then or later.
fn earliest_arrival_ms(from: i64) -> i64 {
    from / 1_000 - FUTURE.num_milliseconds()
}

/// Where rejects are, or conflicts, and when they arrived.
fn not_stored_in(kind: u8) -> (Table, &'static str) {
    match kind {
        REJECTS => (Table::Rejects, "rejected_at"),
        _ => (Table::Conflicts, "arrived_at"),
    }
}

/// The place of a key among those of its moment.
fn place(key: &Key, params: &mut Params) -> String {
    format!(
        "({}, {}, {}, {}, toUInt64({}))",
        key.kind,
        params.text(&key.identity),
        params.number(key.arrived),
        key.partition,
        key.batch
    )
}

/// What is looked for, checked.
struct Search<'a> {
    ask: &'a Ask<'a>,
    query: &'a EventQuery,
    /// The meters that may be seen.
    visible: Judges,
    /// Those that verdicts are made by: the one that is asked for, or all.
    judges: Judges,
    wanted: Vec<Verdict>,
    after: Option<Key>,
    /// Whether the tenant that is named has corrections, once that was looked for.
    has_corrections: OnceLock<bool>,
}

impl<'a> Search<'a> {
    fn new(
        ask: &'a Ask<'a>,
        query: &'a EventQuery,
        meters: &rentroll_schemas::meter::Meters,
    ) -> Result<Self, UsageError> {
        if !(1..=EVENTS_MAX).contains(&query.limit) {
            return Err(UsageError::parameter("limit", query.limit, format!("1 to {EVENTS_MAX}")));
        }
        if let (Some(from), Some(to)) = (query.from, query.to)
            && from >= to
        {
            let allowed = format!("after `from`, {}", from.to_rfc3339());
            return Err(UsageError::parameter("to", to.to_rfc3339(), allowed));
        }
        let after = match &query.cursor {
            None => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|()| UsageError::parameter("cursor", text, "what a page gave as its `next`"))?,
            ),
        };
        let shown = |meter: &&Meter| ask.scope().shows_meter(&meter.name);
        let visible = Judges(meters.meters.iter().filter(shown).cloned().collect());
        let judges = match &query.meter {
            None => visible.clone(),
            Some(name) => {
                plan::find(ask.scope(), meters, name)?;
                Judges(meters.versions(name).cloned().collect())
            }
        };
        let all = STORED.into_iter().chain([Verdict::Rejected, Verdict::Conflict]);
        let wanted = all.filter(|verdict| query.verdicts.is_empty() || query.verdicts.contains(verdict));
        let wanted = wanted.collect();
        Ok(Search { ask, query, visible, judges, wanted, after, has_corrections: OnceLock::new() })
    }

    fn is_newest_first(&self) -> bool {
        self.query.order == Order::NewestFirst
    }

    /// Whether only events that some meters match are looked for: what was refused was not looked at by any.
    fn is_of_meters(&self) -> bool {
        self.query.meter.is_some() || !self.ask.scope().shows_all_meters()
    }

    /// The next keys, in order.
    async fn keys(&self, after: Option<&Key>, limit: usize) -> Result<Vec<Located>, UsageError> {
        let mut keys = Vec::new();
        for (from, to) in self.looks(after) {
            let missing = limit - keys.len();
            let (mut found, not_stored) = tokio::try_join!(
                self.stored(after, from, to, missing),
                self.not_stored(after, from, to, missing),
            )?;
            found.extend(not_stored);
            found.sort_by(|one, other| match self.is_newest_first() {
                true => other.key.cmp(&one.key),
                false => one.key.cmp(&other.key),
            });
            keys.extend(found.into_iter().take(missing));
            if keys.len() == limit {
                break;
            }
        }
        Ok(keys)
    }

    /// The stretches that are looked at one after another, in microseconds.
    fn looks(&self, after: Option<&Key>) -> Vec<(i64, i64)> {
        let micros = |time: chrono::DateTime<Utc>| time.timestamp_micros();
        let mut from = self.query.from.map_or(0, micros);
        // Nothing that is stored is of a later time.
        let latest = Utc::now() + FUTURE + TimeDelta::days(1);
        let mut to = self.query.to.map_or(i64::MAX, micros).min(micros(latest));
        // What is after a key may still have its time.
        match (after, self.is_newest_first()) {
            (Some(key), true) => to = to.min(key.moment + 1),
            (Some(key), false) => from = from.max(key.moment),
            (None, _) => {}
        }
        let mut looks = Vec::new();
        // Of one id there are few, wherever they are.
        for look in LOOKS.into_iter().filter(|_| self.query.id.is_none()) {
            if from >= to {
                return looks;
            }
            let look = look * SECOND;
            if self.is_newest_first() {
                let begins = from.max(to - look);
                looks.push((begins, to));
                to = begins;
            } else {
                let ends = to.min(from.saturating_add(look));
                looks.push((from, ends));
                from = ends;
            }
        }
        if from < to {
            looks.push((from, to));
        }
        looks
    }

    /// Conditions that all tables have columns for.
    fn common(&self, kind: &str, id: &str, params: &mut Params) -> Vec<String> {
        let query = self.query;
        let mut conditions = Vec::new();
        for (column, value) in [("tenant", &query.tenant), ("source", &query.source), (kind, &query.kind)] {
            if let Some(value) = value {
                conditions.push(format!("{column} = {}", params.text(value)));
            }
        }
        if let Some(value) = query.id.as_ref().filter(|_| !id.is_empty()) {
            conditions.push(format!("{id} = {}", params.text(value)));
        }
        conditions
    }

    /// A query of keys, in order.
    fn ordered(
        &self,
        kind: u8,
        after: Option<&Key>,
        limit: usize,
        columns: &str,
        from: &str,
        params: &mut Params,
    ) -> String {
        let order = "moment, identity_hex, arrived, log_partition, log_batch";
        let (sign, direction) = if self.is_newest_first() { ("<", "DESC") } else { (">", "ASC") };
        let after = match after {
            None => "1".to_owned(),
            Some(key) => format!(
                "(moment, ({kind}, identity_hex, arrived, log_partition, log_batch)) {sign} ({}, {})",
                params.number(key.moment),
                place(key, params)
            ),
        };
        let ordered: Vec<String> = order.split(", ").map(|column| format!("{column} {direction}")).collect();
        format!(
            "SELECT * FROM (SELECT toUInt8({kind}) AS of, {columns} FROM {from}) WHERE {after} ORDER BY {} LIMIT {limit}",
            ordered.join(", ")
        )
    }

    async fn fetch(&self, sql: &str, params: &Params) -> Result<Vec<Located>, UsageError> {
        let rows: Vec<KeyRow> = self.ask.fetch(sql, params).await?;
        let located = |row: KeyRow| Located {
            key: Key {
                moment: row.moment,
                kind: row.of,
                identity: row.identity_hex,
                arrived: row.arrived,
                partition: row.log_partition,
                batch: row.log_batch,
            },
            tenant: row.tenant,
            stored: None,
        };
        Ok(rows.into_iter().map(located).collect())
    }

    async fn stored(
        &self,
        after: Option<&Key>,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<Located>, UsageError> {
        if !self.wanted.iter().any(|verdict| STORED.contains(verdict)) {
            return Ok(Vec::new());
        }
        let mut params = Params::default();
        let mut conditions = self.common("type", "", &mut params);
        if let Some(id) = &self.query.id {
            let id = params.text(id);
            // An id that is a UUID is kept as one.
            conditions.push(format!(
                "(id_text = {id} OR (id_text = '' AND id_uuid = toUUIDOrZero({id}) AND toString(id_uuid) = {id}))"
            ));
        }
        conditions.push(in_span_micros(from, to, &mut params));
        if self.is_of_meters() {
            conditions.push(self.judges.match_sql());
        }
        let tenants = match &self.query.tenant {
            None => "1".to_owned(),
            Some(tenant) => format!("tenant = {}", params.text(tenant)),
        };
        let base = conditions.join(" AND ");
        conditions.extend(verdict::sql(self.ask, &self.wanted, &self.judges, &tenants, &base));
        let table = self.ask.scope().table(Table::Events);
        let all = conditions.join(" AND ");
        conditions.extend(self.after_time(after, &mut params));
        let further = conditions.join(" AND ");
        // Times alone are read first, and then whatever has one of those: copies of an event are told from it by the rows
        // of its time, of which some may have been on the page before, and some may be on the next.
        let (bound, sign, direction) =
            if self.is_newest_first() { ("min", ">=", "DESC") } else { ("max", "<=", "ASC") };
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM {table} WHERE {all} AND time {sign} (SELECT {bound}(time) FROM (\
             SELECT time FROM {table} WHERE {further} ORDER BY time {direction} LIMIT {limit}))"
        );
        let mut found = page::located(self.ask.fetch(&sql, &params).await?);
        found.retain(|located| match after {
            None => true,
            Some(after) if self.is_newest_first() => located.key < *after,
            Some(after) => located.key > *after,
        });
        Ok(found)
    }

    /// The condition that a row of `events` is after a key: only of those of its time more is looked at.
    fn after_time(&self, after: Option<&Key>, params: &mut Params) -> Option<String> {
        let key = after?;
        let sign = if self.is_newest_first() { "<" } else { ">" };
        let time = format!("fromUnixTimestamp64Micro({})", params.number(key.moment));
        Some(format!(
            "(time {sign} {time} OR (time = {time} AND \
             ({EVENTS}, lower(hex(identity)), toUnixTimestamp64Milli(arrived_at), log_partition, log_batch) {sign} {}))",
            place(key, params)
        ))
    }

    /// Rejects and conflicts: few, and both at once, as a statement by itself takes longer than they do.
    async fn not_stored(
        &self,
        after: Option<&Key>,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<Located>, UsageError> {
        let mut kinds = Vec::new();
        for (verdict, kind) in [(Verdict::Rejected, REJECTS), (Verdict::Conflict, CONFLICTS)] {
            if self.wanted.contains(&verdict) && !self.is_of_meters() {
                kinds.push(kind);
            }
        }
        if let Some(tenant) = &self.query.tenant {
            kinds = self.had_by(tenant, kinds, from).await?;
        }
        let mut params = Params::default();
        let each: Vec<String> = kinds
            .into_iter()
            .map(|kind| {
                format!("SELECT * FROM ({})", self.not_stored_sql(kind, after, from, to, limit, &mut params))
            })
            .collect();
        match each.is_empty() {
            true => Ok(Vec::new()),
            false => self.fetch(&each.join(" UNION ALL "), &params).await,
        }
    }

    /// Of rejects and conflicts those that the tenant has since `from`; the first look is for corrections too. Short looks in one
    /// statement, for three statements that hardly ever find something.
    async fn had_by(&self, tenant: &str, kinds: Vec<u8>, from: i64) -> Result<Vec<u8>, UsageError> {
        let mut params = Params::of(true);
        let (tenant, from_ms) = (params.text(tenant), params.number(earliest_arrival_ms(from)));
        let corrections = self.has_corrections.get().is_none().then_some(CORRECTIONS);
        let look = |kind: u8| {
            let (table, condition) = match kind {
                CORRECTIONS => (Table::Events, "correction != 'none'".to_owned()),
                _ => {
                    let (table, arrival) = not_stored_in(kind);
                    (table, format!("{arrival} >= fromUnixTimestamp64Milli({from_ms})"))
                }
            };
            let table = self.ask.scope().table(table);
            format!("SELECT toUInt8({kind}) FROM {table} WHERE tenant = {tenant} AND {condition} LIMIT 1")
        };
        let looks: Vec<String> = kinds.into_iter().chain(corrections).map(look).collect();
        if looks.is_empty() {
            return Ok(Vec::new());
        }
        let mut found: Vec<u8> = self.ask.fetch(&looks.join(" UNION ALL "), &params).await?;
        // The first look decides.
        let _ = self.has_corrections.set(found.contains(&CORRECTIONS));
        found.retain(|kind| *kind != CORRECTIONS);
        Ok(found)
    }

    /// A query of the keys of rejects, whose moment is their arrival, or of conflicts.
    fn not_stored_sql(
        &self,
        kind: u8,
        after: Option<&Key>,
        from: i64,
        to: i64,
        limit: usize,
        params: &mut Params,
    ) -> String {
        let (table, arrival) = not_stored_in(kind);
        let (type_of, id_of) = match kind {
            REJECTS => ("JSONExtractString(bytes, 'type')", "JSONExtractString(bytes, 'id')"),
            _ => ("JSONExtractString(event, 'type')", "id"),
        };
        let moment = match kind {
            REJECTS => "toUnixTimestamp64Milli(rejected_at) * 1000",
            _ => {
                "toUnixTimestamp64Micro(parseDateTime64BestEffortOrZero(JSONExtractString(event, 'time'), 6, 'UTC'))"
            }
        };
        let mut conditions = self.common(type_of, id_of, params);
        let (from_ms, from, to) =
            (params.number(earliest_arrival_ms(from)), params.number(from), params.number(to));
        conditions.push(format!(
            "{arrival} >= fromUnixTimestamp64Milli({from_ms}) AND {moment} >= {from} AND {moment} < {to}"
        ));
        let rows = format!("{} WHERE {}", self.ask.scope().table(table), conditions.join(" AND "));
        let columns = format!(
            "{moment} AS moment, lower(hex(identity)) AS identity_hex, toUnixTimestamp64Milli({arrival}) AS arrived, \
             log_partition, log_batch, tenant"
        );
        self.ordered(kind, after, limit, &columns, &rows, params)
    }
}
