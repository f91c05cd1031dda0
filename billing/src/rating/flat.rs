//! `flat`: one amount in a month in which the meter saw any usage, however much.

use rentroll_schemas::Quantity;
use rentroll_schemas::invoice::LineKind;
use rust_decimal::Decimal;

use super::Item;

pub(super) fn items(amount: Decimal, quantity: Quantity) -> Vec<Item> {
    if quantity == Quantity::ZERO {
        return Vec::new();
    }
    vec![Item {
        kind: LineKind::FlatFee,
        detail: "any usage".to_owned(),
        tier: None,
        quantity: Decimal::ONE,
        unit_price: amount,
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_usage_costs_the_same() {
        for nanos in [1, 1_000_000_000, i128::MAX] {
            let items = items(Decimal::TEN, Quantity::from_nanos(nanos));
            assert_eq!((items[0].quantity, items[0].unit_price), (Decimal::ONE, Decimal::TEN));
        }
        assert!(items(Decimal::TEN, Quantity::ZERO).is_empty());
    }
}
