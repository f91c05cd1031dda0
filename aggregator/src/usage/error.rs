//! Why a question about usage is not answered.

use rentroll_engines::store::StoreError;

/// Why a question about usage is not answered.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// A parameter of the question cannot be used.
    #[error("{name}: `{given}` is not allowed: {allowed}")]
    Parameter {
        /// The parameter, by its name in [`Query`](super::Query) and the like.
        name: &'static str,
        /// What was given.
        given: String,
        /// What is allowed.
        allowed: String,
    },
    /// There is no meter of that name, or it may not be seen.
    #[error("meter: there is no meter `{given}`{}", hint(similar, known))]
    UnknownMeter {
        /// The name that was given.
        given: String,
        /// Names that resemble it, the nearest first.
        similar: Vec<String>,
        /// The names of the meters that may be seen.
        known: Vec<String>,
    },
    /// To answer it, more would be read or given than is allowed. Nothing was.
    #[error("{what} is more than {limit}: {narrow}")]
    TooLarge {
        /// What would be too much, with the number if it is known.
        what: String,
        /// How much is allowed.
        limit: u64,
        /// How to ask for less.
        narrow: String,
    },
    /// It took longer than is allowed.
    #[error("no answer within {seconds} s: {narrow}")]
    TimedOut {
        /// How long it may take.
        seconds: u64,
        /// How to ask for less.
        narrow: String,
    },
    /// It took more memory than is allowed.
    #[error("more than {bytes} bytes of memory would be needed: {narrow}")]
    Memory {
        /// How much is allowed.
        bytes: u64,
        /// How to ask for less.
        narrow: String,
    },
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl UsageError {
    pub(super) fn parameter(
        name: &'static str,
        given: impl ToString,
        allowed: impl Into<String>,
    ) -> UsageError {
        UsageError::Parameter { name, given: given.to_string(), allowed: allowed.into() }
    }
}

fn hint(similar: &[String], known: &[String]) -> String {
    match (similar.first(), known.is_empty()) {
        (Some(name), _) => format!("; did you mean `{name}`?"),
        (None, true) => "; none is defined".to_owned(),
        (None, false) => format!("; there are {}", known.join(", ")),
    }
}
