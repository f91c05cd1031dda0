//! Who uses most, and how that changed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::{Aggregation, Per};
use serde::{Deserialize, Serialize};

use super::answer::per;
use super::ask::Ask;
use super::cells::{Amount, Cell, adds_up};
use super::plan::{self, Asked, Plan, instant};
use super::rollups::Grouped;
use super::windows::Cut;
use super::{Filter, Group, Scoped, Source, UsageError, exact, raw, rollups};

/// Most rows that can be asked for.
pub const TOP_ROWS_MAX: usize = 10_000;

/// The question who uses most of a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// The meter's name.
    pub meter: String,
    /// First instant, a whole minute.
    pub from: DateTime<Utc>,
    /// First instant after it, a whole minute. It is compared with the span of the same length that ends at `from`.
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
    /// First instant of the span that it is compared with; that ends at `from`. `None` if there is none to compare with: before 1970,
    /// of events that are not kept any more, or where the meter measured something else.
    pub previous_from: Option<DateTime<Utc>>,
    /// What it was read from, the coarsest first.
    pub read_from: Vec<Source>,
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

/// What was measured for one key, or for several: now, and in the span before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pair {
    now: Option<Cell>,
    before: Option<Cell>,
}

/// All that an answer is made of.
struct Ranked {
    /// The greatest first.
    rows: Vec<(String, Pair)>,
    other: Option<Pair>,
    total: Pair,
    keys: u64,
    read_from: Vec<Source>,
}

#[derive(clickhouse::Row, Deserialize)]
struct RankedRow {
    name: String,
    is_named: u8,
    keys: u64,
    events: i64,
    amount: i128,
    events_before: i64,
    amount_before: i128,
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
        let previous = from - (to - from);
        let with_previous = Cut { edges: vec![previous, from, to], steps: 1 };
        if previous >= 0 {
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
        };
        let plan = Plan::new(&self.scope, &self.usage.meters.now(), &asked, cut)?;
        let ask = self.ask(plan.narrow());
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
            is_open: top.to > Utc::now(),
            data_as_of,
            rows: ranked.rows.into_iter().map(row).collect::<Result<_, _>>()?,
            other: ranked.other.map(|pair| table.row(String::new(), &pair)).transpose()?,
            keys: ranked.keys,
            total: table.row(String::new(), &ranked.total)?,
        })
    }
}

/// Whether there is a span to compare with: the first of two.
fn has_previous(plan: &Plan) -> bool {
    plan.cut.edges.len() > 2
}

/// The step that was asked for.
fn now(plan: &Plan) -> usize {
    plan.cut.edges.len() - 2
}

impl Pair {
    fn of(steps: &BTreeMap<usize, Cell>, plan: &Plan) -> Pair {
        let before = if has_previous(plan) { steps.get(&0) } else { None };
        Pair { now: steps.get(&now(plan)).cloned(), before: before.cloned() }
    }

    fn add(&mut self, other: &Pair, aggregation: Aggregation) {
        for (sum, other) in [(&mut self.now, &other.now), (&mut self.before, &other.before)] {
            match (&mut *sum, other) {
                (Some(sum), Some(other)) => sum.add(other, aggregation),
                (None, Some(_)) => sum.clone_from(other),
                (_, None) => {}
            }
        }
    }
}

impl Ask<'_> {
    async fn rank(&self, plan: &Plan, rows: usize) -> Result<Ranked, UsageError> {
        match plan.meter.aggregation {
            Aggregation::Count
            | Aggregation::Sum
            | Aggregation::Rate
            | Aggregation::Min
            | Aggregation::Max => self.rank_there(plan, rows).await,
            _ => self.rank_here(plan, rows).await,
        }
    }

    /// Lets the store rank: of a hundred thousand tenants only those that are asked for come back.
    async fn rank_there(&self, plan: &Plan, rows: usize) -> Result<Ranked, UsageError> {
        let mut paired = self.paired(plan).await?;
        let aggregate = rollups::aggregate(plan);
        let rows = paired.params.number(rows as i64);
        let sql = format!(
            "SELECT if(rank <= {rows}, key, '') AS name, rank <= {rows} AS is_named, countIf(n != 0) AS keys, \
               sum(n) AS events, {aggregate}If(q, n != 0) AS amount, \
               sum(n_before) AS events_before, {aggregate}If(q_before, n_before != 0) AS amount_before \
             FROM (SELECT *, if(n != 0, row_number() OVER (ORDER BY n != 0 DESC, q DESC, key), 4294967295) AS rank \
             FROM ({pairs})) GROUP BY name, is_named ORDER BY is_named DESC, min(rank)",
            pairs = paired.sql
        );
        let (params, read_from) = (paired.params, paired.read_from);
        let mut ranked = Ranked { rows: Vec::new(), other: None, total: Pair::default(), keys: 0, read_from };
        let cell =
            |events: i64, nanos: i128| (events != 0).then_some(Cell { events, amount: Amount::Nanos(nanos) });
        self.each(&sql, &params, |row: RankedRow| {
            let pair = Pair {
                now: cell(row.events, row.amount),
                before: cell(row.events_before, row.amount_before),
            };
            ranked.total.add(&pair, plan.meter.aggregation);
            ranked.keys += row.keys;
            match row.is_named {
                0 => ranked.other = Some(pair),
                _ => ranked.rows.push((row.name, pair)),
            }
            Ok(())
        })
        .await?;
        Ok(ranked)
    }

    /// A query of (key, n, q, n_before, q_before).
    async fn paired(&self, plan: &Plan) -> Result<Grouped, UsageError> {
        if let Some(paired) = rollups::paired(self, plan).await? {
            return Ok(paired);
        }
        let Grouped { sql, mut params, read_from } = match plan.is_in_rollups() {
            true => rollups::grouped(self, plan).await?,
            false => raw::grouped(self, plan, false).await?,
        };
        let aggregate = rollups::aggregate(plan);
        let from = params.number(plan.cut.edges[now(plan)]);
        let sql = format!(
            "SELECT keys[1] AS key, sumIf(counted, step >= {from}) AS n, {aggregate}If(quantity, step >= {from}) AS q, \
             sumIf(counted, step < {from}) AS n_before, {aggregate}If(quantity, step < {from}) AS q_before \
             FROM ({sql}) GROUP BY key"
        );
        Ok(Grouped { sql, params, read_from })
    }

    /// Ranks what was measured for every key.
    async fn rank_here(&self, plan: &Plan, rows: usize) -> Result<Ranked, UsageError> {
        let measured = self.measure(plan).await?;
        let mut all: Vec<(Option<Quantity>, String, Pair)> = Vec::new();
        let (from, to) = plan.cut.window(now(plan));
        for (keys, steps) in measured.cells {
            let pair = Pair::of(&steps, plan);
            let quantity = pair.now.as_ref().map(|cell| self.quantity(plan, cell, to - from)).transpose()?;
            all.push((quantity, keys.into_iter().next().unwrap_or_default(), pair));
        }
        all.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
        let keys = all.iter().filter(|(quantity, ..)| quantity.is_some()).count();
        let rest = all.split_off(rows.min(keys));
        let all: Vec<(String, Pair)> = all.into_iter().map(|(_, key, pair)| (key, pair)).collect();
        let (mut other, mut total) = (None, Pair::default());
        if adds_up(plan.meter.aggregation) {
            for (_, pair) in &all {
                total.add(pair, plan.meter.aggregation);
            }
            for (.., pair) in &rest {
                total.add(pair, plan.meter.aggregation);
                other.get_or_insert_with(Pair::default).add(pair, plan.meter.aggregation);
            }
        } else {
            total = self.together(&Plan { group_by: Vec::new(), ..plan.clone() }).await?;
            if !rest.is_empty() {
                let left_out = all.iter().map(|(key, _)| key.clone()).collect();
                other = Some(self.together(&Plan { all_but: Some(left_out), ..plan.clone() }).await?);
            }
        }
        Ok(Ranked { rows: all, other, total, keys: keys as u64, read_from: measured.read_from })
    }

    /// What is told apart by nothing.
    async fn together(&self, plan: &Plan) -> Result<Pair, UsageError> {
        let measured = self.measure(plan).await?;
        let steps = measured.cells.into_values().next().unwrap_or_default();
        Ok(Pair::of(&steps, plan))
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
