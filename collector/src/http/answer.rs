//! What a client is told. Everything that is not a success is RFC 9457 `application/problem+json`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::body::{BodyError, Share};
use super::judge::Refused;
use super::media::{ENCODINGS, MEDIA_TYPES, MediaError};

/// The answer's type.
pub type Answer = Response<Full<Bytes>>;

/// What went wrong with a request as a whole.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    /// The end of the problem's type, which is stable.
    kind: &'static str,
    title: &'static str,
    detail: String,
    header: Option<(HeaderName, &'static str)>,
    /// Whether the rest of the body should be read before answering, so that the answer arrives.
    pub discard: bool,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Problem { status, kind, title, detail: detail.into(), header: None, discard: true }
    }

    fn with(mut self, header: HeaderName, value: &'static str) -> Self {
        self.header = Some((header, value));
        self
    }

    /// No such path.
    pub fn not_found() -> Self {
        let detail = "events are sent to POST /v1/events";
        Problem::new(StatusCode::NOT_FOUND, "not-found", "No such path", detail)
    }

    /// Another method than POST.
    pub fn method() -> Self {
        let detail = "events are sent to POST /v1/events";
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "Method not allowed", detail)
            .with(ALLOW, "POST")
    }

    /// Nobody known speaks.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Not authorized", detail)
            .with(WWW_AUTHENTICATE, "Bearer realm=\"rentroll\"")
    }

    /// Who speaks is known, and sends no events.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "Not a token to send with", detail)
    }

    /// As many requests are in work as may be.
    pub fn too_many(limit: usize) -> Self {
        let detail = format!("{limit} requests are in work; nothing was taken, send it again");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests", detail)
            .with(RETRY_AFTER, "1")
    }

    /// More events than one request may have.
    pub fn too_many_events(events: usize, limit: usize) -> Self {
        let detail = format!("{events} events, at most {limit} in one request; nothing was taken");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-many-events", "Too many events", detail)
    }

    /// Neither log nor spool takes.
    pub fn unavailable(reason: impl std::fmt::Display) -> Self {
        let detail = format!("nothing can be made durable now, send it again: {reason}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not taken", detail)
            .with(RETRY_AFTER, "5")
    }

    /// A record that no log can hold.
    pub fn too_large(detail: String) -> Self {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail)
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<MediaError> for Problem {
    fn from(error: MediaError) -> Self {
        let problem = Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported",
            "Unsupported body",
            error.to_string(),
        );
        match error {
            MediaError::Encoding(_) => problem.with(ACCEPT_ENCODING, ENCODINGS),
            _ => problem.with(HeaderName::from_static("accept-post"), MEDIA_TYPES),
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let detail = error.to_string();
        // Of a body that is too slow, or broke off, nothing more is worth waiting for.
        let discard = !matches!(error, BodyError::TooSlow { .. } | BodyError::BrokenOff { .. });
        let problem = match error {
            BodyError::TooLarge { .. } | BodyError::DecodedTooLarge { .. } => Problem::too_large(detail),
            BodyError::TooSlow { .. } => {
                Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "Body too slow", detail)
            }
            BodyError::Busy { .. } => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests", detail)
                    .with(RETRY_AFTER, "1")
            }
            BodyError::BrokenOff { .. } | BodyError::Undecodable { .. } => {
                Problem::new(StatusCode::BAD_REQUEST, "unreadable", "Unreadable body", detail)
            }
        };
        Problem { discard, ..problem }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    index: usize,
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    field: &'a str,
    detail: &'a str,
}

impl<'a> Line<'a> {
    fn of(one: &'a Refused) -> Self {
        let refusal = &one.refusal;
        Line { index: one.index, reason: refusal.reason, field: &refusal.field, detail: &refusal.detail }
    }
}

/// All events were taken: durable, each counts once.
pub fn taken(request_id: &str) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    identify(&mut answer, request_id);
    answer
}

/// Some events were refused, and kept as rejects; the others were taken.
///
/// A 4xx in any case: a client's library repeats 429 and 5xx alone, so that a batch with a bad event is neither
/// sent for ever nor passed over as a success.
///
/// Of `share` the answer keeps as much as it is long, until it is sent: a client may be slow to read it.
pub fn refused(request_id: &str, accepted: usize, refused: &[Refused], share: Share) -> Answer {
    let rejected = refused.len();
    let all_forbidden = accepted == 0
        && refused.iter().all(|one| one.refusal.reason == rentroll_schemas::reject::reason::FORBIDDEN);
    let status = if all_forbidden { StatusCode::FORBIDDEN } else { StatusCode::BAD_REQUEST };
    let detail = match accepted {
        0 => {
            format!("rejected {rejected} of {rejected}, kept as rejects: do not send them again as they are")
        }
        _ => format!(
            "rejected {rejected} of {}, kept as rejects; accepted {accepted}: do not send the same batch again",
            accepted + rejected
        ),
    };
    let document = Document {
        r#type: "urn:rentroll:problem:rejected".to_owned(),
        title: "Some events were rejected",
        status: status.as_u16(),
        detail: &detail,
        request_id,
        accepted: Some(accepted),
        rejected: Some(rejected),
        errors: refused.iter().map(Line::of).collect(),
    };
    render(status, held(text(&document), share), request_id)
}

/// What is being sent, and the memory that it was given.
struct Held {
    text: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

fn held(text: Vec<u8>, mut share: Share) -> Bytes {
    share.shrink_to(text.len());
    Bytes::from_owner(Held { text, _share: share })
}

/// The request as a whole was of no use.
pub fn problem(request_id: &str, problem: &Problem) -> Answer {
    let document = Document {
        r#type: format!("urn:rentroll:problem:{}", problem.kind),
        title: problem.title,
        status: problem.status.as_u16(),
        detail: &problem.detail,
        request_id,
        accepted: None,
        rejected: None,
        errors: Vec::new(),
    };
    let mut answer = render(problem.status, text(&document).into(), request_id);
    if let Some((name, value)) = &problem.header {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn text(document: &Document<'_>) -> Vec<u8> {
    // Serialising strings and numbers cannot fail.
    serde_json::to_vec(document).unwrap_or_default()
}

fn render(status: StatusCode, text: Bytes, request_id: &str) -> Answer {
    let mut answer = Response::new(Full::new(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    identify(&mut answer, request_id);
    answer
}

fn identify(answer: &mut Answer, request_id: &str) {
    // Sixteen hexadecimal digits are a header's value.
    if let Ok(value) = HeaderValue::from_str(request_id) {
        answer.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
}
