//! `rentroll books --rollups`: any span of the rollups, held against the events that they are made of.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use rentroll_aggregator::repair::check::Span as Checked;
use rentroll_aggregator::repair::keeper::EVENTS_AT_ONCE;
use rentroll_aggregator::repair::{Difference, Outcome, Proof};
use rentroll_engines::store::Store;
use rentroll_schemas::meter::Meters;

use crate::cli::Exit;
use crate::output::{self, Sheet, grouped};

/// Hours in one check at most, however few events they have: what is reported as being written is not more.
const HOURS_AT_ONCE: i64 = 24;
/// Differences that are shown; all are counted, and all are in the table `repairs` once they were put right.
const SHOWN_MAX: usize = 50;

/// Times of usage, all where an end is missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: Option<DateTime<Utc>>,
    pub(super) to: Option<DateTime<Utc>>,
}

#[derive(Default)]
struct Report {
    hours: u64,
    days: u64,
    in_motion: Vec<Checked>,
    expired: Vec<Checked>,
    differences: Vec<Difference>,
}

pub(super) async fn run(
    store: &Store,
    meters: &Meters,
    span: Span,
    repair: bool,
    json: bool,
) -> anyhow::Result<Exit> {
    let proof = Proof { store, meters, repairs: repair, why: "command" };
    let mut report = Report::default();
    let spans = spans(store, span).await?;
    for checked in &spans {
        let hours = (checked.to - checked.from).num_hours().unsigned_abs();
        match proof.hours(*checked).await? {
            Outcome::Settled(differences) => {
                report.hours += hours;
                report.differences.extend(differences);
            }
            Outcome::InMotion => report.in_motion.push(*checked),
            Outcome::Expired => report.expired.push(*checked),
        }
    }
    let days: BTreeSet<Checked> = spans
        .iter()
        .flat_map(|checked| [checked.from, checked.to - TimeDelta::seconds(1)])
        .map(Checked::day_of)
        .collect();
    for day in days {
        match proof.days(day).await? {
            Outcome::Settled(differences) => {
                report.days += 1;
                report.differences.extend(differences);
            }
            Outcome::InMotion => report.in_motion.push(day),
            Outcome::Expired => report.expired.push(day),
        }
    }
    let holds = report.differences.is_empty() || repair;
    match json {
        true => output::json(&serde_json::json!({
            "hold": report.differences.is_empty(),
            "repaired": repair,
            "hours": report.hours,
            "days": report.days,
            "differences": report.differences,
            "in_motion": spans_json(&report.in_motion),
            "expired": spans_json(&report.expired),
        }))?,
        false => print(&report, repair)?,
    }
    Ok(if holds { Exit::Done } else { Exit::DoesNotHold })
}

fn spans_json(spans: &[Checked]) -> Vec<serde_json::Value> {
    spans.iter().map(|span| serde_json::json!({ "from": span.from, "to": span.to })).collect()
}

/// The hours that have usage, by events or by rollups, put together into spans of some events each.
async fn spans(store: &Store, span: Span) -> anyhow::Result<Vec<Checked>> {
    let sql = "SELECT toUnixTimestamp(hour) AS hour, sum(events) AS events FROM (\
                 SELECT toDateTime(toStartOfHour(time), 'UTC') AS hour, count() AS events FROM events GROUP BY hour \
                 UNION ALL SELECT toDateTime(toStartOfHour(bucket), 'UTC'), 0 FROM usage_minute GROUP BY bucket \
                 UNION ALL SELECT bucket, 0 FROM usage_hour GROUP BY bucket) \
               WHERE hour >= toDateTime({from:Int64}, 'UTC') AND hour < toDateTime({to:Int64}, 'UTC') \
               GROUP BY hour ORDER BY hour";
    let from = span.from.map_or(0, |from| from.timestamp().max(0));
    let to = span.to.map_or(i64::from(u32::MAX), |to| to.timestamp());
    let query = store.client().query(sql).param("from", from).param("to", to);
    let hours: Vec<(u32, u64)> = query.fetch_all().await.map_err(|error| store.error(error))?;
    let mut spans: Vec<Checked> = Vec::new();
    let mut held = 0;
    for (hour, events) in hours {
        let hour = Checked::hour(DateTime::from_timestamp(i64::from(hour), 0).unwrap_or_default());
        match spans.last_mut() {
            Some(last)
                if held + events <= EVENTS_AT_ONCE
                    && hour.to - last.from <= TimeDelta::hours(HOURS_AT_ONCE) =>
            {
                last.to = hour.to;
                held += events;
            }
            _ => {
                spans.push(hour);
                held = events;
            }
        }
    }
    Ok(spans)
}

fn print(report: &Report, repair: bool) -> anyhow::Result<()> {
    if !report.differences.is_empty() {
        let mut sheet = Sheet::new(&[
            "table",
            "from (UTC)",
            "meter",
            "tenant",
            "dimensions",
            ">events found",
            ">expected",
            ">total found",
            ">expected",
        ]);
        for one in report.differences.iter().take(SHOWN_MAX) {
            sheet.row(&[
                one.table.name().to_owned(),
                one.bucket.format("%Y-%m-%d %H:%M").to_string(),
                one.meter.clone(),
                one.tenant.clone(),
                one.dimensions.clone(),
                grouped(&one.found.events.to_string()),
                grouped(&one.expected.events.to_string()),
                grouped(&one.found.total.to_string()),
                grouped(&one.expected.total.to_string()),
            ]);
        }
        sheet.print()?;
        let count = report.differences.len();
        if count > SHOWN_MAX {
            output::line(&format!(
                "and {} more; --json has them all",
                grouped(&(count - SHOWN_MAX).to_string())
            ))?;
        }
    }
    for (spans, word) in [
        (&report.in_motion, "being written, check again later"),
        (&report.expired, "not checked: its events may be past their retention"),
    ] {
        for span in spans {
            let form = "%Y-%m-%d %H:%M";
            output::line(&format!("{} to {}: {word}", span.from.format(form), span.to.format(form)))?;
        }
    }
    let (hours, days) = (grouped(&report.hours.to_string()), grouped(&report.days.to_string()));
    let count = grouped(&report.differences.len().to_string());
    eprintln!(
        "{hours} hours and {days} days of rollups held against the events: {}",
        match (report.differences.is_empty(), repair) {
            (true, _) => "they are what the events make them".to_owned(),
            (false, true) => format!("{count} cells differed and were put right"),
            (false, false) => format!("{count} cells DIFFER; --repair puts them right"),
        }
    );
    Ok(())
}
