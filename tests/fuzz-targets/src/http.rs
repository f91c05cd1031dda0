//! Bodies of requests to the collector.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use rentroll_collector::http::auth::{Keys, Speaker};
use rentroll_collector::http::body::{Encoding, Memory, decode};
use rentroll_collector::http::judge::{Rules, judge, reject};
use rentroll_collector::http::{binary, media, split};
use rentroll_schemas::token::Grant;

/// After decompression.
const BODY_BYTES_MAX: usize = 1 << 20;
const NOW: DateTime<Utc> = DateTime::from_timestamp(1_750_000_000, 0).unwrap();

/// The first byte says how the body is encoded and who sends it; lines up to an empty one are headers; the rest is
/// the body.
pub fn http_body(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(0);
    let headers: HeaderMap = data[..end].split(|byte| *byte == b'\n').filter_map(header).collect();
    let body = if end == 0 { data } else { &data[end + 2..] };
    let _ = media::of(&headers);
    let encoding = [Encoding::Identity, Encoding::Gzip, Encoding::Zstd][usize::from(choice % 3)];
    let memory = Memory::new(8 * BODY_BYTES_MAX);
    let mut share = memory.share();
    let Ok(body) = decode(encoding, Bytes::copy_from_slice(body), BODY_BYTES_MAX, &mut share) else { return };
    assert!(body.len() <= BODY_BYTES_MAX, "a bomb is cut");
    let speaker = speaker(choice / 3);
    verdicts(&[&binary::structured(&headers, &body)], &speaker);
    verdicts(&[&body], &speaker);
    if let Ok(elements) = split::elements(&body) {
        assert!(elements.iter().all(|element| !element.is_empty()));
        // A list that a JSON reader reads is split as it splits it.
        if let Ok(read) = serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(&body) {
            assert!(read.iter().map(|raw| raw.get().as_bytes()).eq(elements.iter().copied()));
        }
        verdicts(&elements, &speaker);
    } else {
        let is_list = serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(&body).is_ok();
        assert!(!is_list, "a JSON reader reads it as a list");
    }
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
}

fn speaker(choice: u8) -> Speaker {
    let grant = match choice % 3 {
        0 => Grant::Tenant { tenant: "acme".to_owned() },
        1 => Grant::Source { source: "edge".to_owned(), backfill: false },
        _ => Grant::Source { source: "edge".to_owned(), backfill: true },
    };
    Speaker { id: "k1".into(), grant: Arc::new(grant) }
}

/// Nobody speaks for another: that is what the verdicts are for.
fn verdicts(elements: &[&[u8]], speaker: &Speaker) {
    static KEYS: LazyLock<Keys> = LazyLock::new(|| {
        Keys::open(PathBuf::from("/nonexistent/tokens.toml"), vec!["edge".to_owned()])
            .expect("no file is no tokens")
    });
    let reserved = KEYS.reserved();
    for plain in [false, true] {
        let rules = Rules { speaker, reserved: &reserved, plain, event_bytes_max: 4096, now: NOW };
        let (events, refused) = judge(elements, &rules);
        assert_eq!(events.len() + refused.len(), elements.len(), "each has a verdict");
        for event in &events {
            let is_edge = event.source == "edge" || event.source.starts_with("edge/");
            match speaker.tenant() {
                Some(tenant) => assert!(event.tenant == tenant && !is_edge),
                None => assert!(is_edge),
            }
            crate::events::is_read_again(event);
        }
        for one in &refused {
            assert!(!one.refusal.reason.is_empty() && !one.refusal.detail.is_empty());
            assert!(elements[one.index].starts_with(&reject(one, elements[one.index], "r", &rules).bytes));
        }
    }
}
