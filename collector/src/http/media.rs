//! What a request says its body is.

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};

use super::body::Encoding;

/// The forms of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/cloudevents+json`: one event.
    Structured,
    /// `application/cloudevents-batch+json`: an array of events.
    Batch,
    /// `application/json` without `ce-` headers: one event or an array; `specversion` may be left out.
    Plain,
    /// `ce-` headers, the body is `data`.
    Binary,
}

/// What is supported, for those who sent something else.
pub const MEDIA_TYPES: &str =
    "application/cloudevents+json, application/cloudevents-batch+json, application/json";
/// As above.
pub const ENCODINGS: &str = "gzip, zstd, identity";

/// Why a body is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// The media type.
    #[error("content-type `{0}` is not supported; supported are {MEDIA_TYPES}")]
    Type(String),
    /// The character set.
    #[error("charset `{0}` is not supported, only utf-8 is")]
    Charset(String),
    /// The encoding.
    #[error("content-encoding `{0}` is not supported; supported are {ENCODINGS}")]
    Encoding(String),
}

/// Form and encoding of the body.
///
/// # Errors
/// [`MediaError`].
pub fn of(headers: &HeaderMap) -> Result<(Form, Encoding), MediaError> {
    let value = text(headers.get(CONTENT_TYPE));
    let (media_type, parameters) = value.split_once(';').unwrap_or((value, ""));
    let media_type = media_type.trim();
    let is = |name: &str| media_type.eq_ignore_ascii_case(name);
    let is_binary = headers.contains_key("ce-id") || headers.contains_key("ce-specversion");
    let form = if is("application/cloudevents+json") {
        Form::Structured
    } else if is("application/cloudevents-batch+json") {
        Form::Batch
    } else if is_binary && (media_type.is_empty() || is("application/json")) {
        Form::Binary
    } else if is("application/json") {
        Form::Plain
    } else {
        return Err(MediaError::Type(value.to_owned()));
    };
    for parameter in parameters.split(';') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        let is_utf8 = ["utf-8", "utf8", "us-ascii"].iter().any(|name| value.eq_ignore_ascii_case(name));
        if name.trim().eq_ignore_ascii_case("charset") && !is_utf8 {
            return Err(MediaError::Charset(value.to_owned()));
        }
    }
    let encoding = text(headers.get(CONTENT_ENCODING));
    let encoding = Encoding::of(encoding).ok_or_else(|| MediaError::Encoding(encoding.to_owned()))?;
    Ok((form, encoding))
}

fn text(value: Option<&HeaderValue>) -> &str {
    // What is not ASCII is none of the words looked for.
    value.map_or("", |value| value.to_str().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(headers: &[(&'static str, &str)]) -> Result<(Form, Encoding), MediaError> {
        let headers = headers.iter().map(|(name, value)| {
            (hyper::header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        of(&headers.collect())
    }

    #[test]
    fn knows_every_form_with_parameters_and_in_any_case() {
        for (content_type, expected) in [
            ("application/cloudevents+json", Form::Structured),
            ("Application/CloudEvents+JSON; charset=UTF-8", Form::Structured),
            ("application/cloudevents-batch+json;charset=\"utf-8\"", Form::Batch),
            ("application/json ; v=1", Form::Plain),
        ] {
            assert_eq!(form(&[("content-type", content_type)]).unwrap().0, expected, "{content_type}");
        }
        let binary = [("content-type", "application/json"), ("ce-id", "1")];
        assert_eq!(form(&binary).unwrap().0, Form::Binary);
        assert_eq!(form(&[("ce-specversion", "1.0")]).unwrap().0, Form::Binary);
        let both = [("content-type", "application/cloudevents+json"), ("ce-id", "1")];
        assert_eq!(form(&both).unwrap().0, Form::Structured);
        for encoding in ["gzip", "GZIP", "x-gzip"] {
            let headers = [("content-type", "application/json"), ("content-encoding", encoding)];
            assert_eq!(form(&headers).unwrap().1, Encoding::Gzip);
        }
    }

    #[test]
    fn says_what_it_does_not_know() {
        let json = ("content-type", "application/json");
        for (headers, expected) in [
            (&[][..], "content-type ``"),
            (&[("content-type", "text/plain")], "content-type `text/plain`"),
            (&[("content-type", "text/plain"), ("ce-id", "1")], "content-type `text/plain`"),
            (&[("content-type", "application/json; charset=latin1")], "charset `latin1`"),
            (&[json, ("content-encoding", "br")], "content-encoding `br`"),
            (&[json, ("content-encoding", "gzip, gzip")], "content-encoding `gzip, gzip`"),
        ] {
            let message = form(headers).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
