//! Exports: every row of a page's table, streamed. The order, the filters and the numbers are the page's;
//! amounts are exact.

use futures_util::stream::{self, Stream};

use super::tenants::{RawRow, Selection};
use super::{ReadError, Reader};
use crate::csv::Record;
use crate::model::{AllocationRun, MonthState, TenantRow};
use crate::pages::tenant_table::Sorting;
use crate::window::Window;

/// Rows that are put together before they are sent: large enough to fill a packet, small enough to keep nothing.
const ROWS_PER_CHUNK: usize = 500;

impl Reader {
    /// The tenants' table as CSV. The first chunk is there when this returns: until then an error is an error
    /// page, after that it breaks the download off.
    ///
    /// # Errors
    /// What stopped the first chunk.
    pub async fn tenants_csv(
        &self,
        selection: &Selection<'_>,
        sorting: &Sorting,
    ) -> Result<impl Stream<Item = Result<String, ReadError>> + Send + use<>, ReadError> {
        let header = self.tenants_header(selection.month);
        let month = selection.month.cloned();
        let window = *selection.window;
        let reader = self.clone();
        let cursor = self.tenant_rows_query(selection, sorting, None).fetch::<RawRow>()?;
        let line = move |row: RawRow| {
            let row = reader.tenant_row(row, month.as_ref())?;
            Ok(tenant_line(&window, month.as_ref(), &row))
        };
        chunks(header, cursor, line).await
    }

    fn tenants_header(&self, month: Option<&MonthState>) -> String {
        let mut record =
            Record::default().value(Some("from_utc")).value(Some("to_utc")).value(Some("tenant"));
        if month.is_some() {
            record = record.value(Some("plan"));
        }
        for meter in &self.meters.meters {
            record = record.value(Some(&meter.name));
        }
        if month.is_some() {
            for name in ["invoice_amount", "invoice_currency", "allocated_cost", "cost_currency", "margin"] {
                record = record.value(Some(name));
            }
        }
        record.line()
    }

    /// The cost per tenant as CSV, with rows for what is idle and unallocated, so that it adds up to the total.
    ///
    /// # Errors
    /// What stopped the first chunk.
    pub async fn costs_csv(
        &self,
        window: &Window,
        month: &MonthState,
        run: &AllocationRun,
        pool: Option<&str>,
    ) -> Result<impl Stream<Item = Result<String, ReadError>> + Send + use<>, ReadError> {
        let header = [
            "from_utc",
            "to_utc",
            "tenant",
            "pool",
            "allocated_cost",
            "cost_currency",
            "invoice_amount",
            "invoice_currency",
        ];
        let header =
            header.into_iter().fold(Record::default(), |record, name| record.value(Some(name))).line();
        let in_pool = if pool.is_some() { "AND pool = {pool:String}" } else { "" };
        let sql = format!(
            "SELECT tenant, toString(invoiced), toString(cost) FROM ({} UNION ALL \
             SELECT tenant, CAST(NULL AS Nullable(Decimal(38, 9))), CAST(sum(total) AS Nullable(Decimal(38, 9))) FROM allocations \
             WHERE period = {{period:String}} AND run_id = {{run:String}} \
             AND tenant IN ({{idle:String}}, {{unallocated:String}}) {in_pool} GROUP BY tenant) \
             ORDER BY cost DESC NULLS LAST, tenant",
            Self::cost_rows_sql(pool)
        );
        let query = self.cost_query(&sql, window, run, pool);
        let cursor = query.fetch::<(String, Option<String>, Option<String>)>()?;
        let (reader, window, month) = (self.clone(), *window, month.clone());
        let pool = pool.unwrap_or("all").to_owned();
        let line = move |(tenant, invoiced_text, cost_text)| {
            let row = reader
                .tenant_row(RawRow { tenant, invoiced_text, cost_text, ..RawRow::default() }, Some(&month))?;
            let record = ends(&window).text(&row.tenant).text(&pool);
            let record =
                record.value(row.cost.map(|cost| cost.value)).value(row.cost.map(|cost| cost.currency));
            Ok(record
                .value(row.invoiced.map(|amount| amount.value))
                .value(row.invoiced.map(|amount| amount.currency))
                .line())
        };
        chunks(header, cursor, line).await
    }
}

fn ends(window: &Window) -> Record {
    let time = |time: chrono::DateTime<chrono::Utc>| time.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    Record::default().value(Some(time(window.from))).value(Some(time(window.to)))
}

fn tenant_line(window: &Window, month: Option<&MonthState>, row: &TenantRow) -> String {
    let mut record = ends(window).text(&row.tenant);
    if month.is_some() {
        record = record.text(row.plan.as_deref().unwrap_or_default());
    }
    for quantity in &row.usage {
        record = record.value(*quantity);
    }
    if month.is_some() {
        for amount in [row.invoiced, row.cost] {
            record =
                record.value(amount.map(|amount| amount.value)).value(amount.map(|amount| amount.currency));
        }
        record = record.value(row.margin().map(|margin| margin.value));
    }
    record.line()
}

/// Turns a cursor into chunks of lines, the header before the first.
async fn chunks<T, F>(
    header: String,
    mut cursor: clickhouse::query::RowCursor<T>,
    line: F,
) -> Result<impl Stream<Item = Result<String, ReadError>> + Send + use<T, F>, ReadError>
where
    T: clickhouse::RowOwned + clickhouse::RowRead + Send + 'static,
    F: Fn(T) -> Result<String, ReadError> + Send + Sync + 'static,
{
    let (text, more) = chunk(header, &mut cursor, &line).await?;
    let rest = stream::try_unfold((cursor, line, more), |(mut cursor, line, more)| async move {
        if !more {
            return Ok(None);
        }
        let (text, more) = chunk(String::new(), &mut cursor, &line).await?;
        Ok(Some((text, (cursor, line, more))))
    });
    Ok(futures_util::StreamExt::chain(stream::once(std::future::ready(Ok(text))), rest))
}

/// The next lines after `text`, and whether there may be more.
async fn chunk<T, F>(
    mut text: String,
    cursor: &mut clickhouse::query::RowCursor<T>,
    line: &F,
) -> Result<(String, bool), ReadError>
where
    T: clickhouse::RowOwned + clickhouse::RowRead,
    F: Fn(T) -> Result<String, ReadError>,
{
    for _ in 0..ROWS_PER_CHUNK {
        match cursor.next().await? {
            Some(row) => text.push_str(&line(row)?),
            None => return Ok((text, false)),
        }
    }
    Ok((text, true))
}
