//! How numbers, money and times are written for people.
//!
//! Digits are grouped with commas, never rounded unless the name says so, and money is only ever shown
//! rounded: what is stored stays exact. Times are UTC and say so where they stand alone.

use chrono::{DateTime, Datelike, Timelike, Utc};
use rentroll_schemas::Quantity;
use rentroll_schemas::currency::Currency;
use rentroll_schemas::money::round_money;
use rust_decimal::Decimal;

/// What stands where a value is not known. Unknown is not zero.
pub const UNKNOWN: &str = "–";

/// A whole number with thousands separators.
pub fn count(n: u64) -> String {
    group(&n.to_string())
}

/// A quantity in full, with thousands separators: `2,747,282,740`, `12.5`.
pub fn quantity(quantity: Quantity) -> String {
    group(&quantity.to_string())
}

/// A decimal in full, with thousands separators.
pub fn decimal(value: Decimal) -> String {
    group(&value.to_string())
}

/// Money at the currency's minor unit, rounded half away from zero: `1,234.50`. The currency itself stands in
/// the column's header.
pub fn money(amount: Decimal, currency: Currency) -> String {
    group(&currency.round(amount).to_string())
}

/// Money with its currency, for where it stands alone: `1,234.50 USD`.
pub fn money_with_code(amount: Decimal, currency: Currency) -> String {
    format!("{} {currency}", money(amount, currency))
}

/// Exact money cut in two for display: up to the minor unit, and the digits below it down to 10⁻⁹.
///
/// Shown side by side, the second part muted, so that a column still adds up to the last digit.
pub fn exact_money(amount: Decimal, currency: Currency) -> (String, String) {
    let mut exact = amount;
    exact.rescale(9);
    let text = exact.to_string();
    match text.split_once('.') {
        // Nine fractional digits were asked for; a value too large for nine keeps fewer, and stands as it is.
        Some((whole, fraction)) if fraction.len() == 9 => {
            let (minor, fine) = fraction.split_at(currency.decimals() as usize);
            match minor {
                "" => (group(whole), format!(".{fine}")),
                _ => (group(&format!("{whole}.{minor}")), fine.to_owned()),
            }
        }
        _ => (group(&text), String::new()),
    }
}

/// A byte count in decimal units, for a first glance: `2.75 GB`. Kilo is 1,000.
pub fn bytes_scaled(quantity: Quantity) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    scaled(quantity, &UNITS, " ")
}

/// A number shortened for an axis: `1.2k`, `40M`.
pub fn short(quantity: Quantity) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    scaled(quantity, &UNITS, "")
}

/// Three significant digits and a unit, each unit a thousand times the one before it.
fn scaled(quantity: Quantity, units: &[&str], gap: &str) -> String {
    let negative = quantity.nanos() < 0;
    let sign = if negative { "−" } else { "" };
    // In thousandths, so that up to three decimals can be shown.
    let mut thousandths = quantity.nanos().unsigned_abs() / 1_000_000;
    let mut unit = 0;
    while unit + 1 < units.len() && thousandths >= 999_500 {
        thousandths = (thousandths + 500) / 1_000;
        unit += 1;
    }
    let (whole, places) = (thousandths / 1_000, thousandths % 1_000);
    let number = match whole {
        _ if unit == 0 && places == 0 => group(&whole.to_string()),
        0..=9 => trim_zeros(&format!("{}.{:02}", (thousandths + 5) / 1_000, (thousandths + 5) % 1_000 / 10)),
        10..=99 => {
            trim_zeros(&format!("{}.{}", (thousandths + 50) / 1_000, (thousandths + 50) % 1_000 / 100))
        }
        _ => group(&((thousandths + 500) / 1_000).to_string()),
    };
    let gap = if units[unit].is_empty() { "" } else { gap };
    format!("{sign}{number}{gap}{}", units[unit])
}

fn trim_zeros(number: &str) -> String {
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A share as a percentage with one decimal: `37.2 %`. Less than it can show is `<0.1 %`, not zero.
pub fn percent(part: Decimal, whole: Decimal) -> String {
    let Some(share) = part.checked_mul(Decimal::ONE_HUNDRED).and_then(|n| n.checked_div(whole)) else {
        return UNKNOWN.to_owned();
    };
    let rounded = round_money(share, 1);
    match (rounded.is_zero(), part.is_zero()) {
        (true, false) if share > Decimal::ZERO => "<0.1 %".to_owned(),
        _ => format!("{} %", minus(&rounded.to_string())),
    }
}

/// `2015-05-20 21:05 UTC`.
pub fn minute_utc(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// `2015-05-20 21:05:59`, for a column whose header says UTC.
pub fn second(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// `17 May`, with the hour if it is not midnight: `17 May 06:00`.
pub fn tick(time: DateTime<Utc>) -> String {
    match (time.hour(), time.minute()) {
        (0, 0) => time.format("%-d %b").to_string(),
        _ => time.format("%-d %b %H:%M").to_string(),
    }
}

/// `May 2015`.
pub fn month(year: i32, month: u32) -> String {
    const NAMES: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let name = NAMES.get(month.wrapping_sub(1) as usize).copied().unwrap_or("?");
    format!("{name} {year}")
}

/// `20 May 2015`.
pub fn date(day: chrono::NaiveDate) -> String {
    format!("{} {}", day.day(), month(day.year(), day.month()))
}

/// A meter's name as a column title: `egress_bytes` is `Egress bytes`.
pub fn title_case(name: &str) -> String {
    let spaced = name.replace('_', " ");
    let mut letters = spaced.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => spaced,
    }
}

/// `1 request`, `2 requests`: an English plural for the units that meters have.
pub fn plural(unit: &str) -> String {
    let symbol = unit.len() <= 2 || unit.chars().any(|c| c.is_uppercase());
    if symbol || unit.ends_with('s') { unit.to_owned() } else { format!("{unit}s") }
}

/// Whether a unit must be written beside a title that may name it already: `Requests` needs no "requests".
pub fn names_another_unit(title: &str, unit: &str) -> bool {
    !title.to_lowercase().ends_with(&unit.to_lowercase())
}

/// Bytes as printable text: what is not printable ASCII or valid UTF-8 text is escaped, the rest stands.
pub fn bytes_escaped(bytes: &[u8], bytes_max: usize) -> String {
    let shown = &bytes[..bytes.len().min(bytes_max)];
    let mut out = String::with_capacity(shown.len());
    for chunk in shown.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                // Controls, and the marks that reorder what is around them: a log line must not be able to
                // show something else than it holds.
                c if c.is_control() || is_reordering(c) => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    if shown.len() < bytes.len() {
        out.push('…');
    }
    out
}

fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Groups the digits of a plain decimal number; the sign becomes a true minus.
fn group(number: &str) -> String {
    minus(&rentroll_schemas::text::grouped(number))
}

fn minus(number: &str) -> String {
    number.replacen('-', "−", 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_grouped_and_never_rounded() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(quantity("2747282740".parse().unwrap()), "2,747,282,740");
        assert_eq!(quantity("-1234.000000001".parse().unwrap()), "−1,234.000000001");
    }

    #[test]
    fn money_has_two_decimals_and_exact_money_nine() {
        let usd = |text: &str| money(text.parse().unwrap(), Currency::USD);
        assert_eq!(usd("1699.995"), "1,700.00");
        assert_eq!(usd("-0.005"), "−0.01");
        let yen = "JPY".parse().unwrap();
        assert_eq!(money("1699.5".parse().unwrap(), yen), "1,700");
        assert_eq!(exact_money("1699.5".parse().unwrap(), yen), ("1,699".into(), ".500000000".into()));
        let exact = |text: &str| exact_money(text.parse().unwrap(), Currency::USD);
        assert_eq!(exact("1234.567891234"), ("1,234.56".into(), "7891234".into()));
        assert_eq!(exact("500"), ("500.00".into(), "0000000".into()));
        assert_eq!(exact("-0.000000001"), ("−0.00".into(), "0000001".into()));
    }

    #[test]
    fn glances_have_three_significant_digits() {
        let scaled = |text: &str| bytes_scaled(text.parse().unwrap());
        assert_eq!(scaled("2747282740"), "2.75 GB");
        assert_eq!(scaled("999"), "999 B");
        assert_eq!(scaled("999999"), "1 MB");
        assert_eq!(scaled("1500"), "1.5 kB");
        assert_eq!(scaled("0"), "0 B");
        assert_eq!(scaled("42420000"), "42.4 MB");
        assert_eq!(short("40000000".parse().unwrap()), "40M");
        assert_eq!(short("0.5".parse().unwrap()), "0.5");
        assert_eq!(short("250".parse().unwrap()), "250");
    }

    #[test]
    fn a_small_share_is_not_shown_as_nothing() {
        assert_eq!(percent(Decimal::ONE, Decimal::from(3)), "33.3 %");
        assert_eq!(percent(Decimal::ONE, Decimal::from(1_000_000)), "<0.1 %");
        assert_eq!(percent(Decimal::ZERO, Decimal::from(3)), "0.0 %");
        assert_eq!(percent(Decimal::ONE, Decimal::ZERO), UNKNOWN);
    }

    #[test]
    fn bytes_cannot_pretend_to_be_something_else() {
        assert_eq!(bytes_escaped(b"a\x00\xff\\\n", 99), "a\\u{0}\\xff\\\\\\n");
        assert_eq!(bytes_escaped("caf\u{e9} \u{202e}x".as_bytes(), 99), "café \\u{202e}x");
        assert_eq!(bytes_escaped(b"abcdef", 3), "abc…");
    }

    proptest! {
        #[test]
        fn grouping_changes_no_digit(nanos in any::<i64>()) {
            let value = Quantity::from_nanos(nanos.into());
            let back = quantity(value).replace(',', "").replace('−', "-");
            prop_assert_eq!(back.parse::<Quantity>().unwrap(), value);
        }

        #[test]
        fn exact_money_loses_no_digit(nanos in any::<i64>()) {
            let amount = Decimal::from_i128_with_scale(nanos.into(), 9);
            let (head, fine) = exact_money(amount, Currency::USD);
            let back: Decimal = format!("{head}{fine}").replace(',', "").replace('−', "-").parse().unwrap();
            prop_assert_eq!(back, amount);
        }

        #[test]
        fn glances_do_not_panic(nanos in any::<i128>()) {
            let _ = bytes_scaled(Quantity::from_nanos(nanos));
        }
    }
}
