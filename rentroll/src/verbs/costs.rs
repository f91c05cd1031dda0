//! `rentroll costs`: the cost pools, checked and shown.

use clap::Subcommand;
use rentroll_schemas::costs::{IdlePolicy, Pool};

use super::month::money;
use crate::cli::Exit;
use crate::context::{self, Context};
use crate::output::{self, Sheet, grouped};

/// Arguments of `rentroll costs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check the cost pools: shape, drivers that exist, capacities that fit.
    #[command(after_help = "\
Examples:
  rentroll costs check")]
    Check,
    /// Show pools, drivers and policies.
    #[command(after_help = "\
Examples:
  rentroll costs show
  rentroll costs show --json")]
    Show {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
///
/// # Errors
/// [`rentroll_schemas::yaml::FileError`] names file, path and reason.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let meters = context::meters(&config)?;
    let costs = context::costs(&config, &meters)?;
    match args.action {
        Action::Check => {
            output::line(&format!(
                "{}: {} pool(s), {} amount(s) without a tenant, {}",
                config.path(&config.files.costs).display(),
                costs.pools.len(),
                costs.unallocated.len(),
                costs.currency
            ))?;
        }
        Action::Show { json: true } => output::json(&costs)?,
        Action::Show { json: false } => {
            let amount = format!(">amount {}", costs.currency);
            let mut sheet =
                Sheet::new(&["month", "pool", &amount, "drivers (units each)", "capacity", "idle cost"]);
            for pool in &costs.pools {
                sheet.row(&[
                    pool.month.clone(),
                    pool.title.clone(),
                    money(pool.amount, costs.currency),
                    drivers(pool),
                    capacity(pool),
                    policy(pool).to_owned(),
                ]);
            }
            for row in &costs.unallocated {
                let amount = money(row.amount, costs.currency);
                sheet.row(&[&row.month, &row.title, &amount, "no tenant", "", "unallocated"]);
            }
            sheet.print()?;
        }
    }
    Ok(Exit::Done)
}

fn drivers(pool: &Pool) -> String {
    let drivers: Vec<String> =
        pool.drivers.iter().map(|(meter, weight)| format!("{meter} × {weight}")).collect();
    if drivers.is_empty() { "none".to_owned() } else { drivers.join(" + ") }
}

fn capacity(pool: &Pool) -> String {
    let capacity: Vec<String> =
        pool.capacity.iter().map(|(meter, size)| format!("{} {meter}", grouped(&size.to_string()))).collect();
    capacity.join(" + ")
}

fn policy(pool: &Pool) -> &'static str {
    match pool.idle_policy {
        IdlePolicy::Keep => "kept apart",
        IdlePolicy::Proportional => "in proportion to use",
        IdlePolicy::Even => "evenly over tenants",
    }
}
