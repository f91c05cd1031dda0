//! Who serves a data directory.
//!
//! In `<data_dir>/clickhouse/`:
//!
//! | file | |
//! |---|---|
//! | `data/` | the engine's own |
//! | `lock` | locked (`flock`) by the process that has the engine open; the system frees it if that dies |
//! | `credential` | the password, made once, mode 0600 |
//! | `face.json` | address, user, password and process of the face, mode 0600; there while it listens |
//! | `scratch/` | files without a name, for answers that are kept back |
//!
//! The lock decides a race. Whoever loses it reads `face.json` and becomes a client of the winner. Within one
//! process, a second opening shares the first one's engine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use clickhouse::{Client, Compression};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::chdb::{Engine, Library};
use super::face::{Face, FaceConfig, FaceError};
use super::{Inner, Store, StoreConfig, StoreError};

/// How long to wait for a process that holds the lock and does not serve yet, or is closing.
const TAKEOVER_WAIT_MAX: Duration = Duration::from_secs(20);
/// How long to wait for this process to close the other store that it has open.
const CLOSING_WAIT_MAX: Duration = Duration::from_secs(2);
/// The engine begins no part of a table while less than this is free on its disk, and says so (243), which is
/// tried again. It must not meet a disk that is really full: libchdb 26.7 takes no notice of a `write` that fails
/// for want of room, neither in an insert nor in a merge, and leaves a part of empty files. Room for what is being
/// written when others fill the disk; halved, one batch of 200,000 events fits in it only just.
const DISK_KEPT_FREE_BYTES: u64 = 64 << 20;
/// Passwords are this many random bits, in hexadecimal.
const PASSWORD_BYTES: usize = 24;

/// The engine of this process and its face. Closes in the order of its fields.
pub(super) struct Embedded {
    _announcement: Announcement,
    face: Face,
    engine: Arc<Engine>,
    _lock: File,
    user: String,
    password: String,
}

impl Embedded {
    /// For what need not go through the face.
    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

/// `face.json` for as long as the face listens.
struct Announcement {
    path: PathBuf,
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the store's announcement");
        }
    }
}

#[derive(Deserialize, Serialize)]
struct FaceFile {
    url: String,
    user: String,
    password: String,
    pid: u32,
}

/// What this process has open.
static HERE: Mutex<Option<(PathBuf, Weak<Embedded>)>> = Mutex::new(None);

pub(super) async fn open(config: &StoreConfig) -> Result<Store, StoreError> {
    check_database(&config.database)?;
    if let Some(url) = &config.url {
        let password = config.password.clone().unwrap_or_default();
        let store = store(config, url.trim_end_matches('/').to_owned(), config.user.clone(), password, None)?;
        store.ping().await?;
        return Ok(store);
    }
    let begun = Instant::now();
    loop {
        let own = config.clone();
        // Loading the library, opening the engine and waiting for locks all block.
        let found = tokio::task::spawn_blocking(move || take_or_find(&own)).await;
        let found = found.map_err(|error| StoreError::Io {
            what: "opening the embedded store".to_owned(),
            source: io::Error::other(error),
        })??;
        let holder = match found {
            Found::Here(embedded) => {
                let url = format!("http://{}", embedded.face.address());
                let (user, password) = (embedded.user.clone(), embedded.password.clone());
                let store = store(config, url, user, password, Some(embedded))?;
                store.ping().await?;
                return Ok(store);
            }
            Found::There(face) => {
                let store = store(config, face.url, face.user, face.password, None)?;
                match store.ping().await {
                    Ok(()) => return Ok(store),
                    Err(StoreError::Unavailable { .. } | StoreError::Credential { .. }) => {
                        Holder::Process(format!("process {}", face.pid))
                    }
                    Err(error) => return Err(error),
                }
            }
            Found::Held(holder) => holder,
        };
        let path = config.data_dir.clone();
        match holder {
            Holder::Process(owner) if begun.elapsed() >= TAKEOVER_WAIT_MAX => {
                return Err(StoreError::InUse { path, owner });
            }
            Holder::Here(open) if begun.elapsed() >= CLOSING_WAIT_MAX => {
                return Err(StoreError::Occupied { path, open });
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn check_database(name: &str) -> Result<(), StoreError> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if name.is_empty() || !is_plain {
        let reason = format!("`{name}` is not a database name: use letters, digits and underscores");
        return Err(StoreError::Config { key: "store.database", reason });
    }
    if name == "default" {
        let reason =
            "`default` is of another kind in the embedded engine: choose a name of its own".to_owned();
        return Err(StoreError::Config { key: "store.database", reason });
    }
    Ok(())
}

fn store(
    config: &StoreConfig,
    url: String,
    user: String,
    password: String,
    embedded: Option<Arc<Embedded>>,
) -> Result<Store, StoreError> {
    let host = url.strip_prefix("http://").ok_or_else(|| StoreError::Config {
        key: "store.url",
        reason: format!("`{url}` does not begin with http://; for TLS put a local proxy before the server"),
    })?;
    // On loopback, LZ4 costs more time than the bytes that it saves.
    let is_loopback = ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local));
    let client = Client::default()
        .with_url(&url)
        .with_user(&user)
        .with_password(&password)
        .with_database(&config.database)
        .with_compression(if is_loopback { Compression::None } else { Compression::Lz4 });
    let database = config.database.clone();
    Ok(Store { inner: Arc::new(Inner { client, url, user, password, database, embedded }) })
}

enum Found {
    /// Served by this process.
    Here(Arc<Embedded>),
    /// Said to be served by another one.
    There(FaceFile),
    /// Held, for the moment.
    Held(Holder),
}

/// Who keeps us from opening a data directory.
enum Holder {
    /// A process that does not serve it.
    Process(String),
    /// This process, whose engine has another one open: the library holds one path.
    Here(PathBuf),
}

/// Shares what this process has open, or takes the lock and opens it, or finds who has it.
fn take_or_find(config: &StoreConfig) -> Result<Found, StoreError> {
    let folder = config.data_dir.join("clickhouse");
    create_folder(&folder)?;
    let folder = folder.canonicalize().map_err(io_error("resolve", &folder))?;
    let mut here = HERE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, embedded)) = &*here
        && let Some(embedded) = embedded.upgrade()
    {
        if *path == folder {
            return Ok(Found::Here(embedded));
        }
        // Another process may serve it.
        return Ok(match find(&folder) {
            Found::There(face) => Found::There(face),
            _ => Found::Held(Holder::Here(path.clone())),
        });
    }
    let lock_path = folder.join("lock");
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o600);
    let lock = options.open(&lock_path).map_err(io_error("open", &lock_path))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(find(&folder)),
        Err(error) => return Err(io_error("lock", &lock_path)(error.into())),
    }
    let embedded = Arc::new(start(config, &folder, lock)?);
    *here = Some((folder, Arc::downgrade(&embedded)));
    Ok(Found::Here(embedded))
}

fn find(folder: &Path) -> Found {
    let path = folder.join("face.json");
    match fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<FaceFile>(&bytes).ok()) {
        Some(face) => Found::There(face),
        None => Found::Held(Holder::Process("another process".to_owned())),
    }
}

fn start(config: &StoreConfig, folder: &Path, lock: File) -> Result<Embedded, StoreError> {
    let library = Library::load(config.library.as_deref())?;
    let (data, scratch) = (folder.join("data"), folder.join("scratch"));
    create_folder(&data)?;
    create_folder(&scratch)?;
    let password = match &config.password {
        Some(password) => password.clone(),
        None => credential(&folder.join("credential"))?,
    };
    let engine = Engine::open(library, &data, &engine_options(config.memory_bytes_max))?;
    let face =
        FaceConfig { listen: config.listen, user: config.user.clone(), password: password.clone(), scratch };
    let face = Face::start(Arc::clone(&engine), face).map_err(|error| match error {
        FaceError::Listen { address, source } => StoreError::Listen { address, source },
        FaceError::Start(source) => StoreError::Io { what: "start the store's HTTP face".to_owned(), source },
        FaceError::Engine(error) => error.into(),
    })?;
    let file = FaceFile {
        url: format!("http://{}", face.address()),
        user: config.user.clone(),
        password: password.clone(),
        pid: std::process::id(),
    };
    let path = folder.join("face.json");
    // Serialising a struct of texts and a number cannot fail.
    write_secret(&path, &serde_json::to_vec(&file).unwrap_or_default())?;
    Ok(Embedded {
        _announcement: Announcement { path },
        face,
        engine,
        _lock: lock,
        user: config.user.clone(),
        password,
    })
}

/// How far merges and deletions stand back behind questions, which people wait for: where the process may set it
/// (CAP_SYS_NICE), else not at all. No further, as they stand back behind other programs of the machine as well: at 10,
/// beside three busy ones on two cores, the deletions of a repair took most of a minute.
const NICE_OF_MERGES: u8 = 4;

/// Server options of the engine. Its defaults are for a machine of its own: a mark cache of 5 GiB, and nine
/// tenths of the memory.
fn engine_options(memory_bytes_max: u64) -> Vec<String> {
    vec![
        format!("--max_server_memory_usage={memory_bytes_max}"),
        // An eighth: marks of some hundred million rows; what does not fit is read again.
        format!("--mark_cache_size={}", memory_bytes_max / 8),
        format!("--primary_index_cache_size={}", memory_bytes_max / 16),
        format!("--index_mark_cache_size={}", memory_bytes_max / 16),
        format!("--os_threads_nice_value_merge_mutate={NICE_OF_MERGES}"),
        format!("--storage_configuration.disks.default.keep_free_space_bytes={DISK_KEPT_FREE_BYTES}"),
    ]
}

/// The password of the data directory: read, or made.
fn credential(path: &Path) -> Result<String, StoreError> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("read", path)(error)),
    }
    let password = hex::encode(rand::random::<[u8; PASSWORD_BYTES]>());
    write_secret(path, password.as_bytes())?;
    Ok(password)
}

/// Writes a file that only its owner reads, whole or not at all.
fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    let mut file = options.open(&temporary).map_err(io_error("create", &temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error("write", &temporary))?;
    fs::rename(&temporary, path).map_err(io_error("write", path))
}

fn create_folder(path: &Path) -> Result<(), StoreError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("create", path))
}

fn io_error(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let what = format!("cannot {verb} {}", path.display());
    move |source| StoreError::Io { what, source }
}
