//! One allocation: its pools, and who bears them.

use rust_decimal::Decimal;

use super::tenants::RawRow;
use super::{ReadError, Reader, amount, decimal};
use crate::model::{AllocationRun, Amount, IDLE, MonthState, PoolRow, TenantRow, UNALLOCATED};
use crate::pages::costs::{Split, TENANTS_SHOWN, Tenants};
use crate::window::Window;

impl Reader {
    /// The pools of an allocation; all of them, by name.
    pub async fn pools(&self, window: &Window, run: &AllocationRun) -> Result<Vec<PoolRow>, ReadError> {
        let Some(period) = window.period else { return Ok(Vec::new()) };
        let sql = "SELECT toString(pool), countIf(is_tenant AND total != 0), \
                   toString(sumIf(direct, is_tenant)), toString(sumIf(idle_share, is_tenant)), \
                   toString(sumIf(total, tenant = {idle:String})), toString(sumIf(total, tenant = {unallocated:String})), \
                   toString(sum(total)) \
                   FROM (SELECT *, tenant NOT IN ({idle:String}, {unallocated:String}) AS is_tenant FROM allocations \
                   WHERE period = {period:String} AND run_id = {run:String}) GROUP BY pool ORDER BY pool";
        let rows: Vec<(String, u64, String, String, String, String, String)> = self
            .query(sql)
            .param("period", period.to_string())
            .param("run", &run.run_id)
            .param("idle", IDLE)
            .param("unallocated", UNALLOCATED)
            .fetch_all()
            .await?;
        rows.into_iter()
            .map(|(pool, tenants, direct, idle_spread, idle, unallocated, total)| {
                Ok(PoolRow {
                    pool,
                    tenants,
                    direct: decimal(&direct)?,
                    idle_spread: decimal(&idle_spread)?,
                    idle: decimal(&idle)?,
                    unallocated: decimal(&unallocated)?,
                    total: decimal(&total)?,
                })
            })
            .collect()
    }

    /// The split of a month's newest allocation, of all pools or of one; `None` if there is none, or no such
    /// pool.
    pub async fn split(
        &self,
        window: &Window,
        month: &MonthState,
        pool: Option<&str>,
    ) -> Result<Option<Split>, ReadError> {
        let Some(run) = month.allocation.clone() else { return Ok(None) };
        let mut pools = self.pools(window, &run).await?;
        let pool_names: Vec<String> = pools.iter().map(|pool| pool.pool.clone()).collect();
        if let Some(wanted) = pool {
            pools.retain(|pool| pool.pool == wanted);
            if pools.is_empty() {
                return Ok(None);
            }
        }
        let (count, cost, invoiced) = self.cost_totals(window, month, &run, pool).await?;
        let top = self.costliest(window, month, &run, pool).await?;
        let shown: Decimal = top.iter().filter_map(|row| row.cost).map(|cost| cost.value).sum();
        let shown_invoiced: Decimal =
            top.iter().filter_map(|row| row.invoiced).map(|amount| amount.value).sum();
        let tenants = Tenants {
            others: count.saturating_sub(top.len() as u64),
            others_cost: cost - shown,
            others_invoiced: invoiced.map(|all| Amount::new(all.value - shown_invoiced, all.currency)),
            top,
        };
        let pool = pool.map(str::to_owned);
        Ok(Some(Split { run, pools, pool_names, pool, tenants, invoiced }))
    }

    /// Tenants with a cost, or of all pools with an invoice: `tenant, invoiced, cost`.
    pub(crate) fn cost_rows_sql(pool: Option<&str>) -> String {
        let (in_pool, invoices) = match pool {
            Some(_) => ("AND pool = {pool:String}", ""),
            None => (
                "",
                "UNION ALL SELECT tenant, CAST(sum(total) AS Nullable(Decimal(38, 9))), CAST(NULL AS Nullable(Decimal(38, 9))) \
                 FROM invoices WHERE period = {period:String} AND zone = {zone:String} GROUP BY tenant",
            ),
        };
        format!(
            "SELECT tenant, max(invoiced) AS invoiced, max(cost) AS cost FROM (\
             SELECT tenant, CAST(NULL AS Nullable(Decimal(38, 9))) AS invoiced, \
             CAST(sum(total) AS Nullable(Decimal(38, 9))) AS cost FROM allocations \
             WHERE period = {{period:String}} AND run_id = {{run:String}} \
             AND tenant NOT IN ({{idle:String}}, {{unallocated:String}}) {in_pool} GROUP BY tenant {invoices}) GROUP BY tenant"
        )
    }

    /// Binds what [`Reader::cost_rows_sql`] names.
    pub(crate) fn cost_query(
        &self,
        sql: &str,
        window: &Window,
        run: &AllocationRun,
        pool: Option<&str>,
    ) -> clickhouse::query::Query {
        let query =
            self.query(sql).param("run", &run.run_id).param("idle", IDLE).param("unallocated", UNALLOCATED);
        // Without a month there is no allocation, and nobody asks.
        let period = window.period.map(|period| (period.to_string(), period.zone.name()));
        let (period, zone) = period.unwrap_or_default();
        let query = query.param("period", period).param("zone", zone);
        match pool {
            Some(pool) => query.param("pool", pool),
            None => query,
        }
    }

    async fn cost_totals(
        &self,
        window: &Window,
        month: &MonthState,
        run: &AllocationRun,
        pool: Option<&str>,
    ) -> Result<(u64, Decimal, Option<Amount>), ReadError> {
        let sql = format!(
            "SELECT count(), toString(sum(ifNull(cost, 0))), toString(sumOrNull(invoiced)) FROM ({})",
            Self::cost_rows_sql(pool)
        );
        let (count, cost, invoiced): (u64, String, Option<String>) =
            self.cost_query(&sql, window, run, pool).fetch_one().await?;
        Ok((count, decimal(&cost)?, amount(invoiced.as_deref(), month.invoice_currency)?))
    }

    async fn costliest(
        &self,
        window: &Window,
        month: &MonthState,
        run: &AllocationRun,
        pool: Option<&str>,
    ) -> Result<Vec<TenantRow>, ReadError> {
        let sql = format!(
            "SELECT tenant, toString(invoiced), toString(cost) FROM ({}) \
             ORDER BY cost DESC NULLS LAST, tenant LIMIT {{limit:UInt64}}",
            Self::cost_rows_sql(pool)
        );
        let rows: Vec<(String, Option<String>, Option<String>)> =
            self.cost_query(&sql, window, run, pool).param("limit", TENANTS_SHOWN).fetch_all().await?;
        rows.into_iter()
            .map(|(tenant, invoiced_text, cost_text)| {
                self.tenant_row(RawRow { tenant, invoiced_text, cost_text, ..RawRow::default() }, Some(month))
            })
            .collect()
    }
}
