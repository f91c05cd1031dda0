//! What a client is told that is no success: RFC 9457 `application/problem+json`.
//!
//! A problem travels in the response's extensions, and [`around`](super::around) writes it down: only there the request's
//! id is known.

use std::sync::Arc;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use rentroll_engines::store::StoreError;
use serde::Serialize;

use crate::meters::MeterError;
use crate::usage::UsageError;

/// Longest text of a request that is repeated in an answer, in characters.
const GIVEN_LETTERS_MAX: usize = 200;

/// What kind of problem it is: the end of its `type`, which is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A parameter, or a field of the body, is not of its form.
    InvalidParameter,
    /// There is no such parameter, or field.
    UnknownParameter,
    /// The body is no JSON, or no CSV.
    UnreadableBody,
    /// Each parameter is of its form, but together, or with what there is, they cannot be answered.
    Unanswerable,
    /// More would be read than is allowed.
    TooMuchToRead,
    /// No token, or one that is not good.
    Unauthorized,
    /// A token that may not do this.
    Forbidden,
    /// No such path, or nothing of that name.
    NotFound,
    /// Another method than the path has.
    Method,
    /// No form of answer that the client takes.
    NotAcceptable,
    /// The body took too long to come.
    TooSlow,
    /// It is not possible as things are.
    Conflict,
    /// The body is too large.
    TooLarge,
    /// The body is of another type.
    UnsupportedBody,
    /// The token has as many queries in work, or waiting, as it may have.
    TooManyRequests,
    /// A query took longer than it may.
    TooLong,
    /// What it takes is away, or too busy.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 18] = [
        Kind::InvalidParameter,
        Kind::UnknownParameter,
        Kind::UnreadableBody,
        Kind::Unanswerable,
        Kind::TooMuchToRead,
        Kind::Unauthorized,
        Kind::Forbidden,
        Kind::NotFound,
        Kind::Method,
        Kind::NotAcceptable,
        Kind::TooSlow,
        Kind::Conflict,
        Kind::TooLarge,
        Kind::UnsupportedBody,
        Kind::TooManyRequests,
        Kind::TooLong,
        Kind::Unavailable,
        Kind::Internal,
    ];

    /// (end of its type, title, status).
    pub const fn words(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Kind::InvalidParameter => ("invalid-parameter", "Invalid parameter", StatusCode::BAD_REQUEST),
            Kind::UnknownParameter => ("unknown-parameter", "Unknown parameter", StatusCode::BAD_REQUEST),
            Kind::UnreadableBody => ("unreadable-body", "Unreadable body", StatusCode::BAD_REQUEST),
            Kind::Unanswerable => ("unanswerable", "Cannot be answered", StatusCode::UNPROCESSABLE_ENTITY),
            Kind::TooMuchToRead => ("too-much-to-read", "Too much to read", StatusCode::UNPROCESSABLE_ENTITY),
            Kind::Unauthorized => ("unauthorized", "Not authorized", StatusCode::UNAUTHORIZED),
            Kind::Forbidden => ("forbidden", "Not for this token", StatusCode::FORBIDDEN),
            Kind::NotFound => ("not-found", "Not found", StatusCode::NOT_FOUND),
            Kind::Method => ("method", "Method not allowed", StatusCode::METHOD_NOT_ALLOWED),
            Kind::NotAcceptable => ("not-acceptable", "Not acceptable", StatusCode::NOT_ACCEPTABLE),
            Kind::TooSlow => ("too-slow", "Body too slow", StatusCode::REQUEST_TIMEOUT),
            Kind::Conflict => ("conflict", "Not possible now", StatusCode::CONFLICT),
            Kind::TooLarge => ("too-large", "Body too large", StatusCode::PAYLOAD_TOO_LARGE),
            Kind::UnsupportedBody => {
                ("unsupported-body", "Unsupported body", StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            Kind::TooManyRequests => {
                ("too-many-requests", "Too many requests", StatusCode::TOO_MANY_REQUESTS)
            }
            Kind::TooLong => ("too-long", "Took too long", StatusCode::SERVICE_UNAVAILABLE),
            Kind::Unavailable => ("unavailable", "Not available now", StatusCode::SERVICE_UNAVAILABLE),
            Kind::Internal => ("internal", "A fault of the server", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// What went wrong with a request.
#[derive(Clone, Debug)]
pub struct Problem {
    /// What kind of problem.
    pub kind: Kind,
    detail: String,
    retry_after_seconds: Option<u32>,
    /// Apart, so that a result that may be a problem is not large for it.
    more: Box<More>,
}

/// What few problems have.
#[derive(Clone, Debug, Default)]
struct More {
    parameter: Option<String>,
    given: Option<String>,
    allowed: Option<String>,
    errors: Vec<serde_json::Value>,
    /// For the log, and not for the client.
    cause: Option<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [serde_json::Value],
}

impl Problem {
    /// Of that kind, in a sentence.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Problem { kind, detail: detail.into(), retry_after_seconds: None, more: Box::default() }
    }

    /// A parameter that is not of its form.
    pub fn parameter(name: &str, given: &str, allowed: impl Into<String>) -> Self {
        Problem::about(Kind::InvalidParameter, name, given, allowed.into())
    }

    /// A parameter that is of its form, and cannot be used with the others or with what there is.
    pub fn unanswerable(name: &str, given: &str, allowed: impl Into<String>) -> Self {
        Problem::about(Kind::Unanswerable, name, given, allowed.into())
    }

    /// A field that breaks a rule. What was given for it is said by [`Problem::given_by`].
    pub(crate) fn rule(field: &str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let problem = Problem::new(Kind::Unanswerable, format!("{field}: {reason}"));
        problem.naming(field.to_owned(), None, reason)
    }

    /// A parameter that must be there.
    pub fn missing(name: &str, allowed: &str) -> Self {
        let problem = Problem::new(Kind::InvalidParameter, format!("`{name}` is missing: {allowed}"));
        problem.naming(name.to_owned(), None, allowed.to_owned())
    }

    /// About the parameter `name`.
    pub fn about(kind: Kind, name: &str, given: &str, allowed: String) -> Self {
        let given = shorten(given);
        let problem = Problem::new(kind, format!("`{name}`: `{given}` is not possible: {allowed}"));
        problem.naming(name.to_owned(), Some(given), allowed)
    }

    fn naming(mut self, parameter: String, given: Option<String>, allowed: String) -> Self {
        *self.more = More { parameter: Some(parameter), given, allowed: Some(allowed), ..*self.more };
        self
    }

    /// With what was given for the parameter at fault, where that is not known yet.
    #[must_use]
    pub(crate) fn given_by(mut self, find: impl FnOnce(&str) -> Option<String>) -> Self {
        if let More { parameter: Some(parameter), given: given @ None, .. } = &mut *self.more {
            *given = find(parameter).map(|text| shorten(&text));
        }
        self
    }

    /// In other words.
    #[must_use]
    pub fn saying(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// With what is wrong with each of several parts.
    #[must_use]
    pub fn listing(mut self, errors: Vec<serde_json::Value>) -> Self {
        self.more.errors = errors;
        self
    }

    /// Nobody known speaks.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Problem::new(Kind::Unauthorized, detail)
    }

    /// Nothing of that name.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Problem::new(Kind::NotFound, detail)
    }

    /// Another method than the path has. Which it has is said by `Allow`, which the router adds.
    pub fn method(given: &Method) -> Self {
        let detail = format!("this path has no {}; `Allow` says what it has", shorten(given.as_str()));
        Problem::new(Kind::Method, detail)
    }

    /// To be tried again.
    #[must_use]
    pub fn again_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// A fault of ours: its words go to the log, not to the client.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        let detail = "the request could not be answered; the server's log says why, by this instance";
        Problem::new(Kind::Internal, detail).caused_by(error)
    }

    fn caused_by(mut self, error: &dyn std::fmt::Display) -> Self {
        self.more.cause = Some(error.to_string());
        self
    }

    /// For the log, and not for the client.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.more.cause.as_deref()
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.kind.words().2
    }

    /// In a sentence.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The parameter at fault.
    pub(crate) fn about_parameter(&self) -> Option<&str> {
        self.more.parameter.as_deref()
    }

    /// What was given for it.
    #[cfg(test)]
    pub(crate) fn given(&self) -> Option<&str> {
        self.more.given.as_deref()
    }

    /// What it can be.
    pub(crate) fn allowed(&self) -> Option<&str> {
        self.more.allowed.as_deref()
    }

    /// What is wrong with each of several parts.
    pub(crate) fn errors(&self) -> &[serde_json::Value] {
        &self.more.errors
    }

    /// When to try again.
    pub(crate) fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after_seconds
    }

    /// The answer, for the request of that id.
    pub(crate) fn render(&self, request_id: &str) -> Response {
        let (slug, title, status) = self.kind.words();
        let document = Document {
            r#type: format!("/api/v1/docs#{slug}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            instance: format!("urn:rentroll:request:{request_id}"),
            parameter: self.more.parameter.as_deref(),
            given: self.more.given.as_deref(),
            allowed: self.more.allowed.as_deref(),
            errors: &self.more.errors,
        };
        // Texts and numbers always serialise.
        let mut answer = (status, serde_json::to_vec(&document).unwrap_or_default()).into_response();
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.kind == Kind::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"rentroll\""));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<UsageError> for Problem {
    fn from(error: UsageError) -> Self {
        let detail = error.to_string();
        match error {
            UsageError::Parameter { name, given, allowed } => {
                Problem::unanswerable(of_query(name), &given, allowed)
            }
            UsageError::UnknownMeter { given, similar, known } => {
                let allowed = if similar.is_empty() { known } else { similar };
                Problem::unanswerable("meter", &given, one_of(&allowed)).saying(detail)
            }
            UsageError::TooLarge { .. } | UsageError::Memory { .. } => {
                Problem::new(Kind::TooMuchToRead, detail)
            }
            UsageError::TimedOut { .. } => Problem::new(Kind::TooLong, detail).again_after(10),
            UsageError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error.is_retryable() {
            true => {
                let problem = Problem::new(Kind::Unavailable, "the store does not answer now; ask again");
                problem.again_after(5).caused_by(&error)
            }
            false => Problem::internal(&error),
        }
    }
}

impl From<MeterError> for Problem {
    fn from(error: MeterError) -> Self {
        let detail = error.to_string();
        match error {
            MeterError::Definition { field, reason } => Problem::rule(&field, reason).saying(detail),
            MeterError::Unknown(_) => Problem::not_found(detail),
            MeterError::Contended(_) => Problem::new(Kind::Conflict, detail),
            MeterError::Store(error) => error.into(),
            MeterError::Stored { .. } => Problem::internal(&detail),
        }
    }
}

/// The parameter's name in an address, by its name in a question.
pub(super) fn of_query(name: &'static str) -> &'static str {
    match name {
        "tenants" => "tenant",
        "organisations" => "organisation",
        "filters" => "filter",
        "rows" => "limit",
        "kind" => "type",
        "verdicts" => "verdict",
        name => name,
    }
}

/// `a, b, c`, in words.
pub(crate) fn one_of(names: &[impl AsRef<str>]) -> String {
    match names {
        [] => "there is none".to_owned(),
        [one] => format!("`{}`", one.as_ref()),
        names => {
            let names: Vec<&str> = names.iter().take(50).map(AsRef::as_ref).collect();
            format!("one of {}", names.join(", "))
        }
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(GIVEN_LETTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_section_in_the_documentation() {
        for kind in Kind::ALL {
            let (slug, _, status) = kind.words();
            let section = format!("\n### {slug}\n{}. ", status.as_u16());
            assert!(super::super::describe::DOCS.contains(&section), "{section}");
        }
        let sections = super::super::describe::DOCS.matches("\n### ").count();
        assert_eq!(sections, Kind::ALL.len());
    }

    #[test]
    fn what_is_repeated_is_cut_between_letters() {
        let long = "é".repeat(GIVEN_LETTERS_MAX + 1);
        assert_eq!(shorten(&long).chars().count(), GIVEN_LETTERS_MAX + 1);
        assert_eq!(shorten("é"), "é");
    }
}
