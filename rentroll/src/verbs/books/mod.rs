//! `rentroll books`: what became of every record that was taken from the log.

use chrono::{DateTime, Utc};
use rentroll_aggregator::books::{self, Books, Selection};

use crate::cli::{Exit, WrongUse};
use crate::context::{self, Context};
use crate::output;

mod rollups;
mod sheets;

/// Arguments of `rentroll books`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll books                                   totals per source, and every hour that does not balance
  rentroll books --all --source web                every hour of one source
  rentroll books --from 2026-11-24 --to 2026-11-25 --json
  rentroll books --rollups                         the rollups, held against the events that they are made of
  rentroll books --rollups --repair --from 2026-11-24

Per source and hour of arrival: accepted = stored + duplicate + rejected, and what the store holds, distinct by
identity, is what the books say. Per log partition: the positions of the batches form an unbroken chain; what the
log lost, or deleted before it was read, is listed with its positions.

With --from, --to or --source the verdict and the exit code are those of the selection. A position that no batch has, a
batch that lost records and one that was never done name neither hour nor source. They count if they may be of the
selection: if the hours of arrival of the batches around them reach into --from and --to and, with --source, are not all
before that source's first hour. What else is amiss in the chains is told in one line, \"elsewhere\" (in --json a field of
each); run without --from, --to and --source to see it.

With --rollups: per meter, tenant and dimensions, the minutes are what the events of the span make of them, the hours
what the minutes make, the days what the hours make; --from and --to are then times of usage. With --repair what
differs is put right, and noted in the table `repairs`.

Exits with 3 if any of what was selected does not hold.")]
pub struct Args {
    /// Hours of arrival from this time on: 2026-11-24, 2026-11-24T10:00 (UTC).
    #[arg(long, value_parser = super::when::full_hour)]
    from: Option<DateTime<Utc>>,
    /// Hours of arrival before this time.
    #[arg(long, value_parser = super::when::full_hour)]
    to: Option<DateTime<Utc>>,
    /// Only of this source.
    #[arg(long, value_parser = source)]
    source: Option<String>,
    /// Hold the rollups against the events instead.
    #[arg(long, conflicts_with_all = ["source", "all"])]
    rollups: bool,
    /// Put right the rollups that differ.
    #[arg(long, requires = "rollups")]
    repair: bool,
    /// Every hour, not only those that do not balance.
    #[arg(long)]
    all: bool,
    /// As JSON, with every hour.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// The store's.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let Args { from, to, source, rollups, repair, all, json } = args;
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        let typed = |time: DateTime<Utc>| time.format("%Y-%m-%dT%H:%MZ");
        let (from, to) = (typed(from), typed(to));
        return Err(WrongUse(format!(
            "--from {from} is not before --to {to}: --to is the end, and not part of it"
        ))
        .into());
    }
    let config = context.config()?;
    let store = context::store(&config).await?;
    if rollups {
        let meters = context::meters_in_force(&config, &store).await?;
        let span = rollups::Span { from, to };
        let exit = rollups::run(&store, &meters, span, repair, json).await?;
        store.close().await;
        return Ok(exit);
    }
    let selection = Selection { from, to, source };
    let books = books::read(&store, &selection).await?;
    match json {
        true => output::json(&document(&books))?,
        false => sheets::print(&books, &selection, all)?,
    }
    store.close().await;
    Ok(if books.hold() { Exit::Done } else { Exit::DoesNotHold })
}

/// No source has no name, and an empty one would select all.
fn source(text: &str) -> Result<String, String> {
    match text {
        "" => {
            Err("an empty text is no source: write the name of one, or leave --source out for all".to_owned())
        }
        name => Ok(name.to_owned()),
    }
}

fn document(books: &Books) -> serde_json::Value {
    let hours: Vec<serde_json::Value> = books
        .hours
        .iter()
        .map(|hour| {
            let mut shown = serde_json::json!(hour);
            shown["balances"] = hour.balances().into();
            shown
        })
        .collect();
    serde_json::json!({
        "balanced": books.hold(),
        "hours": hours,
        "chains": books.chains,
        "unfinished": books.unfinished,
    })
}
