//! `rentroll rejects`: what could not be accepted, with its bytes, reason and place; and its replay after a fix.

use clap::Subcommand;

use crate::cli::Exit;
use crate::context::{self, Context};

mod list;
mod replay;
mod select;
mod show;

use select::Filter;

/// Arguments of `rentroll rejects`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List rejects, newest first.
    #[command(after_help = "\
Examples:
  rentroll rejects list
  rentroll rejects list --source web --reason unreadable
  rentroll rejects list --tenant acme --from 2026-11-24 --open
  rentroll rejects list --json | jq -r '.[].text'")]
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        limit: u64,
        /// As JSON, with all bytes.
        #[arg(long)]
        json: bool,
    },
    /// Show one reject whole: every field, its bytes, what came of replays, what to do.
    #[command(after_help = "\
Examples:
  rentroll rejects show 3f9a
  rentroll rejects show 3f9a --json")]
    Show {
        /// Its id, or the beginning of it.
        id: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Judge rejects again after a fix, and append to the log what is good now.
    #[command(after_help = "\
Examples:
  rentroll rejects replay --source web --dry-run   what would come of it
  rentroll rejects replay --source web --reason unreadable
  rentroll rejects replay 3f9a 77c1

The bytes are judged by the rules that hold now: the source's format and backfill, the token's tenant or source. The
window is that of the first arrival, however late the replay. What is good is appended to the event log, durably,
also while `rentroll up` runs; its identity is what it would have been, so that replaying twice counts nothing twice.
The rejects stay, and show when they were replayed.

An id that no reject has, or more than one, is wrong use (2), and nothing is replayed. One that was replayed before is
left out, and said.

Exits with 3 if some are refused again, or if all that ids name were replayed before.")]
    Replay {
        /// Ids, or the beginnings of them; none for all that the filters select.
        ids: Vec<String>,
        #[command(flatten)]
        filter: Filter,
        /// Those too that were replayed before.
        #[arg(long)]
        again: bool,
        /// Only say what would come of it.
        #[arg(long)]
        dry_run: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
///
/// # Errors
/// The store's, or the log's.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let store = context::store(&config).await?;
    let exit = match args.action {
        Action::List { filter, limit, json } => list::run(&store, &filter, limit, json).await?,
        Action::Show { id, json } => show::run(&store, &id, json).await?,
        Action::Replay { ids, filter, again, dry_run, json } => {
            replay::run(&config, &store, replay::Order { ids, filter, again, dry_run, json }).await?
        }
    };
    store.close().await;
    Ok(exit)
}
