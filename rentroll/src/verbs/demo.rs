//! `rentroll demo`: the whole chain on a real log, with something to look at in the end.

use std::path::PathBuf;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use rentroll_billing::allocation::split::{Use, split};
use rentroll_billing::overview::{Overview, TenantRow};
use rentroll_billing::{AllocateOptions, RunOptions};
use rentroll_collector::collect::Mode;
use rentroll_engines::store::Store;
use rentroll_schemas::catalogue::Catalogue;
use rentroll_schemas::costs::{Costs, IdlePolicy};
use rentroll_schemas::currency::Exact;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::money::round_money;
use rentroll_schemas::period::Period;
use rust_decimal::Decimal;

use crate::cli::{Exit, WrongUse};
use crate::config::Config;
use crate::context::{self, Context};
use crate::output::{self, Sheet, grouped};
use crate::services::{self, Parts, System, progress};

/// Arguments of `rentroll demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll demo                                   the example's log, then a page that stays up until Ctrl-C
  rentroll demo --exit                            leave at once
  rentroll demo --log /var/log/nginx/access.log   a log of yours (combined or common format), in a data folder of its own")]
pub struct Args {
    /// Follow this access log instead of the example's.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Where to keep the data; by default `rentroll-data/demo`, and a folder beside it for another log.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Leave when all is done, instead of keeping the page up.
    #[arg(long)]
    exit: bool,
    /// How many tenants the table shows.
    #[arg(long, default_value_t = 15)]
    top: usize,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What the example's configuration is, seen from the repository's root.
const EXAMPLE: &str = "examples/access-log/rentroll.toml";

/// Runs it.
///
/// # Errors
/// Any part's.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = configure(context, &args)?;
    let meters = context::meters(&config)?;
    let catalogue = context::catalogue(&config, &meters)?;
    let costs = context::costs(&config, &meters)?;
    for source in &config.collector.sources {
        for path in &source.paths {
            eprintln!("reading     {}", config.path(path).display());
        }
    }
    eprintln!("data        {}", config.data_dir().display());
    let mut system = System::start(&config, Parts::ALL, Mode { once: true, from_start: false }).await?;
    let done = tokio::select! {
        done = chain(&mut system, &meters, &catalogue, &costs, args.top) => done,
        asked = services::asked_to_stop() => Err(asked.err().unwrap_or_else(|| anyhow::anyhow!("stopped before the end"))),
    };
    match done {
        Ok(Some(overview)) if args.json => output::json(&overview)?,
        Ok(Some(overview)) => {
            table(&overview, &meters)?;
            reference_split();
        }
        Ok(None) => eprintln!("the log holds no usage"),
        Err(error) => {
            let _ = system.stop().await;
            return Err(error);
        }
    }
    if !args.exit {
        eprintln!("\nlook at     http://{}/ (until Ctrl-C)", system.address);
        eprintln!(
            "or ask      RENTROLL_DATA__DIR={} {} books     (or: rejects list, tenants, bill explain …)",
            config.data_dir().display(),
            ask_command(context)
        );
        let failed = tokio::select! {
            failure = system.until_failure() => failure.map(|never| match never {}),
            asked = services::asked_to_stop() => asked,
        };
        let stopped = system.stop().await;
        return failed.and(stopped).map(|()| Exit::Done);
    }
    system.stop().await?;
    Ok(Exit::Done)
}

/// How to run another verb on the demo's data.
fn ask_command(context: &Context) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "rentroll".to_owned());
    let config = context.config_path().map_or_else(|| EXAMPLE.to_owned(), |path| path.display().to_string());
    format!("{program} -c {config}")
}

fn configure(context: &Context, args: &Args) -> anyhow::Result<Config> {
    let mut config = match context.config_path() {
        Some(_) => context.config()?,
        None => Context::new(Some(EXAMPLE.into())).config().map_err(|error| match error {
            crate::config::ConfigError::Read { .. } => anyhow::Error::new(WrongUse(format!(
                "no {EXAMPLE} here: run this from the repository's root, or name a configuration with --config"
            ))),
            error => error.into(),
        })?,
    };
    let base = std::env::current_dir().context("cannot tell the working folder")?;
    if let Some(log) = &args.log {
        let Some(source) = config.collector.sources.first_mut() else {
            return Err(WrongUse(
                "the configuration has no [[collector.sources]] to read the log with".into(),
            )
            .into());
        };
        source.paths = vec![base.join(log)];
        source.backfill = true;
        config.collector.sources.truncate(1);
        // Another log must not be mixed into the example's month.
        let stem = log.file_stem().map_or_else(String::new, |stem| format!("-{}", stem.to_string_lossy()));
        config.data.dir = base.join(config.data_dir()).join(format!("demo{stem}"));
    } else {
        config.data.dir = base.join(config.data_dir()).join("demo");
    }
    if let Some(data) = &args.data {
        config.data.dir = base.join(data);
    }
    // The shortest way to write it, since people are told to type it.
    let dir = &config.data.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the data folder {}", dir.display()))?;
    config.data.dir = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
    Ok(config)
}

/// Collect, aggregate, bill, allocate; the newest month's tenants.
async fn chain(
    system: &mut System,
    meters: &Meters,
    catalogue: &Catalogue,
    costs: &Costs,
    top: usize,
) -> anyhow::Result<Option<Overview>> {
    let shown = progress::Shown::start(system.progress.clone());
    system.drain().await?;
    eprintln!("collected   {}", shown.finish());
    let store = system.store.clone().context("no store")?;
    say_totals(&store, meters).await?;
    let periods = periods(&store, catalogue).await?;
    for period in &periods {
        let now = Utc::now();
        let dry_run = now < period.to;
        let report =
            rentroll_billing::run(&store, catalogue, meters, period, RunOptions { dry_run, now }).await?;
        let outcome = serde_json::to_value(report.outcome)?;
        eprintln!(
            "billed      {period}: {} invoices, {} {}, {} ({} new)",
            report.invoices,
            grouped(&report.total.to_string()),
            report.currency.code(),
            outcome.as_str().unwrap_or_default().replace('_', " "),
            report.newly_issued
        );
        let (costs, is_example) = costs_of(costs, period);
        let options = AllocateOptions { dry_run: false, now };
        let report = rentroll_billing::allocate(&store, &costs, meters, period, options).await?;
        eprintln!(
            "allocated   {period}: {} {} over {} tenants, {} idle, {} unallocated{}",
            grouped(&report.total.to_string()),
            report.currency.code(),
            report.tenants,
            report.idle,
            report.unallocated,
            if is_example { " (the example's pools, as an illustration)" } else { "" }
        );
    }
    match periods.last() {
        Some(newest) => Ok(Some(rentroll_billing::overview(&store, meters, newest, top).await?)),
        None => Ok(None),
    }
}

/// Everything that is stored, over all months: what a line count of the log can be held against.
async fn say_totals(store: &Store, meters: &Meters) -> anyhow::Result<()> {
    let (events, tenants, rejects): (u64, u64, u64) = store
        .client()
        .query("SELECT count(), uniqExact(tenant), assumeNotNull((SELECT count() FROM rejects FINAL)) FROM events")
        .fetch_one()
        .await
        .map_err(|error| store.error(error))?;
    let mut said =
        format!("{} events of {} tenants", grouped(&events.to_string()), grouped(&tenants.to_string()));
    for meter in &meters.meters {
        let sql = format!(
            "SELECT toString({}) FROM usage_day WHERE meter = {{meter:String}}",
            meter.rollup_aggregate_sql()
        );
        let total: String = store
            .client()
            .query(&sql)
            .param("meter", &meter.name)
            .fetch_one()
            .await
            .map_err(|error| store.error(error))?;
        said.push_str(&format!(", {} {}", meter.name, grouped(&total)));
    }
    if rejects > 0 {
        said.push_str(&format!(
            "; {} rejected lines are kept (`rejects list`)",
            grouped(&rejects.to_string())
        ));
    }
    eprintln!("stored      {said}");
    Ok(())
}

/// The months that have usage, oldest first.
async fn periods(store: &Store, catalogue: &Catalogue) -> anyhow::Result<Vec<Period>> {
    let zone = catalogue.time_zone;
    let months: Vec<u32> = store
        .client()
        .query("SELECT DISTINCT toUnixTimestamp(toStartOfHour(min(bucket))) FROM usage_hour GROUP BY toYYYYMM(bucket, {zone:String}) ORDER BY 1")
        .param("zone", zone.name())
        .fetch_all()
        .await
        .map_err(|error| store.error(error))?;
    Ok(months
        .into_iter()
        .filter_map(|seconds| Period::containing(DateTime::from_timestamp(i64::from(seconds), 0)?, zone))
        .collect())
}

/// The pools of `period`; where there are none, those of the example's month, so that another log has something
/// to split.
fn costs_of(costs: &Costs, period: &Period) -> (Costs, bool) {
    let month = period.to_string();
    if costs.pools.iter().any(|pool| pool.month == month) {
        return (costs.clone(), false);
    }
    let mut moved = costs.clone();
    let from = moved.pools.first().map(|pool| pool.month.clone()).unwrap_or_default();
    moved.pools.retain(|pool| pool.month == from);
    moved.unallocated.retain(|cost| cost.month == from);
    for pool in &mut moved.pools {
        pool.month.clone_from(&month);
    }
    for cost in &mut moved.unallocated {
        cost.month.clone_from(&month);
    }
    (moved, true)
}

fn table(overview: &Overview, meters: &Meters) -> anyhow::Result<()> {
    let currency = |currency: Option<rentroll_schemas::currency::Currency>| {
        currency.map_or_else(String::new, |code| format!(" {}", code.code()))
    };
    let invoiced = format!(">invoiced{}", currency(overview.invoice_currency));
    let cost = format!(">cost{}", currency(overview.cost_currency));
    let margin = format!(">margin{}", currency(overview.cost_currency));
    let mut headers = vec!["tenant".to_owned()];
    headers.extend(meters.meters.iter().map(|meter| format!(">{} ({})", meter.name, meter.unit)));
    headers.extend(["tier".to_owned(), "invoice".to_owned(), invoiced, cost, margin]);
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let mut sheet = Sheet::new(&headers);
    let money = |amount: Option<Exact>| {
        amount.map_or_else(|| "–".to_owned(), |Exact(amount)| grouped(&round_money(amount, 2).to_string()))
    };
    let cells = |name: &str, row: &TenantRow| {
        let mut cells = vec![name.to_owned()];
        for meter in &meters.meters {
            cells.push(
                row.usage
                    .get(&meter.name)
                    .map_or_else(|| "–".to_owned(), |quantity| grouped(&quantity.to_string())),
            );
        }
        cells.push(row.plan.clone().unwrap_or_default());
        cells.push(row.invoice.clone().unwrap_or_default());
        cells.extend([money(row.invoiced), money(row.allocated), money(row.margin)]);
        cells
    };
    for row in &overview.rows {
        sheet.row(&cells(&row.tenant, row));
    }
    sheet.row(&cells(&format!("all {} tenants", grouped(&overview.tenants.to_string())), &overview.total));
    let only_cost = |name: &str, amount: Option<Exact>| {
        let row = TenantRow { allocated: amount, ..TenantRow::default() };
        let mut cells = cells(name, &row);
        for cell in &mut cells {
            if cell == "–" {
                cell.clear();
            }
        }
        cells
    };
    sheet.row(&only_cost("idle", overview.idle));
    sheet.row(&only_cost("unallocated", overview.unallocated));
    sheet.row(&only_cost("spent", overview.spent));
    output::line("")?;
    sheet.print()?;
    eprintln!(
        "\nmonth {} [first, next first), zone {}; amounts shown to the cent, kept exactly",
        overview.period, overview.zone
    );
    Ok(())
}

/// The platform's arithmetic on equal apps, by the same code: $1,700 over 1,000 apps, each paying $20.
fn reference_split() {
    let apps: Vec<Use> =
        (0..1_000).map(|app| Use { tenant: format!("app-{app}"), units: 1_u32.into() }).collect();
    let split = split(1_700_000_000_000, &apps, None, IdlePolicy::Keep);
    let least = split.parts.iter().map(|part| part.direct).min().unwrap_or_default();
    let most = split.parts.iter().map(|part| part.direct).max().unwrap_or_default();
    let cost = Decimal::from_i128_with_scale(least as i128, 9);
    let price = Decimal::from(20);
    let margin = (price - cost) / price * Decimal::ONE_HUNDRED;
    if least == most {
        eprintln!(
            "for scale   1,000 equal apps on the same $1,700: ${} an app; at $20 an app a margin of {} %",
            round_money(cost, 2),
            round_money(margin, 1)
        );
    }
}
