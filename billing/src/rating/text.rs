//! Numbers in descriptions.

use rust_decimal::Decimal;

/// `1234567.50` as `1,234,567.5`.
pub(crate) fn grouped(value: Decimal) -> String {
    rentroll_schemas::text::grouped(&value.normalize().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (value, text) in
            [("0", "0"), ("999", "999"), ("1000", "1,000"), ("-1234567.50", "-1,234,567.5"), ("0.05", "0.05")]
        {
            assert_eq!(grouped(value.parse().unwrap()), text);
        }
    }
}
