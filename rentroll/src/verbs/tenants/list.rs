//! `rentroll tenants list`: who uses how much in a span, with what is known of them now.

use std::io::Write as _;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rentroll_aggregator::tenants::used::{Used, UsedTotals};
use rentroll_aggregator::tenants::{Listing, Registry};
use rentroll_aggregator::usage::overview::Span;
use rentroll_dashboards::csv::Record;
use rentroll_engines::store::Store;
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::Meters;
use serde::Serialize;

use crate::cli::Exit;
use crate::output::{self, Sheet, grouped};
use crate::verbs::usage::{SpanArgs, asked, of_all, zone};

pub(super) const EXAMPLES: &str = "\
Examples:
  rentroll tenants list
  rentroll tenants list --last 7d --measure bytes --limit 100
  rentroll tenants list --month 2026-10 --zone Europe/Berlin --csv
  rentroll tenants list --organisation Acme --tier pro
  rentroll tenants list --tag region=eu --search shop --json";

/// The measure of the field `bytes`, which scripts read.
const BYTES: &str = "bytes";

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    span: SpanArgs,
    /// The time zone of --month, and of days and times without an offset; what is shown is in UTC.
    #[arg(long, value_parser = zone, default_value = "UTC")]
    zone: Tz,
    /// At most this many, by number of events.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    limit: u64,
    /// Only the sums over all tenants.
    #[arg(long)]
    totals: bool,
    /// Sum up this measure of the events as well.
    #[arg(long, value_name = "NAME")]
    measure: Option<String>,
    /// Only tenants of this organisation; '' for those of none.
    #[arg(long, value_name = "NAME")]
    organisation: Option<String>,
    /// Only tenants of this tier; '' for those of none.
    #[arg(long, value_name = "NAME")]
    tier: Option<String>,
    /// Only tenants with this tag; several must all be there.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = super::pair)]
    tags: Vec<(String, String)>,
    /// Only tenants with this in their id, name, organisation or an id elsewhere.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// As JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// As CSV.
    #[arg(long, conflicts_with = "totals")]
    csv: bool,
}

/// What is shown of a tenant. What scripts read has stayed: `bytes` is the sum of the measure of that name.
#[derive(Serialize)]
struct Shown<'a> {
    tenant: &'a str,
    #[serde(flatten)]
    known: Option<Known<'a>>,
    events: u64,
    bytes: Quantity,
    #[serde(flatten)]
    measured: Option<Measured<'a>>,
    first_event: Option<String>,
    last_event: Option<String>,
}

#[derive(Serialize)]
struct Known<'a> {
    name: &'a str,
    organisation: &'a str,
    tier: &'a str,
}

#[derive(Serialize)]
struct Measured<'a> {
    measure: &'a str,
    total: Quantity,
}

#[derive(Serialize)]
struct ShownTotals<'a> {
    tenants: u64,
    registered: u64,
    events: u64,
    bytes: Quantity,
    #[serde(flatten)]
    measured: Option<Measured<'a>>,
}

pub(super) async fn run(registry: &Registry, store: &Store, args: &Args) -> anyhow::Result<Exit> {
    let (from, to) = args.span.span(args.zone, Utc::now())?;
    let listing = Listing {
        search: args.search.clone(),
        organisation: args.organisation.clone(),
        tier: args.tier.clone(),
        tags: args.tags.iter().cloned().collect(),
        ..Listing::new(Utc::now(), args.limit)
    };
    let measure = args.measure.as_deref().unwrap_or(BYTES);
    // Events are counted whatever meters make of them.
    let usage = of_all(store, Meters::default(), args.zone);
    let used = asked(usage.used(Span { from, to }, [BYTES, measure]).await)?;
    let (tenants, totals) = registry.used(&listing, used).await?;
    if args.totals {
        print_totals(args, &totals)?;
        footer(args, from, to);
        return Ok(Exit::Done);
    }
    // Of a registry that knows nothing, or nothing that matches, no columns are shown.
    let is_known = totals.registered > 0;
    if args.json {
        let shown: Vec<Shown<'_>> = tenants.iter().map(|tenant| shown(args, tenant, is_known)).collect();
        output::json(&shown)?;
    } else if args.csv {
        print_csv(args, &tenants)?;
    } else if tenants.is_empty() {
        eprintln!("no tenants; events bring them, and `rentroll tenants import` says who they are");
        footer(args, from, to);
    } else {
        print_sheet(args, &tenants, &totals, is_known)?;
        footer(args, from, to);
    }
    Ok(Exit::Done)
}

/// The footer of what people read.
fn footer(args: &Args, from: DateTime<Utc>, to: DateTime<Utc>) {
    if !args.json {
        let [from, to] = [from, to].map(|time| time.format("%Y-%m-%d %H:%M"));
        eprintln!("\nevents from {from} up to, not including, {to} UTC; --from looks further back");
    }
}

fn shown_time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

fn shown<'a>(args: &'a Args, used: &'a Used, is_known: bool) -> Shown<'a> {
    let [bytes, total] = used.sums;
    let measured = args.measure.as_deref().map(|measure| Measured { measure, total });
    Shown {
        tenant: &used.tenant,
        known: is_known.then_some(Known {
            name: &used.name,
            organisation: &used.organisation,
            tier: &used.tier,
        }),
        events: used.events,
        bytes,
        measured,
        first_event: used.first_event.map(shown_time),
        last_event: used.last_event.map(shown_time),
    }
}

fn print_totals(args: &Args, totals: &UsedTotals) -> anyhow::Result<()> {
    let UsedTotals { tenants, registered, events, sums: [bytes, total] } = *totals;
    let measured = args.measure.as_deref().map(|measure| Measured { measure, total });
    if args.json {
        return output::json(&ShownTotals { tenants, registered, events, bytes, measured });
    }
    let measured =
        measured.map(|of| format!(", {} {}", grouped(&of.total.to_string()), of.measure)).unwrap_or_default();
    let (tenants, events) = (grouped(&tenants.to_string()), grouped(&events.to_string()));
    output::line(&format!("{tenants} tenants, {events} events{measured}"))
}

fn print_sheet(args: &Args, tenants: &[Used], totals: &UsedTotals, is_known: bool) -> anyhow::Result<()> {
    let measure = args.measure.as_ref().map(|measure| format!(">{measure}"));
    let mut heads = vec!["tenant"];
    if is_known {
        heads.extend(["name", "organisation", "tier"]);
    }
    heads.push(">events");
    heads.extend(measure.as_deref());
    heads.extend(["first event (UTC)", "last event (UTC)"]);
    let mut sheet = Sheet::new(&heads);
    let row =
        |tenant: &str, known: [&str; 3], events: u64, total: Quantity, times: [String; 2]| -> Vec<String> {
            let known = known.into_iter().filter(|_| is_known).map(str::to_owned);
            let total = args.measure.iter().map(|_| grouped(&total.to_string()));
            let mut row = vec![tenant.to_owned()];
            row.extend(known);
            row.push(grouped(&events.to_string()));
            row.extend(total);
            row.extend(times);
            row
        };
    for used in tenants {
        let times = [used.first_event, used.last_event].map(|time| time.map(shown_time).unwrap_or_default());
        let known = [used.name.as_str(), &used.organisation, &used.tier];
        sheet.row(&row(&used.tenant, known, used.events, used.sums[1], times));
    }
    // Tenants that are known and use nothing are listed too, and are none of these.
    let with = if is_known { " with events" } else { "" };
    let all = format!("all {} tenants{with}", grouped(&totals.tenants.to_string()));
    sheet.row(&row(&all, [""; 3], totals.events, totals.sums[1], Default::default()));
    sheet.print()
}

fn print_csv(args: &Args, tenants: &[Used]) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let head = ["tenant", "name", "organisation", "tier", "events", BYTES];
    let mut header = head.into_iter().fold(Record::default(), |record, name| record.value(Some(name)));
    if let Some(measure) = &args.measure {
        header = header.text(&format!("total {measure}"));
    }
    write!(out, "{}", header.value(Some("first_event")).value(Some("last_event")).line())?;
    for used in tenants {
        let texts = [&used.tenant, &used.name, &used.organisation, &used.tier];
        let record = texts.into_iter().fold(Record::default(), |record, text| record.text(text));
        let mut record = record.value(Some(used.events)).value(Some(used.sums[0]));
        if args.measure.is_some() {
            record = record.value(Some(used.sums[1]));
        }
        let record = record.value(used.first_event.map(shown_time)).value(used.last_event.map(shown_time));
        write!(out, "{}", record.line())?;
    }
    Ok(out.flush()?)
}
