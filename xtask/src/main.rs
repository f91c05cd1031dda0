//! Chores of the repository: `cargo xtask install`, `cargo xtask demo`, `cargo xtask test`,
//! `cargo xtask bench`.
//!
//! Runs on a Debian machine that has only git, a C linker and Rust; so nothing is linked here that needs more.
//! What is missing is installed, what is there is left alone: a second run needs no network. Nothing of it is
//! kept in the clone but `target/` and `node_modules/`.

mod bench;
mod benthos;
mod cache;
mod chain;
mod chdb;
mod debian;
mod demo;

mod install;
mod kafka;
mod node;
mod options;
mod pinned;
mod process;
mod python;
mod steps;
mod suite;
mod workspace;

use std::process::ExitCode;

use options::Command;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = match options::parse(&arguments) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("error: {error}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    let outcome = match command {
        Command::Help(text) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Command::Install(purpose) => install::run(purpose).map(|_| true),
        Command::Demo(arguments) => demo::run(&arguments).map(|()| true),
        Command::Bench(arguments) => bench::run(&arguments).map(|()| true),
        Command::Test(only) => suite::run(&only),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
