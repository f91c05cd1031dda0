//! `rentroll demo`: the whole chain on real input, with something to look at in the end.

use std::path::PathBuf;

use anyhow::Context as _;
use rentroll_collector::collect::Mode;

use crate::cli::{Exit, WrongUse};
use crate::config::Config;
use crate::context::{self, Context};
use crate::output;
use crate::services::{self, Parts, System};

mod chain;
pub mod functions;
mod table;

/// Arguments of `rentroll demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll demo                                   the example's log, then a page that stays up until Ctrl-C
  rentroll demo --exit                            leave at once
  rentroll demo --example functions               three million invocations of serverless functions
  rentroll demo --log /var/log/nginx/access.log   a log of yours (combined or common format), in a data folder of its own")]
pub struct Args {
    /// Which example, by its folder in `examples/`.
    #[arg(long, value_enum, default_value_t)]
    example: Example,
    /// Follow this access log instead of the example's.
    #[arg(long, value_name = "FILE", conflicts_with = "example")]
    log: Option<PathBuf>,
    /// Where to keep the data; by default `rentroll-data/demo`, and a folder beside it for another example or log.
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

/// What there is to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Example {
    /// A web server's log, 10,000 lines.
    #[default]
    AccessLog,
    /// A platform of serverless functions, 3,037,902 invocations.
    Functions,
}

impl Example {
    /// Its configuration, seen from the repository's root.
    fn config(self) -> &'static str {
        match self {
            Example::AccessLog => "examples/access-log/rentroll.toml",
            Example::Functions => "examples/functions/rentroll.toml",
        }
    }

    /// Its folder among the data.
    fn data(self) -> &'static str {
        match self {
            Example::AccessLog => "demo",
            Example::Functions => "demo-functions",
        }
    }

    /// What the table calls a tenant.
    fn name_of(self) -> fn(&str) -> String {
        match self {
            Example::AccessLog => str::to_owned,
            Example::Functions => functions::app_name,
        }
    }
}

/// Runs it.
///
/// # Errors
/// Any part's. Sums that are not those of the trace are exit code 3.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let mut config = configure(context, &args)?;
    let meters = context::meters(&config)?;
    let catalogue = context::catalogue(&config, &meters)?;
    let costs = context::costs(&config, &meters)?;
    let trace = match args.example {
        Example::AccessLog => None,
        Example::Functions => Some(functions::prepare(&mut config).await?),
    };
    for source in &config.collector.sources {
        for path in &source.paths {
            eprintln!("reading     {}", config.path(path).display());
        }
    }
    eprintln!("data        {}", config.data_dir().display());
    let mut system = System::start(&config, Parts::ALL, Mode { once: true, from_start: false }).await?;
    let rows_expected = trace.as_ref().map(|trace| trace.totals().invocations);
    let all = async {
        if let (Some(_), Some(store)) = (&trace, &system.store) {
            functions::register(&config, store).await?;
        }
        let overview = chain::run(&mut system, &meters, &catalogue, &costs, args.top, rows_expected).await?;
        let exit = match (&trace, &system.store) {
            (Some(trace), Some(store)) => functions::check(trace, store).await?,
            _ => Exit::Done,
        };
        anyhow::Ok((overview, exit))
    };
    let done = tokio::select! {
        done = all => done,
        asked = services::asked_to_stop() => Err(asked.err().unwrap_or_else(|| anyhow::anyhow!("stopped before the end"))),
    };
    let exit = match done {
        Ok((Some(overview), exit)) => {
            if args.json {
                output::json(&overview)?;
            } else {
                table::print(&overview, &meters, args.example.name_of())?;
                table::reference_split();
            }
            exit
        }
        Ok((None, exit)) => {
            eprintln!("the log holds no usage");
            exit
        }
        Err(error) => {
            let _ = system.stop().await;
            return Err(error);
        }
    };
    if !args.exit {
        eprintln!("\nlook at     http://{}/ (until Ctrl-C)", system.address);
        eprintln!(
            "or ask      RENTROLL_DATA__DIR={} {} books     (or: rejects list, tenants, bill explain …)",
            config.data_dir().display(),
            ask_command(context, args.example)
        );
        let failed = tokio::select! {
            failure = system.until_failure() => failure.map(|never| match never {}),
            asked = services::asked_to_stop() => asked,
        };
        let stopped = system.stop().await;
        return failed.and(stopped).map(|()| exit);
    }
    system.stop().await?;
    Ok(exit)
}

/// How to run another verb on the demo's data.
fn ask_command(context: &Context, example: Example) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "rentroll".to_owned());
    let config =
        context.config_path().map_or_else(|| example.config().to_owned(), |path| path.display().to_string());
    format!("{program} -c {config}")
}

fn configure(context: &Context, args: &Args) -> anyhow::Result<Config> {
    let example = args.example.config();
    let mut config = match context.config_path() {
        Some(_) => context.config()?,
        None => Context::new(Some(example.into())).config().map_err(|error| match error {
            crate::config::ConfigError::Read { .. } => anyhow::Error::new(WrongUse(format!(
                "no {example} here: run this from the repository's root, or name a configuration with --config"
            ))),
            error => error.into(),
        })?,
    };
    let base = std::env::current_dir().context("cannot tell the working folder")?;
    let data = base.join(config.data_dir());
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
        config.data.dir = data.join(format!("demo{stem}"));
    } else {
        config.data.dir = data.join(args.example.data());
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
