//! Where a page stands in time: the window, the months there are, how fresh the data is, and what a month's
//! billing has come to.

use chrono::{DateTime, Utc};
use rentroll_schemas::period::Period;

use super::{ReadError, Reader, currency, decimal, time_ms};
use crate::model::{AllocationRun, Amount, MonthState};
use crate::window::Window;

/// As many months as a selector is good for: twenty years.
const MONTHS_MAX: u32 = 240;

impl Reader {
    /// The months that have usage, of everybody or of one tenant, newest first.
    pub async fn months(&self, tenant: Option<&str>) -> Result<Vec<Period>, ReadError> {
        let whose = if tenant.is_some() { "tenant = {tenant:String}" } else { "1" };
        let sql = format!(
            "SELECT toYYYYMM(bucket) AS month FROM usage_day WHERE {whose} \
             GROUP BY month ORDER BY month DESC LIMIT {{limit:UInt32}}"
        );
        let query = self.query(&sql).param("limit", MONTHS_MAX);
        let query = match tenant {
            Some(tenant) => query.param("tenant", tenant),
            None => query,
        };
        let months: Vec<u32> = query.fetch_all().await?;
        let text = |month: u32| format!("{:04}-{:02}", month / 100, month % 100);
        months
            .into_iter()
            .map(|month| {
                let month = text(month);
                Period::parse(&month, self.zone()).map_err(|_| ReadError::unreadable("a month", &month))
            })
            .collect()
    }

    /// When the newest batch was stored; `None` before the first.
    pub async fn data_as_of(&self) -> Result<Option<DateTime<Utc>>, ReadError> {
        let sql = "SELECT toUnixTimestamp64Milli(max(written_at)), count() FROM batches WHERE state = 1";
        let (milliseconds, count): (i64, u64) = self.query(sql).fetch_one().await?;
        (count > 0).then(|| time_ms(milliseconds)).transpose()
    }

    /// What the billing and the allocation of a window's month have come to; `None` if it is no month.
    pub async fn month_state(&self, window: &Window) -> Result<Option<MonthState>, ReadError> {
        let Some(period) = window.period else { return Ok(None) };
        let invoices = "SELECT any(currency), count() FROM invoices WHERE period = {period:String} AND zone = {zone:String}";
        let (code, count): (String, u64) = self
            .query(invoices)
            .param("period", period.to_string())
            .param("zone", period.zone.name())
            .fetch_one()
            .await?;
        let invoice_currency = (count > 0).then(|| currency(&code)).transpose()?;
        let closed = "SELECT count() FROM periods WHERE period = {period:String} AND zone = {zone:String} AND state = 'closed'";
        let closed: u64 = self
            .query(closed)
            .param("period", period.to_string())
            .param("zone", period.zone.name())
            .fetch_one()
            .await?;
        let allocation = self.newest_allocation(&period).await?;
        Ok(Some(MonthState { invoice_currency, closed: closed > 0, allocation }))
    }

    async fn newest_allocation(&self, period: &Period) -> Result<Option<AllocationRun>, ReadError> {
        let sql = "SELECT run_id, currency, toString(total), toUnixTimestamp64Milli(created_at) FROM allocation_runs \
                   WHERE period = {period:String} AND zone = {zone:String} ORDER BY created_at DESC, run_id LIMIT 1";
        let row: Option<(String, String, String, i64)> = self
            .query(sql)
            .param("period", period.to_string())
            .param("zone", period.zone.name())
            .fetch_optional()
            .await?;
        row.map(|(run_id, code, total, created_at)| {
            let total = Amount::new(decimal(&total)?, currency(&code)?);
            Ok(AllocationRun { run_id, total, created_at: time_ms(created_at)? })
        })
        .transpose()
    }
}
