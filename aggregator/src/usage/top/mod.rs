//! Who uses most, and how that changed.

mod previous;
mod rank;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::{Aggregation, Per};
use serde::Serialize;

use super::answer::per;
use super::ask::Ask;
use super::cells::{Cell, adds_up};
use super::plan::{self, Asked, Plan, instant};
use super::windows::Cut;
use super::{Approximation, Filter, Group, Scoped, Source, UsageError, exact};
use rank::{Pair, has_previous, now};

/// Most rows that can be asked for.
pub const TOP_ROWS_MAX: usize = 10_000;

/// The question who uses most of a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// The meter's name.
    pub meter: String,
    /// First instant, a whole minute.
    pub from: DateTime<Utc>,
    /// First instant after it, a whole minute.
    pub to: DateTime<Utc>,
    /// Who: tenants, organisations, or the values of anything else that rows are told apart by.
    pub by: Group,
    /// How many rows, from 1 to [`TOP_ROWS_MAX`].
    pub rows: usize,
    /// As in [`Query`](super::Query).
    pub tenants: Vec<String>,
    /// As in [`Query`](super::Query).
    pub organisations: Vec<String>,
    /// As in [`Query`](super::Query).
    pub filters: Vec<Filter>,
    /// Whether it is compared with the span before, which is read as well: the calendar months or days before, where these are whole
    /// ones of `zone`, else as much time as ends at `from`.
    pub compare: bool,
    /// Where months and days are cut.
    pub zone: Tz,
    /// As in [`Query`](super::Query).
    pub approximate: bool,
}

/// One of the greatest, or the sum of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopRow {
    /// The tenant, the organisation, or whatever [`Top::by`] says; empty of total and remainder.
    pub key: String,
    /// How much; `None` of the total or the remainder where there were no events.
    pub quantity: Option<Quantity>,
    /// Events behind it.
    pub events: u64,
    /// `quantity` by that of the total, rounded half away from zero at nine decimals: 0.25 is a quarter. Absent where quantities of
    /// groups do not add up to that of all (min, max, avg, unique_count, latest, percentile), and where the total is zero.
    pub share: Option<Quantity>,
    /// The same quantity in the span before; `None` where there were no events.
    pub previous: Option<Quantity>,
    /// `quantity` less `previous`; where quantities add up, no events count as zero.
    pub change: Option<Quantity>,
    /// `change` in percent of `previous`, rounded like `share`; absent where that is zero or absent.
    pub change_percent: Option<Quantity>,
}

/// The answer to a [`Top`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopAnswer {
    /// The meter.
    pub meter: String,
    /// Its unit, singular.
    pub unit: String,
    /// How values became quantities.
    pub aggregation: Aggregation,
    /// Per which time, of a rate or a level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per: Option<Per>,
    /// First instant that was asked for.
    pub from: DateTime<Utc>,
    /// First instant after it.
    pub to: DateTime<Utc>,
    /// First instant of the span that it is compared with; that ends at `from`. `None` if it is not compared, or there is none to
    /// compare with: before 1970, of events that are not kept any more, or where the meter measured something else.
    pub previous_from: Option<DateTime<Utc>>,
    /// What it was read from, the coarsest first.
    pub read_from: Vec<Source>,
    /// How far its quantities may be off; none, without this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approximation: Option<Approximation>,
    /// Whether more may come in the ordinary course: the span has not ended.
    pub is_open: bool,
    /// When the newest event arrived that is stored, of any tenant: how fresh the store is.
    pub data_as_of: Option<DateTime<Utc>>,
    /// The greatest first; equal ones in the order of their keys.
    pub rows: Vec<TopRow>,
    /// What has no row of its own, together; `None` if everything has one.
    pub other: Option<TopRow>,
    /// How many keys have events in the span.
    pub keys: u64,
    /// Everything.
    pub total: TopRow,
}

impl Scoped {
    /// Who uses most.
    ///
    /// # Errors
    /// As [`Scoped::query`].
    pub async fn top(&self, top: &Top) -> Result<TopAnswer, UsageError> {
        if !(1..=TOP_ROWS_MAX).contains(&top.rows) {
            return Err(UsageError::parameter("rows", top.rows, format!("1 to {TOP_ROWS_MAX}")));
        }
        let (from, to) = plan::span(top.from, top.to)?;
        let previous = previous::begins(top.from, top.to, top.zone).timestamp();
        let with_previous = Cut { edges: vec![previous, from, to], steps: 1 };
        if top.compare && previous >= 0 {
            match self.top_of(top, with_previous).await {
                // That span cannot be asked for: the one that was asked for may be.
                Err(UsageError::Parameter { name: "from", .. }) => {}
                answer => return answer,
            }
        }
        self.top_of(top, Cut::whole(from, to)).await
    }

    async fn top_of(&self, top: &Top, cut: Cut) -> Result<TopAnswer, UsageError> {
        let asked = Asked {
            meter: &top.meter,
            tenants: &top.tenants,
            organisations: &top.organisations,
            filters: &top.filters,
            group_by: std::slice::from_ref(&top.by),
            counts_only: false,
            approximate: top.approximate,
        };
        let plan = Plan::new(&self.scope, &self.usage.meters.now(), &asked, cut).map_err(as_asked)?;
        let ask = self.ask(plan.narrow()).of_plan(&plan);
        let (ranked, data_as_of) = tokio::try_join!(ask.rank(&plan, top.rows), ask.data_as_of())?;
        let table = Table { ask: &ask, plan: &plan, total: ranked.total.now.as_ref() };
        let row = |(key, pair): (String, Pair)| table.row(key, &pair);
        Ok(TopAnswer {
            meter: plan.meter.name.clone(),
            unit: plan.meter.unit.clone(),
            aggregation: plan.meter.aggregation,
            per: per(&plan),
            from: top.from,
            to: top.to,
            previous_from: has_previous(&plan).then(|| instant(plan.cut.from())),
            read_from: ranked.read_from,
            approximation: plan.approximation(),
            is_open: top.to > Utc::now(),
            data_as_of,
            rows: ranked.rows.into_iter().map(row).collect::<Result<_, _>>()?,
            other: ranked.other.map(|pair| table.row(String::new(), &pair)).transpose()?,
            keys: ranked.keys,
            total: table.row(String::new(), &ranked.total)?,
        })
    }
}

/// As a [`Top`] calls what a plan has.
fn as_asked(error: UsageError) -> UsageError {
    match error {
        UsageError::Parameter { name: "group_by", given, allowed } => {
            UsageError::Parameter { name: "by", given, allowed }
        }
        error => error,
    }
}

/// Makes rows of what was measured.
struct Table<'a> {
    ask: &'a Ask<'a>,
    plan: &'a Plan,
    total: Option<&'a Cell>,
}

impl Table<'_> {
    fn quantity(&self, cell: Option<&Cell>, step: usize) -> Result<Option<Quantity>, UsageError> {
        let (from, to) = self.plan.cut.window(step);
        cell.map(|cell| self.ask.quantity(self.plan, cell, to - from)).transpose()
    }

    fn row(&self, key: String, pair: &Pair) -> Result<TopRow, UsageError> {
        let step = now(self.plan);
        let quantity = self.quantity(pair.now.as_ref(), step)?;
        let previous = self.quantity(pair.before.as_ref(), 0)?;
        let total = self.quantity(self.total, step)?;
        let adds_up = adds_up(self.plan.meter.aggregation);
        let share = match (quantity, total) {
            (Some(quantity), Some(total)) if adds_up => exact::ratio(quantity, total),
            _ => None,
        };
        let change = match (quantity, previous) {
            (Some(quantity), Some(previous)) => quantity.checked_sub(previous),
            (Some(quantity), None) if adds_up && has_previous(self.plan) => Some(quantity),
            (None, Some(previous)) if adds_up => Quantity::ZERO.checked_sub(previous),
            _ => None,
        };
        Ok(TopRow {
            key,
            quantity,
            events: pair.now.as_ref().map_or(0, |cell| u64::try_from(cell.events).unwrap_or_default()),
            share,
            previous,
            change,
            change_percent: change.zip(previous).and_then(|(change, previous)| percent(change, previous)),
        })
    }
}

/// A change in percent of the magnitude of what it changed: less is less, of a negative quantity too.
fn percent(change: Quantity, of: Quantity) -> Option<Quantity> {
    let magnitude = Quantity::from_nanos(of.nanos().checked_abs()?);
    exact::ratio(Quantity::from_nanos(change.nanos().checked_mul(100)?), magnitude)
}
