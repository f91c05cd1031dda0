//! Errors as a ClickHouse server gives them.

use axum::http::StatusCode;

use crate::store::chdb::EngineError;

/// What ends a request other than its answer: ClickHouse's code and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: u32,
    /// `Code: …. DB::Exception: … (NAME) (version …)`, without a line break at the end.
    pub(super) text: String,
}

/// Codes that the face itself gives.
pub(super) mod code {
    pub(crate) const SYNTAX_ERROR: u32 = 62;
    pub(crate) const BAD_ARGUMENTS: u32 = 36;
    pub(crate) const NOT_IMPLEMENTED: u32 = 48;
    pub(crate) const CANNOT_READ_ALL_DATA: u32 = 33;
    pub(crate) const CHECKSUM_DOESNT_MATCH: u32 = 40;
    pub(crate) const REQUIRED_PASSWORD: u32 = 194;
    pub(crate) const TOO_MANY_SIMULTANEOUS_QUERIES: u32 = 202;
    pub(crate) const QUERY_IS_TOO_LARGE: u32 = 223;
    pub(crate) const NOT_ENOUGH_SPACE: u32 = 243;
    pub(crate) const QUERY_WAS_CANCELLED: u32 = 394;
    pub(crate) const AUTHENTICATION_FAILED: u32 = 516;
    pub(crate) const SYSTEM_ERROR: u32 = 425;
}

impl Fault {
    /// A fault of the face's own, in ClickHouse's form.
    pub(super) fn new(code: u32, name: &str, message: impl AsRef<str>) -> Self {
        Fault { code, text: format!("Code: {code}. DB::Exception: {}. ({name})", message.as_ref()) }
    }

    pub(super) fn syntax(message: &str) -> Self {
        Self::new(code::SYNTAX_ERROR, "SYNTAX_ERROR", message)
    }

    pub(super) fn bad_arguments(message: impl AsRef<str>) -> Self {
        Self::new(code::BAD_ARGUMENTS, "BAD_ARGUMENTS", message)
    }

    /// Adds the server's version, as ClickHouse does: clients find the end of an error by it.
    pub(super) fn with_version(mut self, version: &str) -> Self {
        if !self.text.ends_with("(official build))") {
            self.text = format!("{} (version {version} (official build))", self.text.trim_end());
        }
        self
    }

    /// The HTTP status that a ClickHouse server gives for the code.
    pub(super) fn status(&self) -> StatusCode {
        match self.code {
            code::REQUIRED_PASSWORD => StatusCode::UNAUTHORIZED,
            192 | 193 | code::AUTHENTICATION_FAILED | 497 => StatusCode::FORBIDDEN,
            // What cannot be parsed or does not fit.
            6
            | 26
            | 27
            | code::BAD_ARGUMENTS
            | 38
            | 41
            | 42
            | 43
            | 53
            | code::SYNTAX_ERROR
            | 69
            | 70
            | 72
            | 117
            | 130
            | 131
            | 164
            | 377
            | 427
            | 456
            | 457 => StatusCode::BAD_REQUEST,
            // What is not there.
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 79 | 80 | 81 | 115 => StatusCode::NOT_FOUND,
            code::QUERY_IS_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
            code::NOT_IMPLEMENTED => StatusCode::NOT_IMPLEMENTED,
            code::TOO_MANY_SIMULTANEOUS_QUERIES => StatusCode::SERVICE_UNAVAILABLE,
            code::NOT_ENOUGH_SPACE => StatusCode::INSUFFICIENT_STORAGE,
            159 => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Exception { code: 0, text } => Fault::new(1002, "UNKNOWN_EXCEPTION", text),
            EngineError::Exception { code, text } => Fault { code, text: text.trim_end().to_owned() },
            other => Fault::new(code::SYSTEM_ERROR, "SYSTEM_ERROR", other.to_string()),
        }
    }
}
