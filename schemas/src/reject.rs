//! What could not be accepted, kept so that it can be inspected and replayed.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::Identity;

/// A refused line or event, with everything that is needed to find out why and to try again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reject {
    /// Where it came from: the source's name.
    pub source: String,
    /// Its place in the source: `file:byte-offset`, `topic/partition/offset`.
    pub place: String,
    /// The tenant, where the credential or the record's header named one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// Why, as a stable word that can be counted: see [`reason`].
    pub reason: String,
    /// The field at fault, empty if the whole is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// Why, as a sentence.
    pub detail: String,
    /// When it was refused.
    pub rejected_at: DateTime<Utc>,
    /// Its source had declared a backfill: its time is not held against the window, the second time neither.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backfill: bool,
    /// The original bytes.
    #[serde(with = "hex_bytes")]
    pub bytes: Vec<u8>,
}

impl Reject {
    /// The same line refused twice (a file fed again) is one reject.
    pub fn identity(&self) -> Identity {
        Identity::of("", &self.source, &self.place)
    }
}

/// The words of [`Reject::reason`].
pub mod reason {
    /// Not the format that the source declares.
    pub const UNREADABLE: &str = "unreadable";
    /// A field is missing or has the wrong type or value.
    pub const INVALID: &str = "invalid";
    /// Longer than the limit.
    pub const TOO_LARGE: &str = "too_large";
    /// Older than the window, and not of a declared backfill.
    pub const TOO_OLD: &str = "too_old";
    /// More than five minutes in the future.
    pub const IN_FUTURE: &str = "in_future";
    /// It names a tenant or a source that its sender may not speak for.
    pub const FORBIDDEN: &str = "forbidden";
    /// The record's key is not the hash of what the record says.
    pub const IDENTITY_MISMATCH: &str = "identity_mismatch";
}

/// Bytes in JSON: they are often not UTF-8, that being why they were refused.
mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        hex::decode(text.as_ref()).map_err(serde::de::Error::custom)
    }
}
