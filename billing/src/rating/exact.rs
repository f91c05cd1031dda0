//! Products and scalings that are exact or an error: `rust_decimal` would round what does not fit.

use rentroll_schemas::Quantity;
use rust_decimal::Decimal;

use super::RatingError;

/// `a · b` with every digit.
pub(crate) fn mul(a: Decimal, b: Decimal) -> Result<Decimal, RatingError> {
    let inexact = || RatingError::Inexact { what: format!("{a} times {b}") };
    let (a, b) = (a.normalize(), b.normalize());
    let mantissa = a.mantissa().checked_mul(b.mantissa()).ok_or_else(inexact)?;
    shortest(mantissa, a.scale() + b.scale()).ok_or_else(inexact)
}

/// `quantity / divisor`, where `divisor` is a power of ten.
pub(crate) fn in_display_units(quantity: Quantity, divisor: u64) -> Result<Decimal, RatingError> {
    let inexact = || RatingError::Inexact { what: format!("{quantity} divided by {divisor}") };
    let places = power_of_ten(divisor).ok_or_else(inexact)?;
    shortest(quantity.nanos(), rentroll_schemas::quantity::SCALE + places).ok_or_else(inexact)
}

/// `bound · divisor` as a quantity of the meter's own unit.
pub(crate) fn in_meter_units(bound: Decimal, divisor: u64) -> Result<Quantity, RatingError> {
    let inexact = || RatingError::Inexact { what: format!("{bound} times {divisor}") };
    Quantity::from_decimal(mul(bound, Decimal::from(divisor))?).ok_or_else(inexact)
}

fn power_of_ten(divisor: u64) -> Option<u32> {
    let exponent = divisor.checked_ilog10()?;
    (10_u64.pow(exponent) == divisor).then_some(exponent)
}

/// `mantissa · 10^-scale` without trailing zeros, or `None` where a [`Decimal`] cannot hold it.
fn shortest(mut mantissa: i128, mut scale: u32) -> Option<Decimal> {
    while scale > 0 && mantissa % 10 == 0 {
        mantissa /= 10;
        scale -= 1;
    }
    Decimal::try_from_i128_with_scale(mantissa, scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_product_that_would_be_rounded_is_an_error() {
        let tiny: Decimal = "0.000000000000001".parse().unwrap();
        assert!(mul(tiny, tiny).is_err());
        // The same product by the library alone is silently zero.
        assert_eq!(tiny.checked_mul(tiny), Some(Decimal::ZERO));
        assert_eq!(
            mul("0.0000033".parse().unwrap(), Decimal::from(1_000_000_000)).unwrap().to_string(),
            "3300"
        );
    }

    proptest! {
        #[test]
        fn display_units_and_meter_units_are_inverse(nanos in 0_i128..1 << 80, exponent in 0_u32..10) {
            let divisor = 10_u64.pow(exponent);
            let quantity = Quantity::from_nanos(nanos);
            let display = in_display_units(quantity, divisor).unwrap();
            prop_assert_eq!(in_meter_units(display, divisor).unwrap(), quantity);
        }
    }
}
