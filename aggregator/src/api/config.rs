//! `[api]` of the configuration.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::Budget;
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
    /// Memory of the store that the queries of one token may take at once; 0 for as much as they come to.
    pub token_memory_bytes_max: u64,
    /// Seconds of each minute that the queries of one token may take, all together; 0 for as many as they come to.
    pub token_seconds_per_minute_max: u64,
    /// The same of a token that reads one tenant.
    pub tenant_token_seconds_per_minute_max: u64,
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
            token_memory_bytes_max: 0,
            token_seconds_per_minute_max: 0,
            tenant_token_seconds_per_minute_max: 60,
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
        if self.token_memory_bytes_max != 0 && self.token_memory_bytes_max < self.query_memory_bytes_max {
            let reason =
                "must be 0, or at least query_memory_bytes_max: a token has room for one query".to_owned();
            return Err(("token_memory_bytes_max", reason));
        }
        within("token_memory_bytes_max", self.token_memory_bytes_max, 0, 1 << 40)?;
        within("token_seconds_per_minute_max", self.token_seconds_per_minute_max, 0, 600_000)?;
        within("tenant_token_seconds_per_minute_max", self.tenant_token_seconds_per_minute_max, 0, 600_000)?;
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
        let of_token = match self.token_memory_bytes_max {
            0 => of_token,
            // Each may take all that a query may.
            bytes => of_token.min(usize::try_from(bytes / self.query_memory_bytes_max).unwrap_or(usize::MAX)),
        };
        (all, of_token.clamp(1, all))
    }

    /// What the queries of a token may take of a minute, if it is bounded.
    pub(super) fn budget(&self, is_of_tenant: bool) -> Option<Budget> {
        let all = self.token_seconds_per_minute_max;
        let seconds = match (is_of_tenant, self.tenant_token_seconds_per_minute_max) {
            (false, _) | (true, 0) => all,
            (true, of_tenant) if all == 0 => of_tenant,
            (true, of_tenant) => of_tenant.min(all),
        };
        (seconds > 0).then(|| Budget(Duration::from_secs(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_as_many_queries_as_its_memory_has_room_for() {
        let of_token = |bytes| {
            let config = ApiConfig {
                query_memory_bytes_max: 100 << 20,
                token_memory_bytes_max: bytes,
                queries_at_once: 8,
                ..ApiConfig::default()
            };
            config.check().map(|()| config.at_once())
        };
        assert_eq!(of_token(0), Ok((8, 7)));
        assert_eq!(of_token(350 << 20), Ok((8, 3)));
        assert_eq!(of_token(10_000 << 20), Ok((8, 7)));
        assert_eq!(of_token(99 << 20).map_err(|(field, _)| field), Err("token_memory_bytes_max"));
    }

    #[test]
    fn a_tenants_token_may_take_no_more_than_any_other() {
        let budget = |all, of_tenant, is_of_tenant| {
            let config = ApiConfig {
                token_seconds_per_minute_max: all,
                tenant_token_seconds_per_minute_max: of_tenant,
                ..ApiConfig::default()
            };
            config.budget(is_of_tenant).map(|Budget(budget)| budget.as_secs())
        };
        assert_eq!(budget(0, 0, true), None);
        assert_eq!(budget(0, 60, true), Some(60));
        assert_eq!(budget(0, 60, false), None);
        assert_eq!(budget(30, 60, true), Some(30));
        assert_eq!(budget(90, 60, true), Some(60));
        assert_eq!(budget(90, 0, true), Some(90));
    }
}
