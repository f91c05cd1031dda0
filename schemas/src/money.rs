//! Money: computed exactly, rounded once.

use rust_decimal::{Decimal, RoundingStrategy};

/// Rounds an exact amount to a currency's minor unit (`decimals` = 2 for USD), half away from zero.
///
/// The only place in Rentroll where money is rounded: an invoice line is rounded when it is made and never
/// again, a unit price never. Bare `round_dp` is refused by clippy so that this stays true.
pub fn round_money(exact: Decimal, decimals: u32) -> Decimal {
    let mut rounded = exact.round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero);
    rounded.rescale(decimals);
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_away_from_zero() {
        for (exact, rounded) in
            [("0.005", "0.01"), ("-0.005", "-0.01"), ("0.0049", "0.00"), ("1", "1.00"), ("2.675", "2.68")]
        {
            let exact: Decimal = exact.parse().unwrap();
            assert_eq!(round_money(exact, 2).to_string(), rounded);
        }
    }
}
