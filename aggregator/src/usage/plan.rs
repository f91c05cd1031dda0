//! A question, checked: which meter in which versions, which span in which windows, and whether rollups answer it. Pure.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rentroll_schemas::meter::{Aggregation, FromRollup, Meter, Meters};

use super::windows::Cut;
use super::{Approximation, Filter, Group, Scope, Test, UsageError, raw};

/// Most tenants or organisations that a question can name.
const NAMES_MAX: usize = 10_000;
/// Most filters of a question; each is a condition that every event is held against.
pub const FILTERS_MAX: usize = 100;
/// Most groups.
const GROUPS_MAX: usize = 10;

/// A question, checked.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The newest version that counts in the span, or at all.
    pub(super) meter: Meter,
    /// Those that count in the span, in the order of time.
    pub(super) versions: Vec<Meter>,
    /// All versions, in the order of time.
    pub(super) history: Vec<Meter>,
    pub(super) cut: Cut,
    pub(super) tenants: Vec<String>,
    pub(super) organisations: Vec<String>,
    pub(super) filters: Vec<Filter>,
    pub(super) group_by: Vec<Group>,
    /// Events are counted and nothing else.
    pub(super) counts_only: bool,
    /// Values that differ are counted about right.
    pub(super) approximate: bool,
    /// Values of the first group that are left out; then rows are told apart by nothing.
    pub(super) all_but: Option<Vec<String>>,
}

/// What is common to questions about a meter.
pub(super) struct Asked<'a> {
    pub(super) meter: &'a str,
    pub(super) tenants: &'a [String],
    pub(super) organisations: &'a [String],
    pub(super) filters: &'a [Filter],
    pub(super) group_by: &'a [Group],
    /// Events are counted and nothing else.
    pub(super) counts_only: bool,
    /// Values that differ are counted about right.
    pub(super) approximate: bool,
}

impl Plan {
    /// Checks a question about the span of `cut`.
    pub(super) fn new(
        scope: &Scope,
        meters: &Meters,
        asked: &Asked<'_>,
        cut: Cut,
    ) -> Result<Plan, UsageError> {
        let newest = find(scope, meters, asked.meter)?;
        let (from, to) = (cut.from(), cut.to());
        let is_in_span = |meter: &&Meter| {
            meter.effective_from.is_none_or(|begins| begins.timestamp() < to)
                && meter.effective_to.is_none_or(|ends| ends.timestamp() > from)
        };
        let versions: Vec<Meter> = meters.versions(asked.meter).filter(is_in_span).cloned().collect();
        let meter = versions.last().unwrap_or(newest).clone();
        check_names("tenants", asked.tenants)?;
        check_names("organisations", asked.organisations)?;
        check_filters(asked.filters)?;
        check_groups(asked.group_by)?;
        let plan = Plan {
            meter,
            versions,
            history: meters.versions(asked.meter).cloned().collect(),
            cut,
            tenants: asked.tenants.to_vec(),
            organisations: asked.organisations.to_vec(),
            filters: asked.filters.to_vec(),
            group_by: asked.group_by.to_vec(),
            counts_only: asked.counts_only,
            approximate: asked.approximate,
            all_but: None,
        };
        plan.check_approximate()?;
        plan.check_versions()?;
        plan.check_levels()?;
        Ok(plan)
    }

    /// Versions that make different things of events have no common quantity.
    fn check_versions(&self) -> Result<(), UsageError> {
        if self.counts_only {
            return Ok(());
        }
        let same = |meter: &Meter| (meter.aggregation, meter.percentile, meter.per);
        let differing = self.versions.iter().find(|version| same(version) != same(&self.meter));
        let changed = self.versions.iter().find(|version| same(version) == same(&self.meter));
        match (differing, changed.and_then(|version| version.effective_from)) {
            (Some(version), at) => {
                let at = at.map_or_else(String::new, |at| format!(" at {}", rfc3339(at.timestamp())));
                Err(UsageError::parameter(
                    "from",
                    rfc3339(self.cut.from()),
                    format!(
                        "the meter `{}` turned from {} into {}{at}, which do not add up: ask for a span on one side of it",
                        self.meter.name,
                        version.aggregation.name(),
                        self.meter.aggregation.name(),
                    ),
                ))
            }
            (None, _) => Ok(()),
        }
    }

    /// Whatever is not a count of different values is exact at no cost.
    fn check_approximate(&self) -> Result<(), UsageError> {
        if !self.approximate || self.meter.aggregation == Aggregation::UniqueCount {
            return Ok(());
        }
        let allowed = format!(
            "for meters of `unique_count`; `{}` is one of `{}`, which is always exact",
            self.meter.name,
            self.meter.aggregation.name()
        );
        Err(UsageError::parameter("approximate", "true", allowed))
    }

    /// Whether it would take less memory if quantities were counted about right.
    pub(super) fn may_be_approximate(&self) -> bool {
        self.meter.aggregation == Aggregation::UniqueCount && !self.counts_only && !self.approximate
    }

    /// How quantities are counted about right, if they are.
    pub(super) fn approximation(&self) -> Option<Approximation> {
        self.approximate.then_some(raw::APPROXIMATION)
    }

    /// A level is told apart by its series: what holds of a sample alone says nothing of the time until the next one.
    fn check_levels(&self) -> Result<(), UsageError> {
        if self.meter.aggregation != Aggregation::TimeWeighted || self.counts_only {
            return Ok(());
        }
        let keys = self.common_keys();
        let allowed = |what: &str| {
            let keys: Vec<&str> = keys.iter().copied().collect();
            format!(
                "a level is {what} by the dimensions of its meter's `group_by` and `series` alone: {}",
                if keys.is_empty() { "it has none".to_owned() } else { keys.join(", ") }
            )
        };
        if let Some(filter) = self.filters.iter().find(|filter| !keys.contains(filter.key.as_str())) {
            return Err(UsageError::parameter("filters", &filter.key, allowed("filtered")));
        }
        let stray = |group: &&Group| matches!(group, Group::Dimension(key) if !keys.contains(key.as_str()));
        if let Some(group) = self.group_by.iter().find(stray) {
            return Err(UsageError::parameter("group_by", group, allowed("grouped")));
        }
        Ok(())
    }

    /// The dimensions that the rollups of all versions keep apart.
    pub(super) fn common_keys(&self) -> BTreeSet<&str> {
        let mut versions = self.versions.iter();
        let first = versions.next().unwrap_or(&self.meter).key_dimensions();
        versions.fold(first, |keys, version| keys.intersection(&version.key_dimensions()).copied().collect())
    }

    /// Whether rollups have what is asked for: the quantity, and the dimensions. A range looks at measures too, which they do not keep.
    pub(super) fn is_in_rollups(&self) -> bool {
        let keys = self.common_keys();
        let has_quantity = self.counts_only || self.meter.aggregation.from_rollup() != FromRollup::Nothing;
        let is_kept = |filter: &Filter| {
            keys.contains(filter.key.as_str()) && !matches!(filter.test, Test::Range { .. })
        };
        let is_key = |group: &Group| match group {
            Group::Dimension(key) => keys.contains(key.as_str()),
            Group::Tenant | Group::Organisation | Group::Tier | Group::Tag(_) => true,
        };
        has_quantity
            && self.filters.iter().all(is_kept)
            && self.group_by.iter().all(is_key)
            && self.cut.edges.iter().all(|edge| edge % 60 == 0)
    }

    /// Whether the registry of tenants has a part in it.
    pub(super) fn needs_registry(&self) -> bool {
        let is_of_registry =
            |group: &Group| matches!(group, Group::Organisation | Group::Tier | Group::Tag(_));
        !self.organisations.is_empty() || self.group_by.iter().any(is_of_registry)
    }

    /// Whether dimensions have a part in it.
    pub(super) fn needs_dimensions(&self) -> bool {
        !self.filters.is_empty() || self.group_by.iter().any(|group| matches!(group, Group::Dimension(_)))
    }

    /// How to ask for less.
    pub(super) fn narrow(&self) -> String {
        let mut ways = vec!["ask for a shorter span"];
        if self.tenants.is_empty() {
            ways.push("name tenants");
        }
        if self.cut.edges.len() > 2 {
            ways.push("take a coarser window");
        }
        if !self.is_in_rollups() && self.meter.aggregation.from_rollup() != FromRollup::Nothing {
            ways.push("add the dimensions to the meter's `group_by`, so that its rollups answer");
        }
        match ways.pop() {
            Some(last) if !ways.is_empty() => format!("{}, or {last}", ways.join(", ")),
            other => other.unwrap_or_default().to_owned(),
        }
    }
}

impl std::fmt::Display for Group {
    /// As errors name it: `tenant`, `organisation`, `tier`, `tag:<name>`, or the dimension.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Group::Tenant => f.write_str("tenant"),
            Group::Organisation => f.write_str("organisation"),
            Group::Tier => f.write_str("tier"),
            Group::Tag(tag) => write!(f, "tag:{tag}"),
            Group::Dimension(key) => f.write_str(key),
        }
    }
}

/// The meter of that name, if it may be seen.
pub(super) fn find<'m>(scope: &Scope, meters: &'m Meters, name: &str) -> Result<&'m Meter, UsageError> {
    match meters.get(name).filter(|_| scope.shows_meter(name)) {
        Some(meter) => Ok(meter),
        None => {
            let mut known: Vec<String> = meters
                .newest()
                .map(|meter| meter.name.clone())
                .filter(|known| scope.shows_meter(known))
                .collect();
            known.sort_unstable();
            let mut similar: Vec<(usize, &String)> = known
                .iter()
                .map(|known| (distance(known, name), known))
                .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
                .collect();
            similar.sort_unstable();
            let similar = similar.into_iter().take(3).map(|(_, known)| known.clone()).collect();
            Err(UsageError::UnknownMeter { given: name.to_owned(), similar, known })
        }
    }
}

/// How many letters must be put in, taken away or replaced to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in one.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (at, with) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *with);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[other.len()]
}

/// The span [from, to) in seconds since the epoch.
///
/// # Errors
/// It holds nothing, or does not begin and end with a minute that the rollups have.
pub(super) fn span(from: DateTime<Utc>, to: DateTime<Utc>) -> Result<(i64, i64), UsageError> {
    for (name, time) in [("from", from), ("to", to)] {
        if time.timestamp_micros() % 60_000_000 != 0 || time.timestamp_subsec_nanos() != 0 {
            return Err(UsageError::parameter(
                name,
                time.to_rfc3339(),
                "a whole minute: usage is kept by the minute",
            ));
        }
        if !(0..=i64::from(u32::MAX)).contains(&time.timestamp()) {
            return Err(UsageError::parameter(name, time.to_rfc3339(), "1970-01-01 to 2106-02-07"));
        }
    }
    match from < to {
        true => Ok((from.timestamp(), to.timestamp())),
        false => {
            Err(UsageError::parameter("to", to.to_rfc3339(), format!("after `from`, {}", from.to_rfc3339())))
        }
    }
}

pub(super) fn rfc3339(at: i64) -> String {
    instant(at).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// A time that a span has.
pub(super) fn instant(at: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(at, 0).unwrap_or_default()
}

fn check_names(name: &'static str, given: &[String]) -> Result<(), UsageError> {
    match given.len() > NAMES_MAX {
        true => {
            Err(UsageError::parameter(name, format!("{} names", given.len()), format!("at most {NAMES_MAX}")))
        }
        false => Ok(()),
    }
}

fn check_filters(filters: &[Filter]) -> Result<(), UsageError> {
    if filters.len() > FILTERS_MAX {
        return Err(UsageError::parameter("filters", filters.len(), format!("at most {FILTERS_MAX}")));
    }
    for Filter { key, test } in filters {
        let fail = |allowed: &str| Err(UsageError::parameter("filters", key, allowed));
        match test {
            _ if key.is_empty() => return fail("the name of a dimension or a measure"),
            Test::In(values) | Test::Not(values) if values.is_empty() => return fail("at least one value"),
            Test::In(values) | Test::Not(values) if values.len() > NAMES_MAX => {
                return fail("at most 10000 values");
            }
            Test::Range { from: None, below: None } => return fail("a range with `from`, `below` or both"),
            Test::Range { from: Some(from), below: Some(below) } if from >= below => {
                return fail("a range of which `from` is less than `below`");
            }
            Test::In(_) | Test::Not(_) | Test::Prefix(_) | Test::Range { .. } => {}
        }
    }
    Ok(())
}

fn check_groups(groups: &[Group]) -> Result<(), UsageError> {
    if groups.len() > GROUPS_MAX {
        return Err(UsageError::parameter("group_by", groups.len(), format!("at most {GROUPS_MAX}")));
    }
    let mut seen = BTreeSet::new();
    for group in groups {
        if matches!(group, Group::Dimension(key) | Group::Tag(key) if key.is_empty()) {
            return Err(UsageError::parameter("group_by", group, "the name of a dimension or a tag"));
        }
        if !seen.insert(group) {
            return Err(UsageError::parameter("group_by", group, "each once"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_near_are_found() {
        assert_eq!(distance("requests", "requets"), 1);
        assert_eq!(distance("", "abc"), 3);
        let meter = |name: &str| Meter { name: name.to_owned(), ..Meter::default() };
        let meters = Meters { meters: vec![meter("requests"), meter("egress_bytes"), meter("secret")] };
        let scope = Scope::Tenant { tenant: "t".to_owned(), meters: vec!["requests".to_owned()] };
        let error = find(&scope, &meters, "request").unwrap_err();
        assert_eq!(error.to_string(), "meter: there is no meter `request`; did you mean `requests`?");
        let error = find(&scope, &meters, "secret").unwrap_err();
        assert_eq!(error.to_string(), "meter: there is no meter `secret`; there are requests");
    }

    #[test]
    fn errors_name_the_parameter_and_what_is_allowed() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        for (from, to, named) in [
            ("2026-01-01T00:00:01Z", "2026-01-02T00:00:00Z", "from: `2026-01-01T00:00:01+00:00`"),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "to: `2026-01-01T00:00:00+00:00`"),
            ("1969-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "from: "),
            ("2026-01-01T00:00:00Z", "2206-01-01T00:00:00Z", "1970-01-01 to 2106"),
        ] {
            let error = span(at(from), at(to)).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let filter = |test: Test| vec![Filter { key: "k".to_owned(), test }];
        assert!(check_filters(&filter(Test::In(Vec::new()))).is_err());
        assert!(check_filters(&filter(Test::Range { from: None, below: None })).is_err());
        assert!(check_groups(&[Group::Tenant, Group::Tenant]).is_err());
        assert!(check_groups(&[Group::Dimension(String::new())]).is_err());
    }
}
