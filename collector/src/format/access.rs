//! Access logs: Apache `common` and `combined`, nginx `combined` and what adds fields behind it.
//!
//! ```text
//! address ident user [day/Mon/year:hour:minute:second ±zone] "request" status bytes "referer" "agent" …
//! ```
//! Only what is metered must be readable: address, user, time, status, bytes. What stands behind `bytes` is
//! not looked at, so a log whose user agents are broken still counts. A request may hold anything, escaped or
//! not: it ends at the quote that a status and a number of bytes follow.
//!
//! Source: <https://httpd.apache.org/docs/2.4/mod/mod_log_config.html>,
//! <https://nginx.org/en/docs/http/ngx_http_log_module.html>.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, Utc};
use rentroll_schemas::{Event, Quantity};

use super::Refusal;
use crate::source::{SourceConfig, TenantField};

/// Longer paths are cut: a dimension is there to tell operations apart, not to archive them.
const PATH_BYTES_MAX: usize = 512;

/// The metered fields of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    address: &'a [u8],
    user: &'a [u8],
    time: DateTime<Utc>,
    request: &'a [u8],
    status: &'a [u8],
    bytes: u64,
}

pub(super) fn parse(line: &[u8]) -> Result<Request<'_>, Refusal> {
    let (address, rest) = split_at_byte(line, b' ')
        .filter(|(address, _)| !address.is_empty())
        .ok_or_else(|| Refusal::unreadable("client_address", "no first field"))?;
    // The user may hold blanks; the time's bracket ends it.
    let bracket = find(rest, b" [").ok_or_else(|| Refusal::unreadable("time", "no `[time]`"))?;
    let (_ident, user) = split_at_byte(&rest[..bracket], b' ')
        .ok_or_else(|| Refusal::unreadable("remote_user", "no field before the time"))?;
    let rest = &rest[bracket + 2..];
    let (time_text, rest) =
        split_at_byte(rest, b']').ok_or_else(|| Refusal::unreadable("time", "no closing `]`"))?;
    let time = parse_time(time_text).ok_or_else(|| {
        let given = String::from_utf8_lossy(&time_text[..time_text.len().min(64)]);
        Refusal::unreadable("time", format!("`{given}` is not like 17/May/2015:10:05:03 +0000"))
    })?;
    let request_text = rest
        .strip_prefix(b" \"")
        .ok_or_else(|| Refusal::unreadable("request", "no quote behind the time"))?;
    let (request, status, bytes) = split_request(request_text).ok_or_else(|| {
        Refusal::unreadable("status", "no three-digit status and number of bytes behind the request")
    })?;
    Ok(Request { address, user, time, request, status, bytes })
}

/// The request, the status and the bytes: at the first quote behind which the latter two stand. Servers escape
/// the quotes that a client sends, so an escaped one is looked at only if no other will do.
fn split_request(text: &[u8]) -> Option<(&[u8], &[u8], u64)> {
    let quotes = || text.iter().enumerate().filter(|(_, byte)| **byte == b'"').map(|(at, _)| at);
    let escaped = |at: &usize| text[..*at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
    quotes().filter(|at| !escaped(at)).chain(quotes().filter(escaped)).find_map(|at| {
        let (status, bytes) = status_and_bytes(&text[at + 1..])?;
        Some((&text[..at], status, bytes))
    })
}

fn status_and_bytes(text: &[u8]) -> Option<(&[u8], u64)> {
    let text = text.strip_prefix(b" ")?;
    let (status, rest) = split_at_byte(text, b' ')?;
    if status.len() != 3 || !status.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let end = rest.iter().position(|byte| byte.is_ascii_whitespace()).unwrap_or(rest.len());
    let bytes = match &rest[..end] {
        // Apache's way of saying that no body was sent.
        b"-" => 0,
        digits if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) => return None,
        digits => std::str::from_utf8(digits).ok()?.parse().ok()?,
    };
    Some((status, bytes))
}

impl<'a> Request<'a> {
    pub(super) fn into_event(
        self,
        source: &'a SourceConfig,
        tenant: TenantField,
        id: Cow<'a, str>,
    ) -> Result<Event<'a>, Refusal> {
        let (field, tenant) = match tenant {
            TenantField::RemoteUser => ("remote_user", self.user),
            _ => ("client_address", self.address),
        };
        let tenant = std::str::from_utf8(tenant).map_err(|_| Refusal::unreadable(field, "not UTF-8"))?;
        // `-` is how a log says that there is none: usage without an owner is not guessed.
        if tenant.is_empty() || tenant == "-" || tenant.len() > rentroll_schemas::event::NAME_BYTES_MAX {
            return Err(Refusal::unreadable(field, "names no tenant"));
        }
        let mut dimensions = Vec::with_capacity(3);
        let mut words = self.request.split(|byte| *byte == b' ');
        let method = words.next().unwrap_or_default();
        if !method.is_empty() && method.len() <= 16 && method.iter().all(u8::is_ascii_uppercase) {
            dimensions.push(("method".into(), String::from_utf8_lossy(method)));
            if let Some(target) = words.next() {
                let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
                let path = &path[..path.len().min(PATH_BYTES_MAX)];
                dimensions.push(("path".into(), String::from_utf8_lossy(path)));
            }
        }
        dimensions.push(("status".into(), String::from_utf8_lossy(self.status)));
        Ok(Event {
            id,
            source: source.name.as_str().into(),
            kind: source.event_type.as_str().into(),
            tenant: tenant.into(),
            time: self.time,
            measures: vec![(
                "bytes".into(),
                Quantity::from_nanos(i128::from(self.bytes) * Quantity::ONE.nanos()),
            )],
            dimensions,
            correction: None,
        })
    }
}

/// Reads `17/May/2015:10:05:03 +0200`, the format of Apache's `%t` and nginx's `$time_local`, as UTC.
pub fn parse_time(text: &[u8]) -> Option<DateTime<Utc>> {
    let [
        d1,
        d2,
        b'/',
        m1,
        m2,
        m3,
        b'/',
        y1,
        y2,
        y3,
        y4,
        b':',
        h1,
        h2,
        b':',
        n1,
        n2,
        b':',
        s1,
        s2,
        b' ',
        sign,
        z1,
        z2,
        z3,
        z4,
    ] = *text
    else {
        return None;
    };
    let month = match [m1, m2, m3] {
        [b'J', b'a', b'n'] => 1,
        [b'F', b'e', b'b'] => 2,
        [b'M', b'a', b'r'] => 3,
        [b'A', b'p', b'r'] => 4,
        [b'M', b'a', b'y'] => 5,
        [b'J', b'u', b'n'] => 6,
        [b'J', b'u', b'l'] => 7,
        [b'A', b'u', b'g'] => 8,
        [b'S', b'e', b'p'] => 9,
        [b'O', b'c', b't'] => 10,
        [b'N', b'o', b'v'] => 11,
        [b'D', b'e', b'c'] => 12,
        _ => return None,
    };
    let year = number(&[y1, y2, y3, y4])?;
    let day = number(&[d1, d2])?;
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[n1, n2])?, number(&[s1, s2])?);
    // Second 60 is a leap second; it counts as the first of the next minute.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (zone_hours, zone_minutes) = (number(&[z1, z2])?, number(&[z3, z4])?);
    if zone_hours > 23 || zone_minutes > 59 {
        return None;
    }
    let offset = i64::from(zone_hours * 3600 + zone_minutes * 60);
    let offset = match sign {
        b'+' => offset,
        b'-' => -offset,
        _ => return None,
    };
    let midnight =
        NaiveDate::from_ymd_opt(year as i32, month, day)?.and_hms_opt(0, 0, 0)?.and_utc().timestamp();
    let of_day = i64::from(hour * 3600 + minute * 60 + second);
    DateTime::from_timestamp(midnight + of_day - offset, 0)
}

fn number(digits: &[u8]) -> Option<u32> {
    digits
        .iter()
        .try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u32::from(digit - b'0')))
}

fn split_at_byte(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|candidate| *candidate == byte)?;
    Some((&text[..at], &text[at + 1..]))
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source() -> SourceConfig {
        SourceConfig::log("web", "access.log")
    }

    fn bytes_of(line: &str) -> Option<u64> {
        parse(line.as_bytes()).ok().map(|request| request.bytes)
    }

    #[test]
    fn reads_what_servers_write() {
        for (line, bytes) in [
            (r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 12 "-" "Mozilla""#, 12),
            (r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 304 -"#, 0),
            (r#"::1 - al ice [17/May/2015:10:05:03 -0730] "-" 408 0 "-" "-""#, 0),
            (r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "" 400 157 "-" "-" "-""#, 157),
            (r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "\x16\x03\x01" 400 157 "-" "-""#, 157),
            (
                r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /\"x\" 200 5 HTTP/1.1" 200 7 "-" "a "b" c""#,
                7,
            ),
            (r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 235 "-" "open"#, 235),
        ] {
            assert_eq!(bytes_of(line), Some(bytes), "{line}");
        }
    }

    #[test]
    fn refuses_by_field() {
        for (line, field) in [
            ("", "client_address"),
            ("hello", "client_address"),
            ("hello world", "time"),
            (r#"1.2.3.4 - - [17/Mai/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1"#, "time"),
            (r#"1.2.3.4 - - [31/Feb/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1"#, "time"),
            (r#"1.2.3.4 - - [17/May/2015:25:05:03 +0000] "GET / HTTP/1.1" 200 1"#, "time"),
            (r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] GET / HTTP/1.1 200 1"#, "request"),
            (r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" OK 1"#, "status"),
            (r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1.5"#, "status"),
            (r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1"#, "status"),
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap_err().field, field, "{line}");
        }
    }

    #[test]
    fn a_log_that_names_nobody_names_no_tenant() {
        let line = br#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1"#;
        let refusal =
            parse(line).unwrap().into_event(&source(), TenantField::RemoteUser, "1".into()).unwrap_err();
        assert_eq!(refusal.field, "remote_user");
    }

    #[test]
    fn times_are_turned_to_utc() {
        for (text, utc) in [
            ("17/May/2015:10:05:03 +0000", "2015-05-17T10:05:03+00:00"),
            ("01/Jan/2024:00:30:00 +0200", "2023-12-31T22:30:00+00:00"),
            ("31/Dec/2016:23:59:60 +0000", "2017-01-01T00:00:00+00:00"),
            ("29/Feb/2024:12:00:00 -0330", "2024-02-29T15:30:00+00:00"),
        ] {
            assert_eq!(parse_time(text.as_bytes()).unwrap().to_rfc3339(), utc);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = crate::format::LineFormat::new(&source()).unwrap().read(&line, "1");
        }

        #[test]
        fn any_request_between_its_quotes_is_read(request in "[ -~]{0,40}", bytes in any::<u64>()) {
            // The one thing a request may not hold is what ends it.
            prop_assume!(status_and_bytes(request.split('"').next_back().unwrap_or("").as_bytes()).is_none());
            prop_assume!(!request.contains('"'));
            let line = format!(r#"::1 - - [17/May/2015:10:05:03 +0000] "{request}" 200 {bytes} "-" "-""#);
            prop_assert_eq!(bytes_of(&line), Some(bytes));
        }
    }
}
