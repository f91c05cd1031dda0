//! The ClickHouse engine library, from the npm package that carries it, by npm itself.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::pinned::Pinned;

/// The folder is where `rentroll` looks for it, below the cache.
const LIBRARY: Pinned = Pinned {
    what: "the ClickHouse engine library",
    package: "@chdb/lib-linux-x64-gnu@26.7.3-stable.1",
    package_sha512: "5cff7b98caa7739b59a4a432c11f0dedc2d3b073624e61ebdf4a42e66ce8de35\
                     a6ba48ca9f62016bad1cd81fe059435cb858ce3235a8a2b408082a81563e70a7",
    megabytes: (178, 566),
    member: "package/libchdb.so",
    sha256: "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",
    bytes: 566_330_096,
    folder: "chdb-26.7.3-stable.1",
};

/// Whether it is in the cache and known to be whole.
pub(crate) fn is_ready() -> Result<bool> {
    LIBRARY.is_ready()
}

/// The library's path, fetched if need be.
pub(crate) fn ensure() -> Result<PathBuf> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")) {
        bail!(
            "the embedded ClickHouse engine is pinned for x86-64 Linux with glibc only; \
             elsewhere point `store.url` at a ClickHouse server"
        );
    }
    LIBRARY.ensure()
}
