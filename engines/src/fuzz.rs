//! Targets of the fuzzers whose parsers are nobody else's business: see `tests/fuzz-targets`.

use std::io::Read as _;

use axum::body::Body;
use axum::http::Request;

use crate::log::Headers;
use crate::store::fuzz as store;

/// Headers of a Kafka record: names and values, cut at zero bytes.
pub fn kafka_headers(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0);
    let pairs = std::iter::from_fn(|| Some((parts.next()?, parts.next().unwrap_or_default())));
    let headers = crate::log::kafka::record::mended(pairs, &mut bytes::BytesMut::new());
    let stored = Headers::from_bytes(bytes::Bytes::copy_from_slice(headers.as_bytes()));
    assert_eq!(stored, Some(headers));
    // And as a block that something else wrote.
    if let Some(headers) = Headers::from_bytes(bytes::Bytes::copy_from_slice(data)) {
        let again: Headers = headers.iter().collect();
        assert_eq!(again, headers);
    }
}

/// ClickHouse's compressed frames.
pub fn face_frames(data: &[u8]) {
    let mut out = Vec::new();
    // Bounded as a request's body is: a frame of zeros unpacks to 255 times its length.
    let _ = store::frame_reader(data).take(64 << 20).read_to_end(&mut out);
    if let Some(([method, a, b, c, d], body)) = data.split_first_chunk::<5>() {
        // Below 16 MiB: what a forged length alone can make us allocate is bounded, and tested, elsewhere.
        let length = u32::from_le_bytes([*a, *b, *c, *d]) >> 8;
        let sealed = store::sealed(*method, length, body);
        let _ = store::frame_reader(&sealed).take(64 << 20).read_to_end(&mut out);
    }
    let whole = store::compress(data);
    let mut again = Vec::new();
    assert!(store::frame_reader(&whole).read_to_end(&mut again).is_ok_and(|_| again == data));
}

/// Blocks of Native.
pub fn face_native(data: &[u8]) {
    if let Ok(blocks) = store::with_revision(data) {
        assert!(blocks.len() >= data.len(), "a client is given no less than the engine gave");
    }
}

/// Where a statement ends.
pub fn face_statement(data: &[u8]) {
    store::statement(data);
}

/// URL, headers and form of a request: the first line is the URL's query, the rest the body.
pub fn face_request(data: &[u8]) {
    let line = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (query, body) = (&data[..line], data.get(line + 1..).unwrap_or_default());
    let Ok(query) = std::str::from_utf8(query) else { return };
    let request = Request::builder()
        .method("POST")
        .uri(format!("/?{query}"))
        .header("content-type", "multipart/form-data; boundary=X")
        .header("authorization", format!("Basic {query}"))
        .body(Body::from(body.to_vec()));
    // A client cannot send what is no URL.
    if let Ok(request) = request {
        store::request(request);
    }
}
