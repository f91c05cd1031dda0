//! What the API says of itself: its OpenAPI document and its documentation. Nobody needs a token for them.

use std::sync::LazyLock;

use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::output;
use super::params::Params;
use super::problem::Problem;

/// The document, as it is written.
pub const YAML: &str = include_str!("openapi.yaml");
/// What people read.
pub const DOCS: &str = include_str!("../../../docs/api.md");

/// The document, as programs read it.
static JSON: LazyLock<Result<Vec<u8>, String>> = LazyLock::new(|| {
    let document = document()?;
    serde_json::to_vec(&document).map_err(|error| error.to_string())
});

/// The document as a value.
///
/// # Errors
/// It is no YAML; a test holds that it is.
pub fn document() -> Result<serde_json::Value, String> {
    rentroll_schemas::yaml::parse(YAML, std::path::Path::new("openapi.yaml"))
        .map_err(|error| error.to_string())
}

/// `GET /openapi.json`
pub(super) async fn json(uri: Uri) -> Result<Response, Problem> {
    Params::of_address(&uri, &[])?;
    match &*JSON {
        Ok(json) => Ok(public("application/json", json.clone())),
        Err(error) => Err(Problem::internal(error)),
    }
}

/// `GET /openapi.yaml`
pub(super) async fn yaml(uri: Uri) -> Result<Response, Problem> {
    Params::of_address(&uri, &[])?;
    // RFC 9512.
    Ok(public("application/yaml", YAML.into()))
}

/// `GET /docs`
pub(super) async fn docs(uri: Uri) -> Result<Response, Problem> {
    Params::of_address(&uri, &[])?;
    Ok(public("text/markdown; charset=utf-8", DOCS.into()))
}

/// `GET /`: what there is to be read.
pub(super) async fn root(uri: Uri) -> Result<Response, Problem> {
    Params::of_address(&uri, &[])?;
    let answer = serde_json::json!({
        "openapi": "/api/v1/openapi.json",
        "docs": "/api/v1/docs",
        "version": env!("CARGO_PKG_VERSION"),
    });
    Ok(public("application/json", answer.to_string().into_bytes()))
}

/// `GET /api/v1`
pub(super) async fn bare() -> Response {
    let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/api/v1/"));
    response
}

fn public(media: &'static str, body: Vec<u8>) -> Response {
    let mut response = output::tagged(StatusCode::OK, media, body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}
