//! `rentroll`: the one command that runs any part, or all of them.

use std::process::ExitCode;

/// Batches come and go by tens of megabytes: an allocator that returns each to the system pays for it in page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rentroll::cli::main()
}
