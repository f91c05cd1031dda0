//! Who asks, and what they may see: the one place where a token becomes a [`Scope`].
//!
//! The [`Gate`] holds usage, registries and store behind private fields. Handlers get at them through an extractor alone,
//! [`Reader`] or [`Manager`], and a reader has no usage but a [`Scoped`] one.

mod known;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use chrono::Utc;
use rentroll_engines::store::Store;
use rentroll_schemas::token::file::FileError;
use rentroll_schemas::token::{self, Keys, Reads, Speaker};

use super::budget::Budget;
use super::config::ApiConfig;
use super::metrics::ApiMetrics;
use super::problem::{Kind, Problem};
use super::turns::{Busy, Turn, Turns};
use crate::usage::{Scope, Scoped, Usage};

/// How often the tokens are looked at: a revoked token is out within this.
const REFRESH: Duration = Duration::from_millis(500);

/// Lets in who has a token.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    keys: Keys,
    tokens: PathBuf,
    usage: Usage,
    store: Store,
    /// The same store, for readers: what is read of the registries may take no more than any other query.
    reads: Store,
    turns: Arc<Turns>,
    /// Of a token that reads all tenants, and of one that reads one.
    budgets: [Option<Budget>; 2],
    metrics: ApiMetrics,
}

impl Gate {
    /// Lets in the holders of the tokens in the file at `tokens`, and keeps up with its changes as long as it is there.
    ///
    /// # Errors
    /// The file's.
    pub fn open(
        usage: Usage,
        store: Store,
        tokens: PathBuf,
        config: &ApiConfig,
        metrics: ApiMetrics,
    ) -> Result<Gate, FileError> {
        let keys = Keys::open(tokens.clone(), Vec::new())?;
        let (at_once, of_token) = config.at_once();
        let turns = Turns::new(at_once, of_token, Duration::from_millis(config.queue_ms_max));
        let reads = store.with_settings(&[
            ("max_execution_time", config.query_seconds_max.to_string()),
            ("max_memory_usage", config.query_memory_bytes_max.to_string()),
        ]);
        let budgets = [false, true].map(|is_of_tenant| config.budget(is_of_tenant));
        let inner = Arc::new(Inner { keys, tokens, usage, store, reads, turns, budgets, metrics });
        tokio::spawn(keep_up(Arc::downgrade(&inner)));
        Ok(Gate(inner))
    }

    /// Who holds the token of these headers.
    ///
    /// # Errors
    /// A [`Problem`] that says why nobody does.
    pub fn speaker(&self, headers: &HeaderMap) -> Result<Speaker, Problem> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            let detail = "no token: send `authorization: Bearer rr_…`; `rentroll tokens create` makes one";
            return Err(Problem::unauthorized(detail));
        };
        let secret = value.to_str().ok().and_then(token::bearer);
        let secret = secret.ok_or_else(|| Problem::unauthorized("`authorization` is not `Bearer rr_…`"))?;
        self.0.keys.speaker(secret, Utc::now()).map_err(|refused| Problem::unauthorized(refused.to_string()))
    }

    /// One who reads, with these headers.
    ///
    /// # Errors
    /// A [`Problem`] if they have no token, or one that reads nothing.
    pub fn reader(&self, headers: &HeaderMap) -> Result<Reader, Problem> {
        let speaker = self.speaker(headers)?;
        let scope = match speaker.grant.reads() {
            Reads::All => Scope::All,
            Reads::Tenant { tenant, meters } => {
                Scope::Tenant { tenant: tenant.to_owned(), meters: meters.to_vec() }
            }
            Reads::Nothing => {
                let detail =
                    format!("token `{}` ({}) sends events, and reads nothing", speaker.id, speaker.grant);
                return Err(Problem::new(Kind::Forbidden, detail));
            }
        };
        Ok(Reader { usage: self.0.usage.scoped(scope), speaker, gate: self.clone() })
    }

    /// One who changes what is kept, with these headers.
    ///
    /// # Errors
    /// A [`Problem`] if they have no token, or one that changes nothing.
    pub fn manager(&self, headers: &HeaderMap) -> Result<Manager, Problem> {
        let speaker = self.speaker(headers)?;
        match speaker.grant.manages() {
            true => Ok(Manager { gate: self.clone() }),
            false => {
                let detail =
                    format!("token `{}` ({}) changes nothing: an admin's does", speaker.id, speaker.grant);
                Err(Problem::new(Kind::Forbidden, detail))
            }
        }
    }
}

/// One who reads: everything, or one tenant's.
pub struct Reader {
    usage: Scoped,
    speaker: Speaker,
    gate: Gate,
}

/// A reader whose turn it is. What is read, of usage or of the registries, is read by one.
pub struct Reading {
    usage: Scoped,
    gate: Gate,
    _turn: Turn,
}

impl std::ops::Deref for Reading {
    type Target = Scoped;

    fn deref(&self) -> &Scoped {
        &self.usage
    }
}

impl Reader {
    /// Waits for a turn.
    ///
    /// # Errors
    /// A [`Problem`] if none comes in time.
    pub async fn begin(&self) -> Result<Reading, Problem> {
        let inner = &self.gate.0;
        let budget = inner.budgets[usize::from(matches!(self.scope(), Scope::Tenant { .. }))];
        match inner.turns.take(&self.speaker.id, budget).await {
            Ok(turn) => Ok(Reading { usage: self.usage.clone(), gate: self.gate.clone(), _turn: turn }),
            Err(Busy::Token) => {
                let detail =
                    "this token has as many queries in work as it may have, and more wait; ask again";
                Err(Problem::new(Kind::TooManyRequests, detail).again_after(1))
            }
            Err(Busy::Spent(until)) => {
                let seconds = budget.map_or(0, |Budget(budget)| budget.as_secs());
                let detail = format!(
                    "the queries of this token have taken the {seconds} s of a minute that they may take together; ask again \
                     later, for shorter spans or with coarser windows"
                );
                let until = u32::try_from(until.as_secs().saturating_add(1)).unwrap_or(u32::MAX);
                Err(Problem::new(Kind::TooManyRequests, detail).again_after(until))
            }
            Err(Busy::Others) => {
                let detail = "as many queries are in work as may be; ask again";
                Err(Problem::new(Kind::Unavailable, detail).again_after(1))
            }
        }
    }

    /// Whose usage may be seen.
    pub fn scope(&self) -> &Scope {
        self.usage.scope()
    }

    /// Whether it is a portal's, which reads usage and nothing else.
    pub fn is_portal(&self) -> bool {
        matches!(*self.speaker.grant, token::Grant::Portal { .. })
    }

    /// That it is no portal's.
    ///
    /// # Errors
    /// A [`Problem`] that says so.
    pub fn more_than_usage(self) -> Result<Reader, Problem> {
        match self.is_portal() {
            false => Ok(self),
            true => {
                let detail =
                    format!("token `{}` is a portal's: it reads usage, and nothing else", self.speaker.id);
                Err(Problem::new(Kind::Forbidden, detail))
            }
        }
    }

    /// That it reads all tenants.
    ///
    /// # Errors
    /// A [`Problem`] that says so.
    pub fn of_all_tenants(self) -> Result<Reader, Problem> {
        match self.scope() {
            Scope::All => Ok(self),
            Scope::Tenant { .. } => {
                let detail = format!("token `{}` reads one tenant, and this is about all", self.speaker.id);
                Err(Problem::new(Kind::Forbidden, detail))
            }
        }
    }
}

/// One who changes what is kept: an admin.
pub struct Manager {
    gate: Gate,
}

impl Manager {
    /// The store.
    pub fn store(&self) -> &Store {
        &self.gate.0.store
    }

    /// The file of tokens.
    pub fn tokens(&self) -> &Path {
        &self.gate.0.tokens
    }

    /// Lets a change of the tokens be in force here at once. Blocking.
    ///
    /// # Errors
    /// The file's.
    pub fn refresh(&self) -> Result<(), FileError> {
        self.gate.0.keys.refresh().map(drop)
    }
}

impl<S: Sync> FromRequestParts<S> for Reader
where
    Gate: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Gate::from_ref(state).reader(&parts.headers)
    }
}

impl<S: Sync> FromRequestParts<S> for Manager
where
    Gate: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Gate::from_ref(state).manager(&parts.headers)
    }
}

/// Anybody with a token that is good.
pub struct Holder {
    /// Who it is.
    pub speaker: Speaker,
    /// The file of tokens.
    pub tokens: PathBuf,
}

impl<S: Sync> FromRequestParts<S> for Holder
where
    Gate: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let gate = Gate::from_ref(state);
        Ok(Holder { speaker: gate.speaker(&parts.headers)?, tokens: gate.0.tokens.clone() })
    }
}

/// Keeps tokens and gauges up to date until nobody needs them.
async fn keep_up(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(REFRESH).await;
        let Some(inner) = inner.upgrade() else { return };
        let (running, waiting) = inner.turns.now();
        for (state, count) in [("running", running), ("waiting", waiting)] {
            inner.metrics.queries.with_label_values(&[state]).set(count as i64);
        }
        let looked = tokio::task::spawn_blocking(move || match inner.keys.refresh() {
            Ok(true) => tracing::info!("the tokens were read again"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the tokens read before stay in force"),
        });
        // A panic in it would come again with the next look.
        let _ = looked.await;
    }
}
