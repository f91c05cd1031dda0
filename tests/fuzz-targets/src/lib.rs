//! What is fuzzed: every parser that reads bytes from outside.
//!
//! A target is a plain function that takes any bytes and panics where something that must hold does not: that
//! what was read and written is read again the same, that what was refused says which field. `fuzz/` runs them
//! under libFuzzer; `tests/replay.rs` runs the kept corpora on the stable compiler, as ordinary tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a target says that it found something"
)]

mod events;
mod files;
mod http;
mod lines;
mod log;

pub use events::{compact, event, quantity, record, reject};
pub use files::{catalogue, costs, meters, question, tenant_lines, tenants, tokens};
pub use http::http_body;
pub use lines::{access_line, json_line, pattern_line};
pub use log::{log_frame, log_segment};
pub use rentroll_engines::fuzz::{face_frames, face_native, face_request, face_statement, kafka_headers};

/// A target.
pub type Target = fn(&[u8]);

/// Every target, under the name of its corpus and of its libFuzzer binary.
pub const TARGETS: &[(&str, Target)] = &[
    ("event", event),
    ("record", record),
    ("compact", compact),
    ("http_body", http_body),
    ("quantity", quantity),
    ("reject", reject),
    ("access_line", access_line),
    ("json_line", json_line),
    ("pattern_line", pattern_line),
    ("log_frame", log_frame),
    ("log_segment", log_segment),
    ("kafka_headers", kafka_headers),
    ("face_request", face_request),
    ("face_statement", face_statement),
    ("face_frames", face_frames),
    ("face_native", face_native),
    ("meters", meters),
    ("catalogue", catalogue),
    ("costs", costs),
    ("tokens", tokens),
    ("tenants", tenants),
    ("tenant_lines", tenant_lines),
    ("question", question),
];
