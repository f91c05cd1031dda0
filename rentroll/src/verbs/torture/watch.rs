//! How long nothing was stored.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often it is looked. Bounds how exact a silence is.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// An engine that does not answer in this time stores nothing either.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Looks at the number of stored events, past all wires.
#[derive(Clone, Debug)]
pub(super) struct Watch(Arc<Mutex<Seen>>);

#[derive(Debug)]
struct Seen {
    events: u64,
    grew_at: Instant,
    longest: Duration,
}

impl Watch {
    /// Begins to look.
    pub(super) fn begin(client: clickhouse::Client) -> Self {
        let seen = Seen { events: 0, grew_at: Instant::now(), longest: Duration::ZERO };
        let watch = Watch(Arc::new(Mutex::new(seen)));
        let looking = watch.clone();
        tokio::spawn(async move {
            loop {
                let asked = client.query("SELECT count() FROM events").fetch_one::<u64>();
                if let Ok(Ok(events)) = tokio::time::timeout(ANSWER_WAIT, asked).await {
                    looking.lock().look(events);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        watch
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stored events, when last seen.
    pub(super) fn events(&self) -> u64 {
        self.lock().events
    }

    /// Whether something was stored after `since`.
    pub(super) fn has_grown_since(&self, since: Instant) -> bool {
        self.lock().grew_at > since
    }

    /// The longest time without growth since the last call, the one that goes on included.
    pub(super) fn take_longest(&self) -> Duration {
        let mut seen = self.lock();
        let longest = seen.longest.max(seen.grew_at.elapsed());
        seen.longest = Duration::ZERO;
        longest
    }

    /// Nothing is being sent, or was until now: the silence is not the system's.
    pub(super) fn excuse(&self) {
        let mut seen = self.lock();
        seen.grew_at = Instant::now();
        seen.longest = Duration::ZERO;
    }
}

impl Seen {
    fn look(&mut self, events: u64) {
        if events > self.events {
            self.longest = self.longest.max(self.grew_at.elapsed());
            self.grew_at = Instant::now();
        }
        self.events = events;
    }
}
