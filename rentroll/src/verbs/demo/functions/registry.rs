//! `tenants.csv`: who the trace's tenants are, for the tenant registry.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use rentroll_billing::assignment::assign;
use rentroll_billing::rating::{MeterUsage, UsageByMeter};
use rentroll_schemas::Quantity;
use rentroll_schemas::catalogue::Catalogue;

use super::app_name;
use super::events::DAY;
use super::trace::Trace;

/// The apps, by their hashes: tenant, name, organisation, and the tier on which their usage puts them.
///
/// # Errors
/// If the catalogue has no plan for one of them.
pub fn tenants_csv(trace: &Trace, catalogue: &Catalogue) -> anyhow::Result<String> {
    let version = catalogue.version_on(DAY).with_context(|| format!("no prices on {DAY}"))?;
    let mut apps = BTreeMap::new();
    for function in &trace.functions {
        let app = apps.entry(function.app.as_str()).or_insert((function.owner.as_str(), 0_u64));
        app.1 += function.invocations();
    }
    let mut csv = "tenant,name,organisation,tier\n".to_owned();
    for (app, (owner, invocations)) in apps {
        let quantity = Quantity::from_nanos(Quantity::ONE.nanos() * i128::from(invocations));
        let used = MeterUsage { quantity, ..MeterUsage::default() };
        let (plan, _) = assign(version, app, &UsageByMeter::from([("invocations".to_owned(), used)]))?;
        writeln!(csv, "{app},{},{owner},{}", app_name(app), plan.name)?;
    }
    Ok(csv)
}
