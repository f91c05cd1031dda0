//! `rentroll bill`: a month's usage becomes invoices.

use chrono::Utc;
use clap::Subcommand;
use rentroll_billing::explain::{CorrectedEvent, Explanation, MeterExplanation};
use rentroll_billing::run::Outcome;
use rentroll_billing::{RunOptions, RunReport};

use super::month::{self, Month, money};
use crate::cli::Exit;
use crate::context::{self, Context};
use crate::output::{self, Sheet, grouped};

/// Arguments of `rentroll bill`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Issue the invoices of a month, and close it.
    #[command(after_help = "\
Examples:
  rentroll bill run --period 2015-05 --dry-run   what it would come to; writes nothing
  rentroll bill run --period 2015-05             issue the invoices and close the month
  rentroll bill run --period 2015-05 --json

The same command again changes nothing. Broken off, it takes up where it stopped. A month is cut in the
catalogue's time zone, and can be billed when it is over.

Exits with 3 if raw events and rollups differ, or if usage arrived after its invoice was issued.")]
    Run {
        /// The month, YYYY-MM.
        #[arg(long, value_name = "YYYY-MM")]
        period: String,
        /// Write nothing.
        #[arg(long)]
        dry_run: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Why an invoice says what it says: line, computation, meter, query, events.
    #[command(after_help = "\
Examples:
  rentroll bill explain RR-2015-000001
  rentroll bill explain RR-2015-000001 2     line 2 alone
  rentroll bill explain RR-2015-000001 --json | jq -r '.meters[].query'

Exits with 3 if the events that are stored now no longer give what was invoiced.")]
    Explain {
        /// The invoice's number.
        number: String,
        /// One line of it.
        line: Option<u32>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
///
/// # Errors
/// See [`rentroll_billing::BillingError`].
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    month::exit(match args.action {
        Action::Run { period, dry_run, json } => bill(context, &period, dry_run, json).await,
        Action::Explain { number, line, json } => explain(context, &number, line, json).await,
    })
}

async fn bill(context: &Context, period: &str, dry_run: bool, json: bool) -> anyhow::Result<Exit> {
    let month = Month::open(context, period).await?;
    let options = RunOptions { dry_run, now: Utc::now() };
    let report =
        rentroll_billing::run(&month.store, &month.catalogue, &month.meters, &month.period, options).await?;
    month.store.close().await;
    if json {
        output::json(&report)?;
    } else {
        show_run(&report)?;
    }
    Ok(if report.outcome == Outcome::LateUsage { Exit::DoesNotHold } else { Exit::Done })
}

fn show_run(report: &RunReport) -> anyhow::Result<()> {
    let amount = format!(">amount {}", report.currency);
    let mut sheet = Sheet::new(&["plan", ">tenants", &amount]);
    for plan in &report.plans {
        let tenants = grouped(&plan.tenants.to_string());
        sheet.row(&[plan.title.clone(), tenants, money(plan.total, report.currency)]);
    }
    let invoices = grouped(&report.invoices.to_string());
    sheet.row(&["total".to_owned(), invoices.clone(), money(report.total, report.currency)]);
    sheet.print()?;
    let numbers = match &report.numbers {
        Some((first, last)) if first == last => first.clone(),
        Some((first, last)) => format!("{first} to {last}"),
        None => String::new(),
    };
    let said = match report.outcome {
        Outcome::Draft => format!("{invoices} drafts; nothing was written"),
        Outcome::Closed => {
            format!("issued {}: {numbers}; the month is closed", grouped(&report.newly_issued.to_string()))
        }
        Outcome::Unchanged => format!("closed before with the same usage: {numbers}; nothing was changed"),
        Outcome::LateUsage => {
            format!("usage differs from what was invoiced: {numbers}; no invoice was changed")
        }
    };
    month::footer(
        &report.period,
        &report.zone,
        &format!("data as of {:.19}Z", report.data_as_of.to_rfc3339()),
    );
    eprintln!("{said}");
    if report.prices_changed_since {
        eprintln!("prices have changed since the month was closed; its invoices keep theirs");
    }
    if report.late.is_empty() {
        return Ok(());
    }
    let header = |name: &str| format!(">{name} {}", report.currency);
    let (invoiced, now, adjustment) = (header("invoiced"), header("now"), header("adjustment"));
    let mut sheet = Sheet::new(&["tenant", "invoice", &invoiced, &now, &adjustment]);
    for late in &report.late {
        let number = late.number.clone().unwrap_or_else(|| "none".to_owned());
        let [invoiced, now, difference] =
            [late.invoiced, late.now, late.difference].map(|amount| money(amount, report.currency));
        sheet.row(&[late.tenant.clone(), number, invoiced, now, difference]);
    }
    output::line("")?;
    sheet.print()
}

async fn explain(context: &Context, number: &str, line: Option<u32>, json: bool) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let store = context::store(&config).await?;
    let meters = context::meters_in_force(&config, &store).await?;
    let explanation = rentroll_billing::explain(&store, &meters, number, line).await?;
    store.close().await;
    let holds = explanation.meters.iter().all(|meter| meter.holds);
    if json {
        output::json(&explanation)?;
    } else {
        show_explanation(&explanation)?;
    }
    Ok(if holds { Exit::Done } else { Exit::DoesNotHold })
}

fn show_explanation(explanation: &Explanation) -> anyhow::Result<()> {
    let invoice = &explanation.invoice;
    output::line(&format!("invoice  {} of tenant {}", invoice.number, invoice.tenant))?;
    output::line(&format!("plan     {}: {}", invoice.plan_title, invoice.plan_reason))?;
    output::line(&format!("prices   from {}, digest {}", invoice.prices_from, invoice.catalogue_digest))?;
    output::line(&format!("usage    digest {}", invoice.usage_digest))?;
    output::line("")?;
    let (exact, rounded) = (format!(">exact {}", invoice.currency), format!(">billed {}", invoice.currency));
    let headers =
        [">line", "what", "tier", ">quantity", "unit", ">price", &exact, &rounded, "meter", ">events"];
    let mut sheet = Sheet::new(&headers);
    for explained in &explanation.lines {
        let line = &explained.line;
        let tier = line.tier.as_ref().map_or_else(String::new, |tier| match tier.to {
            Some(to) => format!("[{}, {to})", tier.from),
            None => format!("[{}, ∞)", tier.from),
        });
        sheet.row(&[
            line.line.to_string(),
            format!("{}: {}", line.group, line.description),
            tier,
            grouped(&line.quantity.to_string()),
            line.unit.clone(),
            line.unit_price.to_string(),
            grouped(&line.exact_amount.to_string()),
            grouped(&line.amount.to_string()),
            line.meter.clone().unwrap_or_default(),
            line.events.map(|events| grouped(&events.to_string())).unwrap_or_default(),
        ]);
    }
    sheet.print()?;
    for meter in &explanation.meters {
        output::line("")?;
        output::line(&format!(
            "meter {}: {} {} in {} events invoiced, {} in {} events stored now: {}",
            meter.meter,
            grouped(&meter.invoiced.quantity.to_string()),
            meter.unit,
            grouped(&meter.invoiced.events.to_string()),
            grouped(&meter.now.quantity.to_string()),
            grouped(&meter.now.events.to_string()),
            if meter.holds { "the same" } else { "NOT THE SAME" }
        ))?;
        for line in meter.query.lines() {
            output::line(&format!("    {line}"))?;
        }
        for (name, value) in &meter.parameters {
            output::line(&format!("    {name} = {}", value.escape_debug()))?;
        }
        let mut sheet =
            Sheet::new(&["first events (UTC)", "source", "id", &format!(">{}", meter.unit), "identity"]);
        for event in &meter.first_events {
            sheet.row(&[
                &event.happened_at,
                &event.source,
                &event.id,
                &grouped(&event.quantity),
                &event.identity_hex,
            ]);
        }
        sheet.print()?;
        corrected(meter)?;
    }
    month::footer(
        &invoice.period.month,
        &invoice.period.zone,
        &format!("data as of {:.19}Z", invoice.data_as_of.to_rfc3339()),
    );
    Ok(())
}

/// Events that would be in the meter, were they not voided or amended.
fn corrected(meter: &MeterExplanation) -> anyhow::Result<()> {
    if meter.corrected.is_empty() {
        return Ok(());
    }
    let unit = format!(">{}", meter.unit);
    let mut sheet = Sheet::new(&["corrected events (UTC)", "source", "id", &unit, "counts nothing since"]);
    for event in &meter.corrected {
        let why = match event.correction.as_str() {
            "amends" => format!("`{}` counts in its place", event.by_id),
            _ => format!("`{}` voids it", event.by_id),
        };
        let CorrectedEvent { happened_at, source, id, quantity, .. } = event;
        sheet.row(&[happened_at, source, id, &grouped(quantity), &why]);
    }
    sheet.print()
}
