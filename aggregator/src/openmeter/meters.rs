//! `/api/v1/meters`: what is counted.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use chrono::Utc;

use super::Face;
use super::definition::{self, Life, Shown, lives};
use super::fields;
use super::problem::no_meter;
use crate::api::gate::{Manager, Reader};
use crate::api::output::{self, TakesJson};
use crate::api::params::Params;
use crate::api::problem::{Kind, Problem};
use crate::api::{PathOf, segments};
use crate::meters::history::Stored;
use crate::meters::registry::{self, API};

const PAGE_SIZE_MAX: usize = 1_000;
const PAGE_MAX: usize = 1_000_000;
const ORDERS: [(&str, bool); 2] = [("ASC", false), ("DESC", true)];
const ORDERS_BY: [(&str, By); 5] = [
    ("key", By::Key),
    ("name", By::Name),
    ("aggregation", By::Aggregation),
    ("createdAt", By::CreatedAt),
    ("updatedAt", By::UpdatedAt),
];

#[derive(Clone, Copy)]
enum By {
    Key,
    Name,
    Aggregation,
    CreatedAt,
    UpdatedAt,
}

/// `GET /meters`
pub(super) async fn list(reader: Reader, _: TakesJson, uri: Uri) -> Result<Response, Problem> {
    let reader = reader.more_than_usage()?;
    let params = Params::of_address(&uri, &["page", "pageSize", "order", "orderBy", "includeDeleted"])?;
    let page = params.whole("page", 1, PAGE_MAX)?;
    let size = params.whole("pageSize", PAGE_SIZE_MAX, PAGE_SIZE_MAX)?;
    let is_descending = params.word("order", &ORDERS)?.unwrap_or_default();
    let by = params.word("orderBy", &ORDERS_BY)?.unwrap_or(By::Key);
    let with_deleted =
        params.word("includeDeleted", &[("true", true), ("false", false)])?.unwrap_or_default();
    let mut lives = lives(&reader.begin().await?.meter_versions().await?);
    lives.retain(|life| with_deleted || life.end.is_none());
    lives.sort_by(|one, other| {
        let key = |life: &Life| life.meter.name.clone();
        let order = match by {
            By::Key => std::cmp::Ordering::Equal,
            By::Name => one.shown().name.cmp(other.shown().name),
            By::Aggregation => one.meter.aggregation.name().cmp(other.meter.aggregation.name()),
            By::CreatedAt => one.first.written_at.cmp(&other.first.written_at),
            By::UpdatedAt => one.newest.written_at.cmp(&other.newest.written_at),
        };
        order.then_with(|| key(one).cmp(&key(other)))
    });
    if is_descending {
        lives.reverse();
    }
    let shown: Vec<Shown<'_>> = lives.iter().skip((page - 1) * size).take(size).map(Life::shown).collect();
    Ok(output::json(StatusCode::OK, &shown))
}

/// `GET /meters/{meter}`
pub(super) async fn get(
    reader: Reader,
    _: TakesJson,
    path: PathOf<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let reader = reader.more_than_usage()?;
    let slug = segments(path)?;
    Params::of_address(&uri, &[])?;
    let rows = reader.begin().await?.meter_versions().await?;
    Ok(output::json(StatusCode::OK, &find(&rows, &slug)?.shown()))
}

/// The meter of that name, if it was not deleted.
pub(super) fn find(rows: &[Stored], slug: &str) -> Result<Life, Problem> {
    let rows: Vec<Stored> = rows.iter().filter(|row| row.name == slug).cloned().collect();
    lives(&rows).pop().filter(|life| life.end.is_none()).ok_or_else(|| no_meter(slug))
}

/// `POST /meters`
pub(super) async fn create(
    State(face): State<Face>,
    manager: Manager,
    _: TakesJson,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Params::of_address(&uri, &[])?;
    let meter = definition::made(fields::read(&face, &headers, body).await?)?;
    if find(&registry::stored(manager.store()).await?, &meter.name).is_ok() {
        let detail = format!("`slug`: there is a meter `{}` already", meter.name);
        return Err(Problem::new(Kind::Conflict, detail));
    }
    put(&manager, &meter).await?;
    answer(&manager, &meter.name, StatusCode::CREATED).await
}

/// `PUT /meters/{meter}`
pub(super) async fn update(
    State(face): State<Face>,
    manager: Manager,
    _: TakesJson,
    path: PathOf<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let slug = segments(path)?;
    Params::of_address(&uri, &[])?;
    let body = fields::read(&face, &headers, body).await?;
    let life = find(&registry::stored(manager.store()).await?, &slug)?;
    is_ours(&life)?;
    put(&manager, &definition::changed(&life.meter, body)?).await?;
    answer(&manager, &slug, StatusCode::OK).await
}

/// `DELETE /meters/{meter}`
pub(super) async fn delete(
    State(face): State<Face>,
    manager: Manager,
    path: PathOf<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let slug = segments(path)?;
    Params::of_address(&uri, &[])?;
    let life = find(&registry::stored(manager.store()).await?, &slug)?;
    is_ours(&life)?;
    let mut versions = face.catalogue.iter().flat_map(|catalogue| &catalogue.versions);
    if versions.any(|version| version.meters().any(|meter| meter == slug)) {
        return Err(Problem::new(Kind::Conflict, format!("the catalogue bills by the meter `{slug}`")));
    }
    let ended = registry::end(manager.store(), &slug, API, Utc::now()).await;
    ended.map_err(|error| definition::refused(error, &life.meter))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// That it does not come from a file, which would bring it back.
fn is_ours(life: &Life) -> Result<(), Problem> {
    match life.is_of_file() {
        false => Ok(()),
        true => {
            let detail = format!("the meter `{}` comes from meters.yaml: change it there", life.meter.name);
            Err(Problem::new(Kind::Conflict, detail))
        }
    }
}

async fn put(manager: &Manager, meter: &rentroll_schemas::meter::Meter) -> Result<(), Problem> {
    let put = registry::put(manager.store(), meter, API, Utc::now()).await;
    put.map(drop).map_err(|error| definition::refused(error, meter))
}

async fn answer(manager: &Manager, slug: &str, status: StatusCode) -> Result<Response, Problem> {
    let life = find(&registry::stored(manager.store()).await?, slug)?;
    Ok(output::json(status, &life.shown()))
}
