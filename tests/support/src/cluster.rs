//! A real Apache Kafka cluster of one or three nodes, each of which can be killed, stopped and started again.
//!
//! Beside the listener by which the nodes and an administrator speak to a node, each has one *door* per client:
//! a listener whose advertised port is another than the one it listens on. Who puts a proxy between the two can
//! cut that one client off, and no other.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::free_port;
use crate::kafka::{BrokerError, libs};

/// What a cluster is to be.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// A folder of its own; each node's data and log come below it.
    pub folder: PathBuf,
    /// How many nodes: 1 or 3.
    pub nodes: usize,
    /// Ports that the doors advertise: for each node, one per client.
    pub advertised: Vec<Vec<u16>>,
    /// The process group of the nodes, so that whoever guards it ends them; 0 for one of each node's own.
    pub process_group: i32,
    /// The folder of the jars, if it is not where [`libs`] looks.
    pub libs: Option<PathBuf>,
}

/// A cluster. Dropping it kills its nodes.
#[derive(Debug)]
pub struct Cluster {
    config: ClusterConfig,
    libs: PathBuf,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    folder: PathBuf,
    port: u16,
    controller: u16,
    doors: Vec<u16>,
    child: Option<Child>,
}

impl Cluster {
    /// Lays the nodes out and formats their storage; starts none.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub fn lay_out(config: ClusterConfig) -> Result<Self, BrokerError> {
        let libs = match &config.libs {
            Some(libs) if libs.is_dir() => libs.clone(),
            Some(libs) => return Err(BrokerError::NoJars(libs.clone())),
            None => libs()?,
        };
        let port = || free_port().map_err(io_error("find a free port"));
        let mut nodes = Vec::new();
        for number in 1..=config.nodes {
            let folder = config.folder.join(format!("broker-{number}"));
            fs::create_dir_all(&folder).map_err(io_error("make a broker's folder"))?;
            let clients = config.advertised.get(number - 1).map_or(0, Vec::len);
            let doors = (0..clients).map(|_| port()).collect::<Result<_, _>>()?;
            nodes.push(Node { folder, port: port()?, controller: port()?, doors, child: None });
        }
        let cluster = Cluster { config, libs, nodes };
        for number in 0..cluster.nodes.len() {
            fs::write(cluster.nodes[number].folder.join("server.properties"), cluster.properties(number))
                .map_err(io_error("write server.properties"))?;
            let status = cluster
                .java(number, "kafka.tools.StorageTool", &["format", "-t", "cmVudHJvbGwtY2x1c3Rlcg", "-c"])
                .and_then(|mut command| command.status())
                .map_err(io_error("start java (Java 17 or newer is needed)"))?;
            if !status.success() {
                return Err(cluster.failed(number, "could not format its storage"));
            }
        }
        Ok(cluster)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A cluster has at least one node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// `host:port` of every node, for an administrator.
    pub fn addresses(&self) -> String {
        let all: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        all.join(",")
    }

    /// Where node `number` really listens for client `client`.
    pub fn door(&self, number: usize, client: usize) -> u16 {
        self.nodes[number].doors[client]
    }

    /// The folder that holds a node's data.
    pub fn folder(&self, number: usize) -> &Path {
        &self.nodes[number].folder
    }

    /// Starts a node if it is not running; does not wait until it answers.
    ///
    /// # Errors
    /// If java cannot be started.
    pub fn start(&mut self, number: usize) -> Result<(), BrokerError> {
        if self.is_running(number) {
            return Ok(());
        }
        let child = self
            .java(number, "kafka.Kafka", &[])
            .and_then(|mut command| command.spawn())
            .map_err(io_error("start java (Java 17 or newer is needed)"))?;
        self.nodes[number].child = Some(child);
        Ok(())
    }

    /// kill -9: what it had not written is gone.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.nodes[number].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The process of a node, if it was started and not seen to have ended.
    pub fn pid(&self, number: usize) -> Option<u32> {
        self.nodes[number].child.as_ref().map(Child::id)
    }

    /// Whether the process of a node is there.
    pub fn is_running(&mut self, number: usize) -> bool {
        let node = &mut self.nodes[number];
        let ended = node.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if ended {
            node.child = None;
        }
        !ended
    }

    /// Sets the committed positions of `group` in all partitions of `topics`
    /// to `offset`. No member may be there. Blocking.
    ///
    /// # Errors
    /// What Kafka says, for instance that the group has members.
    pub fn commit(
        &self,
        group: &str,
        topics: &[&str],
        partitions: u32,
        offset: i64,
    ) -> Result<(), rdkafka::error::KafkaError> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.addresses())
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .create()?;
        let mut list = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..partitions {
                list.add_partition_offset(topic, partition as i32, Offset::Offset(offset))?;
            }
        }
        consumer.commit(&list, CommitMode::Sync)
    }

    /// Records of the topics that `group` has not committed. Blocking.
    ///
    /// # Errors
    /// What Kafka says.
    pub fn lag(
        &self,
        group: &str,
        topics: &[&str],
        partitions: u32,
        wait: Duration,
    ) -> Result<i64, rdkafka::error::KafkaError> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.addresses())
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .create()?;
        let mut list = TopicPartitionList::new();
        for topic in topics {
            list.add_partition_range(topic, 0, partitions as i32 - 1);
        }
        let mut lag = 0;
        for element in consumer.committed_offsets(list, wait)?.elements() {
            let (first, end) = consumer.fetch_watermarks(element.topic(), element.partition(), wait)?;
            let committed = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => first,
            };
            lag += (end - committed).max(0);
        }
        Ok(lag)
    }

    /// Whether node `number` answers, and all nodes know of each other. Blocking.
    pub fn answers(&self, number: usize) -> bool {
        let address = format!("127.0.0.1:{}", self.nodes[number].port);
        let client: Result<BaseConsumer, _> = ClientConfig::new().set("bootstrap.servers", address).create();
        client.is_ok_and(|client| {
            client
                .fetch_metadata(None, Duration::from_secs(2))
                .is_ok_and(|metadata| metadata.brokers().len() == self.nodes.len())
        })
    }

    /// The error that a node's failure is, with the end of its log.
    pub fn failed(&self, number: usize, what: &str) -> BrokerError {
        let log = fs::read_to_string(self.nodes[number].folder.join("broker.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default();
        BrokerError::Failed { what: what.to_owned(), log: tail.join("\n") }
    }

    /// Runs `class` with `arguments` and the node's properties; its output goes to the node's log.
    fn java(&self, number: usize, class: &str, arguments: &[&str]) -> io::Result<Command> {
        use std::os::unix::process::CommandExt as _;
        let folder = &self.nodes[number].folder;
        let log = File::options().create(true).append(true).open(folder.join("broker.log"))?;
        let mut command = Command::new("java");
        command
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(self.libs.join("*"))
            .arg(class)
            .args(arguments)
            .arg(folder.join("server.properties"))
            .current_dir(folder)
            .process_group(self.config.process_group)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }

    /// Broker and controller in one, with timeouts that let it come back soon after kill -9.
    fn properties(&self, number: usize) -> String {
        let node = &self.nodes[number];
        let quorum: Vec<String> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| format!("{}@127.0.0.1:{}", index + 1, node.controller))
            .collect();
        let clients = 0..node.doors.len();
        let doors: String = clients
            .clone()
            .map(|client| format!(",DOOR{client}://127.0.0.1:{}", node.doors[client]))
            .collect();
        let advertised: String = clients
            .clone()
            .map(|client| format!(",DOOR{client}://127.0.0.1:{}", self.config.advertised[number][client]))
            .collect();
        let protocols: String = clients.map(|client| format!(",DOOR{client}:PLAINTEXT")).collect();
        let copies = self.nodes.len().min(3);
        format!(
            "\
process.roles=broker,controller
node.id={id}
controller.quorum.voters={quorum}
listeners=DIRECT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{doors}
advertised.listeners=DIRECT://127.0.0.1:{port}{advertised}
controller.listener.names=CONTROLLER
inter.broker.listener.name=DIRECT
listener.security.protocol.map=DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=4000
controlled.shutdown.max.retries=1
",
            id = number + 1,
            quorum = quorum.join(","),
            port = node.port,
            controller = node.controller,
            data = node.folder.join("data").display(),
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for number in 0..self.nodes.len() {
            self.kill(number);
        }
    }
}

fn io_error(what: &str) -> impl FnOnce(io::Error) -> BrokerError {
    let what = what.to_owned();
    move |source| BrokerError::Io { what, source }
}
