//! Ending the process while an engine is open.
//!
//! The library's threads go on while the destructors of its globals run, and crash: a program that has done its
//! work would end with a signal. Whoever can closes the engine first. For those who cannot (a handle in a static,
//! `std::process::exit` in the middle), the process ends before those destructors. Nothing is lost by that: what
//! was confirmed is on disk, and Rust's own buffers are flushed before.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

static OPEN: AtomicUsize = AtomicUsize::new(0);

pub(super) fn engine_opened() {
    OPEN.fetch_add(1, Ordering::SeqCst);
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(register);
}

pub(super) fn engine_closed() {
    OPEN.fetch_sub(1, Ordering::SeqCst);
}

/// Handlers run in the reverse order of their registration: this one, registered after the library was loaded,
/// before the library's.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn register() {
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        fn on_exit(handler: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
        fn _exit(status: c_int) -> !;
    }

    extern "C" fn leave(status: c_int, _: *mut c_void) {
        if OPEN.load(Ordering::SeqCst) > 0 {
            // SAFETY: ends the process at once; has no precondition.
            unsafe { _exit(status) };
        }
    }

    // SAFETY: the handler is a function of this program, which stays mapped until the process ends.
    if unsafe { on_exit(leave, std::ptr::null_mut()) } != 0 {
        tracing::debug!("cannot register the engine's exit handler");
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn register() {}
