//! `rentroll catalogue`: plans and prices, checked and shown.

use chrono::{NaiveDate, Utc};
use clap::Subcommand;
use rentroll_schemas::catalogue::{Catalogue, Charge, Pricing, Version};
use rentroll_schemas::currency::Currency;

use crate::cli::{Exit, WrongUse};
use crate::context::{self, Context};
use crate::output::{self, Sheet, grouped};

/// Arguments of `rentroll catalogue`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check the catalogue: shape, tiers without gap or overlap, meters that exist.
    #[command(after_help = "\
Examples:
  rentroll catalogue check
  rentroll --config billing/rentroll.toml catalogue check")]
    Check,
    /// Show plans, prices, and how tenants get their plan.
    #[command(after_help = "\
Examples:
  rentroll catalogue show
  rentroll catalogue show --on 2015-05-01
  rentroll catalogue show --json")]
    Show {
        /// As it is in force on this day; today by default.
        #[arg(long, value_name = "YYYY-MM-DD")]
        on: Option<NaiveDate>,
        /// As JSON: the whole catalogue.
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
    let catalogue = context::catalogue(&config, &meters)?;
    match args.action {
        Action::Check => {
            let plans = catalogue.newest().map_or(0, |version| version.plans.len());
            output::line(&format!(
                "{}: {} version(s), the newest with {plans} plans, {}, {}",
                config.path(&config.files.catalogue).display(),
                catalogue.versions.len(),
                catalogue.currency,
                catalogue.time_zone
            ))?;
        }
        Action::Show { json: true, .. } => output::json(&catalogue)?,
        Action::Show { on, json: false } => {
            let day = on.unwrap_or_else(|| Utc::now().with_timezone(&catalogue.time_zone).date_naive());
            let version = catalogue
                .version_on(day)
                .ok_or_else(|| WrongUse(format!("--on: the catalogue has no prices on {day}")))?;
            show(&catalogue, version)?;
        }
    }
    Ok(Exit::Done)
}

fn show(catalogue: &Catalogue, version: &Version) -> anyhow::Result<()> {
    let currency = catalogue.currency;
    let price = format!(">price {currency}");
    let headers = ["plan", "charge", "tier [from, to)", "unit", &price, ">requests/min", ">connections"];
    let mut sheet = Sheet::new(&headers);
    for plan in &version.plans {
        let limits = [plan.limits.requests_per_minute, plan.limits.connections]
            .map(|limit| grouped(&limit.to_string()));
        let [requests, connections] = limits;
        let base = grouped(&currency.round(plan.base_fee.0).to_string());
        let cells = [&plan.title, "monthly fee", "", "month", &base, &requests, &connections];
        sheet.row(&cells);
        for charge in &plan.charges {
            for [tier, unit, price] in prices(charge, currency) {
                sheet.row(&["", &charge.title, &tier, &unit, &price, "", ""]);
            }
        }
    }
    sheet.print()?;
    let assignment = &version.assignment;
    if let Some(by_usage) = &assignment.by_usage {
        for step in &by_usage.ladder {
            let to = step.to.map_or_else(|| "∞".to_owned(), |to| grouped(&to.to_string()));
            let from = grouped(&step.from.to_string());
            output::line(&format!("{} in [{from}, {to}) a month: {}", by_usage.meter, step.plan))?;
        }
    }
    if let Some(default) = &assignment.default {
        output::line(&format!("every tenant: {default}"))?;
    }
    for (tenant, plan) in &assignment.fixed {
        output::line(&format!("tenant {}: {plan}", tenant.escape_debug()))?;
    }
    if let Some(tax) = &version.tax {
        output::line(&format!("tax: {} {}", tax.name, tax.rate))?;
    }
    eprintln!("\nin force from {}, {currency}, days of {}", version.effective_from, catalogue.time_zone);
    Ok(())
}

/// (tier, unit, price) of each row of a charge.
fn prices(charge: &Charge, currency: Currency) -> Vec<[String; 3]> {
    let unit = || charge.unit.clone();
    match charge.pricing() {
        Some(Pricing::Graduated(tiers)) => tiers
            .iter()
            .map(|tier| {
                let to = tier.to.map_or_else(|| "∞".to_owned(), |to| grouped(&to.to_string()));
                let range = format!("[{}, {to})", grouped(&tier.from.to_string()));
                let fee =
                    tier.flat_fee.map(|fee| format!(" + {}", currency.round(fee.0))).unwrap_or_default();
                [range, unit(), format!("{}{fee}", tier.unit_price)]
            })
            .collect(),
        Some(Pricing::PerUnit(price)) => vec![[String::new(), unit(), price.to_string()]],
        Some(Pricing::Flat(amount)) => vec![["any use".to_owned(), "month".to_owned(), amount.to_string()]],
        None => Vec::new(),
    }
}
