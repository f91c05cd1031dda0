//! Who uses how much, with what is known of each.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use clickhouse::Row;
use rentroll_schemas::Quantity;
use serde::Deserialize;

use super::TenantsError;
use super::list::{self, Listing};
use super::registry::Registry;
use crate::usage::overview::TenantUsed;

/// What a tenant uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The tenant.
    pub tenant: String,
    /// Its name for people; empty for none, as the next two.
    pub name: String,
    /// Its organisation.
    pub organisation: String,
    /// Its tier.
    pub tier: String,
    /// Events that count.
    pub events: u64,
    /// The sums of the measures that were asked for, exact.
    pub sums: [Quantity; 2],
    /// When its first event happened; `None` without events, as the next one.
    pub first_event: Option<DateTime<Utc>>,
    /// When its last event happened.
    pub last_event: Option<DateTime<Utc>>,
}

/// The same over all tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsedTotals {
    /// Tenants with events.
    pub tenants: u64,
    /// Tenants of which something is known, with events or without.
    pub registered: u64,
    /// Events that count.
    pub events: u64,
    /// The sums of the measures that were asked for, exact.
    pub sums: [Quantity; 2],
}

#[derive(Row, Deserialize)]
struct Known {
    tenant: String,
    name: String,
    organisation: String,
    tier: String,
    matches: u8,
}

impl Registry {
    /// Tenants that have used something or are known, and match `listing`: most events first, at most its limit; and the sums over
    /// all that match, whatever the limit.
    ///
    /// # Errors
    /// The store's.
    pub async fn used(
        &self,
        listing: &Listing,
        used: Vec<TenantUsed>,
    ) -> Result<(Vec<Used>, UsedTotals), TenantsError> {
        let sql = format!(
            "SELECT tenant, name, organisation, tier, toUInt8({}) AS matches FROM ({})",
            list::MATCHES,
            list::known_sql("true")
        );
        let query = list::bind(self.store.client().query(&sql), listing);
        let known: Vec<Known> = query.fetch_all().await.map_err(|error| self.store.error(error))?;
        let mut known: HashMap<String, Known> =
            known.into_iter().map(|known| (known.tenant.clone(), known)).collect();
        let mut all = Vec::new();
        let mut totals = UsedTotals::default();
        for TenantUsed { tenant, events, sums, first, last } in used {
            let known = known.remove(&tenant);
            let matches =
                known.as_ref().map_or_else(|| is_listed(listing, &tenant), |known| known.matches != 0);
            if !matches {
                continue;
            }
            totals.tenants += 1;
            totals.registered += u64::from(known.is_some());
            totals.events += events;
            for (total, sum) in totals.sums.iter_mut().zip(sums) {
                *total = total.checked_add(sum).ok_or_else(|| TenantsError::Stored {
                    tenant: tenant.clone(),
                    reason: "with its measures the sum over all tenants has more than 38 digits".to_owned(),
                })?;
            }
            let (name, organisation, tier) =
                known.map(|known| (known.name, known.organisation, known.tier)).unwrap_or_default();
            let (first_event, last_event) = (Some(first), Some(last));
            all.push(Used { tenant, name, organisation, tier, events, sums, first_event, last_event });
        }
        for Known { tenant, name, organisation, tier, .. } in
            known.into_values().filter(|known| known.matches != 0)
        {
            totals.registered += 1;
            let (events, sums, first_event, last_event) = (0, [Quantity::ZERO; 2], None, None);
            all.push(Used { tenant, name, organisation, tier, events, sums, first_event, last_event });
        }
        all.sort_by(|one, other| other.events.cmp(&one.events).then_with(|| one.tenant.cmp(&other.tenant)));
        all.truncate(usize::try_from(listing.limit).unwrap_or(usize::MAX));
        Ok((all, totals))
    }
}

/// Whether a tenant of which nothing is known is one of those that are listed; as [`list::MATCHES`].
fn is_listed(listing: &Listing, tenant: &str) -> bool {
    let is_none = |wanted: &Option<String>| wanted.as_deref().is_none_or(str::is_empty);
    let found = |text: &String| tenant.to_lowercase().contains(&text.to_lowercase());
    is_none(&listing.organisation)
        && is_none(&listing.tier)
        && listing.tags.is_empty()
        && listing.search.as_ref().is_none_or(found)
}
