//! The store: ClickHouse over HTTP, always.
//!
//! [`Store::open`] finds it: the server of `store.url`; or the embedded engine of a data directory, served by
//! this process, or by the process that has it open already. Behind a [`Store`] there is nothing but an address
//! and a credential, so that whoever uses one cannot tell which it is.
//!
//! | module | |
//! |---|---|
//! | [`chdb`] | the embedded engine: a library, loaded at run time |
//! | `face` | the HTTP server before it |
//! | `open` | who serves a data directory: lock, credential, address |
//! | `client` | inserts that are stored once |
//! | `direct` | inserts into the engine of this process |
//! | `migrate` | numbered schema steps with checksums |
//!
//! The limits of the embedded side are those of [`chdb`]: one data directory per process, one process per data
//! directory.

pub mod chdb;
mod client;
mod direct;
mod error;
mod face;
#[cfg(feature = "fuzz")]
pub(crate) use face::fuzz;
mod migrate;
mod open;
mod quote;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

pub use error::{SchemaError, StoreError};
pub use migrate::Migrated;

/// Memory for the embedded engine unless configured: leaves room for the other parts on a machine with 4 GiB.
pub const MEMORY_BYTES_MAX: u64 = 1536 << 20;
/// The user of the embedded face, and the one that servers have.
pub const DEFAULT_USER: &str = "default";
/// The database of all tables unless configured.
pub const DEFAULT_DATABASE: &str = "rentroll";

/// Where the store is.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// A ClickHouse server's HTTP address, `http://host:8123`. `None`: the embedded engine.
    pub url: Option<String>,
    /// The user, of the server or of the embedded face.
    pub user: String,
    /// The server's password. The embedded face has one of its own, kept in the data directory, unless this is
    /// set.
    pub password: Option<String>,
    /// The database that holds all tables.
    pub database: String,
    /// Where the embedded engine keeps its data, below `clickhouse/`.
    pub data_dir: PathBuf,
    /// Where the embedded face listens. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// The ClickHouse library, if it is not in one of the usual places.
    pub library: Option<PathBuf>,
    /// Memory that the embedded engine may take.
    pub memory_bytes_max: u64,
}

impl StoreConfig {
    /// The embedded engine of `data_dir` on a free loopback port, with all defaults.
    pub fn embedded(data_dir: impl Into<PathBuf>) -> StoreConfig {
        StoreConfig {
            url: None,
            user: DEFAULT_USER.to_owned(),
            password: None,
            database: DEFAULT_DATABASE.to_owned(),
            data_dir: data_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            library: None,
            memory_bytes_max: MEMORY_BYTES_MAX,
        }
    }
}

/// A store that answers. Cheap to clone; an embedded engine closes with the last clone in its process.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    client: clickhouse::Client,
    url: String,
    user: String,
    password: String,
    database: String,
    /// Keeps the engine of this process open.
    embedded: Option<Arc<open::Embedded>>,
}

impl Store {
    /// Finds or starts the store, and makes sure that it answers. The tables are another matter:
    /// [`Store::migrate`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if a server does not answer (try again); the other variants name what must be
    /// mended first.
    pub async fn open(config: &StoreConfig) -> Result<Store, StoreError> {
        open::open(config).await
    }

    /// The client: address, database and credential are set.
    pub fn client(&self) -> &clickhouse::Client {
        &self.inner.client
    }

    /// The same store, where all that is asked by [`Store::client`] has these settings.
    #[must_use]
    pub fn with_settings(&self, settings: &[(&str, String)]) -> Store {
        let Inner { client, url, user, password, database, embedded } = &*self.inner;
        let client =
            settings.iter().fold(client.clone(), |client, (name, value)| client.with_setting(*name, value));
        let inner = Inner {
            client,
            url: url.clone(),
            user: user.clone(),
            password: password.clone(),
            database: database.clone(),
            embedded: embedded.clone(),
        };
        Store { inner: Arc::new(inner) }
    }

    /// The address, for other programs.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// The user, for other programs.
    pub fn user(&self) -> &str {
        &self.inner.user
    }

    /// The password, for other programs.
    pub fn password(&self) -> &str {
        &self.inner.password
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.inner.database
    }

    /// Whether the engine runs in this process.
    pub fn is_embedded_here(&self) -> bool {
        self.inner.embedded.is_some()
    }

    /// Closes this handle; if it is the last one of an engine in this process, waits until that has closed.
    /// Dropping does the same, but blocks the thread.
    pub async fn close(self) {
        // The runtime going down is the only way to fail, and then the drop has been done.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }

    /// Sorts an error of [`Store::client`].
    pub fn error(&self, error: clickhouse::error::Error) -> StoreError {
        StoreError::from_clickhouse(error, &self.inner.url, &self.inner.user)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("url", &self.inner.url)
            .field("user", &self.inner.user)
            .field("database", &self.inner.database)
            .field("is_embedded_here", &self.is_embedded_here())
            .finish_non_exhaustive()
    }
}
