//! `rentroll rejects`: what could not be accepted, with its bytes, reason and place.

use chrono::{DateTime, Utc};
use clap::Subcommand;
use clickhouse::Row;
use serde::{Deserialize, Serialize};

use crate::cli::Exit;
use crate::context::{self, Context};
use crate::output::{self, Sheet};

/// Arguments of `rentroll rejects`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List rejects, newest first.
    #[command(after_help = "\
Examples:
  rentroll rejects list
  rentroll rejects list --source web --reason unreadable
  rentroll rejects list --json | jq -r '.[].text'")]
    List {
        /// Only of this source.
        #[arg(long)]
        source: Option<String>,
        /// Only with this reason.
        #[arg(long)]
        reason: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        limit: u64,
        /// As JSON, with all bytes.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Row, Deserialize)]
struct RejectRow {
    source: String,
    place: String,
    tenant: String,
    reason: String,
    field: String,
    detail: String,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    rejected_at: DateTime<Utc>,
    bytes_hex: String,
}

#[derive(Debug, Serialize)]
struct Shown {
    source: String,
    place: String,
    tenant: String,
    reason: String,
    field: String,
    detail: String,
    rejected_at: DateTime<Utc>,
    /// The bytes as text, with U+FFFD for what is not UTF-8.
    text: String,
    /// The bytes themselves.
    bytes_hex: String,
}

/// Runs it.
///
/// # Errors
/// The store's.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let Action::List { source, reason, limit, json } = args.action;
    let config = context.config()?;
    let store = context::store(&config).await?;
    let sql = "SELECT source, place, tenant, reason, field, detail, rejected_at, lower(hex(bytes)) AS bytes_hex \
               FROM rejects FINAL \
               WHERE ({source:String} = '' OR source = {source:String}) \
               AND ({reason:String} = '' OR reason = {reason:String}) \
               ORDER BY rejected_at DESC, source, place LIMIT {limit:UInt64}";
    let rows: Vec<RejectRow> = store
        .client()
        .query(sql)
        .param("source", source.unwrap_or_default())
        .param("reason", reason.unwrap_or_default())
        .param("limit", limit)
        .fetch_all()
        .await
        .map_err(|error| store.error(error))?;
    let shown: Vec<Shown> = rows.into_iter().map(show).collect();
    if json {
        output::json(&shown)?;
    } else if shown.is_empty() {
        eprintln!("no rejects");
    } else {
        let mut sheet =
            Sheet::new(&["rejected at (UTC)", "source", "place", "reason", "field", "detail", "bytes"]);
        for reject in &shown {
            let beginning: String = reject.text.chars().take(60).collect();
            sheet.row(&[
                &reject.rejected_at.format("%Y-%m-%d %H:%M:%S").to_string(),
                &reject.source,
                &reject.place,
                &reject.reason,
                &reject.field,
                &reject.detail,
                &beginning,
            ]);
        }
        sheet.print()?;
        eprintln!("{} rejects; --json has all their bytes", shown.len());
    }
    store.close().await;
    Ok(Exit::Done)
}

fn show(row: RejectRow) -> Shown {
    let bytes: Vec<u8> = row
        .bytes_hex
        .as_bytes()
        .chunks_exact(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    Shown {
        text: String::from_utf8_lossy(&bytes).into_owned(),
        bytes_hex: row.bytes_hex,
        source: row.source,
        place: row.place,
        tenant: row.tenant,
        reason: row.reason,
        field: row.field,
        detail: row.detail,
        rejected_at: row.rejected_at,
    }
}
