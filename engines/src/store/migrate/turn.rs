//! One migration at a time.
//!
//! Steps make tables anew and exchange them; two programs in the midst of the same step would exchange each
//! other's unfinished tables. Whoever has steps to apply takes a turn: turns are numbered, and a turn belongs to
//! whoever's insert of its number the store kept, which its deduplication of inserts decides. The holder notes now
//! and then that it is still there, and in the end that it is done. A turn that nobody has noted anything about
//! for [`LEASE`] is over, and so is one that the server has outlived no statement of.

use std::pin::pin;
use std::time::{Duration, Instant};

use crate::store::{SchemaError, Store, StoreError};

/// A holder that notes nothing for so long is gone.
const LEASE: Duration = Duration::from_secs(20);
/// How often a holder notes that it is there.
const BEAT: Duration = Duration::from_secs(3);
/// How often one who waits looks.
const LOOK: Duration = Duration::from_millis(200);

const TURNS: &str = "CREATE TABLE IF NOT EXISTS schema_turns
(
    turn     UInt32,
    owner    String,
    ended    UInt8,
    noted_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY turn
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1";

/// The last turn: its number, whether it ended, how much was noted, and whether all of it was noted before the
/// server started, whose clock counts whole seconds. No statement outlives its server.
const LAST: &str =
    "SELECT turn, max(ended) = 1, count(), max(noted_at) < now64(3) - toIntervalSecond(uptime() + 2)
FROM schema_turns GROUP BY turn ORDER BY turn DESC LIMIT 1";

/// The right to apply steps.
pub(super) struct Turn<'a> {
    store: &'a Store,
    number: u32,
    owner: String,
}

impl<'a> Turn<'a> {
    /// Waits until nobody else has it.
    pub(super) async fn take(store: &'a Store) -> Result<Turn<'a>, StoreError> {
        store.run(TURNS).await?;
        let owner = hex::encode(rand::random::<[u8; 8]>());
        let mut watched = (0, 0, Instant::now());
        let mut told = false;
        loop {
            let (last, ended, noted, outlived) = last(store).await?;
            if (last, noted) != (watched.0, watched.1) {
                watched = (last, noted, Instant::now());
            }
            if last == 0 || ended || outlived || watched.2.elapsed() >= LEASE {
                let turn = Turn { store, number: last + 1, owner: owner.clone() };
                if turn.claim().await? {
                    return Ok(turn);
                }
                continue;
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!("another process is bringing the store's schema up to date; waiting for it");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Runs a statement of a step.
    ///
    /// # Errors
    /// [`SchemaError::Overtaken`] if this process stood still for so long that another one took over.
    pub(super) async fn run(&self, statement: &str) -> Result<(), StoreError> {
        if last(self.store).await?.0 != self.number {
            return Err(SchemaError::Overtaken.into());
        }
        let mut running = pin!(self.store.run(statement));
        loop {
            match tokio::time::timeout(BEAT, &mut running).await {
                Ok(result) => return result,
                Err(_) => {
                    if let Err(error) = self.note(false, None).await {
                        tracing::warn!(%error, "cannot note that the schema is being brought up to date");
                    }
                }
            }
        }
    }

    /// Lets others have it. They would come to it without, later.
    pub(super) async fn end(self) {
        if let Err(error) = self.note(true, None).await {
            tracing::warn!(%error, "cannot note that the schema is up to date");
        }
    }

    /// Whether this turn is ours: of all inserts with its token the store keeps the first.
    async fn claim(&self) -> Result<bool, StoreError> {
        self.note(false, Some(format!("turn-{}", self.number))).await?;
        let sql =
            format!("SELECT owner FROM schema_turns WHERE turn = {} ORDER BY noted_at LIMIT 1", self.number);
        let client = self.store.client();
        let owner: String = client.query(&sql).fetch_one().await.map_err(|error| self.store.error(error))?;
        Ok(owner == self.owner)
    }

    async fn note(&self, ended: bool, token: Option<String>) -> Result<(), StoreError> {
        let settings = match token {
            Some(token) => format!("insert_deduplicate = 1, insert_deduplication_token = '{token}'"),
            None => "insert_deduplicate = 0".to_owned(),
        };
        let (number, owner, ended) = (self.number, &self.owner, u8::from(ended));
        let sql = format!(
            "INSERT INTO schema_turns (turn, owner, ended) SETTINGS async_insert = 0, {settings} \
             VALUES ({number}, '{owner}', {ended})"
        );
        self.store.run(&sql).await
    }
}

async fn last(store: &Store) -> Result<(u32, bool, u64, bool), StoreError> {
    let found = store.client().query(LAST).fetch_optional().await.map_err(|error| store.error(error))?;
    Ok(found.unwrap_or_default())
}
