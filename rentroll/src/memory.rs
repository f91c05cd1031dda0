//! How much memory a verb holds. The sidecar sits beside every instance of an application, so what it holds counts
//! many times.
//!
//! The allocator suits the aggregator, whose batches come and go by tens of megabytes: it asks for huge pages, and
//! keeps what was freed for a while. Beside an application both are waste: a huge page is 2 MiB in memory for the
//! first byte in it, and what a burst took would stay.
//!
//! How long to keep what is free, the allocator asks each time something is freed, so that `main` can tell it. For
//! huge pages it asks when it reserves address space, which it does before `main`. The kernel can be told instead,
//! which looks when a page is first touched; but by `main` the allocator's own tables have taken two huge pages, a
//! seventh of all that the sidecar holds. So they are off from [`before_main`] on, and [`settle`] turns them on again
//! for all verbs but the sidecar's.

use std::sync::atomic::{AtomicBool, Ordering};

use libmimalloc_sys::{mi_option_set_default, mi_option_t};
use nix::sys::prctl;

/// `mi_option_purge_delay`: for how many milliseconds what is free is kept. The bindings do not name it.
const PURGE_DELAY_MS: mi_option_t = 15;
/// A worker's batches come some seconds apart when it is behind. Given back in between, their pages are made and
/// zeroed each time: a tenth of the aggregator's CPU time, for a few dozen megabytes.
const BETWEEN_BATCHES_MS: std::ffi::c_long = 10_000;
/// The allocator's own switch for huge pages, in the environment: what it says goes over what is decided here, as
/// `MIMALLOC_PURGE_DELAY` does.
const ALLOW_HUGE_PAGES: &str = "MIMALLOC_ALLOW_THP";

/// Threads that serve requests and appends. Each keeps free memory of its own, and a sidecar has no use for one per
/// core of a large machine: four take in more than a partition's worker can store.
pub(crate) const SIDECAR_THREADS_MAX: usize = 4;

/// Whether it was this process that turned huge pages off. Whoever started it may have, and that is not to be undone.
static OFF_BY_US: AtomicBool = AtomicBool::new(false);

/// Turns huge pages off. For the section of functions that run before `main`: it neither allocates nor prints.
pub extern "C" fn before_main() {
    if prctl::get_thp_disable() == Ok(false) && prctl::set_thp_disable(true).is_ok() {
        OFF_BY_US.store(true, Ordering::Relaxed);
    }
}

/// Settles what this process holds. To be called before it makes threads.
pub(crate) fn settle(sidecar: bool) {
    let wanted = std::env::var_os(ALLOW_HUGE_PAGES).map(|value| value == "1");
    if wanted.unwrap_or(!sidecar) && OFF_BY_US.load(Ordering::Relaxed) {
        // The kernel took the same call a moment ago. Without huge pages all works, and takes a little longer.
        let _ = prctl::set_thp_disable(false);
    }
    let delay_ms = if sidecar { 0 } else { BETWEEN_BATCHES_MS };
    // SAFETY: it writes to a table of the allocator's, and no other thread runs yet that could read there.
    unsafe { mi_option_set_default(PURGE_DELAY_MS, delay_ms) };
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[test]
    fn a_sidecar_gives_back_what_is_free_and_has_no_huge_pages() {
        // A number that means another setting in another version of the allocator would show here.
        // SAFETY: the tests that run beside this one leave the allocator's settings alone.
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY_MS) }, 1_000);
        before_main();
        settle(true);
        // SAFETY: as above.
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY_MS) }, 0);
        assert!(prctl::get_thp_disable().unwrap());
        settle(false);
        assert!(!prctl::get_thp_disable().unwrap());
        // SAFETY: as above.
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY_MS) }, BETWEEN_BATCHES_MS);
    }
}
