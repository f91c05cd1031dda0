//! A source's places on a disk that is full, and places that are damaged: every line counts once all the same.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus::Registry;
use rentroll_collector::collect::{self, CollectError, Mode, Progress, Setup};
use rentroll_collector::metrics::Metrics;
use rentroll_collector::outgoing::{Encoding, Packer};
use rentroll_collector::overflow::{Lanes, OverflowConfig};
use rentroll_collector::source::{Format, SourceConfig};
use rentroll_engines::health::Health;
use rentroll_engines::log::SharedLog;
use rentroll_schemas::topics::Topic;
use rentroll_testing::wait_until;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::disk::{SmallDisk, may_mount};
use crate::rig::{open_log, read};

const PATIENCE: Duration = Duration::from_secs(20);

/// A source that is followed, until it is stopped or killed.
struct Following {
    runtime: Runtime,
    health: Health,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<(), CollectError>>,
}

impl Following {
    fn start(log: &SharedLog, state_dir: &Path, file: &Path, mode: Mode) -> Following {
        let (health, stop) = (Health::default(), Arc::new(AtomicBool::new(false)));
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let overflow = OverflowConfig { enabled: false, ..OverflowConfig::default() };
        let setup = Setup {
            log: log.clone(),
            state_dir: state_dir.to_owned(),
            base: PathBuf::new(),
            packer: Packer {
                lanes: Lanes::new(&overflow, metrics.overflow.clone()),
                encoding: Encoding::Json,
                partitions: log.partitions(),
            },
            metrics,
            health: health.clone(),
            stop: stop.clone(),
            progress: Arc::new(Progress::default()),
        };
        let source =
            SourceConfig { format: Format::Json, ..SourceConfig::log("web", file.to_str().unwrap()) };
        let runtime = Runtime::new().unwrap();
        let task = runtime.spawn(collect::follow(setup, source, mode));
        Following { runtime, health, stop, task }
    }

    /// Whether it is well, and what it says.
    fn state(&self) -> (bool, String) {
        let report = self.health.report();
        let part = report.iter().find(|part| part.part == "collector/web");
        part.map_or((false, "not there".to_owned()), |part| (part.ready, part.detail.clone()))
    }

    fn stop(self) -> Result<(), CollectError> {
        self.stop.store(true, Ordering::Relaxed);
        self.runtime.block_on(self.task).unwrap()
    }

    /// Nothing is written down on the way.
    fn kill(self) {
        self.task.abort();
        assert!(self.runtime.block_on(self.task).unwrap_err().is_cancelled());
    }
}

fn append(file: &Path, lines: std::ops::Range<u64>) {
    let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
    let now = chrono::Utc::now().to_rfc3339();
    let text: String =
        lines.map(|n| format!("{{\"tenant\":\"acme\",\"time\":\"{now}\",\"n\":{n}}}\n")).collect();
    file.write_all(text.as_bytes()).unwrap();
}

/// Records of the log, and how many operations they are.
fn taken(log: &SharedLog) -> (usize, usize) {
    let records = read(log, Topic::Usage);
    let distinct: BTreeSet<_> = records.iter().map(|record| record.key).collect();
    (records.len(), distinct.len())
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    assert!(wait_until(PATIENCE, || holds().then_some(())).is_some(), "never: {what}");
}

#[test]
fn on_a_full_disk_a_source_waits_and_goes_on_when_there_is_room() {
    if !may_mount("places::on_a_full_disk_a_source_waits_and_goes_on_when_there_is_room") {
        return;
    }
    let disk = SmallDisk::mount();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("web.log");
    let log = open_log(&elsewhere.path().join("log"));
    let places = disk.path().join("web.files.json");
    let start = || Following::start(&log, disk.path(), &file, Mode::default());
    append(&file, 0..100);
    let following = start();
    wait_for("the first lines are taken", || taken(&log) == (100, 100));
    // Until they are written down.
    wait_for("a place", || std::fs::read_to_string(&places).is_ok_and(|text| text.contains("\"lines\":100")));
    let kept = std::fs::read(&places).unwrap();

    // No room, not even for a page.
    let filler = disk.path().join("filler");
    let full = std::fs::write(&filler, vec![7; 2 << 20]).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(28), "{full}");
    append(&file, 100..200);
    wait_for("it says so", || {
        let (ready, said) = following.state();
        !ready && said.contains("cannot keep its places") && said.contains("No space left")
    });
    append(&file, 200..20_000);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(std::fs::read(&places).unwrap(), kept, "what was written before is there");
    let (records, _) = taken(&log);
    assert!((200..10_000).contains(&records), "{records} lines were taken without a place for them");
    assert!(!following.task.is_finished());

    // Killed on the full disk, and begun again: what was taken without a place for it is taken again, as itself.
    following.kill();
    let following = start();
    wait_for("it is there again, and says so", || following.state().1.contains("No space left"));
    std::fs::remove_file(&filler).unwrap();
    wait_for("all lines are taken", || taken(&log).1 == 20_000);
    wait_for("it is well", || following.state().0);
    following.stop().unwrap();
    let (records, distinct) = taken(&log);
    assert_eq!(distinct, 20_000);
    // Nothing is read again once the places are kept.
    start().stop().unwrap();
    let following = start();
    append(&file, 20_000..20_001);
    wait_for("the last line", || taken(&log).1 == 20_001);
    following.stop().unwrap();
    assert_eq!(taken(&log).0, records + 1);
}

#[test]
fn a_source_that_is_read_once_tells_at_once_that_its_places_cannot_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.log");
    append(&file, 0..10);
    let log = open_log(&dir.path().join("log"));
    // A folder where the new file would be written.
    std::fs::create_dir(dir.path().join("web.files.tmp")).unwrap();
    let once = Mode { once: true, from_start: false };
    let Following { runtime, task, .. } = Following::start(&log, dir.path(), &file, once);
    let error = runtime.block_on(task).unwrap().unwrap_err();
    assert!(error.to_string().contains("cannot keep its places"), "{error}");
}

#[test]
fn damaged_places_are_an_error_that_says_what_to_do_and_what_it_costs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.log");
    append(&file, 0..10);
    let log = open_log(&dir.path().join("log"));
    let places = dir.path().join("web.files.json");
    let follow = |from_start| {
        let mode = Mode { once: true, from_start };
        let Following { runtime, task, .. } = Following::start(&log, dir.path(), &file, mode);
        runtime.block_on(task).unwrap()
    };
    follow(false).unwrap();
    let whole = std::fs::read(&places).unwrap();
    for damaged in [&whole[..whole.len() / 2], b""] {
        std::fs::write(&places, damaged).unwrap();
        let said = follow(false).unwrap_err().to_string();
        for part in [places.to_str().unwrap(), "remove it", "--from-start", "35 days", "rotated"] {
            assert!(said.contains(part), "`{part}` is not in: {said}");
        }
        assert_eq!(std::fs::read(&places).unwrap(), damaged, "left for who looks into it");
    }
    assert_eq!(taken(&log), (10, 10));
    follow(true).unwrap();
    assert_eq!(taken(&log), (20, 10));
    follow(false).unwrap();
    assert_eq!(taken(&log), (20, 10));
}
