//! The tenant registry in the store: who a tenant is, from when on.
//!
//! - [`registry`]: the table `tenants`, read and changed;
//! - [`history`]: from rows to versions with their times, pure;
//! - [`plan`]: what records come to, given what is known, pure;
//! - [`import`]: a CSV file, all or nothing;
//! - [`list`]: pages of tenants and organisations, as of a time;
//! - [`used`]: who uses how much, with what is known of them.
//!
//! # What holds
//! Rows are added, never changed. Of several rows of one tenant and `valid_from` the one that was recorded last holds; a
//! version holds until the next one begins. A record that says what is known adds no row, so that everything here can be
//! repeated. What is known of a closed billing period does not change.
//!
//! # The file
//! An entry of the file is compared with what was last applied *of the file*, not with what is known: what the API or a
//! command changed since stays, until the entry itself is changed. A tenant that is taken out of the file stays known:
//! `removed: true` takes it out of the registry.
//!
//! # Limits
//! Of two who change one tenant at once, the one that is recorded last holds.

use chrono::{DateTime, Utc};
use rentroll_engines::store::{Store, StoreError};
use rentroll_schemas::tenant::{Fault, Origin, Since, Tenants};
use serde::Serialize;

pub mod history;
pub mod import;
pub mod list;
pub mod plan;
pub mod registry;
pub mod used;

pub use history::TenantVersion;
pub use import::{ImportOptions, Imported};
pub use list::{Listing, Organisation, Page};
pub use plan::{Action, Change, Difference};
pub use registry::Registry;

/// A record that is not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("tenants[{index}] (`{tenant}`): {fault}")]
pub struct Refusal {
    /// Which of the records that were given, from 0.
    pub index: usize,
    /// Its tenant.
    pub tenant: String,
    /// The field, and the reason.
    #[serde(flatten)]
    pub fault: Fault,
}

/// Why the registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum TenantsError {
    /// Records that are not taken, at least one; nothing was written.
    #[error("{}", all(.0))]
    Refused(Vec<Refusal>),
    /// Nothing is known of that tenant.
    #[error("tenant: `{0}` is not in the registry")]
    Unknown(String),
    /// The store did not answer, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row is none that this program writes.
    #[error("tenant `{tenant}`: {reason}")]
    Stored {
        /// The tenant.
        tenant: String,
        /// What is wrong with its row.
        reason: String,
    },
}

fn all(refusals: &[Refusal]) -> String {
    let first = refusals.first().map(ToString::to_string).unwrap_or_default();
    match refusals.len() {
        0 | 1 => first,
        more => format!("{first}; and {} more", more - 1),
    }
}

/// What became of the file's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seeded {
    /// What changed; entries that say what is known are left out.
    pub changes: Vec<Change>,
    /// Entries that are not taken: for what they would change in a closed billing period.
    pub refusals: Vec<Refusal>,
}

/// Applies the entries of `tenants.yaml`. Those that would change a closed period are passed over and told in the log: usage is
/// worth taking in without them.
///
/// # Errors
/// [`TenantsError::Refused`] if an entry has a mistake, which [`Tenants::read`] finds: nothing is applied. The store's.
pub async fn seed(store: &Store, file: &Tenants, now: DateTime<Utc>) -> Result<Seeded, TenantsError> {
    if let Err((index, fault)) = file.check() {
        let tenant = file.tenants.get(index).map(|record| record.tenant.clone()).unwrap_or_default();
        return Err(TenantsError::Refused(vec![Refusal { index, tenant, fault }]));
    }
    let registry = Registry::new(store.clone());
    let plan::Plan { mut changes, refusals, rows } = registry.plan(&file.tenants, Origin::File, now).await?;
    registry.write(&rows).await?;
    changes.retain(|change| change.action != Action::Unchanged);
    for change in &changes {
        tracing::debug!(tenant = change.tenant, action = ?change.action, "{}", Since(change.valid_from));
    }
    if !changes.is_empty() {
        tracing::info!(changes = changes.len(), "the tenant registry was brought up to its file");
    }
    for refusal in &refusals {
        tracing::warn!("files.tenants: {refusal}");
    }
    Ok(Seeded { changes, refusals })
}
