//! `graduated`: each part of the usage is priced by the tier that it falls into, as with income tax.
//!
//! A tier is the half-open interval `[from, to)`. Its part of the usage is `min(usage, to) - from`; a part of
//! zero makes no line. Its flat fee is due when usage is `from` or more, because such usage lies in it.

use rentroll_schemas::Quantity;
use rentroll_schemas::catalogue::Tier;
use rentroll_schemas::currency::Exact;
use rentroll_schemas::invoice::{LineKind, LineTier};
use rust_decimal::Decimal;

use super::{Item, RatingError, exact, text};

pub(super) fn items(tiers: &[Tier], quantity: Quantity, divisor: u64) -> Result<Vec<Item>, RatingError> {
    let mut items = Vec::new();
    for (index, tier) in tiers.iter().enumerate() {
        let from = exact::in_meter_units(tier.from.0, divisor)?;
        if quantity < from {
            break;
        }
        let to = tier.to.map(|to| exact::in_meter_units(to.0, divisor)).transpose()?;
        let reached = to.map_or(quantity, |to| quantity.min(to));
        let part = Quantity::from_nanos(reached.nanos() - from.nanos());
        let place =
            LineTier { index: u32::try_from(index).unwrap_or(u32::MAX), from: tier.from, to: tier.to };
        if part > Quantity::ZERO {
            items.push(Item {
                kind: LineKind::Usage,
                detail: describe(tiers.len(), tier.from, tier.to),
                tier: (tiers.len() > 1).then(|| place.clone()),
                quantity: exact::in_display_units(part, divisor)?,
                unit_price: tier.unit_price.0,
            });
        }
        if let Some(fee) = tier.flat_fee.filter(|fee| !fee.0.is_zero()) {
            items.push(Item {
                kind: LineKind::FlatFee,
                detail: format!("fee, {}", describe(tiers.len(), tier.from, tier.to)),
                tier: (tiers.len() > 1).then_some(place),
                quantity: Decimal::ONE,
                unit_price: fee.0,
            });
        }
    }
    Ok(items)
}

fn describe(tiers: usize, from: Exact, to: Option<Exact>) -> String {
    match (tiers, to) {
        (1, _) => "all usage".to_owned(),
        (_, Some(to)) if from.0.is_zero() => format!("first {}", text::grouped(to.0)),
        (_, Some(to)) => format!("from {} up to {}", text::grouped(from.0), text::grouped(to.0)),
        (_, None) => format!("above {}", text::grouped(from.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier(from: &str, to: Option<&str>, unit_price: &str, flat_fee: Option<&str>) -> Tier {
        let exact = |text: &str| Exact(text.parse().unwrap());
        Tier {
            from: exact(from),
            to: to.map(exact),
            unit_price: exact(unit_price),
            flat_fee: flat_fee.map(exact),
        }
    }

    /// (description, quantity, unit price) of each line.
    fn lines(tiers: &[Tier], quantity: &str, divisor: u64) -> Vec<(String, String, String)> {
        items(tiers, quantity.parse().unwrap(), divisor)
            .unwrap()
            .into_iter()
            .map(|item| (item.detail, item.quantity.to_string(), item.unit_price.to_string()))
            .collect()
    }

    fn parts(tiers: &[Tier], quantity: &str, divisor: u64) -> Vec<String> {
        lines(tiers, quantity, divisor).into_iter().map(|(_, quantity, _)| quantity).collect()
    }

    #[test]
    fn each_part_has_its_own_price() {
        let tiers = [
            tier("0", Some("100"), "0", None),
            tier("100", Some("1000"), "0.02", None),
            tier("1000", None, "0.01", None),
        ];
        let expected = [
            ("first 100", "100", "0"),
            ("from 100 up to 1,000", "900", "0.02"),
            ("above 1,000", "500.5", "0.01"),
        ];
        let expected: Vec<_> = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())).into();
        assert_eq!(lines(&tiers, "1500.5", 1), expected);
    }

    #[test]
    fn boundaries_are_half_open_on_exact_quantities() {
        let tiers = [tier("0", Some("100"), "1", None), tier("100", None, "2", None)];
        assert_eq!(parts(&tiers, "99.5", 1), ["99.5"]);
        assert_eq!(parts(&tiers, "99.999999999", 1), ["99.999999999"]);
        assert_eq!(parts(&tiers, "100", 1), ["100"]);
        assert_eq!(parts(&tiers, "100.000000001", 1), ["100", "0.000000001"]);
        assert!(parts(&tiers, "0", 1).is_empty());
    }

    #[test]
    fn a_flat_fee_is_due_from_the_first_quantity_of_its_tier() {
        let tiers = [tier("0", Some("100"), "0", None), tier("100", None, "0", Some("5"))];
        let fees = |quantity: &str| {
            let items = items(&tiers, quantity.parse().unwrap(), 1).unwrap();
            items.iter().filter(|item| item.kind == LineKind::FlatFee).count()
        };
        assert_eq!((fees("99.999999999"), fees("100"), fees("5000")), (0, 1, 1));
    }

    #[test]
    fn bounds_are_in_display_units() {
        let tiers = [tier("0", Some("0.05"), "0", None), tier("0.05", None, "0.5", None)];
        assert_eq!(parts(&tiers, "50000001", 1_000_000_000), ["0.05", "0.000000001"]);
    }
}
