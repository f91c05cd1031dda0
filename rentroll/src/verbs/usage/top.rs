//! `rentroll top`: who uses most, and how that changed.

use chrono::Utc;
use chrono_tz::Tz;
use rentroll_aggregator::usage::top::{TOP_ROWS_MAX, Top, TopAnswer, TopRow};
use rentroll_aggregator::usage::{Group, text};
use rentroll_dashboards::csv::Record;
use rentroll_dashboards::text::plural;
use rentroll_schemas::Quantity;
use rentroll_schemas::text::grouped;

use super::{Opened, SpanArgs, WhoseArgs, asked, footer, group, zone};
use crate::cli::Exit;
use crate::context::Context;
use crate::output::{self, Sheet};

/// The columns of the comparison.
const COMPARING: std::ops::RangeInclusive<usize> = 4..=6;

/// Arguments of `rentroll top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll top requests --last 24h
  rentroll top egress_bytes --month 2026-10 --by organisation --limit 10
  rentroll top requests --by path --tenant acme --where 'status>=500'
  rentroll top gb_seconds --last 7d --json | jq '.rows[] | [.key, .quantity]'

Each is compared with the equally long span before, unless --no-compare says not to read it. `share` is of the total.")]
pub struct Args {
    /// The meter.
    meter: String,
    #[command(flatten)]
    span: SpanArgs,
    /// The time zone of --month, and of days and times without an offset.
    #[arg(long, value_parser = zone, default_value = "UTC")]
    zone: Tz,
    /// Of what: tenant, organisation, tier, tag:KEY, or a dimension.
    #[arg(long, value_name = "GROUP", value_parser = group, default_value = "tenant")]
    by: Group,
    /// How many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=TOP_ROWS_MAX as i64))]
    limit: u32,
    #[command(flatten)]
    whose: WhoseArgs,
    /// Without the span before: half as much is read.
    #[arg(long)]
    no_compare: bool,
    /// Count different values about right, within some 0.3 %, in less memory.
    #[arg(long)]
    approximate: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// As CSV, with all digits.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// Runs it.
///
/// # Errors
/// What is wrong with the question; the store's.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let (from, to) = args.span.span(args.zone, Utc::now())?;
    let top = Top {
        meter: args.meter.clone(),
        from,
        to,
        by: args.by.clone(),
        rows: args.limit as usize,
        tenants: args.whose.tenants.clone(),
        organisations: args.whose.organisations.clone(),
        filters: args.whose.filters()?,
        compare: !args.no_compare,
        zone: args.zone,
        approximate: args.approximate,
    };
    let opened = Opened::new(context).await?;
    let answer = asked(opened.usage.top(&top).await);
    opened.store.close().await;
    let answer = answer?;
    if args.json {
        output::json(&answer)?;
    } else if args.csv {
        csv(&answer, &args.by)?;
    } else {
        print(&answer, &args.by, !args.no_compare)?;
        footer(
            (answer.from, answer.to),
            args.zone.name(),
            &answer.read_from,
            answer.is_open,
            answer.data_as_of,
        );
    }
    Ok(Exit::Done)
}

fn print(answer: &TopAnswer, by: &Group, compares: bool) -> anyhow::Result<()> {
    let about = if answer.approximation.is_some() { "about, " } else { "" };
    let quantity = format!(">{} ({about}{})", answer.meter, plural(&answer.unit));
    let by = text::written(by);
    let headers = [">#", by.as_str(), &quantity, ">share %", ">before", ">change", ">change %", ">events"];
    let shown = |cells: [String; 8]| -> Vec<String> {
        let is_shown = |nth: &usize| compares || !COMPARING.contains(nth);
        cells.into_iter().enumerate().filter(|(nth, _)| is_shown(nth)).map(|(_, cell)| cell).collect()
    };
    let headers = shown(headers.map(str::to_owned));
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let mut sheet = Sheet::new(&headers);
    for (nth, row) in answer.rows.iter().enumerate() {
        let key = if row.key.is_empty() { "(none)" } else { &row.key };
        sheet.row(&shown(cells(&(nth + 1).to_string(), key, row)));
    }
    if let Some(other) = &answer.other {
        let others = answer.keys.saturating_sub(answer.rows.len() as u64);
        sheet.row(&shown(cells("", &format!("{} others", grouped(&others.to_string())), other)));
    }
    sheet.row(&shown(cells("", "total", &answer.total)));
    sheet.print()
}

fn cells(place: &str, key: &str, row: &TopRow) -> [String; 8] {
    let shown =
        |quantity: Option<Quantity>| quantity.map_or_else(|| "–".to_owned(), |one| grouped(&one.to_string()));
    let signed = |quantity: Option<Quantity>| match quantity {
        Some(more) if more > Quantity::ZERO => format!("+{}", grouped(&more.to_string())),
        other => shown(other),
    };
    // Percents with nine decimals are for machines.
    let percent = |percent: Option<Quantity>| percent.map(tenths);
    let share = row.share.map(|share| Quantity::from_nanos(share.nanos().saturating_mul(100)));
    [
        place.to_owned(),
        key.to_owned(),
        shown(row.quantity),
        shown(percent(share)),
        shown(row.previous),
        signed(row.change),
        signed(percent(row.change_percent)),
        grouped(&row.events.to_string()),
    ]
}

/// Rounded half away from zero at one decimal.
fn tenths(percent: Quantity) -> Quantity {
    const TENTH: i128 = 100_000_000;
    let half = if percent.nanos() < 0 { -TENTH / 2 } else { TENTH / 2 };
    Quantity::from_nanos((percent.nanos() + half) / TENTH * TENTH)
}

fn csv(answer: &TopAnswer, by: &Group) -> anyhow::Result<()> {
    let names = ["meter", "unit", "quantity", "share", "previous", "change", "change_percent", "events"];
    let header = Record::default().value(Some("kind")).text(&text::written(by));
    let is_about = answer.approximation.is_some();
    let header = names.iter().fold(header, |header, name| header.value(Some(text::column(name, is_about))));
    output::line(header.line().trim_end())?;
    let rows = answer.rows.iter().map(|row| ("row", row));
    let others = answer.other.iter().map(|row| ("other", row));
    for (kind, row) in rows.chain(others).chain([("total", &answer.total)]) {
        let record =
            Record::default().value(Some(kind)).text(&row.key).text(&answer.meter).text(&answer.unit);
        let record = [row.quantity, row.share, row.previous, row.change, row.change_percent]
            .into_iter()
            .fold(record, Record::value);
        output::line(record.value(Some(row.events)).line().trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_shown_with_one_decimal() {
        for (given, shown) in [("33.333333333", "33.3"), ("0.05", "0.1"), ("-0.05", "-0.1"), ("99.96", "100")]
        {
            assert_eq!(tenths(given.parse().unwrap()).to_string(), shown);
        }
    }
}
