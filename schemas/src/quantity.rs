//! Quantities: exact decimals with nine fractional digits.
//!
//! A quantity is an `i128` count of 10⁻⁹ units. That is the in-memory image of ClickHouse's
//! `Decimal(38, 9)` (sixteen little-endian bytes), so a value goes from an event's JSON text to the store
//! and back without passing through a float and without a conversion that could round.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;

/// Fractional digits of every quantity, here and in the store's `Decimal(38, 9)` columns.
pub const SCALE: u32 = 9;
const ONE: i128 = 1_000_000_000;
/// ClickHouse accepts 38 digits in all; a larger value would be stored as garbage, so it is refused here.
const LIMIT: i128 = 10_i128.pow(38) - 1;

/// An exact amount of something, in units of 10⁻⁹.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i128);

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The text is not a JSON number.
    #[error("`{0}` is not a number")]
    NotANumber(String),
    /// More than nine fractional digits: storing it would round it.
    #[error("`{0}` has more than 9 decimal places")]
    TooPrecise(String),
    /// More digits than `Decimal(38, 9)` holds.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

impl Quantity {
    /// Nothing at all.
    pub const ZERO: Quantity = Quantity(0);
    /// One whole unit.
    pub const ONE: Quantity = Quantity(ONE);

    /// From a count of 10⁻⁹ units: what a `Decimal(38, 9)` holds.
    pub const fn from_nanos(nanos: i128) -> Self {
        Quantity(nanos)
    }

    /// The count of 10⁻⁹ units.
    pub const fn nanos(self) -> i128 {
        self.0
    }

    /// A whole number of units.
    pub const fn from_int(units: i64) -> Self {
        Quantity(units as i128 * ONE)
    }

    /// The sum, or `None` past 38 digits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).filter(|n| n.abs() <= LIMIT).map(Quantity)
    }

    /// The difference, or `None` past 38 digits.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).filter(|n| n.abs() <= LIMIT).map(Quantity)
    }

    /// The exact value as a [`Decimal`], or `None` where its 96-bit mantissa is too small for it.
    pub fn to_decimal(self) -> Option<Decimal> {
        let (mut mantissa, mut scale) = (self.0, SCALE);
        // Trailing zeros are given up first: 10 TiB for a month in byte-seconds fits only without them.
        while scale > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        Decimal::try_from_i128_with_scale(mantissa, scale).ok()
    }

    /// From a [`Decimal`], or `None` where it has more than nine fractional digits or is too large.
    pub fn from_decimal(value: Decimal) -> Option<Self> {
        let value = value.normalize();
        let factor = 10_i128.checked_pow(SCALE.checked_sub(value.scale())?)?;
        value.mantissa().checked_mul(factor).filter(|n| n.abs() <= LIMIT).map(Quantity)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    /// Reads a JSON number, exponent included, exactly.
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if let Some(plain) = plain_whole(text) {
            return Ok(plain);
        }
        let not_a_number = || QuantityError::NotANumber(shorten(text));
        let too_large = || QuantityError::TooLarge(shorten(text));
        let (mantissa_text, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().map_err(|_| not_a_number())?),
            None => (text, 0),
        };
        let (negative, digits) = match mantissa_text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa_text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let dot_without_digits = digits.contains('.') && fraction.is_empty();
        if whole.is_empty() || dot_without_digits {
            return Err(not_a_number());
        }
        let mut nanos: i128 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            if !byte.is_ascii_digit() {
                return Err(not_a_number());
            }
            nanos = nanos
                .checked_mul(10)
                .and_then(|n| n.checked_add(i128::from(byte - b'0')))
                .ok_or_else(too_large)?;
        }
        let fraction_digits = i32::try_from(fraction.len()).map_err(|_| too_large())?;
        let shift = (SCALE as i32).saturating_add(exponent).saturating_sub(fraction_digits);
        if nanos != 0 {
            if shift >= 0 {
                let factor = 10_i128.checked_pow(shift as u32).ok_or_else(too_large)?;
                nanos = nanos.checked_mul(factor).ok_or_else(too_large)?;
            } else {
                for _ in 0..shift.unsigned_abs() {
                    if nanos % 10 != 0 {
                        return Err(QuantityError::TooPrecise(shorten(text)));
                    }
                    nanos /= 10;
                }
            }
        }
        if nanos > LIMIT {
            return Err(too_large());
        }
        Ok(Quantity(if negative { -nanos } else { nanos }))
    }
}

/// A whole number of at most 18 digits: what most measures are, read without the wide arithmetic of the rest.
fn plain_whole(text: &str) -> Option<Quantity> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    let mut whole: u64 = 0;
    for byte in text.bytes() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        whole = whole * 10 + u64::from(digit);
    }
    Some(Quantity(i128::from(whole) * ONE))
}

impl fmt::Display for Quantity {
    /// Plain decimal notation without trailing zeros, never an exponent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let (whole, fraction) = (magnitude / ONE as u128, magnitude % ONE as u128);
        let sign = if self.0 < 0 { "-" } else { "" };
        if fraction == 0 {
            return f.pad_integral(self.0 >= 0, "", &whole.to_string());
        }
        let digits = format!("{fraction:09}");
        f.pad(&format!("{sign}{whole}.{}", digits.trim_end_matches('0')))
    }
}

impl serde::Serialize for Quantity {
    /// A decimal string: JSON numbers become floats in too many readers.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Error messages quote what was given, but not a megabyte of it.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_json_numbers_exactly() {
        for (text, nanos) in [
            ("0", 0),
            ("-0.0", 0),
            ("1", ONE),
            ("0.000000001", 1),
            ("1.5e3", 1500 * ONE),
            ("1500E-3", 1_500_000_000),
            ("-2.25", -2_250_000_000),
            ("0e99", 0),
            ("29000000000000000000", 29_000_000_000_000_000_000 * ONE),
        ] {
            assert_eq!(text.parse::<Quantity>(), Ok(Quantity(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_what_it_would_have_to_round_or_guess() {
        for text in
            ["", "-", "abc", "1.", ".5", "1e", "0x10", "NaN", "Infinity", "1,000", "1_000", "+1", " 1"]
        {
            assert!(matches!(text.parse::<Quantity>(), Err(QuantityError::NotANumber(_))), "{text}");
        }
        assert!(matches!("0.0000000001".parse::<Quantity>(), Err(QuantityError::TooPrecise(_))));
        assert!(matches!("1e40".parse::<Quantity>(), Err(QuantityError::TooLarge(_))));
        assert!(matches!("1e2000000000".parse::<Quantity>(), Err(QuantityError::TooLarge(_))));
    }

    #[test]
    fn byte_seconds_of_ten_tebibytes_over_a_month_survive_the_trip_to_decimal() {
        let byte_seconds = (10_i128 << 40) * 31 * 86_400;
        let quantity = Quantity::from_nanos(byte_seconds * ONE);
        assert_eq!(quantity.to_decimal(), Some(Decimal::from_i128_with_scale(byte_seconds, 0)));
    }

    proptest! {
        #[test]
        fn text_round_trips(nanos in -LIMIT..=LIMIT) {
            let quantity = Quantity(nanos);
            prop_assert_eq!(quantity.to_string().parse::<Quantity>(), Ok(quantity));
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,60}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
