//! `rentroll tenants`: who uses how much, and what is known of whom.
//!
//! The verbs speak to the store, and so to the one that `rentroll up` serves if it runs. What they change is in force at
//! once.

use chrono::{DateTime, Utc};
use clap::Subcommand;
use rentroll_aggregator::tenants::{Action, Change, Registry, TenantsError};
use rentroll_schemas::tenant::Since;

use crate::cli::{Exit, WrongUse};
use crate::context::{self, Context};

mod import;
mod list;
mod set;
mod show;

/// Arguments of `rentroll tenants`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    before_help = "\
Examples:
  rentroll tenants --limit 10                         who used how much in the last 30 days
  rentroll tenants --month 2026-10 --measure bytes
  rentroll tenants --totals --json
  rentroll tenants list --organisation Acme --csv
  rentroll tenants show acme-shop                     what is known of it, from when on
  rentroll tenants import tenants.csv
  rentroll tenants export > tenants.csv
  rentroll tenants set acme-shop --tier pro --from 2026-05-17T10:01
  rentroll tenants remove acme-shop

Without a verb it lists. docs/tenants.md says what the registry is."
)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Verb>,
    #[command(flatten)]
    list: list::Args,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Who uses how much, with what is known of them now: of the last 30 days, where nothing is said.
    #[command(before_help = list::EXAMPLES)]
    List(list::Args),
    /// All that is known of a tenant, from when on.
    #[command(before_help = show::EXAMPLES)]
    Show(show::Args),
    /// Take up tenants from a CSV or YAML file.
    #[command(before_help = import::EXAMPLES)]
    Import(import::Args),
    /// Write all that is known to stdout as CSV, which `import` takes back unchanged.
    #[command(before_help = show::EXPORT_EXAMPLES)]
    Export(show::Export),
    /// Make something known of a tenant, or change it.
    #[command(before_help = set::EXAMPLES)]
    Set(set::Args),
    /// Let nothing be known of a tenant any more; what was known before stays, and its usage too.
    #[command(before_help = set::REMOVE_EXAMPLES)]
    Remove(set::Remove),
}

/// Runs it.
///
/// # Errors
/// The store's, and the registry's.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let store = context::store(&config).await?;
    let registry = Registry::new(store.clone());
    let exit = match args.action {
        None => list::run(&registry, &store, &args.list).await?,
        Some(Verb::List(args)) => list::run(&registry, &store, &args).await?,
        Some(Verb::Show(args)) => show::run(&registry, &args).await?,
        Some(Verb::Import(args)) => import::run(&config, &registry, &args).await?,
        Some(Verb::Export(args)) => show::export(&registry, &args).await?,
        Some(Verb::Set(args)) => set::run(&registry, args).await?,
        Some(Verb::Remove(args)) => set::remove(&registry, &args).await?,
    };
    drop(registry);
    store.close().await;
    Ok(exit)
}

/// `k=v`, as an argument.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(format!("`{text}`: write key=value")),
    }
}

/// A moment of the command line, at which a minute begins.
fn minute(text: &str) -> Result<DateTime<Utc>, String> {
    let time = super::when::moment(text)?;
    rentroll_schemas::tenant::is_start(time).map(|()| time)
}

/// What a change does, in a line.
fn said(change: &Change) -> String {
    let since = Since(change.valid_from);
    let tenant = &change.tenant;
    let differences: Vec<String> = change
        .differences
        .iter()
        .map(|difference| {
            let text = |text: &str| if text.is_empty() { "nothing".to_owned() } else { format!("`{text}`") };
            format!("{} {} → {}", difference.field, text(&difference.before), text(&difference.after))
        })
        .collect();
    let differences = differences.join(", ");
    match change.action {
        Action::Unchanged => format!("{tenant}: is known so already, nothing was changed"),
        Action::Removed => format!("{tenant}: nothing is known of it {since}"),
        Action::Added if differences.is_empty() => format!("{tenant}: is known {since}"),
        Action::Added | Action::Changed => format!("{tenant}: {differences}, {since}"),
    }
}

/// What was given for a tenant is the user's to mend.
fn wrong_use(error: TenantsError) -> anyhow::Error {
    match error {
        TenantsError::Refused(refusals) => {
            let first = refusals.into_iter().next().map(|refusal| refusal.fault);
            let said = first.map(|fault| match fault.field.split_once('.') {
                Some(("tags", key)) => format!("--tag {key}: {}", fault.reason),
                Some(("external_ids", system)) => format!("--external-id {system}: {}", fault.reason),
                _ => match fault.field.as_str() {
                    "tags" => format!("--tag: {}", fault.reason),
                    "external_ids" => format!("--external-id: {}", fault.reason),
                    "valid_from" => format!("--from: {}", fault.reason),
                    "tenant" => format!("TENANT: {}", fault.reason),
                    field => format!("--{field}: {}", fault.reason),
                },
            });
            WrongUse(said.unwrap_or_default()).into()
        }
        TenantsError::Unknown(tenant) => {
            anyhow::anyhow!("nothing is known of tenant `{tenant}`; `rentroll tenants list` lists tenants")
        }
        error => error.into(),
    }
}
