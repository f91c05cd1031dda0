//! Levels, such as bytes stored: each value holds until the next one of its series, and is weighted by that time.
//!
//! A series is a tenant's, with the dimensions of its meter's `group_by` and `series`. What a window comes to is
//! `Σ b_i · (min(t_{i+1}, P1) − max(t_i, P0))` over all series, in whole microseconds and whole 10⁻⁹, of any width; it is divided
//! and rounded once. The last value before the span is carried in ([`carried`]). A level holds until now and no longer: the rest of
//! a window that has not ended counts nothing yet. Where a new version of a meter tells other series apart, the levels of the
//! old ones end.

mod carried;
mod sums;

use std::collections::{BTreeMap, HashMap};

use clickhouse::Row;
use rentroll_schemas::effective;
use rentroll_schemas::meter::{LATEST_ORDER, Meter};
use serde::Deserialize;

use super::ask::{Ask, Params};
use super::cells::Cells;
use super::filters::{self, Looks};
use super::plan::Plan;
use super::raw;
use super::scope::Table;
use super::{Group, UsageError};
use carried::Series;
use sums::Sums;

/// Most versions of tenants that are held at once.
const VERSIONS_MAX: usize = 1_000_000;
/// Sums that are held at most, for each row of an answer.
const SUMS_FOR_ROW: usize = 10;
const SECOND: i64 = 1_000_000;

#[derive(Row, Deserialize)]
struct Sample {
    tenant: String,
    key: String,
    at: i64,
    level: i128,
}

/// What holds of a tenant from a time on, in microseconds.
#[derive(Row, Deserialize)]
struct Version {
    tenant: String,
    since: i64,
    #[serde(rename = "organisation_then")]
    organisation: String,
    #[serde(rename = "tier_then")]
    tier: String,
    #[serde(rename = "tags_then")]
    tags: Vec<(String, String)>,
}

/// A stretch of time in which the same series are told apart, in microseconds: versions of a meter with the same dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Generation {
    from: i64,
    to: i64,
}

/// Measures the steps of a plan.
pub(super) async fn measure(ask: &Ask<'_>, plan: &Plan) -> Result<Cells, UsageError> {
    if plan.versions.is_empty() {
        return Ok(Cells::new());
    }
    let has_copies = raw::check(ask, plan, 1).await?;
    let from = plan.cut.from() * SECOND;
    let mut levels = Levels {
        ask,
        plan,
        generations: generations(&plan.history),
        registry: registry(ask, plan).await?,
        sums: Sums::new(&plan.cut),
        until: (plan.cut.to() * SECOND).min(chrono::Utc::now().timestamp_micros()),
    };
    let mut carried = carried::levels(ask, plan).await?;
    carried.retain(|_, level| levels.ends(level.minute * SECOND) > from);
    let mut params = Params::default();
    let sql = samples_sql(ask, plan, has_copies, &mut params);
    let mut held: Option<(Series, Vec<(i64, i128)>)> = None;
    ask.each(&sql, &params, |sample: Sample| {
        let series = Series { tenant: sample.tenant, key: sample.key };
        if let Some((of, samples)) = &mut held
            && *of == series
        {
            samples.push((sample.at, sample.level));
            return Ok(());
        }
        // The moment before the span stands for whenever it was.
        let before = carried.remove(&series).map(|level| (from - 1, level.nanos));
        let samples = before.into_iter().chain([(sample.at, sample.level)]).collect();
        match held.replace((series, samples)) {
            Some((series, samples)) => levels.add(&series, &samples),
            None => Ok(()),
        }
    })
    .await?;
    if let Some((series, samples)) = held {
        levels.add(&series, &samples)?;
    }
    for (series, level) in carried {
        levels.add(&series, &[(from - 1, level.nanos)])?;
    }
    let too_large = levels.too_large();
    levels.sums.finish().ok_or(too_large)
}

/// The samples of the span, by series, each series in the order in which they hold.
fn samples_sql(ask: &Ask<'_>, plan: &Plan, has_copies: bool, params: &mut Params) -> String {
    let plain = Plan { filters: Vec::new(), ..plan.clone() };
    let rows = format!(
        "SELECT tenant, {key} AS key, toUnixTimestamp64Micro(time) AS at, {value} AS level, {ORDER} \
         FROM {table} WHERE {conditions}{first}",
        key = raw::of_version(plan, Meter::group_key_sql),
        value = raw::of_version(plan, Meter::raw_value_sql),
        table = ask.scope().table(Table::Events),
        conditions = raw::conditions(ask, &plain, params),
        first = if has_copies { format!(" {}", effective::FIRST_OF_IDENTITY) } else { String::new() },
    );
    format!(
        "SELECT tenant, key, at, level FROM ({rows}) {} ORDER BY tenant, key, {LATEST_ORDER}",
        filters_sql(plan, "key", params)
    )
}

/// The columns of [`LATEST_ORDER`].
const ORDER: &str = "time, arrived_at, log_partition, log_batch, identity_high, identity_low";

/// The filters, on the JSON of a series' dimensions.
fn filters_sql(plan: &Plan, json: &str, params: &mut Params) -> String {
    let filters: Vec<String> =
        plan.filters.iter().map(|filter| filters::sql(filter, Looks::AtJson(json), params)).collect();
    if filters.is_empty() { String::new() } else { format!("WHERE {}", filters.join(" AND ")) }
}

/// Versions that follow one another with the same dimensions are one generation.
fn generations(history: &[Meter]) -> Vec<Generation> {
    let mut generations: Vec<(Generation, &Meter)> = Vec::new();
    for meter in history {
        let from = meter.effective_from.map_or(i64::MIN, |from| from.timestamp_micros());
        let to = meter.effective_to.map_or(i64::MAX, |to| to.timestamp_micros());
        match generations.last_mut() {
            Some((last, before)) if last.to == from && before.key_dimensions() == meter.key_dimensions() => {
                last.to = to;
            }
            _ => generations.push((Generation { from, to }, meter)),
        }
    }
    generations.into_iter().map(|(generation, _)| generation).collect()
}

/// What the registry has of the tenants in question, each tenant's versions in their order; nothing where it has no part.
async fn registry(ask: &Ask<'_>, plan: &Plan) -> Result<HashMap<String, Vec<Version>>, UsageError> {
    let mut registry: HashMap<String, Vec<Version>> = HashMap::new();
    if !plan.needs_registry() {
        return Ok(registry);
    }
    let mut params = Params::default();
    let mut conditions = plan.tenants_sql(ask, &mut params);
    conditions.push(format!("valid_from < toDateTime({}, 'UTC')", params.number(plan.cut.to())));
    let sql = format!(
        "SELECT tenant, toInt64(toUnixTimestamp(valid_from)) * {SECOND} AS since, \
         if(is_removed, '', organisation) AS organisation_then, if(is_removed, '', toString(tier)) AS tier_then, \
         if(is_removed, [], arrayZip(mapKeys(tags), mapValues(tags))) AS tags_then \
         FROM {} WHERE {} ORDER BY tenant, since LIMIT {}",
        ask.scope().table(Table::TenantVersions),
        conditions.join(" AND "),
        VERSIONS_MAX + 1
    );
    let mut count = 0;
    ask.each(&sql, &params, |version: Version| {
        count += 1;
        registry.entry(version.tenant.clone()).or_default().push(version);
        Ok(())
    })
    .await?;
    match count > VERSIONS_MAX {
        true => Err(ask.too_large("the number of versions of tenants".to_owned(), VERSIONS_MAX as u64)),
        false => Ok(registry),
    }
}

struct Levels<'a> {
    ask: &'a Ask<'a>,
    plan: &'a Plan,
    generations: Vec<Generation>,
    registry: HashMap<String, Vec<Version>>,
    sums: Sums<'a>,
    /// No level holds longer.
    until: i64,
}

impl Levels<'_> {
    /// Adds the samples of a series: times in microseconds, the order is that in which they hold.
    fn add(&mut self, series: &Series, samples: &[(i64, i128)]) -> Result<(), UsageError> {
        let from = self.plan.cut.from() * SECOND;
        let dimensions: BTreeMap<String, String> = match self.plan.group_by.is_empty() {
            true => BTreeMap::new(),
            // It is what a meter makes of an event.
            false => serde_json::from_str(&series.key).unwrap_or_default(),
        };
        for (nth, (at, level)) in samples.iter().enumerate() {
            if *at >= from
                && let Some(place) = self.place(series, &dimensions, *at)?
            {
                self.sums.event(place, *at);
            }
            let next = samples.get(nth + 1).map_or(self.until, |(next, _)| *next);
            let end = next.min(self.until).min(self.ends(*at));
            let mut begin = (*at).max(from);
            while begin < end {
                // What the registry has of the tenant may change while the level holds.
                let until = self.next_version(&series.tenant, begin).min(end);
                if let Some(place) = self.place(series, &dimensions, begin)? {
                    self.sums.hold(place, begin, until, *level).ok_or_else(|| self.too_large())?;
                }
                begin = until;
            }
        }
        Ok(())
    }

    fn too_large(&self) -> UsageError {
        self.ask.too_large("a sum of levels, in digits".to_owned(), 38)
    }

    /// When levels of a time end at the latest: with the generation of their series.
    fn ends(&self, at: i64) -> i64 {
        let of_time = |generation: &&Generation| generation.from <= at && at < generation.to;
        self.generations.iter().find(of_time).map_or(i64::MIN, |generation| generation.to)
    }

    fn versions(&self, tenant: &str) -> &[Version] {
        self.registry.get(tenant).map_or(&[], Vec::as_slice)
    }

    fn next_version(&self, tenant: &str, at: i64) -> i64 {
        let versions = self.versions(tenant);
        versions
            .get(versions.partition_point(|version| version.since <= at))
            .map_or(i64::MAX, |next| next.since)
    }

    /// The place of the group that a series is of at a time; `None` if it is not asked for.
    fn place(
        &mut self,
        series: &Series,
        dimensions: &BTreeMap<String, String>,
        at: i64,
    ) -> Result<Option<usize>, UsageError> {
        let Some(keys) = self.keys(series, dimensions, at) else { return Ok(None) };
        let place = self.sums.place(keys);
        let limit = self.ask.limits().rows_answered_max;
        match self.sums.held() as u64 > limit.saturating_mul(SUMS_FOR_ROW as u64) {
            true => Err(self.ask.too_large("the number of rows of the answer".to_owned(), limit)),
            false => Ok(Some(place)),
        }
    }

    fn keys(&self, series: &Series, dimensions: &BTreeMap<String, String>, at: i64) -> Option<Vec<String>> {
        let versions = self.versions(&series.tenant);
        let version = versions[..versions.partition_point(|version| version.since <= at)].last();
        let organisation = version.map_or("", |version| &version.organisation);
        let organisations = &self.plan.organisations;
        if !organisations.is_empty() && !organisations.iter().any(|asked| asked == organisation) {
            return None;
        }
        let key = |group: &Group| match group {
            Group::Tenant => series.tenant.clone(),
            Group::Organisation => organisation.to_owned(),
            Group::Tier => version.map_or(String::new(), |version| version.tier.clone()),
            Group::Tag(tag) => {
                let tags = version.map_or(&[][..], |version| &version.tags);
                tags.iter().find(|(name, _)| name == tag).map_or(String::new(), |(_, value)| value.clone())
            }
            Group::Dimension(name) => dimensions.get(name).cloned().unwrap_or_default(),
        };
        let keys: Vec<String> = self.plan.group_by.iter().map(key).collect();
        match &self.plan.all_but {
            None => Some(keys),
            Some(left_out) => keys.first().is_none_or(|key| !left_out.contains(key)).then(Vec::new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_end_where_other_series_are_told_apart() {
        let meter = |from: Option<i64>, to: Option<i64>, series: &[&str]| Meter {
            effective_from: from.map(super::super::plan::instant),
            effective_to: to.map(super::super::plan::instant),
            series: series.iter().map(|name| (*name).to_owned()).collect(),
            ..Meter::default()
        };
        let history = [
            meter(None, Some(60), &["a"]),
            meter(Some(60), Some(120), &["a"]),
            meter(Some(120), Some(180), &["b"]),
            meter(Some(240), None, &["b"]),
        ];
        let stretch = |from, to| Generation { from, to };
        assert_eq!(
            generations(&history),
            [
                stretch(i64::MIN, 120 * SECOND),
                stretch(120 * SECOND, 180 * SECOND),
                stretch(240 * SECOND, i64::MAX)
            ]
        );
    }
}
