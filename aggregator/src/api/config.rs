//! `[api]` of the configuration.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::usage::Limits;

/// A year, and a day where it is a leap year.
const PORTAL_TOKEN_SECONDS_MAX: u64 = 366 * 86_400;

/// `[api]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// An address for the API alone, to be opened to tenants: no console and no metrics are there. It is at `http.listen` in any
    /// case.
    pub listen: Option<SocketAddr>,
    /// How long a query may take, seconds.
    pub query_seconds_max: u64,
    /// Memory of the store that a query may take.
    pub query_memory_bytes_max: u64,
    /// Rows of the store that a query may read.
    pub rows_read_max: u64,
    /// Rows that a query may have in its answer, over all its pages.
    pub rows_answered_max: u64,
    /// Queries at once; 0 for two a core.
    pub queries_at_once: usize,
    /// Queries at once of one token; 0 for all but one.
    pub queries_at_once_per_token: usize,
    /// How long a query waits for its turn, milliseconds.
    pub queue_ms_max: u64,
    /// Largest body.
    pub body_bytes_max: usize,
    /// Longest life of a portal's token that is made here, seconds.
    pub portal_token_seconds_max: u64,
}

impl Default for ApiConfig {
    fn default() -> Self {
        let Limits { seconds_max, memory_bytes_max, rows_read_max, rows_answered_max } = Limits::default();
        ApiConfig {
            listen: None,
            query_seconds_max: seconds_max,
            query_memory_bytes_max: memory_bytes_max,
            rows_read_max,
            rows_answered_max,
            queries_at_once: 0,
            queries_at_once_per_token: 0,
            queue_ms_max: 10_000,
            body_bytes_max: 4 << 20,
            portal_token_seconds_max: PORTAL_TOKEN_SECONDS_MAX,
        }
    }
}

impl ApiConfig {
    /// The rules that the shape alone cannot express; the error is (field, reason).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let within = |field, value: u64, least: u64, most: u64| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err((field, format!("must be from {least} to {most}"))),
        };
        within("query_seconds_max", self.query_seconds_max, 1, 3_600)?;
        within("query_memory_bytes_max", self.query_memory_bytes_max, 16 << 20, 1 << 40)?;
        within("rows_read_max", self.rows_read_max, 1_000, 1 << 50)?;
        within("rows_answered_max", self.rows_answered_max, 1_000, 10_000_000)?;
        within("queries_at_once", self.queries_at_once as u64, 0, 10_000)?;
        within("queries_at_once_per_token", self.queries_at_once_per_token as u64, 0, 10_000)?;
        within("queue_ms_max", self.queue_ms_max, 0, 600_000)?;
        within("body_bytes_max", self.body_bytes_max as u64, 1 << 10, 1 << 30)?;
        within("portal_token_seconds_max", self.portal_token_seconds_max, 60, PORTAL_TOKEN_SECONDS_MAX)
    }

    /// What one query may take.
    pub fn limits(&self) -> Limits {
        Limits {
            seconds_max: self.query_seconds_max,
            memory_bytes_max: self.query_memory_bytes_max,
            rows_read_max: self.rows_read_max,
            rows_answered_max: self.rows_answered_max,
        }
    }

    /// (queries at once, of one token).
    pub fn at_once(&self) -> (usize, usize) {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let all = if self.queries_at_once == 0 { 2 * cores } else { self.queries_at_once };
        let of_token = match self.queries_at_once_per_token {
            0 => all.saturating_sub(1),
            some => some,
        };
        (all, of_token.clamp(1, all))
    }
}
