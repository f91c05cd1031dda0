//! Reading the YAML files that people write, with errors that say where.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read at all.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It does not have the shape it must have.
    #[error("{path}: {detail}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// Key, line and reason.
        detail: String,
    },
    /// It has the right shape, but what it says cannot hold.
    #[error("{path}: {field}: {reason}")]
    Rule {
        /// The file.
        path: PathBuf,
        /// Path to the value at fault, such as `plans[1].charges[0].tiers[2].from`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads `path` as a `T`.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    parse(&text, path)
}

/// Reads `text`, which came from `path`, as a `T`.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, FileError> {
    serde_saphyr::from_str(text)
        .map_err(|error| FileError::Shape { path: path.to_owned(), detail: error.to_string() })
}
