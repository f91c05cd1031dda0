//! The verbs that ask of usage: `query`, `top`, `events`. What they have in common: a span, whose usage, how it is shown.

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rentroll_aggregator::meters::LiveMeters;
use rentroll_aggregator::meters::history::next_minute;
use rentroll_aggregator::usage::{Filter, Group, Limits, Scope, Scoped, Source, Usage, UsageError, text};
use rentroll_engines::store::Store;
use rentroll_schemas::meter::Meters;

use crate::cli::WrongUse;
use crate::context::{self, Context};
use crate::verbs::when::{self, Typed};

pub mod events;
pub mod plot;
pub mod query;
pub mod rows;
pub mod top;

/// A command line may ask for more than an API: nobody else waits for it.
const LIMITS: Limits = Limits {
    seconds_max: 600,
    memory_bytes_max: 2 << 30,
    rows_read_max: 2_000_000_000,
    rows_answered_max: 1_000_000,
};
/// Without `--from`, so far back.
const DAYS: i64 = 30;

/// From when to when.
#[derive(Debug, clap::Args)]
pub struct SpanArgs {
    /// First instant: 2026-11-24 or 2026-11-24T10:00, by the clocks of --zone, or RFC 3339. 30 days before --to, where
    /// nothing is said.
    #[arg(long, value_name = "TIME", value_parser = when::typed, conflicts_with = "last")]
    from: Option<Typed>,
    /// First instant after it; now, where nothing is said.
    #[arg(long, value_name = "TIME", value_parser = when::typed)]
    to: Option<Typed>,
    /// So long up to `--to`: 24h, 7d, 90m.
    #[arg(long, value_name = "LENGTH", value_parser = length)]
    last: Option<TimeDelta>,
    /// The month, in --zone: 2026-11.
    #[arg(long, value_name = "YYYY-MM", conflicts_with_all = ["from", "to", "last"])]
    month: Option<String>,
}

/// Whose usage.
#[derive(Debug, clap::Args)]
pub struct WhoseArgs {
    /// Only this tenant's; may be repeated.
    #[arg(long = "tenant", value_name = "TENANT")]
    tenants: Vec<String>,
    /// Only tenants of this organisation; may be repeated.
    #[arg(long = "organisation", value_name = "NAME")]
    organisations: Vec<String>,
    /// Only events of which this holds: key=value, key!=value, key^=prefix, key>=number, key<number; may be repeated.
    #[arg(long = "where", value_name = "FILTER")]
    filters: Vec<String>,
}

impl SpanArgs {
    /// [from, to), whole minutes.
    pub(super) fn span(
        &self,
        zone: Tz,
        now: DateTime<Utc>,
    ) -> anyhow::Result<(DateTime<Utc>, DateTime<Utc>)> {
        if let Some(month) = &self.month {
            let period = rentroll_schemas::period::Period::parse(month, zone)
                .map_err(|error| WrongUse(format!("--month: {error}")))?;
            return Ok((period.from, period.to));
        }
        let to = self.to.map_or_else(|| next_minute(now), |to| to.at(zone));
        let from = match (self.from, self.last) {
            (Some(from), _) => from.at(zone),
            (None, last) => to - last.unwrap_or_else(|| TimeDelta::days(DAYS)),
        };
        in_order(from, to)?;
        Ok((from, to))
    }
}

/// A span whose end is not after its beginning is a mistake.
fn in_order(from: DateTime<Utc>, to: DateTime<Utc>) -> Result<(), WrongUse> {
    match from < to {
        true => Ok(()),
        false => {
            Err(WrongUse(format!("--from {} is not before --to {}", from.to_rfc3339(), to.to_rfc3339())))
        }
    }
}

impl WhoseArgs {
    fn filters(&self) -> anyhow::Result<Vec<Filter>> {
        let wrong = |given: &str| WrongUse(format!("--where: `{given}` is no filter: {}", text::FILTERS));
        Ok(text::filters(self.filters.iter().map(String::as_str)).map_err(wrong)?)
    }
}

fn length(given: &str) -> Result<TimeDelta, String> {
    text::length(given).ok_or_else(|| format!("`{given}` is none: {}", text::LENGTHS))
}

pub(super) fn zone(given: &str) -> Result<Tz, String> {
    given.parse().map_err(|_| format!("`{given}` is no IANA time zone, such as UTC or Europe/Berlin"))
}

fn group(given: &str) -> Result<Group, String> {
    text::group(given).ok_or_else(|| format!("`{given}` is none: {}", text::GROUPS))
}

/// The store, and usage of all tenants in it.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) usage: Scoped,
}

impl Opened {
    pub(super) async fn new(context: &Context) -> anyhow::Result<Opened> {
        let config = context.config()?;
        let store = context::store(&config).await?;
        let meters = context::meters_in_force(&config, &store).await?;
        let catalogue = context::catalogue_if_any(&config, &meters)?;
        let zone = catalogue.map_or(Tz::UTC, |catalogue| catalogue.time_zone);
        let usage = of_all(&store, meters, zone);
        Ok(Opened { store, usage })
    }
}

/// Usage of all tenants in a store.
pub(super) fn of_all(store: &Store, meters: Meters, zone: Tz) -> Scoped {
    Usage::new(store.clone(), LiveMeters::new(meters), zone, LIMITS).scoped(Scope::All)
}

/// What is wrong with a question is the user's mistake, told by what was typed; what is wrong with the store is not.
pub(super) fn asked<T>(answer: Result<T, UsageError>) -> anyhow::Result<T> {
    match answer {
        Err(UsageError::Parameter { name, given, allowed }) => {
            Err(WrongUse(format!("{}: `{given}` is not allowed: {allowed}", flag(name))).into())
        }
        Err(error @ (UsageError::UnknownMeter { .. } | UsageError::TooLarge { .. })) => {
            Err(WrongUse(error.to_string()).into())
        }
        other => other.context("cannot read usage"),
    }
}

/// How a parameter of a question is typed.
fn flag(parameter: &str) -> String {
    let name = match parameter {
        "filters" => "where",
        "group_by" => "by",
        "tenants" => "tenant",
        "organisations" => "organisation",
        "rows" => "limit",
        other => other,
    };
    format!("--{name}")
}

/// The footer of a table: what is included, and how fresh it is.
pub(super) fn footer(
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    zone: &str,
    read_from: &[Source],
    is_open: bool,
    data_as_of: Option<DateTime<Utc>>,
) {
    let typed = |time: DateTime<Utc>| time.format("%Y-%m-%d %H:%M");
    let sources: Vec<&str> = read_from
        .iter()
        .map(|source| match source {
            Source::Day => "rollups by day",
            Source::Hour => "rollups by hour",
            Source::Minute => "rollups by minute",
            Source::Events => "raw events",
        })
        .collect();
    let read = if sources.is_empty() { "nothing".to_owned() } else { sources.join(" and ") };
    let still = if is_open { "; not over yet" } else { "" };
    let fresh = data_as_of
        .map_or_else(|| "no events yet".to_owned(), |time| format!("data as of {} UTC", typed(time)));
    eprintln!(
        "\n{} up to, not including, {} UTC{still}; cut in {zone}; read from {read}; {fresh}",
        typed(from),
        typed(to)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(last: Option<&str>, from: Option<&str>, to: Option<&str>) -> SpanArgs {
        let time = |text: &str| when::typed(text).unwrap();
        SpanArgs {
            from: from.map(time),
            to: to.map(time),
            last: last.map(|text| length(text).unwrap()),
            month: None,
        }
    }

    #[test]
    fn a_span_is_what_was_typed_or_the_last_days() {
        let now = when::moment("2026-11-24T10:00:30Z").unwrap();
        let typed = |args: SpanArgs| {
            args.span(Tz::UTC, now)
                .map(|(from, to)| format!("{}/{}", from.format("%m-%dT%H:%M"), to.format("%m-%dT%H:%M")))
        };
        assert_eq!(typed(args(None, None, None)).unwrap(), "10-25T10:01/11-24T10:01");
        assert_eq!(typed(args(Some("24h"), None, Some("2026-11-02"))).unwrap(), "11-01T00:00/11-02T00:00");
        assert_eq!(
            typed(args(None, Some("2026-11-01"), Some("2026-11-02"))).unwrap(),
            "11-01T00:00/11-02T00:00"
        );
        assert!(typed(args(None, Some("2026-11-02"), Some("2026-11-02"))).is_err());
        let (from, _) = args(None, Some("2026-11-01"), None).span(Tz::Europe__Berlin, now).unwrap();
        assert_eq!(from.to_rfc3339(), "2026-10-31T23:00:00+00:00", "midnight in the zone");
        let month = SpanArgs { month: Some("2026-10".into()), ..args(None, None, None) };
        let (from, to) = month.span("Europe/Berlin".parse().unwrap(), now).unwrap();
        assert_eq!((to - from).num_hours(), 745, "the clocks went back");
    }
}
