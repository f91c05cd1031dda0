//! HTTP: which address shows which page, what every answer carries, and what is said when a page cannot be.
//!
//! A page is read in full before its first byte is sent, so that a failure is a failure page with its status
//! (500, 503) and never half a page or "no data". Only the exports stream; a failure in their midst breaks the
//! download off.

mod failure;
mod pages;
mod params;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, Request};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use rentroll_schemas::catalogue::Catalogue;
use rentroll_schemas::meter::LiveMeters;

use crate::assets;
use crate::model::HealthCheck;
use crate::read::Reader;

pub use failure::Failure;

/// Asks the running parts how they are; what comes back is shown on `/health` before the store's own checks.
pub type HealthProbe = Arc<dyn Fn() -> Vec<HealthCheck> + Send + Sync>;

/// What the console needs.
#[derive(Clone)]
pub struct ConsoleState {
    reader: Reader,
    meters: LiveMeters,
    probe: Option<HealthProbe>,
}

/// What one page is made with: the meters do not change under it.
#[derive(Clone)]
struct PageState {
    reader: Reader,
    probe: Option<HealthProbe>,
}

impl FromRef<ConsoleState> for PageState {
    fn from_ref(state: &ConsoleState) -> Self {
        let reader = state.reader.with_meters(&state.meters.now());
        PageState { reader, probe: state.probe.clone() }
    }
}

impl ConsoleState {
    /// Over a client whose database holds Rentroll's tables, for these meters. The catalogue, if there is one,
    /// gives plans their titles and names the zone in which months are cut.
    pub fn new(client: clickhouse::Client, meters: LiveMeters, catalogue: Option<Arc<Catalogue>>) -> Self {
        ConsoleState { reader: Reader::new(client, &meters.now(), catalogue), meters, probe: None }
    }

    /// With what the running parts say of themselves.
    #[must_use]
    pub fn with_health(mut self, probe: HealthProbe) -> Self {
        self.probe = Some(probe);
        self
    }
}

/// Everything is ours and there is no script: whatever a tenant's name says, nothing is loaded or run.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'";

/// The console. It has a fallback of its own: merge it into a router that has none.
pub fn router(state: ConsoleState) -> Router {
    Router::new()
        .route("/", get(pages::overview))
        .route("/tenants", get(pages::tenants))
        .route("/tenants.csv", get(pages::tenants_csv))
        .route("/tenants/{tenant}", get(pages::tenant))
        .route("/tenant", get(pages::tenant_by_name))
        .route("/invoices", get(pages::invoices))
        .route("/invoices/{number}", get(pages::invoice))
        .route("/costs", get(pages::costs))
        .route("/costs.csv", get(pages::costs_csv))
        .route("/rejects", get(pages::rejects))
        .route("/health", get(pages::health))
        .route("/assets/{name}", get(assets::serve))
        .fallback(pages::not_found)
        .layer(from_fn(around))
        .with_state(state)
}

/// Gives a request its id, turns a failure into its page, and puts the headers on.
async fn around(request: Request, next: Next) -> Response {
    let id = failure::RequestId::next();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    if let Some(failure) = response.extensions_mut().remove::<Arc<Failure>>() {
        response = failure.page(&id, &path);
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    response
}
