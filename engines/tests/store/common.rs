//! One engine for all tests of this process.

use std::path::PathBuf;
use std::sync::OnceLock;

use rentroll_engines::store::{Store, StoreConfig};

/// The data directory of this process' engine: emptied at first use.
pub fn data_dir() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("store");
        if let Err(error) = std::fs::remove_dir_all(&path) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
        path
    })
    .clone()
}

pub fn config(database: &str) -> StoreConfig {
    StoreConfig { database: format!("test_{database}"), ..StoreConfig::embedded(data_dir()) }
}

/// The shared engine, with an empty database of that name.
pub async fn store(database: &str) -> Store {
    // Keeps the engine open between tests.
    static FIRST: tokio::sync::OnceCell<Store> = tokio::sync::OnceCell::const_new();
    FIRST.get_or_init(|| async { Store::open(&config("first")).await.unwrap() }).await;
    let store = Store::open(&config(database)).await.unwrap();
    assert!(store.is_embedded_here());
    store.migrate(&[]).await.unwrap();
    store
}
