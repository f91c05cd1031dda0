//! A child process with what it took.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::resource::{Usage, UsageWho, getrusage};

/// What a process took.
pub(super) struct Measured {
    pub(super) output: Output,
    pub(super) elapsed: Duration,
    /// User and system time of all its threads.
    pub(super) cpu: Duration,
}

/// Runs `command` to its end. Nothing else may be waited for meanwhile, since the system adds up all children.
pub(super) fn measure(command: &mut Command) -> anyhow::Result<Measured> {
    let name = command.get_program().to_string_lossy().into_owned();
    let before = children_cpu()?;
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    let elapsed = started.elapsed();
    let cpu = children_cpu()?.saturating_sub(before);
    if !output.status.success() {
        anyhow::bail!(
            "{name} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(Measured { output, elapsed, cpu })
}

/// CPU time of all children that have ended and been waited for.
pub(super) fn children_cpu() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot read the children's CPU time")?;
    Ok(cpu_of(&usage))
}

/// User and system time.
pub(super) fn cpu_of(usage: &Usage) -> Duration {
    let duration = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().unsigned_abs(), time.tv_usec().unsigned_abs() as u32 * 1_000)
    };
    duration(usage.user_time()) + duration(usage.system_time())
}
