//! Random histories of a log over a real folder, against the list of lines that were written.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;
use crate::followed::End;
use crate::places::Places;

/// What happens to the log, and to whoever reads it.
#[derive(Clone, Debug)]
enum Step {
    Append {
        lines: usize,
        bytes: usize,
    },
    /// The beginning of a line, completed by the next step that writes.
    AppendPart,
    /// logrotate's `create`: numbers go up, the log becomes number 1.
    Rename,
    /// The writer goes on in the file that is number 1 now: it has not been told yet.
    AppendToRotated {
        lines: usize,
    },
    /// logrotate's `copytruncate`.
    CopyTruncate,
    /// Number 1, or the highest that is plain, is compressed and taken away.
    Compress {
        newest: bool,
    },
    /// All is read and durable; then all rotated files but the newest are taken away. The next ones may get their inodes.
    TakeAway,
    Scan,
    Read {
        lines: usize,
    },
    /// The oldest batches become durable.
    Commit {
        batches: usize,
    },
    /// kill -9; the oldest batch may have become durable without its place.
    Kill {
        appended: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_usize..30, 1_usize..200).prop_map(|(lines, bytes)| Step::Append { lines, bytes }),
        1 => Just(Step::AppendPart),
        3 => Just(Step::Rename),
        1 => (1_usize..5).prop_map(|lines| Step::AppendToRotated { lines }),
        3 => Just(Step::CopyTruncate),
        3 => any::<bool>().prop_map(|newest| Step::Compress { newest }),
        1 => Just(Step::TakeAway),
        6 => Just(Step::Scan),
        6 => (1_usize..60).prop_map(|lines| Step::Read { lines }),
        4 => (1_usize..4).prop_map(|batches| Step::Commit { batches }),
        2 => any::<bool>().prop_map(|appended| Step::Kill { appended }),
    ]
}

struct Batch {
    lines: Vec<(String, String)>,
    changes: Vec<Change>,
}

/// The log, its reader, and what both should come to.
struct World {
    dir: tempfile::TempDir,
    pattern: PathBuf,
    settle: bool,
    written: u64,
    /// A line's beginning stands at the end of the log.
    part: bool,
    follower: Follower,
    places: Places,
    on_the_way: VecDeque<Batch>,
    /// By id: what dedup leaves.
    taken: BTreeMap<String, String>,
}

impl World {
    fn new(pattern: &str, settle: bool) -> World {
        let dir = tempfile::tempdir().unwrap();
        let pattern = dir.path().join(pattern);
        fs::write(dir.path().join("app.log"), "line 0\n").unwrap();
        let places = Places::open(&dir.path().join("state"), "web").unwrap();
        let follower = follower(&pattern, settle, &places);
        let mut world = World {
            dir,
            pattern,
            settle,
            written: 1,
            part: false,
            follower,
            places,
            on_the_way: VecDeque::new(),
            taken: BTreeMap::new(),
        };
        // A log is followed from when it is first seen; what was rotated before is left alone.
        world.scan();
        world.commit(usize::MAX);
        world
    }

    fn path(&self, number: usize, gzip: bool) -> PathBuf {
        let name = if number == 0 { "app.log".to_owned() } else { format!("app.log.{number}") };
        self.dir.path().join(if gzip { format!("{name}.gz") } else { name })
    }

    fn append(&mut self, path: &Path, lines: usize, bytes: usize) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        for _ in 0..lines {
            writeln!(file, "line {}{}", self.written, "-".repeat(bytes * (self.written % 3) as usize))
                .unwrap();
            self.written += 1;
        }
    }

    /// Completes the line that was begun.
    fn complete(&mut self) {
        if std::mem::take(&mut self.part) {
            let path = self.path(0, false);
            self.append(&path, 1, 0);
        }
    }

    fn shift(&self) {
        for number in (1..80).rev() {
            for gzip in [false, true] {
                let _ = fs::rename(self.path(number, gzip), self.path(number + 1, gzip));
            }
        }
    }

    fn scan(&mut self) {
        self.follower.scan(Instant::now());
        let changes = self.follower.take_changes();
        self.on_the_way.push_back(Batch { lines: Vec::new(), changes });
    }

    fn read(&mut self, lines_max: usize) -> usize {
        let (pace, now) = (self.follower.pace(), Instant::now());
        let mut count = 0;
        for (base, file) in self.follower.open_files() {
            let at_end = file.is_quiet(pace, now);
            let mut batch = Batch { lines: Vec::new(), changes: Vec::new() };
            let Some(reader) = file.reader() else { continue };
            let before = reader.offset();
            let end = loop {
                if batch.lines.len() >= lines_max {
                    break End::Full;
                }
                match reader.next_line(at_end) {
                    Ok(Some(line)) => {
                        batch.lines.push((line.id, String::from_utf8(line.bytes.to_vec()).unwrap()))
                    }
                    Ok(None) => break End::Drained,
                    Err(error) => break End::Broken(error),
                }
            };
            if reader.offset() > before {
                file.moved(now);
                batch.changes.push(file.change(base));
            }
            file.after(base, end, pace, now, &mut batch.changes);
            count += batch.lines.len();
            self.on_the_way.push_back(batch);
        }
        count
    }

    fn commit(&mut self, batches: usize) {
        for _ in 0..batches {
            let Some(batch) = self.on_the_way.pop_front() else { break };
            self.take(batch.lines);
            self.places.apply(batch.changes);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.places.save()).unwrap();
    }

    fn take(&mut self, lines: Vec<(String, String)>) {
        for (id, text) in lines {
            if let Some(before) = self.taken.insert(id.clone(), text.clone()) {
                assert_eq!(before, text, "{id} names two lines");
            }
        }
    }

    fn restart(&mut self) {
        self.on_the_way.clear();
        self.places = Places::open(&self.dir.path().join("state"), "web").unwrap();
        self.follower = follower(&self.pattern, self.settle, &self.places);
    }

    fn step(&mut self, step: Step) {
        let log = self.path(0, false);
        match step {
            Step::Append { lines, bytes } => {
                self.complete();
                self.append(&log, lines, bytes);
            }
            Step::AppendPart => {
                self.complete();
                let mut file = File::options().create(true).append(true).open(&log).unwrap();
                write!(file, "part of a ").unwrap();
                self.part = true;
            }
            Step::Rename => {
                self.complete();
                self.shift();
                let _ = fs::rename(&log, self.path(1, false));
            }
            Step::AppendToRotated { lines } => {
                let rotated = self.path(1, false);
                if rotated.exists() {
                    self.append(&rotated, lines, 3);
                }
            }
            Step::CopyTruncate => {
                self.complete();
                if log.exists() {
                    self.shift();
                    fs::copy(&log, self.path(1, false)).unwrap();
                    File::options().write(true).truncate(true).open(&log).unwrap();
                }
            }
            Step::Compress { newest } => {
                let mut numbers: Vec<usize> =
                    (1..81).filter(|number| self.path(*number, false).exists()).collect();
                if !newest {
                    numbers.reverse();
                }
                if let Some(number) = numbers.first() {
                    let (plain, compressed) = (self.path(*number, false), self.path(*number, true));
                    let mut encoder = GzEncoder::new(File::create(compressed).unwrap(), Compression::fast());
                    encoder.write_all(&fs::read(&plain).unwrap()).unwrap();
                    encoder.finish().unwrap();
                    fs::remove_file(plain).unwrap();
                }
            }
            Step::TakeAway => {
                self.settle();
                for number in 2..82 {
                    for gzip in [false, true] {
                        let _ = fs::remove_file(self.path(number, gzip));
                    }
                }
            }
            Step::Scan => self.scan(),
            Step::Read { lines } => drop(self.read(lines)),
            Step::Commit { batches } => self.commit(batches),
            Step::Kill { appended } => {
                let first = self.on_the_way.pop_front();
                if let (true, Some(batch)) = (appended, first) {
                    self.take(batch.lines);
                }
                self.restart();
            }
        }
    }

    /// Reads until nothing is left.
    fn settle(&mut self) {
        self.complete();
        let mut quiet = 0;
        while quiet < 4 {
            self.scan();
            let read = self.read(1000);
            self.commit(usize::MAX);
            quiet = if read == 0 { quiet + 1 } else { 0 };
        }
    }

    /// Holds what came of it against what was written.
    fn check(mut self) {
        self.settle();
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for text in self.taken.values() {
            *counts.entry(text.trim_start_matches("part of a ").trim_end_matches('-')).or_default() += 1;
        }
        for number in 0..self.written {
            let line = format!("line {number}");
            assert_eq!(counts.remove(line.as_str()), Some(1), "{line}");
        }
        assert!(counts.is_empty(), "never written: {counts:?}");
    }
}

fn follower(pattern: &Path, settle: bool, places: &Places) -> Follower {
    let sight = Sight::new(Path::new(""), &[pattern.to_owned()]).unwrap();
    Follower::new(sight, Pace { settle, quiet: Duration::from_secs(60) }, places.families(), Instant::now())
}

fn run(pattern: &str, settle: bool, steps: impl IntoIterator<Item = Step>) {
    let mut world = World::new(pattern, settle);
    for step in steps {
        world.step(step);
    }
    world.check();
}

#[test]
fn rotated_twice_and_compressed_while_the_reader_was_away() {
    use Step::*;
    for first in [Rename, CopyTruncate] {
        for second in [Rename, CopyTruncate] {
            run(
                "app.log",
                true,
                [
                    Append { lines: 40, bytes: 90 },
                    Scan,
                    Read { lines: 10 },
                    Commit { batches: 9 },
                    Kill { appended: false },
                    Append { lines: 5, bytes: 9 },
                    first.clone(),
                    Append { lines: 20, bytes: 10 },
                    second,
                    Compress { newest: false },
                    Compress { newest: true },
                    Append { lines: 3, bytes: 0 },
                ],
            );
        }
    }
}

#[test]
fn rotated_twice_and_not_there_again_yet() {
    use Step::*;
    for pattern in ["app.log", "*.log", "app.log*"] {
        run(pattern, false, [Rename, Append { lines: 1, bytes: 1 }, Rename]);
    }
}

#[test]
fn what_was_rotated_before_the_log_was_followed_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("app.log.1", "old\n");
    write("app.log", "new\n");
    let places = Places::open(&dir.path().join("state"), "web").unwrap();
    let names = |pattern: &str| {
        let mut follower = follower(&dir.path().join(pattern), false, &places);
        follower.scan(Instant::now());
        let mut names: Vec<String> = follower
            .open_files()
            .map(|(_, file)| file.path().file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("app.log"), ["app.log"]);
    assert_eq!(names("app.log*"), ["app.log", "app.log.1"]);
    assert_eq!(names("*.log"), ["app.log"]);
    assert_eq!(names("app.log.1"), ["app.log.1"]);
}

/// What was taken away had been read to its end. A file that was compressed later, while nobody looked, got its inode:
/// it was taken for finished, and none of its lines came.
#[test]
fn an_inode_that_was_given_away_again_is_another_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let gzip = |name: &str, text: &str| {
        let mut encoder = GzEncoder::new(File::create(path(name)).unwrap(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
    };
    fs::write(path("app.log"), "1\n").unwrap();
    gzip("app.log.2.gz", "old\n");
    let mut old = LineReader::open(&path("app.log.2.gz"), true, &Place::start("")).unwrap();
    assert!(old.next_line(true).unwrap().is_some());
    let place = old.place();
    fs::remove_file(path("app.log.2.gz")).unwrap();
    gzip("app.log.1.gz", "new\n");
    let id = LineReader::open(&path("app.log.1.gz"), true, &Place::start("")).unwrap().id();
    let base = path("app.log");
    let known = |finished_as| FileState {
        id: Some(id),
        path: path("app.log.2.gz"),
        place: place.clone(),
        finished_as,
    };
    // As it was when it was finished, and as former versions kept it: without a word on that.
    for finished_as in [Some(Stamp { bytes: 24, changed_ns: 7 }), None] {
        let mut places = Places::open(&path("state"), "web").unwrap();
        places.apply(vec![
            Change::Family { base: base.clone(), ignored_until_ns: 0 },
            Change::File { base: base.clone(), key: 0, state: known(finished_as) },
        ]);
        let mut follower = follower(&base, false, &places);
        let mut lines = Vec::new();
        follower.scan(Instant::now());
        for (_, file) in follower.open_files() {
            while let Some(line) = file.reader().unwrap().next_line(true).unwrap() {
                lines.push(String::from_utf8(line.bytes.to_vec()).unwrap());
            }
        }
        lines.sort();
        assert_eq!(lines, ["1", "new"]);
    }
}

#[test]
fn a_link_that_leads_elsewhere_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let link = |target: &str| {
        let _ = fs::remove_file(path("current"));
        std::os::unix::fs::symlink(path(target), path("current")).unwrap();
    };
    fs::write(path("monday.txt"), "1\n").unwrap();
    link("monday.txt");
    let mut places = Places::open(&path("state"), "web").unwrap();
    let read = |places: &mut Places| {
        let mut follower = follower(&path("current"), false, places);
        let mut lines = Vec::new();
        for _ in 0..3 {
            follower.scan(Instant::now());
            places.apply(follower.take_changes());
            for (base, file) in follower.open_files() {
                while let Some(line) = file.reader().unwrap().next_line(false).unwrap() {
                    lines.push(String::from_utf8(line.bytes.to_vec()).unwrap());
                }
                file.moved(Instant::now());
                places.apply(vec![file.change(base)]);
            }
        }
        lines.sort();
        lines
    };
    assert_eq!(read(&mut places), ["1"]);
    // While nobody reads, one more line, and another day.
    File::options().append(true).open(path("monday.txt")).unwrap().write_all(b"2\n").unwrap();
    fs::write(path("tuesday.txt"), "3\n").unwrap();
    link("tuesday.txt");
    assert_eq!(read(&mut places), ["2", "3"]);
}

/// A folder, what a pattern makes of it, and the lines that come of it.
struct Folder {
    dir: tempfile::TempDir,
    follower: Follower,
}

impl Folder {
    fn new(patterns: &[&str]) -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = patterns.iter().map(|pattern| dir.path().join(pattern)).collect();
        let sight = Sight::new(Path::new(""), &paths).unwrap();
        let pace = Pace { settle: false, quiet: Duration::from_secs(60) };
        Folder { dir, follower: Follower::new(sight, pace, &BTreeMap::new(), Instant::now()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let file = File::options().create(true).append(true).open(self.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// New lines, each with its id, so that one that is taken twice under one id is one.
    fn read(&mut self) -> Vec<String> {
        let mut lines = BTreeMap::new();
        self.follower.scan(Instant::now());
        for (_, file) in self.follower.open_files() {
            while let Some(line) = file.reader().unwrap().next_line(false).unwrap() {
                lines.insert(line.id.to_string(), String::from_utf8(line.bytes.to_vec()).unwrap());
            }
            file.moved(Instant::now());
        }
        let mut lines: Vec<String> = lines.into_values().collect();
        lines.sort();
        lines
    }

    fn problems(&self) -> Vec<String> {
        self.follower.problems().values().map(|problem| problem.error.to_string()).collect()
    }
}

#[test]
fn a_pattern_matches_as_a_shell_does() {
    let mut folder = Folder::new(&["*", "*.log"]);
    assert_eq!(folder.read(), [""; 0]);
    assert_eq!(folder.problems(), ["no file matches"; 2]);
    fs::create_dir(folder.path("sub.log")).unwrap();
    folder.append("sub.log/deep.log", "deep\n");
    folder.append(".a.log.swp", "hidden\n");
    folder.append("a.log", "1\n");
    folder.append("b.log", "1\n");
    // Two patterns match the same files; a folder is passed by; what appeared later is read from its beginning.
    assert_eq!(folder.read(), ["1", "1"]);
    assert_eq!(folder.problems(), [""; 0]);
    folder.append("c.log", "2\n");
    fs::remove_file(folder.path("b.log")).unwrap();
    assert_eq!(folder.read(), ["2"]);
    assert_eq!(folder.problems(), [""; 0]);
    // What is hidden is followed where it is named.
    let mut folder = Folder::new(&[".hidden/*.log"]);
    fs::create_dir(folder.path(".hidden")).unwrap();
    folder.append(".hidden/a.log", "3\n");
    assert_eq!(folder.read(), ["3"]);
}

#[test]
fn a_file_that_links_lead_to_is_one_file() {
    let mut folder = Folder::new(&["*.log"]);
    folder.append("app-1.log", "1\n");
    let link = |folder: &Folder, target: &str| {
        let _ = fs::remove_file(folder.path("a-current.log"));
        std::os::unix::fs::symlink(folder.path(target), folder.path("a-current.log")).unwrap();
    };
    link(&folder, "app-1.log");
    fs::hard_link(folder.path("app-1.log"), folder.path("same.log")).unwrap();
    assert_eq!(folder.read(), ["1"]);
    folder.append("app-1.log", "2\n");
    folder.append("app-2.log", "3\n");
    link(&folder, "app-2.log");
    assert_eq!(folder.read(), ["2", "3"]);
    // A link that leads nowhere is told, and waited for.
    link(&folder, "app-3.log");
    assert_eq!(folder.read(), [""; 0]);
    assert_eq!(folder.problems().len(), 1, "{:?}", folder.problems());
    folder.append("app-3.log", "4\n");
    assert_eq!(folder.read(), ["4"]);
}

#[test]
fn a_file_that_is_renamed_to_another_log_of_the_pattern_is_read_on() {
    let mut folder = Folder::new(&["*.log"]);
    folder.append("app.log", "1\n2\n");
    assert_eq!(folder.read(), ["1", "2"]);
    fs::rename(folder.path("app.log"), folder.path("app-done.log")).unwrap();
    folder.append("app-done.log", "3\n");
    folder.append("app.log", "1\n");
    assert_eq!(folder.read(), ["1", "3"]);
    folder.append("app-done.log", "4\n");
    assert_eq!(folder.read(), ["4"]);
}

#[test]
fn missing_unreadable_and_odd_files_are_told_and_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let places = Places::open(&dir.path().join("state"), "web").unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    let paths = ["absent.log", "folder", "*.none"].map(|name| dir.path().join(name));
    let sight = Sight::new(Path::new(""), &paths).unwrap();
    let pace = Pace { settle: true, quiet: Duration::ZERO };
    let mut follower = Follower::new(sight, pace, places.families(), Instant::now());
    follower.scan(Instant::now());
    let told: Vec<(bool, String)> =
        follower.problems().values().map(|problem| (problem.waiting, problem.error.to_string())).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told.iter().filter(|(waiting, _)| *waiting).count(), 2, "{told:?}");
    assert!(told.iter().any(|(_, error)| error == "not a regular file"), "{told:?}");
    fs::write(&paths[0], "here\n").unwrap();
    follower.scan(Instant::now());
    assert_eq!(follower.problems().len(), 2);
    assert_eq!(follower.open_files().count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn every_line_comes_out_once(
        steps in proptest::collection::vec(step(), 1..60), pattern in prop_oneof!["app\\.log", "\\*\\.log", "app\\.log\\*"], settle in any::<bool>(),
    ) {
        run(&pattern, settle, steps);
    }
}
