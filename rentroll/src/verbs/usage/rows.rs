//! Rows of usage as cells: labels, windows, CSV.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rentroll_aggregator::usage::{Answer, Group, Row, Window, text};
use rentroll_dashboards::csv::Record;
use rentroll_dashboards::text::plural;
use rentroll_schemas::meter::{Aggregation, Per};

use crate::output;

/// What a row is told apart by; empty for a tenant without an organisation, an event without the dimension.
pub(super) fn label<'r>(row: &'r Row, group: &Group) -> &'r str {
    let text = match group {
        Group::Tenant => row.tenant.as_ref(),
        Group::Organisation => row.organisation.as_ref(),
        Group::Tier => row.tier.as_ref(),
        Group::Tag(key) => row.tags.get(key),
        Group::Dimension(name) => row.dimensions.get(name),
    };
    text.map_or("", String::as_str)
}

/// The group of a row, as one text.
pub(super) fn key(row: &Row) -> String {
    let Row { tenant, organisation, tier, tags, dimensions, .. } = row;
    // Texts always serialise.
    serde_json::to_string(&(tenant, organisation, tier, tags, dimensions)).unwrap_or_default()
}

/// The header of quantities: the meter, and its unit.
pub(super) fn quantity_header(answer: &Answer) -> String {
    let unit = plural(&answer.unit);
    let per = |per: Per| match per {
        Per::Second => "second",
        Per::Minute => "minute",
        Per::Hour => "hour",
        Per::Window => "window",
    };
    let unit = match (answer.aggregation, answer.per) {
        (Aggregation::Rate, Some(time)) => format!("{unit}/{}", per(time)),
        (Aggregation::TimeWeighted, Some(Per::Window)) => format!("{unit}, on average"),
        (Aggregation::TimeWeighted, Some(time)) => format!("{}-{}s", answer.unit, per(time)),
        (Aggregation::UniqueCount, _) if answer.approximation.is_some() => format!("about, different {unit}"),
        (Aggregation::UniqueCount, _) => format!("different {unit}"),
        _ => unit,
    };
    format!("{} ({unit})", answer.meter)
}

/// The beginning of a window by the clocks of the zone.
pub(super) fn local(from: DateTime<Utc>, window: Window, zone: Tz) -> String {
    let local = from.with_timezone(&zone);
    let is_midnight = local.format("%H:%M").to_string() == "00:00";
    match window {
        Window::Day | Window::Week | Window::Month | Window::BillingPeriod if is_midnight => {
            local.format("%Y-%m-%d").to_string()
        }
        // Where clocks go back an hour comes twice: the offset tells them apart.
        _ if zone == Tz::UTC => local.format("%Y-%m-%d %H:%M").to_string(),
        _ => local.format("%Y-%m-%d %H:%M %:z").to_string(),
    }
}

/// Prints an answer as CSV: times in UTC, quantities with all their digits.
pub(super) fn csv(answer: &Answer, by: &[Group]) -> anyhow::Result<()> {
    let mut header = Record::default().value(Some("from")).value(Some("to"));
    for group in by {
        header = header.text(&text::written(group));
    }
    let names = ["meter", "unit", "quantity", "events"];
    let is_about = answer.approximation.is_some();
    let header = names.iter().fold(header, |header, name| header.value(Some(text::column(name, is_about))));
    output::line(header.line().trim_end())?;
    for row in &answer.rows {
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
        let mut record = Record::default().value(Some(time(row.from))).value(Some(time(row.to)));
        for group in by {
            record = record.text(label(row, group));
        }
        let record =
            record.text(&answer.meter).text(&answer.unit).value(row.quantity).value(Some(row.events));
        output::line(record.line().trim_end())?;
    }
    Ok(())
}
