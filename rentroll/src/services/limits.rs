//! The limits of the tenants that are active now, for the noisy-tenant alert.
//!
//! The aggregator knows who is active, billing knows the plans, and neither knows the other: here they meet. A
//! tenant's plan is the one that it would be billed by if the month ended now.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use clickhouse::Row;
use prometheus::{GaugeVec, Opts, Registry};
use rentroll_aggregator::activity::{Activity, OTHER};
use rentroll_billing::assignment::assign;
use rentroll_billing::rating::{MeterUsage, UsageByMeter};
use rentroll_engines::store::{Store, StoreError};
use rentroll_schemas::Quantity;
use rentroll_schemas::catalogue::Catalogue;
use rentroll_schemas::period::Period;
use serde::Deserialize;

/// How often the limits are looked up: plans change by the month.
const EVERY: Duration = Duration::from_secs(15);

/// The limits' gauge.
#[derive(Clone, Debug)]
pub struct Limits {
    gauge: GaugeVec,
}

#[derive(Row, Deserialize)]
struct UsageRow {
    tenant: String,
    meter: String,
    total: String,
    events: u64,
}

impl Limits {
    /// Registers the gauge.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let opts = Opts::new(
            "rentroll_tenant_limit_events_per_minute",
            "Requests a minute that the tenant's plan allows, for the tenants of rentroll_tenant_events_per_minute",
        );
        let gauge = GaugeVec::new(opts, &["tenant"])?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(Limits { gauge })
    }

    /// Keeps the gauge up to date, for ever.
    pub async fn keep(self, store: Store, catalogue: Arc<Catalogue>, activity: Arc<Activity>) {
        loop {
            if let Err(error) = self.update(&store, &catalogue, &activity).await {
                tracing::warn!(%error, "cannot look up the active tenants' limits");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn update(
        &self,
        store: &Store,
        catalogue: &Catalogue,
        activity: &Activity,
    ) -> Result<(), StoreError> {
        let now = Utc::now();
        let snapshot = activity.snapshot(now.timestamp().div_euclid(60));
        let tenants: Vec<String> =
            snapshot.shares.into_iter().map(|share| share.tenant).filter(|tenant| tenant != OTHER).collect();
        let (Some(version), Some(period)) =
            (catalogue.newest(), Period::containing(now, catalogue.time_zone))
        else {
            return Ok(());
        };
        let mut usage = usage(store, &tenants, &period).await?;
        self.gauge.reset();
        for tenant in tenants {
            let usage = usage.remove(&tenant).unwrap_or_default();
            // A catalogue that has no plan for a tenant has no limit for it either.
            if let Ok((plan, _)) = assign(version, &tenant, &usage) {
                self.gauge.with_label_values(&[&tenant]).set(plan.limits.requests_per_minute as f64);
            }
        }
        Ok(())
    }
}

/// The month's usage so far of `tenants`.
async fn usage(
    store: &Store,
    tenants: &[String],
    period: &Period,
) -> Result<std::collections::HashMap<String, UsageByMeter>, StoreError> {
    let mut usage: std::collections::HashMap<String, UsageByMeter> = Default::default();
    if tenants.is_empty() {
        return Ok(usage);
    }
    let rows: Vec<UsageRow> = store
        .client()
        .query(
            "SELECT tenant, meter, toString(sum(total)) AS total, toUInt64(sum(events)) AS events FROM usage_hour \
             WHERE tenant IN {tenants:Array(String)} AND bucket >= fromUnixTimestamp({from:Int64}) \
             GROUP BY tenant, meter",
        )
        .param("tenants", tenants)
        .param("from", period.from.timestamp())
        .fetch_all()
        .await
        .map_err(|error| store.error(error))?;
    for row in rows {
        let quantity: Quantity = row.total.parse().unwrap_or_default();
        usage.entry(row.tenant).or_default().insert(row.meter, MeterUsage { events: row.events, quantity });
    }
    Ok(usage)
}
