//! Questions of usage over a month of a hundred million events: one by one beside raw events, and from fifty dashboards
//! while events come in.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use rentroll_aggregator::meters::watch;
use rentroll_engines::store::{Store, StoreConfig};
use rentroll_schemas::migrations::MIGRATIONS;
use serde::Serialize;

use super::{Scratch, part};
use crate::cli::Exit;
use crate::output::{self, Sheet, grouped};

mod ask;
mod fill;
mod users;

use ask::{Asking, MONTH_MS_MAX, SCAN_RATIO_MIN, TOP_MS_MAX, Took};
use fill::Month;
use users::Crowd;

/// Milliseconds that 99 of 100 answers to dashboards may take.
const CROWD_P99_MS_MAX: f64 = 500.0;
/// How much slower a narrow question may be in a store of ten times the events. It should be no slower; single
/// milliseconds on a busy machine are no more exact than this.
const GROWTH_MAX: f64 = 2.0;

/// The part of the events that come in that must be stored as they come: single seconds are not whole batches.
const KEEPS_UP_MIN: f64 = 0.9;

/// Arguments of `rentroll bench query`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll bench query                                    a hundred million events of 100,000 tenants
  rentroll bench query --events 3000000 --seconds 10      a small one
  rentroll bench query --keep /var/tmp/month              fills the folder once, and asks it each time

A month of events, and its rollups, are made by the engine; an hour of them is proved as the aggregator does it. Exits with 3 if
a stated limit does not hold.")]
pub(super) struct Args {
    /// Events of the month.
    #[arg(long, default_value_t = 100_000_000, value_parser = clap::value_parser!(u64).range(100_000..))]
    events: u64,
    /// Tenants, by a Zipf law…
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2_000..))]
    tenants: u32,
    /// …with this exponent.
    #[arg(long, default_value_t = 1.1)]
    zipf: f64,
    /// People with a dashboard open.
    #[arg(long, default_value_t = 50)]
    users: u32,
    /// Seconds between two refreshes of a dashboard; those that come with Rentroll are refreshed every minute.
    #[arg(long, default_value_t = 30)]
    refresh: u64,
    /// How long they are watched.
    #[arg(long, default_value_t = 90)]
    seconds: u64,
    /// A folder that is filled once and kept.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What the process is told that fills a store and asks it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct AskSpec {
    folder: PathBuf,
    events: u64,
    tenants: u32,
    zipf: f64,
}

/// What it answers.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct AskAnswer {
    bytes: u64,
    took: Vec<Took>,
    /// Each narrow question with a tenth of the events and with all, as it was when the folder was filled.
    narrow: Vec<Grown>,
    is_proved: bool,
}

/// What a folder was filled with, and what was measured meanwhile.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Filled {
    /// Events, tenants, exponent.
    with: (u64, u32, String),
    narrow: Vec<Grown>,
}

/// Milliseconds of a question with few events around what it asks for, and with many.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Grown {
    name: String,
    before_ms: f64,
    after_ms: f64,
}

#[derive(Serialize)]
struct Report {
    events: u64,
    tenants: u32,
    zipf: f64,
    asked: AskAnswer,
    crowd: Crowd,
    holds: Vec<Held>,
}

/// A stated limit.
#[derive(Serialize)]
struct Held {
    what: String,
    holds: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<Exit> {
    let scratch = match &args.keep {
        Some(_) => None,
        None => Some(Scratch::new("query")?),
    };
    let folder = args.keep.clone().or_else(|| scratch.as_ref().map(|scratch| scratch.path().to_owned()));
    let folder = folder.unwrap_or_default();
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let spec =
        AskSpec { folder: folder.clone(), events: args.events, tenants: args.tenants, zipf: args.zipf };
    let (asked, _): (AskAnswer, _) = part("query-ask", &spec)?;
    let crowd = users::run(args, &folder, &month(args.events, args.tenants, args.zipf)).await?;
    let holds = held(&asked, &crowd);
    let report = Report { events: args.events, tenants: args.tenants, zipf: args.zipf, asked, crowd, holds };
    match args.json {
        true => output::json(&report)?,
        false => report.print()?,
    }
    Ok(if report.holds.iter().all(|held| held.holds) { Exit::Done } else { Exit::DoesNotHold })
}

fn month(events: u64, tenants: u32, zipf: f64) -> Month {
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap_or_default();
    Month { events, tenants, zipf, from: at("2026-10-01T00:00:00Z"), to: at("2026-11-01T00:00:00Z") }
}

/// The process that fills a store and asks it.
pub(super) async fn ask_part(spec: AskSpec) -> anyhow::Result<AskAnswer> {
    let AskSpec { folder, events, tenants, zipf } = spec;
    let month = month(events, tenants, zipf);
    let store = Store::open(&StoreConfig::embedded(folder.join("data"))).await?;
    store.migrate(MIGRATIONS).await?;
    let marker = folder.join("filled.json");
    let wanted = (events, tenants, zipf.to_string());
    let filled = std::fs::read(&marker).ok().and_then(|text| serde_json::from_slice::<Filled>(&text).ok());
    let narrow = if let Some(filled) = filled.filter(|filled| filled.with == wanted) {
        filled.narrow
    } else {
        let filled: u64 = store.client().query("SELECT count() FROM events").fetch_one().await?;
        anyhow::ensure!(filled == 0, "{} holds other events; take an empty folder", folder.display());
        // Before there are events: a meter that comes later has every hour of its events checked.
        let meters = watch::seeded(&store, &fill::served_meters()?).await?;
        watch::catch_up(&store, &meters).await?;
        // The first days are there before the rest, which lies outside of the narrow question's day.
        let first_days = (month.days() / 10).max(2);
        month.fill(&store, 0..first_days).await?;
        fill::merged(&store).await?;
        fill::settled(&store).await?;
        let before = Asking::new(&store, &month).narrow().await?;
        month.fill(&store, first_days..month.days()).await?;
        fill::merged(&store).await?;
        fill::settled(&store).await?;
        let after = Asking::new(&store, &month).narrow().await?;
        let grown = |(before, after): (Took, Took)| Grown {
            name: after.name,
            before_ms: before.p50_ms,
            after_ms: after.p50_ms,
        };
        let filled = Filled { with: wanted, narrow: before.into_iter().zip(after).map(grown).collect() };
        std::fs::write(&marker, serde_json::to_vec(&filled)?)?;
        filled.narrow
    };
    let is_proved = fill::proved(&store, &month).await?;
    let took = Asking::new(&store, &month).all().await?;
    let bytes: u64 = store
        .client()
        .query("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()")
        .fetch_one()
        .await?;
    store.close().await;
    Ok(AskAnswer { bytes, took, narrow, is_proved })
}

fn held(asked: &AskAnswer, crowd: &Crowd) -> Vec<Held> {
    let mut holds = Vec::new();
    let mut say = |what: String, is_so: bool| holds.push(Held { what, holds: is_so });
    say("an hour's rollups are what its events make them".to_owned(), asked.is_proved);
    for one in asked.took.iter().filter(|one| one.name.ends_with("month by day") && one.raw_scan_ms.is_some())
    {
        say(format!("{}: {:.1} of {MONTH_MS_MAX} ms", one.name, one.p50_ms), one.p50_ms <= MONTH_MS_MAX);
        let times = one.raw_scan_ms.unwrap_or_default() / one.p50_ms.max(0.001);
        say(
            format!("{}: {times:.0} times a scan of raw events, of {SCAN_RATIO_MIN}", one.name),
            times >= SCAN_RATIO_MIN,
        );
    }
    for one in asked.took.iter().filter(|one| one.name.starts_with("top 100")) {
        say(format!("{}: {:.1} of {TOP_MS_MAX} ms", one.name, one.p50_ms), one.p50_ms <= TOP_MS_MAX);
    }
    for Grown { name, before_ms, after_ms } in &asked.narrow {
        let growth = after_ms / before_ms.max(0.001);
        say(
            format!(
                "{name}, in ten times the events: {before_ms:.1} to {after_ms:.1} ms, {growth:.2} of {GROWTH_MAX} times"
            ),
            growth <= GROWTH_MAX,
        );
    }
    say(
        format!(
            "meanwhile {} events a second are stored, half of what the machine takes is {}",
            crowd.events_per_second,
            crowd.events_per_second_max / 2
        ),
        crowd.events_per_second as f64 >= KEEPS_UP_MIN * crowd.events_per_second_max as f64 / 2.0,
    );
    say(
        format!(
            "{} dashboards while events come in: p99 {:.0} of {CROWD_P99_MS_MAX} ms",
            crowd.users, crowd.p99_ms
        ),
        crowd.p99_ms <= CROWD_P99_MS_MAX && crowd.failed == 0,
    );
    holds
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        let shown = |ms: Option<f64>| ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1}"));
        let mut sheet =
            Sheet::new(&["question", ">rows", ">median ms", ">most ms", ">raw by key ms", ">raw scanned ms"]);
        for one in &self.asked.took {
            sheet.row(&[
                one.name.clone(),
                one.rows.to_string(),
                format!("{:.1}", one.p50_ms),
                format!("{:.1}", one.most_ms),
                shown(one.raw_by_key_ms),
                shown(one.raw_scan_ms),
            ]);
        }
        sheet.print()?;
        let crowd = &self.crowd;
        output::line(&format!(
            "\n{} dashboards, each refreshed every {} s, while {} events a second came in (half of {}): {} answers, {} refused or \
             failed; p50 {:.0}, p95 {:.0}, p99 {:.0}, most {:.0} ms\n",
            crowd.users,
            crowd.refresh_seconds,
            grouped(&crowd.events_per_second.to_string()),
            grouped(&crowd.events_per_second_max.to_string()),
            grouped(&crowd.answers.to_string()),
            crowd.failed,
            crowd.p50_ms,
            crowd.p95_ms,
            crowd.p99_ms,
            crowd.most_ms,
        ))?;
        let mut sheet = Sheet::new(&["panel", ">answers", ">median ms", ">p99 ms"]);
        for panel in &crowd.panels {
            let (median, p99) = (format!("{:.0}", panel.p50_ms), format!("{:.0}", panel.p99_ms));
            sheet.row(&[panel.name.to_owned(), panel.answers.to_string(), median, p99]);
        }
        sheet.print()?;
        output::line("")?;
        let mut sheet = Sheet::new(&["limit", ""]);
        for held in &self.holds {
            sheet.row(&[held.what.as_str(), if held.holds { "holds" } else { "DOES NOT HOLD" }]);
        }
        sheet.print()?;
        eprintln!(
            "\n{} events of {} tenants by Zipf {}; {:.1} GB in the store",
            grouped(&self.events.to_string()),
            grouped(&self.tenants.to_string()),
            self.zipf,
            self.asked.bytes as f64 / 1e9,
        );
        Ok(())
    }
}
