//! A question about one meter, from what was asked to the rows of the answer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::Aggregation;
use serde::Deserialize;

use super::ask::{Ask, Params};
use super::cells::{self, Amount, Cell, Cells};
use super::lists::Lists;
use super::memory::{Kept, Reach};
use super::plan::{self, Asked, Plan, instant};
use super::rollups::{self, ByList, Grouped};
use super::scope::Table;
use super::windows::{Cut, Cutting};
use super::{Answer, Fill, Group, Query, Row, Scoped, Source, UsageError, Window, levels, raw, text};

/// Steps that windows which roll are made of, all together, at most.
const ROLLED_MAX: usize = 20_000_000;

/// What was measured: windows by group.
pub(super) struct Measured {
    pub(super) cells: Cells,
    /// What it was read from, the coarsest first.
    pub(super) read_from: Vec<Source>,
}

#[derive(clickhouse::Row, Deserialize)]
struct GroupedRow {
    step: i64,
    keys: Vec<String>,
    counted: i64,
    quantity: i128,
}

/// As [`GroupedRow`], of one list of meters.
#[derive(clickhouse::Row, Deserialize)]
struct ListedRow {
    list: String,
    step: i64,
    keys: Vec<String>,
    counted: i64,
    quantity: i128,
}

impl Kept for GroupedRow {
    fn text_bytes(&self) -> usize {
        bytes(&self.keys)
    }
}

impl Kept for ListedRow {
    fn text_bytes(&self) -> usize {
        self.list.len() + bytes(&self.keys)
    }
}

fn bytes(texts: &[String]) -> usize {
    texts.iter().map(|text| size_of::<String>() + text.len()).sum()
}

impl Scoped {
    /// Answers a question about one meter.
    ///
    /// # Errors
    /// [`UsageError::Parameter`] and [`UsageError::UnknownMeter`] for what cannot be asked; [`UsageError::TooLarge`] before
    /// anything is read, [`UsageError::TimedOut`] and [`UsageError::Memory`] for what takes too much; the store's.
    pub async fn query(&self, query: &Query) -> Result<Answer, UsageError> {
        let (from, to) = plan::span(query.from, query.to)?;
        let zone = match query.window {
            Window::BillingPeriod => self.usage.billing_zone,
            _ => query.zone,
        };
        let cutting = Cutting { window: query.window, zone, rolling: rolling(query)? };
        let asked = Asked {
            meter: &query.meter,
            tenants: &query.tenants,
            organisations: &query.organisations,
            filters: &query.filters,
            group_by: &query.group_by,
            counts_only: false,
            approximate: query.approximate,
        };
        let plan = Plan::new(&self.scope, &self.usage.meters.now(), &asked, cutting.cut(from, to)?)?;
        let ask = self.ask(plan.narrow()).of_plan(&plan);
        let (measured, data_as_of) = tokio::try_join!(ask.measure(&plan), ask.data_as_of())?;
        let rows = Rows { ask: &ask, plan: &plan, fill: query.fill }.of(measured.cells)?;
        Ok(Answer {
            meter: plan.meter.name.clone(),
            unit: plan.meter.unit.clone(),
            aggregation: plan.meter.aggregation,
            per: per(&plan),
            from: query.from,
            to: query.to,
            window: query.window,
            zone: zone.name().to_owned(),
            read_from: measured.read_from,
            approximation: plan.approximation(),
            is_open: query.to > Utc::now(),
            data_as_of,
            rows,
        })
    }
}

/// Changes the steps of a group.
fn change_steps(cells: &mut Cells, keys: &[String], change: impl FnOnce(&mut BTreeMap<usize, Cell>)) {
    // Groups have many steps: their keys are seldom copied.
    match cells.get_mut(keys) {
        Some(steps) => change(steps),
        None => change(cells.entry(keys.to_vec()).or_default()),
    }
}

/// The unit of time of a meter that has one.
pub(super) fn per(plan: &Plan) -> Option<rentroll_schemas::meter::Per> {
    match plan.meter.aggregation {
        Aggregation::Rate | Aggregation::TimeWeighted => Some(plan.meter.per.unwrap_or_default()),
        _ => None,
    }
}

/// How many windows each one looks back over.
fn rolling(query: &Query) -> Result<Option<usize>, UsageError> {
    let Some(back) = query.rolling else { return Ok(None) };
    let unit = match query.window {
        Window::Minute => 60,
        Window::Hour => 3_600,
        Window::Day => 86_400,
        Window::Whole | Window::Week | Window::Month | Window::BillingPeriod => {
            return Err(UsageError::parameter(
                "rolling",
                text::length_written(back),
                "with windows of minute, hour or day",
            ));
        }
    };
    let seconds = back.num_seconds();
    match seconds >= unit && seconds % unit == 0 && back.subsec_nanos() == 0 {
        true => Ok(usize::try_from(seconds / unit).ok()),
        false => Err(UsageError::parameter(
            "rolling",
            text::length_written(back),
            format!("a whole multiple of the window, {}", text::length_written(TimeDelta::seconds(unit))),
        )),
    }
}

impl Ask<'_> {
    /// Measures the windows of a plan.
    pub(super) async fn measure(&self, plan: &Plan) -> Result<Measured, UsageError> {
        let aggregation = plan.meter.aggregation;
        let steps = plan.cut.steps;
        if aggregation == Aggregation::TimeWeighted && !plan.counts_only {
            let cells = self.rolled(levels::measure(self, plan).await?, plan)?;
            return Ok(Measured { cells, read_from: vec![Source::Events] });
        }
        // Values that differ, and places among values, do not come of those of parts.
        let is_of_all = matches!(aggregation, Aggregation::UniqueCount | Aggregation::Percentile);
        let rolls = steps > 1 && is_of_all && !plan.counts_only;
        if !plan.is_in_rollups() {
            let grouped = raw::grouped(self, plan, rolls).await?;
            let reach = Reach::of(plan, &grouped.read_from);
            let cells = self.cells(&grouped, reach.as_ref(), |step| match rolls {
                true => usize::try_from(step).unwrap_or_default(),
                false => plan.cut.step(step),
            });
            let cells = cells.await?;
            let cells = if rolls { cells } else { self.rolled(cells, plan)? };
            return Ok(Measured { cells, read_from: grouped.read_from });
        }
        self.by_lists(|lists| self.measured(plan, lists)).await
    }

    /// Measures from rollups. `None` if they have a list that is not known.
    async fn measured(&self, plan: &Plan, lists: Lists) -> Result<Option<Measured>, UsageError> {
        let (cells, read_from) = match rollups::by_list(self, plan, &lists) {
            Some(by_list) => {
                let Some(cells) = self.cells_by_list(&by_list, plan).await? else { return Ok(None) };
                (cells, by_list.grouped.read_from)
            }
            None => {
                let grouped = rollups::grouped(self, plan, &lists).await?;
                let reach = Reach::of(plan, &grouped.read_from);
                let cells = self.cells(&grouped, reach.as_ref(), |step| plan.cut.step(step)).await?;
                (cells, grouped.read_from)
            }
        };
        Ok(Some(Measured { cells: self.rolled(cells, plan)?, read_from }))
    }

    async fn cells(
        &self,
        grouped: &Grouped,
        reach: Option<&Reach>,
        step: impl Fn(i64) -> usize,
    ) -> Result<Cells, UsageError> {
        let limit = self.limits().rows_answered_max;
        let sql = format!("{} LIMIT {}", grouped.sql, limit.saturating_add(1));
        let rows = self.recall::<GroupedRow>(&sql, &grouped.params, reach).await?;
        self.allow_answer(rows.len())?;
        let mut cells = Cells::new();
        for row in rows.iter() {
            let cell = Cell { events: row.counted, amount: Amount::Nanos(row.quantity) };
            change_steps(&mut cells, &row.keys, |steps| drop(steps.insert(step(row.step), cell)));
        }
        Ok(cells)
    }

    /// As [`Ask::cells`], of a statement that tells lists apart. `None` if it found one that is not known.
    async fn cells_by_list(
        &self,
        ByList { grouped, known }: &ByList,
        plan: &Plan,
    ) -> Result<Option<Cells>, UsageError> {
        let reach = Reach::of(plan, &grouped.read_from);
        // Each row of the answer has one of each list at most.
        let most = self.limits().rows_answered_max.saturating_mul(known.len() as u64);
        let sql = format!("{} LIMIT {}", grouped.sql, most.saturating_add(1));
        let rows = self.recall::<ListedRow>(&sql, &grouped.params, reach.as_ref()).await?;
        // With what comes to nothing, or not: some were left behind.
        if rows.len() as u64 > most {
            return Err(self.too_many_rows());
        }
        if rows.iter().any(|row| !known.contains(&row.list)) {
            return Ok(None);
        }
        let mut cells = Cells::new();
        for row in rows.iter() {
            let cell = Cell { events: row.counted, amount: Amount::Nanos(row.quantity) };
            change_steps(&mut cells, &row.keys, |steps| match steps.entry(plan.cut.step(row.step)) {
                Entry::Vacant(vacant) => drop(vacant.insert(cell)),
                Entry::Occupied(mut held) => held.get_mut().add(&cell, plan.meter.aggregation),
            });
        }
        // What was corrected to nothing is nothing.
        for steps in cells.values_mut() {
            steps.retain(|_, cell| cell.events != 0);
        }
        cells.retain(|_, steps| !steps.is_empty());
        self.allow_answer(cells.values().map(BTreeMap::len).sum())?;
        Ok(Some(cells))
    }

    fn rolled(&self, cells: Cells, plan: &Plan) -> Result<Cells, UsageError> {
        let Cut { steps, .. } = plan.cut;
        if steps == 1 {
            return Ok(cells);
        }
        let parts = cells.values().map(BTreeMap::len).sum::<usize>().saturating_mul(steps);
        if parts > ROLLED_MAX {
            let what = "the number of parts that windows which roll are made of".to_owned();
            return Err(self.too_large(what, ROLLED_MAX as u64));
        }
        Ok(cells::rolled(cells, steps, plan.cut.windows(), plan.meter.aggregation))
    }

    /// When the newest event arrived that is stored: the parts of the table know it, and nothing is read.
    pub(super) async fn data_as_of(&self) -> Result<Option<DateTime<Utc>>, UsageError> {
        let Freshness(held) = self.freshness();
        let known = *held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, newest)) = known
            && at.elapsed() < FRESH_FOR
        {
            return Ok(newest);
        }
        let sql = format!(
            "SELECT toUInt64(events), toUnixTimestamp64Milli(newest) FROM {}",
            self.scope().table(Table::Arrivals)
        );
        let newest: Vec<(u64, i64)> = self.fetch(&sql, &Params::default()).await?;
        let newest = match newest.first() {
            Some((1.., newest)) => DateTime::from_timestamp_millis(*newest),
            _ => None,
        };
        *held.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), newest));
        Ok(newest)
    }
}

/// How long what is known of how fresh the store is will do: many ask at once.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// How fresh the store was when it was asked last. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Freshness(Arc<Mutex<Option<Known>>>);

/// When it was asked, and what it said.
type Known = (Instant, Option<DateTime<Utc>>);

/// Makes rows of windows.
struct Rows<'a> {
    ask: &'a Ask<'a>,
    plan: &'a Plan,
    fill: Fill,
}

impl Rows<'_> {
    /// In the order of time, then of the groups.
    fn of(&self, mut cells: Cells) -> Result<Vec<Row>, UsageError> {
        let windows = self.plan.cut.windows();
        if self.plan.group_by.is_empty() && self.fill != Fill::None {
            cells.entry(Vec::new()).or_default();
        }
        let rows = match self.fill {
            Fill::None => cells.values().map(BTreeMap::len).sum(),
            _ => cells.len().saturating_mul(windows),
        };
        self.ask.allow_answer(rows)?;
        let mut rows: Vec<(usize, Row)> = Vec::with_capacity(rows);
        for (keys, of_group) in &cells {
            match self.fill {
                Fill::None => {
                    for (window, cell) in of_group {
                        rows.push((*window, self.row(*window, keys, Some(cell))?));
                    }
                }
                _ => self.filled(keys, of_group, &mut rows)?,
            }
        }
        // Stable: groups stay in their order.
        rows.sort_by_key(|(window, _)| *window);
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    fn filled(
        &self,
        keys: &[String],
        of_group: &BTreeMap<usize, Cell>,
        rows: &mut Vec<(usize, Row)>,
    ) -> Result<(), UsageError> {
        let now = Utc::now().timestamp();
        let mut before = None;
        for window in 0..self.plan.cut.windows() {
            let cell = of_group.get(&window);
            // What has not begun is not known, and is no gap.
            if cell.is_none() && self.plan.cut.window(window).0 > now {
                continue;
            }
            let mut row = self.row(window, keys, cell)?;
            if cell.is_none() {
                row.quantity = match self.fill {
                    Fill::None | Fill::Null => None,
                    Fill::Zero => Some(Quantity::ZERO),
                    Fill::Previous => before,
                };
            }
            before = row.quantity;
            rows.push((window, row));
        }
        Ok(())
    }

    fn row(&self, window: usize, keys: &[String], cell: Option<&Cell>) -> Result<Row, UsageError> {
        let (from, to) = self.plan.cut.window(window);
        let quantity = match cell {
            None => None,
            Some(cell) => Some(self.ask.quantity(self.plan, cell, to - from)?),
        };
        let mut row = Row {
            from: instant(from),
            to: instant(to),
            tenant: None,
            organisation: None,
            tier: None,
            tags: BTreeMap::new(),
            dimensions: BTreeMap::new(),
            quantity,
            events: cell.map_or(0, |cell| u64::try_from(cell.events).unwrap_or_default()),
        };
        for (group, key) in self.plan.group_by.iter().zip(keys.iter().cloned()) {
            match group {
                Group::Tenant => row.tenant = Some(key),
                Group::Organisation => row.organisation = Some(key),
                Group::Tier => row.tier = Some(key),
                Group::Tag(tag) => {
                    row.tags.insert(tag.clone(), key);
                }
                Group::Dimension(name) => {
                    row.dimensions.insert(name.clone(), key);
                }
            }
        }
        Ok(row)
    }
}

impl Ask<'_> {
    /// The quantity of a window.
    pub(super) fn quantity(&self, plan: &Plan, cell: &Cell, seconds: i64) -> Result<Quantity, UsageError> {
        cell.quantity(&plan.meter, seconds)
            .ok_or_else(|| self.too_large("a quantity, in digits".to_owned(), 38))
    }
}
