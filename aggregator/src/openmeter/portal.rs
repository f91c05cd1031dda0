//! `/api/v1/portal`: tokens for the browsers of tenants' users.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, TimeDelta, Utc};
use rentroll_schemas::token::file::{self, Wanted};
use rentroll_schemas::token::{Grant, Token};
use serde::Serialize;

use super::fields::{self, Fields, written};
use super::problem::cannot_be;
use super::{Face, meters};
use crate::api::gate::Manager;
use crate::api::output::{self, TakesJson};
use crate::api::params::Params;
use crate::api::problem::Problem;
use crate::api::tokens::blocking;
use crate::meters::registry;

/// How long a token is good where nothing is said.
const USUAL: TimeDelta = TimeDelta::hours(1);
/// How long an expired one is listed.
const LISTED: TimeDelta = TimeDelta::days(1);
const LIMIT: usize = 25;
const LIMIT_MAX: usize = 100;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    id: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    allowed_meter_slugs: &'a [String],
    expired: bool,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

fn shown<'a>(token: &'a Token, now: DateTime<Utc>, secret: Option<&'a str>) -> Option<Shown<'a>> {
    let Grant::Portal { tenant, meters } = &token.grant else { return None };
    Some(Shown {
        id: &token.id,
        subject: tenant,
        allowed_meter_slugs: meters,
        expired: !token.is_good(now),
        created_at: written(token.created_at),
        expires_at: token.expires_at.map(written),
        token: secret,
    })
}

/// `POST /portal/tokens`
pub(super) async fn create(
    State(face): State<Face>,
    manager: Manager,
    _: TakesJson,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Params::of_address(&uri, &[])?;
    let body = fields::read(&face, &headers, body).await?;
    let fields = Fields::of(body, &["subject", "allowedMeterSlugs", "expiresAt"])?;
    let tenant = fields.needed("subject", "the tenant whose usage it reads")?.to_owned();
    let meters = fields.texts("allowedMeterSlugs")?;
    if meters.as_ref().is_some_and(Vec::is_empty) {
        return Err(cannot_be("allowedMeterSlugs", "[]", "one slug at least; leave it out for all meters"));
    }
    let meters = meters.unwrap_or_default();
    if !meters.is_empty() {
        let rows = registry::stored(manager.store()).await.map_err(Problem::from)?;
        for slug in &meters {
            meters::find(&rows, slug).map_err(|problem| {
                let detail = format!("`allowedMeterSlugs`: {}", problem.detail());
                problem.saying(detail)
            })?;
        }
    }
    let now = Utc::now();
    let seconds_max = face.api.config().portal_token_seconds_max;
    let longest = TimeDelta::seconds(i64::try_from(seconds_max).unwrap_or(i64::MAX / 1_000));
    let expires_at = match fields.time("expiresAt")? {
        None => now + USUAL.min(longest),
        Some(end) if end > now && end - now <= longest => end,
        Some(end) => {
            let allowed =
                format!("a time to come, at most {seconds_max} s from now (api.portal_token_seconds_max)");
            return Err(cannot_be("expiresAt", &written(end), allowed));
        }
    };
    let grant = Grant::Portal { tenant: tenant.clone(), meters: meters.clone() };
    let wanted = Wanted { grant, name: String::new(), expires_at: Some(expires_at) };
    wanted.grant.check().map_err(|(field, reason)| match field {
        "meters" => cannot_be("allowedMeterSlugs", &meters.join(", "), reason),
        _ => cannot_be("subject", &tenant, reason),
    })?;
    let (token, secret) = blocking(move || {
        let made = file::create(manager.tokens(), wanted, now)?;
        manager.refresh()?;
        Ok(made)
    })
    .await?;
    let Some(shown) = shown(&token, now, Some(&secret)) else {
        return Err(Problem::internal(&"a portal's token was made, and is none"));
    };
    let mut response = output::json(StatusCode::OK, &shown);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `GET /portal/tokens`
pub(super) async fn list(manager: Manager, _: TakesJson, uri: Uri) -> Result<Response, Problem> {
    let params = Params::of_address(&uri, &["limit"])?;
    let limit = params.limit(LIMIT, LIMIT_MAX)?;
    let mut tokens = blocking(move || file::read(manager.tokens())).await?.tokens;
    let now = Utc::now();
    let is_old = |token: &Token| token.expires_at.is_some_and(|end| end + LISTED < now);
    tokens.retain(|token| token.revoked_at.is_none() && !is_old(token));
    // The file has them in the order in which they were made.
    let shown: Vec<Shown<'_>> =
        tokens.iter().rev().filter_map(|token| shown(token, now, None)).take(limit).collect();
    Ok(output::json(StatusCode::OK, &shown))
}

/// `POST /portal/tokens/invalidate`
pub(super) async fn invalidate(
    State(face): State<Face>,
    manager: Manager,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Params::of_address(&uri, &[])?;
    let fields = Fields::of(fields::read(&face, &headers, body).await?, &["id", "subject"])?;
    let id = fields.text("id")?.map(str::to_owned);
    let subject = fields.text("subject")?.map(str::to_owned);
    if id.is_some() == subject.is_some() {
        return Err(cannot_be("id", id.as_deref().unwrap_or_default(), "exactly one of `id` and `subject`"));
    }
    blocking(move || {
        file::revoke_all(manager.tokens(), Utc::now(), |token| match &token.grant {
            Grant::Portal { tenant, .. } => {
                id.as_ref() == Some(&token.id) || subject.as_ref() == Some(tenant)
            }
            // The operator's own are not the API's to take back.
            _ => false,
        })?;
        manager.refresh()
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
