//! `rentroll`: the one command that runs any part, or all of them.

use std::process::ExitCode;

fn main() -> ExitCode {
    rentroll::cli::main()
}
