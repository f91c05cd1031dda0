//! `/usage`: how much of a meter.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::Response;
use serde::Serialize;

use super::gate::Reader;
use super::output::{self, Cell, Form, Wanted};
use super::params::Params;
use super::problem::{self, Problem};
use super::{Api, PathOf, RECENT, body, page, segments, terms, times};
use crate::usage::top::{TOP_ROWS_MAX, Top, TopAnswer, TopRow};
use crate::usage::{Answer, Fill, Group, Query, Row, UsageError, Window, text};

const QUERY: [&str; 15] = [
    "meter",
    "from",
    "to",
    "window",
    "zone",
    "rolling",
    "tenant",
    "organisation",
    "group_by",
    "filter",
    "fill",
    "approximate",
    "format",
    "cursor",
    "limit",
];
const REPEATED: [&str; 4] = ["tenant", "organisation", "group_by", "filter"];
const TOP: [&str; 12] = [
    "meter",
    "from",
    "to",
    "zone",
    "tenant",
    "organisation",
    "filter",
    "by",
    "compare",
    "approximate",
    "format",
    "limit",
];
const WINDOWS: [(&str, Window); 7] = [
    ("whole", Window::Whole),
    ("minute", Window::Minute),
    ("hour", Window::Hour),
    ("day", Window::Day),
    ("week", Window::Week),
    ("month", Window::Month),
    ("billing_period", Window::BillingPeriod),
];
const FILLS: [(&str, Fill); 4] =
    [("none", Fill::None), ("null", Fill::Null), ("zero", Fill::Zero), ("previous", Fill::Previous)];
/// Whether values that differ are counted about right.
const TRUTHS: [(&str, bool); 2] = [("false", false), ("true", true)];
/// Whether top is compared.
const COMPARISONS: [(&str, bool); 2] = [("none", false), ("previous", true)];
/// Most rows of one page: more than of other lists, as a month by hour of a few tenants should fit.
const ROWS_MAX: usize = 10_000;

/// Where `POST /usage` has the `next_cursor`: CSV has no other place for it.
const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");

#[derive(Serialize)]
struct Paged {
    #[serde(flatten)]
    answer: Answer,
    next_cursor: Option<String>,
}

/// The name of a meter.
pub(super) fn meter(params: &Params) -> Result<String, Problem> {
    let allowed = "the name of a meter: a-z, 0-9 and _, beginning with a letter";
    let name = params.required("meter", allowed)?;
    is_meter(name)?;
    Ok(name.to_owned())
}

/// Whether it can be the name of a meter.
pub(super) fn is_meter(name: &str) -> Result<(), Problem> {
    match rentroll_schemas::meter::is_name(name) {
        true => Ok(()),
        false => {
            let allowed = "the name of a meter: a-z, 0-9 and _, beginning with a letter, at most 64";
            Err(Problem::parameter("meter", name, allowed))
        }
    }
}

fn question(params: &Params) -> Result<(Query, usize), Problem> {
    let meter = meter(params)?;
    let zone = times::zone(params)?;
    let span = times::span(params, zone)?;
    let query = Query {
        window: params.word("window", &WINDOWS)?.unwrap_or_default(),
        zone,
        rolling: params.one("rolling")?.map(|text| times::length("rolling", text)).transpose()?,
        tenants: params.texts("tenant")?,
        organisations: params.texts("organisation")?,
        filters: terms::filters(params)?,
        group_by: terms::groups(params, "group_by")?,
        fill: params.word("fill", &FILLS)?.unwrap_or_default(),
        approximate: params.word("approximate", &TRUTHS)?.unwrap_or_default(),
        ..Query::new(meter, span.from, span.to)
    };
    Ok((query, params.limit(page::ROWS, ROWS_MAX)?))
}

/// `GET /usage`
pub(super) async fn get(
    State(api): State<Api>,
    reader: Reader,
    Wanted(form): Wanted,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of_address(&uri, &QUERY)?;
    let (response, next) = answer(&api, &reader, form, &params).await?;
    Ok(output::linked(response, &uri, next.as_deref()))
}

/// `POST /usage`: the same question, for those that are too long for an address.
pub(super) async fn post(
    State(api): State<Api>,
    reader: Reader,
    Wanted(form): Wanted,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Params::of_address(&uri, &[])?;
    let body = body::read(&headers, body, &["application/json"], api.config().body_bytes_max).await?;
    let params = Params::of_body(&body, &QUERY, &REPEATED)?;
    let form = params.word("format", &output::FORMS)?.unwrap_or(form);
    let (mut response, next) = answer(&api, &reader, form, &params).await?;
    // A link would be the address that such a question is too long for.
    if let Some(next) = next.and_then(|next| HeaderValue::from_str(&next).ok()) {
        response.headers_mut().insert(NEXT_CURSOR, next);
    }
    Ok(response)
}

async fn answer(
    api: &Api,
    reader: &Reader,
    form: Form,
    params: &Params,
) -> Result<(Response, Option<String>), Problem> {
    let (query, limit) = question(params)?;
    let answer = reader.begin().await?.query(&query).await;
    let mut answer = answer.map_err(|error| as_written(error, params))?;
    api.metrics().rows.with_label_values(&["/api/v1/usage"]).inc_by(answer.rows.len() as u64);
    let rows = std::mem::take(&mut answer.rows);
    let (rows, next_cursor) = page::cut(params, rows, limit, |row| key(row, &query.group_by))?;
    answer.rows = rows;
    let next = next_cursor.clone();
    let paged = Paged { answer, next_cursor };
    Ok((output::answer(form, &paged, || table(&paged.answer, &query.group_by)), next))
}

/// A parameter is shown as it was written: the engine knows it as it was read.
fn as_written(error: UsageError, params: &Params) -> Problem {
    let UsageError::Parameter { name, given, allowed } = error else { return error.into() };
    let name = problem::of_query(name);
    let has_key = |text: &&str| {
        text.strip_prefix(&*given).is_some_and(|rest| rest.starts_with(['=', '!', '^', '<', '>']))
    };
    let written = match name {
        "filter" => params.all(name).find(has_key),
        "from" | "to" | "rolling" => params.all(name).next(),
        _ => None,
    };
    Problem::unanswerable(name, written.unwrap_or(&given), allowed)
}

/// What tells a row from all others.
fn key(row: &Row, groups: &[Group]) -> String {
    let mut key = row.from.timestamp().to_string();
    for group in groups {
        let value = value(row, group);
        key.push_str(&format!(" {}:{value}", value.len()));
    }
    key
}

fn value<'a>(row: &'a Row, group: &Group) -> &'a str {
    match group {
        Group::Tenant => row.tenant.as_deref(),
        Group::Organisation => row.organisation.as_deref(),
        Group::Tier => row.tier.as_deref(),
        Group::Tag(key) => row.tags.get(key).map(String::as_str),
        Group::Dimension(name) => row.dimensions.get(name).map(String::as_str),
    }
    .unwrap_or_default()
}

fn table(answer: &Answer, groups: &[Group]) -> output::Table {
    let mut table = output::Table::new(&["from", "to"]);
    table.header.extend(groups.iter().map(terms::written));
    let is_about = answer.approximation.is_some();
    table.header.extend(["quantity", "unit", "events"].map(|name| text::column(name, is_about)));
    for row in &answer.rows {
        let mut cells = vec![Cell::time(row.from), Cell::time(row.to)];
        cells.extend(groups.iter().map(|group| Cell::text(value(row, group))));
        cells.extend([Cell::option(row.quantity), Cell::text(&answer.unit), Cell::value(row.events)]);
        table.rows.push(cells);
    }
    table
}

/// `GET /usage/top`
pub(super) async fn top(
    State(api): State<Api>,
    reader: Reader,
    Wanted(form): Wanted,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of_address(&uri, &TOP)?;
    let meter = meter(&params)?;
    let zone = times::zone(&params)?;
    let span = times::span(&params, zone)?;
    let top = Top {
        meter,
        from: span.from,
        to: span.to,
        by: params.one("by")?.map_or(Ok(Group::Tenant), |text| terms::group("by", text))?,
        rows: params.limit(page::ROWS, TOP_ROWS_MAX)?,
        tenants: params.texts("tenant")?,
        organisations: params.texts("organisation")?,
        filters: terms::filters(&params)?,
        compare: params.word("compare", &COMPARISONS)?.unwrap_or(true),
        zone,
        approximate: params.word("approximate", &TRUTHS)?.unwrap_or_default(),
    };
    let answer = reader.begin().await?.top(&top).await;
    let answer = answer.map_err(|error| as_written(error, &params))?;
    api.metrics().rows.with_label_values(&["/api/v1/usage/top"]).inc_by(answer.rows.len() as u64);
    Ok(output::answer(form, &answer, || top_table(&answer, &top.by)))
}

fn top_table(answer: &TopAnswer, by: &Group) -> output::Table {
    let mut table = output::Table::new(&["row"]);
    table.header.push(terms::written(by));
    let columns = ["quantity", "unit", "events", "share", "previous", "change", "change_percent"];
    let is_about = answer.approximation.is_some();
    table.header.extend(columns.map(|name| text::column(name, is_about)));
    let mut add = |kind: &str, row: &TopRow| {
        table.rows.push(vec![
            Cell::value(kind),
            Cell::text(&row.key),
            Cell::option(row.quantity),
            Cell::text(&answer.unit),
            Cell::value(row.events),
            Cell::option(row.share),
            Cell::option(row.previous),
            Cell::option(row.change),
            Cell::option(row.change_percent),
        ]);
    };
    for row in &answer.rows {
        add("one", row);
    }
    if let Some(other) = &answer.other {
        add("other", other);
    }
    add("total", &answer.total);
    table
}

#[derive(Serialize)]
struct Values<'a> {
    meter: &'a str,
    dimension: &'a str,
    from: chrono::DateTime<chrono::Utc>,
    to: chrono::DateTime<chrono::Utc>,
    values: Vec<crate::usage::overview::GroupValue>,
    next_cursor: Option<String>,
}

/// `GET /usage/meters/{meter}/dimensions/{dimension}`
pub(super) async fn values(
    State(api): State<Api>,
    reader: Reader,
    Wanted(form): Wanted,
    path: PathOf<(String, String)>,
    uri: Uri,
) -> Result<Response, Problem> {
    let (meter, dimension) = segments(path)?;
    is_meter(&meter)?;
    let params = Params::of_address(&uri, &["from", "to", "format", "cursor", "limit"])?;
    let span = times::recent(&params, RECENT, chrono::Utc::now())?;
    let limit = params.limit(page::ROWS, page::ROWS_MAX)?;
    let values = reader.begin().await?.group_values(&meter, &dimension, span).await?;
    api.metrics()
        .rows
        .with_label_values(&["/api/v1/usage/meters/{meter}/dimensions/{dimension}"])
        .inc_by(values.len() as u64);
    let (values, next_cursor) = page::cut(&params, values, limit, |value| value.value.clone())?;
    let answer =
        Values { meter: &meter, dimension: &dimension, from: span.from, to: span.to, values, next_cursor };
    let response = output::answer(form, &answer, || {
        let mut table = output::Table::new(&["value", "events"]);
        let cells = |value: &crate::usage::overview::GroupValue| {
            vec![Cell::text(&value.value), Cell::value(value.events)]
        };
        table.rows = answer.values.iter().map(cells).collect();
        table
    });
    Ok(output::linked(response, &uri, answer.next_cursor.as_deref()))
}
