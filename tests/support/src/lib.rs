//! What the tests of several crates and `rentroll torture` need: real servers, free ports, waiting with a
//! deadline.

use std::net::TcpListener;
use std::time::{Duration, Instant};

pub mod cluster;
mod guard;
pub mod kafka;

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
