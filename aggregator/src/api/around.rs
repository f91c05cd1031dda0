//! What every request and every answer has: an id, a count, headers, and a problem where it is no success.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::Api;
use super::metrics::ApiMetrics;
use super::problem::{Kind, Problem};

/// What is around the requests of one face.
#[derive(Clone)]
pub(crate) struct Around {
    metrics: ApiMetrics,
    /// How a problem looks, for the request of that id.
    render: fn(&Problem, &str) -> Response,
}

impl Around {
    /// Around the requests of a face of `api`, where problems look so.
    pub(crate) fn new(api: &Api, render: fn(&Problem, &str) -> Response) -> Around {
        Around { metrics: api.metrics().clone(), render }
    }
}

/// Answers `request`.
pub(crate) async fn around(State(around): State<Around>, request: Request, next: Next) -> Response {
    let Around { metrics, render } = around;
    let began = Instant::now();
    let id = request_id();
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let known = request.headers().get(IF_NONE_MATCH).cloned();
    let mut response = next.run(request).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED && !is_problem(&response) {
        let problem = Problem::method(&method);
        response = render(&problem, &id);
    }
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        if matches!(
            problem.kind,
            Kind::TooMuchToRead | Kind::TooManyRequests | Kind::TooLong | Kind::Unavailable
        ) {
            metrics.refused.with_label_values(&[problem.kind.words().0]).inc();
        }
        match problem.cause() {
            Some(cause) => tracing::error!(request = id, route, cause, "a request could not be answered"),
            None => tracing::debug!(request = id, ?problem, "a request was refused"),
        }
        response = render(&problem, &id);
    }
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    if is_known(&response, known.as_ref()) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(CONTENT_TYPE);
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    headers.append(VARY, HeaderValue::from_static("authorization, accept"));
    if !headers.contains_key("x-request-id")
        && let Ok(id) = HeaderValue::from_str(&id)
    {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    let status = response.status();
    let method = if is_common(&method) { method.as_str() } else { "other" };
    metrics.requests.with_label_values(&[route.as_str(), method, status.as_str()]).inc();
    metrics.seconds.with_label_values(&[route.as_str()]).observe(began.elapsed().as_secs_f64());
    response
}

/// `OPTIONS` of what portals' tokens read: browsers ask before they ask.
pub(crate) async fn preflight(methods: &'static str) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// There are no cookies: from wherever a browser asks, it knows no more than the token says.
pub(crate) async fn for_browsers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let allowed = HeaderValue::from_static("authorization, accept, content-type");
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    // Where the next page is, when to come again, and what the log calls it: scripts see no other headers.
    let exposed = HeaderValue::from_static("link, x-next-cursor, retry-after, x-request-id");
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    response
}

fn is_problem(response: &Response) -> bool {
    response.extensions().get::<Arc<Problem>>().is_some()
        || response.headers().get(CONTENT_TYPE).is_some_and(|media| media == "application/problem+json")
}

/// Whether the client has this answer already.
fn is_known(response: &Response, known: Option<&HeaderValue>) -> bool {
    let (Some(tag), Some(known)) = (response.headers().get(ETAG), known) else { return false };
    let (Ok(tag), Ok(known)) = (tag.to_str(), known.to_str()) else { return false };
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    response.status() == StatusCode::OK
        && (known.trim() == "*" || known.split(',').any(|one| bare(one) == bare(tag)))
}

/// A client may send any word for a method: each would be a time series.
fn is_common(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH]
        .contains(method)
}

fn request_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}
