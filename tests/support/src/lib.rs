//! What the tests of several crates and `rentroll torture` need: real servers, free ports, waiting with a
//! deadline.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub mod cluster;
mod guard;
pub mod http;
pub mod kafka;
pub mod tls;

/// A TCP port of 127.0.0.1 on which nothing listens at this moment, and that this process has not been given
/// before.
///
/// Only for servers that cannot be told to pick one themselves: another process may take it first. It is below
/// the ports that Linux gives to outgoing connections (32768 and up, `ip_local_port_range`): of thousands that
/// a busy test run makes, one had taken the port before its server came up.
///
/// # Errors
/// What the system said of the last port tried.
pub fn free_port() -> std::io::Result<u16> {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run side by side begin far apart.
    let begin = std::process::id().wrapping_mul(7_919);
    let mut tried = 0;
    loop {
        let at = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + at).map_err(std::io::Error::other)?;
        tried += 1;
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) if tried == COUNT => return Err(error),
            Err(_) => {}
        }
    }
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
