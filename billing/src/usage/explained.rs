//! What stands behind one tenant's usage of one meter: its query, its first events, those that do not count.

use std::collections::BTreeMap;

use rentroll_engines::store::Store;
use rentroll_schemas::meter::{Aggregation, Meters};
use rentroll_schemas::period::Period;

use super::queries::{self, Scope, bind};
use super::read;
use super::versions::Versions;
use crate::error::{BillingError, Result};
use crate::explain::{CorrectedEvent, ExplainedEvent};
use crate::rating::MeterUsage;

/// One tenant's usage of one meter, and what it is made of.
pub(crate) struct Explained {
    pub(crate) unit: String,
    pub(crate) now: MeterUsage,
    pub(crate) query: String,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) first_events: Vec<ExplainedEvent>,
    pub(crate) corrected: Vec<CorrectedEvent>,
}

impl Explained {
    /// Reads it, `limit` events of each kind; `None` if no version of the meter counts in the period.
    pub(crate) async fn read(
        store: &Store,
        meters: &Meters,
        name: &str,
        period: &Period,
        tenant: &str,
        limit: u64,
    ) -> Result<Option<Explained>> {
        let Some(versions) = Versions::of(meters, name, period.from, period.to)? else { return Ok(None) };
        let meter = versions.newest();
        let (from, to) = versions.span();
        let now = read::of_tenant(store, &versions, period, tenant).await?;
        let span = [("from", from), ("to", to)];
        let corrected = rows(store, tenant, &queries::corrected_sql(&versions), &span, name, limit).await?;
        let mut parameters = BTreeMap::from([("tenant".to_owned(), tenant.to_owned())]);
        let (query, mut first_events) = if meter.aggregation == Aggregation::TimeWeighted {
            parameters.insert("meter".to_owned(), name.to_owned());
            let levels = versions.levels();
            let mut first: Vec<ExplainedEvent> = Vec::new();
            for level in &levels {
                let sql = queries::first_samples_sql(level, from);
                first.extend(rows(store, tenant, &sql, &[], name, limit).await?);
            }
            // What a version carries in may be what the one before it counted.
            let mut seen = std::collections::BTreeSet::new();
            first.retain(|event: &ExplainedEvent| seen.insert(event.identity_hex.clone()));
            (queries::series_sql(&levels, from, Scope::Tenant(tenant)), first)
        } else {
            parameters.extend(span.map(|(key, micros)| (key.to_owned(), micros.to_string())));
            let sql = queries::first_events_sql(&versions);
            (queries::tenant_sql(&versions), rows(store, tenant, &sql, &span, name, limit).await?)
        };
        first_events.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(Some(Explained { unit: meter.unit.clone(), now, query, parameters, first_events, corrected }))
    }
}

async fn rows<T: clickhouse::RowOwned + clickhouse::RowRead>(
    store: &Store,
    tenant: &str,
    sql: &str,
    parameters: &[(&str, i64)],
    meter: &str,
    limit: u64,
) -> Result<Vec<T>> {
    let query = Scope::Tenant(tenant).query(store, sql).param("limit", limit).param("meter", meter);
    bind(query, parameters.iter().copied())
        .fetch_all()
        .await
        .map_err(|source| BillingError::Store { what: "reading events", source: store.error(source) })
}
