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
use crate::meter::{self, Aggregation, Meters};
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
                    return Err((
                        path,
                        "a weight of 0 drives nothing: leave the driver out".to_owned(),
                    ));
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
        return Err((
            format!("{at}.name"),
            format!("`{name}` is there twice for {month}"),
        ));
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
        Some(Aggregation::Min | Aggregation::Max) => Err((
            path.to_owned(),
            format!("`{name}` is a smallest or largest value: only counts and sums drive cost"),
        )),
        _ => Ok(()),
    }
}
