//! How much each tenant uses, whatever meters make of it.

use chrono::{DateTime, Utc};
use rentroll_schemas::{Quantity, effective};

use super::Span;
use crate::usage::ask::Params;
use crate::usage::plan::{instant, span};
use crate::usage::scope::Table;
use crate::usage::{Scoped, UsageError, raw};

/// What a tenant used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantUsed {
    /// The tenant.
    pub tenant: String,
    /// Its events that count, each once, however many meters match it.
    pub events: u64,
    /// The sums of the measures that were asked for, exact.
    pub sums: [Quantity; 2],
    /// When the first of the events happened, to the second.
    pub first: DateTime<Utc>,
    /// When the last one happened, likewise.
    pub last: DateTime<Utc>,
}

impl Scoped {
    /// What each tenant used in the span, in any order, with the sums of two measures.
    ///
    /// From raw events that are kept: an event is in the rollups of each meter that matches it, so that they do not tell how many
    /// events there are.
    ///
    /// # Errors
    /// As [`Scoped::query`].
    pub async fn used(&self, asked: Span, measures: [&str; 2]) -> Result<Vec<TenantUsed>, UsageError> {
        let (from, to) = span(asked.from, asked.to)?;
        let ask = self.ask("ask for a shorter span");
        let table = ask.scope().table(Table::Events);
        let reach = |params: &mut Params| raw::in_span(from, to, params);
        let mut params = Params::default();
        let sql = format!("SELECT count() FROM {table} WHERE {}", reach(&mut params));
        let rows = ask.estimate(&sql, &params).await?;
        ask.allow(rows)?;
        let each_once = match raw::has_copies(&ask, rows, reach).await? {
            true => effective::FIRST_OF_IDENTITY,
            false => "",
        };
        let mut params = Params::default();
        let [one, other] = measures.map(|measure| format!("measures[{}]", params.text(measure)));
        let sql = format!(
            "SELECT tenant, toUInt64(count()) AS events, sum(one) AS sum_of_one, sum(other) AS sum_of_other, \
               toInt64(toUnixTimestamp(min(time))) AS first, toInt64(toUnixTimestamp(max(time))) AS last \
             FROM (SELECT tenant, time, {one} AS one, {other} AS other FROM {table} WHERE {} AND {} {each_once}) \
             GROUP BY tenant",
            reach(&mut params),
            ask.scope().counts("1"),
        );
        let rows: Vec<(String, u64, i128, i128, i64, i64)> = ask.fetch(&sql, &params).await?;
        ask.allow_answer(rows.len())?;
        let used = |(tenant, events, one, other, first, last)| TenantUsed {
            tenant,
            events,
            sums: [Quantity::from_nanos(one), Quantity::from_nanos(other)],
            first: instant(first),
            last: instant(last),
        };
        Ok(rows.into_iter().map(used).collect())
    }
}
