//! Pages of tenants and organisations, as of a time.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use clickhouse::Row;
use rentroll_schemas::tenant::TenantRecord;
use serde::{Deserialize, Serialize};

use super::TenantsError;
use super::history::TenantVersion;
use super::registry::{self, Registry};

/// Which tenants are listed. All conditions hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// What is known at this time.
    pub at: DateTime<Utc>,
    /// In the id, the name, the organisation or an id elsewhere, in any case of letters.
    pub search: Option<String>,
    /// Of this organisation; empty: of none.
    pub organisation: Option<String>,
    /// Of this tier; empty: of none.
    pub tier: Option<String>,
    /// With all of these tags.
    pub tags: BTreeMap<String, String>,
    /// After this tenant: [`Page::next`] of the page before.
    pub cursor: Option<String>,
    /// At most this many.
    pub limit: u64,
}

impl Listing {
    /// The first page of `limit` of all that is known at `at`.
    pub fn new(at: DateTime<Utc>, limit: u64) -> Self {
        Listing {
            at,
            search: None,
            organisation: None,
            tier: None,
            tags: BTreeMap::new(),
            cursor: None,
            limit,
        }
    }
}

/// A page of tenants, in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Page {
    /// What is known of each.
    pub tenants: Vec<TenantVersion>,
    /// The cursor of the next page; `None` on the last.
    pub next: Option<String>,
}

/// An organisation.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
pub struct Organisation {
    /// Its name.
    pub organisation: String,
    /// Its tenants.
    pub tenants: u64,
}

/// What is known of each tenant at `at` (seconds): columns `tenant`, `known` (0 for nothing), `version` (a tuple of
/// [`FIELDS`]) and `next` (when the next version begins; 0 for never). `{}` stands for a condition on `tenant`.
fn in_force(condition: &str) -> String {
    format!(
        "SELECT tenant, argMaxIf((valid_from, name, organisation, toString(tier), tags, external_ids, is_removed, \
         toString(origin), recorded_at), (valid_from, recorded_at), valid_from <= toDateTime({{at:UInt32}}, 'UTC')) AS \
         version, countIf(valid_from <= toDateTime({{at:UInt32}}, 'UTC')) AS known, \
         minIf(valid_from, valid_from > toDateTime({{at:UInt32}}, 'UTC')) AS next \
         FROM tenants WHERE {condition} GROUP BY tenant"
    )
}

/// The same with a column per field, without tenants of which nothing is known.
pub(super) fn known_sql(condition: &str) -> String {
    format!(
        "SELECT tenant, version.1 AS valid_from, next AS valid_to, version.2 AS name, version.3 AS organisation, \
         version.4 AS tier, version.5 AS tags, version.6 AS external_ids, version.8 AS origin, version.9 AS recorded_at \
         FROM ({}) WHERE known > 0 AND NOT version.7",
        in_force(condition)
    )
}

/// A moment as the store has times of versions: seconds since 1970, none before and none after 2106.
pub(super) fn seconds(at: DateTime<Utc>) -> u32 {
    u32::try_from(at.timestamp().max(0)).unwrap_or(u32::MAX)
}

/// The conditions of a [`Listing`] on what is known, as SQL over columns of [`known_sql`].
pub(super) const MATCHES: &str = "({search:String} = '' \
    OR positionCaseInsensitiveUTF8(tenant, {search:String}) > 0 \
    OR positionCaseInsensitiveUTF8(name, {search:String}) > 0 \
    OR positionCaseInsensitiveUTF8(organisation, {search:String}) > 0 \
    OR arrayExists(id -> positionCaseInsensitiveUTF8(id, {search:String}) > 0, mapValues(external_ids))) \
    AND ({any_organisation:Bool} OR organisation = {organisation:String}) \
    AND ({any_tier:Bool} OR tier = {tier:String}) \
    AND arrayAll((tag_key, tag_value) -> mapContains(tags, tag_key) AND tags[tag_key] = tag_value, \
        {tag_keys:Array(String)}, {tag_values:Array(String)})";

/// Binds what [`MATCHES`] and [`known_sql`] need.
pub(super) fn bind(query: clickhouse::query::Query, listing: &Listing) -> clickhouse::query::Query {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    query
        .param("at", seconds(listing.at))
        .param("search", text(&listing.search))
        .param("any_organisation", listing.organisation.is_none())
        .param("organisation", text(&listing.organisation))
        .param("any_tier", listing.tier.is_none())
        .param("tier", text(&listing.tier))
        .param("tag_keys", listing.tags.keys().collect::<Vec<_>>())
        .param("tag_values", listing.tags.values().collect::<Vec<_>>())
}

#[derive(Row, Deserialize)]
struct Line {
    tenant: String,
    #[serde(with = "clickhouse::serde::chrono::datetime")]
    valid_from: DateTime<Utc>,
    #[serde(with = "clickhouse::serde::chrono::datetime")]
    valid_to: DateTime<Utc>,
    name: String,
    organisation: String,
    tier: String,
    tags: Vec<(String, String)>,
    external_ids: Vec<(String, String)>,
    origin: String,
    #[serde(with = "clickhouse::serde::chrono::datetime64::micros")]
    recorded_at: DateTime<Utc>,
}

impl Registry {
    /// A page of tenants.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, listing: &Listing) -> Result<Page, TenantsError> {
        let known = known_sql("tenant > {cursor:String}");
        let sql = format!("SELECT * FROM ({known}) WHERE {MATCHES} ORDER BY tenant LIMIT {{limit:UInt64}}");
        let query = bind(self.store.client().query(&sql), listing)
            .param("cursor", listing.cursor.as_deref().unwrap_or_default())
            .param("limit", listing.limit.saturating_add(1));
        let lines: Vec<Line> = query.fetch_all().await.map_err(|error| self.store.error(error))?;
        let mut tenants = lines.into_iter().map(version).collect::<Result<Vec<_>, _>>()?;
        let limit = usize::try_from(listing.limit).unwrap_or(usize::MAX);
        let has_more = tenants.len() > limit;
        tenants.truncate(limit);
        let next = tenants.last().filter(|_| has_more).map(|last| last.record.tenant.clone());
        Ok(Page { tenants, next })
    }

    /// Organisations that have tenants at `at`, in the order of their names, after `cursor`, at most `limit`.
    ///
    /// # Errors
    /// The store's.
    pub async fn organisations(
        &self,
        at: DateTime<Utc>,
        cursor: Option<&str>,
        limit: u64,
    ) -> Result<Vec<Organisation>, TenantsError> {
        let sql = format!(
            "SELECT organisation, count() AS tenants FROM ({}) WHERE organisation > {{cursor:String}} \
             GROUP BY organisation ORDER BY organisation LIMIT {{limit:UInt64}}",
            known_sql("true")
        );
        let query = self.store.client().query(&sql);
        let query =
            query.param("at", seconds(at)).param("cursor", cursor.unwrap_or_default()).param("limit", limit);
        Ok(query.fetch_all().await.map_err(|error| self.store.error(error))?)
    }
}

fn version(line: Line) -> Result<TenantVersion, TenantsError> {
    let origin = registry::origin(&line.tenant, &line.origin)?;
    let record = TenantRecord {
        tenant: line.tenant,
        name: line.name,
        organisation: line.organisation,
        tier: line.tier,
        tags: line.tags.into_iter().collect(),
        external_ids: line.external_ids.into_iter().collect(),
        valid_from: registry::start(line.valid_from),
        removed: false,
    };
    let valid_to = registry::start(line.valid_to);
    Ok(TenantVersion { record, valid_to, origin, recorded_at: line.recorded_at })
}
