//! One tenant: usage by meter with the events behind it, cost by pool.

use std::collections::HashMap;

use rentroll_schemas::effective;

use super::{BUCKET_IN_WINDOW, ReadError, Reader, decimal, quantity, time_ms, with_window};
use crate::model::{AllocationRun, TenantRow};
use crate::pages::tenant::{Corrected, MeterUsage, PoolShare};
use crate::window::Window;

/// Corrected events on a page. Who has more asks the store.
const CORRECTED_MAX: u32 = 20;

impl Reader {
    /// Usage by meter; the quantities are those of `row`.
    pub async fn meter_usage(&self, window: &Window, row: &TenantRow) -> Result<Vec<MeterUsage>, ReadError> {
        let sql = format!(
            "SELECT toString(meter), toUInt64(greatest(sum(events), 0)) FROM {table} \
             WHERE tenant = {{tenant:String}} AND {BUCKET_IN_WINDOW} GROUP BY meter",
            table = window.rollup().table(),
        );
        let query = with_window(self.query(&sql), window).param("tenant", &row.tenant);
        let events: HashMap<String, u64> = query.fetch_all::<(String, u64)>().await?.into_iter().collect();
        let usage = self.meter_columns().into_iter().enumerate().map(|(index, meter)| MeterUsage {
            quantity: row.usage.get(index).copied().flatten(),
            events: events.get(&meter.name).copied().unwrap_or(0),
            meter,
        });
        Ok(usage.collect())
    }

    /// The newest events of the window that do not count, since a later one voids or amends them.
    pub async fn corrected(&self, window: &Window, tenant: &str) -> Result<Vec<Corrected>, ReadError> {
        let own = "tenant = {tenant:String}";
        let sql = format!(
            "SELECT toUnixTimestamp64Milli(CAST(original.time AS DateTime64(3, 'UTC'))), toString(original.source), \
             toString(original.type), original.id, by.correction = 'amends', by.id \
             FROM (SELECT time, source, type, id, identity FROM events WHERE {own} AND correction != 'voids' \
               AND time >= toDateTime({{from:UInt32}}, 'UTC') AND time < toDateTime({{to:UInt32}}, 'UTC')) AS original \
             INNER JOIN ({in_force}) AS by ON original.identity = by.corrects \
             ORDER BY original.time DESC, original.id, by.id LIMIT {CORRECTED_MAX}",
            in_force = effective::in_force_sql("corrects, correction, id", own)
        );
        let query = with_window(self.query(&sql), window).param("tenant", tenant);
        let rows: Vec<(i64, String, String, String, bool, String)> = query.fetch_all().await?;
        rows.into_iter()
            .map(|(time, source, kind, id, is_amended, by)| {
                Ok(Corrected { time: time_ms(time)?, source, kind, id, is_amended, by })
            })
            .collect()
    }

    /// What each pool of an allocation costs one tenant.
    pub async fn pool_shares(
        &self,
        window: &Window,
        run: &AllocationRun,
        tenant: &str,
    ) -> Result<Vec<PoolShare>, ReadError> {
        let Some(period) = window.period else { return Ok(Vec::new()) };
        let sql = "SELECT toString(pool), toString(sum(driver_units)), toString(sum(direct)), toString(sum(idle_share)), \
                   toString(sum(total)) FROM allocations \
                   WHERE period = {period:String} AND run_id = {run:String} AND tenant = {tenant:String} \
                   GROUP BY pool ORDER BY pool";
        let rows: Vec<(String, String, String, String, String)> = self
            .query(sql)
            .param("period", period.to_string())
            .param("run", &run.run_id)
            .param("tenant", tenant)
            .fetch_all()
            .await?;
        rows.into_iter()
            .map(|(pool, driver_units, direct, idle_share, total)| {
                Ok(PoolShare {
                    pool,
                    driver_units: quantity(&driver_units)?,
                    direct: decimal(&direct)?,
                    idle_share: decimal(&idle_share)?,
                    total: decimal(&total)?,
                })
            })
            .collect()
    }
}
