//! Subjects of a meter, and the values of its names.

use axum::http::{StatusCode, Uri};
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::definition::{Life, names};
use super::meters;
use super::problem::{cannot_be, of_usage};
use super::query::{SUBJECT, rows_of, span};
use crate::api::gate::{Reader, Reading};
use crate::api::output::{self, TakesJson};
use crate::api::params::Params;
use crate::api::problem::{Problem, one_of};
use crate::api::{PathOf, segments, times};
use crate::meters::history::next_minute;
use crate::usage::overview::Span;
use crate::usage::{Group, Query, UsageError};

/// Values are of so long where nothing is said.
const RECENT: TimeDelta = TimeDelta::hours(24);

struct Asked {
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
}

fn asked(uri: &Uri) -> Result<Asked, Problem> {
    let params = Params::of_address(uri, &["from", "to", "clientId"])?;
    let time = |name| {
        let text = params.one(name)?;
        text.map(|text| times::instant(name, text, Tz::UTC)).transpose()
    };
    params.one("clientId")?;
    let (from, to) = span(time("from")?, time("to")?)?;
    Ok(Asked { from, to })
}

/// `GET /meters/{meter}/subjects`
pub(super) async fn subjects(
    reader: Reader,
    _: TakesJson,
    path: PathOf<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let reader = reader.more_than_usage()?;
    let slug = segments(path)?;
    let asked = asked(&uri)?;
    let reading = reader.begin().await?;
    let life = meters::find(&reading.meter_versions().await?, &slug)?;
    tenants(&reading, &life, asked.from, asked.to).await
}

async fn tenants(
    reading: &Reading,
    life: &Life,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
) -> Result<Response, Problem> {
    let query = Query {
        group_by: vec![Group::Tenant],
        ..Query::new(
            &life.meter.name,
            from.unwrap_or(DateTime::UNIX_EPOCH),
            to.unwrap_or(next_minute(Utc::now())),
        )
    };
    let rows = rows_of(reading, life, query, from.is_none()).await?;
    let mut tenants: Vec<String> = rows.into_iter().filter_map(|row| row.tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    Ok(output::json(StatusCode::OK, &tenants))
}

/// `GET /meters/{meter}/group-by/{name}/values`
pub(super) async fn of_group(
    reader: Reader,
    _: TakesJson,
    path: PathOf<(String, String)>,
    uri: Uri,
) -> Result<Response, Problem> {
    let reader = reader.more_than_usage()?;
    let (slug, name) = segments(path)?;
    let mut asked = asked(&uri)?;
    if asked.from.is_none() && asked.to.is_none() {
        asked.from = span(Some(Utc::now() - RECENT), None)?.0;
    }
    let reading = reader.begin().await?;
    let life = meters::find(&reading.meter_versions().await?, &slug)?;
    if name == SUBJECT {
        return tenants(&reading, &life, asked.from, asked.to).await;
    }
    let known = names(&life.meter);
    let Some((_, key)) = known.iter().find(|(known, _)| *known == name) else {
        let mut allowed: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
        allowed.push(SUBJECT);
        return Err(cannot_be("groupByKey", &name, one_of(&allowed)));
    };
    let from = asked.from.unwrap_or(DateTime::UNIX_EPOCH);
    let span = Span { from: from.max(life.begins()), to: asked.to.unwrap_or(next_minute(Utc::now())) };
    let mut values: Vec<String> = Vec::new();
    if span.from < span.to {
        match reading.group_values(&slug, key, span).await {
            Ok(found) => values = found.into_iter().map(|value| value.value).collect(),
            // This process has not taken it up yet.
            Err(UsageError::UnknownMeter { .. }) => {}
            Err(error) => return Err(of_usage(error)),
        }
    }
    values.retain(|value| !value.is_empty());
    values.sort_unstable();
    Ok(output::json(StatusCode::OK, &values))
}
