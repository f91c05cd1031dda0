//! A log that may be away when the process starts: opened behind the back of those who use it.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rentroll_schemas::topics::Topic;

use super::{BoxFuture, EventLog, Lag, LogError, Record, Result, SharedLog, Subscription};

/// How long to wait before trying to open it again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// [`LogError::Unavailable`] until it could be opened, then the log itself.
pub struct LateLog {
    partitions: u32,
    log: OnceLock<SharedLog>,
    why_not: Mutex<String>,
}

impl LateLog {
    /// Opens a log by `open`, for at most `patience`; if that is not enough the log is returned as it is, away, and
    /// opened later. Blocking.
    ///
    /// # Errors
    /// What somebody has to mend (a setting, missing topics), if it is known within `patience`. Later such an
    /// error is logged, and tried again.
    pub fn open(
        partitions: u32,
        patience: Duration,
        open: impl Fn() -> Result<SharedLog> + Send + 'static,
    ) -> Result<SharedLog> {
        let late = Arc::new(LateLog {
            partitions,
            log: OnceLock::new(),
            why_not: Mutex::new("it is not open yet".to_owned()),
        });
        let (first, outcome) = sync_channel(1);
        let opened = Arc::downgrade(&late);
        std::thread::Builder::new()
            .name("log-opener".to_owned())
            .spawn(move || keep_trying(&opened, open, |error| first.try_send(error).is_ok()))
            .map_err(|source| LogError::Io {
                what: "cannot start a thread to open the log".into(),
                source,
            })?;
        match outcome.recv_timeout(patience) {
            Ok(Some(error)) if error.needs_mending() => Err(error),
            Ok(_) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => match late.log.get() {
                Some(log) => Ok(log.clone()),
                None => Ok(late),
            },
        }
    }

    fn get(&self) -> Result<&SharedLog> {
        self.log.get().ok_or_else(|| {
            LogError::Unavailable(self.why_not.lock().unwrap_or_else(PoisonError::into_inner).clone())
        })
    }
}

/// Until it is open, or nobody wants it any more. `tell` is told how the first try ended.
fn keep_trying(
    late: &Weak<LateLog>,
    open: impl Fn() -> Result<SharedLog>,
    tell: impl Fn(Option<LogError>) -> bool,
) {
    while late.strong_count() > 0 {
        let opened = open();
        let Some(late) = late.upgrade() else { return };
        match opened {
            Ok(log) => {
                let _ = late.log.set(log);
                tell(None);
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "the event log cannot be opened yet");
                *late.why_not.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
                tell(Some(error));
            }
        }
        drop(late);
        std::thread::sleep(TRY_AGAIN);
    }
}

impl EventLog for LateLog {
    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn append(&self, topic: Topic, records: Vec<Record>) -> BoxFuture<'_, Result<()>> {
        match self.get() {
            Ok(log) => log.append(topic, records),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn subscribe(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Subscription>> {
        self.get()?.subscribe(group, topics)
    }

    fn lag(&self, group: &str, topic: Topic) -> Result<Vec<Lag>> {
        self.get()?.lag(group, topic)
    }

    fn arrivals(&self, group: &str, topic: Topic, places: &[(u32, u64)]) -> Result<Vec<Option<i64>>> {
        self.get()?.arrivals(group, topic, places)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::log::embedded::{EmbeddedConfig, EmbeddedLog};

    fn append(log: &SharedLog) -> Result<()> {
        let record = Record {
            key: rentroll_schemas::Identity::of("t", "s", "1"),
            headers: crate::log::Headers::default(),
            value: bytes::Bytes::from_static(b"{}"),
            arrived_at_ms: 1,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(log.append(Topic::Usage, vec![record]))
    }

    #[test]
    fn is_away_until_it_can_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let tries = AtomicU32::new(0);
        let log = LateLog::open(4, Duration::from_secs(5), move || {
            if tries.fetch_add(1, Ordering::Relaxed) == 0 {
                return Err(LogError::Unavailable("nobody answers".into()));
            }
            Ok(Arc::new(EmbeddedLog::open(EmbeddedConfig::new(&path))?))
        })
        .unwrap();
        let error = append(&log).unwrap_err();
        assert!(error.to_string().contains("nobody answers"), "{error}");
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while append(&log).is_err() {
            assert!(std::time::Instant::now() < deadline, "never opened");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn what_must_be_mended_is_told_at_once() {
        let wrong = || Err(LogError::Topics("topic usage is missing".into()));
        let error = LateLog::open(4, Duration::from_secs(5), wrong).err().unwrap();
        assert!(error.needs_mending(), "{error}");
    }
}
