//! The schema, applied to the real engine.

use rentroll_engines::store::{SchemaError, StoreError};
use rentroll_schemas::migrations::{MIGRATIONS, Migration};

use crate::common::store;

#[tokio::test]
async fn the_schema_is_applied_once() {
    let store = store("schema").await;
    let first = store.migrate(MIGRATIONS).await.unwrap();
    assert_eq!((first.from, first.to as usize, first.applied.len()), (0, MIGRATIONS.len(), MIGRATIONS.len()));
    let second = store.migrate(MIGRATIONS).await.unwrap();
    assert_eq!((second.from, second.applied.len()), (first.to, 0));
    assert_eq!(store.check_schema(MIGRATIONS).await.unwrap(), first.to);
    store.check_settings().await.unwrap();
}
