//! `rentroll config`: write, check and show the configuration.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use rentroll_collector::http::tls::Tls;

use crate::cli::{Exit, WrongUse};
use crate::config::TEMPLATE;
use crate::context::{self, Context};
use crate::output;

/// Arguments of `rentroll config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a commented rentroll.toml, and beside it meters, a catalogue and cost pools to begin with; never
    /// over an existing file.
    Init {
        /// Where.
        #[arg(default_value = "rentroll.toml")]
        path: PathBuf,
    },
    /// Check the configuration and every file that it names.
    Check,
    /// Print the configuration in force: file, environment and defaults together.
    Show {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
///
/// # Errors
/// Names file, key and line.
pub fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    match args.action {
        Action::Init { path } => init(&path)?,
        Action::Check => {
            let config = context.config()?;
            let meters = context::meters(&config)?;
            let said = |path: &std::path::Path, what: String| {
                output::line(&format!("{}: ok, {what}", config.path(path).display()))
            };
            said(&config.files.meters, format!("{} meters", meters.meters.len()))?;
            let catalogue = context::catalogue(&config, &meters)?;
            said(&config.files.catalogue, format!("{} versions", catalogue.versions.len()))?;
            // A platform that only invoices has no bill to split.
            if config.path(&config.files.costs).exists() {
                let costs = context::costs(&config, &meters)?;
                said(&config.files.costs, format!("{} cost pools", costs.pools.len()))?;
            }
            if config.path(&config.files.tokens).exists() {
                said(&config.files.tokens, format!("{} tokens", context::tokens(&config)?.tokens.len()))?;
            }
            if let Some(tenants) = context::tenants_if_any(&config)? {
                said(&config.files.tenants, format!("{} tenants and versions", tenants.tenants.len()))?;
            }
            if let Some(tls) = context::ingest_tls(&config) {
                let cert = tls.cert.clone();
                Tls::open(tls)?;
                output::line(&format!("{}: ok, a certificate and its key", cert.display()))?;
            }
            match context
                .config_path()
                .cloned()
                .or_else(|| Some("rentroll.toml".into()).filter(|path: &PathBuf| path.exists()))
            {
                Some(path) => output::line(&format!("{}: ok", path.display()))?,
                None => {
                    output::line("no rentroll.toml here: defaults, ok; `rentroll config init` writes one")?
                }
            }
        }
        Action::Show { json } => {
            let mut config = context.config()?;
            // A password is never printed, not even to its owner's terminal.
            config.store.password = config.store.password.map(|_| "********".to_owned());
            for (name, value) in &mut config.log.kafka.client {
                if rentroll_engines::log::kafka::is_secret(name) {
                    *value = "********".to_owned();
                }
            }
            if json {
                output::json(&config)?;
            } else {
                output::line(&toml::to_string(&config)?)?;
            }
        }
    }
    Ok(Exit::Done)
}

/// What a set-up begins with beside its configuration: the example's files, each of which is commented.
const BESIDE: [(&str, &str); 3] = [
    ("meters.yaml", include_str!("../../../examples/access-log/meters.yaml")),
    ("catalogue.yaml", include_str!("../../../examples/access-log/catalogue.yaml")),
    ("costs.yaml", include_str!("../../../examples/access-log/costs.yaml")),
];

fn init(path: &Path) -> anyhow::Result<()> {
    if !write_new(path, TEMPLATE)? {
        return Err(WrongUse(format!("{} is there already; it was left as it is", path.display())).into());
    }
    eprintln!("wrote {}", path.display());
    for (name, text) in BESIDE {
        let path = path.with_file_name(name);
        match write_new(&path, text)? {
            true => eprintln!("wrote {}, the example's: make it yours", path.display()),
            false => eprintln!("{} is there already; it was left as it is", path.display()),
        }
    }
    Ok(())
}

/// Writes a file that is not there yet; false if it is.
fn write_new(path: &Path, text: &str) -> anyhow::Result<bool> {
    match std::fs::File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(anyhow::Error::new(error).context(format!("cannot write {}", path.display()))),
    }
}
