//! Currencies, and decimals as people write them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::money::round_money;

/// An ISO 4217 currency in use: its code, and how many digits its minor unit has.
///
/// Source: ISO 4217:2015, list one. Precious metals, test codes and fund codes are left out: nobody is
/// invoiced in them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency {
    code: [u8; 3],
    decimals: u8,
}

/// Codes by the number of digits of their minor unit.
const CODES: [(u8, &str); 3] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF \
         CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG \
         HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU \
         MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR \
         SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED \
         VES WST XCD XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
];

/// Why a text is not a currency.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a currency: write an ISO 4217 code such as USD, EUR or JPY")]
pub struct CurrencyError(pub String);

impl Currency {
    /// The United States dollar.
    pub const USD: Currency = Currency { code: *b"USD", decimals: 2 };

    /// Digits of the minor unit: 2 for USD, 0 for JPY.
    pub const fn decimals(self) -> u32 {
        self.decimals as u32
    }

    /// The three letters.
    pub fn code(&self) -> &str {
        // Only ASCII codes of the list above are ever stored.
        std::str::from_utf8(&self.code).unwrap_or("???")
    }

    /// `exact` at the minor unit, half away from zero: once per line, see [`round_money`].
    pub fn round(self, exact: Decimal) -> Decimal {
        round_money(exact, self.decimals())
    }

    /// Whether `amount` is a whole number of minor units.
    pub fn is_whole(self, amount: Decimal) -> bool {
        amount.normalize().scale() <= self.decimals()
    }
}

impl FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        let error = || CurrencyError(text.chars().take(20).collect());
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| error())?;
        CODES
            .into_iter()
            .find(|(_, codes)| codes.split_ascii_whitespace().any(|known| known == text))
            .map(|(decimals, _)| Currency { code, decimals })
            .ok_or_else(error)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Currency {
    fn schema_name() -> Cow<'static, str> {
        "Currency".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217 code." })
    }
}

/// A decimal in a file or a document: read from its digits, never through a float; written as a string,
/// because JSON numbers become floats in too many readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exact(pub Decimal);

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<Decimal> for Exact {
    fn from(value: Decimal) -> Self {
        Exact(value)
    }
}

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Exact {
    /// YAML hands the scalar's text over, quoted or not: `0.1` is one tenth, not the nearest double.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let plain = text.strip_prefix('-').unwrap_or(&text);
        let digits_and_dot = plain.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let begins_and_ends_with_digit = [plain.bytes().next(), plain.bytes().last()]
            .iter()
            .all(|byte| byte.is_some_and(|b| b.is_ascii_digit()));
        if !digits_and_dot || !begins_and_ends_with_digit {
            return Err(serde::de::Error::custom(format!("`{text}` is not a decimal such as 12 or 0.05")));
        }
        let value = Decimal::from_str_exact(&text)
            .map_err(|error| serde::de::Error::custom(format!("`{text}` cannot be held exactly: {error}")))?;
        Ok(Exact(value))
    }
}

impl JsonSchema for Exact {
    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number"],
            "pattern": "^-?[0-9]+(\\.[0-9]+)?$",
            "description": "An exact decimal: `0.05` or \"0.05\"; never an exponent."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_units_follow_the_list() {
        for (code, decimals) in [("USD", 2), ("EUR", 2), ("JPY", 0), ("KWD", 3)] {
            assert_eq!(code.parse::<Currency>().unwrap().decimals(), decimals);
        }
        for text in ["usd", "US", "USDT", "XXX", "", "€"] {
            assert!(text.parse::<Currency>().is_err(), "{text}");
        }
    }

    #[test]
    fn yaml_decimals_are_read_from_their_digits() {
        for (yaml, text) in [
            ("0.1", "0.1"),
            ("'0.10'", "0.10"),
            ("0.0000000000000000000000001", "0.0000000000000000000000001"),
            ("79228162514264337593543950335", "79228162514264337593543950335"),
            ("-3", "-3"),
        ] {
            assert_eq!(serde_saphyr::from_str::<Exact>(yaml).unwrap().to_string(), text, "{yaml}");
        }
        for yaml in
            ["1e3", ".5", "1.", "0x10", "1_000", "abc", "''", "-", "0.00000000000000000000000000001", ".inf"]
        {
            assert!(serde_saphyr::from_str::<Exact>(yaml).is_err(), "{yaml}");
        }
    }

    #[test]
    fn json_decimals_are_strings() {
        let exact: Exact = serde_json::from_str("\"12.30\"").unwrap();
        assert_eq!(serde_json::to_string(&exact).unwrap(), "\"12.30\"");
    }
}
