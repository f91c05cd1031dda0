//! What the console asks the store, a file per page.
//!
//! Values always travel as bound parameters (`{name:Type}`); what is put into a query's text is only ever a
//! word of this crate: a table, a generated alias, a direction. Decimals come back as text and are read
//! exactly.

pub mod charts;
pub mod costs;
mod error;
pub mod export;
pub mod frame;
pub mod health;
pub mod invoices;
pub mod overview;
pub mod rejects;
pub mod tenant;
pub mod tenants;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clickhouse::query::Query;
use rentroll_schemas::Quantity;
use rentroll_schemas::catalogue::Catalogue;
use rentroll_schemas::currency::Currency;
use rentroll_schemas::meter::{Aggregation, Meter, Meters};
use rust_decimal::Decimal;

pub use error::ReadError;

use crate::model::{Amount, MeterColumn};
use crate::window::Window;

/// Seconds after which a page's query is stopped. A page that takes longer helps nobody, and a forgotten tab
/// must not keep a core busy.
const QUERY_SECONDS_MAX: &str = "30";

/// Asks the store.
#[derive(Clone)]
pub struct Reader {
    client: clickhouse::Client,
    meters: Arc<Meters>,
    catalogue: Option<Arc<Catalogue>>,
}

impl Reader {
    /// Over `client`, whose database holds Rentroll's tables.
    pub fn new(client: clickhouse::Client, meters: &Meters, catalogue: Option<Arc<Catalogue>>) -> Self {
        let client = client.with_setting("max_execution_time", QUERY_SECONDS_MAX);
        Reader { client, meters: Arc::default(), catalogue }.with_meters(meters)
    }

    /// The same with other meters. The pages show those that can be read off a rollup's column as they are; averages,
    /// percentiles and the like are for the usage API.
    pub fn with_meters(&self, meters: &Meters) -> Self {
        let is_shown = |meter: &&Meter| {
            meter.aggregation.from_rollup().column().is_some() && meter.aggregation != Aggregation::Rate
        };
        let shown = Meters { meters: meters.newest().filter(is_shown).cloned().collect() };
        Reader { meters: Arc::new(shown), ..self.clone() }
    }

    /// The zone in which months are cut.
    pub fn zone(&self) -> Tz {
        self.catalogue.as_ref().map_or(Tz::UTC, |catalogue| catalogue.time_zone)
    }

    /// The meters, as columns.
    pub fn meter_columns(&self) -> Vec<MeterColumn> {
        self.meters.meters.iter().map(MeterColumn::from).collect()
    }

    fn query(&self, sql: &str) -> Query {
        // Raw: a `?` in a query is a question mark.
        self.client.query_raw(sql)
    }

    /// A plan's name for people, from the catalogue; its own name without one.
    fn plan_title(&self, plan: &str) -> String {
        let version = self.catalogue.as_ref().and_then(|catalogue| catalogue.newest());
        version
            .and_then(|version| version.plan(plan))
            .map_or_else(|| plan.to_owned(), |plan| plan.title.clone())
    }
}

/// Binds a window's ends as `from` and `to`; [`BUCKET_IN_WINDOW`] uses them.
fn with_window(query: Query, window: &Window) -> Query {
    query.param("from", epoch(window.from)).param("to", epoch(window.to))
}

/// The condition on a rollup's rows that [`with_window`] fills.
const BUCKET_IN_WINDOW: &str =
    "bucket >= toDateTime({from:UInt32}, 'UTC') AND bucket < toDateTime({to:UInt32}, 'UTC')";

/// Seconds since 1970, as a ClickHouse `DateTime` has them: years before 1970 and after 2106 hold no usage.
fn epoch(time: DateTime<Utc>) -> u32 {
    u32::try_from(time.timestamp().max(0)).unwrap_or(u32::MAX)
}

/// The expression of a meter over rollup rows of several meters, null where it has none of them. `name` is the
/// parameter that holds the meter's name.
fn rollup_value(meter: &Meter, name: &str) -> String {
    let (function, column) = rollup_function(meter);
    format!("{function}OrNullIf({column}, meter = {{{name}:String}})")
}

/// The function that puts values of one meter together, and the rollup's column that it is over.
fn rollup_function(meter: &Meter) -> (&'static str, &'static str) {
    // Others are not shown.
    meter.aggregation.from_rollup().column().unwrap_or(("sum", "total"))
}

fn quantity(text: &str) -> Result<Quantity, ReadError> {
    text.parse().map_err(|_| ReadError::unreadable("a quantity", text))
}

fn quantity_or_none(text: Option<&str>) -> Result<Option<Quantity>, ReadError> {
    text.map(quantity).transpose()
}

fn decimal(text: &str) -> Result<Decimal, ReadError> {
    Decimal::from_str_exact(text).map_err(|_| ReadError::unreadable("an amount", text))
}

fn currency(text: &str) -> Result<Currency, ReadError> {
    text.parse().map_err(|_| ReadError::unreadable("a currency", text))
}

fn amount(text: Option<&str>, currency: Option<Currency>) -> Result<Option<Amount>, ReadError> {
    let value = text.map(decimal).transpose()?;
    Ok(value.zip(currency).map(|(value, currency)| Amount::new(value, currency)))
}

fn time_ms(milliseconds: i64) -> Result<DateTime<Utc>, ReadError> {
    let time = DateTime::from_timestamp_millis(milliseconds);
    time.ok_or_else(|| ReadError::unreadable("a time", &milliseconds.to_string()))
}

fn time_s(seconds: u32) -> DateTime<Utc> {
    // Every u32 of seconds is within what chrono holds.
    DateTime::from_timestamp(i64::from(seconds), 0).unwrap_or(DateTime::UNIX_EPOCH)
}

fn day(text: &str) -> Result<chrono::NaiveDate, ReadError> {
    text.parse().map_err(|_| ReadError::unreadable("a day", text))
}
