//! Installing what a purpose needs, and nothing that is there already.

use anyhow::{Context as _, Result};

use crate::node::Node;
use crate::process::{Run, say};
use crate::python::Python;
use crate::{benthos, cache, chdb, debian, kafka, node, python};

/// What the machine is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Building `rentroll` and running its demo.
    Demo,
    /// That, and every test.
    Test,
}

impl Purpose {
    /// Whether this purpose needs what `other` needs.
    pub(crate) fn includes(self, other: Purpose) -> bool {
        self == Purpose::Test || other == Purpose::Demo
    }
}

/// Where the things are that the tests use.
pub(crate) struct TestTools {
    /// The ClickHouse engine library.
    pub(crate) chdb_library: std::path::PathBuf,
    /// The folder of Kafka's jars.
    pub(crate) kafka_jars: std::path::PathBuf,
    /// The Python environment.
    pub(crate) python: Python,
    /// That of LiteLLM.
    pub(crate) litellm: Python,
    /// Node.js.
    pub(crate) node: Node,
}

impl TestTools {
    /// The machine's Go if it is new enough, else the pinned one.
    pub(crate) fn go(&self) -> Run {
        const MINOR_MIN: u32 = 26;
        // "go version go1.26.6 linux/amd64"; GOTOOLCHAIN keeps it from fetching another toolchain for itself.
        let version = Run::new("go").arg("version").env("GOTOOLCHAIN", "local").output().unwrap_or_default();
        let minor = version
            .split("go1.")
            .nth(1)
            .and_then(|rest| rest.split(['.', ' ', 'r', 'b']).next()?.parse().ok());
        let is_new_enough = minor.is_some_and(|minor: u32| minor >= MINOR_MIN);
        let program = if is_new_enough { "go".into() } else { self.python.program("go") };
        Run::new(program).env("GOTOOLCHAIN", "local")
    }
}

/// `cargo xtask install`.
pub(crate) fn run(purpose: Purpose) -> Result<()> {
    match purpose {
        Purpose::Demo => for_demo()?,
        Purpose::Test => drop(for_test()?),
    }
    say("everything needed is installed");
    Ok(())
}

/// What the demo needs.
pub(crate) fn for_demo() -> Result<()> {
    if debian::is_ready(Purpose::Demo) && chdb::is_ready()? {
        return Ok(());
    }
    let _lock = cache::lock()?;
    debian::ensure(Purpose::Demo)?;
    chdb::ensure().context("the ClickHouse engine library could not be installed")?;
    Ok(())
}

/// What the tests need.
pub(crate) fn for_test() -> Result<TestTools> {
    let _lock = cache::lock()?;
    debian::ensure(Purpose::Test)?;
    Ok(TestTools {
        chdb_library: chdb::ensure().context("the ClickHouse engine library could not be installed")?,
        kafka_jars: kafka::BROKER.ensure().context("the Kafka broker of the tests could not be installed")?,
        python: python::ensure().context("the Python environment of the tests could not be installed")?,
        litellm: python::ensure_litellm().context("LiteLLM could not be installed")?,
        node: node::ensure().context("the Node modules of the tests could not be installed")?,
    })
}

/// What the benchmarks need: the real parts that the tests use, and the peers.
pub(crate) fn for_bench() -> Result<TestTools> {
    let tools = for_test()?;
    let _lock = cache::lock()?;
    kafka::TOOLS.ensure().context("Kafka's load tools could not be installed")?;
    benthos::ensure(&tools).context("the peer Benthos could not be built")?;
    Ok(tools)
}
