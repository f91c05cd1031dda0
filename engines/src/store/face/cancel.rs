//! Ending a query whose client has gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::store::chdb::Engine;
use crate::store::quote::quote;

/// How often the engine is asked to kill a query that goes on, with doubling pauses from 20 ms: it may not have
/// begun when it is asked first.
const ATTEMPTS: u32 = 10;
/// How soon it is noticed that the query has ended.
const LOOK: Duration = Duration::from_millis(20);

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

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    pub(super) fn set_done(&self) {
        self.done.store(true, Ordering::Release);
    }
}

/// The threads that end queries. One that is still in the library when the process ends crashes it, so that the face waits for them
/// before it has closed.
#[derive(Default)]
pub(super) struct Kills(Mutex<Vec<JoinHandle<()>>>);

impl Kills {
    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, thread: JoinHandle<()>) {
        let mut threads = self.threads();
        threads.push(thread);
        join(threads.extract_if(.., |thread| thread.is_finished()));
    }

    /// Waits until all have ended, but no longer than this: one goes on for as long as its query.
    pub(super) fn wait(&self, most: Duration) {
        let until = Instant::now() + most;
        while self.threads().iter().any(|thread| !thread.is_finished()) && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        join(self.threads().extract_if(.., |thread| thread.is_finished()));
    }
}

/// Waits for threads that have nothing more to do but to end.
fn join(threads: impl Iterator<Item = JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread that ended a query of the store panicked");
        }
    }
}

/// Held for as long as somebody waits for the answer; dropped before that, it ends the query.
pub(super) struct CancelGuard {
    of: Option<(Arc<Engine>, Arc<Kills>)>,
    progress: Arc<Progress>,
    mark: String,
}

impl CancelGuard {
    pub(super) fn new(
        engine: Arc<Engine>,
        kills: Arc<Kills>,
        progress: Arc<Progress>,
        mark: String,
    ) -> CancelGuard {
        CancelGuard { of: Some((engine, kills)), progress, mark }
    }

    /// The answer has been given.
    pub(super) fn disarm(mut self) {
        self.of = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        let Some((engine, kills)) = self.of.take() else { return };
        self.progress.cancelled.store(true, Ordering::Release);
        if self.progress.is_done() {
            return;
        }
        let (progress, mark) = (Arc::clone(&self.progress), std::mem::take(&mut self.mark));
        // A thread: the drop may happen where no runtime is entered, and killing blocks.
        let spawned = std::thread::Builder::new().name("rentroll-kill".to_owned()).spawn(move || {
            let mut pause = LOOK;
            for _ in 0..ATTEMPTS {
                if progress.is_done() {
                    return;
                }
                if let Err(error) = kill(&engine, &mark) {
                    tracing::warn!(%error, "cannot cancel the query of a client that has gone");
                }
                let again = Instant::now() + pause;
                while !progress.is_done() && Instant::now() < again {
                    std::thread::sleep(LOOK);
                }
                pause *= 2;
            }
        });
        match spawned {
            Ok(thread) => kills.add(thread),
            Err(error) => tracing::warn!(%error, "no thread to cancel the query of a client that has gone"),
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
