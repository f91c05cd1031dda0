//! Which plan a tenant is on in a period: its own if the catalogue names one, else the step of the ladder
//! that its usage falls into (half-open, exact), else the default.

use rentroll_schemas::Quantity;
use rentroll_schemas::catalogue::{Plan, Step, Version};
use rust_decimal::Decimal;

use crate::rating::UsageByMeter;

/// Why no plan was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// The ladder has no step for this much: negative usage, or a catalogue that was not checked.
    #[error("no step of the plan ladder covers {quantity} of `{meter}`")]
    OffTheLadder {
        /// The ladder's meter.
        meter: String,
        /// The tenant's usage.
        quantity: Quantity,
    },
    /// The catalogue names a plan that it does not define: it was not checked.
    #[error("the catalogue assigns the plan `{0}` but does not define it")]
    NoSuchPlan(String),
    /// Neither a ladder nor a default: the catalogue was not checked.
    #[error("the catalogue assigns no plan")]
    Nothing,
}

/// The plan of `tenant`, and why, in words for the invoice.
///
/// # Errors
/// Only for negative usage, or a catalogue that was not checked.
pub fn assign<'a>(
    version: &'a Version,
    tenant: &str,
    usage: &UsageByMeter,
) -> Result<(&'a Plan, String), AssignmentError> {
    let plan = |name: &str| version.plan(name).ok_or_else(|| AssignmentError::NoSuchPlan(name.to_owned()));
    if let Some(name) = version.assignment.fixed.get(tenant) {
        return Ok((plan(name)?, "agreed with the customer".to_owned()));
    }
    if let Some(by_usage) = &version.assignment.by_usage {
        let meter = &by_usage.meter;
        let quantity = usage.get(meter).map(|used| used.quantity).unwrap_or_default();
        let step = walk(&by_usage.ladder, quantity)
            .ok_or_else(|| AssignmentError::OffTheLadder { meter: meter.clone(), quantity })?;
        let range = match step.to {
            Some(to) => format!("from {} to below {to}", step.from),
            None => format!("{} or more", step.from),
        };
        return Ok((plan(&step.plan)?, format!("by use: {quantity} {meter}, {range}")));
    }
    let name = version.assignment.default.as_ref().ok_or(AssignmentError::Nothing)?;
    Ok((plan(name)?, "the default".to_owned()))
}

/// The step whose half-open interval holds `quantity`.
fn walk(ladder: &[Step], quantity: Quantity) -> Option<&Step> {
    // A bound that no quantity can hold lies above all of them.
    let below = |bound: Decimal| Quantity::from_decimal(bound).is_none_or(|bound| quantity < bound);
    ladder.iter().find(|step| !below(step.from.0) && step.to.is_none_or(|to| below(to.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rentroll_schemas::currency::Exact;

    fn ladder() -> Vec<Step> {
        let exact = |n: i64| Exact(Decimal::from(n));
        vec![
            Step { from: exact(0), to: Some(exact(25)), plan: "free".to_owned() },
            Step { from: exact(25), to: Some(exact(250)), plan: "pro".to_owned() },
            Step { from: exact(250), to: None, plan: "enterprise".to_owned() },
        ]
    }

    #[test]
    fn the_first_quantity_of_a_step_is_in_it_and_the_last_is_not() {
        for (quantity, plan) in [
            ("0", "free"),
            ("24.999999999", "free"),
            ("25", "pro"),
            ("249.999999999", "pro"),
            ("250", "enterprise"),
            ("29000000000000000000", "enterprise"),
        ] {
            assert_eq!(walk(&ladder(), quantity.parse().unwrap()).unwrap().plan, plan, "{quantity}");
        }
        assert!(walk(&ladder(), "-0.000000001".parse().unwrap()).is_none());
    }
}
