//! `/tokens/self` and `/portal-tokens`: what a token may, and tokens for tenants' browsers.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rentroll_schemas::token::file::{self, FileError, Wanted as Asked};
use rentroll_schemas::token::{Grant, Reads, Sends, Token};
use serde::Serialize;

use super::gate::{Holder, Manager};
use super::output::{self, TakesJson};
use super::params::Params;
use super::problem::{Kind, Problem};
use super::{Api, PathOf, body, page, segments, times};

/// How long a portal's token is good unless it is said.
const USUAL: TimeDelta = TimeDelta::hours(1);

#[derive(Serialize)]
struct Own {
    id: String,
    name: String,
    #[serde(flatten)]
    grant: Grant,
    /// Whose events it sends: nothing, tenant, source.
    sends: &'static str,
    /// Whose usage it reads: nothing, tenant, all.
    reads: &'static str,
    manages: bool,
    created_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
}

/// `GET /tokens/self`
pub(super) async fn own(holder: Holder, _: TakesJson, uri: Uri) -> Result<Response, Problem> {
    Params::of_address(&uri, &[])?;
    let Holder { speaker, tokens } = holder;
    let read = blocking(move || file::read(&tokens)).await?;
    let token = read.tokens.into_iter().find(|token| token.id == *speaker.id);
    let grant = (*speaker.grant).clone();
    let own = Own {
        id: speaker.id.to_string(),
        name: token.as_ref().map(|token| token.name.clone()).unwrap_or_default(),
        sends: match grant.sends() {
            Sends::Nothing => "nothing",
            Sends::Tenant(_) => "tenant",
            Sends::Source { .. } => "source",
        },
        reads: match grant.reads() {
            Reads::Nothing => "nothing",
            Reads::Tenant { .. } => "tenant",
            Reads::All => "all",
        },
        manages: grant.manages(),
        created_at: token.as_ref().map(|token| token.created_at),
        expires_at: token.and_then(|token| token.expires_at),
        grant,
    };
    Ok(output::json(StatusCode::OK, &own))
}

#[derive(Serialize)]
struct Portal {
    id: String,
    name: String,
    tenant: String,
    meters: Vec<String>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    state: &'static str,
    /// The secret, in the one answer that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

#[derive(Serialize)]
struct Portals {
    portal_tokens: Vec<Portal>,
    next_cursor: Option<String>,
}

/// `POST /portal-tokens`
pub(super) async fn create(
    State(api): State<Api>,
    manager: Manager,
    _: TakesJson,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Params::of_address(&uri, &[])?;
    let body = body::read(&headers, body, &["application/json"], api.config().body_bytes_max).await?;
    let known = ["tenant", "meters", "name", "expires_at", "expires_in"];
    let params = Params::of_body(&body, &known, &["meters"])?;
    let tenant =
        params.text("tenant")?.ok_or_else(|| Problem::missing("tenant", "the tenant that it reads"))?;
    let now = Utc::now();
    let expires_at = expiry(&params, now, api.config().portal_token_seconds_max)?;
    let wanted = Asked {
        grant: Grant::Portal { tenant, meters: params.texts("meters")? },
        name: params.one("name")?.unwrap_or_default().to_owned(),
        expires_at: Some(expires_at),
    };
    let made = blocking(move || {
        let made = file::create(manager.tokens(), wanted, now)?;
        manager.refresh()?;
        Ok(made)
    })
    .await;
    let given = |field: &str| Some(params.all(field).collect::<Vec<_>>().join(", "));
    let (token, secret) = made.map_err(|problem| problem.given_by(given))?;
    let Some(portal) = portal(&token, now, Some(secret)) else {
        return Err(Problem::internal(&"a portal's token was made, and is none"));
    };
    let mut response = output::json(StatusCode::CREATED, &portal);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn expiry(params: &Params, now: DateTime<Utc>, seconds_max: u64) -> Result<DateTime<Utc>, Problem> {
    let at = params.one("expires_at")?;
    let within = params.one("expires_in")?;
    let (name, given, end) = match (at, within) {
        (Some(at), None) => ("expires_at", at, times::instant("expires_at", at, Tz::UTC)?),
        (None, Some(within)) => ("expires_in", within, now + times::length("expires_in", within)?),
        (None, None) => return Ok(now + USUAL.min(TimeDelta::seconds(seconds_max as i64))),
        (Some(_), Some(within)) => {
            return Err(Problem::unanswerable("expires_in", within, "this or `expires_at`, not both"));
        }
    };
    match end > now && end - now <= TimeDelta::seconds(seconds_max as i64) {
        true => Ok(end),
        false => {
            let allowed =
                format!("a time to come, at most {seconds_max} s from now (api.portal_token_seconds_max)");
            Err(Problem::unanswerable(name, given, allowed))
        }
    }
}

/// `GET /portal-tokens`
pub(super) async fn list(manager: Manager, _: TakesJson, uri: Uri) -> Result<Response, Problem> {
    let params = Params::of_address(&uri, &["tenant", "cursor", "limit"])?;
    let tenant = params.text("tenant")?;
    let limit = params.limit(page::ROWS, page::ROWS_MAX)?;
    let read = blocking(move || file::read(manager.tokens())).await?;
    let now = Utc::now();
    let mut portals: Vec<Portal> = read.tokens.iter().filter_map(|token| portal(token, now, None)).collect();
    portals.retain(|portal| tenant.as_ref().is_none_or(|tenant| portal.tenant == *tenant));
    let (portal_tokens, next_cursor) = page::cut(&params, portals, limit, |portal| portal.id.clone())?;
    let answer = Portals { portal_tokens, next_cursor };
    let response = output::json(StatusCode::OK, &answer);
    Ok(output::linked(response, &uri, answer.next_cursor.as_deref()))
}

/// `DELETE /portal-tokens/{id}`
pub(super) async fn revoke(manager: Manager, path: PathOf<String>, uri: Uri) -> Result<Response, Problem> {
    let id = segments(path)?;
    Params::of_address(&uri, &[])?;
    blocking(move || {
        let missing = || FileError::NoSuchToken { id: id.clone(), path: manager.tokens().to_owned() };
        let read = file::read(manager.tokens())?;
        // The operator's own tokens are not the API's to take back.
        let is_portal = |token: &Token| token.id == id && matches!(token.grant, Grant::Portal { .. });
        read.tokens.iter().find(|token| is_portal(token)).ok_or_else(missing)?;
        file::revoke(manager.tokens(), &id, Utc::now())?;
        manager.refresh()
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn portal(token: &Token, now: DateTime<Utc>, secret: Option<String>) -> Option<Portal> {
    let Grant::Portal { tenant, meters } = &token.grant else { return None };
    Some(Portal {
        id: token.id.clone(),
        name: token.name.clone(),
        tenant: tenant.clone(),
        meters: meters.clone(),
        created_at: token.created_at,
        expires_at: token.expires_at,
        state: match (token.revoked_at, token.is_good(now)) {
            (Some(_), _) => "revoked",
            (None, true) => "good",
            (None, false) => "expired",
        },
        token: secret,
    })
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Problem::from),
        Err(panic) => Err(Problem::internal(&panic)),
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        match error {
            FileError::NoSuchToken { id, .. } => {
                Problem::not_found(format!("there is no portal's token `{id:.80}`"))
            }
            FileError::Full { .. } => {
                let detail = "there are as many tokens as there may be; let those of portals expire sooner";
                Problem::new(Kind::Conflict, detail)
            }
            FileError::Grant { field, reason } => Problem::rule(field, reason),
            other => Problem::internal(&other),
        }
    }
}
