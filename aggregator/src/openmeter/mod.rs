//! OpenMeter's interface (its API v1): a face over what [`api`](crate::api) has, for clients that were written for OpenMeter.
//! `docs/openmeter.md` says what holds, and where it differs on purpose.
//!
//! | module | |
//! |---|---|
//! | `ingest`, `numbers` | events come in: the collector's door, behind which no number is too precise |
//! | `events`, `search`, `event` | events are listed |
//! | `meters`, `definition`, `path` | meters, and what OpenMeter calls their parts |
//! | `query`, `filters`, `literal`, `rows` | how much of a meter |
//! | `values` | subjects of a meter, and values to group by |
//! | `subjects`, `portal` | the registry of tenants, portals' tokens |
//! | `fields`, `problem` | bodies, and what is no success |
//!
//! # What holds
//! - Who may see what is the [gate](crate::api::gate)'s to say: there is no usage here but through its readers.
//! - Quantities are written as JSON numbers, digit by digit, and never are floats.

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::http::Uri;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, any, get, post};
use rentroll_schemas::catalogue::Catalogue;
use tower_http::compression::CompressionLayer;

use crate::api::Api;
use crate::api::around::{self, Around};
use crate::api::gate::Gate;
use crate::api::problem::Problem;

mod definition;
mod event;
mod events;
mod fields;
mod filters;
mod ingest;
mod literal;
mod meters;
mod numbers;
mod path;
mod portal;
mod problem;
mod query;
mod rows;
mod search;
mod subjects;
mod values;

/// What handlers share.
#[derive(Clone)]
struct Face {
    api: Api,
    /// What bills by meters, if anything does.
    catalogue: Option<Arc<Catalogue>>,
}

impl FromRef<Face> for Gate {
    fn from_ref(face: &Face) -> Gate {
        face.api.gate()
    }
}

/// Every path below the prefix, and what it answers.
fn routes() -> Vec<(&'static str, MethodRouter<Face>)> {
    vec![
        ("/events", get(events::list).post(ingest::receive)),
        ("/meters", get(meters::list).post(meters::create)),
        ("/meters/{meter}", get(meters::get).put(meters::update).delete(meters::delete)),
        ("/meters/{meter}/query", get(query::get).post(query::post)),
        ("/meters/{meter}/subjects", get(values::subjects)),
        ("/meters/{meter}/group-by/{name}/values", get(values::of_group)),
        ("/subjects", get(subjects::list).post(subjects::upsert)),
        ("/subjects/{subject}", get(subjects::get).delete(subjects::delete)),
        ("/portal/tokens", get(portal::list).post(portal::create)),
        ("/portal/tokens/invalidate", post(portal::invalidate)),
    ]
}

/// The face, to be merged into the router of the server. Every path below `/openmeter` is its own.
pub fn router(api: Api, catalogue: Option<Arc<Catalogue>>) -> Router {
    let around = from_fn_with_state(Around::new(&api, problem::render), around::around);
    let mut router = Router::new();
    for (path, methods) in routes() {
        router = router.route(&format!("/openmeter/api/v1{path}"), methods);
    }
    let router = router
        .route("/openmeter/api/v2/events", get(events::list_v2))
        .route("/openmeter", any(nowhere))
        .route("/openmeter/", any(nowhere))
        .route("/openmeter/{*rest}", any(nowhere))
        .layer(around.clone());
    let portal = Router::new()
        .route(
            "/openmeter/api/v1/portal/meters/{meter}/query",
            get(query::portal).options(|| around::preflight("GET")),
        )
        .layer(around)
        // Outside of what writes problems down: a browser is to see those as well.
        .layer(axum::middleware::map_response(around::for_browsers));
    router.merge(portal).layer(CompressionLayer::new()).with_state(Face { api, catalogue })
}

async fn nowhere(uri: Uri) -> Problem {
    Problem::not_found(format!(
        "there is nothing at {:.80}; docs/openmeter.md says what there is",
        uri.path()
    ))
}
