//! `rentroll invoices`: issued invoices, listed, shown, exported.

use std::io::Write as _;

use chrono_tz::Tz;
use clap::{Subcommand, ValueEnum};
use rentroll_billing::BillingError;
use rentroll_billing::invoices::{self, Filter, csv_lines};
use rentroll_schemas::invoice::{Invoice, Party};
use rentroll_schemas::period::Period;
use rust_decimal::Decimal;

use super::month::{self, money};
use crate::cli::{Exit, WrongUse};
use crate::context::{self, Context};
use crate::output::{self, Sheet, grouped};

/// Arguments of `rentroll invoices`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List invoices by number.
    #[command(after_help = "\
Examples:
  rentroll invoices list --period 2015-05
  rentroll invoices list --tenant 66.249.73.135 --json")]
    List {
        /// Only of this month.
        #[arg(long, value_name = "YYYY-MM")]
        period: Option<String>,
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<String>,
        /// Show at most this many; the total is of all.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// As JSON, all of them.
        #[arg(long)]
        json: bool,
    },
    /// Show one invoice.
    #[command(after_help = "\
Examples:
  rentroll invoices show RR-2015-000001
  rentroll invoices show RR-2015-000001 --json   the document as it was issued")]
    Show {
        /// Its number.
        number: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write invoices to stdout: documents as JSON, or lines as CSV, with the same rounded amounts.
    #[command(after_help = "\
Examples:
  rentroll invoices export --period 2015-05 --format csv > lines.csv
  rentroll invoices export --period 2015-05 --format json > invoices.json
  rentroll invoices export RR-2015-000001 --format csv")]
    Export {
        /// One invoice.
        #[arg(conflicts_with_all = ["period", "tenant"])]
        number: Option<String>,
        /// Only of this month.
        #[arg(long, value_name = "YYYY-MM")]
        period: Option<String>,
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<String>,
        /// How.
        #[arg(long, value_enum)]
        format: Format,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// An array of documents.
    Json,
    /// A row per line, amounts at full precision.
    Csv,
}

/// Runs it.
///
/// # Errors
/// See [`BillingError`].
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    month::exit(match args.action {
        Action::List { period, tenant, limit, json } => {
            list(context, filter(period, tenant)?, limit, json).await
        }
        Action::Show { number, json } => show(context, &number, json).await,
        Action::Export { number, period, tenant, format } => {
            export(context, number, filter(period, tenant)?, format).await
        }
    })
}

fn filter(period: Option<String>, tenant: Option<String>) -> Result<Filter, WrongUse> {
    if let Some(period) = &period {
        // Only the form is checked: the month's zone is the invoices' own.
        Period::parse(period, Tz::UTC).map_err(|error| WrongUse(format!("--period: {error}")))?;
    }
    Ok(Filter { period, tenant })
}

async fn list(context: &Context, filter: Filter, limit: usize, json: bool) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let store = context::store(&config).await?;
    let found = invoices::list(&store, &filter).await?;
    store.close().await;
    if json {
        output::json(&found)?;
        return Ok(Exit::Done);
    }
    let Some(first) = found.first() else {
        eprintln!("no invoice matches; `rentroll bill run --period YYYY-MM` issues them");
        return Ok(Exit::Done);
    };
    let one_currency = found.iter().all(|invoice| invoice.currency == first.currency);
    let total = if one_currency { format!(">total {}", first.currency) } else { ">total".to_owned() };
    let mut sheet = Sheet::new(&["number", "period", "tenant", "plan", "issued", "due", &total, "currency"]);
    for invoice in found.iter().take(limit) {
        sheet.row(&[
            invoice.number.clone(),
            invoice.period.clone(),
            invoice.tenant.clone(),
            invoice.plan.clone(),
            invoice.issue_date.to_string(),
            invoice.due_date.to_string(),
            money(invoice.total, invoice.currency),
            invoice.currency.to_string(),
        ]);
    }
    if one_currency {
        let mut sum = Decimal::ZERO;
        for invoice in &found {
            sum = sum
                .checked_add(invoice.total.0)
                .ok_or_else(|| BillingError::TooLarge { what: "the sum of the invoices".to_owned() })?;
        }
        let count = format!("{} invoices", grouped(&found.len().to_string()));
        let blank = String::new;
        let total = money(sum.into(), first.currency);
        sheet.row(&[count, blank(), blank(), blank(), blank(), blank(), total, first.currency.to_string()]);
    }
    sheet.print()?;
    if found.len() > limit {
        eprintln!("\n{limit} of {} shown: --limit shows more, --json all", grouped(&found.len().to_string()));
    }
    Ok(Exit::Done)
}

async fn show(context: &Context, number: &str, json: bool) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let store = context::store(&config).await?;
    let invoice = invoices::show(&store, number).await?;
    store.close().await;
    if json {
        output::json(&invoice)?;
    } else {
        print(&invoice)?;
    }
    Ok(Exit::Done)
}

fn print(invoice: &Invoice) -> anyhow::Result<()> {
    let seller = Party {
        name: invoice.seller.name.clone(),
        address: invoice.seller.address.clone(),
        tax_id: invoice.seller.tax_id.clone(),
    };
    output::line(&format!("INVOICE {}", invoice.number))?;
    output::line(&format!("from     {}", one_line(&seller)))?;
    output::line(&format!("to       {}", one_line(&invoice.buyer)))?;
    output::line(&format!("period   {} ({})", invoice.period.month, invoice.period.zone))?;
    output::line(&format!("issued   {}, due {}", invoice.issue_date, invoice.due_date))?;
    output::line(&format!("plan     {}: {}", invoice.plan_title, invoice.plan_reason))?;
    output::line("")?;
    let amount = format!(">amount {}", invoice.currency);
    let mut sheet = Sheet::new(&[">line", "what", ">quantity", "unit", ">price", &amount]);
    for (group, lines) in invoice.groups() {
        for line in lines {
            sheet.row(&[
                line.line.to_string(),
                format!("{group}: {}", line.description),
                grouped(&line.quantity.to_string()),
                line.unit.clone(),
                line.unit_price.to_string(),
                money(line.amount, invoice.currency),
            ]);
        }
    }
    let blank = String::new;
    let mut sum = |name: String, amount| {
        sheet.row(&[blank(), name, blank(), blank(), blank(), money(amount, invoice.currency)]);
    };
    if let Some(tax) = &invoice.tax {
        sum("subtotal".to_owned(), invoice.subtotal);
        sum(format!("{} {}", tax.name, tax.rate), tax.amount);
    }
    sum("due".to_owned(), invoice.total);
    sheet.print()?;
    for instruction in &invoice.seller.payment_instructions {
        eprintln!("{instruction}");
    }
    eprintln!("data as of {:.19}Z; usage digest {}", invoice.data_as_of.to_rfc3339(), invoice.usage_digest);
    Ok(())
}

fn one_line(party: &Party) -> String {
    let mut parts = vec![party.name.clone()];
    parts.extend(party.address.iter().cloned());
    parts.extend(party.tax_id.iter().map(|id| format!("tax id {id}")));
    parts.join(", ").replace(|c: char| c.is_control(), "\u{fffd}")
}

async fn export(
    context: &Context,
    number: Option<String>,
    filter: Filter,
    format: Format,
) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let store = context::store(&config).await?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match format {
        Format::Json => write!(out, "[")?,
        Format::Csv => write!(out, "{}", invoices::CSV_HEADER)?,
    }
    let mut count = 0_u64;
    let mut take = |invoice: Invoice| -> anyhow::Result<()> {
        match format {
            Format::Json => {
                write!(out, "{}", if count == 0 { "\n" } else { ",\n" })?;
                serde_json::to_writer(&mut out, &invoice).map_err(std::io::Error::from)?;
            }
            Format::Csv => write!(out, "{}", csv_lines(&invoice))?,
        }
        count += 1;
        Ok(())
    };
    match number {
        Some(number) => take(invoices::show(&store, &number).await?)?,
        None => invoices::export(&store, &filter, &mut take).await?,
    }
    if matches!(format, Format::Json) {
        write!(out, "\n]\n")?;
    }
    out.flush()?;
    drop(out);
    store.close().await;
    eprintln!("{} invoices", grouped(&count.to_string()));
    Ok(Exit::Done)
}
