//! CloudEvents' binary mode: attributes in `ce-` headers, `data` in the body. It is put together into the
//! structured form, which is what is read, and what is kept of one that is refused.

use hyper::HeaderMap;

/// The structured form of an event whose headers and body these are.
pub fn structured(headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + body.len());
    out.push(b'{');
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix("ce-") else { continue };
        push_string(&mut out, attribute);
        out.push(b':');
        push_string(&mut out, &decoded(value.as_bytes()));
        out.push(b',');
    }
    match super::split::first(body) {
        None => {
            // A trailing comma would be no JSON.
            if out.last() == Some(&b',') {
                out.pop();
            }
        }
        Some(_) => {
            out.extend_from_slice(br#""data":"#);
            match serde_json::from_slice::<&serde_json::value::RawValue>(body) {
                Ok(data) => out.extend_from_slice(data.get().as_bytes()),
                // As a text it cannot add attributes to the event, and is refused for not being an object.
                Err(_) => push_string(&mut out, &String::from_utf8_lossy(body)),
            }
        }
    }
    out.push(b'}');
    out
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    // Serialising a str into a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// A header's value as CloudEvents' HTTP binding writes it: UTF-8, with `%XX` for what a header cannot hold.
fn decoded(value: &[u8]) -> std::borrow::Cow<'_, str> {
    if !value.contains(&b'%') {
        return String::from_utf8_lossy(value);
    }
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((byte, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| *byte == b'%').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            u8::from_str_radix(digits, 16).ok()
        });
        match code {
            Some(code) => {
                out.push(code);
                rest = &behind[2..];
            }
            None => {
                out.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned().into()
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};
    use rentroll_schemas::Event;

    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        list.iter().map(pair).collect()
    }

    #[test]
    fn becomes_the_event_that_its_headers_and_body_say() {
        let headers = headers(&[
            ("ce-specversion", "1.0"),
            ("ce-id", "a%22%E2%82%AC%zz"),
            ("ce-source", "api"),
            ("ce-type", "t"),
            ("ce-subject", "acme"),
            ("ce-time", "2026-01-01T00:00:00Z"),
            ("content-type", "application/json"),
        ]);
        let json = structured(&headers, br#" {"bytes":12} "#);
        let event = Event::from_json(&json).unwrap();
        assert_eq!((event.id.as_ref(), event.tenant.as_ref()), ("a\"€%zz", "acme"));
        assert_eq!(event.measure("bytes").unwrap().to_string(), "12");
        let empty = structured(&headers, b"");
        assert_eq!(Event::from_json(&empty).unwrap().measures, []);
        assert_eq!(structured(&HeaderMap::new(), b""), b"{}");
    }

    #[test]
    fn a_body_cannot_break_out_of_data() {
        let headers = headers(&[("ce-id", "1"), ("ce-subject", "acme")]);
        let json = structured(&headers, br#"{},"subject":"other""#);
        assert!(serde_json::from_slice::<serde_json::Value>(&json).unwrap()["data"].is_string());
    }
}
