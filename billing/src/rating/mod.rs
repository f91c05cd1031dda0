//! Rating: usage, a plan and a currency in, priced lines out. Pure: no clock, no store, no configuration.
//!
//! Guarantees, each held by a property test:
//! - the lines of a graduated charge add up to the whole quantity, none left out and none counted twice;
//! - more usage never costs less;
//! - every line is exact until it is rounded, once, at the currency's minor unit;
//! - what could not be computed exactly is an error, never an approximation.

use std::collections::BTreeMap;

use rentroll_schemas::Quantity;
use rentroll_schemas::catalogue::{Charge, Plan, Pricing};
use rentroll_schemas::currency::{Currency, Exact};
use rentroll_schemas::invoice::{InvoiceLine, LineKind, LineTier};
use rust_decimal::Decimal;

pub(crate) mod exact;
mod flat;
mod graduated;
mod per_unit;
mod text;

/// What one meter made of one tenant's events in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MeterUsage {
    /// How many events.
    pub events: u64,
    /// How much, in the meter's own unit.
    pub quantity: Quantity,
}

/// Usage by meter. A meter that is not there saw no event.
pub type UsageByMeter = BTreeMap<String, MeterUsage>;

/// Why usage could not be priced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RatingError {
    /// A product or sum does not fit into 28 digits.
    #[error("{what} cannot be computed exactly: it has more digits than money is computed with")]
    Inexact {
        /// The computation.
        what: String,
    },
    /// Usage below zero has no tier.
    #[error("meter `{meter}` comes to {quantity}: usage below zero cannot be priced")]
    Negative {
        /// The meter.
        meter: String,
        /// Its quantity.
        quantity: Quantity,
    },
    /// A charge without what its model needs: the catalogue was not checked.
    #[error("the charge `{title}` lacks what its model needs: check the catalogue")]
    Unchecked {
        /// The charge's title.
        title: String,
    },
}

/// A line before it is numbered and rounded.
pub(crate) struct Item {
    kind: LineKind,
    detail: String,
    tier: Option<LineTier>,
    quantity: Decimal,
    unit_price: Decimal,
}

/// The lines of one tenant's month: the base fee, then charge by charge, tier by tier.
///
/// # Errors
/// [`RatingError`] if usage is negative or an amount cannot be computed exactly.
pub fn rate(plan: &Plan, usage: &UsageByMeter, currency: Currency) -> Result<Vec<InvoiceLine>, RatingError> {
    let base = Item {
        kind: LineKind::BaseFee,
        detail: "monthly fee".to_owned(),
        tier: None,
        quantity: Decimal::ONE,
        unit_price: plan.base_fee.0,
    };
    let mut lines = vec![line(base, &format!("{} plan", plan.title), "month", None, currency)?];
    for charge in &plan.charges {
        let used = usage.get(&charge.meter).copied().unwrap_or_default();
        if used.quantity < Quantity::ZERO {
            return Err(RatingError::Negative { meter: charge.meter.clone(), quantity: used.quantity });
        }
        for item in items(charge, used.quantity)? {
            let metered = Some((charge.meter.as_str(), used.events));
            lines.push(line(item, &charge.title, &charge.unit, metered, currency)?);
        }
    }
    for (index, line) in lines.iter_mut().enumerate() {
        line.line = u32::try_from(index + 1).unwrap_or(u32::MAX);
    }
    Ok(lines)
}

fn items(charge: &Charge, quantity: Quantity) -> Result<Vec<Item>, RatingError> {
    match charge.pricing() {
        Some(Pricing::Graduated(tiers)) => graduated::items(tiers, quantity, charge.unit_divisor),
        Some(Pricing::PerUnit(unit_price)) => per_unit::items(unit_price, quantity, charge.unit_divisor),
        Some(Pricing::Flat(amount)) => Ok(flat::items(amount, quantity)),
        None => Err(RatingError::Unchecked { title: charge.title.clone() }),
    }
}

fn line(
    item: Item,
    group: &str,
    unit: &str,
    metered: Option<(&str, u64)>,
    currency: Currency,
) -> Result<InvoiceLine, RatingError> {
    let exact_amount = exact::mul(item.quantity, item.unit_price)?;
    let unit = if item.kind == LineKind::FlatFee { "month" } else { unit };
    Ok(InvoiceLine {
        line: 0,
        kind: item.kind,
        group: group.to_owned(),
        description: item.detail,
        meter: metered.map(|(meter, _)| meter.to_owned()),
        tier: item.tier,
        quantity: Exact(item.quantity),
        unit: unit.to_owned(),
        unit_price: Exact(item.unit_price),
        exact_amount: Exact(exact_amount),
        amount: Exact(currency.round(exact_amount)),
        events: metered.map(|(_, events)| events),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rentroll_schemas::catalogue::{Limits, Model, Tier};

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn plan(charges: Vec<Charge>) -> Plan {
        Plan {
            name: "pro".to_owned(),
            title: "Pro".to_owned(),
            base_fee: Exact(decimal("20")),
            limits: Limits { requests_per_minute: 1, connections: 1 },
            charges,
        }
    }

    fn charge(model: Model) -> Charge {
        Charge {
            meter: "requests".to_owned(),
            title: "Requests".to_owned(),
            unit: "request".to_owned(),
            unit_divisor: 1,
            model,
            tiers: Vec::new(),
            unit_price: None,
            amount: None,
        }
    }

    fn usage(quantity: Quantity) -> UsageByMeter {
        BTreeMap::from([("requests".to_owned(), MeterUsage { events: 1, quantity })])
    }

    /// Contiguous tiers from cut points and prices in ten-thousandths.
    fn tiers(cuts: &[u32], prices: &[u32], fees: &[u32]) -> Vec<Tier> {
        let price = |n: u32| Exact(Decimal::new(i64::from(n), 4));
        let bounds: Vec<Decimal> = cuts.iter().map(|cut| Decimal::new(i64::from(*cut), 2)).collect();
        (0..=bounds.len())
            .map(|index| Tier {
                from: Exact(if index == 0 { Decimal::ZERO } else { bounds[index - 1] }),
                to: bounds.get(index).copied().map(Exact),
                unit_price: price(prices[index]),
                flat_fee: Some(price(fees[index])),
            })
            .collect()
    }

    fn total(lines: &[InvoiceLine]) -> Decimal {
        lines.iter().map(|line| line.amount.0).sum()
    }

    #[test]
    fn a_tiny_price_times_a_large_quantity_is_not_nothing() {
        let charge = Charge { unit_price: Some(Exact(decimal("0.0000033"))), ..charge(Model::PerUnit) };
        let lines =
            rate(&plan(vec![charge]), &usage(Quantity::from_int(1_000_000_000)), Currency::USD).unwrap();
        assert_eq!(lines[1].amount.to_string(), "3300.00");
    }

    #[test]
    fn yen_have_no_cents() {
        let charge = Charge { unit_price: Some(Exact(decimal("0.5"))), ..charge(Model::PerUnit) };
        let lines = rate(&plan(vec![charge]), &usage(Quantity::from_int(3)), "JPY".parse().unwrap()).unwrap();
        assert_eq!(
            (lines[0].amount.to_string(), lines[1].amount.to_string()),
            ("20".to_owned(), "2".to_owned())
        );
    }

    #[test]
    fn no_usage_leaves_the_base_fee_alone() {
        let charge = Charge { unit_price: Some(Exact(Decimal::ONE)), ..charge(Model::PerUnit) };
        let lines = rate(&plan(vec![charge]), &UsageByMeter::new(), Currency::USD).unwrap();
        assert_eq!(
            (lines.len(), lines[0].kind, total(&lines).to_string()),
            (1, LineKind::BaseFee, "20.00".to_owned())
        );
    }

    #[test]
    fn usage_below_zero_is_refused() {
        let charge = Charge { unit_price: Some(Exact(Decimal::ONE)), ..charge(Model::PerUnit) };
        let error = rate(&plan(vec![charge]), &usage(Quantity::from_int(-1)), Currency::USD).unwrap_err();
        assert_eq!(error.to_string(), "meter `requests` comes to -1: usage below zero cannot be priced");
    }

    #[test]
    fn an_amount_that_cannot_be_exact_is_refused() {
        let charge = Charge { unit_price: Some(Exact(decimal("0.123456789"))), ..charge(Model::PerUnit) };
        let quantity = Quantity::from_nanos(12_345_678_901_234_567_890_123_456_789);
        let error = rate(&plan(vec![charge]), &usage(quantity), Currency::USD).unwrap_err();
        assert!(matches!(error, RatingError::Inexact { .. }));
    }

    fn cuts() -> impl Strategy<Value = Vec<u32>> {
        proptest::collection::btree_set(1_u32..100_000, 0..5).prop_map(|set| set.into_iter().collect())
    }

    proptest! {
        #[test]
        fn tiers_add_up_to_the_quantity(
            cuts in cuts(),
            prices in proptest::collection::vec(0_u32..10_000, 6),
            nanos in 0_i128..2_000_000_000_000,
        ) {
            let tiers = tiers(&cuts, &prices, &[0; 6]);
            let charge = Charge { tiers, ..charge(Model::Graduated) };
            let quantity = Quantity::from_nanos(nanos);
            let lines = rate(&plan(vec![charge]), &usage(quantity), Currency::USD).unwrap();
            let billed: Decimal =
                lines.iter().filter(|line| line.kind == LineKind::Usage).map(|line| line.quantity.0).sum();
            prop_assert_eq!(Some(billed.normalize()), quantity.to_decimal().map(|q| q.normalize()));
        }

        #[test]
        fn more_usage_never_costs_less(
            cuts in cuts(),
            prices in proptest::collection::vec(0_u32..10_000, 6),
            fees in proptest::collection::vec(0_u32..100_000, 6),
            nanos in 0_i128..2_000_000_000_000,
            more in 0_i128..2_000_000_000_000,
        ) {
            let tiers = tiers(&cuts, &prices, &fees);
            let plan = plan(vec![Charge { tiers, ..charge(Model::Graduated) }]);
            let less = rate(&plan, &usage(Quantity::from_nanos(nanos)), Currency::USD).unwrap();
            let more = rate(&plan, &usage(Quantity::from_nanos(nanos + more)), Currency::USD).unwrap();
            prop_assert!(total(&less) <= total(&more));
        }

        #[test]
        fn a_line_is_its_exact_amount_rounded_once(nanos in 0_i128..1 << 62, price in 0_i64..1_000_000_000) {
            let unit_price = Some(Exact(Decimal::new(price, 9)));
            let plan = plan(vec![Charge { unit_price, ..charge(Model::PerUnit) }]);
            for line in rate(&plan, &usage(Quantity::from_nanos(nanos)), Currency::USD).unwrap() {
                let off = (line.amount.0 - line.exact_amount.0).abs();
                prop_assert!(off <= decimal("0.005"), "{} became {}", line.exact_amount, line.amount);
                prop_assert_eq!(line.amount.0.scale(), 2);
            }
        }

        #[test]
        fn any_usage_is_priced_or_refused_without_panic(
            nanos in any::<i128>(),
            price in 0_u64..u64::MAX,
            exponent in 0_u32..16,
        ) {
            let unit_price = Some(Exact(Decimal::from_i128_with_scale(i128::from(price), 9)));
            let mut charge = Charge { unit_price, ..charge(Model::PerUnit) };
            charge.unit_divisor = 10_u64.pow(exponent);
            let _ = rate(&plan(vec![charge]), &usage(Quantity::from_nanos(nanos)), Currency::USD);
        }
    }
}
