//! The tenant registry: what is known of a tenant, from when on. `tenants.yaml`, and CSV ([`csv`]).
//!
//! A tenant is an app of an organisation. What is known of it has versions in time: usage before and after a change of
//! tier is of different tiers. A record without [`valid_from`](TenantRecord::valid_from) means, of a tenant that is new,
//! from the beginning; of one that is known, from the next whole minute. Several records of one tenant are its history,
//! and the one of them without a time is its beginning.
//!
//! Events of tenants that the registry does not know are metered all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::event::NAME_BYTES_MAX;
use crate::yaml::{self, FileError};

pub mod csv;

/// Longest id of a tenant, in bytes: as an event's `subject`.
pub const TENANT_BYTES_MAX: usize = NAME_BYTES_MAX;
/// Longest name and organisation, in bytes.
pub const TITLE_BYTES_MAX: usize = 256;
/// Longest name of a tier, in bytes.
pub const TIER_BYTES_MAX: usize = 64;
/// Most tags, and most external ids, of one tenant.
pub const ENTRIES_MAX: usize = 64;
/// Longest key of a tag, and name of a system with ids of its own, in bytes.
pub const KEY_BYTES_MAX: usize = 64;
/// Longest text of a tag, and id elsewhere, in bytes.
pub const VALUE_BYTES_MAX: usize = 256;

/// `tenants.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tenants {
    /// The tenants; several entries of one are its history.
    pub tenants: Vec<TenantRecord>,
}

/// What is known of a tenant, from when on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantRecord {
    /// Its id: the `subject` of its events.
    #[schemars(length(min = 1, max = 512))]
    pub tenant: String,
    /// Its name for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub name: String,
    /// The organisation that it belongs to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub organisation: String,
    /// Its tier. A name: what a tier may do and costs is said elsewhere.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub tier: String,
    /// Tags, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Its ids elsewhere, by system: `stripe: cus_123`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub external_ids: BTreeMap<String, String>,
    /// From when on, a whole minute: RFC 3339, or a day for its midnight in UTC. Without it from the beginning, if the
    /// tenant is new or has further entries; else from the next minute.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_moment")]
    #[schemars(with = "Option<String>")]
    pub valid_from: Option<DateTime<Utc>>,
    /// Nothing is known of it from then on: all else is left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

/// Where a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The file that `files.tenants` names.
    File,
    /// The API.
    Api,
    /// `rentroll tenants set` and `remove`.
    Command,
    /// A CSV or YAML file that was imported.
    Import,
}

impl Origin {
    const ALL: [Origin; 4] = [Origin::File, Origin::Api, Origin::Command, Origin::Import];

    /// As the store has it.
    pub const fn name(self) -> &'static str {
        match self {
            Origin::File => "file",
            Origin::Api => "api",
            Origin::Command => "command",
            Origin::Import => "import",
        }
    }

    /// The origin of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| origin.name() == name)
    }
}

/// What a rule is broken by: the field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Fault {
    /// The field, such as `tier` or `tags.region`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Fault {
    /// Of `field`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Fault { field: field.into(), reason: reason.into() }
    }
}

impl Tenants {
    /// Reads `tenants.yaml`, and checks it.
    ///
    /// # Errors
    /// [`FileError`] names the file, the path to the value at fault, and the reason.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let tenants: Tenants = yaml::read(path)?;
        tenants.check().map_err(|(index, fault)| FileError::Rule {
            path: path.to_owned(),
            field: format!("tenants[{index}].{}", fault.field),
            reason: fault.reason,
        })?;
        Ok(tenants)
    }

    /// The rules that the shape alone cannot express.
    ///
    /// # Errors
    /// The first record at fault, from 0, and its [`Fault`].
    pub fn check(&self) -> Result<(), (usize, Fault)> {
        for (index, record) in self.tenants.iter().enumerate() {
            record.check().map_err(|fault| (index, fault))?;
        }
        repeated(&self.tenants).into_iter().next().map_or(Ok(()), Err)
    }
}

/// The records that speak of a tenant and time of which an earlier one speaks, and why that cannot be.
pub fn repeated(records: &[TenantRecord]) -> Vec<(usize, Fault)> {
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for (index, record) in records.iter().enumerate() {
        if !seen.insert((record.tenant.as_str(), record.starts_at())) {
            let field = if record.starts_at().is_some() { "valid_from" } else { "tenant" };
            let from = Since(record.valid_from);
            faults.push((index, Fault::new(field, format!("`{}` is there twice, {from}", record.tenant))));
        }
    }
    faults
}

impl TenantRecord {
    /// The rules that the shape alone cannot express.
    ///
    /// # Errors
    /// The first field at fault.
    pub fn check(&self) -> Result<(), Fault> {
        if self.tenant.is_empty() {
            return Err(Fault::new("tenant", format!("must be 1 to {TENANT_BYTES_MAX} bytes, is empty")));
        }
        is_text("tenant", &self.tenant, TENANT_BYTES_MAX)?;
        for (field, text, bytes_max) in [
            ("name", &self.name, TITLE_BYTES_MAX),
            ("organisation", &self.organisation, TITLE_BYTES_MAX),
            ("tier", &self.tier, TIER_BYTES_MAX),
        ] {
            is_trimmed(field, text)?;
            is_text(field, text, bytes_max)?;
        }
        for (field, entries) in [("tags", &self.tags), ("external_ids", &self.external_ids)] {
            are_entries(field, entries)?;
        }
        if let Some(time) = self.valid_from {
            is_start(time).map_err(|reason| Fault::new("valid_from", reason))?;
        }
        if self.removed && !self.is_bare() {
            return Err(Fault::new(
                "removed",
                "of a tenant that is removed nothing else is known: leave it out",
            ));
        }
        Ok(())
    }

    /// Whether both say the same, be it from different times on.
    pub fn says_the_same(&self, other: &TenantRecord) -> bool {
        let facts = |record: &TenantRecord| TenantRecord {
            tenant: String::new(),
            valid_from: None,
            ..record.clone()
        };
        facts(self) == facts(other)
    }

    /// From when on, with the beginning as `None` however it was written.
    pub fn starts_at(&self) -> Option<DateTime<Utc>> {
        self.valid_from.filter(|time| *time > DateTime::UNIX_EPOCH)
    }

    fn is_bare(&self) -> bool {
        self.name.is_empty()
            && self.organisation.is_empty()
            && self.tier.is_empty()
            && self.tags.is_empty()
            && self.external_ids.is_empty()
    }
}

/// From when on, in words: `from 2026-05-17T10:01:00Z on`, `from the beginning`.
#[derive(Clone, Copy, Debug)]
pub struct Since(pub Option<DateTime<Utc>>);

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.filter(|time| *time > DateTime::UNIX_EPOCH) {
            Some(time) => write!(f, "from {} on", written(time)),
            None => f.write_str("from the beginning"),
        }
    }
}

/// A time as it is written here: RFC 3339, UTC, to the second.
pub fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Reads the time from which a record holds: RFC 3339, or a day for its midnight in UTC.
///
/// # Errors
/// Says what is understood.
pub fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.with_timezone(&Utc));
    }
    match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        Ok(day) => Ok(day.and_time(NaiveTime::MIN).and_utc()),
        Err(_) => Err(format!("`{text}` is no time: write 2026-05-01 (UTC) or 2026-05-01T10:30:00Z")),
    }
}

/// Whether a record can hold from then on.
///
/// # Errors
/// Why not.
pub fn is_start(time: DateTime<Utc>) -> Result<(), String> {
    if time.timestamp() % 60 != 0 || time.timestamp_subsec_nanos() != 0 {
        return Err(format!("{} is not a whole minute", time.to_rfc3339_opts(SecondsFormat::AutoSi, true)));
    }
    match (0..=i64::from(u32::MAX)).contains(&time.timestamp()) {
        true => Ok(()),
        false => Err(format!("{} is outside 1970 to 2106", written(time))),
    }
}

fn optional_moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| moment(&text).map_err(serde::de::Error::custom)).transpose()
}

fn are_entries(field: &str, entries: &BTreeMap<String, String>) -> Result<(), Fault> {
    if entries.len() > ENTRIES_MAX {
        return Err(Fault::new(field, format!("{} are too many, at most {ENTRIES_MAX}", entries.len())));
    }
    for (key, value) in entries {
        is_key(key).map_err(|reason| Fault::new(field, reason))?;
        let field = format!("{field}.{key}");
        if value.is_empty() {
            return Err(Fault::new(field, "must not be empty: leave it out"));
        }
        is_trimmed(&field, value)?;
        is_text(&field, value, VALUE_BYTES_MAX)?;
    }
    Ok(())
}

/// Whether `key` can name a tag or a system: it stands in the headers of CSV, and in addresses.
///
/// # Errors
/// Why not.
pub fn is_key(key: &str) -> Result<(), String> {
    let mut bytes = key.bytes();
    let holds = bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_-./:".contains(&byte))
        && key.len() <= KEY_BYTES_MAX;
    match holds {
        true => Ok(()),
        false => Err(format!(
            "`{}`: only letters, digits and _ - . / :, beginning with a letter or digit, at most {KEY_BYTES_MAX}",
            key.escape_debug()
        )),
    }
}

fn is_text(field: &str, text: &str, bytes_max: usize) -> Result<(), Fault> {
    if text.len() > bytes_max {
        return Err(Fault::new(field, format!("{} bytes are too many, at most {bytes_max}", text.len())));
    }
    match text.chars().find(|letter| letter.is_control()) {
        Some(letter) => {
            Err(Fault::new(field, format!("has the control character {}", letter.escape_unicode())))
        }
        None => Ok(()),
    }
}

/// `Acme` and `Acme ` would be two organisations that look like one.
fn is_trimmed(field: &str, text: &str) -> Result<(), Fault> {
    match text.trim() == text {
        true => Ok(()),
        false => Err(Fault::new(field, "begins or ends with a space")),
    }
}

#[cfg(test)]
mod tests;
