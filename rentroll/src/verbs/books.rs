//! `rentroll books`: accepted = stored + duplicate + rejected, per source and hour of arrival.

use chrono::{DateTime, Utc};
use clickhouse::Row;
use rentroll_engines::store::{Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::cli::Exit;
use crate::context::{self, Context};
use crate::output::{self, Sheet, grouped};

/// Arguments of `rentroll books`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll books
  rentroll books --source web --json

Exits with 3 if an hour does not balance, or if the events stored are not the ones in the books.")]
pub struct Args {
    /// Only of this source.
    #[arg(long)]
    source: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// One source and hour of arrival.
#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
pub struct Hour {
    /// The source.
    pub source: String,
    /// First second of the hour.
    #[serde(with = "clickhouse::serde::chrono::datetime")]
    pub hour: DateTime<Utc>,
    /// Records taken from the log.
    pub accepted: u64,
    /// New events in the store, by the books.
    pub stored: u64,
    /// There before.
    pub duplicate: u64,
    /// Kept as rejects.
    pub rejected: u64,
    /// Distinct events found in the store.
    pub found: u64,
}

impl Hour {
    /// Whether it balances, and the store has what the books say.
    pub fn balances(&self) -> bool {
        self.accepted == self.stored + self.duplicate + self.rejected && self.stored == self.found
    }
}

/// Reads the books of `source`, or of all for an empty one.
///
/// # Errors
/// The store's.
pub async fn read(store: &Store, source: &str) -> Result<Vec<Hour>, StoreError> {
    // A batch is written twice, planned and done; the done one counts. A batch whose log was read again from
    // an earlier position has another digest and is a batch of its own.
    let sql = "SELECT source, hour, sum(accepted) AS accepted, sum(stored) AS stored, sum(duplicate) AS duplicate, \
                 sum(rejected) AS rejected, sum(found) AS found \
               FROM ( \
                 SELECT tally.1 AS source, tally.2 AS hour, tally.3 AS accepted, tally.4 AS stored, \
                   tally.5 AS duplicate, tally.6 AS rejected, toUInt64(0) AS found \
                 FROM batches FINAL ARRAY JOIN tallies AS tally \
                 UNION ALL \
                 SELECT source, toStartOfHour(toDateTime(arrived_at, 'UTC')) AS hour, toUInt64(0), toUInt64(0), toUInt64(0), \
                   toUInt64(0), uniqExact(identity) AS found \
                 FROM events GROUP BY source, hour \
               ) \
               WHERE {source:String} = '' OR source = {source:String} \
               GROUP BY source, hour ORDER BY source, hour";
    let query = store.client().query(sql).param("source", source);
    query.fetch_all().await.map_err(|error| store.error(error))
}

/// Runs it.
///
/// # Errors
/// The store's.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let store = context::store(&config).await?;
    let hours = read(&store, args.source.as_deref().unwrap_or_default()).await?;
    let balanced = hours.iter().all(Hour::balances);
    if args.json {
        let hours: Vec<serde_json::Value> = hours
            .iter()
            .map(|hour| {
                serde_json::json!({
                    "source": hour.source, "hour": hour.hour, "accepted": hour.accepted, "stored": hour.stored,
                    "duplicate": hour.duplicate, "rejected": hour.rejected, "found": hour.found,
                    "balances": hour.balances(),
                })
            })
            .collect();
        output::json(&serde_json::json!({ "balanced": balanced, "hours": hours }))?;
    } else {
        let headers = [
            "source",
            "hour of arrival (UTC)",
            ">accepted",
            ">stored",
            ">duplicate",
            ">rejected",
            ">found",
            "",
        ];
        let mut sheet = Sheet::new(&headers);
        let mut total = [0_u64; 5];
        for hour in &hours {
            let numbers = [hour.accepted, hour.stored, hour.duplicate, hour.rejected, hour.found];
            for (sum, number) in total.iter_mut().zip(numbers) {
                *sum += number;
            }
            let mut cells = vec![hour.source.clone(), hour.hour.format("%Y-%m-%d %H:%M").to_string()];
            cells.extend(numbers.iter().map(|number| grouped(&number.to_string())));
            cells.push(if hour.balances() { String::new() } else { "does not balance".to_owned() });
            sheet.row(&cells);
        }
        let mut cells = vec!["total".to_owned(), String::new()];
        cells.extend(total.iter().map(|number| grouped(&number.to_string())));
        cells.push(String::new());
        sheet.row(&cells);
        sheet.print()?;
        eprintln!(
            "accepted = stored + duplicate + rejected, and stored = found: {}",
            if balanced { "yes" } else { "NO" }
        );
    }
    store.close().await;
    Ok(if balanced { Exit::Done } else { Exit::DoesNotHold })
}
