//! What can go wrong with the store, sorted by what the caller can do about it.

use std::path::PathBuf;

use super::chdb::{EngineError, exception_code};

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is away, or too busy: the same request may succeed later.
    #[error("the store at {url} does not answer: {reason}")]
    Unavailable {
        /// Where it should be.
        url: String,
        /// What was seen.
        reason: String,
    },
    /// It understood and said no; the same request will fail again.
    #[error("the store refused: {message}")]
    Refused {
        /// ClickHouse's code, such as 117 for data that cannot be read, or 53 for a type that does not match.
        code: u32,
        /// ClickHouse's words.
        message: String,
    },
    /// Its disk is full: nothing was stored; retry once there is room.
    #[error("the store's disk is full: {message}")]
    Full {
        /// ClickHouse's words.
        message: String,
    },
    /// It took neither user nor password.
    #[error(
        "the store at {url} does not accept the credential of user `{user}`: set store.user and store.password"
    )]
    Credential {
        /// Where it is.
        url: String,
        /// The user.
        user: String,
    },
    /// Its answer is not what was asked for: a version that does not fit, or a proxy between.
    #[error("the store's answer cannot be read: {reason}")]
    Answer {
        /// What does not fit.
        reason: String,
    },
    /// Its schema is not the one of this program.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The ClickHouse library is not installed.
    #[error(transparent)]
    LibraryMissing(EngineError),
    /// The embedded engine cannot be started.
    #[error(transparent)]
    Engine(EngineError),
    /// This process has another embedded store open, and can have only one.
    #[error(
        "the embedded store in {path} cannot be opened: this process has the one in {open} open, and can have only one"
    )]
    Occupied {
        /// The data directory.
        path: PathBuf,
        /// The one that is open.
        open: PathBuf,
    },
    /// Another process holds the data directory and does not serve it to us.
    #[error(
        "the store in {path} is in use by {owner}, which does not answer: stop it, or wait until it has stopped"
    )]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Who holds it.
        owner: String,
    },
    /// The address of the HTTP face cannot be listened on.
    #[error("cannot serve the store on {address}: {source}; choose another store.listen, or port 0 for any")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration cannot be used.
    #[error("{key}: {reason}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// A file of the data directory cannot be used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How a store's schema can differ from this program's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A newer program has been here.
    #[error("this binary knows schema {known}, the store has {found}: use a newer rentroll")]
    Newer {
        /// The last step that this program knows.
        known: u32,
        /// The last step in the store.
        found: u32,
    },
    /// Steps are missing, and this program was not asked to apply them.
    #[error("this binary needs schema {known}, the store has {found}: run `rentroll migrate`")]
    Older {
        /// The last step that this program knows.
        known: u32,
        /// The last step in the store.
        found: u32,
    },
    /// A step that was applied is not the one that this program has.
    #[error(
        "schema step {version} ({name}) was edited after it was applied: the store has checksum {found}, this binary {known}; use the binary that made the store, or restore a backup"
    )]
    Edited {
        /// The step.
        version: u32,
        /// Its name.
        name: String,
        /// The checksum in the store.
        found: String,
        /// The checksum here.
        known: String,
    },
    /// This process stood still in the midst of a step, and another one took over.
    #[error("another process has taken over bringing the schema up to date: start again")]
    Overtaken,
    /// A step lies after one that was never applied.
    #[error("the store's schema has step {found} but not step {missing}: restore a backup, or ask for help")]
    Gap {
        /// The step that is missing.
        missing: u32,
        /// A later step that is there.
        found: u32,
    },
    /// A table does not have a setting on which exactly-once storage stands.
    #[error(
        "table {table} has {setting} = {found}, needs {needed}: a retried batch could be stored twice or lost; restore it with ALTER TABLE {table} MODIFY SETTING {setting} = {needed}"
    )]
    Setting {
        /// The table.
        table: String,
        /// The setting.
        setting: String,
        /// What it is.
        found: String,
        /// What it must be.
        needed: String,
    },
}

impl StoreError {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. } | StoreError::Full { .. })
    }

    /// Sorts an error of the `clickhouse` crate that came from the store at `url`.
    pub fn from_clickhouse(error: clickhouse::error::Error, url: &str, user: &str) -> StoreError {
        use clickhouse::error::Error;
        match error {
            Error::BadResponse(text) => from_text(text, url, user),
            Error::Network(_) | Error::TimedOut => {
                StoreError::Unavailable { url: url.to_owned(), reason: with_causes(&error) }
            }
            Error::InvalidParams(_) | Error::Unsupported(_) => {
                StoreError::Config { key: "store.url", reason: with_causes(&error) }
            }
            other => StoreError::Answer { reason: with_causes(&other) },
        }
    }
}

/// Sorts ClickHouse's words.
fn from_text(text: String, url: &str, user: &str) -> StoreError {
    let unavailable = |reason: String| StoreError::Unavailable { url: url.to_owned(), reason };
    let Some(code) = exception_code(&text) else {
        // Not ClickHouse's words: a proxy's, or a server's that is going down.
        return unavailable(text);
    };
    if code == 243 || text.contains("No space left on device") || text.contains("errno: 28") {
        return StoreError::Full { message: text };
    }
    match code {
        192 | 193 | 194 | 516 => StoreError::Credential { url: url.to_owned(), user: user.to_owned() },
        // Timeouts, limits of the moment, a cluster's coordination, a server that goes down.
        74 | 76 | 95 | 159 | 160 | 173 | 198 | 202 | 203 | 209 | 210 | 225 | 236 | 241 | 242 | 244 | 252
        | 279 | 285 | 286 | 319 | 341 | 364 | 373 | 394 | 425 | 439 | 473 | 574 | 659 | 667 | 999 => {
            unavailable(text)
        }
        code => StoreError::Refused { code, message: text },
    }
}

/// An error with what caused it: hyper's own text leaves the cause out.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl From<EngineError> for StoreError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::LibraryMissing { .. } => StoreError::LibraryMissing(error),
            other => StoreError::Engine(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(text: &str) -> StoreError {
        from_text(text.to_owned(), "http://h", "u")
    }

    #[test]
    fn sorts_by_what_can_be_done() {
        assert!(sorted("Code: 241. DB::Exception: Memory limit exceeded").is_retryable());
        assert!(sorted("502 Bad Gateway").is_retryable());
        assert!(matches!(sorted("Code: 243. DB::Exception: Cannot reserve 1 MiB"), StoreError::Full { .. }));
        let full = "Code: 75. DB::ErrnoException: Cannot write, errno: 28, strerror: No space left on device";
        assert!(matches!(sorted(full), StoreError::Full { .. }));
        for code in [53, 117, 60] {
            let error = sorted(&format!("Code: {code}. DB::Exception: x"));
            assert!(matches!(error, StoreError::Refused { code: found, .. } if found == code), "{error}");
            assert!(!error.is_retryable());
        }
        assert!(matches!(sorted("Code: 516. DB::Exception: x"), StoreError::Credential { .. }));
    }
}
