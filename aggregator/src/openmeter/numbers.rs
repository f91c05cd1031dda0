//! Numbers that floats made too precise, in JSON as it comes by: rounded to what a quantity holds. Pure.
//!
//! A [`Rounding`] reads JSON in pieces, cut anywhere, and writes the same bytes but for two things:
//! - a number with more than nine decimals is rounded to nine, half away from zero;
//! - `"data":null` of an event is `"data":{}`.
//!
//! What is no JSON stays what it was, byte for byte, and is refused by whoever reads it.

use rentroll_schemas::quantity::SCALE;

/// Longest number that is looked at: a longer one stays as it is, so that little is held back.
const NUMBER_BYTES_MAX: usize = 1_024;
/// Largest exponent that is looked at: none beyond makes a quantity, or more of one than zero.
const EXPONENT_MAX: i64 = 1_000_000;

/// What is between two pieces.
#[derive(Debug, Default)]
pub(super) struct Rounding {
    /// Open objects and arrays.
    depth: usize,
    /// At which depth an event's attributes are: 1, or 2 in an array of them.
    of_events: usize,
    text: Option<Text>,
    /// Whether the last thing was the name `data`, and then its colon.
    name: Name,
    /// A number or word that may go on.
    word: Vec<u8>,
    /// It is longer than what is looked at.
    is_long: bool,
}

/// A text that goes on.
#[derive(Debug, Default)]
struct Text {
    is_escape: bool,
    bytes: usize,
    is_data: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Name {
    #[default]
    Other,
    Data,
    DataColon,
}

impl Rounding {
    /// Reads a piece, and writes what is certain by now.
    pub(super) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for byte in piece {
            self.take(*byte, out);
        }
    }

    /// Writes the rest: there is no more.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.end_word(out);
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        if let Some(text) = &mut self.text {
            out.push(byte);
            match byte {
                _ if text.is_escape => text.is_escape = false,
                b'\\' => (text.is_escape, text.is_data) = (true, false),
                b'"' => {
                    let is_data = text.is_data && text.bytes == b"data".len() && self.depth == self.of_events;
                    self.name = if is_data { Name::Data } else { Name::Other };
                    self.text = None;
                    return;
                }
                _ => text.is_data &= b"data".get(text.bytes) == Some(&byte),
            }
            text.bytes += 1;
            return;
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.') {
            if self.is_long {
                return out.push(byte);
            }
            self.word.push(byte);
            if self.word.len() > NUMBER_BYTES_MAX {
                self.is_long = true;
                out.append(&mut self.word);
            }
            return;
        }
        self.end_word(out);
        out.push(byte);
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => return,
            b':' if self.name == Name::Data => {
                self.name = Name::DataColon;
                return;
            }
            b'"' => self.text = Some(Text { is_data: true, ..Text::default() }),
            b'{' | b'[' => {
                self.depth += 1;
                if self.of_events == 0 {
                    self.of_events = if byte == b'{' { 1 } else { 2 };
                }
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.name = Name::Other;
    }

    fn end_word(&mut self, out: &mut Vec<u8>) {
        self.is_long = false;
        if self.word.is_empty() {
            return;
        }
        match rounded(&self.word) {
            _ if self.word == b"null" && self.name == Name::DataColon => out.extend_from_slice(b"{}"),
            Some(number) => out.extend_from_slice(number.as_bytes()),
            None => out.extend_from_slice(&self.word),
        }
        self.word.clear();
        self.name = Name::Other;
    }
}

/// The number with nine decimals, if it is one with more.
fn rounded(word: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(word).ok()?;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, self::exponent(exponent)?),
        None => (text, 0),
    };
    let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa), |digits| ("-", digits));
    let (whole, fraction) = match digits.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (digits, ""),
    };
    let is_number = !whole.is_empty()
        && (whole.len() == 1 || !whole.starts_with('0'))
        && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number || fraction.len() as i64 - exponent <= i64::from(SCALE) {
        return None;
    }
    // As digits of which so many stand before the point; and of them all up to the ninth after it.
    let point = whole.len() as i64 + exponent;
    let kept = point + i64::from(SCALE);
    let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let mut nanos: Vec<u8> = match usize::try_from(kept) {
        Ok(kept) => all[..kept.min(all.len())].to_vec(),
        Err(_) => Vec::new(),
    };
    let next = usize::try_from(kept).ok().and_then(|kept| all.get(kept));
    if next.is_some_and(|digit| *digit >= b'5') {
        increase(&mut nanos);
    }
    Some(written(sign, &nanos))
}

fn exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let are_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let size: i64 = if are_digits { digits.parse().unwrap_or(EXPONENT_MAX) } else { return None };
    let size = size.min(EXPONENT_MAX);
    Some(if text.starts_with('-') { -size } else { size })
}

/// Adds one to a number of digits.
fn increase(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
}

/// So many billionths, in plain notation.
fn written(sign: &str, nanos: &[u8]) -> String {
    let scale = SCALE as usize;
    let digits = format!("{:0>width$}", String::from_utf8_lossy(nanos), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    match fraction.trim_end_matches('0') {
        "" if whole == "0" => "0".to_owned(),
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rentroll_schemas::Quantity;

    use super::*;

    fn round(json: &str) -> String {
        let (mut rounding, mut out) = (Rounding::default(), Vec::new());
        rounding.push(json.as_bytes(), &mut out);
        rounding.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_become_what_they_mean() {
        for (number, expected) in [
            ("0.00022500000000000002", "0.000225"),
            ("0.00017999999999999998", "0.00018"),
            ("1.35e-05", "1.35e-05"),
            ("2.25000000001E-4", "0.000225"),
            ("0.30000000000000004", "0.3"),
            ("0.0000000005", "0.000000001"),
            ("-0.0000000005", "-0.000000001"),
            ("0.00000000049999", "0"),
            ("-1e-30", "0"),
            ("5e-10", "0.000000001"),
            ("1e-999999999999999999999", "0"),
            ("0.9999999999", "1"),
            ("-9.9999999999", "-10"),
            ("12345678901234567.1234567895", "12345678901234567.12345679"),
            ("1.0000000000", "1"),
            ("123.456", "123.456"),
            ("1e9", "1e9"),
            ("1.23456789012e3", "1.23456789012e3"),
            ("1.2345678901234e3", "1234.567890123"),
            // None that JSON has.
            ("01.00000000001", "01.00000000001"),
            ("1.", "1."),
            ("-.00000000001", "-.00000000001"),
            ("1.00000000001e", "1.00000000001e"),
            ("+1.00000000001", "+1.00000000001"),
        ] {
            assert_eq!(round(&format!("[{{\"a\" : {number}}}]")), format!("[{{\"a\" : {expected}}}]"));
        }
        let long = format!("0.{}", "3".repeat(NUMBER_BYTES_MAX));
        assert_eq!(round(&format!("[{long},0.12345678912]")), format!("[{long},0.123456789]"));
    }

    #[test]
    fn texts_are_left_alone_and_data_that_is_null_is_empty() {
        for (json, expected) in [
            (r#"{"id":"0.12345678912","data":null}"#, r#"{"id":"0.12345678912","data":{}}"#),
            (r#"[{"data" : null},{"data":null }]"#, r#"[{"data" : {}},{"data":{} }]"#),
            (r#"{"data":{"data":null,"x":null}}"#, r#"{"data":{"data":null,"x":null}}"#),
            (r#"{"a":"data","b":null,"c\"data":null}"#, r#"{"a":"data","b":null,"c\"data":null}"#),
            (r#"{"x":"\"0.12345678912","y":0.12345678912}"#, r#"{"x":"\"0.12345678912","y":0.123456789}"#),
            (r#"{"data":nullnull}"#, r#"{"data":nullnull}"#),
        ] {
            assert_eq!(round(json), expected);
        }
    }

    /// By integers.
    fn nanos(mantissa: i64, exponent: i32) -> i128 {
        let places = exponent + SCALE as i32;
        let mantissa = i128::from(mantissa);
        if places >= 0 {
            return mantissa * 10_i128.pow(places as u32);
        }
        let unit = 10_i128.pow(places.unsigned_abs());
        (mantissa.abs() + unit / 2) / unit * mantissa.signum()
    }

    proptest! {
        #[test]
        fn rounding_is_half_away_from_zero(
            mantissa in any::<i64>(), exponent in -28..9_i32, has_point in any::<bool>(), digits in 1..18_usize,
        ) {
            let plain = mantissa.to_string();
            let at = plain.len().saturating_sub(digits).max(1 + usize::from(mantissa < 0));
            let number = match has_point && at < plain.len() {
                // The point to the left, and the exponent up by as many.
                true => format!("{}.{}e{}", &plain[..at], &plain[at..], exponent + (plain.len() - at) as i32),
                false => format!("{plain}e{exponent}"),
            };
            let read: Quantity = round(&number).parse().unwrap();
            prop_assert_eq!(read.nanos(), nanos(mantissa, exponent), "{}", number);
        }

        #[test]
        fn it_is_the_same_however_it_is_cut(
            json in "[\\[\\]{}\",:0-9.eE+\\-a-z \\\\]{0,200}", cuts in proptest::collection::vec(0..200_usize, 0..6),
        ) {
            let (mut rounding, mut out) = (Rounding::default(), Vec::new());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(json.len())).collect();
            cuts.extend([0, json.len()]);
            cuts.sort_unstable();
            for pair in cuts.windows(2) {
                rounding.push(&json.as_bytes()[pair[0]..pair[1]], &mut out);
            }
            rounding.finish(&mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), round(&json));
        }

        #[test]
        fn what_is_exact_stays_byte_for_byte(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (mut rounding, mut out) = (Rounding::default(), Vec::new());
            rounding.push(&bytes, &mut out);
            rounding.finish(&mut out);
            let has_long = bytes.split(|byte| !byte.is_ascii_alphanumeric() && !b"+-.".contains(byte)).any(|word| rounded(word).is_some());
            prop_assert!(has_long || out == bytes);
        }
    }
}
