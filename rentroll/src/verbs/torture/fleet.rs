//! The processes: this very binary, once per part, started again whenever one ends.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// How often it is looked whether a process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between an end and the next start, as a supervisor leaves it.
const START_AGAIN: Duration = Duration::from_millis(500);
/// How long an orderly stop may take before it is a failure of its own.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// How to start one part.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Its name in logs and the tally.
    pub(super) name: &'static str,
    /// The verb.
    pub(super) verb: &'static str,
    /// Its configuration.
    pub(super) config: PathBuf,
    /// What it says goes here.
    pub(super) log: PathBuf,
    /// A library that lets its clock be set, and the file that says to what.
    pub(super) clock: Option<(PathBuf, PathBuf)>,
    /// Of all processes of the run.
    pub(super) process_group: i32,
}

#[derive(Debug)]
struct Process {
    part: Part,
    child: Option<Child>,
    is_wanted: bool,
    start_at: Instant,
    /// Ends that nobody asked for.
    ended_by_itself: u64,
    stopped_slowly: u64,
}

/// All parts.
#[derive(Clone, Debug)]
pub(super) struct Fleet(Arc<Mutex<Vec<Process>>>);

impl Fleet {
    /// Starts nothing yet, but a task that keeps those going which are wanted.
    pub(super) fn new(parts: Vec<Part>) -> Self {
        let processes = parts
            .into_iter()
            .map(|part| Process {
                part,
                child: None,
                is_wanted: false,
                start_at: Instant::now(),
                ended_by_itself: 0,
                stopped_slowly: 0,
            })
            .collect();
        let fleet = Fleet(Arc::new(Mutex::new(processes)));
        let looked_after = fleet.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                for process in looked_after.lock().iter_mut() {
                    process.look();
                }
            }
        });
        fleet
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Process>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, name: &str, work: impl FnOnce(&mut Process) -> T) -> Option<T> {
        self.lock().iter_mut().find(|process| process.part.name == name).map(work)
    }

    /// Starts a part, and keeps it going.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn start(&self, name: &str) -> anyhow::Result<()> {
        self.with(name, |process| {
            process.is_wanted = true;
            process.start()
        })
        .unwrap_or(Ok(()))
    }

    /// kill -9; it is not started again until [`Fleet::start`].
    pub(super) fn kill(&self, name: &str) {
        self.with(name, |process| {
            process.is_wanted = false;
            process.end(true);
        });
    }

    /// SIGTERM; returns when it has ended, or when it was killed because it did not.
    pub(super) async fn stop(&self, name: &str) {
        self.with(name, |process| {
            process.is_wanted = false;
            process.signal(Signal::TERM);
        });
        let deadline = Instant::now() + STOP_WAIT;
        while Instant::now() < deadline {
            let has_ended = self.with(name, |process| {
                process.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
            });
            if has_ended != Some(false) {
                self.with(name, |process| process.end(false));
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.with(name, |process| {
            process.stopped_slowly += 1;
            process.end(true);
        });
    }

    /// Sends a signal, such as SIGSTOP.
    pub(super) fn signal(&self, name: &str, signal: Signal) {
        self.with(name, |process| process.signal(signal));
    }

    /// Sets the clock of a part, in seconds from the true time.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn set_clock(&self, name: &str, seconds: i64) -> anyhow::Result<()> {
        let file = self.with(name, |process| process.part.clock.clone()).flatten();
        match file {
            Some((_, file)) => set_clock(&file, seconds),
            None => Ok(()),
        }
    }

    /// Ends that nobody asked for, by part; those that did not stop in time are among them.
    pub(super) fn ended_by_themselves(&self) -> Vec<(&'static str, u64)> {
        let counts =
            |process: &Process| (process.part.name, process.ended_by_itself + process.stopped_slowly);
        self.lock().iter().map(counts).filter(|(_, count)| *count > 0).collect()
    }

    /// Ends all, by SIGKILL.
    pub(super) fn kill_all(&self) {
        for process in self.lock().iter_mut() {
            process.is_wanted = false;
            process.end(true);
        }
    }
}

/// Writes how far a clock is off, whole or not at all: a reader must not see half a number.
pub(super) fn set_clock(file: &Path, seconds: i64) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{seconds:+}\n"))
        .and_then(|()| std::fs::rename(&new, file))
        .with_context(|| format!("cannot write {}", file.display()))
}

impl Process {
    fn start(&mut self) -> anyhow::Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let part = &self.part;
        let program = std::env::current_exe().context("cannot tell which program this is")?;
        let log = File::options().create(true).append(true).open(&part.log);
        let log = log.with_context(|| format!("cannot write {}", part.log.display()))?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&part.config).arg(part.verb);
        without_settings(&mut command).env("RENTROLL_LOG", "info").env("NO_COLOR", "1");
        if let Some((library, file)) = &part.clock {
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", file)
                .env("FAKETIME_CACHE_DURATION", "1")
                // A real clock that is set moves the time of day alone.
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command.process_group(part.process_group).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", part.name))?;
        self.child = Some(child);
        Ok(())
    }

    fn look(&mut self) {
        if let Some(child) = &mut self.child {
            if matches!(child.try_wait(), Ok(None)) {
                return;
            }
            self.child = None;
            if self.is_wanted {
                self.ended_by_itself += 1;
                self.start_at = Instant::now() + START_AGAIN;
            }
        }
        if self.is_wanted
            && Instant::now() >= self.start_at
            && let Err(error) = self.start()
        {
            tracing::error!(part = self.part.name, %error, "cannot start a part again");
        }
    }

    fn signal(&mut self, signal: Signal) {
        let pid = self.child.as_ref().and_then(|child| Pid::from_raw(child.id() as i32));
        if let Some(pid) = pid {
            // It may have ended a moment ago.
            let _ = kill_process(pid, signal);
        }
    }

    fn end(&mut self, by_force: bool) {
        if let Some(mut child) = self.child.take() {
            if by_force {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }
}

/// A part is what its file says: settings of this process's own environment would go over it.
pub(super) fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "RENTROLL_CONFIG" || (text.starts_with("RENTROLL_") && text.contains("__")) {
            command.env_remove(&name);
        }
    }
    command
}
