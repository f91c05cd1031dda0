//! The embedded store alone, for clients from outside: prints its address and credential as one line of JSON,
//! and serves until its standard input is closed.
//!
//! `cargo run --example face [DATA_DIR]`; without a directory the data is thrown away at the end.

use std::io::{Read as _, Write as _};

use rentroll_engines::store::{Store, StoreConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let data_dir = std::env::args_os().nth(1).map_or_else(|| scratch.path().to_owned(), Into::into);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = runtime.block_on(async {
        let store = Store::open(&StoreConfig::embedded(data_dir)).await?;
        store.migrate(&[]).await?;
        Ok::<_, rentroll_engines::store::StoreError>(store)
    })?;
    let line = serde_json::json!({
        "url": store.url(), "user": store.user(), "password": store.password(), "database": store.database(),
    });
    println!("{line}");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    runtime.block_on(store.close());
    Ok(())
}
