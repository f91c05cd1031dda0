//! Tenants with what they used, were invoiced and cost: one query for the overview, the list, one tenant and
//! the export, so that a number is the same wherever it is shown.

use clickhouse::query::Query;
use rentroll_schemas::meter::Meter;

use super::{
    BUCKET_IN_WINDOW, ReadError, Reader, amount, quantity_or_none, rollup_function, rollup_value, with_window,
};
use crate::html::table::Direction;
use crate::model::{IDLE, MonthState, TenantRow, TenantTotals, UNALLOCATED};
use crate::pages::tenant_table::Sorting;
use crate::window::Window;

/// Whose rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everybody's.
    All,
    /// Of those whose name contains this, whatever its case.
    Containing(String),
    /// Of exactly this one.
    Exactly(String),
}

/// A row as it comes from the store: amounts as text, so that nothing is rounded on the way.
#[derive(Debug, Default, clickhouse::Row, serde::Deserialize)]
pub(crate) struct RawRow {
    pub(crate) tenant: String,
    pub(crate) plan: Option<String>,
    pub(crate) usage: Vec<Option<String>>,
    pub(crate) invoiced_text: Option<String>,
    pub(crate) cost_text: Option<String>,
}

/// Sums as they come from the store.
#[derive(clickhouse::Row, serde::Deserialize)]
struct RawTotals {
    tenants: u64,
    usage: Vec<Option<String>>,
    invoiced_text: Option<String>,
    cost_text: Option<String>,
}

/// A window, its month's billing if it is a month, and whose rows.
#[derive(Clone, Debug)]
pub struct Selection<'a> {
    /// When.
    pub window: &'a Window,
    /// The month's billing, if it is a month.
    pub month: Option<&'a MonthState>,
    /// Whose.
    pub who: Who,
}

impl Selection<'_> {
    fn condition(&self) -> &'static str {
        match self.who {
            Who::All => "1",
            Who::Containing(_) => "positionCaseInsensitiveUTF8(tenant, {who:String}) > 0",
            Who::Exactly(_) => "tenant = {who:String}",
        }
    }

    /// Binds everything that [`Reader::tenants_sql`] names.
    fn bind(&self, query: Query, meters: &[Meter]) -> Query {
        let mut query = with_window(query, self.window);
        for (index, meter) in meters.iter().enumerate() {
            query = query.param(&format!("m{index}"), &meter.name);
        }
        if let Who::Containing(text) | Who::Exactly(text) = &self.who {
            query = query.param("who", text);
        }
        if let Some(period) = self.window.period {
            query = query.param("period", period.to_string()).param("zone", period.zone.name());
        }
        if let Some(run) = self.month.and_then(|month| month.allocation.as_ref()) {
            query = query.param("run", &run.run_id).param("idle", IDLE).param("unallocated", UNALLOCATED);
        }
        query
    }
}

impl Reader {
    /// Whether a table of tenants can be sorted by that.
    pub fn can_sort_by(&self, by: &str) -> bool {
        self.sort_expression(by).is_some()
    }

    fn sort_expression(&self, by: &str) -> Option<String> {
        let fixed = match by {
            "tenant" => "tenant",
            "plan" => "plan",
            "invoice" => "invoiced",
            "cost" => "cost",
            "margin" => "invoiced - cost",
            meter => {
                let index = self.meters.meters.iter().position(|known| known.name == meter)?;
                return Some(format!("u{index}"));
            }
        };
        Some(fixed.to_owned())
    }

    /// One row per tenant: `tenant, plan, u0…, invoiced, cost`. A tenant is there if it has usage, an invoice or a
    /// cost; what it does not have is null.
    fn tenants_sql(&self, selection: &Selection<'_>) -> String {
        let meters = &self.meters.meters;
        let condition = selection.condition();
        let list = |of: &dyn Fn(usize, &Meter) -> String| -> String {
            meters.iter().enumerate().map(|(index, meter)| format!("{}, ", of(index, meter))).collect()
        };
        let values =
            list(&|index, meter| format!("{} AS u{index}", rollup_value(meter, &format!("m{index}"))));
        let nulls = list(&|_, _| "CAST(NULL AS Nullable(Decimal(38, 9)))".to_owned());
        let merged = list(&|index, _| format!("max(u{index}) AS u{index}"));
        let no_money = "CAST(NULL AS Nullable(Decimal(38, 9)))";
        let mut branches = vec![format!(
            "SELECT tenant, CAST(NULL AS Nullable(String)) AS plan, {values}{no_money} AS invoiced, {no_money} AS cost \
             FROM {table} WHERE {BUCKET_IN_WINDOW} AND {condition} GROUP BY tenant",
            table = selection.window.rollup().table(),
        )];
        if selection.window.period.is_some() {
            branches.push(format!(
                "SELECT tenant, CAST(any(plan) AS Nullable(String)), {nulls}CAST(sum(total) AS Nullable(Decimal(38, 9))), \
                 {no_money} FROM invoices \
                 WHERE period = {{period:String}} AND zone = {{zone:String}} AND {condition} GROUP BY tenant"
            ));
        }
        if selection.month.is_some_and(|month| month.allocation.is_some()) {
            branches.push(format!(
                "SELECT tenant, CAST(NULL AS Nullable(String)), {nulls}{no_money}, \
                 CAST(sum(total) AS Nullable(Decimal(38, 9))) FROM allocations \
                 WHERE period = {{period:String}} AND run_id = {{run:String}} \
                 AND tenant NOT IN ({{idle:String}}, {{unallocated:String}}) AND {condition} GROUP BY tenant"
            ));
        }
        format!(
            "SELECT tenant, max(plan) AS plan, {merged}max(invoiced) AS invoiced, max(cost) AS cost FROM ({}) GROUP BY tenant",
            branches.join(" UNION ALL ")
        )
    }

    /// The query of one page of rows, or of all of them.
    pub(crate) fn tenant_rows_query(
        &self,
        selection: &Selection<'_>,
        sorting: &Sorting,
        slice: Option<(u64, u64)>,
    ) -> Query {
        // Callers check `can_sort_by` before; whatever else came, the order by name is a total one.
        let expression = self.sort_expression(&sorting.by).unwrap_or_else(|| "tenant".to_owned());
        let direction = match sorting.direction {
            Direction::Ascending => "ASC",
            Direction::Descending => "DESC",
        };
        let columns: Vec<String> =
            (0..self.meters.meters.len()).map(|index| format!("toString(u{index})")).collect();
        // Without a meter the array would have no type.
        let usage = match columns.is_empty() {
            true => "emptyArrayString()".to_owned(),
            false => format!("[{}]", columns.join(", ")),
        };
        let limit = if slice.is_some() { "LIMIT {limit:UInt64} OFFSET {offset:UInt64}" } else { "" };
        let sql = format!(
            "SELECT tenant, plan, {usage}::Array(Nullable(String)) AS usage, \
             toString(invoiced) AS invoiced_text, toString(cost) AS cost_text FROM ({}) \
             ORDER BY {expression} {direction} NULLS LAST, tenant ASC {limit}",
            self.tenants_sql(selection)
        );
        let query = selection.bind(self.query(&sql), &self.meters.meters);
        match slice {
            Some((offset, limit)) => query.param("offset", offset).param("limit", limit),
            None => query,
        }
    }

    /// A tenant of whom there is nothing.
    pub fn no_row(&self, tenant: String) -> TenantRow {
        TenantRow {
            tenant,
            plan: None,
            usage: vec![None; self.meters.meters.len()],
            invoiced: None,
            cost: None,
        }
    }

    /// Rows `offset` to `offset + limit` in the given order.
    pub async fn tenant_rows(
        &self,
        selection: &Selection<'_>,
        sorting: &Sorting,
        (offset, limit): (u64, u64),
    ) -> Result<Vec<TenantRow>, ReadError> {
        let query = self.tenant_rows_query(selection, sorting, Some((offset, limit)));
        let rows: Vec<RawRow> = query.fetch_all().await?;
        rows.into_iter().map(|row| self.tenant_row(row, selection.month)).collect()
    }

    pub(crate) fn tenant_row(&self, row: RawRow, month: Option<&MonthState>) -> Result<TenantRow, ReadError> {
        let RawRow { tenant, plan, usage, invoiced_text, cost_text } = row;
        let allocated = month.and_then(|month| month.allocation.as_ref()).map(|run| run.total.currency);
        Ok(TenantRow {
            tenant,
            plan: plan.map(|plan| self.plan_title(&plan)),
            usage: usage.iter().map(|value| quantity_or_none(value.as_deref())).collect::<Result<_, _>>()?,
            invoiced: amount(invoiced_text.as_deref(), month.and_then(|month| month.invoice_currency))?,
            cost: amount(cost_text.as_deref(), allocated)?,
        })
    }

    /// Sums over all rows of the selection.
    pub async fn tenant_totals(&self, selection: &Selection<'_>) -> Result<TenantTotals, ReadError> {
        let meters = &self.meters.meters;
        let sums: Vec<String> = meters
            .iter()
            .enumerate()
            .map(|(index, meter)| format!("toString({}OrNull(u{index}))", rollup_function(meter).0))
            .collect();
        let sums =
            if sums.is_empty() { "emptyArrayString()".to_owned() } else { format!("[{}]", sums.join(", ")) };
        let sql = format!(
            "SELECT count() AS tenants, {sums}::Array(Nullable(String)) AS usage, \
             toString(sumOrNull(invoiced)) AS invoiced_text, toString(sumOrNull(cost)) AS cost_text FROM ({})",
            self.tenants_sql(selection)
        );
        let query = selection.bind(self.query(&sql), meters);
        let RawTotals { tenants, usage, invoiced_text, cost_text } = query.fetch_one().await?;
        let raw = RawRow { usage, invoiced_text, cost_text, ..RawRow::default() };
        let as_row = self.tenant_row(raw, selection.month)?;
        Ok(TenantTotals { tenants, usage: as_row.usage, invoiced: as_row.invoiced, cost: as_row.cost })
    }
}
