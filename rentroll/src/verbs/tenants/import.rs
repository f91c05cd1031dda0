//! `rentroll tenants import`: tenants from a CSV or YAML file, all or nothing.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::Utc;
use rentroll_aggregator::tenants::plan::Plan;
use rentroll_aggregator::tenants::{self, Action, Change, ImportOptions, Imported, Registry};
use rentroll_schemas::tenant::csv::{BadLine, Reading};
use rentroll_schemas::tenant::{Origin, Tenants};
use serde::Serialize;

use crate::cli::{Exit, WrongUse};
use crate::config::Config;
use crate::context;
use crate::output::{self, grouped};

pub(super) const EXAMPLES: &str = "\
Examples:
  rentroll tenants import tenants.csv --dry-run       what would come of it
  rentroll tenants import tenants.csv
  rentroll tenants import tenants.csv --skip-bad bad.csv
  crm-export | rentroll tenants import -
  rentroll tenants import more.yaml
  rentroll tenants import                             the file that files.tenants names, as at a start

The first line of CSV names the columns: tenant, name, organisation, tier, valid_from, removed, tag.KEY…, external_id.SYSTEM….
A column that is not there leaves what is known as it is; an empty cell is an empty value. Without valid_from a tenant that
is new is known from the beginning, a change from the next minute on.

All lines or none: bad ones are told with their number, column and reason, and nothing is imported.";

/// What is read from stdin.
const STDIN: &str = "-";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A CSV file (- for stdin), or a YAML file (.yaml, .yml); without one, what files.tenants names.
    file: Option<PathBuf>,
    /// Take the good lines, and write the bad ones to this new file, as they are, to be mended and imported.
    #[arg(long, value_name = "FILE", requires = "file")]
    skip_bad: Option<PathBuf>,
    /// Only say what would come of it.
    #[arg(long)]
    dry_run: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A line that was not taken.
#[derive(Serialize)]
struct Bad<'a> {
    line: u64,
    field: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct Report<'a> {
    is_applied: bool,
    added: usize,
    changed: usize,
    removed: usize,
    unchanged: usize,
    /// What is not unchanged.
    changes: Vec<&'a Change>,
    bad: Vec<Bad<'a>>,
}

pub(super) async fn run(config: &Config, registry: &Registry, args: &Args) -> anyhow::Result<Exit> {
    let Some(file) = &args.file else { return apply_own(config, registry, args).await };
    let is_yaml = file.extension().is_some_and(|end| end == "yaml" || end == "yml");
    match is_yaml {
        true if args.skip_bad.is_some() => {
            Err(WrongUse("--skip-bad: takes lines of CSV alone".into()).into())
        }
        true => {
            let records = Tenants::read(file)?.tenants;
            put(registry, args, &file.display().to_string(), &records, Origin::Import).await
        }
        false => lines(registry, args, file).await,
    }
}

/// The configuration's own file: what was changed elsewhere since it was applied stays.
async fn apply_own(config: &Config, registry: &Registry, args: &Args) -> anyhow::Result<Exit> {
    let path = config.path(&config.files.tenants);
    let Some(file) = context::tenants_if_any(config)? else {
        let said = format!("{} (files.tenants) is not there: name a file to import", path.display());
        return Err(WrongUse(said).into());
    };
    put(registry, args, &path.display().to_string(), &file.tenants, Origin::File).await
}

async fn put(
    registry: &Registry,
    args: &Args,
    name: &str,
    records: &[rentroll_schemas::tenant::TenantRecord],
    origin: Origin,
) -> anyhow::Result<Exit> {
    let now = Utc::now();
    let changes = match args.dry_run {
        false => registry
            .put(records, origin, now)
            .await
            .with_context(|| format!("{name}: nothing was imported"))?,
        true => {
            let Plan { changes, refusals, .. } = registry.plan(records, origin, now).await?;
            if !refusals.is_empty() {
                return Err(tenants::TenantsError::Refused(refusals)).context(name.to_owned());
            }
            changes
        }
    };
    let imported = Imported { changes, bad: Vec::new(), is_applied: !args.dry_run };
    report(args, name, &imported)?;
    Ok(Exit::Done)
}

async fn lines(registry: &Registry, args: &Args, file: &Path) -> anyhow::Result<Exit> {
    let (bytes, name) = match file == Path::new(STDIN) {
        true => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read stdin")?;
            (bytes, "stdin".to_owned())
        }
        false => {
            let name = file.display().to_string();
            (std::fs::read(file).with_context(|| format!("cannot read {name}"))?, name)
        }
    };
    let reading = Reading::new(bytes).map_err(|fault| WrongUse(format!("{name}: {fault}")))?;
    let now = Utc::now();
    let skip_bad = args.skip_bad.is_some();
    let trial = registry.import(&reading, ImportOptions { skip_bad, dry_run: true }, now).await?;
    for BadLine { number, fault, .. } in &trial.bad {
        eprintln!("{name}:{number}: {fault}");
    }
    if !trial.bad.is_empty() && !args.dry_run {
        let all = trial.bad.len() + trial.changes.len();
        let Some(path) = &args.skip_bad else {
            if args.json {
                report(args, &name, &trial)?;
            }
            anyhow::bail!(
                "{name}: {} of {} lines are bad, nothing was imported; mend them, or take the others with --skip-bad FILE",
                grouped(&trial.bad.len().to_string()),
                grouped(&all.to_string())
            );
        };
        // Before anything is imported: what is left out must not be lost.
        write_new(path, &reading.excerpt(trial.bad.iter().map(|bad| bad.place.clone())))?;
        eprintln!("the bad lines are in {}", path.display());
    }
    let imported = match args.dry_run {
        true => trial,
        false => registry.import(&reading, ImportOptions { skip_bad, dry_run: false }, now).await?,
    };
    if !args.dry_run && !imported.is_applied {
        anyhow::bail!(
            "{name}: the registry was changed by others meanwhile, nothing was imported; try again"
        );
    }
    report(args, &name, &imported)?;
    // Whoever only asks wants to know.
    Ok(if args.dry_run && !imported.bad.is_empty() { Exit::DoesNotHold } else { Exit::Done })
}

fn report(args: &Args, name: &str, imported: &Imported) -> anyhow::Result<()> {
    let real = || imported.changes.iter().filter(|change| change.action != Action::Unchanged);
    if args.json {
        let bad = imported.bad.iter().map(|bad| Bad {
            line: bad.number,
            field: &bad.fault.field,
            reason: &bad.fault.reason,
        });
        return output::json(&Report {
            is_applied: imported.is_applied,
            added: imported.count(Action::Added),
            changed: imported.count(Action::Changed),
            removed: imported.count(Action::Removed),
            unchanged: imported.count(Action::Unchanged),
            changes: real().collect(),
            bad: bad.collect(),
        });
    }
    if args.dry_run {
        for change in real() {
            output::line(&super::said(change))?;
        }
    }
    let count = |action, word: &str| {
        let count = imported.count(action);
        format!("{} {word}", grouped(&count.to_string()))
    };
    eprintln!(
        "{name}: {}, {}, {}, {}{}",
        count(Action::Added, "added"),
        count(Action::Changed, "changed"),
        count(Action::Removed, "removed"),
        count(Action::Unchanged, "unchanged"),
        if args.dry_run { "; nothing was written" } else { "" }
    );
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    let written = std::fs::File::create_new(path).and_then(|mut file| file.write_all(bytes));
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(WrongUse(format!("--skip-bad: {} is there already; nothing was imported", path.display()))
                .into())
        }
        written => written.with_context(|| format!("cannot write {}; nothing was imported", path.display())),
    }
}
