//! A question, answered from raw events: those that count, each once.
//!
//! Raw events are kept for some months after they arrived. A question that needs older ones is refused; the rollups know of them.

use chrono::{Months, Utc};
use rentroll_schemas::effective;
use rentroll_schemas::meter::{Aggregation, Meter};
use rentroll_schemas::retention::EVENTS_KEPT_MONTHS;
use rentroll_schemas::window::FUTURE;

use super::ask::{Ask, Params};
use super::filters::{self, Looks};
use super::plan::{Plan, rfc3339};
use super::registry::group_sql;
use super::rollups::{Grouped, grouped_sql};
use super::scope::Table;
use super::windows::Cut;
use super::{Approximation, Group, Source, UsageError};

/// Identities that are counted distinct at once, at some 30 bytes each in the store.
const SLICE_ROWS: u64 = 4_000_000;

/// HyperLogLog with 2¹⁷ registers: a standard error of 1.04 / √2¹⁷. It takes up to 96 KiB for each quantity, however many values
/// there are, and says the same in whatever order they come. Money is never made of it: billing has its own statements.
pub(super) const APPROXIMATION: Approximation =
    Approximation { method: "uniqCombined64(17)", standard_error_percent: "0.3" };

/// Builds the statement, if it is allowed to read so much; as [`super::rollups::grouped`]. With `rolls`, the steps are the windows of
/// the answer, and each event is in all of them that hold it.
pub(super) async fn grouped(ask: &Ask<'_>, plan: &Plan, rolls: bool) -> Result<Grouped, UsageError> {
    let has_copies = check(ask, plan, if rolls { plan.cut.steps as u64 } else { 1 }).await?;
    let mut params = Params::default();
    let mut columns = vec!["toInt64(toUnixTimestamp(time)) AS segment".to_owned()];
    let needs_tenant = plan.needs_registry() || plan.group_by.contains(&Group::Tenant);
    columns.extend(needs_tenant.then(|| "tenant".to_owned()));
    for (nth, group) in plan.group_by.iter().enumerate() {
        if let Group::Dimension(key) = group {
            columns.push(format!("{} AS dimension{nth}", Looks::AtEvents.text(key, &mut params)));
        }
    }
    let meter = &plan.meter;
    let aggregate = match plan.counts_only {
        true => "toDecimal128(0, 9)".to_owned(),
        false => {
            columns.push(match meter.aggregation {
                Aggregation::UniqueCount => {
                    format!("{} AS told_apart", of_version(plan, Meter::raw_unique_sql))
                }
                _ => format!("{} AS value", of_version(plan, Meter::raw_value_sql)),
            });
            if meter.aggregation == Aggregation::Latest {
                columns.push(
                    "time, arrived_at, log_partition, log_batch, identity_high, identity_low".to_owned(),
                );
            }
            match plan.approximate {
                true => format!("toDecimal128({}(told_apart), 9)", APPROXIMATION.method),
                // A level is no aggregate of rows, and is not asked for here.
                false => meter.aggregate_sql("value", "told_apart").unwrap_or_default(),
            }
        }
    };
    let rows = format!(
        "SELECT {} FROM {} WHERE {}{}",
        columns.join(", "),
        ask.scope().table(Table::Events),
        conditions(ask, plan, &mut params),
        if has_copies { format!(" {}", effective::FIRST_OF_IDENTITY) } else { String::new() }
    );
    let groups: Vec<String> = plan
        .group_by
        .iter()
        .enumerate()
        .map(|(nth, group)| group_sql(group, nth, |nth, _| format!("cells.dimension{nth}")))
        .collect();
    let join = match plan.needs_registry() {
        true => plan.registry_join_sql(ask, &mut params),
        false => String::new(),
    };
    let mut conditions: Vec<String> = plan.organisations_sql(&mut params).into_iter().collect();
    if let (Some(values), Some(group)) = (&plan.all_but, groups.first()) {
        conditions.push(format!("{group} NOT IN {}", params.texts(values)));
    }
    let groups = if plan.all_but.is_some() { Vec::new() } else { groups };
    let step = match rolls {
        true => plan.cut.windows_sql("cells.segment", &mut params),
        false => plan.cut.step_sql("cells.segment", &mut params),
    };
    // The step is computed before rows are grouped: it may be several.
    let from = format!("({rows}) AS cells {join}");
    let names: Vec<String> = (0..groups.len()).map(|nth| format!("group{nth}")).collect();
    let named: String =
        groups.iter().zip(&names).map(|(group, name)| format!(", {group} AS {name}")).collect();
    let filter = match conditions.is_empty() {
        true => String::new(),
        false => format!("WHERE {}", conditions.join(" AND ")),
    };
    let placed = format!("(SELECT {step} AS placed{named}, cells.* FROM {from} {filter})");
    let sql = grouped_sql("placed", &names, "count()", &aggregate, &placed, &[]);
    Ok(Grouped { sql, params, read_from: vec![Source::Events] })
}

/// Whether the events that a plan needs may be read and are there; says whether some are there twice. `times` is how often each is
/// looked at.
pub(super) async fn check(ask: &Ask<'_>, plan: &Plan, times: u64) -> Result<bool, UsageError> {
    let mut params = Params::default();
    let sql = format!(
        "SELECT count() FROM {} WHERE {}",
        ask.scope().table(Table::Events),
        reach(ask, plan, &mut params)
    );
    let rows = ask.estimate(&sql, &params).await?;
    ask.allow(rows.saturating_mul(times))?;
    check_kept(ask, plan).await?;
    has_copies(ask, rows, |params| reach(ask, plan, params)).await
}

/// Whether some of the events that are within `reach`, about so many rows, are there twice.
pub(super) async fn has_copies(
    ask: &Ask<'_>,
    rows: u64,
    reach: impl Fn(&mut Params) -> String,
) -> Result<bool, UsageError> {
    let slices = i64::try_from(rows / SLICE_ROWS + 1).unwrap_or(i64::MAX);
    for slice in 0..slices {
        let mut params = Params::default();
        // Two rows of one identity have the same half of it; that two identities have is as good as impossible, and harmless.
        let sql = format!(
            "SELECT toUInt64(count() - uniqExact(identity_high)) FROM {} WHERE {} AND identity_high % {} = {}",
            ask.scope().table(Table::Events),
            reach(&mut params),
            params.number(slices),
            params.number(slice),
        );
        let copies: Vec<u64> = ask.fetch(&sql, &params).await?;
        if copies.first().is_some_and(|copies| *copies > 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Refuses a span of which events have been dropped for their age: the rollups have counted more of them than there are.
async fn check_kept(ask: &Ask<'_>, plan: &Plan) -> Result<(), UsageError> {
    let Some(since) = Utc::now().checked_sub_months(Months::new(EVENTS_KEPT_MONTHS)) else { return Ok(()) };
    // What is dropped had arrived by then, and an event arrives at most so much before its time.
    let since = (since + FUTURE).timestamp();
    let since = since - since.rem_euclid(60);
    let (from, to) = (plan.cut.from(), plan.cut.to().min(since));
    if from >= to || !has_batches_before(ask, since).await? {
        return Ok(());
    }
    let mut counted = Plan { counts_only: true, group_by: Vec::new(), ..plan.clone() };
    counted.filters.clear();
    counted.organisations.clear();
    counted.cut = Cut::whole(from - from.rem_euclid(60), to);
    let of_rollups =
        events_of(ask, &super::rollups::grouped(ask, &counted, &ask.lists().await?).await?).await?;
    let mut params = Params::default();
    let sql = format!(
        "SELECT toInt64(count()) FROM {} WHERE {}",
        ask.scope().table(Table::Events),
        conditions(ask, &counted, &mut params)
    );
    let kept: Vec<i64> = ask.fetch(&sql, &params).await?;
    match of_rollups > kept.first().copied().unwrap_or_default() {
        true => Err(not_kept(plan, from, since)),
        false => Ok(()),
    }
}

/// The error of a question that needs events which are not kept any more.
pub(super) fn not_kept(plan: &Plan, from: i64, since: i64) -> UsageError {
    UsageError::parameter(
        "from",
        rfc3339(from),
        format!(
            "{} or later: raw events, without which this question about `{}` is not answered, are kept for \
             {EVENTS_KEPT_MONTHS} months after they arrived, and earlier ones are gone",
            rfc3339(since),
            plan.meter.name
        ),
    )
}

/// Whether anything was stored before a time.
pub(super) async fn has_batches_before(ask: &Ask<'_>, before: i64) -> Result<bool, UsageError> {
    let mut params = Params::default();
    let sql = format!(
        "SELECT toUInt8(count() > 0) FROM (SELECT 1 FROM {} WHERE written_at < fromUnixTimestamp64Milli({} * 1000) LIMIT 1)",
        ask.scope().table(Table::Batches),
        params.number(before),
    );
    let found: Vec<u8> = ask.fetch(&sql, &params).await?;
    Ok(found.first().is_some_and(|found| *found > 0))
}

async fn events_of(ask: &Ask<'_>, grouped: &Grouped) -> Result<i64, UsageError> {
    let sql = format!("SELECT toInt64(sum(counted)) FROM ({})", grouped.sql);
    let counted: Vec<i64> = ask.fetch(&sql, &grouped.params).await?;
    Ok(counted.first().copied().unwrap_or_default())
}

/// The condition on the columns that the index knows.
fn reach(ask: &Ask<'_>, plan: &Plan, params: &mut Params) -> String {
    let mut conditions = plan.tenants_sql(ask, params);
    let mut types: Vec<String> = plan.versions.iter().map(|version| version.event_type.clone()).collect();
    types.dedup();
    conditions.push(format!("type IN {}", params.texts(&types)));
    conditions.push(in_span(plan.cut.from(), plan.cut.to(), params));
    conditions.join(" AND ")
}

/// The condition that an event is of [from, to), in seconds. It arrived not much earlier.
pub(super) fn in_span(from: i64, to: i64, params: &mut Params) -> String {
    in_span_micros(from * 1_000_000, to * 1_000_000, params)
}

/// As [`in_span`], in microseconds.
pub(super) fn in_span_micros(from: i64, to: i64, params: &mut Params) -> String {
    let arrived = params.number(from / 1_000 - FUTURE.num_milliseconds());
    let (from, to) = (params.number(from), params.number(to));
    format!(
        "time >= fromUnixTimestamp64Micro({from}) AND time < fromUnixTimestamp64Micro({to}) \
         AND arrived_at >= fromUnixTimestamp64Milli({arrived})"
    )
}

/// The condition that the meter counts an event of the span, and that it is asked for.
pub(super) fn conditions(ask: &Ask<'_>, plan: &Plan, params: &mut Params) -> String {
    let mut conditions = vec![reach(ask, plan, params), counted_by_version(plan)];
    conditions.extend(plan.filters.iter().map(|filter| filters::sql(filter, Looks::AtEvents, params)));
    conditions.push(counts(ask, plan, params));
    conditions.join(" AND ")
}

/// The condition that a meter in its versions counts an event.
pub(super) fn counted_by_version(plan: &Plan) -> String {
    let versions: Vec<String> =
        plan.versions.iter().map(|version| format!("({})", version.raw_counts_sql())).collect();
    if versions.is_empty() { "0".to_owned() } else { format!("({})", versions.join(" OR ")) }
}

/// The condition that an event is not corrected.
pub(super) fn counts(ask: &Ask<'_>, plan: &Plan, params: &mut Params) -> String {
    let shared = match plan.tenants.is_empty() {
        true => "1".to_owned(),
        false => format!("tenant IN {}", params.texts(&plan.tenants)),
    };
    ask.scope().counts(&shared)
}

/// An expression of the version that an event is of.
pub(super) fn of_version(plan: &Plan, sql: impl Fn(&Meter) -> String) -> String {
    let Some((last, earlier)) = plan.versions.split_last() else { return sql(&plan.meter) };
    let last_sql = sql(last);
    if earlier.iter().all(|version| sql(version) == last_sql) {
        return last_sql;
    }
    let mut cases = String::new();
    for version in earlier {
        // All but the last one end.
        let ends = version.effective_to.map_or(i64::MAX, |ends| ends.timestamp_micros());
        cases.push_str(&format!("time < fromUnixTimestamp64Micro({ends}), {}, ", sql(version)));
    }
    format!("multiIf({cases}{last_sql})")
}
