//! `rentroll meters`: what is counted, whether it is alive, and what nothing counts.

use std::path::PathBuf;

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rentroll_aggregator::meters::history::{Stored, next_minute};
use rentroll_aggregator::meters::{Change, MeterError, registry};
use rentroll_aggregator::usage::overview::{MeterState, NotCounted, Span};
use rentroll_dashboards::csv::Record;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::text::grouped;
use serde::Serialize;

use super::usage::{Opened, asked};
use crate::cli::{Exit, WrongUse};
use crate::context::{self, Context};
use crate::output::{self, Sheet};

/// Rows by tenant that the list shows of what is not counted.
const NOT_COUNTED_ROWS: usize = 20;
/// Without `--days`, so far back.
const DAYS: u32 = 30;

/// Arguments of `rentroll meters`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  rentroll meters                     all of them, with their last events, and what no meter counts
  rentroll meters --days 365 --csv    the same of a year, without what no meter counts
  rentroll meters show egress_bytes   its versions, and from when to when each counts
  rentroll meters apply               makes the meters what meters.yaml says, without a restart
  rentroll meters apply --dry-run     what that would change
  rentroll meters end old_meter       it counts no more; what it counted stays

A change is a new version, from the next minute on or from its `effective_from`; a new meter counts earlier events, too."
)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Events of so many days up to now.
    #[arg(long, default_value_t = DAYS, value_parser = clap::value_parser!(u32).range(1..=36_600))]
    days: u32,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// As CSV: the meters, without what none of them counts.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// All meters, and what none of them counts.
    List(ListArgs),
    /// One meter with its versions.
    Show {
        /// Its name.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// As CSV, each definition as JSON.
        #[arg(long, conflicts_with = "json")]
        csv: bool,
    },
    /// Make the meters what the file says.
    Apply {
        /// Another file than files.meters.
        file: Option<PathBuf>,
        /// Only say what would change.
        #[arg(long)]
        dry_run: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let a meter count no more.
    End {
        /// Its name.
        name: String,
    },
}

#[derive(Serialize)]
struct List {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    meters: Vec<MeterState>,
    unmatched: NotCounted,
    without_value: NotCounted,
}

/// Runs it.
///
/// # Errors
/// What is wrong with the meters; the store's.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    match args.verb {
        None => list(context, &args.list).await,
        Some(Verb::List(list_args)) => list(context, &list_args).await,
        Some(Verb::Show { name, json, csv }) => show(context, &name, json, csv).await,
        Some(Verb::Apply { file, dry_run, json }) => apply(context, file, dry_run, json).await,
        Some(Verb::End { name }) => end(context, &name).await,
    }
}

async fn list(context: &Context, args: &ListArgs) -> anyhow::Result<Exit> {
    let opened = Opened::new(context).await?;
    let to = next_minute(Utc::now());
    let span = Span { from: (to - TimeDelta::days(i64::from(args.days))).max(DateTime::UNIX_EPOCH), to };
    let usage = &opened.usage;
    let meters = asked(usage.meter_states(span).await)?;
    let unmatched = asked(usage.unmatched(span, None, NOT_COUNTED_ROWS).await)?;
    let without_value = asked(usage.without_value(span, None, NOT_COUNTED_ROWS).await)?;
    opened.store.close().await;
    let list = List { from: span.from, to, meters, unmatched, without_value };
    if args.json {
        output::json(&list)?;
        return Ok(Exit::Done);
    }
    if args.csv {
        list_csv(&list)?;
        return Ok(Exit::Done);
    }
    let headers = [
        "meter",
        "aggregation",
        "unit",
        "event type",
        ">version",
        ">events",
        ">tenants",
        "last event (UTC)",
        ">without value",
    ];
    let mut sheet = Sheet::new(&headers);
    for one in &list.meters {
        sheet.row(&[
            one.meter.clone(),
            one.aggregation.name().to_owned(),
            one.unit.clone(),
            one.event_type.clone(),
            one.version.to_string(),
            count(one.events),
            count(one.tenants),
            one.last.map_or_else(|| "none".to_owned(), minute),
            count(one.without_value),
        ]);
    }
    sheet.print()?;
    not_counted("no meter counts these", "event type", &list.unmatched)?;
    not_counted("these have no value that their meter could count", "meter", &list.without_value)?;
    eprintln!(
        "\nevents of the last {} days, from {} UTC; --days looks further back",
        args.days,
        minute(span.from)
    );
    Ok(Exit::Done)
}

fn list_csv(list: &List) -> anyhow::Result<()> {
    output::line("meter,version,aggregation,unit,event_type,events,tenants,first,last,without_value")?;
    for one in &list.meters {
        let record = Record::default()
            .text(&one.meter)
            .value(Some(one.version))
            .value(Some(one.aggregation.name()))
            .text(&one.unit)
            .text(&one.event_type)
            .value(Some(one.events))
            .value(Some(one.tenants))
            .value(one.first.map(rfc3339))
            .value(one.last.map(rfc3339))
            .value(Some(one.without_value));
        output::line(record.line().trim_end())?;
    }
    Ok(())
}

fn show_csv(versions: &[Version<'_>]) -> anyhow::Result<()> {
    output::line("version,effective_from,definition,origin,written_at")?;
    for one in versions {
        let definition = one.definition.map(serde_json::to_string).transpose()?.unwrap_or_default();
        let record = Record::default()
            .value(Some(one.version))
            .value(one.effective_from.map(rfc3339))
            .text(&definition)
            .text(one.origin)
            .value(Some(rfc3339(one.written_at)));
        output::line(record.line().trim_end())?;
    }
    Ok(())
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn not_counted(title: &str, key: &str, found: &NotCounted) -> anyhow::Result<()> {
    if found.totals.is_empty() {
        return Ok(());
    }
    output::line(&format!("\n{title}:"))?;
    let mut sheet = Sheet::new(&[key, "tenant", ">events", "last event (UTC)"]);
    for total in &found.totals {
        let tenants = format!("all {} tenants", count(total.tenants));
        sheet.row(&[total.key.clone(), tenants, count(total.events), minute(total.last)]);
    }
    for row in &found.rows {
        sheet.row(&[row.key.clone(), row.tenant.clone(), count(row.events), minute(row.last)]);
    }
    sheet.print()?;
    if found.is_cut {
        output::line("… and more tenants: `rentroll events --verdict unmatched,without_value` lists events")?;
    }
    Ok(())
}

fn count(number: u64) -> String {
    grouped(&number.to_string())
}

fn minute(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M").to_string()
}

#[derive(Serialize)]
struct Version<'a> {
    version: u32,
    effective_from: Option<DateTime<Utc>>,
    /// Absent of a version that ends the meter.
    definition: Option<&'a rentroll_schemas::meter::Meter>,
    origin: &'a str,
    written_at: DateTime<Utc>,
}

async fn show(context: &Context, name: &str, json: bool, csv: bool) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let store = context::store(&config).await?;
    let rows = registry::stored(&store).await;
    store.close().await;
    let rows: Vec<Stored> = rows?.into_iter().filter(|row| row.name == name).collect();
    if rows.is_empty() {
        let hint = "`rentroll meters` lists them; one of the file is known once an aggregator has started";
        return Err(WrongUse(format!("there is no meter `{name}`: {hint}")).into());
    }
    let versions: Vec<Version<'_>> = rows
        .iter()
        .map(|row| Version {
            version: row.version,
            effective_from: row.effective_from,
            definition: row.definition.as_ref(),
            origin: &row.origin,
            written_at: row.written_at,
        })
        .collect();
    if json {
        output::json(&versions)?;
        return Ok(Exit::Done);
    }
    if csv {
        show_csv(&versions)?;
        return Ok(Exit::Done);
    }
    let mut sheet = Sheet::new(&[">version", "counts from (UTC)", "what", "origin", "written (UTC)"]);
    for one in &versions {
        let from = one.effective_from.map_or_else(|| "always".to_owned(), minute);
        let what = match one.definition {
            None => "ends".to_owned(),
            Some(definition) => definition_line(definition),
        };
        sheet.row(&[one.version.to_string(), from, what, one.origin.to_owned(), minute(one.written_at)]);
    }
    sheet.print()?;
    Ok(Exit::Done)
}

/// A definition in one line, without what is the same in all versions.
fn definition_line(meter: &rentroll_schemas::meter::Meter) -> String {
    let mut parts = vec![format!("{} of {}", meter.aggregation.name(), meter.event_type)];
    if let Some(value) = &meter.value {
        parts.push(format!("value {value}"));
    }
    for (key, condition) in &meter.filter {
        // A condition of texts and numbers always serialises.
        parts.push(format!("{key}: {}", serde_json::to_string(condition).unwrap_or_default()));
    }
    if !meter.group_by.is_empty() {
        parts.push(format!("by {}", meter.group_by.join(", ")));
    }
    parts.join("; ")
}

async fn apply(context: &Context, file: Option<PathBuf>, dry_run: bool, json: bool) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let path = file.unwrap_or_else(|| config.path(&config.files.meters));
    let meters = Meters::read(&path)?;
    let store = context::store(&config).await?;
    let changes = match dry_run {
        true => registry::preview(&store, &meters, Utc::now()).await,
        false => registry::seed(&store, &meters, Utc::now()).await,
    };
    store.close().await;
    let changes = changes.map_err(|error| wrong(error, &path))?;
    if json {
        output::json(&changes)?;
        return Ok(Exit::Done);
    }
    for change in &changes {
        output::line(&said(change))?;
    }
    let would = if dry_run { "would change" } else { "changed" };
    eprintln!(
        "{} {would}; a running aggregator takes it up within seconds, and counts earlier events of new meters",
        changes.len()
    );
    Ok(Exit::Done)
}

fn said(change: &Change) -> String {
    match change {
        Change::Unchanged { name, version } => format!("{name}: as it was, version {version}"),
        Change::Versioned { name, version: 1, effective_from: None } => {
            format!("{name}: new, counts all events")
        }
        Change::Versioned { name, version, effective_from } => {
            let from = effective_from
                .map_or_else(|| "the beginning".to_owned(), |from| format!("{} UTC", minute(from)));
            format!("{name}: version {version}, from {from}")
        }
        Change::Ended { name, effective_from } => format!("{name}: ends at {} UTC", minute(*effective_from)),
    }
}

/// What is wrong with a definition is the user's mistake.
fn wrong(error: MeterError, path: &std::path::Path) -> anyhow::Error {
    match error {
        MeterError::Definition { .. } => WrongUse(format!("{}: {error}", path.display())).into(),
        other => other.into(),
    }
}

async fn end(context: &Context, name: &str) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let store = context::store(&config).await?;
    let ended = registry::end(&store, name, registry::API, Utc::now()).await;
    store.close().await;
    let change = match ended {
        Err(error @ MeterError::Unknown(_)) => {
            return Err(WrongUse(format!("{error}; `rentroll meters` lists them")).into());
        }
        other => other.context("cannot end the meter")?,
    };
    output::line(&said(&change))?;
    if context::meters(&config)?.get(name).is_some() {
        eprintln!("it is in {} still, which brings it back at the next start", config.files.meters.display());
    }
    Ok(Exit::Done)
}
