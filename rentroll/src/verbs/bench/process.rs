//! A child process while it runs: CPU time, memory, and which of its threads took how much.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// How often a process is looked at. Each look reads a file per thread.
const LOOK: Duration = Duration::from_millis(100);
/// Of what a failed process said.
const LINES_SHOWN: usize = 20;
/// The unit in which the kernel tells CPU time, by its own contract with user space.
const TICK: Duration = Duration::from_millis(10);

/// CPU time and time on the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cost {
    /// User and system time of all threads, µs.
    pub(super) cpu_us: u64,
    /// Time on the clock, µs.
    pub(super) elapsed_us: u64,
}

impl Cost {
    /// Events per second of CPU time.
    pub(super) fn per_cpu_second(self, events: u64) -> f64 {
        events as f64 * 1e6 / self.cpu_us.max(1) as f64
    }

    /// Events per second on the clock.
    pub(super) fn per_second(self, events: u64) -> f64 {
        events as f64 * 1e6 / self.elapsed_us.max(1) as f64
    }

    /// µs of CPU time per event.
    pub(super) fn us_per_event(self, events: u64) -> f64 {
        self.cpu_us as f64 / events.max(1) as f64
    }
}

/// What this process has taken since it began, and since when.
pub(super) struct Clock {
    started: Instant,
    cpu_before: Duration,
}

impl Clock {
    /// From now on.
    pub(super) fn start() -> Self {
        Clock { started: Instant::now(), cpu_before: own_cpu() }
    }

    /// Since then.
    pub(super) fn cost(&self) -> Cost {
        Cost {
            cpu_us: own_cpu().saturating_sub(self.cpu_before).as_micros() as u64,
            elapsed_us: self.started.elapsed().as_micros() as u64,
        }
    }
}

fn own_cpu() -> Duration {
    // The call has no way to fail for one's own process.
    nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)
        .map(|usage| super::measured::cpu_of(&usage))
        .unwrap_or_default()
}

/// A running process.
pub(super) struct Watched {
    child: Child,
    name: String,
    started: Instant,
    looked_at: Option<Instant>,
    rss_peak_bytes: u64,
    threads: HashMap<u32, (String, Duration)>,
    stdout: Said,
    stderr: Said,
}

/// What a process says, read as it comes: a full pipe would stop it.
type Said = JoinHandle<String>;

/// What a process took until it ended.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Taken {
    pub(super) cost: Cost,
    pub(super) rss_peak_bytes: u64,
    /// By the beginning of the threads' names, the dearest first; a thread that lived for less than a look is
    /// missing.
    pub(super) threads: Vec<(String, u64)>,
    /// What it printed.
    #[serde(skip)]
    pub(super) stdout: String,
}

impl Watched {
    /// Starts `command`. What it says on stderr is shown if it fails.
    pub(super) fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
        Ok(Watched {
            child,
            name,
            started: Instant::now(),
            looked_at: None,
            rss_peak_bytes: 0,
            threads: HashMap::new(),
            stdout,
            stderr,
        })
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait().context("cannot wait for a child")?.is_some())
    }

    /// Waits for its end.
    pub(super) fn wait(mut self) -> anyhow::Result<Taken> {
        let before = super::measured::children_cpu()?;
        let status = loop {
            self.look();
            if let Some(status) = self.child.try_wait().context("cannot wait for a child")? {
                break status;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let elapsed = self.started.elapsed();
        let cpu = super::measured::children_cpu()?.saturating_sub(before);
        if !status.success() {
            let said = self.last_words();
            anyhow::bail!("{} ended with {status}:{said}", self.name);
        }
        let stdout = std::mem::replace(&mut self.stdout, read(None::<File>)).join().unwrap_or_default();
        let cost = Cost { cpu_us: cpu.as_micros() as u64, elapsed_us: elapsed.as_micros() as u64 };
        Ok(Taken { cost, rss_peak_bytes: self.rss_peak_bytes, threads: self.by_name(), stdout })
    }

    /// The end of what it said; some programs complain on stdout.
    fn last_words(&mut self) -> String {
        let mut words = String::new();
        for said in [&mut self.stdout, &mut self.stderr] {
            let said = std::mem::replace(said, read(None::<File>)).join().unwrap_or_default();
            let lines: Vec<&str> = said.trim().lines().collect();
            for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
                words.push_str("\n  ");
                words.push_str(line);
            }
        }
        words
    }

    /// CPU time so far, and peak memory.
    pub(super) fn so_far(&mut self) -> (Duration, u64) {
        self.looked_at = None;
        self.look();
        (cpu_of(self.child.id()).unwrap_or_default(), self.rss_peak_bytes)
    }

    fn look(&mut self) {
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK) {
            return;
        }
        self.looked_at = Some(Instant::now());
        let process = format!("/proc/{}", self.child.id());
        self.rss_peak_bytes = self.rss_peak_bytes.max(rss_peak(&process).unwrap_or_default());
        let Ok(tasks) = std::fs::read_dir(format!("{process}/task")) else { return };
        for task in tasks.flatten() {
            let Some(id) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(found) = cpu_of_stat(&format!("{process}/task/{id}/stat")) {
                self.threads.insert(id, found);
            }
        }
    }

    fn by_name(&self) -> Vec<(String, u64)> {
        let mut sums: BTreeMap<&str, Duration> = BTreeMap::new();
        for (name, cpu) in self.threads.values() {
            let stem =
                name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '/' | '-' | ':' | '_'));
            *sums.entry(stem).or_default() += *cpu;
        }
        let mut list: Vec<(String, u64)> =
            sums.into_iter().map(|(name, cpu)| (name.to_owned(), cpu.as_millis() as u64)).collect();
        list.sort_by_key(|(_, cpu)| std::cmp::Reverse(*cpu));
        list.retain(|(_, cpu)| *cpu > 0);
        list
    }
}

impl Drop for Watched {
    /// A measurement that broke off leaves nothing running.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(pipe: Option<impl Read + Send + 'static>) -> Said {
    std::thread::spawn(move || {
        let mut said = Vec::new();
        // A pipe that breaks has said what it had to say.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut said));
        String::from_utf8_lossy(&said).into_owned()
    })
}

/// CPU time of a process so far.
pub(super) fn cpu_of(process: u32) -> Option<Duration> {
    cpu_of_stat(&format!("/proc/{process}/stat")).map(|(_, cpu)| cpu)
}

/// Peak memory of this process, bytes.
pub(super) fn own_rss_peak() -> u64 {
    rss_peak("/proc/self").unwrap_or_default()
}

fn rss_peak(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// Name and CPU time of a process or thread.
fn cpu_of_stat(path: &str) -> Option<(String, Duration)> {
    parse_stat(&std::fs::read_to_string(path).ok()?)
}

/// `pid (name) state … utime stime …`, the two being the 12th and 13th field after the name, which may itself
/// hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(String, Duration)> {
    let (head, tail) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let mut fields = tail.split_whitespace().skip(11);
    let ticks: u32 = fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?;
    Some((name.to_owned(), TICK * ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_stat_line() {
        let line = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 8 0";
        assert_eq!(parse_stat(line), Some(("a ) b".to_owned(), Duration::from_secs(2))));
    }

    #[test]
    fn a_child_is_measured_to_its_end() {
        let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done";
        let taken = Watched::spawn(Command::new("sh").args(["-c", script])).unwrap().wait().unwrap();
        assert_eq!(taken.stdout, "done\n");
        assert!(taken.cost.cpu_us > 1_000 && taken.rss_peak_bytes > 0, "{taken:?}");
        let error = Watched::spawn(Command::new("sh").args(["-c", "exit 7"])).unwrap().wait().unwrap_err();
        assert!(error.to_string().contains("exit status: 7"), "{error}");
    }
}
