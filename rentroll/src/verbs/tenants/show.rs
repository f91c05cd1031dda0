//! `rentroll tenants show` and `export`: what is known.

use std::io::Write as _;

use chrono::{DateTime, Utc};
use rentroll_aggregator::tenants::{Registry, TenantVersion, TenantsError};
use rentroll_schemas::tenant::{TenantRecord, csv};

use crate::cli::Exit;
use crate::output::{self, Sheet};

pub(super) const EXAMPLES: &str = "\
Examples:
  rentroll tenants show acme-shop
  rentroll tenants show acme-shop --json";

pub(super) const EXPORT_EXAMPLES: &str = "\
Examples:
  rentroll tenants export > tenants.csv
  rentroll tenants export --at 2026-05-31 > may.csv
  rentroll tenants export --json";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The tenant.
    tenant: String,
    /// As JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// As CSV, which `rentroll tenants import` takes.
    #[arg(long)]
    csv: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// Only what is known at this time, instead of all versions.
    #[arg(long, value_name = "TIME", value_parser = crate::verbs::when::moment)]
    at: Option<DateTime<Utc>>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(registry: &Registry, args: &Args) -> anyhow::Result<Exit> {
    let versions = registry.get(&args.tenant).await?;
    if versions.is_empty() {
        return Err(super::wrong_use(TenantsError::Unknown(args.tenant.clone())));
    }
    if args.json {
        output::json(&versions)?;
    } else if args.csv {
        print_csv(&versions)?;
    } else {
        print_sheet(&versions)?;
    }
    Ok(Exit::Done)
}

pub(super) async fn export(registry: &Registry, args: &Export) -> anyhow::Result<Exit> {
    let mut versions = registry.versions().await?;
    if let Some(at) = args.at {
        versions.retain(|version| version.holds_at(at) && !version.record.removed);
    }
    match args.json {
        true => output::json(&versions)?,
        false => print_csv(&versions)?,
    }
    Ok(Exit::Done)
}

fn print_csv(versions: &[TenantVersion]) -> anyhow::Result<()> {
    let text = csv::write(versions.iter().map(|version| &version.record));
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

fn print_sheet(versions: &[TenantVersion]) -> anyhow::Result<()> {
    let time = |time: Option<DateTime<Utc>>, none: &str| match time {
        Some(time) => time.format("%Y-%m-%d %H:%M").to_string(),
        None => none.to_owned(),
    };
    let pairs = |pairs: &std::collections::BTreeMap<String, String>| {
        pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    };
    let mut sheet = Sheet::new(&[
        "from (UTC)",
        "to (UTC)",
        "tier",
        "organisation",
        "name",
        "tags",
        "external ids",
        "by",
        "recorded at (UTC)",
    ]);
    for TenantVersion { record, valid_to, origin, recorded_at } in versions {
        let TenantRecord { name, organisation, tier, .. } = record;
        let tier = if record.removed { "(removed)" } else { tier };
        sheet.row(&[
            &time(record.starts_at(), "the beginning"),
            &time(*valid_to, ""),
            tier,
            organisation,
            name,
            &pairs(&record.tags),
            &pairs(&record.external_ids),
            origin.name(),
            &recorded_at.format("%Y-%m-%d %H:%M:%S").to_string(),
        ]);
    }
    sheet.print()
}
