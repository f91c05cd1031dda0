//! `rentroll tenants list`: who uses how much, with what is known of them now.

use std::io::Write as _;

use chrono::Utc;
use rentroll_aggregator::tenants::used::{Used, UsedTotals};
use rentroll_aggregator::tenants::{Listing, Registry};
use rentroll_dashboards::csv::Record;
use serde::Serialize;

use crate::cli::Exit;
use crate::output::{self, Sheet, grouped};

pub(super) const EXAMPLES: &str = "\
Examples:
  rentroll tenants list
  rentroll tenants list --measure bytes --limit 100
  rentroll tenants list --organisation Acme --tier pro
  rentroll tenants list --tag region=eu --search shop --json";

/// The measure of the field `bytes`, which scripts read.
const BYTES: &str = "bytes";

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
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
    bytes: &'a str,
    #[serde(flatten)]
    measured: Option<Measured<'a>>,
    first_event: Option<&'a str>,
    last_event: Option<&'a str>,
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
    total: &'a str,
}

#[derive(Serialize)]
struct ShownTotals<'a> {
    tenants: u64,
    registered: u64,
    events: u64,
    bytes: &'a str,
    #[serde(flatten)]
    measured: Option<Measured<'a>>,
}

pub(super) async fn run(registry: &Registry, args: &Args) -> anyhow::Result<Exit> {
    let listing = Listing {
        search: args.search.clone(),
        organisation: args.organisation.clone(),
        tier: args.tier.clone(),
        tags: args.tags.iter().cloned().collect(),
        ..Listing::new(Utc::now(), args.limit)
    };
    let measure = args.measure.as_deref().unwrap_or(BYTES);
    let totals = registry.used_totals(&listing, measure).await?;
    if args.totals {
        print_totals(args, &totals)?;
        return Ok(Exit::Done);
    }
    let tenants = registry.used(&listing, measure).await?;
    // Of a registry that knows nothing, or nothing that matches, no columns are shown.
    let is_known = totals.registered > 0;
    if args.json {
        let shown: Vec<Shown<'_>> = tenants.iter().map(|tenant| shown(args, tenant, is_known)).collect();
        output::json(&shown)?;
    } else if args.csv {
        print_csv(args, &tenants)?;
    } else if tenants.is_empty() {
        eprintln!("no tenants; events bring them, and `rentroll tenants import` says who they are");
    } else {
        print_sheet(args, &tenants, &totals, is_known)?;
    }
    Ok(Exit::Done)
}

fn shown<'a>(args: &'a Args, used: &'a Used, is_known: bool) -> Shown<'a> {
    let measured = args.measure.as_deref().map(|measure| Measured { measure, total: &used.total });
    Shown {
        tenant: &used.tenant,
        known: is_known.then_some(Known {
            name: &used.name,
            organisation: &used.organisation,
            tier: &used.tier,
        }),
        events: used.events,
        bytes: &used.bytes,
        measured,
        first_event: used.first_event.as_deref(),
        last_event: used.last_event.as_deref(),
    }
}

fn print_totals(args: &Args, totals: &UsedTotals) -> anyhow::Result<()> {
    let measured = args.measure.as_deref().map(|measure| Measured { measure, total: &totals.total });
    if args.json {
        let UsedTotals { tenants, registered, events, bytes, .. } = totals;
        let (tenants, registered, events) = (*tenants, *registered, *events);
        return output::json(&ShownTotals { tenants, registered, events, bytes, measured });
    }
    let measured = measured.map(|of| format!(", {} {}", grouped(of.total), of.measure)).unwrap_or_default();
    let (tenants, events) = (grouped(&totals.tenants.to_string()), grouped(&totals.events.to_string()));
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
    let row = |tenant: &str, known: [&str; 3], events: u64, total: &str, times: [&str; 2]| -> Vec<String> {
        let known = known.into_iter().filter(|_| is_known).map(str::to_owned);
        let total = args.measure.iter().map(|_| grouped(total));
        let mut row = vec![tenant.to_owned()];
        row.extend(known);
        row.push(grouped(&events.to_string()));
        row.extend(total);
        row.extend(times.map(str::to_owned));
        row
    };
    for used in tenants {
        let times = [&used.first_event, &used.last_event].map(|time| time.as_deref().unwrap_or_default());
        let known = [used.name.as_str(), &used.organisation, &used.tier];
        sheet.row(&row(&used.tenant, known, used.events, &used.total, times));
    }
    // Tenants that are known and use nothing are listed too, and are none of these.
    let with = if is_known { " with events" } else { "" };
    let all = format!("all {} tenants{with}", grouped(&totals.tenants.to_string()));
    sheet.row(&row(&all, [""; 3], totals.events, &totals.total, [""; 2]));
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
        let mut record = record.value(Some(used.events)).value(Some(&used.bytes));
        if args.measure.is_some() {
            record = record.value(Some(&used.total));
        }
        let record = record.value(used.first_event.as_ref()).value(used.last_event.as_ref());
        write!(out, "{}", record.line())?;
    }
    Ok(out.flush()?)
}
