//! The order of keys, with what remains and what all have together.

use std::collections::BTreeMap;

use rentroll_schemas::Quantity;
use rentroll_schemas::meter::Aggregation;
use serde::Deserialize;

use crate::usage::ask::Ask;
use crate::usage::cells::{Amount, Cell, adds_up};
use crate::usage::lists::Lists;
use crate::usage::memory::{Kept, Reach};
use crate::usage::plan::Plan;
use crate::usage::rollups::{self, Grouped};
use crate::usage::{Source, UsageError, raw};

/// What was measured for one key, or for several: now, and in the span before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) now: Option<Cell>,
    pub(super) before: Option<Cell>,
}

/// All that an answer is made of.
pub(super) struct Ranked {
    /// The greatest first.
    pub(super) rows: Vec<(String, Pair)>,
    pub(super) other: Option<Pair>,
    pub(super) total: Pair,
    pub(super) keys: u64,
    pub(super) read_from: Vec<Source>,
}

impl Ranked {
    fn of(read_from: Vec<Source>) -> Ranked {
        Ranked { rows: Vec::new(), other: None, total: Pair::default(), keys: 0, read_from }
    }
}

#[derive(clickhouse::Row, Deserialize)]
struct SumRow {
    key: String,
    events: i64,
    amount: i128,
    events_before: i64,
    amount_before: i128,
    keys: u64,
    all_events: i64,
    all_amount: i128,
    all_events_before: i64,
    all_amount_before: i128,
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

impl Kept for SumRow {
    fn text_bytes(&self) -> usize {
        self.key.len()
    }
}

impl Kept for RankedRow {
    fn text_bytes(&self) -> usize {
        self.name.len()
    }
}

/// Whether there is a span to compare with: the first of two.
pub(super) fn has_previous(plan: &Plan) -> bool {
    plan.cut.edges.len() > 2
}

/// The step that was asked for.
pub(super) fn now(plan: &Plan) -> usize {
    plan.cut.edges.len() - 2
}

/// What events, amount, events before and amount before make.
fn pair([events, amount, events_before, amount_before]: [i128; 4]) -> Pair {
    let cell = |events: i128, nanos: i128| {
        // Events are counted in 64 bits, and so is their sum.
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        (events != 0).then_some(Cell { events, amount: Amount::Nanos(nanos) })
    };
    Pair { now: cell(events, amount), before: cell(events_before, amount_before) }
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
    /// The `rows` keys that have most.
    pub(super) async fn rank(&self, plan: &Plan, rows: usize) -> Result<Ranked, UsageError> {
        match plan.meter.aggregation {
            Aggregation::Count | Aggregation::Sum | Aggregation::Rate => {
                self.by_lists(|lists| async move { self.rank_sums(plan, rows, lists).await.map(Some) }).await
            }
            Aggregation::Min | Aggregation::Max => {
                self.by_lists(|lists| async move { self.rank_extremes(plan, rows, lists).await.map(Some) })
                    .await
            }
            _ => self.rank_here(plan, rows).await,
        }
    }

    /// Lets the store rank what adds up: of a hundred thousand tenants only those that are asked for come back, each with the sums
    /// over all, of which theirs are taken away for the rest.
    async fn rank_sums(&self, plan: &Plan, rows: usize, lists: Lists) -> Result<Ranked, UsageError> {
        let mut paired = self.paired(plan, &lists).await?;
        let limit = paired.params.number(rows as i64);
        let sql = format!(
            "SELECT key, n AS events, q AS amount, n_before AS events_before, q_before AS amount_before, \
               countIf(n != 0) OVER () AS keys, sum(n) OVER () AS all_events, sum(q) OVER () AS all_amount, \
               sum(n_before) OVER () AS all_events_before, sum(q_before) OVER () AS all_amount_before \
             FROM ({}) ORDER BY n != 0 DESC, q DESC, key LIMIT {limit}",
            paired.sql
        );
        let reach = Reach::of(plan, &paired.read_from);
        let summed = self.recall::<SumRow>(&sql, &paired.params, reach.as_ref()).await?;
        let mut ranked = Ranked::of(paired.read_from);
        let (mut all, mut named) = ([0_i128; 4], [0_i128; 4]);
        for row in summed.iter() {
            ranked.keys = row.keys;
            all =
                [row.all_events.into(), row.all_amount, row.all_events_before.into(), row.all_amount_before];
            // Keys without events come last, and have no row.
            if row.events != 0 {
                let own = [row.events.into(), row.amount, row.events_before.into(), row.amount_before];
                ranked.rows.push((row.key.clone(), pair(own)));
                named = std::array::from_fn(|nth| named[nth] + own[nth]);
            }
        }
        let rest = pair(std::array::from_fn(|nth| all[nth] - named[nth]));
        ranked.total = pair(all);
        ranked.other = (rest != Pair::default()).then_some(rest);
        Ok(ranked)
    }

    /// Lets the store rank extremes, and take that of the rest.
    async fn rank_extremes(&self, plan: &Plan, rows: usize, lists: Lists) -> Result<Ranked, UsageError> {
        let mut paired = self.paired(plan, &lists).await?;
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
        let reach = Reach::of(plan, &paired.read_from);
        let rows = self.recall::<RankedRow>(&sql, &paired.params, reach.as_ref()).await?;
        let mut ranked = Ranked::of(paired.read_from);
        for row in rows.iter() {
            let pair = pair([row.events.into(), row.amount, row.events_before.into(), row.amount_before]);
            ranked.total.add(&pair, plan.meter.aggregation);
            ranked.keys += row.keys;
            match row.is_named {
                0 => ranked.other = Some(pair),
                _ => ranked.rows.push((row.name.clone(), pair)),
            }
        }
        Ok(ranked)
    }

    /// A query of (key, n, q, n_before, q_before).
    async fn paired(&self, plan: &Plan, lists: &Lists) -> Result<Grouped, UsageError> {
        if let Some(paired) = rollups::paired(self, plan, lists) {
            return Ok(paired);
        }
        let Grouped { sql, mut params, read_from } = match plan.is_in_rollups() {
            true => rollups::grouped(self, plan, lists).await?,
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
