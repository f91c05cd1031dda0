//! `examples/functions/`: a day's working hours of a platform of serverless functions, told invocation by invocation.
//!
//! The trace counts invocations per function and minute ([`trace`]). Each becomes a usage event ([`events`]), written
//! as a line of CloudEvents to a file in the data folder, which the collector follows as any other log: everything
//! behind that file is what runs in earnest. In the end the store's sums are held against the trace's ([`check`]).
//!
//! | in the trace | here |
//! |---|---|
//! | app | tenant |
//! | owner | organisation |
//! | invocation | event of type [`EVENT_TYPE`](events::EVENT_TYPE) |
//! | function, trigger | dimensions |
//! | the function's average duration, ms | measure `duration_ms` |
//! | that in seconds × its average memory in MB / 1024 | measure `gb_seconds`, rounded to 9 decimals |

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use chrono::Utc;
use rentroll_aggregator::tenants::{Action, ImportOptions, Registry};
use rentroll_engines::store::Store;
use rentroll_schemas::money::round_money;
use rentroll_schemas::tenant::csv::Reading;

use self::trace::{Totals, Trace};
use crate::cli::{Exit, WrongUse};
use crate::config::Config;
use crate::output::grouped;

mod columns;
pub mod events;
pub mod registry;
pub mod trace;

/// The file of events in the data folder.
const EVENTS_FILE: &str = "invocations.ndjson.gz";

/// What people are shown for an app, whose id has 64 hexadecimal digits.
pub fn app_name(app: &str) -> String {
    format!("app {}", app.get(..8).unwrap_or(app))
}

/// Reads the trace in the configuration's folder, writes its events into the data folder if they are not there, and
/// has the configuration's only source follow them.
///
/// # Errors
/// Names the file that cannot be read or written, or what is wrong with it.
pub(super) async fn prepare(config: &mut Config) -> anyhow::Result<Trace> {
    let folder = config.base.clone();
    let path = config.data_dir().join(EVENTS_FILE);
    let [source] = config.collector.sources.as_mut_slice() else {
        let sentence = "the configuration must have one [[collector.sources]], for the trace's events";
        return Err(WrongUse(sentence.to_owned()).into());
    };
    source.paths = vec![path.clone()];
    let name = source.name.clone();
    tokio::task::spawn_blocking(move || {
        let trace = Trace::read(&folder)?;
        say(&trace.totals());
        write_if_missing(&trace, &name, path)?;
        Ok(trace)
    })
    .await?
}

/// Makes the apps known to the tenant registry, with their organisations: `tenants.csv` beside the configuration.
///
/// # Errors
/// Names the line that is at fault; the store's.
pub(super) async fn register(config: &Config, store: &Store) -> anyhow::Result<()> {
    let path = config.path(std::path::Path::new("tenants.csv"));
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let reading = Reading::new(bytes).with_context(|| path.display().to_string())?;
    let imported =
        Registry::new(store.clone()).import(&reading, ImportOptions::default(), Utc::now()).await?;
    if let Some(bad) = imported.bad.first() {
        anyhow::bail!("{}: line {}: {}", path.display(), bad.number, bad.fault);
    }
    let added = imported.count(Action::Added);
    eprintln!("registry    {} apps added", grouped(&added.to_string()));
    Ok(())
}

fn say(totals: &Totals) {
    eprintln!(
        "trace       {} invocations of {} functions, {} apps of {} organisations, {} GB-seconds",
        grouped(&totals.invocations.to_string()),
        totals.functions,
        totals.apps,
        totals.owners,
        gb_seconds(totals)
    );
}

fn write_if_missing(trace: &Trace, source: &str, path: PathBuf) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let started = Instant::now();
    let bytes = events::write_file(trace, source, &path)
        .with_context(|| format!("cannot write the trace's events to {}", path.display()))?;
    let seconds = started.elapsed().as_secs_f64().max(0.001);
    let events = trace.totals().invocations;
    eprintln!(
        "written     {} events in {seconds:.1} s ({} events/s), {} bytes of gzip",
        grouped(&events.to_string()),
        grouped(&format!("{:.0}", events as f64 / seconds)),
        grouped(&bytes.to_string()),
    );
    Ok(())
}

/// GB-seconds to two decimals.
fn gb_seconds(totals: &Totals) -> String {
    let exact = totals.gb_seconds.to_decimal();
    exact.map_or_else(String::new, |exact| grouped(&round_money(exact, 2).to_string()))
}

/// Holds what the store has, event by event and in its daily rollups, against the trace.
///
/// # Errors
/// The store's. A difference is not an error, but [`Exit::DoesNotHold`], and told.
pub(super) async fn check(trace: &Trace, store: &Store) -> anyhow::Result<Exit> {
    let expected = trace.totals();
    let stored: (u64, String, String) = store
        .client()
        .query("SELECT count(), toString(sum(measures['duration_ms'])), toString(sum(measures['gb_seconds'])) FROM events")
        .fetch_one()
        .await
        .map_err(|error| store.error(error))?;
    let tenants: Vec<String> = store
        .client()
        .query("SELECT DISTINCT tenant FROM usage_day")
        .fetch_all()
        .await
        .map_err(|error| store.error(error))?;
    let owners = trace.owners_of(tenants.iter().map(String::as_str));
    let (events, duration_ms, gb_seconds_stored) = &stored;
    let found = Totals {
        functions: expected.functions,
        apps: tenants.len(),
        owners: owners.len(),
        invocations: *events,
        duration_ms: duration_ms.parse().context("the store's sum of duration_ms")?,
        gb_seconds: gb_seconds_stored.parse().context("the store's sum of gb_seconds")?,
    };
    let said = format!(
        "{} events, {} tenants, {} organisations, {} ms, {} GB-seconds",
        grouped(&found.invocations.to_string()),
        found.apps,
        found.owners,
        grouped(&found.duration_ms.to_string()),
        gb_seconds(&found)
    );
    if found == expected {
        eprintln!("checked     {said}: what the trace says");
        return Ok(Exit::Done);
    }
    eprintln!(
        "differs     {said}; the trace has {} events, {} apps, {} organisations, {} ms, {} GB-seconds. A data folder \
         of another trace? Name a new one with --data",
        grouped(&expected.invocations.to_string()),
        expected.apps,
        expected.owners,
        grouped(&expected.duration_ms.to_string()),
        gb_seconds(&expected)
    );
    Ok(Exit::DoesNotHold)
}
