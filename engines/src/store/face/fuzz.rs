//! The parsers here, for the fuzzers.

use std::io::Read;

use axum::body::Body;
use axum::http::Request;

use super::request::{Ask, Credential};
use super::statement::{self, Statement};
use super::{block, native};

pub(crate) fn compress(data: &[u8]) -> Vec<u8> {
    block::compress(data)
}

/// Reads compressed frames.
pub(crate) fn frame_reader(data: &[u8]) -> impl Read {
    block::FrameReader::new(data)
}

/// `body` behind a head of its own, with the checksum that a mutation cannot guess.
pub(crate) fn sealed(method: u8, data_length: u32, body: &[u8]) -> Vec<u8> {
    block::sealed(method, data_length, body)
}

pub(crate) fn with_revision(blocks: &[u8]) -> Result<bytes::Bytes, String> {
    native::with_revision(blocks).map_err(|fault| fault.text)
}

/// What is known of a statement before its end is what its end confirms: rows are never taken for SQL, nor SQL
/// for rows, because of where a network cut them.
pub(crate) fn statement(text: &[u8]) {
    let whole = statement::read(text, true);
    for cut in [text.len() / 3, text.len() / 2, text.len().saturating_sub(1), text.len()] {
        match statement::read(&text[..cut], false) {
            Ok(Some(early)) => {
                if let Statement::Insert { data_at, .. } = &early {
                    assert!(*data_at <= cut);
                }
                assert!(
                    whole.as_ref().is_ok_and(|whole| whole.as_ref() == Some(&early)),
                    "cut at {cut}: {early:?} {whole:?}"
                );
            }
            Ok(None) => {}
            Err(_) => assert!(whole.is_err(), "refused at {cut} of {}", text.len()),
        }
    }
    if let Ok(whole) = whole {
        assert!(whole.is_some(), "a complete text is never unfinished");
    }
}

pub(crate) fn request(request: Request<Body>) {
    let _ = Credential::of(&request);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    if let Ok((ask, _)) = runtime.block_on(Ask::read(request)) {
        for sql in ask.preparations("mark") {
            // What came from outside stays inside its quotes: each is one statement.
            let read = statement::read(sql.as_bytes(), true);
            assert!(matches!(read, Ok(Some(Statement::Query { .. }))), "{sql}: {read:?}");
        }
    }
}
