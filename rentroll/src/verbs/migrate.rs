//! `rentroll migrate`: bring the store's schema up to this binary's.

use rentroll_engines::store::Store;
use rentroll_schemas::migrations::MIGRATIONS;

use crate::cli::Exit;
use crate::context::{self, Context};

/// Runs it.
///
/// # Errors
/// A store that is away, newer than this binary, or edited.
pub async fn run(context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let store = Store::open(&context::store_config(&config)).await?;
    let before = store.schema_version().await?;
    store.migrate(MIGRATIONS).await?;
    let after = store.schema_version().await?;
    store.check_settings().await?;
    match before == after {
        true => eprintln!("{}: schema {after} already", store.url()),
        false => eprintln!("{}: schema {before} → {after}", store.url()),
    }
    store.close().await;
    Ok(Exit::Done)
}
