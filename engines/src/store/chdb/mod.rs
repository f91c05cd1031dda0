//! ClickHouse in this process, through the C interface of `libchdb`.
//!
//! The library is loaded when the first engine opens, never at link time: a binary that talks to a server does
//! not need it. What the rest of the crate may rely on:
//!
//! - one process holds one engine, and an engine holds one path;
//! - a connection runs one statement and is then closed. It is consumed by what it runs, so that a statement
//!   which failed in mid-output, whose partial output the library would prepend to the next result of that
//!   connection, can never be followed by another one;
//! - each handle of the library is released exactly once, on every path, by the `Drop` of its owner;
//! - nothing here is async: a call blocks its thread for as long as the statement runs.
//!
//! The engine has no sandbox: who may send SQL may read files and end the process.

mod connection;
mod exit;
mod library;

pub(crate) use connection::{Answer, Connection, Engine, Stream, Summary, is_not_streamable};
pub(crate) use library::Library;
pub use library::{LIBRARY_VERSION, library_candidates};

/// Why the engine did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The library is in none of the places where it is looked for, or cannot be used.
    #[error(
        "the ClickHouse library libchdb.so ({LIBRARY_VERSION}) was not found; looked at {}; run `cargo xtask install`, or name it in store.library or RENTROLL_CHDB_LIBRARY",
        .looked_at.join(", ")
    )]
    LibraryMissing {
        /// Every place, each with what was wrong with it.
        looked_at: Vec<String>,
    },
    /// The engine could not be started on that path.
    #[error("the engine cannot open {path}: {reason}")]
    Open {
        /// The data directory.
        path: String,
        /// What is known of the reason.
        reason: String,
    },
    /// ClickHouse refused or failed the statement.
    #[error("{text}")]
    Exception {
        /// ClickHouse's code; 0 where the library gave none.
        code: u32,
        /// ClickHouse's own words, `Code: …. DB::Exception: …`.
        text: String,
    },
}

impl EngineError {
    /// Reads the library's error text.
    pub(crate) fn exception(text: String) -> Self {
        EngineError::Exception { code: exception_code(&text).unwrap_or(0), text }
    }
}

/// The number in ClickHouse's `Code: 60. DB::Exception: …`.
pub(crate) fn exception_code(text: &str) -> Option<u32> {
    let digits = &text[text.find("Code: ")? + "Code: ".len()..];
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_code() {
        assert_eq!(
            exception_code("Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE)"),
            Some(60)
        );
        assert_eq!(exception_code("bad response: Code: 516"), Some(516));
        assert_eq!(exception_code("connection closed"), None);
        assert_eq!(exception_code("Code: x"), None);
    }
}
