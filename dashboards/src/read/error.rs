//! Why something could not be read, sorted by what a reader of the page can do about it.

use clickhouse::error::Error;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store did not answer, or stopped in the middle.
    #[error("the store did not answer: {0}")]
    Unavailable(#[source] Error),
    /// Its tables are not there.
    #[error("the store has no tables of ours yet: {0}")]
    NoTables(#[source] Error),
    /// It did not accept our credential.
    #[error("the store refused the credential: {0}")]
    Credential(#[source] Error),
    /// The query took more time or memory than a page may.
    #[error("the query went over its limits: {0}")]
    TooHeavy(#[source] Error),
    /// It refused the query.
    #[error("the store refused the query: {0}")]
    Refused(#[source] Error),
    /// What came back is not what was written.
    #[error("`{text}` in the store is not {what}")]
    Unreadable {
        /// What it should be.
        what: &'static str,
        /// What it is.
        text: String,
    },
}

impl ReadError {
    /// What is wrong, without the store's own words: those may quote a query, and belong in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            ReadError::Unavailable(_) => "did not answer",
            ReadError::NoTables(_) => "has no tables yet: run rentroll migrate",
            ReadError::Credential(_) => "refused the credential",
            ReadError::TooHeavy(_) => "stopped a query at its limit of time or memory",
            ReadError::Refused(_) => "refused a query",
            ReadError::Unreadable { .. } => "holds something that is not what was written",
        }
    }

    pub(crate) fn unreadable(what: &'static str, text: &str) -> Self {
        ReadError::Unreadable { what, text: text.chars().take(80).collect() }
    }
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        match (&error, code(&error)) {
            (Error::Network(_) | Error::TimedOut, _) => ReadError::Unavailable(error),
            // UNKNOWN_TABLE, UNKNOWN_DATABASE
            (_, Some(60 | 81)) => ReadError::NoTables(error),
            // AUTHENTICATION_FAILED and its older kin
            (_, Some(192 | 193 | 194 | 516)) => ReadError::Credential(error),
            // TOO_MANY_ROWS, TIMEOUT_EXCEEDED, TOO_SLOW, MEMORY_LIMIT_EXCEEDED, TOO_MANY_BYTES
            (_, Some(158 | 159 | 160 | 241 | 307)) => ReadError::TooHeavy(error),
            // TOO_MANY_SIMULTANEOUS_QUERIES
            (_, Some(202)) => ReadError::Unavailable(error),
            _ => ReadError::Refused(error),
        }
    }
}

/// The number in `Code: 60. DB::Exception: …`, which is all that HTTP carries of an error's kind.
fn code(error: &Error) -> Option<u32> {
    let Error::BadResponse(text) = error else { return None };
    let rest = text.split_once("Code: ")?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_their_code() {
        let sorted = |text: &str| ReadError::from(Error::BadResponse(text.to_owned()));
        assert!(matches!(sorted("Code: 60. DB::Exception: x (UNKNOWN_TABLE)"), ReadError::NoTables(_)));
        assert!(matches!(sorted("Code: 516. DB::Exception: x"), ReadError::Credential(_)));
        assert!(matches!(sorted("Code: 159. DB::Exception: x"), ReadError::TooHeavy(_)));
        assert!(matches!(sorted("Code: 47. DB::Exception: x"), ReadError::Refused(_)));
        assert!(matches!(sorted("nonsense"), ReadError::Refused(_)));
        assert!(matches!(ReadError::from(Error::TimedOut), ReadError::Unavailable(_)));
    }
}
