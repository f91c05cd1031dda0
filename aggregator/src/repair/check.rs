//! Proves the rollups of a span, and puts right what differs. The parent module says why it is exact.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Months, TimeDelta, Utc};
use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::retention::EVENTS_KEPT_MONTHS;
use serde::Deserialize;

use super::{Cell, Difference, RepairError, Table, apply, sql};
use crate::books::UNFINISHED;

/// Readings of one table before the span is put off as being written.
const READINGS_MAX: usize = 5;
/// Between two readings: about as long as a batch takes to be finished.
const READING_WAIT: Duration = Duration::from_millis(300);
/// Repairs of one table before the check gives up. One is enough but for a deletion that took a batch's row.
const REPAIRS_MAX: usize = 5;
/// Memory for the sort that finds copies, before it goes to disk.
const SORT_BYTES_MAX: &str = "400000000";

/// What a check is to do.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// The store.
    pub store: &'a Store,
    /// What usage is made by.
    pub meters: &'a Meters,
    /// Put right what differs.
    pub repairs: bool,
    /// Why it is checked: a word for `rollup_checks` and `repairs`.
    pub why: &'a str,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was read to the end; these cells differed, and were put right if that was asked for.
    Settled(Vec<Difference>),
    /// Batches of the span are being written, or were never finished: check again later.
    InMotion,
    /// Events of the span may be past their retention: there is nothing to hold the rollups against.
    Expired,
}

/// A span of usage time, half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First second.
    pub from: DateTime<Utc>,
    /// First second after it.
    pub to: DateTime<Utc>,
}

impl Span {
    /// The hour that begins at `from`.
    pub fn hour(from: DateTime<Utc>) -> Self {
        Span { from, to: from + TimeDelta::hours(1) }
    }

    /// The hour that `moment` lies in.
    pub fn hour_of(moment: DateTime<Utc>) -> Self {
        Span::hour(super::dirty::hour_of(moment))
    }

    /// The day that `moment` lies in.
    pub fn day_of(moment: DateTime<Utc>) -> Self {
        let from = moment - TimeDelta::seconds(moment.timestamp().rem_euclid(86_400));
        Span { from, to: from + TimeDelta::days(1) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Row, Deserialize)]
struct Batch {
    topic: String,
    partition: u16,
    first: u64,
    rows: u64,
}

#[derive(Row, Deserialize)]
struct DifferenceRow {
    meter: String,
    tenant: String,
    #[serde(with = "clickhouse::serde::chrono::datetime")]
    bucket: DateTime<Utc>,
    dimensions: String,
    found_events: i64,
    found_total: String,
    found_least: String,
    found_greatest: String,
    expected_events: i64,
    expected_total: String,
    expected_least: String,
    expected_greatest: String,
    exists: bool,
    replaces: bool,
}

impl Proof<'_> {
    /// Checks minutes and hours of `span`, whole hours.
    ///
    /// # Errors
    /// The store's. What was put right before stays right.
    pub async fn hours(&self, span: Span) -> Result<Outcome, RepairError> {
        self.tables(&[Table::Minute, Table::Hour], span).await
    }

    /// Checks the days of `span`, whole days, against their hours.
    ///
    /// # Errors
    /// The store's.
    pub async fn days(&self, span: Span) -> Result<Outcome, RepairError> {
        self.tables(&[Table::Day], span).await
    }

    async fn tables(&self, tables: &[Table], span: Span) -> Result<Outcome, RepairError> {
        if !self.is_kept(span).await? {
            return Ok(Outcome::Expired);
        }
        let mut all = Vec::new();
        for table in tables {
            for repairs in 0.. {
                let salts = apply::salts(self.store, *table, span).await?;
                let Some(differences) = self.differences(*table, span).await? else {
                    return Ok(Outcome::InMotion);
                };
                if differences.is_empty() {
                    break;
                }
                let is_first = repairs == 0;
                if is_first {
                    all.extend(differences.iter().cloned());
                }
                if !self.repairs || repairs == REPAIRS_MAX {
                    break;
                }
                apply::apply(self, *table, &differences, &salts).await?;
            }
        }
        if self.repairs {
            apply::note_check(self, span, all.len() as u64).await?;
        }
        Ok(Outcome::Settled(all))
    }

    /// `None` if batches of the span are being written.
    async fn differences(&self, table: Table, span: Span) -> Result<Option<Vec<Difference>>, RepairError> {
        for reading in 0..READINGS_MAX {
            if reading > 0 {
                tokio::time::sleep(READING_WAIT).await;
            }
            let before = self.batches(span).await?;
            if !self.all_done(&before).await? {
                continue;
            }
            let copies = table == Table::Minute && self.copies(span).await? > 0;
            let differences = self.read(table, span, copies).await?;
            if self.batches(span).await? == before {
                return Ok(Some(differences));
            }
        }
        Ok(None)
    }

    fn bind(&self, sql: &str, span: Span) -> clickhouse::query::Query {
        // Raw: a `?` in a meter's filter is a question mark.
        let query = self.store.client().query_raw(sql);
        query.param("from", span.from.timestamp()).param("to", span.to.timestamp())
    }

    fn failed(&self, error: clickhouse::error::Error) -> RepairError {
        self.store.error(error).into()
    }

    async fn batches(&self, span: Span) -> Result<BTreeSet<Batch>, RepairError> {
        let query = self.bind(&sql::batches(), span);
        let rows: Vec<Batch> = query.fetch_all().await.map_err(|error| self.failed(error))?;
        Ok(rows.into_iter().collect())
    }

    /// Whether all of `batches` are written down as done. Asked after they were seen: a batch is planned before its
    /// first row.
    async fn all_done(&self, batches: &BTreeSet<Batch>) -> Result<bool, RepairError> {
        let sql = format!("SELECT toString(topic) AS topic, partition, first FROM ({UNFINISHED})");
        let query = self.store.client().query(&sql);
        let unfinished: Vec<(String, u16, u64)> =
            query.fetch_all().await.map_err(|error| self.failed(error))?;
        let unfinished: BTreeSet<(String, u16, u64)> = unfinished.into_iter().collect();
        let is_done =
            |batch: &Batch| !unfinished.contains(&(batch.topic.clone(), batch.partition, batch.first));
        Ok(unfinished.is_empty() || batches.iter().all(is_done))
    }

    /// Whether the span has more events than `limit`: so many does a check of it read. Not all of them are counted.
    ///
    /// # Errors
    /// The store's.
    pub async fn has_more_events(&self, span: Span, limit: u64) -> Result<bool, RepairError> {
        let query = self.bind(&sql::events(), span).param("limit", limit + 1);
        let counted: u64 = query.fetch_one().await.map_err(|error| self.failed(error))?;
        Ok(counted > limit)
    }

    async fn copies(&self, span: Span) -> Result<u64, RepairError> {
        self.bind(&sql::copies(), span).fetch_one().await.map_err(|error| self.failed(error))
    }

    async fn read(&self, table: Table, span: Span, copies: bool) -> Result<Vec<Difference>, RepairError> {
        let query = self
            .bind(&sql::differences(table, self.meters, copies), span)
            .with_setting("max_bytes_before_external_sort", SORT_BYTES_MAX)
            .with_setting("max_query_size", "4194304")
            .param("meters", sql::names(self.meters))
            .param("extremes", sql::extremes(self.meters));
        let rows: Vec<DifferenceRow> = query.fetch_all().await.map_err(|error| self.failed(error))?;
        rows.into_iter().map(|row| difference(table, row)).collect()
    }

    /// Whether no event of the span can be past its retention: it arrived at most some minutes before its time, and
    /// nothing at all arrived before the first batch.
    async fn is_kept(&self, span: Span) -> Result<bool, RepairError> {
        // A day of margin: the store deletes when it merges, and months are not equally long.
        let since = Utc::now() - Months::new(EVENTS_KEPT_MONTHS) + TimeDelta::days(1);
        if span.from - rentroll_schemas::window::FUTURE >= since {
            return Ok(true);
        }
        let sql = "SELECT toUnixTimestamp64Milli(min(arrived_at)) FROM events";
        let first_row: i64 =
            self.store.client().query(sql).fetch_one().await.map_err(|error| self.failed(error))?;
        let sql = "SELECT toUnixTimestamp64Milli(min(written_at)), count() FROM batches";
        let (first_batch, batches): (i64, u64) =
            self.store.client().query(sql).fetch_one().await.map_err(|error| self.failed(error))?;
        // Without batches the rows are not the aggregator's, and none was ever deleted.
        let first = if batches == 0 { first_row } else { first_batch };
        Ok(first >= since.timestamp_millis())
    }
}

fn difference(table: Table, row: DifferenceRow) -> Result<Difference, RepairError> {
    let DifferenceRow { meter, tenant, bucket, dimensions, exists, replaces, .. } = row;
    let quantity = |text: &str| -> Result<Quantity, RepairError> {
        text.parse().map_err(|error| RepairError::Value {
            table: table.name(),
            meter: meter.clone(),
            tenant: tenant.clone(),
            value: text.to_owned(),
            reason: format!("{error}"),
        })
    };
    let found = Cell {
        events: row.found_events,
        total: quantity(&row.found_total)?,
        least: quantity(&row.found_least)?,
        greatest: quantity(&row.found_greatest)?,
    };
    let expected = Cell {
        events: row.expected_events,
        total: quantity(&row.expected_total)?,
        least: quantity(&row.expected_least)?,
        greatest: quantity(&row.expected_greatest)?,
    };
    Ok(Difference { table, meter, tenant, bucket, dimensions, found, expected, exists, replaces })
}
