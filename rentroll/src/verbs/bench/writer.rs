//! Writes an access log at a steady rate, tenants by a Zipf law.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::Utc;

use super::events::Random;

/// How often lines are written: often enough that a follower sees a stream and not bursts.
const TICK: Duration = Duration::from_millis(10);

/// Which lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Lines a second, without the hot tenant's excess.
    pub(super) per_second: u64,
    /// Tenants, by their addresses.
    pub(super) tenants: u32,
    /// The Zipf law's exponent.
    pub(super) zipf: f64,
    /// A tenant's rank, from 0, and how many times its share it sends.
    pub(super) hot: Option<(u32, u64)>,
}

impl Load {
    /// Running sums of the tenants' shares.
    fn sums(&self) -> Vec<f64> {
        let mut sum = 0.0;
        let weight = |rank: u32| {
            sum += f64::from(rank).powf(-self.zipf);
            sum
        };
        (1..=self.tenants).map(weight).collect()
    }

    /// The share of the tenant of that rank, from 0.
    pub(super) fn share(&self, rank: u32) -> f64 {
        f64::from(rank + 1).powf(-self.zipf) / self.sums().last().copied().unwrap_or(1.0)
    }

    /// Lines a second of the hot tenant beyond its share.
    pub(super) fn excess_per_second(&self) -> u64 {
        self.hot.map_or(0, |(rank, times)| {
            (self.share(rank) * self.per_second as f64 * times.saturating_sub(1) as f64) as u64
        })
    }
}

/// The address that names the tenant of that rank.
pub(super) fn tenant(rank: u32) -> String {
    format!("10.{}.{}.{}", rank >> 16 & 255, rank >> 8 & 255, rank & 255)
}

/// A log that is being written.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Writer {
    /// Begins.
    pub(super) fn start(path: &Path, load: Load) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = {
            let (stop, written) = (stop.clone(), written.clone());
            std::thread::spawn(move || write(file, &load, &stop, &written))
        };
        Ok(Writer { stop, written, thread: Some(thread) })
    }

    /// Lines so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Ends; lines in all.
    pub(super) fn finish(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Ok(result)) = self.thread.take().map(JoinHandle::join) {
            result.context("cannot write the log")?;
        }
        Ok(self.written())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn write(mut file: File, load: &Load, stop: &AtomicBool, written: &AtomicU64) -> std::io::Result<()> {
    let sums = load.sums();
    let total = sums.last().copied().unwrap_or(1.0);
    let excess = load.excess_per_second();
    let mut random = Random(7);
    let mut lines = Vec::new();
    let (started, mut done, mut hot_done) = (Instant::now(), 0, 0);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(TICK);
        let elapsed = started.elapsed().as_micros() as u64;
        let (due, hot_due) = (elapsed * load.per_second / 1_000_000, elapsed * excess / 1_000_000);
        let time = Utc::now().format("%d/%b/%Y:%H:%M:%S +0000").to_string();
        lines.clear();
        for _ in done..due {
            let at = (random.next() >> 11) as f64 / (1_u64 << 53) as f64 * total;
            let rank = sums.partition_point(|sum| *sum < at).min(sums.len() - 1) as u32;
            line(&mut lines, rank, &time, random.next());
        }
        if let Some((rank, _)) = load.hot {
            for _ in hot_done..hot_due {
                line(&mut lines, rank, &time, random.next());
            }
        }
        file.write_all(&lines)?;
        written.fetch_add(due - done + hot_due - hot_done, Ordering::Relaxed);
        (done, hot_done) = (due, hot_due);
    }
    Ok(())
}

fn line(out: &mut Vec<u8>, rank: u32, time: &str, draw: u64) {
    // Writing to memory cannot fail.
    let _ = writeln!(
        out,
        "{} - - [{time}] \"GET /v1/items/{} HTTP/1.1\" 200 {} \"-\" \"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\"",
        tenant(rank),
        draw % 1_000,
        draw >> 40 & 0xffff,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_written_at_its_rate_with_its_shares() {
        let load = Load { per_second: 10_000, tenants: 1_000, zipf: 1.0, hot: Some((9, 100)) };
        assert!((load.share(9) - 0.0133).abs() < 0.001, "{}", load.share(9));
        assert!((13_000..13_500).contains(&load.excess_per_second()), "{}", load.excess_per_second());
        let file = tempfile::NamedTempFile::new().unwrap();
        let started = Instant::now();
        let writer = Writer::start(file.path(), load).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let written = writer.finish().unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(text.lines().count() as u64, written);
        assert!(written as f64 <= seconds * 23_500.0 && written > 1_000, "{written} in {seconds} s");
        let hot = text.lines().filter(|line| line.starts_with("10.0.0.9 ")).count() as f64;
        assert!((0.5..0.65).contains(&(hot / written as f64)), "{hot} of {written}");
        let format = rentroll_collector::format::LineFormat::new(
            &rentroll_collector::source::SourceConfig::log("a", "b"),
        );
        assert!(format.unwrap().read(text.lines().next().unwrap().as_bytes(), "1").is_ok());
    }
}
