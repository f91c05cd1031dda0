//! `rentroll tenants`: who uses how much.

use clickhouse::Row;
use rentroll_schemas::effective;
use serde::{Deserialize, Serialize};

use crate::cli::Exit;
use crate::context::{self, Context};
use crate::output::{self, Sheet, grouped};

/// Arguments of `rentroll tenants`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll tenants --limit 10
  rentroll tenants --totals --json")]
pub struct Args {
    /// At most this many, by number of events.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    limit: u64,
    /// Only the sums over all tenants.
    #[arg(long)]
    totals: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Row, Serialize, Deserialize)]
struct Tenant {
    tenant: String,
    events: u64,
    /// Sum of the measure `bytes`, exact.
    bytes: String,
    first_event: String,
    last_event: String,
}

#[derive(Debug, Row, Serialize, Deserialize)]
struct Totals {
    tenants: u64,
    events: u64,
    bytes: String,
}

/// Runs it.
///
/// # Errors
/// The store's.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let store = context::store(&config).await?;
    // What counts: without what was voided or amended, and without voids.
    let counts = effective::condition_sql("1");
    let totals: Totals = store
        .client()
        .query(&format!(
            "SELECT uniqExact(tenant) AS tenants, count() AS events, toString(sum(measures['bytes'])) AS bytes \
             FROM events WHERE {counts}"
        ))
        .fetch_one()
        .await
        .map_err(|error| store.error(error))?;
    if args.totals {
        match args.json {
            true => output::json(&totals)?,
            false => output::line(&format!(
                "{} tenants, {} events, {} bytes",
                grouped(&totals.tenants.to_string()),
                grouped(&totals.events.to_string()),
                grouped(&totals.bytes)
            ))?,
        }
        store.close().await;
        return Ok(Exit::Done);
    }
    let tenants: Vec<Tenant> = store
        .client()
        .query(&format!(
            "SELECT tenant, count() AS events, toString(sum(measures['bytes'])) AS bytes, \
             formatDateTime(min(time), '%Y-%m-%d %H:%i:%S') AS first_event, \
             formatDateTime(max(time), '%Y-%m-%d %H:%i:%S') AS last_event \
             FROM events WHERE {counts} GROUP BY tenant ORDER BY events DESC, tenant LIMIT {{limit:UInt64}}"
        ))
        .param("limit", args.limit)
        .fetch_all()
        .await
        .map_err(|error| store.error(error))?;
    if args.json {
        output::json(&tenants)?;
    } else {
        let mut sheet = Sheet::new(&["tenant", ">events", ">bytes", "first event (UTC)", "last event (UTC)"]);
        for tenant in &tenants {
            let (events, bytes) = (grouped(&tenant.events.to_string()), grouped(&tenant.bytes));
            sheet.row(&[&tenant.tenant, &events, &bytes, &tenant.first_event, &tenant.last_event]);
        }
        let (events, bytes) = (grouped(&totals.events.to_string()), grouped(&totals.bytes));
        sheet.row(&[
            &format!("all {} tenants", grouped(&totals.tenants.to_string())),
            &events,
            &bytes,
            &String::new(),
            &String::new(),
        ]);
        sheet.print()?;
    }
    store.close().await;
    Ok(Exit::Done)
}
