//! A question, answered from the rollups.
//!
//! Rows are read from the coarsest tables that cover the span ([`cover`](super::cover)), added up by what is in the sort key, and
//! only then is the JSON of their dimensions looked into, or the registry.

use rentroll_schemas::meter::FromRollup;

use super::ask::{Ask, Params};
use super::cover::{Part, bucket_seconds, cover};
use super::filters::{self, Looks};
use super::lists::Lists;
use super::plan::Plan;
use super::registry::{Changes, group_sql};
use super::rows::{
    MeterRows, RowValue, Rows, all_rows, known_rows, meter_rows_at_once, stretches_sql, table,
};
use super::{Source, UsageError};

/// A span of which few rows are read, of however many tenants: a day.
const SHORT_SECONDS: i64 = 86_400;

/// A statement whose rows are (step: Int64, keys: Array(String), counted: Int64, quantity: Decimal(38, 9)).
pub(super) struct Grouped {
    pub(super) sql: String,
    pub(super) params: Params,
    /// What it reads, the coarsest first.
    pub(super) read_from: Vec<Source>,
}

/// A statement of rows of one list of meters each: the list is a further column, in front. Those of one step are still to be added, and
/// may come to nothing.
pub(super) struct ByList {
    pub(super) grouped: Grouped,
    /// The lists that the meter is known to be in: a row of another one has no quantity.
    pub(super) known: Vec<String>,
}

/// The statement of a plan that tells tenants apart and nothing else, in two steps: its rows are (key: String, n: Int64, q: Decimal,
/// n_before: Int64, q_before: Decimal), `before` being the first step, if there are two. `None` for other plans.
pub(super) fn paired(ask: &Ask<'_>, plan: &Plan, lists: &Lists) -> Option<Grouped> {
    let is_plain =
        plan.group_by == [super::Group::Tenant] && !plan.needs_registry() && !plan.needs_dimensions();
    let parts = match cover(&plan.cut.edges) {
        Some(parts) if is_plain && plan.is_in_rollups() => parts,
        _ => return None,
    };
    let mut params = Params::default();
    let mut builder = Builder { ask, plan, lists, changes: None, params: &mut params };
    let (rows, read_from) = builder.rows(&parts);
    let aggregate = aggregate(plan);
    let from = params.number(plan.cut.edges[plan.cut.edges.len() - 2]);
    let sql = format!(
        "SELECT rows.tenant AS key, sumIf(rows.n, rows.at >= {from}) AS n, {aggregate}If(rows.v, rows.at >= {from}) AS q, \
         sumIf(rows.n, rows.at < {from}) AS n_before, {aggregate}If(rows.v, rows.at < {from}) AS q_before \
         FROM ({rows}) AS rows GROUP BY rows.tenant"
    );
    Some(Grouped { sql, params, read_from })
}

/// Builds the statement, after looking up what it depends on.
pub(super) async fn grouped(ask: &Ask<'_>, plan: &Plan, lists: &Lists) -> Result<Grouped, UsageError> {
    let changes = match plan.needs_registry() {
        true => Some(ask.changes(plan).await?),
        false => None,
    };
    let Some(parts) = cover(&plan.cut.edges) else {
        return Err(UsageError::parameter("window", "", "one whose edges are whole minutes"));
    };
    let mut params = Params::of(ask.is_of_few(&plan.tenants));
    let mut builder = Builder { ask, plan, lists, changes: changes.as_ref(), params: &mut params };
    if let Some(sql) = builder.at_once(&parts) {
        let read_from = parts.iter().map(|part| part.source).collect();
        return Ok(Grouped { sql, params, read_from });
    }
    let (rows, read_from) = builder.rows(&parts);
    let sql = builder.statement(&rows);
    Ok(Grouped { sql, params, read_from })
}

/// As [`grouped`], of few tenants and the lists that are known, if one table answers: it is left to whoever reads the rows to see that
/// one is of another list, as a check in the statement takes as long to plan as half of it.
pub(super) fn by_list(ask: &Ask<'_>, plan: &Plan, lists: &Lists) -> Option<ByList> {
    let parts = cover(&plan.cut.edges)?;
    if !ask.is_of_few(&plan.tenants) || plan.needs_registry() {
        return None;
    }
    let mut params = Params::of(true);
    let mut builder = Builder { ask, plan, lists, changes: None, params: &mut params };
    let part = builder.only(&parts)?;
    let (rows, known) = known_rows(&plan.meter.name, value(plan), lists, builder.params)?;
    let sql = builder.short(part, rows, true);
    Some(ByList { grouped: Grouped { sql, params, read_from: vec![part.source] }, known })
}

struct Builder<'a> {
    ask: &'a Ask<'a>,
    plan: &'a Plan,
    lists: &'a Lists,
    changes: Option<&'a Changes>,
    params: &'a mut Params,
}

impl Builder<'_> {
    /// The part that answers by itself, without the registry and of all that is asked for.
    fn only<'p>(&self, parts: &'p [Part]) -> Option<&'p Part> {
        match parts {
            [part] if self.changes.is_none() && self.plan.all_but.is_none() => Some(part),
            _ => None,
        }
    }

    /// The statement of a question about few tenants, or a short time, that one table answers.
    fn at_once(&mut self, parts: &[Part]) -> Option<String> {
        let plan = self.plan;
        let part = self.only(parts)?;
        let (meter, value) = (&plan.meter.name, value(plan));
        let is_short = plan.cut.to() - plan.cut.from() <= SHORT_SECONDS;
        let rows = match self.ask.is_of_few(&plan.tenants) {
            true => meter_rows_at_once(meter, value, self.lists, self.params),
            false if is_short && !plan.needs_dimensions() => all_rows(meter, value, self.lists, self.params)?,
            false => return None,
        };
        Some(self.short(part, rows, false))
    }

    /// The statement of one part: to plan one takes longer than to run it, so that it has no more in it than it needs.
    fn short(&mut self, part: &Part, rows: MeterRows, by_list: bool) -> String {
        let plan = self.plan;
        let json = Looks::AtJson("dimensions");
        let mut conditions = plan.tenants_sql(self.ask, self.params);
        conditions.push(rows.condition);
        conditions.push(stretches_sql(&part.stretches, self.params));
        conditions.extend(plan.filters.iter().map(|filter| filters::sql(filter, json, self.params)));
        // A bucket is a step as it is, if each step has one.
        let (at, step) = match plan.cut.is_of(bucket_seconds(part.source)) {
            true => (String::new(), "toInt64(toUnixTimestamp(bucket))".to_owned()),
            false => {
                let at = "WITH toInt64(toUnixTimestamp(bucket)) AS at ".to_owned();
                (at, plan.cut.step_sql("at", self.params))
            }
        };
        let mut groups = Vec::new();
        for group in &plan.group_by {
            groups.push(match group {
                super::Group::Dimension(key) => json.text(key, self.params),
                _ => "tenant".to_owned(),
            });
        }
        let keys = if groups.is_empty() { NO_KEYS.to_owned() } else { format!("[{}]", groups.join(", ")) };
        let by: String = groups.iter().map(|group| format!(", {group}")).collect();
        let (list, by_and_list, having) = match by_list {
            true => ("toString(meters) AS list, ", format!("{by}, meters"), ""),
            false => ("", by, " HAVING counted != 0"),
        };
        format!(
            "{at}SELECT {list}{step} AS step, {keys} AS keys, sum({events}) AS counted, {aggregate}({value}) AS quantity \
             FROM {table} WHERE {conditions} GROUP BY step{by_and_list}{having}",
            events = rows.events,
            aggregate = aggregate(plan),
            value = rows.value,
            table = self.ask.scope().table(table(part.source)),
            conditions = conditions.join(" AND "),
        )
    }

    fn statement(&mut self, rows: &str) -> String {
        let plan = self.plan;
        let aggregate = aggregate(plan);
        let step = plan.cut.step_sql("at", self.params);
        let mut columns = vec![format!("{step} AS step")];
        let mut keys = vec!["step"];
        if plan.needs_tenant() {
            columns.push("tenant".to_owned());
            keys.push("tenant");
        }
        if plan.needs_dimensions() {
            columns.push("dimensions".to_owned());
            keys.push("dimensions");
        }
        if self.changes.is_some() {
            columns.push(format!("{} AS segment", self.segment()));
            keys.push("segment");
        }
        let cells = format!(
            "SELECT {}, sum(n) AS counted, {aggregate}(v) AS quantity FROM ({rows}) GROUP BY {}",
            columns.join(", "),
            keys.join(", ")
        );
        if !plan.needs_dimensions() && self.changes.is_none() {
            let groups = if plan.needs_tenant() && plan.all_but.is_none() { "[tenant]" } else { NO_KEYS };
            if plan.all_but.is_none() {
                return format!(
                    "SELECT step, {groups} AS keys, counted, quantity FROM ({cells}) WHERE counted != 0"
                );
            }
        }
        self.regrouped(&cells, aggregate)
    }

    /// Cells, told apart by what is asked for.
    fn regrouped(&mut self, cells: &str, aggregate: &str) -> String {
        let plan = self.plan;
        let json = Looks::AtJson("cells.dimensions");
        let groups: Vec<String> = plan
            .group_by
            .iter()
            .enumerate()
            .map(|(nth, group)| {
                let mut named = String::new();
                if let super::Group::Dimension(key) = group {
                    named = json.text(key, self.params);
                }
                group_sql(group, nth, |_, _| named.clone())
            })
            .collect();
        let mut conditions: Vec<String> =
            plan.filters.iter().map(|filter| filters::sql(filter, json, self.params)).collect();
        conditions.extend(plan.organisations_sql(self.params));
        if let (Some(values), Some(group)) = (&plan.all_but, groups.first()) {
            conditions.push(format!("{group} NOT IN {}", self.params.texts(values)));
        }
        let join = match self.changes {
            Some(_) => plan.registry_join_sql(self.ask, self.params),
            None => String::new(),
        };
        let groups = if plan.all_but.is_some() { Vec::new() } else { groups };
        grouped_sql(
            "cells.step",
            &groups,
            "sum(cells.counted)",
            &format!("{aggregate}(cells.quantity)"),
            &format!("({cells}) AS cells {join}"),
            &conditions,
        )
    }

    /// The time by which a cell is joined with the registry: that of its bucket, or of the last change before it.
    fn segment(&mut self) -> String {
        match self.changes {
            Some(Changes::At(times)) if times.is_empty() => self.params.number(self.plan.cut.from()),
            Some(Changes::At(times)) => {
                let from = std::iter::once(self.plan.cut.from());
                let cuts = from.chain(times.iter().copied()).collect();
                format!("roundDown(at, {})", self.params.numbers(cuts))
            }
            _ => "at".to_owned(),
        }
    }

    /// The rows of the meter in the span, as (tenant, at, dimensions, n, v), and what they are read from.
    fn rows(&mut self, parts: &[Part]) -> (String, Vec<Source>) {
        let finer = self.finer();
        let mut selects = Vec::new();
        let mut read_from: Vec<Source> = Vec::new();
        let all = self.plan.tenants_sql(self.ask, self.params);
        match finer.filter(|finer| finer.as_slice() != parts) {
            None => self.select(parts, &all, &mut selects),
            Some(finer) => {
                // Only tenants for which something begins in mid-bucket are read from finer tables.
                let changing = self.plan.changing_sql(self.ask, self.params);
                let with = |condition: String| all.iter().cloned().chain([condition]).collect::<Vec<_>>();
                self.select(parts, &with(format!("NOT {changing}")), &mut selects);
                self.select(&finer, &with(changing), &mut selects);
                read_from.extend(finer.iter().map(|part| part.source));
            }
        }
        read_from.extend(parts.iter().map(|part| part.source));
        read_from.sort_unstable();
        read_from.dedup();
        (selects.join(" UNION ALL "), read_from)
    }

    /// What covers the span if it is cut at the registry's changes as well.
    fn finer(&self) -> Option<Vec<Part>> {
        let edges = &self.plan.cut.edges;
        match self.changes? {
            Changes::At(times) => {
                let mut all: Vec<i64> = edges.iter().chain(times).copied().collect();
                all.sort_unstable();
                all.dedup();
                cover(&all)
            }
            Changes::Many => {
                let (from, to) = (self.plan.cut.from(), self.plan.cut.to());
                Some(vec![Part { source: Source::Minute, stretches: vec![(from, to)] }])
            }
        }
    }

    fn select(&mut self, parts: &[Part], conditions: &[String], selects: &mut Vec<String>) {
        let plan = self.plan;
        let mut columns = String::new();
        if plan.needs_tenant() {
            columns.push_str("tenant, ");
        }
        if plan.needs_dimensions() {
            columns.push_str("dimensions, ");
        }
        for part in parts {
            let rows = Rows {
                meter: &plan.meter.name,
                value: value(plan),
                columns: &columns,
                is_of_few: self.ask.is_of_few(&plan.tenants),
                part,
            };
            selects.extend(rows.selects(self.ask, self.lists, conditions, self.params));
        }
    }
}

fn value(plan: &Plan) -> RowValue {
    match plan.meter.aggregation.from_rollup() {
        _ if plan.counts_only => RowValue::Nothing,
        FromRollup::Least => RowValue::Column("least_value"),
        FromRollup::Greatest => RowValue::Column("greatest_value"),
        FromRollup::Total | FromRollup::TotalByEvents => RowValue::Total,
        FromRollup::Nothing => RowValue::Nothing,
    }
}

/// The function by which values of rows become one.
pub(super) fn aggregate(plan: &Plan) -> &'static str {
    match plan.meter.aggregation.from_rollup() {
        FromRollup::Least => "min",
        FromRollup::Greatest => "max",
        FromRollup::Total | FromRollup::TotalByEvents | FromRollup::Nothing => "sum",
    }
}

/// No keys at all.
const NO_KEYS: &str = "emptyArrayString()";

/// A query of (step, keys, counted, quantity), told apart by `groups`; cells that were corrected to nothing are none.
pub(super) fn grouped_sql(
    step: &str,
    groups: &[String],
    counted: &str,
    quantity: &str,
    from: &str,
    conditions: &[String],
) -> String {
    let keys = if groups.is_empty() { NO_KEYS.to_owned() } else { format!("[{}]", groups.join(", ")) };
    let filter =
        if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
    let by: String = groups.iter().map(|group| format!(", {group}")).collect();
    format!(
        "SELECT {step} AS step, {keys} AS keys, toInt64({counted}) AS counted, {quantity} AS quantity \
         FROM {from} {filter} GROUP BY {step}{by} HAVING counted != 0"
    )
}

impl Plan {
    fn needs_tenant(&self) -> bool {
        self.needs_registry() || self.group_by.contains(&super::Group::Tenant)
    }
}
