//! What the tests of several crates and `rentroll torture` need: real servers, free ports, waiting with a
//! deadline.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub mod cluster;
mod guard;
pub mod http;
pub mod kafka;
pub mod tls;

/// A TCP port of 127.0.0.1 on which nothing listens at this moment.
///
/// Only for servers that cannot be told to pick one themselves: another process may take it first.
///
/// # Errors
/// What the system said.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Asks again and again until `found` gives something or `wait` is over.
pub fn wait_until<T>(wait: Duration, mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + wait;
    loop {
        if let Some(value) = found() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where `cargo xtask` keeps what it has downloaded and built: `$XDG_CACHE_HOME/rentroll`, else
/// `~/.cache/rentroll`.
pub fn cache_folder() -> PathBuf {
    let not_empty = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = not_empty("XDG_CACHE_HOME").or_else(|| not_empty("HOME").map(|home| home.join(".cache")));
    cache.unwrap_or_default().join("rentroll")
}
