//! `/invoices/{number}`: the document as the customer gets it, on screen and on A4.
//!
//! Everything shown comes from the issued document; nothing is computed again but the sums of the appendix,
//! which add up what stands above them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use maud::{Markup, html};
use rentroll_schemas::Quantity;
use rentroll_schemas::invoice::{Invoice, InvoiceLine, InvoiceStatus, LineKind};
use rust_decimal::Decimal;

use crate::address::Address;
use crate::html::shell::Frame;
use crate::text;

/// The page's values.
#[derive(Clone, Debug)]
pub struct View {
    /// The shell.
    pub frame: Frame,
    /// The document.
    pub invoice: Invoice,
    /// BLAKE3 of the stored document.
    pub digest: String,
    /// Whether that is really the digest of what is stored.
    pub intact: bool,
}

/// The page's body.
pub fn render(view: &View) -> Markup {
    let invoice = &view.invoice;
    let params = [("period", invoice.period.month.clone())];
    html! {
        p.crumbs.no-print {
            a href=(Address::new("/invoices").with_all(&params)) { "Invoices" }
            " · "
            a href=(Address::tenant(&invoice.tenant).with_all(&params)) { bdi { (invoice.tenant) } }
        }
        @if !view.intact {
            p.warning role="alert" { "The stored document does not match its digest: do not send it. Run " code { "rentroll doctor" } "." }
        }
        article.sheet {
            (head(invoice))
            (parties(invoice))
            (lines(invoice))
            (totals(invoice))
            (payment(invoice))
            (appendix(invoice))
            (provenance(view))
        }
    }
}

fn head(invoice: &Invoice) -> Markup {
    let draft = invoice.status == InvoiceStatus::Draft;
    html! {
        header.sheet-head {
            div {
                p.seller { (invoice.seller.name) }
                h1 { @if draft { "Draft invoice" } @else { "Invoice" } }
                @if draft { p.draft { "Draft: not to be paid." } }
            }
            div.due {
                p.due-label { "Amount due" }
                p.due-amount { (text::money(invoice.total.0, invoice.currency)) " " span.unit { (invoice.currency) } }
                p.quiet { "by " (text::date(invoice.due_date)) }
            }
        }
    }
}

fn parties(invoice: &Invoice) -> Markup {
    let seller = &invoice.seller;
    html! {
        div.parties {
            div {
                h2.label { "From" }
                p {
                    strong { (seller.name) }
                    @for line in &seller.address { br; (line) }
                    @if let Some(tax_id) = &seller.tax_id { br; "Tax id " (tax_id) }
                    @if let Some(email) = &seller.email { br; (email) }
                }
            }
            div {
                h2.label { "To" }
                p {
                    strong { bdi { (invoice.buyer.name) } }
                    @for line in &invoice.buyer.address { br; (line) }
                    @if let Some(tax_id) = &invoice.buyer.tax_id { br; "Tax id " (tax_id) }
                }
            }
            dl.facts {
                dt { "Number" } dd { (invoice.number) }
                dt { "Issued" } dd { (text::date(invoice.issue_date)) }
                dt { "Due" } dd { (text::date(invoice.due_date)) }
                dt { "Period" }
                dd {
                    (month_of(invoice))
                    span.quiet { (period_sentence(invoice)) }
                }
                dt { "Account" } dd { bdi { (invoice.tenant) } }
                dt { "Plan" } dd { (invoice.plan_title) span.quiet { (invoice.plan_reason) } }
            }
        }
    }
}

/// Both ends in the billing zone, in which they are midnights; in UTC, in full, where the zone is not known.
fn period_sentence(invoice: &Invoice) -> String {
    let period = &invoice.period;
    let Ok(zone) = period.zone.parse::<chrono_tz::Tz>() else {
        return format!(
            "{} up to, not including, {}",
            text::minute_utc(period.from),
            text::minute_utc(period.to)
        );
    };
    let day = |time: chrono::DateTime<chrono::Utc>| text::date(time.with_timezone(&zone).date_naive());
    format!("{} up to, not including, {}, {}", day(period.from), day(period.to), period.zone)
}

fn month_of(invoice: &Invoice) -> String {
    let month = invoice
        .period
        .month
        .split_once('-')
        .and_then(|(year, month)| Some((year.parse().ok()?, month.parse().ok()?)));
    month.map_or_else(|| invoice.period.month.clone(), |(year, month)| text::month(year, month))
}

fn lines(invoice: &Invoice) -> Markup {
    html! {
        div.table-wrap tabindex="0" role="region" aria-label="Lines" {
            table.lines {
                thead { tr {
                    th scope="col" { "Description" }
                    th.number scope="col" { "Quantity" }
                    th scope="col" { "Unit" }
                    th.number scope="col" { "Unit price" span.col-unit { (invoice.currency) } }
                    th.number scope="col" { "Amount" span.col-unit { (invoice.currency) } }
                } }
                @for (group, lines) in invoice.groups() { (product(invoice, group, &lines)) }
            }
        }
    }
}

/// One product: a line by itself, or a heading with a sub-line per tier.
fn product(invoice: &Invoice, group: &str, lines: &[&InvoiceLine]) -> Markup {
    html! {
        tbody.product {
            @if let [line] = lines {
                (line_row(invoice, line, group, false))
            } @else {
                tr.product-head {
                    // No sum here: every amount in the column is one that the subtotal adds up.
                    th scope="rowgroup" colspan="5" { (group) }
                }
                @for line in lines { (line_row(invoice, line, &line.description, true)) }
            }
        }
    }
}

fn line_row(invoice: &Invoice, line: &InvoiceLine, name: &str, sub: bool) -> Markup {
    let unit = if line.quantity.0 == Decimal::ONE { line.unit.clone() } else { text::plural(&line.unit) };
    html! {
        tr.sub[sub] {
            th scope="row" {
                (name)
                @if !sub && line.description != name { span.quiet { (line.description) } }
            }
            td.number { @if line.kind == LineKind::BaseFee || line.kind == LineKind::FlatFee { "1" } @else { (text::decimal(line.quantity.0.normalize())) } }
            td { (unit) }
            td.number { (text::decimal(price(line.unit_price.0, invoice))) }
            td.number { (text::money(line.amount.0, invoice.currency)) }
        }
    }
}

/// A price in full, with at least the currency's digits.
fn price(price: Decimal, invoice: &Invoice) -> Decimal {
    let mut price = price.normalize();
    if price.scale() < invoice.currency.decimals() {
        price.rescale(invoice.currency.decimals());
    }
    price
}

fn totals(invoice: &Invoice) -> Markup {
    let money = |amount: Decimal| text::money(amount, invoice.currency);
    html! {
        table.totals {
            tbody {
                tr { th scope="row" { "Subtotal" } td.number { (money(invoice.subtotal.0)) } }
                @if let Some(tax) = &invoice.tax {
                    @let percent = (tax.rate.0 * Decimal::ONE_HUNDRED).normalize();
                    tr { th scope="row" { (tax.name) " " (percent) " %" } td.number { (money(tax.amount.0)) } }
                }
                tr.grand { th scope="row" { "Total due, " (invoice.currency) } td.number { (money(invoice.total.0)) } }
            }
        }
    }
}

fn payment(invoice: &Invoice) -> Markup {
    html! {
        @if !invoice.seller.payment_instructions.is_empty() && invoice.status == InvoiceStatus::Issued {
            section.payment {
                h2.label { "How to pay" }
                p {
                    @for (index, line) in invoice.seller.payment_instructions.iter().enumerate() { @if index > 0 { br; } (line) }
                    br; "Reference: " strong { (invoice.number) }
                }
            }
        }
    }
}

fn appendix(invoice: &Invoice) -> Markup {
    let meters: BTreeMap<&str, &str> =
        invoice.daily.iter().map(|day| (day.meter.as_str(), day.unit.as_str())).collect();
    let days: BTreeSet<NaiveDate> = invoice.daily.iter().map(|day| day.day).collect();
    let cells: BTreeMap<(NaiveDate, &str), Quantity> =
        invoice.daily.iter().map(|day| ((day.day, day.meter.as_str()), day.quantity)).collect();
    // The period's own, of which days need not be parts; what older invoices say no more of adds up.
    let total = |meter: &str| match invoice.usage.iter().find(|total| total.meter == meter) {
        Some(total) => Some(total.quantity),
        None => {
            let mut days = invoice.daily.iter().filter(|day| day.meter == meter);
            days.try_fold(Quantity::ZERO, |sum, day| sum.checked_add(day.quantity))
        }
    };
    html! {
        @if !invoice.daily.is_empty() {
            section.appendix {
                h2 { "Usage by day" }
                p.quiet { "Days begin at midnight, " (invoice.period.zone) ". Days without usage are left out." }
                div.table-wrap tabindex="0" role="region" aria-label="Usage by day" {
                    table {
                        thead { tr {
                            th scope="col" { "Day" }
                            @for (meter, unit) in &meters { th.number scope="col" { (meter_header(meter, unit)) } }
                        } }
                        tbody {
                            @for day in &days {
                                tr {
                                    th scope="row" { (day) }
                                    @for meter in meters.keys() {
                                        td.number { @if let Some(quantity) = cells.get(&(*day, *meter)) { (text::quantity(*quantity)) } }
                                    }
                                }
                            }
                        }
                        tfoot { tr {
                            th scope="row" { (text::count(days.len() as u64)) @if days.len() == 1 { " day" } @else { " days" } }
                            @for meter in meters.keys() {
                                td.number { @if let Some(total) = total(meter) { (text::quantity(total)) } }
                            }
                        } }
                    }
                }
            }
        }
    }
}

fn meter_header(meter: &str, unit: &str) -> Markup {
    let (title, unit) = (text::title_case(meter), text::plural(unit));
    html! { (title) @if text::names_another_unit(&title, &unit) { span.col-unit { (unit) } } }
}

fn provenance(view: &View) -> Markup {
    let invoice = &view.invoice;
    html! {
        footer.provenance {
            p {
                "Everything stored up to " (text::second(invoice.data_as_of)) " UTC was counted. Prices in force from "
                (text::date(invoice.prices_from)) ". Each line is rounded once, half away from zero; the total is the sum of the lines."
            }
            dl {
                dt { "Document" } dd { code { (view.digest) } }
                dt { "Usage" } dd { code { (invoice.usage_digest) } }
                dt { "Prices" } dd { code { (invoice.catalogue_digest) } }
            }
        }
    }
}
