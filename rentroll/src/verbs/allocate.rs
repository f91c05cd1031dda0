//! `rentroll allocate`: what each tenant cost.

use std::io::Write as _;

use chrono::Utc;
use clap::Subcommand;
use rentroll_billing::allocation::{self, Allocation, AllocationReport, CostExplanation, TenantCost};
use rentroll_billing::invoices::{self, Filter, csv_text};
use rentroll_billing::{AllocateOptions, BillingError, overview};
use rentroll_schemas::Quantity;
use rentroll_schemas::currency::Exact;
use serde::Serialize;

use super::month::{self, Month, money};
use crate::cli::Exit;
use crate::context::{self, Context};
use crate::output::{self, Sheet, grouped};

/// Arguments of `rentroll allocate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Split a month's costs over the tenants, by what they did.
    #[command(after_help = "\
Examples:
  rentroll allocate run --period 2015-05 --dry-run   the split; writes nothing
  rentroll allocate run --period 2015-05             store it
  rentroll allocate run --period 2015-05 --json

The same costs and the same usage are one allocation: running it again changes nothing. Tenants, idle and
unallocated cost add up to what was spent, to the last nano-unit.

Exits with 3 if raw events and rollups differ, or if what is stored does not add up.")]
    Run {
        /// The month, YYYY-MM.
        #[arg(long, value_name = "YYYY-MM")]
        period: String,
        /// Write nothing.
        #[arg(long)]
        dry_run: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// The newest allocation of a month: pools, and what each tenant cost and brought in.
    #[command(after_help = "\
Examples:
  rentroll allocate show --period 2015-05
  rentroll allocate show --period 2015-05 --limit 100
  rentroll allocate show --period 2015-05 --json     every tenant, exact")]
    Show {
        /// The month, YYYY-MM.
        #[arg(long, value_name = "YYYY-MM")]
        period: String,
        /// Show at most this many tenants; totals are of all.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Why a tenant costs what it costs: drivers, units, share, amount.
    #[command(after_help = "\
Examples:
  rentroll allocate explain --period 2015-05 66.249.73.135
  rentroll allocate explain --period 2015-05 66.249.73.135 --json")]
    Explain {
        /// The tenant.
        tenant: String,
        /// The month, YYYY-MM.
        #[arg(long, value_name = "YYYY-MM")]
        period: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write the newest allocation of a month to stdout as CSV, a row per pool and tenant, exact.
    #[command(after_help = "\
Examples:
  rentroll allocate export --period 2015-05 > costs.csv")]
    Export {
        /// The month, YYYY-MM.
        #[arg(long, value_name = "YYYY-MM")]
        period: String,
    },
}

/// Runs it.
///
/// # Errors
/// See [`BillingError`].
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    month::exit(match args.action {
        Action::Run { period, dry_run, json } => split(context, &period, dry_run, json).await,
        Action::Show { period, limit, json } => show(context, &period, limit, json).await,
        Action::Explain { tenant, period, json } => explain(context, &tenant, &period, json).await,
        Action::Export { period } => export(context, &period).await,
    })
}

async fn split(context: &Context, period: &str, dry_run: bool, json: bool) -> anyhow::Result<Exit> {
    let month = Month::open(context, period).await?;
    let costs = context::costs(&month.config, &month.meters)?;
    let options = AllocateOptions { dry_run, now: Utc::now() };
    let report =
        rentroll_billing::allocate(&month.store, &costs, &month.meters, &month.period, options).await?;
    month.store.close().await;
    if json {
        output::json(&report)?;
        return Ok(Exit::Done);
    }
    show_pools(&report)?;
    let said = match (dry_run, report.newly_stored) {
        (true, _) => "a dry run: nothing was written",
        (false, true) => "stored",
        (false, false) => "stored before, from the same costs and usage: nothing was changed",
    };
    let tenants = grouped(&report.tenants.to_string());
    month::footer(&report.period, &report.zone, &format!("{tenants} tenants, run {}: {said}", report.run_id));
    Ok(Exit::Done)
}

fn show_pools(report: &AllocationReport) -> anyhow::Result<()> {
    let header = |name: &str| format!(">{name} {}", report.currency);
    let headers = ["by use", "idle, shared out", "idle", "unallocated", "spent"].map(header);
    let [direct, shared, idle, unallocated, spent] = &headers;
    let mut sheet = Sheet::new(&["pool", ">tenants", direct, shared, idle, unallocated, spent]);
    let amount = |amount: Exact| money(amount, report.currency);
    let (mut direct, mut shared) = (Exact::default(), Exact::default());
    for pool in &report.pools {
        direct = Exact(direct.0 + pool.direct.0);
        shared = Exact(shared.0 + pool.idle_shared.0);
        sheet.row(&[
            pool.title.clone(),
            grouped(&pool.tenants.to_string()),
            amount(pool.direct),
            amount(pool.idle_shared),
            amount(pool.idle),
            amount(pool.unallocated),
            amount(pool.total),
        ]);
    }
    sheet.row(&[
        "total".to_owned(),
        grouped(&report.tenants.to_string()),
        amount(direct),
        amount(shared),
        amount(report.idle),
        amount(report.unallocated),
        amount(report.total),
    ]);
    sheet.print()
}

/// A tenant's cost beside what it was invoiced.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    cost: TenantCost,
    invoice: Option<String>,
    invoiced: Option<Exact>,
    margin: Option<Exact>,
}

async fn show(context: &Context, period: &str, limit: usize, json: bool) -> anyhow::Result<Exit> {
    let month = Month::open(context, period).await?;
    let store = &month.store;
    let report = allocation::latest(store, period).await?;
    let costs = allocation::tenants(store, period, None).await?;
    let filter = Filter { period: Some(period.to_owned()), tenant: None };
    let mut invoiced: std::collections::BTreeMap<String, invoices::InvoiceSummary> =
        invoices::list(store, &filter)
            .await?
            .into_iter()
            .map(|invoice| (invoice.tenant.clone(), invoice))
            .collect();
    let total = overview(store, &month.meters, &month.period, 0).await?.total;
    month.store.close().await;
    let shown: Vec<Shown> = costs
        .into_iter()
        .map(|cost| {
            let invoice = invoiced.remove(&cost.tenant).filter(|invoice| invoice.currency == report.currency);
            let margin = invoice.as_ref().and_then(|invoice| invoice.total.0.checked_sub(cost.total.0));
            Shown {
                invoice: invoice.as_ref().map(|invoice| invoice.number.clone()),
                invoiced: invoice.map(|invoice| invoice.total),
                margin: margin.map(Exact),
                cost,
            }
        })
        .collect();
    if json {
        output::json(&serde_json::json!({ "allocation": report, "tenants": shown }))?;
        return Ok(Exit::Done);
    }
    show_pools(&report)?;
    output::line("")?;
    let header = |name: &str| format!(">{name} {}", report.currency);
    let pool_headers: Vec<String> = report.pools.iter().map(|pool| format!(">{}", pool.pool)).collect();
    let (cost, billed, margin) = (header("cost"), header("invoiced"), header("margin"));
    let mut headers = vec!["tenant"];
    headers.extend(pool_headers.iter().map(String::as_str));
    headers.extend([cost.as_str(), "invoice", billed.as_str(), margin.as_str()]);
    let mut sheet = Sheet::new(&headers);
    let amount = |amount: Option<Exact>| {
        amount.map_or_else(|| "–".to_owned(), |amount| money(amount, report.currency))
    };
    let is_nobody = |row: &Shown| row.cost.tenant.starts_with("__");
    let tenants = shown.iter().filter(|row| !is_nobody(row));
    for row in tenants.take(limit).chain(shown.iter().filter(|row| is_nobody(row))) {
        let mut cells = vec![row.cost.tenant.clone()];
        cells.extend(report.pools.iter().map(|pool| amount(row.cost.pools.get(&pool.pool).copied())));
        cells.extend([
            amount(Some(row.cost.total)),
            row.invoice.clone().unwrap_or_default(),
            if is_nobody(row) { String::new() } else { amount(row.invoiced) },
            if is_nobody(row) { String::new() } else { amount(row.margin) },
        ]);
        sheet.row(&cells);
    }
    let mut cells = vec![format!("all, {} tenants", grouped(&report.tenants.to_string()))];
    cells.extend(report.pools.iter().map(|pool| amount(Some(pool.total))));
    let margin = total.invoiced.and_then(|invoiced| invoiced.0.checked_sub(report.total.0)).map(Exact);
    cells.extend([amount(Some(report.total)), String::new(), amount(total.invoiced), amount(margin)]);
    sheet.row(&cells);
    sheet.print()?;
    let rest = format!(
        "amounts shown rounded, kept exactly; the margin of all is after idle and unallocated cost; run {}",
        report.run_id
    );
    month::footer(&report.period, &report.zone, &rest);
    Ok(Exit::Done)
}

async fn explain(context: &Context, tenant: &str, period: &str, json: bool) -> anyhow::Result<Exit> {
    let month = Month::open(context, period).await?;
    let costs = context::costs(&month.config, &month.meters)?;
    let explanation =
        allocation::explain(&month.store, &costs, &month.meters, &month.period, tenant, Utc::now()).await?;
    month.store.close().await;
    if json {
        output::json(&explanation)?;
    } else {
        show_explanation(&explanation)?;
    }
    Ok(Exit::Done)
}

fn show_explanation(explanation: &CostExplanation) -> anyhow::Result<()> {
    let currency = explanation.currency;
    for pool in &explanation.pools {
        output::line(&format!("{} ({} {currency})", pool.title, money(pool.amount, currency)))?;
        for driver in &pool.drivers {
            output::line(&format!(
                "  {} {} × {} = {} units ({})",
                quantity(driver.quantity),
                driver.unit,
                driver.weight,
                quantity(driver.units),
                driver.meter
            ))?;
        }
        let basis = match pool.capacity_units {
            Some(capacity) if capacity > pool.units_of_all => {
                format!("{} paid for, {} used by all", quantity(capacity), quantity(pool.units_of_all))
            }
            _ => format!("{} used by all", quantity(pool.units_of_all)),
        };
        let divisor = pool.capacity_units.unwrap_or_default().max(pool.units_of_all);
        output::line(&format!(
            "  {} · {} / {} = {} by use ({basis})",
            money(pool.amount, currency),
            quantity(pool.units),
            quantity(divisor),
            pool.direct
        ))?;
        if !pool.idle_share.0.is_zero() {
            output::line(&format!(
                "  + {} as its share of idle cost ({:?})",
                pool.idle_share, pool.idle_policy
            ))?;
        }
        output::line(&format!("  = {} {currency}", pool.total))?;
    }
    output::line(&format!("total {} {currency}", explanation.total))?;
    let stored = if explanation.is_stored { "as stored" } else { "not stored: run `rentroll allocate run`" };
    month::footer(
        &explanation.period,
        &explanation.zone,
        &format!("tenant {}; {stored}", explanation.tenant),
    );
    Ok(())
}

fn quantity(quantity: Quantity) -> String {
    grouped(&quantity.to_string())
}

async fn export(context: &Context, period: &str) -> anyhow::Result<Exit> {
    let month = Month::open(context, period).await?;
    let report = allocation::latest(&month.store, period).await?;
    let rows = allocation::latest_rows(&month.store, period).await?;
    month.store.close().await;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    writeln!(out, "run_id,period,time_zone,pool,tenant,driver_units,direct,idle_share,total,currency")?;
    for row in &rows {
        writeln!(out, "{}", csv_row(&report, row)?)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn csv_row(report: &AllocationReport, row: &Allocation) -> Result<String, BillingError> {
    let amount = |nanos: u128| {
        let too_large = |_| BillingError::TooLarge { what: format!("the cost of `{}`", row.tenant) };
        i128::try_from(nanos).map(Quantity::from_nanos).map_err(too_large)
    };
    Ok(format!(
        "{},{},{},{},{},{},{},{},{},{}",
        report.run_id,
        report.period,
        report.zone,
        csv_text(&row.pool),
        csv_text(&row.tenant),
        row.driver_units,
        amount(row.direct)?,
        amount(row.idle_share)?,
        amount(row.total())?,
        report.currency
    ))
}
