//! Events that were stored and not counted: the rollups have them under meters of their own.

use std::collections::HashMap;

use clickhouse::Row;
use rentroll_schemas::meter::{UNMATCHED, WITHOUT_VALUE};
use serde::Deserialize;

use super::{NotCounted, NotCountedPlace, NotCountedRow, NotCountedTotal, Span};
use crate::usage::ask::{Ask, Params};
use crate::usage::cover::cover;
use crate::usage::plan::{instant, span};
use crate::usage::rows::{RowValue, Rows};
use crate::usage::{Scope, Scoped, UsageError};

#[derive(Row, Deserialize)]
struct TotalRow {
    key: String,
    events: i64,
    tenants: u64,
    newest: i64,
}

#[derive(Row, Deserialize)]
struct TenantRow {
    key: String,
    tenant: String,
    events: i64,
    newest: i64,
}

/// Which events.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// The meter of the rollups.
    meter: &'static str,
    /// Its dimension.
    dimension: &'static str,
}

const OF_TYPE: Kind = Kind { meter: UNMATCHED, dimension: "type" };
const OF_METER: Kind = Kind { meter: WITHOUT_VALUE, dimension: "meter" };

impl Scoped {
    /// The stored events of the span that no meter matches, by type and tenant; of the latter at most `rows`, after
    /// that place. For a scope with some
    /// meters alone: nothing.
    ///
    /// # Errors
    /// As [`Scoped::query`].
    pub async fn unmatched(
        &self,
        asked: Span,
        after: Option<&NotCountedPlace>,
        rows: usize,
    ) -> Result<NotCounted, UsageError> {
        let (from, to) = span(asked.from, asked.to)?;
        match self.scope.shows_all_meters() {
            true => self.ask("ask for a shorter span").not_counted(OF_TYPE, (from, to), after, rows).await,
            false => Ok(NotCounted { totals: Vec::new(), rows: Vec::new(), is_cut: false }),
        }
    }

    /// The events of the span that a meter matches and could not count, since their value is missing or not a number, by meter and
    /// tenant; of the latter at most `rows`, after that place.
    ///
    /// # Errors
    /// As [`Scoped::query`].
    pub async fn without_value(
        &self,
        asked: Span,
        after: Option<&NotCountedPlace>,
        rows: usize,
    ) -> Result<NotCounted, UsageError> {
        let (from, to) = span(asked.from, asked.to)?;
        self.ask("ask for a shorter span").not_counted(OF_METER, (from, to), after, rows).await
    }
}

fn count(events: i64) -> u64 {
    u64::try_from(events).unwrap_or_default()
}

impl Ask<'_> {
    /// Events without a value, by meter.
    pub(super) async fn without_value_by_meter(
        &self,
        from: i64,
        to: i64,
    ) -> Result<HashMap<String, u64>, UsageError> {
        let totals = self.totals(OF_METER, from, to).await?;
        Ok(totals.into_iter().map(|total| (total.key, total.events)).collect())
    }

    async fn not_counted(
        &self,
        kind: Kind,
        (from, to): (i64, i64),
        after: Option<&NotCountedPlace>,
        rows: usize,
    ) -> Result<NotCounted, UsageError> {
        self.allow_answer(rows)?;
        let (totals, mut rows_found) =
            tokio::try_join!(self.totals(kind, from, to), self.by_tenant(kind, (from, to), after, rows))?;
        let is_cut = rows_found.len() > rows;
        rows_found.truncate(rows);
        Ok(NotCounted { totals, rows: rows_found, is_cut })
    }

    async fn totals(&self, kind: Kind, from: i64, to: i64) -> Result<Vec<NotCountedTotal>, UsageError> {
        let mut params = Params::default();
        let cells = self.cells_sql(kind, from, to, &mut params).await?;
        let sql = format!(
            "SELECT key, sum(counted) AS events, toUInt64(uniqExact(tenant)) AS tenants, max(last) AS newest \
             FROM ({cells}) GROUP BY key ORDER BY events DESC, key LIMIT {}",
            self.limits().rows_answered_max
        );
        let rows: Vec<TotalRow> = self.fetch(&sql, &params).await?;
        let total = |row: TotalRow| NotCountedTotal {
            key: row.key,
            events: count(row.events),
            tenants: row.tenants,
            last: instant(row.newest),
        };
        Ok(rows.into_iter().map(total).collect())
    }

    async fn by_tenant(
        &self,
        kind: Kind,
        (from, to): (i64, i64),
        after: Option<&NotCountedPlace>,
        rows: usize,
    ) -> Result<Vec<NotCountedRow>, UsageError> {
        let mut params = Params::default();
        let cells = self.cells_sql(kind, from, to, &mut params).await?;
        let having = after.map_or_else(String::new, |NotCountedPlace { events, key, tenant }| {
            let events = params.number(i64::try_from(*events).unwrap_or(i64::MAX));
            let (key, tenant) = (params.text(key), params.text(tenant));
            format!("HAVING (-events, key, tenant) > (-{events}, {key}, {tenant}) ")
        });
        let sql = format!(
            "SELECT key, tenant, sum(counted) AS events, max(last) AS newest FROM ({cells}) \
             GROUP BY key, tenant {having}ORDER BY events DESC, key, tenant LIMIT {}",
            rows.saturating_add(1)
        );
        let found: Vec<TenantRow> = self.fetch(&sql, &params).await?;
        let row = |row: TenantRow| NotCountedRow {
            key: row.key,
            tenant: row.tenant,
            events: count(row.events),
            last: instant(row.newest),
        };
        Ok(found.into_iter().map(row).collect())
    }

    /// A query of (key, tenant, counted, last).
    async fn cells_sql(
        &self,
        kind: Kind,
        from: i64,
        to: i64,
        params: &mut Params,
    ) -> Result<String, UsageError> {
        let lists = self.lists().await?;
        let mut selects = Vec::new();
        // A span has whole minutes, which the rollups cover.
        for part in cover(&[from, to]).unwrap_or_default() {
            let rows = Rows {
                meter: kind.meter,
                value: RowValue::Nothing,
                columns: "tenant, dimensions, ",
                is_of_few: self.is_of_few(&[]),
                part: &part,
            };
            selects.extend(rows.selects(self, &lists, &[], params));
        }
        let key = format!("JSONExtractString(dimensions, '{}')", kind.dimension);
        let of_meters = match self.scope() {
            Scope::Tenant { meters, .. } if !meters.is_empty() => {
                format!("WHERE key IN {}", params.texts(meters))
            }
            _ => String::new(),
        };
        Ok(format!(
            "SELECT {key} AS key, tenant, sum(cell) AS counted, max(at) AS last FROM (\
             SELECT tenant, dimensions, at, sum(n) AS cell FROM ({}) GROUP BY tenant, dimensions, at HAVING cell != 0) \
             {of_meters} GROUP BY key, tenant",
            selects.join(" UNION ALL ")
        ))
    }
}
