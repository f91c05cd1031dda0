//! One question, put to the store: within its limits, and with every value bound.

use std::time::{Duration, Instant};

use clickhouse::{RowOwned, RowRead};
use serde::Serialize;

use super::answer::Freshness;
use super::lists::KnownLists;
use super::memory::Memory;
use super::plan::Plan;
use super::scope::SCOPE_TENANT;
use super::{Limits, Scope, Scoped, UsageError};

/// Threads of the store for one statement: questions come many at once, and beside what is being stored.
const THREADS: &str = "2";
/// …and for one that reads little, which a second thread would not make faster.
const THREADS_FOR_LITTLE: &str = "1";
/// Tenants of which little is read.
const FEW: usize = 10;
/// What the store may take to notice that it has no more time.
const GRACE: Duration = Duration::from_secs(2);

/// Values, bound to names that are made here. What comes from outside is in a statement by no other way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Params {
    values: Vec<Value>,
    is_little: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Value {
    Text(String),
    Texts(Vec<String>),
    Number(i64),
    /// Seconds since the epoch, to be compared with a DateTime without a function around them, which takes time to plan.
    Moment(i64),
    Numbers(Vec<i64>),
}

impl Params {
    /// None yet, of a statement that reads little, or of any.
    pub(super) fn of(is_little: bool) -> Self {
        Params { values: Vec::new(), is_little }
    }

    fn bind(&mut self, value: Value, kind: &str) -> String {
        self.values.push(value);
        format!("{{{}:{kind}}}", name(self.values.len() - 1))
    }

    /// What all values take, about.
    pub(super) fn bytes(&self) -> usize {
        let of = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::Texts(texts) => texts.iter().map(|text| size_of::<String>() + text.len()).sum(),
            Value::Number(_) | Value::Moment(_) => 0,
            Value::Numbers(numbers) => numbers.len() * size_of::<i64>(),
        };
        self.values.iter().map(|value| size_of::<Value>() + of(value)).sum()
    }

    pub(super) fn text(&mut self, text: &str) -> String {
        self.bind(Value::Text(text.to_owned()), "String")
    }

    pub(super) fn texts(&mut self, texts: &[String]) -> String {
        self.bind(Value::Texts(texts.to_vec()), "Array(String)")
    }

    pub(super) fn number(&mut self, number: i64) -> String {
        self.bind(Value::Number(number), "Int64")
    }

    /// A time that a DateTime of the store holds.
    pub(super) fn moment(&mut self, at: i64) -> String {
        self.bind(Value::Moment(at), "UInt32")
    }

    pub(super) fn numbers(&mut self, numbers: Vec<i64>) -> String {
        self.bind(Value::Numbers(numbers), "Array(Int64)")
    }
}

fn name(nth: usize) -> String {
    format!("p{nth}")
}

/// Texts as the store reads an array of them. Characters that have an escape are written with it.
fn array_of_texts(texts: &[String]) -> String {
    let mut array = String::from("[");
    for (nth, text) in texts.iter().enumerate() {
        if nth > 0 {
            array.push(',');
        }
        array.push('\'');
        for character in text.chars() {
            match character {
                '\\' => array.push_str("\\\\"),
                '\'' => array.push_str("\\'"),
                '\0' => array.push_str("\\0"),
                '\t' => array.push_str("\\t"),
                '\n' => array.push_str("\\n"),
                '\r' => array.push_str("\\r"),
                other => array.push(other),
            }
        }
        array.push('\'');
    }
    array.push(']');
    array
}

/// One question.
pub(super) struct Ask<'a> {
    scoped: &'a Scoped,
    until: Instant,
    /// How to ask for less.
    pub(super) narrow: String,
    /// Whether an answer that is about right would take less memory.
    may_be_approximate: bool,
}

impl Scoped {
    /// Begins a question. `narrow` says how to ask for less.
    pub(super) fn ask(&self, narrow: impl Into<String>) -> Ask<'_> {
        let until = Instant::now() + Duration::from_secs(self.usage.limits.seconds_max);
        Ask { scoped: self, until, narrow: narrow.into(), may_be_approximate: false }
    }
}

impl Ask<'_> {
    pub(super) fn scope(&self) -> &Scope {
        &self.scoped.scope
    }

    /// Of a plan that may have another way to take less memory.
    pub(super) fn of_plan(self, plan: &Plan) -> Self {
        Ask { may_be_approximate: plan.may_be_approximate(), ..self }
    }

    /// Whether a question is about few tenants: the one that may be seen, or those that are named.
    pub(super) fn is_of_few(&self, named: &[String]) -> bool {
        matches!(self.scope(), Scope::Tenant { .. }) || (1..=FEW).contains(&named.len())
    }

    pub(super) fn freshness(&self) -> &Freshness {
        &self.scoped.usage.freshness
    }

    pub(super) fn known_lists(&self) -> &KnownLists {
        &self.scoped.usage.lists
    }

    /// What is remembered, if that may be given.
    pub(super) fn memory(&self) -> Option<&Memory> {
        self.scoped.recalls.then_some(&self.scoped.usage.memory)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.scoped.usage.limits
    }

    /// All rows of a statement.
    pub(super) async fn fetch<T: RowOwned + RowRead>(
        &self,
        sql: &str,
        params: &Params,
    ) -> Result<Vec<T>, UsageError> {
        let mut rows = Vec::new();
        self.each(sql, params, |row| {
            rows.push(row);
            Ok(())
        })
        .await?;
        Ok(rows)
    }

    /// The rows of a statement, one by one.
    pub(super) async fn each<T: RowOwned + RowRead>(
        &self,
        sql: &str,
        params: &Params,
        mut take: impl FnMut(T) -> Result<(), UsageError>,
    ) -> Result<(), UsageError> {
        let left = self.left();
        let reading = async {
            let mut cursor =
                self.query(sql, params, left).fetch::<T>().map_err(|error| self.failed(error))?;
            while let Some(row) = cursor.next().await.map_err(|error| self.failed(error))? {
                take(row)?;
            }
            Ok(())
        };
        match tokio::time::timeout(left + GRACE, reading).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out()),
        }
    }

    /// How many rows a statement would read, by the index.
    pub(super) async fn estimate(&self, sql: &str, params: &Params) -> Result<u64, UsageError> {
        let sql = format!("EXPLAIN ESTIMATE {sql}");
        let tables: Vec<(String, String, u64, u64, u64)> = self.fetch(&sql, params).await?;
        Ok(tables.iter().map(|(_, _, _, rows, _)| rows).sum())
    }

    /// Refuses what would read more rows than are allowed.
    pub(super) fn allow(&self, rows: u64) -> Result<(), UsageError> {
        match rows > self.limits().rows_read_max {
            true => {
                Err(self
                    .too_large(format!("the number of rows to read ({rows})"), self.limits().rows_read_max))
            }
            false => Ok(()),
        }
    }

    /// Refuses an answer of more rows than are allowed.
    pub(super) fn allow_answer(&self, rows: usize) -> Result<(), UsageError> {
        match rows as u64 > self.limits().rows_answered_max {
            true => Err(self.too_many_rows()),
            false => Ok(()),
        }
    }

    /// That an answer has more rows than are allowed.
    pub(super) fn too_many_rows(&self) -> UsageError {
        self.too_large("the number of rows of the answer".to_owned(), self.limits().rows_answered_max)
    }

    pub(super) fn too_large(&self, what: String, limit: u64) -> UsageError {
        UsageError::TooLarge { what, limit, narrow: self.narrow.clone() }
    }

    fn query(&self, sql: &str, params: &Params, left: Duration) -> clickhouse::query::Query {
        let limits = self.limits();
        tracing::trace!(sql, ?params, "a question to the store");
        let mut query = self
            .scoped
            .usage
            .store
            .client()
            .query_raw(sql)
            .with_setting("max_threads", if params.is_little { THREADS_FOR_LITTLE } else { THREADS })
            // With less memory than this for each thread the store takes fewer, and the embedded engine has not much.
            .with_setting("max_threads_min_free_memory_per_thread", "0")
            // Threads that format what has few rows cost more than the rows.
            .with_setting("output_format_parallel_formatting", "0")
            // Whole seconds; zero would be none at all.
            .with_setting("max_execution_time", (left.as_secs() + 1).to_string())
            .with_setting("max_memory_usage", limits.memory_bytes_max.to_string())
            .with_setting("max_rows_to_read", limits.rows_read_max.to_string())
            .with_setting("readonly", "2");
        if let Some(tenant) = self.scope().tenant_of_condition() {
            query = query.param(SCOPE_TENANT, tenant);
        }
        for (nth, value) in params.values.iter().enumerate() {
            query = bound(query, &name(nth), value);
        }
        query
    }

    /// What is left of its time.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    pub(super) fn timed_out(&self) -> UsageError {
        UsageError::TimedOut { seconds: self.limits().seconds_max, narrow: self.narrow.clone() }
    }

    fn failed(&self, error: clickhouse::error::Error) -> UsageError {
        let code = match &error {
            clickhouse::error::Error::BadResponse(text) => limit_of(text),
            _ => None,
        };
        match code {
            Some(158) => self.too_large("the number of rows to read".to_owned(), self.limits().rows_read_max),
            Some(159 | 160) => self.timed_out(),
            Some(241) => {
                let or = if self.may_be_approximate { ", or for an `approximate` answer" } else { "" };
                let narrow = format!("{}{or}", self.narrow);
                UsageError::Memory { bytes: self.limits().memory_bytes_max, narrow }
            }
            _ => UsageError::Store(self.scoped.usage.store.error(error)),
        }
    }
}

/// The code of ClickHouse's words, if they are of a limit of one statement: that all statements together have no memory is the
/// store's own trouble.
fn limit_of(text: &str) -> Option<u32> {
    let code = text.split_once("Code: ")?.1.split_once('.')?.0.parse().ok()?;
    match code == 241 && text.contains("(total)") {
        true => None,
        false => Some(code),
    }
}

fn bound(query: clickhouse::query::Query, name: &str, value: &Value) -> clickhouse::query::Query {
    fn param(query: clickhouse::query::Query, name: &str, value: impl Serialize) -> clickhouse::query::Query {
        query.param(name, value)
    }
    match value {
        Value::Text(text) => param(query, name, text),
        // The client escapes a text for a parameter, but not the characters in the texts of an array.
        Value::Texts(texts) => query.with_setting(format!("param_{name}"), array_of_texts(texts)),
        Value::Number(number) | Value::Moment(number) => param(query, name, number),
        Value::Numbers(numbers) => param(query, name, numbers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_from_other_troubles() {
        assert_eq!(limit_of("Code: 159. DB::Exception: Timeout exceeded"), Some(159));
        assert_eq!(
            limit_of("Code: 241. DB::Exception: Query memory limit exceeded: would use 1 GiB"),
            Some(241)
        );
        assert_eq!(limit_of("Code: 241. DB::Exception: (total) memory limit exceeded"), None);
        assert_eq!(limit_of("502 Bad Gateway"), None);
    }

    #[test]
    fn texts_of_an_array_cannot_be_left() {
        let texts = ["a'b\\".to_owned(), "\0\n\t\r,]".to_owned(), String::new()];
        assert_eq!(array_of_texts(&texts), r"['a\'b\\','\0\n\t\r,]','']");
        assert_eq!(array_of_texts(&[]), "[]");
    }
}
