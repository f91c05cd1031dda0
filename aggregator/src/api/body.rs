//! Bodies: of the right type, within the limits.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;

use super::problem::{Kind, Problem};

/// How long a body may take to come.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Reads a body that must be of one of the types in `media`.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    media: &'static [&'static str],
    bytes_max: usize,
) -> Result<Bytes, Problem> {
    let unsupported = |detail: String| Problem::new(Kind::UnsupportedBody, detail);
    let given = text(headers.get(CONTENT_TYPE));
    let (kind, parameters) = given.split_once(';').unwrap_or((given, ""));
    if !media.iter().any(|one| kind.trim().eq_ignore_ascii_case(one)) {
        return Err(unsupported(format!(
            "content-type `{given:.80}` is not supported; supported: {}",
            media.join(", ")
        )));
    }
    for parameter in parameters.split(';') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        let is_utf8 = ["utf-8", "utf8", "us-ascii"].iter().any(|name| value.eq_ignore_ascii_case(name));
        if name.trim().eq_ignore_ascii_case("charset") && !is_utf8 {
            return Err(unsupported(format!("charset `{value:.80}` is not supported, only utf-8 is")));
        }
    }
    let encoding = text(headers.get(CONTENT_ENCODING));
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        return Err(unsupported(format!(
            "content-encoding `{encoding:.80}` is not supported: send it as it is"
        )));
    }
    let too_large = || {
        Problem::new(
            Kind::TooLarge,
            format!("the body is larger than {bytes_max} bytes (api.body_bytes_max)"),
        )
    };
    let said: Option<u64> = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if said.is_some_and(|said| said > bytes_max as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(WAIT_MAX, to_bytes(body, bytes_max)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_length(&error) => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(Kind::UnreadableBody, "the body broke off")),
        Err(_) => {
            Err(Problem::new(Kind::TooSlow, format!("the body did not come within {} s", WAIT_MAX.as_secs())))
        }
    }
}

fn is_length(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

fn text(value: Option<&HeaderValue>) -> &str {
    // What is not ASCII is none of the words looked for.
    value.map_or("", |value| value.to_str().unwrap_or("?"))
}
