//! Where it happens: a folder, small disks, wires, brokers, the configuration of each part.

use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::PoisonError;

use anyhow::{Context as _, bail};
use rentroll_testing::cluster::{Cluster, ClusterConfig};
use rentroll_testing::free_port;

use super::fleet::{Fleet, Part, set_clock, without_settings};
use super::model::METERS;
use super::proxy::Proxy;
use super::schedule::{Kind, LogSide, Targets};

/// The password of the run's engine; it listens on loopback, and for as long as the run.
const PASSWORD: &str = "torture";
/// Size of each small disk: room for some million events. It takes memory as it fills.
const DISK_BYTES: u64 = 6 << 30;
/// What is left free on one that fills up: less than the engine keeps free, so that it begins nothing more, and
/// enough for what it has begun.
const FILLING_BYTES: u64 = 24 << 20;
/// What is left free on a full one, which no part of a table fits into.
const FULL_BYTES: u64 = 64 << 10;
/// How long the brokers may take to answer: 3 s on an idle machine, minutes on one that does much else.
const START_WAIT: std::time::Duration = std::time::Duration::from_secs(300);
/// Every wait of a run ends by itself before this, so that a run in which nothing was noted for so long hangs on
/// something that has no limit of its own: an engine that takes a query and never answers, a client that is refused
/// for ever.
const STANDSTILL: std::time::Duration = std::time::Duration::from_secs(600);
/// Where Debian's `libfaketime` is, below a folder of the machine's own architecture.
const CLOCK_LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The parts, in the order of the brokers' doors: the collector is client 0.
pub(super) const CLIENTS: [&str; 3] = ["collector", "aggregator-a", "aggregator-b"];
/// The holder of the engine.
pub(super) const ENGINE: &str = "engine";
/// All but the store, with the embedded log.
pub(super) const NODE: &str = "node";

/// The scene of a run.
#[derive(Debug)]
pub(super) struct Scene {
    /// Everything is below it.
    pub(super) folder: PathBuf,
    /// A log of CloudEvents that the collector follows.
    pub(super) followed: PathBuf,
    /// Another, of lines that are known by their place.
    pub(super) places: PathBuf,
    /// The processes.
    pub(super) fleet: Fleet,
    /// The brokers, with Kafka.
    pub(super) cluster: Option<tokio::sync::Mutex<Cluster>>,
    /// By client, then broker.
    pub(super) doors: Vec<Vec<Proxy>>,
    /// By aggregator.
    pub(super) stores: Vec<Proxy>,
    /// Between the clients over HTTP and the collector.
    pub(super) ingest: Proxy,
    /// For the comparison: past all wires.
    pub(super) client: clickhouse::Client,
    /// A configuration for other verbs, past all wires.
    pub(super) direct: PathBuf,
    /// Of the log.
    pub(super) partitions: u32,
    /// With which log.
    pub(super) log: LogSide,
    /// Kinds of fault that cannot be done here, and why.
    pub(super) not_run: Vec<(Kind, String)>,
    /// What was noted last, and when.
    noted: std::sync::Mutex<(std::time::Instant, String)>,
    guard: Guard,
}

/// What a scene is made for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Which log.
    pub(super) log: LogSide,
    /// Brokers.
    pub(super) brokers: usize,
    /// The brokers' jars.
    pub(super) jars: Option<PathBuf>,
    /// The engine's library.
    pub(super) library: Option<PathBuf>,
}

impl Scene {
    /// Lays everything out and starts the brokers.
    ///
    /// # Errors
    /// Says what is missing.
    pub(super) async fn set(wanted: &Wanted) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("rentroll-torture-").tempdir();
        let folder = folder.context("cannot make a folder")?.keep();
        let guard = Guard::over(&folder)?;
        for name in ["logs", "conf", "store", "log"] {
            std::fs::create_dir(folder.join(name)).context("cannot make a folder")?;
        }
        let mut not_run = Vec::new();
        for (kind, name) in [(Kind::FullDiskStore, "store"), (Kind::FullDiskLog, "log")] {
            if let Err(error) = mount(&folder.join(name)) {
                not_run.push((kind, format!("{error:#}")));
            }
        }
        let clock = clock_library();
        if clock.is_none() {
            not_run.push((Kind::ClockStep, "no libfaketime: `apt-get install libfaketime` brings it".into()));
        }
        let kafka = wanted.log == LogSide::Kafka;
        let (mut doors, mut cluster) = (Vec::new(), None);
        if kafka {
            for _ in CLIENTS {
                let mut to_brokers = Vec::new();
                for _ in 0..wanted.brokers {
                    to_brokers.push(Proxy::listen().await?);
                }
                doors.push(to_brokers);
            }
            cluster = Some(tokio::sync::Mutex::new(brokers(wanted, &folder, &doors, guard.group()).await?));
        }
        let aggregators = if kafka { 2 } else { 1 };
        let engine_port = free_port()?;
        let mut stores = Vec::new();
        for _ in 0..aggregators {
            let store = Proxy::listen().await?;
            store.lead_to(engine_port);
            stores.push(store);
        }
        let ingest = Proxy::listen().await?;
        let ingest_port = free_port()?;
        ingest.lead_to(ingest_port);
        let scene = Layout { wanted, folder: &folder, engine_port, ingest_port, partitions: 4 };
        std::fs::write(folder.join("conf/meters.yaml"), METERS).context("cannot write the meters")?;
        let mut parts = vec![scene.part(ENGINE, "serve", scene.engine(), None, guard.group())?];
        match kafka {
            true => {
                for (client, name) in CLIENTS.into_iter().enumerate() {
                    let store = client.checked_sub(1).map(|aggregator| stores[aggregator].port());
                    let verb = if client == 0 { "collect" } else { "aggregate" };
                    let text = scene.member(name, &doors[client], store);
                    parts.push(scene.part(name, verb, text, clock.as_deref(), guard.group())?);
                }
            }
            false => {
                let text = scene.node(stores[0].port());
                parts.push(scene.part(NODE, "up", text, clock.as_deref(), guard.group())?);
            }
        }
        let addresses = match &cluster {
            Some(cluster) => cluster.lock().await.addresses(),
            None => String::new(),
        };
        let direct = scene.write("direct", &scene.direct(&addresses))?;
        let client = clickhouse::Client::default()
            .with_url(format!("http://127.0.0.1:{engine_port}"))
            .with_user("rentroll")
            .with_password(PASSWORD)
            .with_database("rentroll")
            // Columns by their place: they are expressions without names.
            .with_validation(false);
        Ok(Scene {
            followed: folder.join("followed.log"),
            places: folder.join("places.log"),
            fleet: Fleet::new(parts),
            cluster,
            doors,
            stores,
            ingest,
            client,
            direct,
            partitions: scene.partitions,
            log: wanted.log,
            not_run,
            noted: std::sync::Mutex::new((std::time::Instant::now(), "the brokers were started".to_owned())),
            guard,
            folder,
        })
    }

    /// What there is to hurt here.
    pub(super) fn targets(&self) -> Targets {
        let missing = |kind: &Kind| self.not_run.iter().any(|(not_run, _)| not_run == kind);
        Targets {
            kinds: Kind::of(self.log).into_iter().filter(|kind| !missing(kind)).collect(),
            aggregators: self.stores.len(),
            brokers: self.doors.first().map_or(1, Vec::len),
            clients: if self.log == LogSide::Kafka { CLIENTS.len() } else { 1 },
        }
    }

    /// The aggregator of that number.
    pub(super) fn aggregator(&self, number: usize) -> &'static str {
        match self.log {
            LogSide::Kafka => CLIENTS[1 + number % 2],
            LogSide::Embedded => NODE,
        }
    }

    /// The process of that number among those with a clock.
    pub(super) fn clocked(&self, number: usize) -> &'static str {
        match self.log {
            LogSide::Kafka => CLIENTS[number % CLIENTS.len()],
            LogSide::Embedded => NODE,
        }
    }

    /// The collector, or what holds it.
    pub(super) fn collector(&self) -> &'static str {
        match self.log {
            LogSide::Kafka => CLIENTS[0],
            LogSide::Embedded => NODE,
        }
    }

    /// Runs another verb past all wires; its exit code, and what it printed.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) async fn run(&self, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
        let mut command = Command::new(std::env::current_exe().context("cannot tell which program this is")?);
        command.arg("--config").arg(&self.direct).args(arguments);
        without_settings(&mut command).env("NO_COLOR", "1").stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await?;
        let output = output.with_context(|| format!("cannot run {arguments:?}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    }

    /// Writes down what is done, beside what the parts say.
    pub(super) fn note(&self, what: &str) {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner) =
            (std::time::Instant::now(), what.to_owned());
        let file =
            std::fs::File::options().create(true).append(true).open(self.folder.join("logs/torture.log"));
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        if let Err(error) = file
            .and_then(|mut file| std::io::Write::write_all(&mut file, format!("{now} {what}\n").as_bytes()))
        {
            tracing::warn!(%error, "cannot note what is done");
        }
    }

    /// Waits until nothing was noted for too long, and says what was the last.
    pub(super) async fn standstill(&self) -> String {
        loop {
            let (since, last) = self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(left) = STANDSTILL.checked_sub(since.elapsed()) else {
                return format!("the run stood still for {} s after: {last}", STANDSTILL.as_secs());
            };
            tokio::time::sleep(left).await;
        }
    }

    /// Waits until the engine has its tables.
    ///
    /// # Errors
    /// If it has not after five minutes.
    pub(super) async fn engine_answers(&self) -> anyhow::Result<()> {
        for _ in 0..3_000 {
            if self.client.query("SELECT count() FROM rejects").fetch_one::<u64>().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let said = std::fs::read_to_string(self.folder.join("logs/engine.log")).unwrap_or_default();
        bail!("the ClickHouse engine does not answer; it said: {said}")
    }

    /// Whether the engine writes a part that it has begun. One that does not answer may.
    pub(super) async fn is_engine_writing(&self) -> bool {
        let sql = "SELECT (SELECT count() FROM system.merges) \
                   + (SELECT count() FROM system.processes WHERE query LIKE 'INSERT%')";
        let asked = self.client.query(sql).fetch_one::<u64>();
        let answer = tokio::time::timeout(std::time::Duration::from_secs(1), asked).await;
        !matches!(answer, Ok(Ok(0)))
    }

    /// Ends everything; keeps the folder if asked to.
    pub(super) async fn strike(self, keep: bool) {
        self.fleet.kill_all();
        if let Some(cluster) = self.cluster {
            let cluster = cluster.into_inner();
            for node in (0..cluster.len()).filter(|_| keep) {
                let log = cluster.folder(node).join("broker.log");
                let _ = std::fs::copy(log, self.folder.join(format!("logs/broker-{}.log", node + 1)));
            }
        }
        self.guard.end(keep);
    }
}

/// The brokers, started, each behind its wires.
async fn brokers(
    wanted: &Wanted,
    folder: &Path,
    doors: &[Vec<Proxy>],
    process_group: i32,
) -> anyhow::Result<Cluster> {
    let config = ClusterConfig {
        folder: folder.join("log"),
        nodes: wanted.brokers,
        advertised: (0..wanted.brokers)
            .map(|node| doors.iter().map(|to_brokers| to_brokers[node].port()).collect())
            .collect(),
        process_group,
        libs: wanted.jars.clone(),
    };
    let started = tokio::task::spawn_blocking(move || -> anyhow::Result<Cluster> {
        let mut cluster = Cluster::lay_out(config)?;
        for node in 0..cluster.len() {
            cluster.start(node)?;
        }
        let deadline = std::time::Instant::now() + START_WAIT;
        for node in 0..cluster.len() {
            while !cluster.answers(node) {
                if !cluster.is_running(node) || std::time::Instant::now() > deadline {
                    bail!(cluster.failed(node, "did not start"));
                }
            }
        }
        Ok(cluster)
    });
    let cluster = started.await??;
    for (client, to_brokers) in doors.iter().enumerate() {
        for (node, door) in to_brokers.iter().enumerate() {
            door.lead_to(cluster.door(node, client));
        }
    }
    Ok(cluster)
}

struct Layout<'a> {
    wanted: &'a Wanted,
    folder: &'a Path,
    engine_port: u16,
    ingest_port: u16,
    partitions: u32,
}

impl Layout<'_> {
    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(format!("conf/{name}.toml"));
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn part(
        &self,
        name: &'static str,
        verb: &'static str,
        text: String,
        clock: Option<&Path>,
        process_group: i32,
    ) -> anyhow::Result<Part> {
        let clock = clock.map(|library| (library.to_owned(), self.folder.join(format!("conf/{name}.clock"))));
        if let Some((_, file)) = &clock {
            set_clock(file, 0)?;
        }
        Ok(Part {
            name,
            verb,
            config: self.write(name, &text)?,
            log: self.folder.join(format!("logs/{name}.log")),
            clock,
            process_group,
        })
    }

    fn head(&self, data: &str) -> String {
        let mut text =
            format!("[data]\ndir = {:?}\n[http]\nlisten = \"127.0.0.1:0\"\n", self.folder.join(data));
        let _ = writeln!(text, "[files]\nmeters = \"meters.yaml\"");
        let _ = writeln!(text, "[aggregator]\nbatch_wait_ms = 150\nbatch_records_max = 2000");
        text
    }

    fn engine(&self) -> String {
        let library = self.wanted.library.as_ref().map(|path| format!("library = {path:?}\n"));
        format!(
            "{}[store]\nlisten = \"127.0.0.1:{}\"\npassword = \"{PASSWORD}\"\nmemory_bytes_max = 3221225472\n{}",
            self.head("store"),
            self.engine_port,
            library.unwrap_or_default()
        )
    }

    fn store(&self, port: u16) -> String {
        format!("[store]\nurl = \"http://127.0.0.1:{port}\"\npassword = \"{PASSWORD}\"\n")
    }

    fn kafka(&self, addresses: &str) -> String {
        format!(
            "[log]\nkind = \"kafka\"\npartitions = {}\n[log.kafka]\nbrokers = {addresses:?}\n\
             [log.kafka.client]\n\
             \"consumer.session.timeout.ms\" = \"3000\"\n\"consumer.heartbeat.interval.ms\" = \"500\"\n\
             \"producer.message.timeout.ms\" = \"5000\"\n\"socket.timeout.ms\" = \"3000\"\n\
             \"reconnect.backoff.max.ms\" = \"500\"\n\"producer.retry.backoff.max.ms\" = \"300\"\n\
             \"topic.metadata.refresh.interval.ms\" = \"5000\"\n",
            self.partitions
        )
    }

    fn source(&self) -> String {
        let (followed, places) = (self.folder.join("followed.log"), self.folder.join("places.log"));
        format!(
            "[collector.http]\nlisten = \"127.0.0.1:{}\"\n\
             [[collector.sources]]\nname = \"{}\"\nkind = \"log\"\npaths = [{followed:?}]\nformat = \"cloudevents\"\ntenant = \"subject\"\n\
             [[collector.sources]]\nname = \"{}\"\nkind = \"log\"\npaths = [{places:?}]\nformat = \"json\"\nevent_type = \"{}\"\nfields = {{ measures = [\"n\"] }}\n",
            self.ingest_port,
            super::traffic::LOG_SOURCE,
            super::lines::SOURCE,
            super::lines::EVENT_TYPE
        )
    }

    fn member(&self, name: &str, doors: &[Proxy], store: Option<u16>) -> String {
        let brokers: Vec<String> = doors.iter().map(|door| format!("127.0.0.1:{}", door.port())).collect();
        let mut text = self.head(name) + &self.kafka(&brokers.join(","));
        match store {
            Some(port) => text += &self.store(port),
            None => text += &self.source(),
        }
        text
    }

    fn node(&self, store: u16) -> String {
        let log = format!("[log]\nkind = \"embedded\"\npartitions = {}\n", self.partitions);
        self.head("log") + &log + &self.store(store) + &self.source()
    }

    fn direct(&self, addresses: &str) -> String {
        let log = if addresses.is_empty() { String::new() } else { self.kafka(addresses) };
        self.head("direct") + &log + &self.store(self.engine_port)
    }
}

/// A file system of its own, small enough to be filled. Root may mount one; for others `unshare --mount
/// --map-root-user rentroll torture …` makes a root that may.
fn mount(folder: &Path) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("needs root, or `unshare --mount --map-root-user` before the command, for a disk of its own");
    }
    let output = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={DISK_BYTES}"), "tmpfs"])
        .arg(folder)
        .output()
        .context("cannot run mount")?;
    if !output.status.success() {
        bail!("cannot mount a small disk: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// How much room a small disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// All of its own.
    Ample,
    /// Hardly any.
    Filling,
    /// None.
    Full,
}

/// Changes the room on a small disk. No memory is taken for it.
///
/// # Errors
/// If it is no disk of its own.
pub(super) fn set_room(folder: &Path, room: Room) -> anyhow::Result<()> {
    let mut said = String::new();
    // What is written in between makes the new size too small, which is refused.
    for _ in 0..20 {
        let disk = rustix::fs::statvfs(folder).context("cannot ask for the room on a disk")?;
        let used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize;
        let size = match room {
            Room::Ample => DISK_BYTES,
            Room::Filling => used + FILLING_BYTES,
            Room::Full => used + FULL_BYTES,
        };
        let output = Command::new("mount")
            .args(["-o", &format!("remount,size={size}")])
            .arg(folder)
            .output()
            .context("cannot run mount")?;
        if output.status.success() {
            return Ok(());
        }
        said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    }
    bail!("cannot change the size of the disk at {}: {said}", folder.display())
}

fn clock_library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    folders.flatten().map(|folder| folder.path().join(CLOCK_LIBRARY)).find(|path| path.is_file())
}

/// Ends every process of the run and takes its disks away, however this process ends.
#[derive(Debug)]
struct Guard {
    /// A process that does nothing: the group is named after it, and so named after nothing else while it lives.
    anchor: Child,
    shell: Child,
    folder: PathBuf,
}

const GUARD: &str = r#"
cat >/dev/null
kill -9 -- "-$1" 2>/dev/null
sleep 0.3
umount -l "$2/store" "$2/log" 2>/dev/null
rm -rf "$2"
"#;

impl Guard {
    fn over(folder: &Path) -> anyhow::Result<Self> {
        let anchor = Command::new("sleep")
            .arg("infinity")
            .process_group(0)
            .stdin(Stdio::null())
            // Who reads what this process says must not wait for one that says nothing.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a process group")?;
        let shell = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard", &anchor.id().to_string()])
            .arg(folder)
            // Ctrl-C ends this process, and the guard must outlive it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a guard")?;
        Ok(Guard { anchor, shell, folder: folder.to_owned() })
    }

    fn group(&self) -> i32 {
        self.anchor.id() as i32
    }

    /// The orderly end.
    fn end(mut self, keep: bool) {
        if keep {
            // Only the logs and the configuration are worth keeping once the disks go.
            let _ = self.shell.kill();
            for disk in ["store", "log"] {
                let _ = Command::new("umount")
                    .arg("-l")
                    .arg(self.folder.join(disk))
                    .stderr(Stdio::null())
                    .status();
            }
        } else {
            drop(self.shell.stdin.take());
        }
        let _ = self.shell.wait();
        let _ = self.anchor.kill();
        let _ = self.anchor.wait();
    }
}
