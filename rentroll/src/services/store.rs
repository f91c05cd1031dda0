//! The store at the start. One that is away is waited for, as it is later on: a part that ended instead would be
//! started again and again by whatever watches over it, and its port would tell nobody why.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rentroll_engines::health::Health;
use rentroll_engines::store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::http;
use crate::config::Config;
use crate::context;

/// Between two attempts.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How long requests that are being answered may take when the waiting is over.
const ANSWERS_WAIT: Duration = Duration::from_secs(2);

/// Opens the store and brings its schema up to date. While it is away, `listener`'s address says that it is waited for.
///
/// # Errors
/// Whatever waiting does not mend: a credential, a schema, a configuration.
pub async fn when_there(config: &Config, listener: &TcpListener, health: &Health) -> anyhow::Result<Store> {
    let mut error = match context::migrated_store(config).await {
        Err(error) if is_away(&error) => error,
        result => return result,
    };
    let part = health.part("store");
    let waiting = Waiting::start(listener, health)?;
    loop {
        tracing::warn!(%error, "the store is away; trying again in {} s", AGAIN_AFTER.as_secs());
        part.failing(format!("waiting for the store: {error}"));
        tokio::time::sleep(AGAIN_AFTER).await;
        error = match context::migrated_store(config).await {
            Err(error) if is_away(&error) => error,
            result => {
                waiting.stop().await;
                return result;
            }
        };
    }
}

fn is_away(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(StoreError::is_retryable)
}

/// Health and metrics of a process that has not begun yet.
struct Waiting {
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    stop: Arc<Notify>,
}

impl Waiting {
    fn start(listener: &TcpListener, health: &Health) -> anyhow::Result<Self> {
        let again = second(listener).context("cannot listen while the store is away")?;
        let stop = Arc::new(Notify::new());
        // What the parts count comes with them.
        let registry = prometheus::Registry::new();
        let server = tokio::spawn(http::serve(again, registry, health.clone(), None, None, stop.clone()));
        Ok(Waiting { server, stop })
    }

    async fn stop(mut self) {
        self.stop.notify_one();
        if tokio::time::timeout(ANSWERS_WAIT, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

/// Another listener at the same socket. Not bound anew: nobody can take the port in between.
fn second(listener: &TcpListener) -> std::io::Result<TcpListener> {
    use std::os::fd::AsFd as _;
    let socket = std::net::TcpListener::from(listener.as_fd().try_clone_to_owned()?);
    TcpListener::from_std(socket)
}
