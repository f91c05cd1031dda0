//! Events over HTTP: CloudEvents 1.0 in all its modes, and what looks like them.
//!
//! - [`config`]: where to listen, and the limits;
//! - [`auth`], [`tls`]: who speaks;
//! - `listener`: connections, and cutting those that are slow or idle;
//! - [`door`]: requests that another server of this process received;
//! - `handler`: one request, from its head to its answer;
//! - [`media`], [`body`], [`split`], [`binary`]: from bytes to events, within the limits;
//! - [`judge`]: a verdict on each event, pure;
//! - [`answer`]: what the client is told.
//!
//! # What a 2xx means
//! All events of the request are durable: in the event log or in the spool, see [`crate::spool`]. With any other
//! answer some of them may be, and to send them again is harmless: an event's identity makes it the same event.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::Utc;
use prometheus::IntCounterVec;
use rentroll_engines::health::{Health, Part};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::outgoing::Packer;
use crate::spool::intake::Intake;

pub mod answer;
pub mod auth;
pub mod binary;
pub mod body;
pub mod config;
pub mod door;
mod handler;
pub mod judge;
mod listener;
pub mod media;
pub mod metrics;
pub mod split;
pub mod tls;

use config::HttpConfig;
use door::IngestDoor;

/// How often tokens and certificates are looked at: a revoked token is out within this.
const REFRESH: Duration = Duration::from_millis(500);
/// A refusal for want of space makes the part unready for this long: with no traffic nothing else would say that
/// it is over.
const UNREADY: Duration = Duration::from_secs(10);
/// How long requests in work may take to end when the process is asked to.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Why events cannot be received.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address.
    #[error("cannot listen on {address} (collector.http.listen): {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The tokens.
    #[error(transparent)]
    Auth(#[from] auth::FileError),
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
}

/// What ingest is given.
pub struct Setup {
    /// The section of the configuration; its paths lead from the working directory.
    pub config: HttpConfig,
    /// The file of tokens.
    pub tokens: PathBuf,
    /// Names of sources that are configured here: no tenant's token may use them.
    pub sources: Vec<String>,
    /// Where events go.
    pub intake: Intake,
    /// Who takes which lane.
    pub packer: Packer,
    /// What it counts.
    pub metrics: metrics::HttpMetrics,
    /// Events by source and verdict.
    pub records: IntCounterVec,
    /// Where it tells how it is.
    pub health: Health,
}

/// What all requests have in common.
struct Shared {
    config: HttpConfig,
    keys: auth::Keys,
    tls: Option<tls::Tls>,
    intake: Intake,
    packer: Packer,
    memory: Arc<body::Memory>,
    requests: Semaphore,
    /// Places for requests that come by a door.
    doors: Semaphore,
    metrics: metrics::HttpMetrics,
    records: IntCounterVec,
    part: Part,
    /// When events were turned away last; 0 if some were taken since.
    failed_at_ms: AtomicI64,
}

/// A listener that takes events.
pub struct Ingest {
    shared: Arc<Shared>,
    address: SocketAddr,
    has_tls: bool,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    refreshing: JoinHandle<()>,
}

impl Ingest {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn start(setup: Setup) -> Result<Self, HttpError> {
        let Setup { config, tokens, mut sources, intake, packer, metrics, records, health } = setup;
        let wanted = config.listen.unwrap_or(config::LISTEN);
        let failed = |error| HttpError::Listen { address: wanted, error };
        sources.extend(config.reserved().cloned());
        let keys = auth::Keys::open(tokens, sources)?;
        let tls = config.tls.clone().map(tls::Tls::open).transpose()?;
        let has_tls = tls.is_some();
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let part = health.part("collector/http");
        part.idle();
        let shared = Arc::new(Shared {
            memory: body::Memory::new(config.bytes_in_flight_max),
            requests: Semaphore::new(config.requests_max),
            doors: Semaphore::new(config.connections_max),
            config,
            keys,
            tls,
            intake,
            packer,
            metrics,
            records,
            part,
            failed_at_ms: AtomicI64::new(0),
        });
        let (stop, stopped) = watch::channel(false);
        let refreshing = tokio::spawn(refresh(shared.clone()));
        let accepting = tokio::spawn(listener::accept(listener, shared.clone(), stopped));
        Ok(Ingest { shared, address, has_tls, stop, accepting, refreshing })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for clients.
    pub fn url(&self) -> String {
        format!("{}://{}/v1/events", if self.has_tls { "https" } else { "http" }, self.address)
    }

    /// The way in for requests that another server of this process receives.
    pub fn door(&self) -> IngestDoor {
        IngestDoor::of(&self.shared)
    }

    /// Whether it ended by itself, which it does not but by a fault.
    pub fn has_ended(&self) -> bool {
        self.accepting.is_finished()
    }

    /// Takes no more, answers what is in work, and ends.
    pub async fn stop(self) {
        let Ingest { shared, stop, mut accepting, refreshing, .. } = self;
        let _ = stop.send(true);
        // All places are free when the last request has left its door; who waits for all of them goes before newcomers.
        let places = u32::try_from(shared.config.connections_max).unwrap_or(u32::MAX);
        let ended = async {
            let (_, _all) = tokio::join!(&mut accepting, shared.doors.acquire_many(places));
            shared.doors.close();
        };
        if tokio::time::timeout(STOP_WAIT, ended).await.is_err() {
            accepting.abort();
            shared.doors.close();
        }
        refreshing.abort();
        // Both hold the log, until they are gone.
        let _ = refreshing.await;
    }
}

/// Keeps tokens, certificates and the state of health up to date.
async fn refresh(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(REFRESH).await;
        let of_thread = shared.clone();
        let looked = tokio::task::spawn_blocking(move || {
            match of_thread.keys.refresh() {
                Ok(true) => tracing::info!("the tokens were read again"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the tokens read before stay in force"),
            }
            match of_thread.tls.as_ref().map(tls::Tls::refresh) {
                Some(Ok(true)) => tracing::info!("the certificates were read again"),
                Some(Err(error)) => tracing::error!(%error, "the certificates read before stay in force"),
                Some(Ok(false)) | None => {}
            }
        });
        // A panic in it would come again with the next look.
        let _ = looked.await;
        let failed_at = shared.failed_at_ms.load(Ordering::Relaxed);
        let over = Utc::now().timestamp_millis() - failed_at > UNREADY.as_millis() as i64;
        if failed_at != 0 && over && shared.failed_at_ms.swap(0, Ordering::Relaxed) != 0 {
            shared.part.idle();
        }
    }
}
