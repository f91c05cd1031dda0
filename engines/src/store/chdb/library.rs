//! Finding and loading `libchdb.so`.

use std::ffi::{c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::EngineError;

/// The library's version, as its package names it. Its C interface is not stable between versions.
pub const LIBRARY_VERSION: &str = "chdb-26.7.3-stable.1";
/// Names the library's file, before the cache is looked at.
const LIBRARY_VARIABLE: &str = "RENTROLL_CHDB_LIBRARY";
const LIBRARY_FILE: &str = "libchdb.so";

/// `chdb_connection *`: the library hands out a pointer to its handle.
pub(super) type RawConnection = *mut *mut c_void;
pub(super) type RawResult = *mut c_void;
pub(super) type RawInsert = *mut c_void;

type QueryWithParams = unsafe extern "C" fn(
    *mut c_void,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> RawResult;

/// The functions of the C interface that are used here, resolved once.
pub(crate) struct Library {
    pub(super) connect: unsafe extern "C" fn(c_int, *mut *mut c_char) -> RawConnection,
    pub(super) close: unsafe extern "C" fn(RawConnection),
    pub(super) query: QueryWithParams,
    pub(super) stream_query: QueryWithParams,
    pub(super) stream_fetch: unsafe extern "C" fn(*mut c_void, RawResult) -> RawResult,
    pub(super) stream_cancel: unsafe extern "C" fn(*mut c_void, RawResult),
    pub(super) insert: QueryWithParams,
    pub(super) insert_append: unsafe extern "C" fn(RawInsert, *const c_void, usize) -> c_int,
    pub(super) insert_done: unsafe extern "C" fn(RawInsert) -> RawResult,
    pub(super) insert_cancel: unsafe extern "C" fn(RawInsert),
    pub(super) insert_error: unsafe extern "C" fn(RawInsert) -> *const c_char,
    pub(super) insert_destroy: unsafe extern "C" fn(RawInsert),
    pub(super) result_buffer: unsafe extern "C" fn(RawResult) -> *const u8,
    pub(super) result_length: unsafe extern "C" fn(RawResult) -> usize,
    pub(super) result_rows: unsafe extern "C" fn(RawResult) -> u64,
    pub(super) result_rows_read: unsafe extern "C" fn(RawResult) -> u64,
    pub(super) result_bytes_read: unsafe extern "C" fn(RawResult) -> u64,
    pub(super) result_rows_written: unsafe extern "C" fn(RawResult) -> u64,
    pub(super) result_bytes_written: unsafe extern "C" fn(RawResult) -> u64,
    pub(super) result_error: unsafe extern "C" fn(RawResult) -> *const c_char,
    pub(super) result_destroy: unsafe extern "C" fn(RawResult),
}

/// Where the library is looked for, in this order: `configured`, `RENTROLL_CHDB_LIBRARY`, the cache in which
/// `cargo xtask install` puts it, next to the executable. A place that is named explicitly is the only one.
pub fn library_candidates(configured: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = configured {
        return vec![path.to_owned()];
    }
    if let Some(path) = std::env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty()) {
        return vec![PathBuf::from(path)];
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let cached = cache.map(|cache| cache.join("rentroll").join(LIBRARY_VERSION).join(LIBRARY_FILE));
    let beside =
        std::env::current_exe().ok().and_then(|executable| Some(executable.parent()?.join(LIBRARY_FILE)));
    cached.into_iter().chain(beside).collect()
}

impl Library {
    /// Loads the library, or returns the one that this process has loaded: a second copy would bring a second
    /// allocator and a second set of global threads.
    pub(crate) fn load(configured: Option<&Path>) -> Result<&'static Library, EngineError> {
        static LOADED: Mutex<Option<&'static Library>> = Mutex::new(None);
        let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(library) = *loaded {
            return Ok(library);
        }
        let mut looked_at = Vec::new();
        for path in library_candidates(configured) {
            if !path.is_file() {
                looked_at.push(format!("{} (no such file)", path.display()));
                continue;
            }
            match Self::load_from(&path) {
                Ok(library) => return Ok(loaded.insert(Box::leak(Box::new(library)))),
                Err(error) => {
                    // The loader's own words are in the cause.
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    looked_at.push(format!(
                        "{} ({})",
                        path.display(),
                        cause.unwrap_or_else(|| error.to_string())
                    ));
                }
            }
        }
        Err(EngineError::LibraryMissing { looked_at })
    }

    fn load_from(path: &Path) -> Result<Library, libloading::Error> {
        // SAFETY: the library's initialisers start no threads and touch nothing of ours; it was measured with
        // this version, whose package is pinned by checksum where it is installed.
        let library = unsafe { libloading::Library::new(path)? };
        // The library's threads run until the process ends: its code must stay mapped.
        let library: &'static libloading::Library = Box::leak(Box::new(library));
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the type is the one of the header of this version.
                *unsafe { library.get(concat!($name, "\0").as_bytes())? }
            };
        }
        let set_signal_handlers_enabled: unsafe extern "C" fn(c_int) =
            symbol!("chdb_set_signal_handlers_enabled");
        let library = Library {
            connect: symbol!("chdb_connect"),
            close: symbol!("chdb_close_conn"),
            query: symbol!("chdb_query_with_params_n"),
            stream_query: symbol!("chdb_stream_query_with_params_n"),
            stream_fetch: symbol!("chdb_stream_fetch_result"),
            stream_cancel: symbol!("chdb_stream_cancel_query"),
            insert: symbol!("chdb_stream_insert_with_params_n"),
            insert_append: symbol!("chdb_stream_append"),
            insert_done: symbol!("chdb_stream_done"),
            insert_cancel: symbol!("chdb_stream_cancel_insert"),
            insert_error: symbol!("chdb_stream_insert_error"),
            insert_destroy: symbol!("chdb_destroy_insert_stream"),
            result_buffer: symbol!("chdb_result_buffer"),
            result_length: symbol!("chdb_result_length"),
            result_rows: symbol!("chdb_result_rows_read"),
            result_rows_read: symbol!("chdb_result_storage_rows_read"),
            result_bytes_read: symbol!("chdb_result_storage_bytes_read"),
            result_rows_written: symbol!("chdb_result_rows_written"),
            result_bytes_written: symbol!("chdb_result_bytes_written"),
            result_error: symbol!("chdb_result_error"),
            result_destroy: symbol!("chdb_destroy_query_result"),
        };
        // SIGINT and SIGTERM belong to this program; must come before the first connection.
        // SAFETY: takes a flag, has no other precondition.
        unsafe { set_signal_handlers_enabled(0) };
        Ok(library)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_place_is_the_only_one() {
        let path = Path::new("/nowhere/libchdb.so");
        assert_eq!(library_candidates(Some(path)), vec![path.to_owned()]);
    }
}
