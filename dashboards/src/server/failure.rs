//! What is said when a page cannot be shown.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use crate::html::shell::{Frame, Section, page};
use crate::pages::failed;
use crate::read::ReadError;

/// Why a page cannot be shown.
#[derive(Debug)]
pub enum Failure {
    /// The address asks for something that cannot be.
    Asked(String),
    /// There is nothing at that address.
    Missing(String),
    /// The store could not be read.
    Store(ReadError),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Failure::Store(error)
    }
}

impl IntoResponse for Failure {
    /// Carries the failure to where the request's id is known and its page is made.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl Failure {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Failure::Asked(_) => StatusCode::BAD_REQUEST,
            Failure::Missing(_) => StatusCode::NOT_FOUND,
            Failure::Store(ReadError::Unavailable(_) | ReadError::NoTables(_) | ReadError::TooHeavy(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Failure::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The page, and a line in the log where somebody has to look.
    pub(super) fn page(&self, id: &RequestId, path: &str) -> Response {
        if let Failure::Store(error) = self {
            tracing::error!(request_id = id.as_str(), path, error = %error, "a page could not be read from the store");
        }
        let view = self.view(id);
        let frame = Frame::bare(Section::of_path(path));
        let html = Html(page(&frame, &view.title, &failed::render(&view)).into_string());
        let mut response = (self.status(), html).into_response();
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }

    fn view(&self, id: &RequestId) -> failed::View {
        let (title, advice, command) = match self {
            Failure::Asked(reason) => ("This address cannot be shown", reason.clone(), None),
            Failure::Missing(what) => ("Not found", what.clone(), None),
            Failure::Store(ReadError::Unavailable(_)) => (
                "The store did not answer",
                "There may well be data: it could not be read. Reload in a moment.".to_owned(),
                Some("rentroll doctor"),
            ),
            Failure::Store(ReadError::NoTables(_)) => {
                ("The store has no tables yet", "They are made once, by the command below.".to_owned(), Some("rentroll migrate"))
            }
            Failure::Store(ReadError::TooHeavy(_)) => (
                "Too much to read for one page",
                "The query was stopped at its limit of time or memory. Choose a shorter window, or search for less.".to_owned(),
                None,
            ),
            Failure::Store(ReadError::Credential(_)) => (
                "The store refused the credential",
                "User or password of the store are not what the configuration says.".to_owned(),
                Some("rentroll doctor"),
            ),
            Failure::Store(ReadError::Refused(_) | ReadError::Unreadable { .. }) => (
                "This page could not be read from the store",
                "This is a fault of the program or of the stored data, not of what you asked for.".to_owned(),
                Some("rentroll doctor"),
            ),
        };
        failed::View {
            title: title.to_owned(),
            advice,
            command: command.map(str::to_owned),
            request_id: matches!(self, Failure::Store(_)).then(|| id.as_str().to_owned()),
        }
    }
}

/// Tells requests apart in the log, across restarts.
pub(super) struct RequestId(String);

impl RequestId {
    pub(super) fn next() -> Self {
        static STARTED: OnceLock<u32> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(1);
        // Nanoseconds of the start: two processes rarely share them, and an id need not be a secret.
        let started = STARTED.get_or_init(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.subsec_nanos() ^ since.as_secs() as u32)
        });
        RequestId(format!("{started:08x}-{:x}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
