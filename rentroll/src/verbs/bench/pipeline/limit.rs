//! The limit: rows that are ready, in the engine's own columnar format, into the peer's tables. Nothing is parsed,
//! judged or encoded; the minute rollup is attached.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rentroll_engines::store::{Store, StoreConfig};
use serde::{Deserialize, Serialize};

use super::peer::{self, Rollups};
use super::{Run, part};
use crate::verbs::bench::process::{Clock, Cost, own_rss_peak};

/// Inserts at the same time: the peer has as many consumers.
const WRITERS: usize = 2;
/// Rows of a block, about.
const BLOCK_ROWS: u64 = 200_000;

/// What its process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct LimitSpec {
    folder: PathBuf,
    blocks: PathBuf,
    events: u64,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct LimitAnswer {
    startup: Cost,
    work: Cost,
    rss_peak_bytes: u64,
}

/// Inserts the blocks that a peer has left.
pub(super) fn run(folder: &Path, blocks: &Path, events: u64) -> anyhow::Result<Run> {
    let side = "limit: prepared Native blocks, minute";
    eprintln!("{side}…");
    let spec = LimitSpec { folder: folder.to_owned(), blocks: blocks.to_owned(), events };
    let (answer, taken): (LimitAnswer, _) = part("limit", &spec)?;
    let LimitAnswer { startup, work, rss_peak_bytes } = answer;
    Ok(Run { side, work, startup, rss_peak_bytes, threads: taken.threads })
}

/// The peer writes down its raw rows, in no particular order: sorted ones would be too easy.
pub(super) async fn export(store: &Store, folder: &Path, events: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let blocks = events.div_ceil(BLOCK_ROWS).max(1);
    for block in 0..blocks {
        let sql =
            format!("SELECT * FROM raw WHERE cityHash64(id) % {blocks} = {block} ORDER BY sipHash64(id)");
        let bytes = store.client().query(&sql).fetch_bytes("Native")?.collect().await?;
        let path = folder.join(format!("{block:04}.native"));
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The inserting process.
pub(in crate::verbs::bench) async fn part_main(spec: LimitSpec) -> anyhow::Result<LimitAnswer> {
    let mut blocks = Vec::new();
    for entry in std::fs::read_dir(&spec.blocks)? {
        blocks.push(bytes::Bytes::from(std::fs::read(entry?.path())?));
    }
    let clock = Clock::start();
    let store = Store::open(&StoreConfig::embedded(&spec.folder)).await?;
    peer::make_tables(&store, Rollups::Minute).await?;
    peer::attach(&store, Rollups::Minute).await?;
    let startup = clock.cost();
    let columns: Vec<String> = store
        .client()
        .query("SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'raw' ORDER BY position")
        .fetch_all()
        .await?;
    let columns: Vec<&'static str> = columns.into_iter().map(|name| &*name.leak()).collect();
    let clock = Clock::start();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let mine: Vec<_> = blocks.iter().skip(writer).step_by(WRITERS).cloned().collect();
        let (store, columns) = (store.clone(), columns.clone());
        writers.spawn(async move {
            for block in mine {
                store.insert("raw", &columns, "Native", block, None).await?;
            }
            Ok::<_, rentroll_engines::store::StoreError>(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let work = clock.cost();
    let raw: u64 = store.client().query("SELECT count() FROM raw").fetch_one().await?;
    let rolled: u64 = store.client().query("SELECT sum(events) FROM usage_minute").fetch_one().await?;
    anyhow::ensure!(
        (raw, rolled) == (spec.events, spec.events),
        "{raw} rows and {rolled} events in the rollup after {} prepared ones",
        spec.events
    );
    store.close().await;
    Ok(LimitAnswer { startup, work, rss_peak_bytes: own_rss_peak() })
}
