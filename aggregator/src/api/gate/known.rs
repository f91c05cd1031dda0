//! What a reader may see of the registries of meters and tenants.

use chrono::{DateTime, Utc};

use super::Reading;
use crate::api::problem::Problem;
use crate::meters::history::Stored;
use crate::tenants::{Listing, Organisation, Page, Registry, TenantVersion};
use crate::usage::Scope;

impl Reading {
    /// The definitions of meters that may be seen, all versions, in the order of name and version.
    ///
    /// # Errors
    /// The store's.
    pub async fn meter_versions(&self) -> Result<Vec<Stored>, Problem> {
        let mut rows = crate::meters::registry::stored(&self.gate.0.reads).await?;
        rows.retain(|row| self.scope().shows_meter(&row.name));
        Ok(rows)
    }

    /// A page of the tenants that may be seen.
    ///
    /// # Errors
    /// The store's.
    pub async fn known_tenants(&self, listing: &Listing) -> Result<Page, Problem> {
        let Scope::Tenant { tenant, .. } = self.scope() else {
            return Ok(self.registry().list(listing).await?);
        };
        let own = self.registry().at(tenant, listing.at).await?;
        let tenants = own.into_iter().filter(|own| is_listed(own, listing)).collect();
        Ok(Page { tenants, next: None })
    }

    /// All versions of a tenant; none of one that may not be seen, as of one that is not known.
    ///
    /// # Errors
    /// The store's.
    pub async fn known_tenant(&self, tenant: &str) -> Result<Vec<TenantVersion>, Problem> {
        match self.scope() {
            Scope::Tenant { tenant: own, .. } if own != tenant => Ok(Vec::new()),
            _ => Ok(self.registry().get(tenant).await?),
        }
    }

    /// All versions of all tenants that may be seen, in the order of tenants and time.
    ///
    /// # Errors
    /// The store's.
    pub async fn all_tenants(&self) -> Result<Vec<TenantVersion>, Problem> {
        match self.scope() {
            Scope::Tenant { tenant, .. } => Ok(self.registry().get(tenant).await?),
            Scope::All => Ok(self.registry().versions().await?),
        }
    }

    /// Organisations, after `cursor`, that have tenants at `at`; that of the one tenant that may be seen.
    ///
    /// # Errors
    /// The store's.
    pub async fn organisations(
        &self,
        at: DateTime<Utc>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Organisation>, Problem> {
        let Scope::Tenant { tenant, .. } = self.scope() else {
            return Ok(self.registry().organisations(at, cursor, limit as u64).await?);
        };
        let own = self.registry().at(tenant, at).await?.map(|own| own.record.organisation);
        let own = own.filter(|own| cursor.unwrap_or_default() < own.as_str());
        Ok(own.map(|organisation| Organisation { organisation, tenants: 1 }).into_iter().collect())
    }

    fn registry(&self) -> Registry {
        Registry::new(self.gate.0.reads.clone())
    }
}

/// As the store decides it for all tenants.
fn is_listed(version: &TenantVersion, listing: &Listing) -> bool {
    let record = &version.record;
    let search = listing.search.as_deref().unwrap_or_default().to_lowercase();
    let has = |text: &str| text.to_lowercase().contains(&search);
    let is_found = has(&record.tenant)
        || has(&record.name)
        || has(&record.organisation)
        || record.external_ids.values().any(|id| has(id));
    is_found
        && listing.organisation.as_ref().is_none_or(|one| *one == record.organisation)
        && listing.tier.as_ref().is_none_or(|one| *one == record.tier)
        && listing.tags.iter().all(|(key, value)| record.tags.get(key) == Some(value))
        && listing.cursor.as_ref().is_none_or(|cursor| *cursor < record.tenant)
}
