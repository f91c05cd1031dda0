//! `rentroll query`: usage of one meter.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rentroll_aggregator::usage::{Answer, Fill, Group, Query, Row, Window, text};
use rentroll_dashboards::text::plural;
use rentroll_schemas::Quantity;
use rentroll_schemas::text::grouped;

use super::{Opened, SpanArgs, WhoseArgs, asked, footer, group, length, plot, rows, zone};
use crate::cli::Exit;
use crate::context::Context;
use crate::output::{self, Sheet};

/// Arguments of `rentroll query`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll query requests --last 24h --window hour
  rentroll query egress_bytes --month 2026-10 --window day --zone Europe/Berlin --by tenant --tenant acme
  rentroll query requests --from 2026-11-01 --by status --where 'status>=500' --plot
  rentroll query stored_bytes --month 2026-10 --by organisation --csv > stored.csv
  rentroll query requests --window hour --rolling 24h --json | jq '.rows[].quantity'

`rentroll meters` lists the meters. Days and months are those of --zone; intervals are half-open.")]
pub struct Args {
    /// The meter.
    meter: String,
    #[command(flatten)]
    span: SpanArgs,
    /// How it is cut.
    #[arg(long, value_enum, default_value = "whole")]
    window: Cut,
    /// The time zone in which it is cut, and of days and times without an offset.
    #[arg(long, value_parser = zone, default_value = "UTC")]
    zone: Tz,
    /// Each window looks back so far from its end: 24h, 7d.
    #[arg(long, value_name = "LENGTH", value_parser = length)]
    rolling: Option<TimeDelta>,
    /// Told apart by: tenant, organisation, tier, tag:KEY, or a dimension; comma-separated.
    #[arg(long, value_name = "GROUPS", value_parser = group, value_delimiter = ',')]
    by: Vec<Group>,
    #[command(flatten)]
    whose: WhoseArgs,
    /// What is shown for windows without events.
    #[arg(long, value_enum, default_value = "none")]
    fill: Filling,
    /// Count different values about right, within some 0.3 %, in less memory.
    #[arg(long)]
    approximate: bool,
    /// As a picture: a bar for each window, or a line for each group.
    #[arg(long, conflicts_with_all = ["json", "csv"])]
    plot: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// As CSV, with all digits.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Cut {
    Whole,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    BillingPeriod,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Filling {
    /// Nothing: a gap.
    None,
    /// A row without a quantity.
    Null,
    /// A row with zero.
    Zero,
    /// What the window before had.
    Previous,
}

impl From<Cut> for Window {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Whole => Window::Whole,
            Cut::Minute => Window::Minute,
            Cut::Hour => Window::Hour,
            Cut::Day => Window::Day,
            Cut::Week => Window::Week,
            Cut::Month => Window::Month,
            Cut::BillingPeriod => Window::BillingPeriod,
        }
    }
}

impl From<Filling> for Fill {
    fn from(filling: Filling) -> Self {
        match filling {
            Filling::None => Fill::None,
            Filling::Null => Fill::Null,
            Filling::Zero => Fill::Zero,
            Filling::Previous => Fill::Previous,
        }
    }
}

/// Runs it.
///
/// # Errors
/// What is wrong with the question; the store's.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let (from, to) = args.span.span(args.zone, Utc::now())?;
    let query = Query {
        window: args.window.into(),
        zone: args.zone,
        rolling: args.rolling,
        tenants: args.whose.tenants.clone(),
        organisations: args.whose.organisations.clone(),
        filters: args.whose.filters()?,
        group_by: args.by.clone(),
        fill: args.fill.into(),
        approximate: args.approximate,
        ..Query::new(&args.meter, from, to)
    };
    let opened = Opened::new(context).await?;
    let answer = asked(opened.usage.query(&query).await);
    opened.store.close().await;
    let answer = answer?;
    if args.json {
        output::json(&answer)?;
    } else if args.csv {
        rows::csv(&answer, &args.by)?;
    } else if args.plot {
        plot::print(&answer, &args.by, args.zone)?;
    } else {
        print(&answer, &args.by, args.zone)?;
    }
    if !args.json && !args.csv {
        footer((answer.from, answer.to), &answer.zone, &answer.read_from, answer.is_open, answer.data_as_of);
    }
    Ok(Exit::Done)
}

fn print(answer: &Answer, by: &[Group], zone: Tz) -> anyhow::Result<()> {
    let has_windows = answer.window != Window::Whole;
    let quantity = format!(">{}", rows::quantity_header(answer));
    let names: Vec<String> = by.iter().map(text::written).collect();
    let mut headers: Vec<&str> = Vec::new();
    let window = format!("from ({})", answer.zone);
    if has_windows {
        headers.push(&window);
    }
    headers.extend(names.iter().map(String::as_str));
    headers.extend([quantity.as_str(), ">events"]);
    let mut sheet = Sheet::new(&headers);
    for row in &answer.rows {
        let mut cells = Vec::new();
        if has_windows {
            cells.push(rows::local(row.from, answer.window, zone));
        }
        cells.extend(by.iter().map(|group| rows::label(row, group).to_owned()));
        cells.push(row.quantity.map_or_else(|| "–".to_owned(), |quantity| grouped(&quantity.to_string())));
        cells.push(grouped(&row.events.to_string()));
        sheet.row(&cells);
    }
    if let Some((quantity, events)) = total(answer).filter(|_| answer.rows.len() > 1) {
        let mut cells = vec![String::new(); headers.len() - 2];
        if let Some(first) = cells.first_mut() {
            *first = format!("all {} rows", grouped(&answer.rows.len().to_string()));
        }
        cells.extend([grouped(&quantity.to_string()), grouped(&events.to_string())]);
        sheet.row(&cells);
    }
    sheet.print()?;
    if answer.rows.is_empty() {
        eprintln!(
            "no {} in this span; `rentroll meters` says when each meter had its last event",
            plural(&answer.unit)
        );
    }
    Ok(())
}

/// The sum of the rows, where they add up and do not overlap.
fn total(answer: &Answer) -> Option<(Quantity, u64)> {
    if !answer.aggregation.is_additive() || overlaps(&answer.rows) {
        return None;
    }
    let quantity = answer
        .rows
        .iter()
        .try_fold(Quantity::ZERO, |sum, row| sum.checked_add(row.quantity.unwrap_or_default()))?;
    Some((quantity, answer.rows.iter().map(|row| row.events).sum()))
}

/// Whether windows of one group lie over each other: rolling ones do.
fn overlaps(rows: &[Row]) -> bool {
    let mut ends: BTreeMap<String, DateTime<Utc>> = BTreeMap::new();
    rows.iter().any(|row| {
        let key = rows::key(row);
        ends.insert(key, row.to).is_some_and(|end| row.from < end)
    })
}
