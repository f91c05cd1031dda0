//! Who uses how much: events and sums of measures per tenant, with what is known of each now.
//!
//! Counted from the events themselves, all of them: a look at a set-up, not the way to answer often.

use clickhouse::Row;
use rentroll_schemas::effective;
use serde::{Deserialize, Serialize};

use super::TenantsError;
use super::list::{self, Listing};
use super::registry::Registry;

/// What a tenant uses.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
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
    /// Sum of the measure `bytes`, exact.
    pub bytes: String,
    /// Sum of the measure that was asked for, exact.
    pub total: String,
    /// When its first event happened, UTC; `None` without events, as the next one.
    pub first_event: Option<String>,
    /// When its last event happened, UTC.
    pub last_event: Option<String>,
}

/// The same over all tenants.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
pub struct UsedTotals {
    /// Tenants with events.
    pub tenants: u64,
    /// Tenants of which something is known, with events or without.
    pub registered: u64,
    /// Events that count.
    pub events: u64,
    /// Sum of the measure `bytes`, exact.
    pub bytes: String,
    /// Sum of the measure that was asked for, exact.
    pub total: String,
}

/// What each tenant uses, in columns `used_…`, with what is known of it.
fn per_tenant() -> String {
    // What counts: without what was voided or amended, and without voids.
    let counts = effective::condition_sql("1");
    let known = list::known_sql("true");
    format!(
        "SELECT tenant, max(given_name) AS name, max(given_organisation) AS organisation, max(given_tier) AS tier, \
         argMax(given_tags, is_given) AS tags, argMax(given_ids, is_given) AS external_ids, max(is_given) AS is_known, \
         sum(own_events) AS used_events, sum(own_bytes) AS used_bytes, sum(own_total) AS used_total, \
         minIf(own_first, own_events > 0) AS used_first, max(own_last) AS used_last FROM (\
         SELECT tenant, '' AS given_name, '' AS given_organisation, '' AS given_tier, \
         map()::Map(String, String) AS given_tags, map()::Map(String, String) AS given_ids, 0 AS is_given, \
         count() AS own_events, sum(measures['bytes']) AS own_bytes, sum(measures[{{measure:String}}]) AS own_total, \
         min(time) AS own_first, max(time) AS own_last FROM events WHERE {counts} GROUP BY tenant \
         UNION ALL SELECT tenant, name, organisation, tier, tags, external_ids, 1, 0, 0, 0, \
         toDateTime64(0, 6, 'UTC'), toDateTime64(0, 6, 'UTC') FROM ({known})) GROUP BY tenant"
    )
}

impl Registry {
    /// Tenants that have events or are known, and match `listing`: most events first, at most its limit. `total` is of
    /// `measure`.
    ///
    /// # Errors
    /// The store's.
    pub async fn used(&self, listing: &Listing, measure: &str) -> Result<Vec<Used>, TenantsError> {
        let sql = format!(
            "SELECT tenant, name, organisation, tier, used_events AS events, toString(used_bytes) AS bytes, \
             toString(used_total) AS total, \
             if(used_events = 0, NULL, formatDateTime(used_first, '%Y-%m-%d %H:%i:%S')) AS first_event, \
             if(used_events = 0, NULL, formatDateTime(used_last, '%Y-%m-%d %H:%i:%S')) AS last_event \
             FROM ({}) WHERE {} ORDER BY events DESC, tenant LIMIT {{limit:UInt64}}",
            per_tenant(),
            list::MATCHES
        );
        let query = list::bind(self.store.client().query(&sql), listing);
        let query = query.param("measure", measure).param("limit", listing.limit);
        Ok(query.fetch_all().await.map_err(|error| self.store.error(error))?)
    }

    /// The sums over all tenants that match `listing`, whatever its limit.
    ///
    /// # Errors
    /// The store's.
    pub async fn used_totals(&self, listing: &Listing, measure: &str) -> Result<UsedTotals, TenantsError> {
        let sql = format!(
            "SELECT countIf(used_events > 0) AS tenants, countIf(is_known) AS registered, sum(used_events) AS events, \
             toString(sum(used_bytes)) AS bytes, toString(sum(used_total)) AS total FROM ({}) WHERE {}",
            per_tenant(),
            list::MATCHES
        );
        let query = list::bind(self.store.client().query(&sql), listing).param("measure", measure);
        Ok(query.fetch_one().await.map_err(|error| self.store.error(error))?)
    }
}
