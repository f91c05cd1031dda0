//! `rentroll events`: did my event count, and if not, why not?

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rentroll_aggregator::usage::events::{EVENTS_MAX, EventPage, EventQuery, FoundEvent, Order, Verdict};
use rentroll_dashboards::csv::Record;

use super::{Opened, asked, in_order, zone};
use crate::cli::Exit;
use crate::context::Context;
use crate::output::{self, Sheet};
use crate::verbs::when::{self, Typed};

/// Arguments of `rentroll events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll events --tenant acme --id 0189f0c2-6a52-7cc0-b2b5-0f3c8a1d2e4f --full
  rentroll events --tenant acme --meter requests --from 2026-11-24T10:00 --to 2026-11-24T11:00
  rentroll events --verdict rejected,unmatched --limit 50
  rentroll events --tenant acme --json | jq '.events[] | [.id, .verdict]'

Verdicts: counted, unmatched (no meter of its type), without_value (a meter does not find its value), voided, amended, void,
copy, rejected, conflict.")]
pub struct Args {
    /// Only this tenant's.
    #[arg(long)]
    tenant: Option<String>,
    /// Only events that this meter matches.
    #[arg(long)]
    meter: Option<String>,
    /// Only this type.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only this source's.
    #[arg(long)]
    source: Option<String>,
    /// Only this id.
    #[arg(long)]
    id: Option<String>,
    /// First instant of the events' own time: 2026-11-24 or 2026-11-24T10:00, by the clocks of --zone, or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = when::typed)]
    from: Option<Typed>,
    /// First instant after it.
    #[arg(long, value_name = "TIME", value_parser = when::typed)]
    to: Option<Typed>,
    /// The time zone of --from and --to; what is shown is in UTC.
    #[arg(long, value_parser = zone, default_value = "UTC")]
    zone: Tz,
    /// Only these verdicts; comma-separated.
    #[arg(long, value_name = "VERDICTS", value_parser = verdict, value_delimiter = ',')]
    verdict: Vec<Verdict>,
    /// The oldest first.
    #[arg(long)]
    oldest_first: bool,
    /// How many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=EVENTS_MAX as i64))]
    limit: u32,
    /// Goes on after a page: the cursor that it ended with.
    #[arg(long)]
    cursor: Option<String>,
    /// Each event with all that is known of it.
    #[arg(long, conflicts_with_all = ["json", "csv"])]
    full: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// As CSV.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

fn verdict(given: &str) -> Result<Verdict, String> {
    serde_json::from_value(serde_json::Value::from(given)).map_err(|_| {
        format!(
            "`{given}` is none: counted, unmatched, without_value, voided, amended, void, copy, rejected, conflict"
        )
    })
}

/// Runs it.
///
/// # Errors
/// What is wrong with the question; the store's.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let [from, to] = [args.from, args.to].map(|time| time.map(|time| time.at(args.zone)));
    if let (Some(from), Some(to)) = (from, to) {
        in_order(from, to)?;
    }
    let query = EventQuery {
        tenant: args.tenant,
        meter: args.meter,
        kind: args.kind,
        source: args.source,
        id: args.id,
        from,
        to,
        verdicts: args.verdict,
        order: if args.oldest_first { Order::OldestFirst } else { Order::NewestFirst },
        cursor: args.cursor,
        limit: args.limit as usize,
    };
    let opened = Opened::new(context).await?;
    let page = asked(opened.usage.events(&query).await);
    opened.store.close().await;
    let page = page?;
    match (args.json, args.csv, args.full) {
        (true, ..) => output::json(&page)?,
        (_, true, _) => csv(&page)?,
        (.., true) => page.events.iter().try_for_each(full)?,
        _ => print(&page)?,
    }
    if !args.json {
        match (page.events.is_empty(), &page.next) {
            (true, _) => eprintln!("no such events; `rentroll books` says what has arrived from each source"),
            (false, Some(next)) => eprintln!("\nthere are more: --cursor {next}"),
            (false, None) => {}
        }
    }
    Ok(Exit::Done)
}

fn time(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "–".to_owned(), |time| time.format("%Y-%m-%d %H:%M:%S%.3f").to_string())
}

fn word(verdict: Verdict) -> String {
    // A word always serialises.
    serde_json::to_value(verdict).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Why it has its verdict, or what it counts for.
fn why(event: &FoundEvent) -> String {
    let counted = |value: &Option<String>| value.clone().unwrap_or_else(|| "no value".to_owned());
    match event.verdict {
        Verdict::Rejected if event.field.is_empty() => format!("{}: {}", event.reason, event.detail),
        Verdict::Rejected => format!("{}: {}: {}", event.reason, event.field, event.detail),
        Verdict::Unmatched => format!("no meter counts events of type `{}`", event.kind),
        Verdict::Voided | Verdict::Amended => {
            let by: Vec<&str> = event.corrected_by.iter().map(|by| by.id.as_str()).collect();
            format!("by {}", by.join(", "))
        }
        _ => {
            let of = |one: &rentroll_aggregator::usage::events::Counted| {
                format!("{} {}", one.meter, counted(&one.value))
            };
            event.meters.iter().map(of).collect::<Vec<_>>().join(", ")
        }
    }
}

fn print(page: &EventPage) -> anyhow::Result<()> {
    let mut sheet =
        Sheet::new(&["time (UTC)", "tenant", "type", "id", "source", "verdict", "counts, or why not"]);
    for event in &page.events {
        let time = time(event.time.or(Some(event.arrived_at)));
        let cells =
            [&time, &event.tenant, &event.kind, &event.id, &event.source, &word(event.verdict), &why(event)];
        sheet.row(&cells);
    }
    sheet.print()
}

fn full(event: &FoundEvent) -> anyhow::Result<()> {
    let mut sheet = Sheet::new(&["", ""]);
    let place = format!("{}/{}, batch from {}", event.log.topic, event.log.partition, event.log.batch);
    let mut lines = vec![
        ("id", event.id.clone()),
        ("source", event.source.clone()),
        ("tenant", event.tenant.clone()),
        ("type", event.kind.clone()),
        ("happened (UTC)", time(event.time)),
        ("arrived (UTC)", time(Some(event.arrived_at))),
        ("stored (UTC)", time(event.stored_at)),
        ("verdict", word(event.verdict)),
        ("counts, or why not", why(event)),
        ("identity", event.identity.clone()),
        ("log", place),
    ];
    if !event.place.is_empty() {
        lines.push(("place", event.place.clone()));
    }
    let data = event.measures.iter().map(|(key, value)| (key, value.to_string()));
    let texts = event.dimensions.iter().map(|(key, value)| (key, format!("\"{value}\"")));
    let data: Vec<String> = data.chain(texts).map(|(key, value)| format!("{key} = {value}")).collect();
    lines.push(("data", data.join(", ")));
    for (name, value) in lines {
        sheet.row(&[name.to_owned(), value]);
    }
    sheet.print()?;
    output::line("")
}

fn csv(page: &EventPage) -> anyhow::Result<()> {
    output::line("time,arrived_at,stored_at,tenant,type,id,source,verdict,reason,field,detail,data")?;
    for event in &page.events {
        let at = |time: Option<DateTime<Utc>>| {
            time.map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
        };
        let mut data: serde_json::Map<String, serde_json::Value> = serde_json::Map::new();
        for (key, value) in &event.measures {
            data.insert(key.clone(), value.to_string().into());
        }
        for (key, value) in &event.dimensions {
            data.insert(key.clone(), value.clone().into());
        }
        let record = Record::default()
            .value(at(event.time))
            .value(at(Some(event.arrived_at)))
            .value(at(event.stored_at));
        let texts = [&event.tenant, &event.kind, &event.id, &event.source];
        let record = texts.into_iter().fold(record, |record, text| record.text(text));
        let record = record.value(Some(word(event.verdict)));
        let texts = [&event.reason, &event.field, &event.detail];
        let record = texts.into_iter().fold(record, |record, text| record.text(text));
        let record = record.text(&serde_json::Value::from(data).to_string());
        output::line(record.line().trim_end())?;
    }
    Ok(())
}
