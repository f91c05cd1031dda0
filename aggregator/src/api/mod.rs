//! `/api/v1`: usage, events, meters, tenants and portals' tokens over HTTP. `docs/api.md` is for those who use it, the
//! OpenAPI document (`openapi.yaml`) for their programs; a test holds that it and the routes are one.
//!
//! | module | |
//! |---|---|
//! | `gate` | who asks, and what they may see: the one place where a token becomes a scope |
//! | `turns` | so many queries at once, fairly |
//! | `params`, `times`, `terms`, `body` | what was asked |
//! | `usage`, `events`, `meters`, `tenants`, `tokens` | the answers |
//! | `output`, `page`, `problem`, `around` | how they look |
//! | `describe` | what the API says of itself |
//!
//! # What holds
//! - No handler has usage but through a [`gate::Reader`], whose scope comes from the token. A parameter that names what may not
//!   be seen is answered as if it did not exist.
//! - 400 is for a parameter that is not of its form and a body that cannot be read, 422 for what can be read and not be
//!   answered: a program that is right never sees the first.
//! - A parameter that is not known is an error.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRef, Path, Request};
use axum::http::Uri;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use chrono::Days;
use prometheus::Registry;
use rentroll_engines::store::Store;
use tower_http::compression::CompressionLayer;

use crate::usage::Usage;

pub(crate) mod around;
pub(crate) mod body;
mod budget;
mod config;
pub mod describe;
mod events;
mod fields;
pub mod gate;
mod meters;
pub mod metrics;
pub(crate) mod output;
mod page;
pub(crate) mod params;
pub mod problem;
mod tenants;
mod terms;
pub(crate) mod times;
pub(crate) mod tokens;
mod turns;
mod usage;

use around::Around;
pub use config::ApiConfig;
use gate::Gate;
use metrics::ApiMetrics;
use problem::Problem;

/// The span that is looked at where none is said, up to now.
const RECENT: Days = Days::new(30);

/// An answer to come.
pub type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;
/// Takes a request with events, if it takes any now: the collector's door, where one runs in this process.
pub type EventsDoor = Arc<dyn Fn(Request) -> Option<Answering> + Send + Sync>;

/// What the API is given.
pub struct Setup {
    /// `[api]`.
    pub config: ApiConfig,
    /// Answers questions.
    pub usage: Usage,
    /// Holds the registries.
    pub store: Store,
    /// The file of tokens.
    pub tokens: PathBuf,
    /// Where events go.
    pub events: Option<EventsDoor>,
}

/// Why there is no API.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The tokens.
    #[error(transparent)]
    Tokens(#[from] rentroll_schemas::token::FileError),
    /// The metrics are registered already.
    #[error("cannot register the metrics of the API: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// What handlers share, and those of other faces of the same usage.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    config: ApiConfig,
    gate: Gate,
    events: Option<EventsDoor>,
    metrics: ApiMetrics,
}

impl Api {
    pub(crate) fn config(&self) -> &ApiConfig {
        &self.0.config
    }

    pub(crate) fn gate(&self) -> Gate {
        self.0.gate.clone()
    }

    pub(crate) fn events_door(&self) -> Option<&EventsDoor> {
        self.0.events.as_ref()
    }

    pub(crate) fn metrics(&self) -> &ApiMetrics {
        &self.0.metrics
    }
}

impl FromRef<Api> for Gate {
    fn from_ref(api: &Api) -> Gate {
        api.gate()
    }
}

/// What a path stands for.
pub(crate) type PathOf<T> = Result<Path<T>, PathRejection>;

pub(crate) fn segments<T>(path: PathOf<T>) -> Result<T, Problem> {
    match path {
        Ok(Path(segments)) => Ok(segments),
        Err(rejection) => {
            Err(Problem::new(problem::Kind::InvalidParameter, format!("the path: {rejection}")))
        }
    }
}

/// Every path, and what it answers.
fn routes() -> Vec<(&'static str, MethodRouter<Api>)> {
    vec![
        ("/api/v1/", get(describe::root)),
        ("/api/v1/openapi.json", get(describe::json)),
        ("/api/v1/openapi.yaml", get(describe::yaml)),
        ("/api/v1/docs", get(describe::docs)),
        ("/api/v1/usage", get(usage::get).post(usage::post)),
        ("/api/v1/usage/top", get(usage::top)),
        ("/api/v1/usage/meters/{meter}/dimensions/{dimension}", get(usage::values)),
        ("/api/v1/events", get(events::search).post(events::receive)),
        ("/api/v1/events/unmatched", get(events::unmatched)),
        ("/api/v1/events/without-value", get(events::without_value)),
        ("/api/v1/meters", get(meters::list)),
        ("/api/v1/meters/{meter}", get(meters::get).put(meters::put).delete(meters::delete)),
        ("/api/v1/tenants", get(tenants::list)),
        ("/api/v1/tenants/import", post(tenants::import)),
        ("/api/v1/tenants/{tenant}", get(tenants::get).put(tenants::put).delete(tenants::delete)),
        ("/api/v1/organisations", get(tenants::organisations)),
        ("/api/v1/tokens/self", get(tokens::own)),
        ("/api/v1/portal-tokens", get(tokens::list).post(tokens::create)),
        ("/api/v1/portal-tokens/{id}", axum::routing::delete(tokens::revoke)),
    ]
}

/// The paths, for those who hold the description against them.
pub fn paths() -> Vec<&'static str> {
    routes().into_iter().map(|(path, _)| path).collect()
}

/// Opens what the API and other faces of it share.
///
/// # Errors
/// [`ApiError`].
pub fn open(setup: Setup, registry: &Registry) -> Result<Api, ApiError> {
    let Setup { config, usage, store, tokens, events } = setup;
    let metrics = ApiMetrics::register(registry)?;
    let gate = Gate::open(usage, store, tokens, &config, metrics.clone())?;
    Ok(Api(Arc::new(Inner { config, gate, events, metrics })))
}

/// The API, to be merged into the router of the server. Every path below `/api/v1` is its own.
pub fn router(api: Api) -> Router {
    let around = from_fn_with_state(Around::new(&api, Problem::render), around::around);
    let (mut router, mut in_browsers) = (Router::new(), Router::new());
    for (path, methods) in routes() {
        // What portals' tokens are for.
        match path.starts_with("/api/v1/usage") {
            true => {
                in_browsers = in_browsers.route(path, methods.options(|| around::preflight("GET, POST")));
            }
            false => router = router.route(path, methods),
        }
    }
    let router = router
        .route("/api/v1", get(describe::bare))
        .route("/api/v1/{*rest}", axum::routing::any(nowhere))
        .layer(around.clone());
    // Outside of what writes problems down: a browser is to see those as well.
    let in_browsers = in_browsers.layer(around).layer(map_response(around::for_browsers));
    router.merge(in_browsers).layer(CompressionLayer::new()).with_state(api)
}

async fn nowhere(uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {:.80}; GET /api/v1/docs says what there is", uri.path()))
}
