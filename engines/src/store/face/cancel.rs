//! Ending a query whose client has gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::store::chdb::Engine;
use crate::store::quote::quote;

/// How often the engine is asked to kill a query that goes on, with doubling pauses from 20 ms: it may not have
/// begun when it is asked first.
const ATTEMPTS: u32 = 10;

/// What the thread of a query and the connection of its client both know.
#[derive(Default)]
pub(super) struct Progress {
    /// The client has gone.
    cancelled: AtomicBool,
    /// The query has ended.
    done: AtomicBool,
}

impl Progress {
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(super) fn set_done(&self) {
        self.done.store(true, Ordering::Release);
    }
}

/// Held for as long as somebody waits for the answer; dropped before that, it ends the query.
pub(super) struct CancelGuard {
    engine: Option<Arc<Engine>>,
    progress: Arc<Progress>,
    mark: String,
}

impl CancelGuard {
    pub(super) fn new(engine: Arc<Engine>, progress: Arc<Progress>, mark: String) -> CancelGuard {
        CancelGuard { engine: Some(engine), progress, mark }
    }

    /// The answer has been given.
    pub(super) fn disarm(mut self) {
        self.engine = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        let Some(engine) = self.engine.take() else { return };
        self.progress.cancelled.store(true, Ordering::Release);
        if self.progress.done.load(Ordering::Acquire) {
            return;
        }
        let (progress, mark) = (Arc::clone(&self.progress), std::mem::take(&mut self.mark));
        // A thread: the drop may happen where no runtime is entered, and killing blocks.
        let spawned = std::thread::Builder::new().name("rentroll-kill".to_owned()).spawn(move || {
            let mut pause = Duration::from_millis(20);
            for _ in 0..ATTEMPTS {
                if progress.done.load(Ordering::Acquire) {
                    return;
                }
                if let Err(error) = kill(&engine, &mark) {
                    tracing::warn!(%error, "cannot cancel the query of a client that has gone");
                }
                std::thread::sleep(pause);
                pause *= 2;
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread to cancel the query of a client that has gone");
        }
    }
}

/// Asks the engine to end the query with that mark. ASYNC, because waiting for it hangs in the embedded engine.
fn kill(engine: &Arc<Engine>, mark: &str) -> Result<(), crate::store::chdb::EngineError> {
    let sql = format!(
        "KILL QUERY WHERE endsWith(Settings['log_comment'], {}) AND query NOT LIKE 'KILL %' ASYNC",
        quote(mark, '\'')
    );
    engine.connect()?.query(sql.as_bytes(), "Null", &[]).map(drop)
}
