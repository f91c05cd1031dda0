//! A real Apache Kafka broker: KRaft, one node, in a folder of its own.
//!
//! Its jars are looked for in `$RENTROLL_KAFKA_LIBS`, else in the cache folder; `cargo xtask test` puts them
//! there. Without them a test fails and says so: it never passes by skipping.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tempfile::TempDir;

use crate::guard::Guard;
use crate::tls::{Keys, PASSWORD};
use crate::{free_port, wait_until};

/// The version that the tests run against.
pub const VERSION: &str = "4.4.0";
/// Starting takes 2.3 s on an idle machine, after kill -9 4.5 s; a loaded one gets much more.
const START_WAIT: Duration = Duration::from_secs(90);
const STOP_WAIT: Duration = Duration::from_secs(30);

/// Why no broker could be had.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Its jars are not there.
    #[error(
        "no Kafka jars in {0}: `cargo xtask test` installs them; RENTROLL_KAFKA_LIBS can name their folder"
    )]
    NoJars(PathBuf),
    /// The system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended, or answered nothing in time.
    #[error("the Kafka broker {what}; the end of its log:\n{log}")]
    Failed {
        /// What it did.
        what: String,
        /// Its last lines.
        log: String,
    },
}

/// A broker. Dropping it kills it.
#[derive(Debug)]
pub struct Broker {
    folder: TempDir,
    libs: PathBuf,
    port: u16,
    doors: Option<Doors>,
    running: Option<Running>,
}

/// Listeners that ask who is there, beside the open one.
#[derive(Debug)]
struct Doors {
    keys: Keys,
    /// TLS, and a certificate that the broker trusts.
    certificate: u16,
    /// TLS, and a user with a password, by PLAIN or SCRAM-SHA-512.
    password: u16,
}

/// The user whom [`Broker::start_secure`] knows.
pub const USER: &str = "alice";
/// That user's password.
pub const USER_PASSWORD: &str = "alice's secret";

#[derive(Debug)]
struct Running {
    child: Child,
    _guard: Guard,
}

impl Broker {
    /// Starts a broker and waits until it answers.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub fn start() -> Result<Self, BrokerError> {
        Broker::start_with(false)
    }

    /// One that has two more listeners, by TLS: [`by_certificate`](Broker::by_certificate) and
    /// [`by_password`](Broker::by_password).
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub fn start_secure() -> Result<Self, BrokerError> {
        Broker::start_with(true)
    }

    fn start_with(secure: bool) -> Result<Self, BrokerError> {
        let libs = libs()?;
        let io = |what: &str| {
            let what = what.to_owned();
            move |source| BrokerError::Io { what, source }
        };
        let folder = tempfile::Builder::new()
            .prefix("rentroll-kafka-")
            .tempdir()
            .map_err(io("make a folder for the Kafka broker"))?;
        let port = free_port().map_err(io("find a free port"))?;
        let controller = free_port().map_err(io("find a free port"))?;
        let doors = match secure {
            false => None,
            true => Some(Doors {
                keys: Keys::make(folder.path()).map_err(io("make keys with keytool"))?,
                certificate: free_port().map_err(io("find a free port"))?,
                password: free_port().map_err(io("find a free port"))?,
            }),
        };
        let properties = properties(folder.path(), port, controller, doors.as_ref());
        fs::write(folder.path().join("server.properties"), properties)
            .map_err(io("write server.properties"))?;
        let mut broker = Broker { folder, libs, port, doors, running: None };
        broker.format()?;
        broker.restart()?;
        Ok(broker)
    }

    /// The one broker that all tests of this process share, for those that do not disturb it. They keep apart
    /// by the prefix of their topics.
    ///
    /// # Panics
    /// If it cannot be started: that is the failure of the test that asked for it.
    pub fn shared() -> String {
        static SHARED: OnceLock<Mutex<Option<Broker>>> = OnceLock::new();
        let mut shared = SHARED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        match shared.as_ref() {
            Some(broker) => broker.address(),
            None => match Broker::start() {
                Ok(broker) => shared.insert(broker).address(),
                Err(error) => panic!("{error}"),
            },
        }
    }

    /// `host:port`; the same after a restart.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process, while it runs.
    pub fn process(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// `host:port` where a client shows a certificate.
    ///
    /// # Panics
    /// If this broker was not started by [`Broker::start_secure`].
    pub fn by_certificate(&self) -> String {
        format!("127.0.0.1:{}", self.doors().certificate)
    }

    /// `host:port` where a client gives [`USER`] and [`USER_PASSWORD`].
    ///
    /// # Panics
    /// If this broker was not started by [`Broker::start_secure`].
    pub fn by_password(&self) -> String {
        format!("127.0.0.1:{}", self.doors().password)
    }

    /// The keys of this broker and of its clients.
    ///
    /// # Panics
    /// If this broker was not started by [`Broker::start_secure`].
    pub fn keys(&self) -> &Keys {
        &self.doors().keys
    }

    fn doors(&self) -> &Doors {
        match &self.doors {
            Some(doors) => doors,
            None => panic!("this broker has only its open listener"),
        }
    }

    /// SIGTERM, as an operator would; returns when it has ended.
    ///
    /// # Errors
    /// If it is still there after 30 s.
    pub fn stop(&mut self) -> Result<(), BrokerError> {
        let Some(running) = self.running.as_mut() else {
            return Ok(());
        };
        let pid = running.child.id().to_string();
        let status = Command::new("kill").arg(&pid).status();
        status.map_err(|source| BrokerError::Io { what: format!("kill {pid}"), source })?;
        let ended = wait_until(STOP_WAIT, || running.child.try_wait().ok().flatten());
        match ended {
            Some(_) => {
                self.running = None;
                Ok(())
            }
            None => Err(self.failed("did not stop")),
        }
    }

    /// kill -9: what it had not written is gone.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again on the same port and data, and waits until it answers.
    ///
    /// # Errors
    /// If it ends or does not answer in time.
    pub fn restart(&mut self) -> Result<(), BrokerError> {
        self.running = None;
        let io = |source| BrokerError::Io { what: "start java (Java 17 or newer is needed)".into(), source };
        let child = self.java("kafka.Kafka", &[]).map_err(io)?.spawn().map_err(io)?;
        let guard = Guard::over(child.id(), self.folder.path()).map_err(io)?;
        self.running = Some(Running { child, _guard: guard });
        let mut ended = None;
        let answered = wait_until(START_WAIT, || {
            ended = self.running.as_mut().and_then(|running| running.child.try_wait().ok().flatten());
            (ended.is_some() || self.answers()).then_some(())
        });
        match (ended, answered) {
            (Some(status), _) => Err(self.failed(&describe(status))),
            (None, None) => Err(self.failed("did not answer in time")),
            (None, Some(())) => Ok(()),
        }
    }

    fn answers(&self) -> bool {
        let client: Result<BaseConsumer, _> =
            ClientConfig::new().set("bootstrap.servers", self.address()).create();
        client.is_ok_and(|client| {
            client.fetch_metadata(None, Duration::from_secs(2)).is_ok_and(|metadata| {
                metadata.brokers().iter().any(|broker| broker.port() == i32::from(self.port))
            })
        })
    }

    fn format(&self) -> Result<(), BrokerError> {
        let io = |source| BrokerError::Io { what: "start java (Java 17 or newer is needed)".into(), source };
        let user = format!("SCRAM-SHA-512=[name={USER},password={USER_PASSWORD}]");
        let add_user = ["--add-scram", user.as_str()];
        let users: &[&str] = if self.doors.is_some() { &add_user } else { &[] };
        let status = self
            .java(
                "kafka.tools.StorageTool",
                &[&["format", "-t", "cmVudHJvbGwtdGVzdGluZw"], users, &["-c"]].concat(),
            )
            .map_err(io)?
            .status()
            .map_err(io)?;
        if status.success() { Ok(()) } else { Err(self.failed("could not format its storage")) }
    }

    /// Runs `class` with `arguments` and the properties file; its output goes to the broker's log.
    fn java(&self, class: &str, arguments: &[&str]) -> io::Result<Command> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new("java");
        command
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(self.libs.join("*"))
            .arg(class)
            .args(arguments)
            .arg(self.folder.path().join("server.properties"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("broker.log")
    }

    fn failed(&self, what: &str) -> BrokerError {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default();
        BrokerError::Failed { what: what.to_owned(), log: tail.join("\n") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn describe(status: ExitStatus) -> String {
    format!("ended at once ({status})")
}

/// The folder of the broker's jars.
///
/// # Errors
/// [`BrokerError::NoJars`] if they are not there.
pub fn libs() -> Result<PathBuf, BrokerError> {
    let folder = match std::env::var_os("RENTROLL_KAFKA_LIBS") {
        Some(folder) => PathBuf::from(folder),
        None => crate::cache_folder().join(format!("kafka-{VERSION}/lib")),
    };
    let jar = folder.join(format!("kafka_2.13-{VERSION}.jar"));
    if jar.is_file() { Ok(folder) } else { Err(BrokerError::NoJars(folder)) }
}

/// One node that is broker and controller, with timeouts that let it come back soon after kill -9.
fn properties(folder: &Path, port: u16, controller: u16, doors: Option<&Doors>) -> String {
    let data = folder.join("data");
    let (listeners, protocols, security) = match doors {
        None => Default::default(),
        Some(doors) => (
            format!(",CERT://127.0.0.1:{},USER://127.0.0.1:{}", doors.certificate, doors.password),
            ",CERT:SSL,USER:SASL_SSL",
            security(&doors.keys),
        ),
    };
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{listeners}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
group.consumer.min.session.timeout.ms=500
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
{security}",
        data = data.display()
    )
}

/// What the listeners with a question need to know. A value of a properties file ends with its line, and a
/// quote in a JAAS value is its end: [`USER_PASSWORD`] has neither `"` nor a line break.
fn security(keys: &Keys) -> String {
    let (server, trust) = (keys.store("server"), keys.store("trust"));
    format!(
        "\
inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PKCS12
ssl.keystore.location={server}
ssl.keystore.password={PASSWORD}
ssl.key.password={PASSWORD}
ssl.truststore.type=PKCS12
ssl.truststore.location={trust}
ssl.truststore.password={PASSWORD}
listener.name.cert.ssl.client.auth=required
listener.name.user.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.user.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{USER}=\"{USER_PASSWORD}\";
listener.name.user.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
",
        server = server.display(),
        trust = trust.display(),
    )
}
