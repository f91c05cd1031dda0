//! What the store itself can say about the pipeline.

use std::time::Instant;

use chrono::{TimeDelta, Utc};
use rentroll_schemas::meter::UNMATCHED;

use super::{ReadError, Reader, time_ms, time_s};
use crate::model::{CheckState, HealthCheck};
use crate::pages::health::SourceBooks;
use crate::pages::overview::Books;
use crate::text;

/// A batch takes seconds; one that has been planned for longer than this waits for somebody.
const PLANNED_MINUTES_MAX: i64 = 2;

impl Reader {
    /// The checks that need nothing but the store.
    pub async fn store_checks(&self, sources: &[SourceBooks]) -> Result<Vec<HealthCheck>, ReadError> {
        Ok(vec![
            self.store_answers().await?,
            self.batches_get_done().await?,
            books_balance(sources),
            self.all_metered().await?,
        ])
    }

    async fn store_answers(&self) -> Result<HealthCheck, ReadError> {
        let start = Instant::now();
        let version: String = self.query("SELECT version()").fetch_one().await?;
        let detail = format!("ClickHouse {version} answered in {} ms", start.elapsed().as_millis().max(1));
        Ok(check("Store", CheckState::Ok, detail, ""))
    }

    async fn batches_get_done(&self) -> Result<HealthCheck, ReadError> {
        let sql =
            "SELECT count(), toUnixTimestamp64Milli(min(written_at)) FROM batches FINAL WHERE state = 0";
        let (planned, oldest): (u64, i64) = self.query(sql).fetch_one().await?;
        if planned == 0 {
            let detail = match self.data_as_of().await? {
                Some(time) => format!("all done, the newest at {}", text::minute_utc(time)),
                None => "none yet".to_owned(),
            };
            return Ok(check("Batches", CheckState::Ok, detail, ""));
        }
        let oldest = time_ms(oldest)?;
        let batches = if planned == 1 {
            "1 batch is".to_owned()
        } else {
            format!("{} batches are", text::count(planned))
        };
        let detail = format!("{batches} planned and not done, the oldest since {}", text::minute_utc(oldest));
        Ok(match Utc::now() - oldest > TimeDelta::minutes(PLANNED_MINUTES_MAX) {
            true => check(
                "Batches",
                CheckState::Warn,
                detail,
                "The aggregator finishes it when it runs: is it running?",
            ),
            false => check("Batches", CheckState::Ok, detail, ""),
        })
    }

    async fn all_metered(&self) -> Result<HealthCheck, ReadError> {
        // What the rollups have of them goes with the meters in force; and nothing is read of the events themselves, of
        // which the parts know how many there are.
        let (unmatched, all): (i64, u64) = self
            .query(
                "SELECT assumeNotNull((SELECT sum(events) FROM usage_day WHERE meter = {unmatched:String})), \
                 assumeNotNull((SELECT count() FROM events))",
            )
            .param("unmatched", UNMATCHED)
            .fetch_one()
            .await?;
        let unmatched = u64::try_from(unmatched).unwrap_or_default();
        let detail =
            format!("{} of {} stored events match no meter", text::count(unmatched), text::count(all));
        Ok(match unmatched {
            0 => check("Meters", CheckState::Ok, detail, ""),
            _ => check(
                "Meters",
                CheckState::Warn,
                detail,
                "`rentroll meters` lists their types. Add a meter for them, or stop sending them.",
            ),
        })
    }

    /// The books by source, over all time.
    pub async fn source_books(&self) -> Result<Vec<SourceBooks>, ReadError> {
        let sql = "SELECT t.source, sum(t.accepted), sum(t.stored), sum(t.duplicate), sum(t.rejected), \
                   toUnixTimestamp(max(t.hour)) \
                   FROM (SELECT arrayJoin(tallies) AS t FROM batches FINAL WHERE state = 1) GROUP BY t.source ORDER BY t.source";
        let rows: Vec<(String, u64, u64, u64, u64, u32)> = self.query(sql).fetch_all().await?;
        Ok(rows
            .into_iter()
            .map(|(source, accepted, stored, duplicate, rejected, hour)| SourceBooks {
                source,
                books: Books { accepted, stored, duplicate, rejected },
                newest_hour: time_s(hour),
            })
            .collect())
    }
}

fn books_balance(sources: &[SourceBooks]) -> HealthCheck {
    let off: Vec<&str> = sources
        .iter()
        .filter(|source| !source.books.balance())
        .map(|source| source.source.as_str())
        .collect();
    match off.is_empty() {
        true => check(
            "Books",
            CheckState::Ok,
            "accepted = stored + duplicate + rejected, for every source".to_owned(),
            "",
        ),
        false => check(
            "Books",
            CheckState::Fail,
            format!("do not balance for {}", off.join(", ")),
            "rentroll books",
        ),
    }
}

fn check(name: &str, state: CheckState, detail: String, remedy: &str) -> HealthCheck {
    HealthCheck { name: name.to_owned(), state, detail, remedy: remedy.to_owned() }
}
