//! What a request asks for: URL, headers and form, put together.

use axum::body::Body;
use axum::extract::FromRequest as _;
use axum::http::{HeaderMap, Method, Request, header};
use bytes::Bytes;

use super::fault::{Fault, code};
use crate::store::quote::quote;

/// Longest text of a query that carries no rows. ClickHouse's own `max_query_size` of 256 KiB, which a request
/// may raise, applies to what is parsed; this bounds memory.
pub(super) const QUERY_BYTES_MAX: usize = 64 << 20;

/// Names in the URL that are no settings.
const IGNORED: &[&str] = &[
    // No sessions: each request has a connection of its own, so that nothing can leak to the next one.
    "session_id",
    "session_timeout",
    "session_check",
    // One user, without quotas.
    "quota_key",
    // How ClickHouse buffers and compresses; the face has its own way.
    "buffer_size",
    "http_zlib_compression_level",
    "stacktrace",
    "send_progress_in_http_headers",
    "http_headers_progress_interval_ms",
    "cancel_http_readonly_queries_on_client_close",
];

/// One request, read and checked but for its body.
#[derive(Debug, Default)]
pub(super) struct Ask {
    /// The query of the URL or the form.
    pub(super) query: Vec<u8>,
    pub(super) database: Option<String>,
    pub(super) default_format: Option<String>,
    pub(super) query_id: Option<String>,
    /// Answer in ClickHouse's compressed frames.
    pub(super) compress: bool,
    /// The body comes in ClickHouse's compressed frames.
    pub(super) decompress: bool,
    /// Answer only when the query has ended, so that an error is always a status.
    pub(super) wait_end_of_query: bool,
    /// Answer in gzip.
    pub(super) gzip: bool,
    /// How the body is encoded.
    pub(super) encoding: Encoding,
    /// May change nothing.
    pub(super) is_read_only: bool,
    pub(super) log_comment: Option<String>,
    /// The revision of `Native` that the client reads; 0 unless it says so.
    pub(super) revision: u64,
    /// `param_*`: values escaped as TSV fields.
    pub(super) parameters: Vec<(String, Vec<u8>)>,
    pub(super) settings: Vec<(String, String)>,
}

/// `Content-Encoding` of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    #[default]
    Plain,
    Gzip,
    Deflate,
    Lz4,
}

/// User and password, wherever the request carries them.
#[derive(Default)]
pub(super) struct Credential {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

fn pairs(
    uri: &axum::http::Uri,
) -> impl Iterator<Item = (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

impl Credential {
    /// `X-ClickHouse-User` and `-Key`, or `Authorization: Basic`, or `user` and `password` in the URL.
    pub(super) fn of(request: &Request<Body>) -> Credential {
        let headers = request.headers();
        let mut credential = Credential {
            user: text(headers, "x-clickhouse-user"),
            password: text(headers, "x-clickhouse-key"),
        };
        if credential.user.is_some() || credential.password.is_some() {
            return credential;
        }
        if let Some(basic) = text(headers, "authorization").and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("basic").then(|| decode_base64(token.trim()))?
        }) {
            let pair = String::from_utf8_lossy(&basic).into_owned();
            let (user, password) = pair.split_once(':').unwrap_or((&pair, ""));
            return Credential { user: Some(user.to_owned()), password: Some(password.to_owned()) };
        }
        for (name, value) in pairs(request.uri()) {
            match &*name {
                "user" => credential.user = Some(value.into_owned()),
                "password" => credential.password = Some(value.into_owned()),
                _ => {}
            }
        }
        credential
    }
}

impl Ask {
    /// Reads URL and headers, and the body if it is a form; gives back the body that is left.
    pub(super) async fn read(request: Request<Body>) -> Result<(Ask, Body), Fault> {
        let mut ask =
            Ask { is_read_only: matches!(*request.method(), Method::GET | Method::HEAD), ..Ask::default() };
        let headers = request.headers();
        ask.database = text(headers, "x-clickhouse-database");
        ask.default_format = text(headers, "x-clickhouse-format");
        ask.encoding = match text(headers, header::CONTENT_ENCODING.as_str()).as_deref() {
            None | Some("" | "identity") => Encoding::Plain,
            Some("gzip" | "x-gzip") => Encoding::Gzip,
            Some("deflate") => Encoding::Deflate,
            Some("lz4") => Encoding::Lz4,
            Some(other) => {
                let message =
                    format!("Content-Encoding {other} is not supported, only gzip, deflate and lz4 are");
                return Err(Fault::new(code::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", message));
            }
        };
        let accepts_gzip = text(headers, header::ACCEPT_ENCODING.as_str()).is_some_and(|accepted| {
            accepted.split(',').any(|one| one.trim().split(';').next() == Some("gzip"))
        });
        let is_form = text(headers, header::CONTENT_TYPE.as_str())
            .is_some_and(|kind| kind.to_ascii_lowercase().starts_with("multipart/form-data"));
        let uri = request.uri().clone();
        for (name, value) in pairs(&uri) {
            ask.take(&name, value.as_bytes())?;
        }
        let body = if is_form {
            ask.take_form(request).await?;
            Body::empty()
        } else {
            request.into_body()
        };
        ask.gzip &= accepts_gzip;
        Ok((ask, body))
    }

    async fn take_form(&mut self, request: Request<Body>) -> Result<(), Fault> {
        let broken =
            |error: String| Fault::bad_arguments(format!("the multipart form cannot be read: {error}"));
        let mut form = axum::extract::Multipart::from_request(request, &())
            .await
            .map_err(|error| broken(error.body_text()))?;
        while let Some(field) = form.next_field().await.map_err(|error| broken(error.body_text()))? {
            let name = field.name().unwrap_or_default().to_owned();
            let is_file = field.file_name().is_some();
            let value: Bytes = field.bytes().await.map_err(|error| broken(error.body_text()))?;
            if is_file && name != "query" {
                let message = format!("external data ({name}) is not supported by the embedded store");
                return Err(Fault::new(code::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", message));
            }
            self.take(&name, &value)?;
        }
        Ok(())
    }

    fn take(&mut self, name: &str, value: &[u8]) -> Result<(), Fault> {
        if let Some(parameter) = name.strip_prefix("param_") {
            self.parameters.push((parameter.to_owned(), value.to_vec()));
            return Ok(());
        }
        if name == "query" {
            self.query = value.to_vec();
            return Ok(());
        }
        let value = std::str::from_utf8(value)
            .map_err(|_| Fault::bad_arguments(format!("value of {name} is not UTF-8")))?;
        let is_on = || !matches!(value, "" | "0" | "false");
        match name {
            "database" => self.database = Some(value.to_owned()),
            "default_format" => self.default_format = Some(value.to_owned()),
            "query_id" => self.query_id = Some(value.to_owned()),
            "compress" => self.compress = is_on(),
            "decompress" => self.decompress = is_on(),
            "wait_end_of_query" => self.wait_end_of_query = is_on(),
            "enable_http_compression" => self.gzip = is_on(),
            "log_comment" => self.log_comment = Some(value.to_owned()),
            "client_protocol_version" => {
                self.revision = value.parse().map_err(|_| {
                    Fault::bad_arguments(format!("client_protocol_version `{value}` is not a number"))
                })?;
            }
            "user" | "password" | "" => {}
            "role" => {
                let message = "the embedded store has one user and no roles";
                return Err(Fault::new(code::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", message));
            }
            name if IGNORED.contains(&name) => {}
            name if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
                self.settings.push((name.to_owned(), value.to_owned()));
            }
            name => {
                return Err(Fault::bad_arguments(format!("{name:?} is not the name of a setting")));
            }
        }
        Ok(())
    }

    /// The statements that make a connection what this request needs. `mark` finds the query again, to cancel it.
    pub(super) fn preparations(&self, mark: &str) -> Vec<String> {
        let mut statements = Vec::with_capacity(2);
        if let Some(database) = self.database.as_deref().filter(|database| !database.is_empty()) {
            statements.push(format!("USE {}", quote(database, '`')));
        }
        let comment = match &self.log_comment {
            Some(comment) => format!("{comment} {mark}"),
            None => mark.to_owned(),
        };
        // The next two are what the library sets otherwise than a server. The last one spares each answer three threads, which cost
        // more than half of what a short one takes.
        let mut set = format!(
            "SET log_comment = {}, implicit_select = 0, allow_introspection_functions = 0, output_format_parallel_formatting = 0",
            quote(&comment, '\'')
        );
        for (name, value) in &self.settings {
            set.push_str(&format!(", {name} = {}", quote(value, '\'')));
        }
        if self.is_read_only && !self.settings.iter().any(|(name, _)| name == "readonly") {
            set.push_str(", readonly = 2");
        }
        statements.push(set);
        statements
    }
}

/// Standard base64 with or without padding; `None` if it is not.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64() {
        assert_eq!(decode_base64("dXNlcjpwYXNz").as_deref(), Some(b"user:pass".as_slice()));
        assert_eq!(decode_base64("dTpw").as_deref(), Some(b"u:p".as_slice()));
        assert_eq!(decode_base64("dTpwcA==").as_deref(), Some(b"u:pp".as_slice()));
        assert_eq!(decode_base64("d:"), None);
    }

    #[test]
    fn quoting_cannot_be_left() {
        assert_eq!(quote(r"a'b\c", '\''), r"'a\'b\\c'");
        assert_eq!(quote("a`b", '`'), r"`a\`b`");
    }

    #[tokio::test]
    async fn reads_url_and_headers() {
        let request = Request::post("/?query=SELECT%201&database=x&param_p=a%5Cn&max_threads=1&session_id=s")
            .header("X-ClickHouse-Format", "JSON")
            .header("Accept-Encoding", "gzip, deflate")
            .body(Body::from("tail"))
            .unwrap();
        let (ask, _) = Ask::read(request).await.unwrap();
        assert_eq!(ask.query, b"SELECT 1");
        assert_eq!(ask.default_format.as_deref(), Some("JSON"));
        assert_eq!(ask.parameters, vec![("p".to_owned(), b"a\\n".to_vec())]);
        assert!(!ask.gzip, "only with enable_http_compression");
        assert_eq!(
            ask.preparations("mark"),
            [
                "USE `x`",
                "SET log_comment = 'mark', implicit_select = 0, allow_introspection_functions = 0, \
                 output_format_parallel_formatting = 0, max_threads = '1'"
            ]
        );
    }

    #[tokio::test]
    async fn a_setting_cannot_carry_sql() {
        let request = Request::get("/?a%3D1%2Cb=2").body(Body::empty()).unwrap();
        assert_eq!(Ask::read(request).await.unwrap_err().code, code::BAD_ARGUMENTS);
    }
}
