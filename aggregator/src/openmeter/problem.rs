//! What is no success, as OpenMeter's clients read it.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::problem::{Kind, Problem};
use crate::usage::UsageError;

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<Value>,
}

/// OpenMeter has 400 for everything that the client must mend; and its Python client repeats a POST at 503, and not at 429.
fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Unanswerable => StatusCode::BAD_REQUEST,
        Kind::TooManyRequests => StatusCode::SERVICE_UNAVAILABLE,
        kind => kind.words().2,
    }
}

/// The answer, for the request of that id.
pub(super) fn render(problem: &Problem, request_id: &str) -> Response {
    let status = status(problem.kind);
    let extensions =
        (status == StatusCode::BAD_REQUEST).then(|| json!({ "validationErrors": faults(problem) }));
    let document = Document {
        r#type: format!("urn:rentroll:problem:{}", problem.kind.words().0),
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: problem.detail(),
        instance: format!("urn:rentroll:request:{request_id}"),
        extensions,
    };
    // Texts and numbers always serialise.
    let mut answer = (status, serde_json::to_vec(&document).unwrap_or_default()).into_response();
    let headers = answer.headers_mut();
    // To the letter: the npm SDK compares it as a text.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if problem.kind == Kind::Unauthorized {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"rentroll\""));
    }
    if let Some(seconds) = problem.retry_after_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// Each fault of a request, by its field.
fn faults(problem: &Problem) -> Vec<Value> {
    match problem.errors() {
        [] => {
            let message = problem.allowed().unwrap_or(problem.detail());
            vec![fault(problem.about_parameter().unwrap_or("body"), problem.kind, message)]
        }
        errors => errors.to_vec(),
    }
}

/// One fault of several.
pub(super) fn fault(field: &str, kind: Kind, message: &str) -> Value {
    json!({ "field": field, "code": kind.words().0.replace('-', "_"), "message": message })
}

/// A parameter or field that cannot be.
pub(super) fn cannot_be(name: &str, given: &str, allowed: impl Into<String>) -> Problem {
    Problem::parameter(name, given, allowed)
}

/// As the query's parameters are called here.
pub(super) fn of_usage(error: UsageError) -> Problem {
    match error {
        UsageError::Parameter { name, given, allowed } => {
            let name = match name {
                "window" => "windowSize",
                "zone" => "windowTimeZone",
                "tenants" | "tenant" => "subject",
                "filters" => "filterGroupBy",
                "group_by" => "groupBy",
                name => name,
            };
            cannot_be(name, &given, allowed)
        }
        UsageError::UnknownMeter { given, .. } => no_meter(&given),
        error => error.into(),
    }
}

/// There is no such meter.
pub(super) fn no_meter(slug: &str) -> Problem {
    Problem::not_found(format!("there is no meter `{slug:.80}`"))
}
