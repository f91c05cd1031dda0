//! The servers that are measured: our collector, and Benthos; each on a port of its own, in a folder of its own.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::verbs::bench::events::{self, SOURCE};
use crate::verbs::bench::measured::measure;
use crate::verbs::bench::process::Watched;
use crate::verbs::bench::this_binary;

/// How long a server may take until it listens. Ours joins a Kafka cluster first.
const START_WAIT: Duration = Duration::from_secs(30);

/// What a server acknowledges by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Our collector, by the embedded log's group commit.
    Embedded,
    /// Our collector, by Kafka's acks=all.
    Kafka,
    /// Benthos, by Kafka's acks=all.
    Benthos,
}

impl Side {
    pub(super) fn name(self) -> &'static str {
        match self {
            Side::Embedded => "rentroll collect, fsync",
            Side::Kafka => "rentroll collect, Kafka acks=all",
            Side::Benthos => "Benthos 4.27.0, Kafka acks=all",
        }
    }
}

/// A server that listens.
pub(super) struct Server {
    pub(super) process: Watched,
    pub(super) address: SocketAddr,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

/// Where servers find what they need.
pub(super) struct Place<'a> {
    pub(super) folder: &'a Path,
    pub(super) brokers: &'a str,
    pub(super) prefix: &'a str,
    pub(super) partitions: u32,
    pub(super) benthos: PathBuf,
}

impl Place<'_> {
    /// Starts one, and waits until it takes connections.
    pub(super) fn start(&self, side: Side) -> anyhow::Result<Server> {
        let address = SocketAddr::from(([127, 0, 0, 1], rentroll_testing::free_port()?));
        let mut headers = vec![("content-type".to_owned(), "application/cloudevents-batch+json".to_owned())];
        let mut command = match side {
            Side::Benthos => self.benthos(address)?,
            Side::Embedded | Side::Kafka => {
                let config = self.config(side, address)?;
                headers.push(("authorization".to_owned(), format!("Bearer {}", token(&config)?)));
                let mut command = rentroll(&config)?;
                command.arg("collect");
                command
            }
        };
        let process = Watched::spawn(&mut command)?;
        let server = Server { process, address, path: "/v1/events".to_owned(), headers };
        server.listening(side)
    }

    fn benthos(&self, address: SocketAddr) -> anyhow::Result<Command> {
        let config = self.folder.join("benthos.yaml");
        let text = include_str!("benthos.yaml")
            .replace("ADDRESS", &address.to_string())
            .replace("BROKERS", self.brokers)
            .replace("TOPIC", &format!("{}usage", self.prefix));
        std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let mut command = Command::new(&self.benthos);
        command.arg("-c").arg(config);
        Ok(command)
    }

    fn config(&self, side: Side, address: SocketAddr) -> anyhow::Result<PathBuf> {
        let (name, log) = match side {
            Side::Kafka => (
                "kafka",
                format!(
                    "kind = \"kafka\"\npartitions = {}\n[log.kafka]\nbrokers = {:?}\nprefix = {:?}\n",
                    self.partitions, self.brokers, self.prefix
                ),
            ),
            _ => ("embedded", format!("kind = \"embedded\"\npartitions = {}\n", self.partitions)),
        };
        std::fs::write(self.folder.join("meters.yaml"), serde_json::to_string(&events::meters())?)?;
        let config = self.folder.join(format!("{name}.toml"));
        let text = format!(
            "[data]\ndir = \"{name}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[collector.http]\nlisten = \"{address}\"\n[log]\n{log}"
        );
        std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        Ok(config)
    }
}

/// A credential for all events of the benchmark: a trusted source speaks for many tenants.
fn token(config: &Path) -> anyhow::Result<String> {
    let made = measure(rentroll(config)?.args(["tokens", "create", "--source", SOURCE, "--json"]))?;
    let made: serde_json::Value = serde_json::from_slice(&made.output.stdout)?;
    let secret = made["secret"].as_str().context("`tokens create` printed no secret")?;
    Ok(secret.to_owned())
}

fn rentroll(config: &Path) -> anyhow::Result<Command> {
    let mut command = this_binary()?;
    command.arg("--config").arg(config);
    Ok(command)
}

impl Server {
    fn listening(mut self, side: Side) -> anyhow::Result<Self> {
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if self.process.has_ended()? {
                return Err(self
                    .process
                    .wait()
                    .err()
                    .unwrap_or_else(|| anyhow::anyhow!("{} ended", side.name())));
            }
            anyhow::ensure!(
                begun.elapsed() < START_WAIT,
                "{} does not listen at {}",
                side.name(),
                self.address
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }
}
