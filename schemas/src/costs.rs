//! Cost pools: what the platform spent in a month, and what drives it. `costs.yaml`.
//!
//! A pool's cost follows its drivers: `units = Σ weight · quantity` per tenant. With a capacity, what nobody
//! used is idle cost, which follows the pool's policy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::{known_meter, price};
use crate::currency::{Currency, Exact};
use crate::meter::{self, Meters};
use crate::yaml::{self, FileError};

/// The row of cost that nobody used.
pub const IDLE: &str = "__idle__";
/// The row of cost that has no tenant.
pub const UNALLOCATED: &str = "__unallocated__";

/// `costs.yaml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// The currency of every amount; the catalogue's, if margins are wanted.
    pub currency: Currency,
    /// What was spent, and what drives it.
    pub pools: Vec<Pool>,
    /// What was spent without a tenant to spend it on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unallocated: Vec<Unallocated>,
}

/// One kind of cost in one month.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Stable name, unique within its month: lower case, digits, `_`.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// The month, `YYYY-MM`, in the catalogue's time zone.
    #[schemars(regex(pattern = r"^[0-9]{4}-(0[1-9]|1[0-2])$"))]
    pub month: String,
    /// What was spent.
    pub amount: Exact,
    /// Meter → cost units that one of the meter's own units takes. None: the whole pool stays idle.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub drivers: BTreeMap<String, Exact>,
    /// What was paid for, in the meters' own units, for every driver: usage below it leaves idle cost.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, Exact>,
    /// Who bears idle cost.
    #[serde(default)]
    pub idle_policy: IdlePolicy,
}

/// Who bears idle cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdlePolicy {
    /// Nobody: it stays in a row of its own.
    #[default]
    Keep,
    /// Every tenant, in proportion to its units.
    Proportional,
    /// Every tenant with any usage in the month, alike.
    Even,
}

/// Cost that has no tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unallocated {
    /// Stable name, not that of a pool of the month.
    pub name: String,
    /// Name for people: why it has no tenant.
    pub title: String,
    /// The month, `YYYY-MM`, in the catalogue's time zone.
    #[schemars(regex(pattern = r"^[0-9]{4}-(0[1-9]|1[0-2])$"))]
    pub month: String,
    /// What was spent.
    pub amount: Exact,
}

impl Costs {
    /// Reads `costs.yaml` and checks it against the meters that drive it.
    ///
    /// # Errors
    /// [`FileError`] names the file, the path to the value at fault, and the reason.
    pub fn read(path: &Path, meters: &Meters) -> Result<Self, FileError> {
        let costs: Costs = yaml::read(path)?;
        costs.check(meters).map_err(|(field, reason)| FileError::Rule {
            path: path.to_owned(),
            field,
            reason,
        })?;
        Ok(costs)
    }

    /// The rules that the shape alone cannot express.
    ///
    /// # Errors
    /// (path, reason) of the first rule that does not hold.
    pub fn check(&self, meters: &Meters) -> Result<(), (String, String)> {
        let mut names = BTreeSet::new();
        for (index, pool) in self.pools.iter().enumerate() {
            let at = format!("pools[{index}]");
            head(&at, &pool.name, &pool.title, &pool.month, pool.amount, &mut names)?;
            for (name, weight) in &pool.drivers {
                let path = format!("{at}.drivers.{name}");
                known_meter(&path, name, meters)?;
                adds_up(&path, name, meters)?;
                price(&path, *weight)?;
                if weight.0.is_zero() {
                    return Err((path, "a weight of 0 drives nothing: leave the driver out".to_owned()));
                }
                if !pool.capacity.is_empty() && !pool.capacity.contains_key(name) {
                    let reason = "missing: with a capacity, every driver has one".to_owned();
                    return Err((format!("{at}.capacity.{name}"), reason));
                }
            }
            for (name, capacity) in &pool.capacity {
                let path = format!("{at}.capacity.{name}");
                if !pool.drivers.contains_key(name) {
                    return Err((path, format!("`{name}` is not a driver of this pool")));
                }
                if capacity.0.is_sign_negative() || capacity.0.is_zero() {
                    return Err((path, format!("{capacity} is not above 0")));
                }
            }
        }
        for (index, row) in self.unallocated.iter().enumerate() {
            head(
                &format!("unallocated[{index}]"),
                &row.name,
                &row.title,
                &row.month,
                row.amount,
                &mut names,
            )?;
        }
        Ok(())
    }
}

/// What pools and unallocated rows have in common.
fn head<'a>(
    at: &str,
    name: &'a str,
    title: &str,
    month: &'a str,
    amount: Exact,
    names: &mut BTreeSet<(&'a str, &'a str)>,
) -> Result<(), (String, String)> {
    if !meter::is_name(name) {
        let reason = format!("`{name}`: only a-z, 0-9 and _, beginning with a letter, at most 64");
        return Err((format!("{at}.name"), reason));
    }
    if !names.insert((month, name)) {
        return Err((format!("{at}.name"), format!("`{name}` is there twice for {month}")));
    }
    if title.trim().is_empty() {
        return Err((format!("{at}.title"), "must not be empty".to_owned()));
    }
    crate::period::Period::parse(month, chrono_tz::Tz::UTC)
        .map_err(|error| (format!("{at}.month"), error.to_string()))?;
    price(&format!("{at}.amount"), amount)
}

/// Shares are taken of sums: a largest or smallest value cannot be split.
fn adds_up(path: &str, name: &str, meters: &Meters) -> Result<(), (String, String)> {
    match meters.get(name).map(|meter| meter.aggregation) {
        Some(aggregation) if !aggregation.is_additive() => Err((
            path.to_owned(),
            format!("`{name}` is a {}: only counts and sums drive cost", aggregation.name()),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METERS: &str = "meters:
- {name: requests, unit: request, event_type: http.request, aggregation: count}
- {name: peak, unit: byte, event_type: http.request, aggregation: max, value: bytes}
";
    const GOOD: &str = "currency: USD
pools:
- {name: db, title: Database, month: 2015-05, amount: 500.00, drivers: {requests: 1}, capacity: {requests: 9}}
- {name: db, title: Database, month: 2015-06, amount: 1}
unallocated:
- {name: support, title: Support, month: 2015-05, amount: 10}
";

    fn read(text: &str) -> Result<Costs, FileError> {
        let meters: Meters = yaml::parse(METERS, Path::new("meters.yaml"))?;
        let path = Path::new("costs.yaml");
        let costs: Costs = yaml::parse(text, path)?;
        costs.check(&meters).map_err(|(field, reason)| FileError::Rule {
            path: path.to_owned(),
            field,
            reason,
        })?;
        Ok(costs)
    }

    #[test]
    fn idle_cost_is_kept_apart_unless_a_policy_is_stated() {
        assert_eq!(read(GOOD).unwrap().pools[0].idle_policy, IdlePolicy::Keep);
    }

    #[test]
    fn mistakes_name_file_path_and_reason() {
        for (from, to, field, reason) in [
            ("drivers: {requests: 1}", "drivers: {reqs: 1}", "pools[0].drivers.reqs", "no meter `reqs`"),
            ("drivers: {requests: 1}", "drivers: {peak: 1}", "pools[0].drivers.peak", "only counts and sums"),
            (
                "drivers: {requests: 1}",
                "drivers: {requests: 0}",
                "pools[0].drivers.requests",
                "drives nothing",
            ),
            ("drivers: {requests: 1}", "drivers: {requests: -1}", "pools[0].drivers.requests", "negative"),
            (
                "capacity: {requests: 9}",
                "capacity: {peak: 9}",
                "pools[0].capacity.requests",
                "every driver has one",
            ),
            (
                "capacity: {requests: 9}",
                "capacity: {requests: 9, peak: 1}",
                "pools[0].capacity.peak",
                "not a driver",
            ),
            (
                "capacity: {requests: 9}",
                "capacity: {requests: 0}",
                "pools[0].capacity.requests",
                "not above 0",
            ),
            ("amount: 500.00", "amount: -500.00", "pools[0].amount", "negative"),
            ("2015-06", "2015-05", "pools[1].name", "twice for 2015-05"),
            ("2015-06", "2015-13", "pools[1].month", "not a month"),
            ("name: support", "name: db", "unallocated[0].name", "twice for 2015-05"),
            ("title: Support", "title: ''", "unallocated[0].title", "must not be empty"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let message = read(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(message.starts_with(&format!("costs.yaml: {field}: ")), "{message}, expected {field}");
            assert!(message.contains(reason), "{message}, expected {reason}");
        }
    }
}
