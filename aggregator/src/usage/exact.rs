//! Quotients, rounded once. Pure.

use num_bigint::{BigInt, Sign};
use rentroll_schemas::Quantity;

/// `numerator / denominator`, both of one unit, as a quantity: rounded half away from zero at nine decimals. `None` past its 38
/// digits, and for nothing to divide by.
pub(super) fn quotient(numerator: &BigInt, denominator: &BigInt) -> Option<Quantity> {
    if denominator.sign() == Sign::NoSign {
        return None;
    }
    let nanos = BigInt::from(Quantity::ONE.nanos());
    let (numerator, denominator) = (numerator * nanos, denominator);
    let is_negative = (numerator.sign() == Sign::Minus) != (denominator.sign() == Sign::Minus);
    // Of magnitudes, so that a half goes away from zero.
    let (numerator, denominator) = (numerator.magnitude(), denominator.magnitude());
    let rounded = (numerator * 2_u8 + denominator) / (denominator * 2_u8);
    let magnitude = i128::try_from(rounded).ok()?;
    // Past the digits of a quantity it is none.
    Quantity::ZERO.checked_add(Quantity::from_nanos(if is_negative { -magnitude } else { magnitude }))
}

/// One quantity by another one.
pub(super) fn ratio(one: Quantity, by: Quantity) -> Option<Quantity> {
    quotient(&BigInt::from(one.nanos()), &BigInt::from(by.nanos()))
}

/// A count of 10⁻⁹, times a number, divided by another one.
pub(super) fn share(nanos: i128, times: i64, by: i64) -> Option<Quantity> {
    let one = BigInt::from(Quantity::ONE.nanos());
    quotient(&(BigInt::from(nanos) * times), &(BigInt::from(by) * one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_away_from_zero() {
        let q = |text: &str| text.parse::<Quantity>().unwrap();
        for (one, by, is) in [
            ("1", "3", "0.333333333"),
            ("2", "3", "0.666666667"),
            ("-2", "3", "-0.666666667"),
            ("0.000000001", "2", "0.000000001"),
            ("-0.000000001", "2", "-0.000000001"),
            ("0.000000001", "-2", "-0.000000001"),
            ("99999999999999999999999999999", "99999999999999999999999999999", "1"),
        ] {
            assert_eq!(ratio(q(one), q(by)), Some(q(is)), "{one} / {by}");
        }
        assert_eq!(ratio(q("1"), Quantity::ZERO), None);
        assert_eq!(ratio(q("99999999999999999999999999999"), q("0.1")), None);
        assert_eq!(share(10, 60, 7), Some(Quantity::from_nanos(86)));
    }
}
