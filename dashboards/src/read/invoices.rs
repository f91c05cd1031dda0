//! Issued invoices: the list, and one document.

use clickhouse::query::Query;
use rentroll_schemas::invoice::Invoice;
use rentroll_schemas::period::Period;

use super::tenants::Who;
use super::{ReadError, Reader, currency, day, decimal};
use crate::model::Amount;
use crate::pages::invoices::InvoiceRow;
use crate::window::Window;

/// A stored document, and whether it is what was stored.
#[derive(Clone, Debug)]
pub struct StoredInvoice {
    /// The document.
    pub invoice: Invoice,
    /// The digest beside it.
    pub digest: String,
    /// Whether that is the document's.
    pub intact: bool,
}

/// Which invoices.
#[derive(Clone, Debug)]
pub struct InvoiceSelection {
    /// The months, `YYYY-MM`.
    pub months: Vec<String>,
    /// The zone that they were cut in.
    pub zone: String,
    /// Whose; a text is looked for in the number too.
    pub who: Who,
}

impl InvoiceSelection {
    /// Of the window's month; of every month that begins in it, if it is not one.
    pub fn of(window: &Window, zone: chrono_tz::Tz, who: Who) -> Self {
        let mut months = Vec::new();
        let first = window.period.or_else(|| Period::containing(window.from, zone));
        let mut next =
            first.filter(|period| period.from >= window.from).or_else(|| first.and_then(|p| following(&p)));
        while let Some(period) = next.filter(|period| period.from < window.to) {
            months.push(period.to_string());
            next = following(&period);
        }
        InvoiceSelection { months, zone: zone.name().to_owned(), who }
    }

    fn condition(&self) -> String {
        let who = match self.who {
            Who::All => "1",
            Who::Containing(_) => {
                "(positionCaseInsensitiveUTF8(tenant, {who:String}) > 0 OR positionCaseInsensitiveUTF8(number, {who:String}) > 0)"
            }
            Who::Exactly(_) => "tenant = {who:String}",
        };
        format!("period IN {{months:Array(String)}} AND zone = {{zone:String}} AND {who}")
    }

    fn bind(&self, query: Query) -> Query {
        let query = query.param("months", &self.months).param("zone", &self.zone);
        match &self.who {
            Who::All => query,
            Who::Containing(text) | Who::Exactly(text) => query.param("who", text),
        }
    }
}

fn following(period: &Period) -> Option<Period> {
    Period::containing(period.to, period.zone)
}

impl Reader {
    /// Rows `offset` to `offset + limit`, by number.
    pub async fn invoice_rows(
        &self,
        selection: &InvoiceSelection,
        (offset, limit): (u64, u64),
    ) -> Result<Vec<InvoiceRow>, ReadError> {
        let sql = format!(
            "SELECT number, tenant, toString(plan), toString(issue_date), toString(due_date), toString(total), toString(currency) \
             FROM invoices WHERE {} ORDER BY series, sequence LIMIT {{limit:UInt64}} OFFSET {{offset:UInt64}}",
            selection.condition()
        );
        let query = selection.bind(self.query(&sql)).param("limit", limit).param("offset", offset);
        let rows: Vec<(String, String, String, String, String, String, String)> = query.fetch_all().await?;
        rows.into_iter()
            .map(|(number, tenant, plan, issued, due, total, code)| {
                Ok(InvoiceRow {
                    number,
                    tenant,
                    plan: self.plan_title(&plan),
                    issue_date: day(&issued)?,
                    due_date: day(&due)?,
                    total: Amount::new(decimal(&total)?, currency(&code)?),
                })
            })
            .collect()
    }

    /// How many there are and what they come to; no sum where they are in several currencies.
    pub async fn invoice_totals(
        &self,
        selection: &InvoiceSelection,
    ) -> Result<(u64, Option<Amount>), ReadError> {
        let sql = format!(
            "SELECT count(), uniqExact(currency), toString(any(currency)), toString(sum(total)) FROM invoices WHERE {}",
            selection.condition()
        );
        let (count, currencies, code, total): (u64, u64, String, String) =
            selection.bind(self.query(&sql)).fetch_one().await?;
        let total = match currencies {
            1 => Some(Amount::new(decimal(&total)?, currency(&code)?)),
            _ => None,
        };
        Ok((count, total))
    }

    /// One invoice's document.
    pub async fn invoice(&self, number: &str) -> Result<Option<StoredInvoice>, ReadError> {
        let sql = "SELECT document, digest FROM invoices WHERE number = {number:String} LIMIT 1";
        let row: Option<(String, String)> = self.query(sql).param("number", number).fetch_optional().await?;
        row.map(|(document, digest)| {
            let intact = blake3::hash(document.as_bytes()).to_hex().as_str() == digest;
            let invoice = serde_json::from_str(&document)
                .map_err(|error| ReadError::unreadable("an invoice's document", &error.to_string()))?;
            Ok(StoredInvoice { invoice, digest, intact })
        })
        .transpose()
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;

    #[test]
    fn a_free_window_has_the_months_that_begin_in_it() {
        let months = |period: Option<&str>, from: Option<&str>, to: Option<&str>| {
            let window = Window::parse(period, from, to, Tz::UTC).unwrap().unwrap();
            InvoiceSelection::of(&window, Tz::UTC, Who::All).months
        };
        assert_eq!(months(Some("2015-05"), None, None), ["2015-05"]);
        assert_eq!(months(None, Some("2015-05-01"), Some("2015-07-01")), ["2015-05", "2015-06"]);
        assert_eq!(months(None, Some("2015-05-17"), Some("2015-06-02")), ["2015-06"]);
        assert!(months(None, Some("2015-05-17"), Some("2015-05-20")).is_empty());
    }
}
