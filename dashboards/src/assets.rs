//! The files that are served beside the pages, embedded in the binary. There are no others: nothing is
//! fetched from elsewhere.

use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Assets;

/// Where pages find the stylesheet.
pub const CSS_ADDRESS: &str = "/assets/console.css";
/// Where pages find the icon.
pub const ICON_ADDRESS: &str = "/assets/icon.svg";

/// Serves one embedded file; a browser that has it already is told so.
pub async fn serve(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(file) = Assets::get(&name) else {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    let tag = etag(&file);
    let held = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if held == Some(tag.as_str()) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    let kind = match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::ETAG, tag),
        // Checked again each time: a new binary must not be shown with an old stylesheet.
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    (headers, Body::from(file.data.into_owned())).into_response()
}

fn etag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}
