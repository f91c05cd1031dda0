//! `per_unit`: quantity times price. No usage makes no line.

use rentroll_schemas::Quantity;
use rentroll_schemas::invoice::LineKind;
use rust_decimal::Decimal;

use super::{Item, RatingError, exact};

pub(super) fn items(unit_price: Decimal, quantity: Quantity, divisor: u64) -> Result<Vec<Item>, RatingError> {
    if quantity == Quantity::ZERO {
        return Ok(Vec::new());
    }
    Ok(vec![Item {
        kind: LineKind::Usage,
        detail: "all usage".to_owned(),
        tier: None,
        quantity: exact::in_display_units(quantity, divisor)?,
        unit_price,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_quantity_times_price() {
        let items = items(Decimal::new(12, 2), Quantity::from_int(2_500_000), 1_000_000).unwrap();
        assert_eq!(
            (items.len(), items[0].quantity.to_string(), items[0].unit_price.to_string()),
            (1, "2.5".into(), "0.12".into())
        );
    }

    #[test]
    fn nothing_used_makes_no_line() {
        assert!(items(Decimal::ONE, Quantity::ZERO, 1).unwrap().is_empty());
    }
}
