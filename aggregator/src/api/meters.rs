//! `/meters`: what is metered, in which versions, and whether it is alive.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use chrono::{DateTime, Utc};
use rentroll_schemas::meter::{Aggregation, Meter};
use serde::Serialize;
use serde_json::Value;

use super::gate::{Manager, Reader, Reading};
use super::output::{self, Cell, TakesJson, Wanted};
use super::params::{self, Params};
use super::problem::{Kind, Problem, one_of};
use super::usage::is_meter;
use super::{Api, PathOf, RECENT, body, fields, page, segments, times};
use crate::meters::history::Stored;
use crate::meters::registry::{self, API, Change};
use crate::usage::overview::{MeterState, Span};

/// A meter, as it is in force.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    definition: Meter,
    version: u32,
    effective_from: Option<DateTime<Utc>>,
    effective_to: Option<DateTime<Utc>>,
    origin: String,
    /// What it counted in the span; nothing is known of one that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Life>,
}

/// Whether it is alive.
#[derive(Serialize)]
struct Life {
    events: u64,
    tenants: u64,
    first: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    without_value: u64,
}

#[derive(Serialize)]
struct List {
    #[serde(flatten)]
    span: Span,
    meters: Vec<Listed>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct One {
    #[serde(flatten)]
    span: Span,
    name: String,
    is_in_force: bool,
    state: Option<Life>,
    versions: Vec<Listed>,
}

/// `GET /meters`
pub(super) async fn list(reader: Reader, Wanted(form): Wanted, uri: Uri) -> Result<Response, Problem> {
    let params = Params::of_address(&uri, &["from", "to", "format", "cursor", "limit"])?;
    let now = Utc::now();
    let span = times::recent(&params, RECENT, now)?;
    let limit = params.limit(page::ROWS, page::ROWS_MAX)?;
    let reading = reader.begin().await?;
    let rows = reading.meter_versions().await?;
    let mut states = states(&reading, span).await?;
    drop(reading);
    let in_force = newest(&rows).into_iter().filter(|meter| meter.is_in_force(now));
    let meters = in_force.map(|meter| listed(&meter.stored, meter.ends, states.remove(&meter.stored.name)));
    let (meters, next_cursor) = page::cut(&params, meters.flatten().collect(), limit, |meter: &Listed| {
        meter.definition.name.clone()
    })?;
    let answer = List { span, meters, next_cursor };
    let response = output::answer(form, &answer, || table(&answer.meters));
    Ok(output::linked(response, &uri, answer.next_cursor.as_deref()))
}

/// `GET /meters/{meter}`
pub(super) async fn get(
    reader: Reader,
    _: TakesJson,
    path: PathOf<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let name = segments(path)?;
    is_meter(&name)?;
    let params = Params::of_address(&uri, &["from", "to"])?;
    let now = Utc::now();
    let span = times::recent(&params, RECENT, now)?;
    let reading = reader.begin().await?;
    let mut rows = reading.meter_versions().await?;
    rows.retain(|row| row.name == name);
    let Some(newest) = newest(&rows).pop() else { return Err(no_such(&name)) };
    let state = states(&reading, span).await?.remove(&name);
    let versions = rows.iter().enumerate().filter_map(|(nth, row)| {
        let later = rows[nth + 1..].iter().filter_map(|later| later.effective_from).min();
        listed(row, later, None)
    });
    let versions: Vec<Listed> = versions.collect();
    let answer = One { span, is_in_force: newest.is_in_force(now), state, versions, name };
    Ok(output::json(StatusCode::OK, &answer))
}

/// `PUT /meters/{meter}`
pub(super) async fn put(
    State(api): State<Api>,
    manager: Manager,
    _: TakesJson,
    path: PathOf<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = segments(path)?;
    is_meter(&name)?;
    Params::of_address(&uri, &[])?;
    let body = body::read(&headers, body, &["application/json"], api.config().body_bytes_max).await?;
    let asked = definition(&name, &body)?;
    let definition = fields::read(&asked, &OF_SERVER)?;
    let change = registry::put(manager.store(), &definition, API, Utc::now()).await;
    let change =
        change.map_err(|error| Problem::from(error).given_by(|field| fields::given(&asked, field)))?;
    let status = match &change {
        Change::Versioned { version: 1, .. } => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    Ok(output::json(status, &change))
}

/// `DELETE /meters/{meter}`
pub(super) async fn delete(
    manager: Manager,
    _: TakesJson,
    path: PathOf<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let name = segments(path)?;
    is_meter(&name)?;
    Params::of_address(&uri, &[])?;
    let change = registry::end(manager.store(), &name, API, Utc::now()).await?;
    Ok(output::json(StatusCode::OK, &change))
}

/// Fields of a definition that are answered, and not taken.
const OF_SERVER: [&str; 2] = ["version", "effective_to"];

/// The fields of a definition, with its name.
fn definition(name: &str, body: &[u8]) -> Result<Value, Problem> {
    let mut value = params::json(body)?;
    let Value::Object(fields) = &mut value else {
        return Err(Problem::new(Kind::UnreadableBody, "the body must be a JSON object"));
    };
    match fields.get("name") {
        None => drop(fields.insert("name".to_owned(), Value::String(name.to_owned()))),
        Some(Value::String(given)) if given == name => {}
        Some(Value::String(given)) => {
            return Err(Problem::unanswerable(
                "name",
                given,
                format!("`{name}`, as in the path; or leave it out"),
            ));
        }
        Some(other) => return Err(Problem::parameter("name", &other.to_string(), "a text")),
    }
    if let Some(field) = OF_SERVER.iter().find(|field| fields.contains_key(**field)) {
        let detail = format!("`{field}` is given by the server: leave it out");
        let problem = Problem::about(Kind::UnknownParameter, field, field, "it is left out".to_owned());
        return Err(problem.saying(detail));
    }
    let aggregations = one_of(&Aggregation::ALL.map(Aggregation::name));
    for (field, allowed) in
        [("unit", "a text"), ("event_type", "a text"), ("aggregation", aggregations.as_str())]
    {
        if !fields.contains_key(field) {
            return Err(Problem::missing(field, allowed));
        }
    }
    Ok(value)
}

/// The newest version of a name.
struct Newest {
    stored: Stored,
    ends: Option<DateTime<Utc>>,
}

impl Newest {
    fn is_in_force(&self, now: DateTime<Utc>) -> bool {
        self.stored.definition.is_some() && self.ends.is_none_or(|ends| now < ends)
    }
}

/// Of each name the newest version that counts, or counted until it ended. `rows` in the order of name and version.
fn newest(rows: &[Stored]) -> Vec<Newest> {
    let mut newest: Vec<Newest> = Vec::new();
    for row in rows {
        match newest.last_mut().filter(|last| last.stored.name == row.name) {
            Some(last) if row.definition.is_none() => last.ends = row.effective_from,
            Some(last) => *last = Newest { stored: row.clone(), ends: None },
            None => newest.push(Newest { stored: row.clone(), ends: None }),
        }
    }
    newest
}

fn listed(row: &Stored, ends: Option<DateTime<Utc>>, state: Option<Life>) -> Option<Listed> {
    let definition =
        Meter { version: 1, effective_from: None, effective_to: None, ..row.definition.clone()? };
    Some(Listed {
        definition,
        version: row.version,
        effective_from: row.effective_from,
        effective_to: ends,
        origin: row.origin.clone(),
        state,
    })
}

async fn states(reading: &Reading, span: Span) -> Result<BTreeMap<String, Life>, Problem> {
    let states = reading.meter_states(span).await?;
    let of = |state: MeterState| {
        let MeterState { meter, events, tenants, first, last, without_value, .. } = state;
        (meter, Life { events, tenants, first, last, without_value })
    };
    Ok(states.into_iter().map(of).collect())
}

fn no_such(name: &str) -> Problem {
    Problem::not_found(format!("there is no meter `{name}`"))
}

fn table(meters: &[Listed]) -> output::Table {
    let mut table = output::Table::new(&[
        "name",
        "description",
        "unit",
        "event_type",
        "aggregation",
        "value",
        "version",
        "effective_from",
        "origin",
        "events",
        "tenants",
        "last",
        "without_value",
    ]);
    for meter in meters {
        let state = meter.state.as_ref();
        table.rows.push(vec![
            Cell::text(&meter.definition.name),
            Cell::text(&meter.definition.description),
            Cell::text(&meter.definition.unit),
            Cell::text(&meter.definition.event_type),
            Cell::value(meter.definition.aggregation.name()),
            Cell::text(meter.definition.value.clone().unwrap_or_default()),
            Cell::value(meter.version),
            meter.effective_from.map_or(Cell::Empty, Cell::time),
            Cell::value(&meter.origin),
            Cell::option(state.map(|state| state.events)),
            Cell::option(state.map(|state| state.tenants)),
            state.and_then(|state| state.last).map_or(Cell::Empty, Cell::time),
            Cell::option(state.map(|state| state.without_value)),
        ]);
    }
    table
}
