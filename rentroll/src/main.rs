//! `rentroll`: the one command that runs any part, or all of them.

use std::process::ExitCode;

/// Batches come and go by tens of megabytes: an allocator that returns each to the system pays for it in page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Before `main`, and before the allocator reserves its first memory: see [`rentroll::memory`].
// SAFETY: the C library calls what this section holds, once, while nothing else runs; what has a number goes before
// what has none, as the allocator's own does. It takes no arguments, and may ignore those that it is given.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array.00101")]
static BEFORE_MAIN: extern "C" fn() = rentroll::memory::before_main;

fn main() -> ExitCode {
    rentroll::cli::main()
}
