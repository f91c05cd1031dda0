//! `rentroll tenants set` and `remove`: one tenant changed by hand.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rentroll_aggregator::tenants::plan::next_minute;
use rentroll_aggregator::tenants::{Change, Registry};
use rentroll_schemas::tenant::{Origin, TenantRecord};

use crate::cli::Exit;
use crate::output;

pub(super) const EXAMPLES: &str = "\
Examples:
  rentroll tenants set acme-shop --name \"Acme's shop\" --organisation Acme --tier free
  rentroll tenants set acme-shop --tier pro                           from the next minute on
  rentroll tenants set acme-shop --tier pro --from 2026-05-17T10:01   in mid-month; UTC
  rentroll tenants set acme-shop --tag region=eu --tag team= --external-id stripe=cus_1

What is not named stays as it is known then. A tenant that is new is known from the beginning, unless --from is given.";

pub(super) const REMOVE_EXAMPLES: &str = "\
Examples:
  rentroll tenants remove acme-shop
  rentroll tenants remove acme-shop --from 2026-08-01";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The tenant: the `subject` of its events.
    tenant: String,
    /// Its name for people; '' for none.
    #[arg(long)]
    name: Option<String>,
    /// Its tier; '' for none.
    #[arg(long)]
    tier: Option<String>,
    /// Its organisation; '' for none.
    #[arg(long)]
    organisation: Option<String>,
    /// A tag; without a value it is taken away.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = super::pair)]
    tags: Vec<(String, String)>,
    /// An id elsewhere; without a value it is taken away.
    #[arg(long = "external-id", value_name = "SYSTEM=ID", value_parser = super::pair)]
    external_ids: Vec<(String, String)>,
    /// From when on, a whole minute. Not within a billing period that is closed.
    #[arg(long, value_name = "TIME", value_parser = super::minute)]
    from: Option<DateTime<Utc>>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Remove {
    /// The tenant.
    tenant: String,
    /// From when on, a whole minute; without it from the next one.
    #[arg(long, value_name = "TIME", value_parser = super::minute)]
    from: Option<DateTime<Utc>>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(registry: &Registry, args: Args) -> anyhow::Result<Exit> {
    let now = Utc::now();
    let known = registry.at(&args.tenant, args.from.unwrap_or_else(|| next_minute(now))).await?;
    let before = known.map(|version| version.record).unwrap_or_default();
    let record = TenantRecord {
        tenant: args.tenant,
        name: args.name.unwrap_or(before.name),
        organisation: args.organisation.unwrap_or(before.organisation),
        tier: args.tier.unwrap_or(before.tier),
        tags: changed(before.tags, args.tags),
        external_ids: changed(before.external_ids, args.external_ids),
        valid_from: args.from,
        removed: false,
    };
    let changes = registry.put(&[record], Origin::Command, now).await.map_err(super::wrong_use)?;
    tell(&changes, args.json)
}

pub(super) async fn remove(registry: &Registry, args: &Remove) -> anyhow::Result<Exit> {
    let removing = registry.remove(&args.tenant, args.from, Origin::Command, Utc::now());
    let change = removing.await.map_err(super::wrong_use)?;
    tell(&[change], args.json)
}

fn changed(mut entries: BTreeMap<String, String>, pairs: Vec<(String, String)>) -> BTreeMap<String, String> {
    for (key, value) in pairs {
        match value.is_empty() {
            true => drop(entries.remove(&key)),
            false => drop(entries.insert(key, value)),
        }
    }
    entries
}

fn tell(changes: &[Change], json: bool) -> anyhow::Result<Exit> {
    for change in changes {
        match json {
            true => output::json(change)?,
            false => eprintln!("{}", super::said(change)),
        }
    }
    Ok(Exit::Done)
}
