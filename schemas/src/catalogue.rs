//! The catalogue: who sells, what the plans cost, and who is on which plan. `catalogue.yaml`, kept in
//! version control.
//!
//! Prices change by adding a version with a later `effective_from`; a month is billed by the version that is
//! in force at its first instant. Tiers and ladder steps are half-open intervals `[from, to)` on exact
//! quantities: they begin at 0, follow each other without a gap, and the last one is open.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{Datelike, NaiveDate};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::currency::{Currency, Exact};
use crate::invoice::{Party, Seller};
use crate::meter::{self, Aggregation, Meters};
use crate::yaml::{self, FileError};

/// Most decimals of a price or a fee: what the store's `Decimal(38, 9)` holds. Smaller prices are written
/// per thousand or per million, with `unit_divisor`.
pub const PRICE_DECIMALS_MAX: u32 = 9;
/// Largest price, fee or pool. Together with the digits of a quantity it keeps every product exact.
pub const PRICE_MAX: Decimal = Decimal::from_parts(1_000_000_000, 0, 0, false, 0);
/// Largest `unit_divisor`: a petabyte.
const UNIT_DIVISOR_MAX: u64 = 1_000_000_000_000_000;

/// `catalogue.yaml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// The currency of every price.
    pub currency: Currency,
    /// IANA name of the zone in which days and months begin.
    #[serde(default = "utc", with = "zone")]
    #[schemars(with = "String")]
    pub time_zone: Tz,
    /// Invoice numbers are `prefix-year-000001`.
    pub invoice_prefix: String,
    /// Who asks for the money.
    pub seller: Seller,
    /// Names and addresses of tenants, by tenant. A tenant without an entry is addressed by its own name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub customers: BTreeMap<String, Party>,
    /// Prices over time, oldest first.
    pub versions: Vec<Version>,
}

fn utc() -> Tz {
    Tz::UTC
}

/// A zone by its IANA name.
mod zone {
    use chrono_tz::Tz;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(zone: &Tz, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(zone.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tz, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|_| {
            serde::de::Error::custom(format!(
                "`{name}` is not an IANA time zone such as UTC or Europe/Amsterdam"
            ))
        })
    }
}

/// Plans and prices from one day on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// First day, in the billing zone; the first of a month, because a month has one price list.
    pub effective_from: NaiveDate,
    /// Tax on every invoice, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<Tax>,
    /// The plans, cheapest first.
    pub plans: Vec<Plan>,
    /// How a tenant gets its plan.
    pub assignment: Assignment,
}

/// A tax.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tax {
    /// Its name on the invoice: `VAT`.
    pub name: String,
    /// As a fraction: 0.21 is 21 %.
    pub rate: Exact,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Stable name: lower case, digits, `_`.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Fixed price of a month.
    pub base_fee: Exact,
    /// What the plan allows; read by noisy-tenant detection.
    pub limits: Limits,
    /// Prices of usage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub charges: Vec<Charge>,
}

/// What a plan allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests a minute.
    pub requests_per_minute: u64,
    /// Connections held at once.
    pub connections: u64,
}

/// The price of one meter's usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// The meter, from `meters.yaml`. What is priced is its quantity of the whole period, in its own unit:
    /// - `count`, `sum`: of all events;
    /// - `min`, `max`: the least or the greatest value;
    /// - `avg`: the sum of values by the number of events, rounded half away from zero at nine decimals;
    /// - `unique_count`: the different values, exactly;
    /// - `latest`: the last value of the period, nothing without one;
    /// - `percentile`: the value at that place among all of the period, such as the 95th percentile of bandwidth samples;
    /// - `time_weighted`: every value times the time that it held within the period, the last one before it carried in:
    ///   byte-seconds, -minutes or -hours, or with `per: window` the average level, which is byte-months.
    ///
    /// A `rate` is refused: what it divides by depends on how long one looks.
    pub meter: String,
    /// Heading on the invoice.
    pub title: String,
    /// Display unit, singular: `request`, `GB`. Tiers and prices are in it.
    pub unit: String,
    /// How many of the meter's own units make one display unit; a power of ten, so that conversion is
    /// exact: 1000000000 bytes are one GB.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub unit_divisor: u64,
    /// How usage becomes money.
    pub model: Model,
    /// `graduated`: each part of the usage is priced by the tier that it falls into.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
    /// `per_unit`: the price of one `unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_price: Option<Exact>,
    /// `flat`: the amount due in a month in which there is any usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Exact>,
}

fn one() -> u64 {
    1
}

fn is_one(divisor: &u64) -> bool {
    *divisor == 1
}

/// How usage becomes money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// Tier by tier.
    Graduated,
    /// Quantity times price.
    PerUnit,
    /// A fixed amount if there is any usage.
    Flat,
}

/// A [`Charge`]'s model with what it needs: what [`Catalogue::check`] has made sure of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pricing<'a> {
    /// Tier by tier.
    Graduated(&'a [Tier]),
    /// Price of one display unit.
    PerUnit(Decimal),
    /// Amount for any usage at all.
    Flat(Decimal),
}

/// The half-open interval `[from, to)` of a graduated price, in the charge's `unit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// First quantity in it.
    pub from: Exact,
    /// First quantity after it; absent on the last tier, which is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Exact>,
    /// Price of one `unit` within it.
    pub unit_price: Exact,
    /// Added once when usage is `from` or more; on the first tier, always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat_fee: Option<Exact>,
}

/// How a tenant gets its plan: by name in `fixed`, else by usage or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// Tenants with a plan of their own, whatever they use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fixed: BTreeMap<String, String>,
    /// By usage in the period; exactly one of this and `default` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_usage: Option<Ladder>,
    /// The plan of everybody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// Plans by the usage of one meter in the period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ladder {
    /// The meter, from `meters.yaml`; its quantity as [`Charge::meter`] says.
    pub meter: String,
    /// Steps on its quantity, in the meter's own unit.
    pub ladder: Vec<Step>,
}

/// The half-open interval `[from, to)` of usage that puts a tenant on a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// First quantity in it.
    pub from: Exact,
    /// First quantity after it; absent on the last step, which is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Exact>,
    /// The plan.
    pub plan: String,
}

/// (path to the value at fault, what is wrong with it).
type Fault = (String, String);

impl Catalogue {
    /// Reads `catalogue.yaml` and checks it against the meters that it prices.
    ///
    /// # Errors
    /// [`FileError`] names the file, the path to the value at fault, and the reason.
    pub fn read(path: &Path, meters: &Meters) -> Result<Self, FileError> {
        let catalogue: Catalogue = yaml::read(path)?;
        catalogue.check(meters).map_err(|(field, reason)| FileError::Rule {
            path: path.to_owned(),
            field,
            reason,
        })?;
        Ok(catalogue)
    }

    /// The version that prices a month which begins on `day`; `None` before the first.
    pub fn version_on(&self, day: NaiveDate) -> Option<&Version> {
        self.versions.iter().rev().find(|version| version.effective_from <= day)
    }

    /// The newest version: what limits and the console show.
    pub fn newest(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// The rules that the shape alone cannot express.
    ///
    /// # Errors
    /// (path, reason) of the first rule that does not hold.
    pub fn check(&self, meters: &Meters) -> Result<(), Fault> {
        let prefix_is_plain =
            self.invoice_prefix.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if !prefix_is_plain || self.invoice_prefix.is_empty() || self.invoice_prefix.len() > 12 {
            return fault(
                "invoice_prefix",
                format!("`{}`: only A-Z and 0-9, 1 to 12 of them", self.invoice_prefix),
            );
        }
        if self.seller.name.trim().is_empty() {
            return fault("seller.name", "must not be empty".to_owned());
        }
        if self.seller.payment_terms_days > 365 {
            return fault("seller.payment_terms_days", "more than a year".to_owned());
        }
        if self.versions.is_empty() {
            return fault("versions", "there must be at least one".to_owned());
        }
        let mut previous: Option<NaiveDate> = None;
        for (index, version) in self.versions.iter().enumerate() {
            let at = format!("versions[{index}]");
            let from = version.effective_from;
            if from.day() != 1 {
                return fault(
                    &format!("{at}.effective_from"),
                    format!("{from} is not the first day of a month"),
                );
            }
            if let Some(previous) = previous.filter(|previous| *previous >= from) {
                return fault(
                    &format!("{at}.effective_from"),
                    format!("{from} is not after {previous}: oldest first"),
                );
            }
            previous = Some(from);
            version.check(&at, meters)?;
        }
        Ok(())
    }
}

impl Version {
    /// The meters that decide amounts: of charges, and of the ladder.
    pub fn meters(&self) -> impl Iterator<Item = &str> {
        let charges = self.plans.iter().flat_map(|plan| &plan.charges).map(|charge| charge.meter.as_str());
        charges.chain(self.assignment.by_usage.as_ref().map(|ladder| ladder.meter.as_str()))
    }

    /// The plan of that name.
    pub fn plan(&self, name: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.name == name)
    }

    fn check(&self, at: &str, meters: &Meters) -> Result<(), Fault> {
        if let Some(tax) = &self.tax {
            if tax.name.trim().is_empty() {
                return fault(&format!("{at}.tax.name"), "must not be empty".to_owned());
            }
            if tax.rate.0 < Decimal::ZERO || tax.rate.0 > Decimal::ONE || tax.rate.0.normalize().scale() > 6 {
                let reason = format!("{}: a fraction from 0 to 1 with at most 6 decimals", tax.rate);
                return fault(&format!("{at}.tax.rate"), reason);
            }
        }
        if self.plans.is_empty() {
            return fault(&format!("{at}.plans"), "there must be at least one".to_owned());
        }
        let mut names = BTreeSet::new();
        for (index, plan) in self.plans.iter().enumerate() {
            let at = format!("{at}.plans[{index}]");
            if !names.insert(&plan.name) {
                return fault(&format!("{at}.name"), format!("`{}` is defined twice", plan.name));
            }
            plan.check(&at, meters)?;
        }
        self.assignment.check(&format!("{at}.assignment"), self, meters)
    }
}

impl Plan {
    fn check(&self, at: &str, meters: &Meters) -> Result<(), Fault> {
        if !meter::is_name(&self.name) {
            let reason = format!("`{}`: only a-z, 0-9 and _, beginning with a letter, at most 64", self.name);
            return fault(&format!("{at}.name"), reason);
        }
        if self.title.trim().is_empty() {
            return fault(&format!("{at}.title"), "must not be empty".to_owned());
        }
        price(&format!("{at}.base_fee"), self.base_fee)?;
        if self.limits.requests_per_minute == 0 {
            return fault(&format!("{at}.limits.requests_per_minute"), "0 would allow nothing".to_owned());
        }
        if self.limits.connections == 0 {
            return fault(&format!("{at}.limits.connections"), "0 would allow nothing".to_owned());
        }
        for (index, charge) in self.charges.iter().enumerate() {
            charge.check(&format!("{at}.charges[{index}]"), meters)?;
        }
        Ok(())
    }
}

impl Charge {
    /// The model with what it needs; `None` only where [`Catalogue::check`] would have failed.
    pub fn pricing(&self) -> Option<Pricing<'_>> {
        match self.model {
            Model::Graduated => (!self.tiers.is_empty()).then_some(Pricing::Graduated(&self.tiers)),
            Model::PerUnit => self.unit_price.map(|price| Pricing::PerUnit(price.0)),
            Model::Flat => self.amount.map(|amount| Pricing::Flat(amount.0)),
        }
    }

    fn check(&self, at: &str, meters: &Meters) -> Result<(), Fault> {
        priced_meter(&format!("{at}.meter"), &self.meter, meters)?;
        if self.title.trim().is_empty() {
            return fault(&format!("{at}.title"), "must not be empty".to_owned());
        }
        if self.unit.trim().is_empty() {
            return fault(&format!("{at}.unit"), "must not be empty".to_owned());
        }
        let is_power_of_ten =
            self.unit_divisor.checked_ilog10().is_some_and(|n| 10_u64.pow(n) == self.unit_divisor);
        if !is_power_of_ten || self.unit_divisor > UNIT_DIVISOR_MAX {
            let reason = format!(
                "{}: must be a power of ten up to 10^15, so that conversion is exact",
                self.unit_divisor
            );
            return fault(&format!("{at}.unit_divisor"), reason);
        }
        let given = [
            ("tiers", !self.tiers.is_empty(), Model::Graduated, "graduated"),
            ("unit_price", self.unit_price.is_some(), Model::PerUnit, "per_unit"),
            ("amount", self.amount.is_some(), Model::Flat, "flat"),
        ];
        for (field, present, model, name) in given {
            if present && self.model != model {
                return fault(
                    &format!("{at}.{field}"),
                    format!("belongs to the model `{name}`, which this charge is not"),
                );
            }
            if !present && self.model == model {
                return fault(&format!("{at}.{field}"), format!("missing: the model `{name}` needs it"));
            }
        }
        let bounds = self.tiers.iter().map(|tier| (tier.from, tier.to));
        contiguous(&format!("{at}.tiers"), "tier", bounds)?;
        for (index, tier) in self.tiers.iter().enumerate() {
            price(&format!("{at}.tiers[{index}].unit_price"), tier.unit_price)?;
            if let Some(fee) = tier.flat_fee {
                price(&format!("{at}.tiers[{index}].flat_fee"), fee)?;
            }
        }
        if let Some(unit_price) = self.unit_price {
            price(&format!("{at}.unit_price"), unit_price)?;
        }
        self.amount.map_or(Ok(()), |amount| price(&format!("{at}.amount"), amount))
    }
}

impl Assignment {
    fn check(&self, at: &str, version: &Version, meters: &Meters) -> Result<(), Fault> {
        let known_plan = |at: String, plan: &str| match version.plan(plan) {
            Some(_) => Ok(()),
            None => {
                let plans: Vec<&str> = version.plans.iter().map(|plan| plan.name.as_str()).collect();
                fault(&at, format!("there is no plan `{plan}`; there are {}", plans.join(", ")))
            }
        };
        for (tenant, plan) in &self.fixed {
            known_plan(format!("{at}.fixed.{tenant}"), plan)?;
        }
        match (&self.by_usage, &self.default) {
            (Some(_), Some(_)) => {
                fault(at, "`by_usage` and `default` are both given: a tenant has one plan".to_owned())
            }
            (None, None) => {
                fault(at, "neither `by_usage` nor `default` is given: a tenant could have no plan".to_owned())
            }
            (None, Some(plan)) => known_plan(format!("{at}.default"), plan),
            (Some(by_usage), None) => {
                let at = format!("{at}.by_usage");
                priced_meter(&format!("{at}.meter"), &by_usage.meter, meters)?;
                if by_usage.ladder.is_empty() {
                    return fault(&format!("{at}.ladder"), "there must be at least one step".to_owned());
                }
                let bounds = by_usage.ladder.iter().map(|step| (step.from, step.to));
                contiguous(&format!("{at}.ladder"), "step", bounds)?;
                for (index, step) in by_usage.ladder.iter().enumerate() {
                    known_plan(format!("{at}.ladder[{index}].plan"), &step.plan)?;
                }
                Ok(())
            }
        }
    }
}

fn fault<T>(path: &str, reason: String) -> Result<T, Fault> {
    Err((path.to_owned(), reason))
}

/// A meter that exists.
pub(crate) fn known_meter(path: &str, name: &str, meters: &Meters) -> Result<(), Fault> {
    if meters.get(name).is_some() {
        return Ok(());
    }
    let names: Vec<&str> = meters.newest().map(|meter| meter.name.as_str()).collect();
    fault(path, format!("there is no meter `{name}`; there are {}", names.join(", ")))
}

/// A meter that exists and whose quantity of a month can be priced.
fn priced_meter(path: &str, name: &str, meters: &Meters) -> Result<(), Fault> {
    known_meter(path, name, meters)?;
    match meters.get(name).map(|meter| meter.aggregation) {
        Some(Aggregation::Rate) => fault(
            path,
            format!(
                "`{name}` is a rate, which is for looking at: what it divides by depends on how long one looks; \
                 price a count, a sum or a percentile"
            ),
        ),
        _ => Ok(()),
    }
}

/// A price or fee that is not negative, and small and coarse enough for every product to be exact.
pub(crate) fn price(path: &str, value: Exact) -> Result<(), Fault> {
    if value.0 < Decimal::ZERO {
        return fault(path, format!("{value} is negative"));
    }
    if value.0.normalize().scale() > PRICE_DECIMALS_MAX {
        return fault(
            path,
            format!("{value} has more than {PRICE_DECIMALS_MAX} decimals: price a larger unit"),
        );
    }
    if value.0 > PRICE_MAX {
        return fault(path, format!("{value} is more than {PRICE_MAX}"));
    }
    Ok(())
}

/// Half-open intervals that begin at 0, follow each other, and end open.
fn contiguous(
    path: &str,
    what: &str,
    bounds: impl ExactSizeIterator<Item = (Exact, Option<Exact>)>,
) -> Result<(), Fault> {
    let last = bounds.len().saturating_sub(1);
    let mut expected = Decimal::ZERO;
    for (index, (from, to)) in bounds.enumerate() {
        let from_path = format!("{path}[{index}].from");
        if from.0.normalize().scale() > PRICE_DECIMALS_MAX {
            return fault(&from_path, format!("{from} has more than {PRICE_DECIMALS_MAX} decimals"));
        }
        if index == 0 && from.0 != expected {
            return fault(&from_path, format!("the first {what} must begin at 0, not at {from}"));
        }
        if from.0 > expected {
            return fault(&from_path, format!("gap: nothing covers from {expected} up to {from}"));
        }
        if from.0 < expected {
            return fault(
                &from_path,
                format!("overlap: the {what} before it ends at {expected}, after {from}"),
            );
        }
        let to_path = format!("{path}[{index}].to");
        match to {
            None if index < last => return fault(&to_path, format!("missing: only the last {what} is open")),
            None => {}
            Some(to) if index == last => {
                return fault(
                    &to_path,
                    format!("the last {what} must be open: without it nothing covers {to} and more"),
                );
            }
            Some(to) if to.0 <= from.0 => return fault(&to_path, format!("{to} is not above {from}")),
            Some(to) => expected = to.0,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const METERS: &str = "meters:
- {name: requests, unit: request, event_type: http.request, aggregation: count}
- {name: egress_bytes, unit: byte, event_type: http.request, aggregation: sum, value: bytes}
";
    const GOOD: &str = "currency: USD
invoice_prefix: RR
seller: {name: Us, payment_terms_days: 30}
versions:
- effective_from: 2015-01-01
  tax: {name: VAT, rate: 0.21}
  plans:
  - {name: free, title: Free, base_fee: 0, limits: {requests_per_minute: 100, connections: 5}}
  - name: pro
    title: Pro
    base_fee: 20
    limits: {requests_per_minute: 1000, connections: 20}
    charges:
    - meter: requests
      title: Requests
      unit: request
      model: graduated
      tiers:
      - {from: 0, to: 100, unit_price: 0}
      - {from: 100, to: 1000, unit_price: 0.02}
      - {from: 1000, unit_price: 0.01, flat_fee: 1.50}
  assignment:
    fixed: {acme: pro}
    by_usage:
      meter: requests
      ladder:
      - {from: 0, to: 25, plan: free}
      - {from: 25, plan: pro}
- effective_from: 2016-01-01
  plans:
  - {name: all, title: All, base_fee: 5, limits: {requests_per_minute: 1, connections: 1}}
  assignment: {default: all}
";

    fn read(text: &str) -> Result<Catalogue, FileError> {
        let meters: Meters = yaml::parse(METERS, Path::new("meters.yaml"))?;
        let path = Path::new("catalogue.yaml");
        let catalogue: Catalogue = yaml::parse(text, path)?;
        catalogue.check(&meters).map_err(|(field, reason)| FileError::Rule {
            path: path.to_owned(),
            field,
            reason,
        })?;
        Ok(catalogue)
    }

    #[test]
    fn a_version_prices_months_from_its_first_day_on() {
        let catalogue = read(GOOD).unwrap();
        let on = |day: &str| catalogue.version_on(day.parse().unwrap()).map(|v| v.plans[0].name.as_str());
        assert_eq!(on("2014-12-31"), None);
        assert_eq!(on("2015-01-01"), Some("free"));
        assert_eq!(on("2015-12-31"), Some("free"));
        assert_eq!(on("2016-01-01"), Some("all"));
        assert_eq!(catalogue.time_zone, Tz::UTC);
    }

    /// Each mistake, made in an otherwise good catalogue, is named by file, path and reason.
    #[test]
    fn mistakes_name_file_path_and_reason() {
        let tiers = "versions[0].plans[1].charges[0].tiers";
        let ladder = "versions[0].assignment.by_usage.ladder";
        for (from, to, field, reason) in [
            (
                "{from: 1000, unit",
                "{from: 1001, unit",
                format!("{tiers}[2].from"),
                "gap: nothing covers from 1000 up to 1001",
            ),
            ("{from: 1000, unit", "{from: 999.5, unit", format!("{tiers}[2].from"), "overlap"),
            (
                "{from: 0, to: 100, unit",
                "{from: 1, to: 100, unit",
                format!("{tiers}[0].from"),
                "must begin at 0",
            ),
            (
                "{from: 1000, unit",
                "{from: 1000, to: 2000, unit",
                format!("{tiers}[2].to"),
                "last tier must be open",
            ),
            ("from: 100, to: 1000,", "from: 100,", format!("{tiers}[1].to"), "only the last tier is open"),
            ("from: 100, to: 1000,", "from: 100, to: 100,", format!("{tiers}[1].to"), "100 is not above 100"),
            ("unit_price: 0.02", "unit_price: -0.02", format!("{tiers}[1].unit_price"), "negative"),
            (
                "unit_price: 0.02",
                "unit_price: 0.0000000002",
                format!("{tiers}[1].unit_price"),
                "more than 9 decimals",
            ),
            (
                "unit_price: 0.02",
                "unit_price: 1000000000.01",
                format!("{tiers}[1].unit_price"),
                "more than 1000000000",
            ),
            ("flat_fee: 1.50", "flat_fee: -1", format!("{tiers}[2].flat_fee"), "negative"),
            ("base_fee: 20", "base_fee: -20", "versions[0].plans[1].base_fee".to_owned(), "negative"),
            (
                "- meter: requests",
                "- meter: request",
                "versions[0].plans[1].charges[0].meter".to_owned(),
                "no meter `request`; there are requests, egress_bytes",
            ),
            (
                "      meter: requests\n      ladder",
                "      meter: x\n      ladder",
                "versions[0].assignment.by_usage.meter".to_owned(),
                "no meter `x`",
            ),
            (
                "{from: 25, plan",
                "{from: 26, plan",
                format!("{ladder}[1].from"),
                "gap: nothing covers from 25 up to 26",
            ),
            (
                "{from: 25, plan: pro",
                "{from: 25, plan: prof",
                format!("{ladder}[1].plan"),
                "no plan `prof`; there are free, pro",
            ),
            ("acme: pro", "acme: prof", "versions[0].assignment.fixed.acme".to_owned(), "no plan `prof`"),
            (
                "    by_usage",
                "    default: free\n    by_usage",
                "versions[0].assignment".to_owned(),
                "both given",
            ),
            ("{default: all}", "{}", "versions[1].assignment".to_owned(), "neither"),
            (
                "model: graduated",
                "model: per_unit",
                "versions[0].plans[1].charges[0].tiers".to_owned(),
                "belongs to the model `graduated`",
            ),
            (
                "model: graduated",
                "model: flat\n      amount: 1",
                "versions[0].plans[1].charges[0].tiers".to_owned(),
                "belongs to",
            ),
            (
                "unit: request\n",
                "unit: request\n      unit_divisor: 1024\n",
                "versions[0].plans[1].charges[0].unit_divisor".to_owned(),
                "power of ten",
            ),
            (
                "unit: request\n",
                "unit: request\n      unit_divisor: 0\n",
                "versions[0].plans[1].charges[0].unit_divisor".to_owned(),
                "power of ten",
            ),
            ("name: pro\n", "name: free\n", "versions[0].plans[1].name".to_owned(), "defined twice"),
            ("2016-01-01", "2016-01-02", "versions[1].effective_from".to_owned(), "first day of a month"),
            ("2016-01-01", "2015-01-01", "versions[1].effective_from".to_owned(), "not after"),
            ("rate: 0.21", "rate: 21", "versions[0].tax.rate".to_owned(), "fraction from 0 to 1"),
            ("invoice_prefix: RR", "invoice_prefix: rr-", "invoice_prefix".to_owned(), "A-Z"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let message = read(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("catalogue.yaml: {field}: ")),
                "{message}, expected {field}"
            );
            assert!(message.contains(reason), "{message}, expected {reason}");
        }
    }

    #[test]
    fn mistakes_of_shape_name_the_key() {
        for (from, to, named) in [
            ("currency: USD", "currency: usd", "usd"),
            ("base_fee: 20", "base_fee: 2e1", "2e1"),
            ("base_fee: 20", "base_fees: 20", "base_fees"),
            ("currency: USD", "currency: USD\ntime_zone: Mars/Olympus", "Mars/Olympus"),
        ] {
            let message = read(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(message.starts_with("catalogue.yaml: ") && message.contains(named), "{message}");
        }
    }

    #[test]
    fn survives_being_written_and_read_again() {
        let catalogue = read(GOOD).unwrap();
        let json = serde_json::to_string(&catalogue).unwrap();
        assert_eq!(serde_json::from_str::<Catalogue>(&json).unwrap(), catalogue);
    }
}
