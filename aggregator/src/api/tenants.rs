//! `/tenants` and `/organisations`: who a tenant is, from when on.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rentroll_schemas::tenant::{Fault, Origin, TenantRecord, csv::Reading};
use serde::Serialize;
use serde_json::Value;

use super::gate::{Manager, Reader};
use super::output::{self, Cell, TakesJson, Wanted};
use super::params::{self, Params};
use super::problem::{Kind, Problem};
use super::{Api, PathOf, body, fields, page, segments, times};
use crate::tenants::{
    Action, Change, ImportOptions, Listing, Organisation, Page, Registry, TenantVersion, TenantsError,
};

/// Most lines of an import that an answer names.
const LINES_NAMED_MAX: usize = 1_000;
const FLAGS: [(&str, bool); 2] = [("true", true), ("false", false)];

#[derive(Serialize)]
struct List {
    at: DateTime<Utc>,
    tenants: Vec<TenantVersion>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct One<'a> {
    tenant: &'a str,
    /// What is known now; nothing of one that was removed.
    now: Option<&'a TenantVersion>,
    versions: &'a [TenantVersion],
}

#[derive(Serialize)]
struct Organisations {
    at: DateTime<Utc>,
    organisations: Vec<Organisation>,
    next_cursor: Option<String>,
}

/// `GET /tenants`
pub(super) async fn list(reader: Reader, Wanted(form): Wanted, uri: Uri) -> Result<Response, Problem> {
    let known = ["at", "search", "organisation", "tier", "tag", "format", "cursor", "limit"];
    let reader = reader.more_than_usage()?;
    let params = Params::of_address(&uri, &known)?;
    let at = moment(&params)?;
    let limit = params.limit(page::ROWS, page::ROWS_MAX)?;
    let listing = Listing {
        at,
        search: params.text("search")?,
        organisation: params.one("organisation")?.map(str::to_owned),
        tier: params.one("tier")?.map(str::to_owned),
        tags: tags(&params)?,
        cursor: page::name(&params)?,
        limit: limit as u64,
    };
    let Page { tenants, next } = reader.begin().await?.known_tenants(&listing).await?;
    let answer = List { at, tenants, next_cursor: next.map(|name| page::of_name(&params, &name)) };
    let response = output::answer(form, &answer, || table(&answer.tenants));
    Ok(output::linked(response, &uri, answer.next_cursor.as_deref()))
}

fn moment(params: &Params) -> Result<DateTime<Utc>, Problem> {
    params.one("at")?.map_or_else(|| Ok(Utc::now()), |text| times::instant("at", text, Tz::UTC))
}

fn tags(params: &Params) -> Result<BTreeMap<String, String>, Problem> {
    let mut tags = BTreeMap::new();
    for text in params.all("tag") {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| Problem::parameter("tag", text, "key=value"))?;
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Problem::unanswerable("tag", text, "each key once: a tenant has one value of it"));
        }
    }
    Ok(tags)
}

/// `GET /tenants/{tenant}`
pub(super) async fn get(
    reader: Reader,
    _: TakesJson,
    path: PathOf<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let reader = reader.more_than_usage()?;
    let tenant = segments(path)?;
    Params::of_address(&uri, &[])?;
    let versions = reader.begin().await?.known_tenant(&tenant).await?;
    if versions.is_empty() {
        return Err(Problem::not_found(format!("nothing is known of tenant `{tenant:.80}`")));
    }
    let at = Utc::now();
    let now = versions.iter().find(|version| version.holds_at(at) && !version.record.removed);
    Ok(output::json(StatusCode::OK, &One { tenant: &tenant, now, versions: &versions }))
}

/// `PUT /tenants/{tenant}`
pub(super) async fn put(
    State(api): State<Api>,
    manager: Manager,
    _: TakesJson,
    path: PathOf<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let tenant = segments(path)?;
    Params::of_address(&uri, &[])?;
    let body = body::read(&headers, body, &["application/json"], api.config().body_bytes_max).await?;
    let asked = record(&tenant, &body)?;
    let record: TenantRecord = fields::read(&asked, &[])?;
    let registry = Registry::new(manager.store().clone());
    let changes = registry.put(&[record], Origin::Api, Utc::now()).await;
    let changes =
        changes.map_err(|error| Problem::from(error).given_by(|field| fields::given(&asked, field)))?;
    let Some(change) = changes.into_iter().next() else {
        return Err(Problem::internal(&"a record was put, and no change came of it"));
    };
    let status = if change.action == Action::Added { StatusCode::CREATED } else { StatusCode::OK };
    Ok(output::json(status, &change))
}

/// The fields of a record, with its tenant.
fn record(tenant: &str, body: &[u8]) -> Result<Value, Problem> {
    let mut value = params::json(body)?;
    let Value::Object(fields) = &mut value else {
        return Err(Problem::new(Kind::UnreadableBody, "the body must be a JSON object"));
    };
    match fields.get("tenant") {
        None => drop(fields.insert("tenant".to_owned(), Value::String(tenant.to_owned()))),
        Some(Value::String(given)) if given == tenant => {}
        Some(Value::String(given)) => {
            return Err(Problem::unanswerable("tenant", given, "the tenant of the path; or leave it out"));
        }
        Some(other) => return Err(Problem::parameter("tenant", &other.to_string(), "a text")),
    }
    Ok(value)
}

/// `DELETE /tenants/{tenant}`
pub(super) async fn delete(
    manager: Manager,
    _: TakesJson,
    path: PathOf<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let tenant = segments(path)?;
    let params = Params::of_address(&uri, &["valid_from"])?;
    let from =
        params.one("valid_from")?.map(|text| times::instant("valid_from", text, Tz::UTC)).transpose()?;
    let registry = Registry::new(manager.store().clone());
    let change = registry.remove(&tenant, from, Origin::Api, Utc::now()).await;
    let given = |name: &str| params.all(name).next().map(str::to_owned);
    let change = change.map_err(|error| Problem::from(error).given_by(given))?;
    Ok(output::json(StatusCode::OK, &change))
}

#[derive(Serialize)]
struct Imported {
    is_applied: bool,
    added: usize,
    changed: usize,
    removed: usize,
    unchanged: usize,
    bad: usize,
    changes: Vec<Change>,
    bad_lines: Vec<BadLine>,
}

#[derive(Serialize)]
struct BadLine {
    line: u64,
    #[serde(flatten)]
    fault: Fault,
}

/// `POST /tenants/import`
pub(super) async fn import(
    State(api): State<Api>,
    manager: Manager,
    _: TakesJson,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let params = Params::of_address(&uri, &["dry_run", "skip_bad"])?;
    let options = ImportOptions {
        skip_bad: params.word("skip_bad", &FLAGS)?.unwrap_or_default(),
        dry_run: params.word("dry_run", &FLAGS)?.unwrap_or_default(),
    };
    let body = body::read(&headers, body, &["text/csv"], api.config().body_bytes_max).await?;
    let reading = Reading::new(body.to_vec()).map_err(|Fault { field, reason }| {
        Problem::new(Kind::Unanswerable, format!("the {field} of the file: {reason}"))
    })?;
    let registry = Registry::new(manager.store().clone());
    let imported = registry.import(&reading, options, Utc::now()).await?;
    let of = |action| imported.count(action);
    let (added, changed) = (of(Action::Added), of(Action::Changed));
    let (removed, unchanged) = (of(Action::Removed), of(Action::Unchanged));
    let bad = imported.bad.len();
    let bad_lines: Vec<BadLine> = imported
        .bad
        .into_iter()
        .take(LINES_NAMED_MAX)
        .map(|bad| BadLine { line: bad.number, fault: bad.fault })
        .collect();
    if !imported.is_applied && !options.dry_run {
        let detail = format!("{bad} lines cannot be taken, so none was; `skip_bad=true` takes the others");
        let errors =
            bad_lines.into_iter().map(|line| serde_json::to_value(line).unwrap_or_default()).collect();
        return Err(Problem::new(Kind::Unanswerable, detail).listing(errors));
    }
    let mut changes = imported.changes;
    changes.retain(|change| change.action != Action::Unchanged);
    changes.truncate(LINES_NAMED_MAX);
    let answer = Imported {
        is_applied: imported.is_applied,
        added,
        changed,
        removed,
        unchanged,
        bad,
        changes,
        bad_lines,
    };
    Ok(output::json(StatusCode::OK, &answer))
}

/// `GET /organisations`
pub(super) async fn organisations(
    reader: Reader,
    Wanted(form): Wanted,
    uri: Uri,
) -> Result<Response, Problem> {
    let reader = reader.more_than_usage()?;
    let params = Params::of_address(&uri, &["at", "format", "cursor", "limit"])?;
    let at = moment(&params)?;
    let limit = params.limit(page::ROWS, page::ROWS_MAX)?;
    let cursor = page::name(&params)?;
    let mut found = reader.begin().await?.organisations(at, cursor.as_deref(), limit + 1).await?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| has_more);
    let next_cursor = last.map(|last| page::of_name(&params, &last.organisation));
    let answer = Organisations { at, organisations: found, next_cursor };
    let response = output::answer(form, &answer, || {
        let mut table = output::Table::new(&["organisation", "tenants"]);
        let cells = |one: &Organisation| vec![Cell::text(&one.organisation), Cell::value(one.tenants)];
        table.rows = answer.organisations.iter().map(cells).collect();
        table
    });
    Ok(output::linked(response, &uri, answer.next_cursor.as_deref()))
}

impl From<TenantsError> for Problem {
    fn from(error: TenantsError) -> Self {
        let detail = error.to_string();
        match error {
            TenantsError::Refused(refusals) => match refusals.first() {
                Some(first) => Problem::rule(&first.fault.field, &first.fault.reason).saying(detail),
                None => Problem::internal(&detail),
            },
            TenantsError::Unknown(_) => Problem::not_found(detail),
            TenantsError::Store(error) => error.into(),
            TenantsError::Stored { .. } => Problem::internal(&detail),
        }
    }
}

/// As an import reads it.
fn table(tenants: &[TenantVersion]) -> output::Table {
    let keys = |of: fn(&TenantRecord) -> &BTreeMap<String, String>| {
        let keys: std::collections::BTreeSet<String> =
            tenants.iter().flat_map(|version| of(&version.record).keys().cloned()).collect();
        keys.into_iter().collect::<Vec<String>>()
    };
    let (tags, systems) = (keys(|record| &record.tags), keys(|record| &record.external_ids));
    let mut table = output::Table::new(&["tenant", "name", "organisation", "tier", "valid_from"]);
    table.header.extend(tags.iter().map(|key| format!("tag.{key}")));
    table.header.extend(systems.iter().map(|system| format!("external_id.{system}")));
    let cell =
        |entries: &BTreeMap<String, String>, key| Cell::text(entries.get(key).cloned().unwrap_or_default());
    for TenantVersion { record, .. } in tenants {
        let mut cells: Vec<Cell> =
            [&record.tenant, &record.name, &record.organisation, &record.tier].map(Cell::text).into();
        cells.push(record.valid_from.map_or(Cell::Empty, Cell::time));
        cells.extend(tags.iter().map(|key| cell(&record.tags, key)));
        cells.extend(systems.iter().map(|system| cell(&record.external_ids, system)));
        table.rows.push(cells);
    }
    table
}
