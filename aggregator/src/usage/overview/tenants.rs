//! Which tenants have usage.

use std::collections::HashMap;

use super::{TenantPage, TenantSeen};
use crate::usage::ask::{Ask, Params};
use crate::usage::plan::instant;
use crate::usage::scope::Table;
use crate::usage::{Scoped, UsageError};

/// Most tenants of one page.
pub const TENANTS_MAX: usize = 10_000;

impl Scoped {
    /// The tenants that have usage, in the order of their names: `limit` of those that contain `search`, whatever the case, after the
    /// name `after`.
    ///
    /// # Errors
    /// As [`Scoped::query`].
    pub async fn tenants(
        &self,
        search: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<TenantPage, UsageError> {
        if !(1..=TENANTS_MAX).contains(&limit) {
            return Err(UsageError::parameter("limit", limit, format!("1 to {TENANTS_MAX}")));
        }
        let ask = self.ask("ask for fewer tenants");
        let mut names = ask.names(search, after, limit + 1).await?;
        let is_last = names.len() <= limit;
        names.truncate(limit);
        let next = names.last().filter(|_| !is_last).cloned();
        Ok(TenantPage { tenants: ask.seen(names).await?, next })
    }
}

impl Ask<'_> {
    /// Names, in order. Each list of meters that is known has its tenants in order: no more of them are read than a page has.
    async fn names(
        &self,
        search: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, UsageError> {
        let lists = self.lists().await?;
        let mut params = Params::default();
        let mut conditions = vec!["1".to_owned()];
        conditions.extend(after.map(|after| format!("tenant > {}", params.text(after))));
        conditions.extend(
            search.map(|search| format!("positionCaseInsensitiveUTF8(tenant, {}) > 0", params.text(search))),
        );
        let conditions = conditions.join(" AND ");
        let of_lists: Vec<String> =
            lists.all().iter().map(|list| format!("meters = {}", params.text(list))).collect();
        let table = self.scope().table(Table::Days);
        let mut selects: Vec<String> = of_lists
            .iter()
            .map(|of_list| {
                format!(
                    "SELECT tenant FROM (SELECT tenant FROM {table} WHERE {of_list} AND {conditions} \
                     ORDER BY meters, tenant LIMIT 1 BY tenant LIMIT {limit})"
                )
            })
            .collect();
        // One thread reads in order, and stops when it has enough.
        let others = match lists.all().is_empty() {
            true => "1".to_owned(),
            false => format!("meters NOT IN {}", params.texts(lists.all())),
        };
        selects.push(format!(
            "SELECT tenant FROM (SELECT tenant FROM {table} WHERE {others} AND {conditions} \
             GROUP BY tenant ORDER BY tenant LIMIT {limit})"
        ));
        let sql = format!(
            "SELECT DISTINCT tenant FROM ({}) ORDER BY tenant LIMIT {limit} SETTINGS max_threads = 1",
            selects.join(" UNION ALL ")
        );
        self.fetch(&sql, &params).await
    }

    async fn seen(&self, names: Vec<String>) -> Result<Vec<TenantSeen>, UsageError> {
        let mut kept = self.kept(&names).await?;
        let gone: Vec<String> = names.iter().filter(|name| !kept.contains_key(*name)).cloned().collect();
        if !gone.is_empty() {
            kept.extend(self.gone(&gone).await?);
        }
        let seen = |tenant: String| {
            let (events, last) = kept.get(&tenant).copied().unwrap_or_default();
            TenantSeen { tenant, events, last: instant(last) }
        };
        Ok(names.into_iter().map(seen).collect())
    }

    /// Events that are kept, and the minute of the last one.
    async fn kept(&self, names: &[String]) -> Result<HashMap<String, (u64, i64)>, UsageError> {
        let mut params = Params::default();
        let sql = format!(
            "SELECT tenant, toUInt64(count()), toInt64(toUnixTimestamp(toStartOfMinute(max(time)))) FROM {} \
             WHERE tenant IN {} GROUP BY tenant",
            self.scope().table(Table::Events),
            params.texts(names)
        );
        let rows: Vec<(String, u64, i64)> = self.fetch(&sql, &params).await?;
        Ok(rows.into_iter().map(|(tenant, events, last)| (tenant, (events, last))).collect())
    }

    /// The last day of tenants of which no events are kept.
    async fn gone(&self, names: &[String]) -> Result<HashMap<String, (u64, i64)>, UsageError> {
        let mut params = Params::default();
        let sql = format!(
            "SELECT tenant, toInt64(toUnixTimestamp(max(bucket))) FROM {} WHERE tenant IN {} GROUP BY tenant",
            self.scope().table(Table::Days),
            params.texts(names)
        );
        let rows: Vec<(String, i64)> = self.fetch(&sql, &params).await?;
        Ok(rows.into_iter().map(|(tenant, last)| (tenant, (0, last))).collect())
    }
}
