//! A set-up of its own for each test: a folder, a configuration, and the binary to run on it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rentroll_engines::store::{Store, StoreConfig};
use rentroll_testing::{free_port, wait_until};
use serde::de::DeserializeOwned;

pub(crate) const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/access-log");

/// A set-up.
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    config: PathBuf,
    variables: Vec<(String, String)>,
}

impl Rig {
    /// The example's configuration, with data in a folder of the test's own.
    pub(crate) fn example() -> Rig {
        let mut rig = Rig::with_config(None);
        rig.config = Path::new(EXAMPLE).join("rentroll.toml");
        rig
    }

    /// A source `web` that follows `log` (a path in the rig's folder), with the example's meters and prices.
    pub(crate) fn following(log: &str) -> Rig {
        let source = format!(
            "[[collector.sources]]\nname = \"web\"\nkind = \"log\"\npaths = [\"{log}\"]\nformat = \"combined\"\nbackfill = true\n"
        );
        Rig::with_config(Some(&source))
    }

    /// Takes events over HTTP, at the address returned.
    pub(crate) fn receiving(config: &str) -> (Rig, SocketAddr) {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let mut rig = Rig::with_config(Some(config));
        rig.set("collector.http.listen", &address.to_string());
        (rig, address)
    }

    /// With this configuration; an empty one if there is none.
    pub(crate) fn with_config(config: Option<&str>) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        for file in ["meters.yaml", "catalogue.yaml", "costs.yaml"] {
            std::fs::copy(Path::new(EXAMPLE).join(file), dir.path().join(file)).unwrap();
        }
        let path = dir.path().join("rentroll.toml");
        std::fs::write(&path, config.unwrap_or_default()).unwrap();
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let variables = vec![
            set("RENTROLL_DATA__DIR", &dir.path().join("data").to_string_lossy()),
            set("RENTROLL_STORE__LISTEN", "127.0.0.1:0"),
            set("RENTROLL_HTTP__LISTEN", "127.0.0.1:0"),
            set("NO_COLOR", "1"),
        ];
        Rig { dir, config: path, variables }
    }

    /// Sets a key over the configuration: `log.kind` as `RENTROLL_LOG__KIND`.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.variables
            .push((format!("RENTROLL_{}", key.to_uppercase().replace('.', "__")), value.to_owned()));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rentroll"));
        command.arg("--config").arg(&self.config).args(arguments).envs(self.variables.iter().cloned());
        command.stdin(Stdio::null());
        command
    }

    /// Runs to its end, whatever that is.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs, and must succeed; returns stdout.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?} ended with {}: {said}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs, must succeed, and must print JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// Runs, must fail with this exit code; returns what it said.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    /// Starts a part in the background. What it says goes to a file: nobody would empty a pipe.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        self.start(self.command(arguments))
    }

    /// As [`Rig::spawn`], for a command that has more to it.
    pub(crate) fn start(&self, mut command: Command) -> Running {
        let said = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        let stderr = said.reopen().unwrap();
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        Running { child, said }
    }

    /// Serves the store, and asks it: one query, one column or a tuple of them.
    pub(crate) fn query<T>(&self, sql: &str) -> T
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        let _serving = self.spawn(&["serve"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = self.serving_store().await;
            store.client().query(sql).fetch_one::<T>().await.unwrap()
        })
    }

    /// Serves the store, and changes it.
    pub(crate) fn execute(&self, sql: &str) {
        let _serving = self.spawn(&["serve"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = self.serving_store().await;
            store.client().query_raw(sql).execute().await.unwrap();
        });
    }

    /// The store as the serving process publishes it. Never opens the engine in this process: it holds one
    /// folder per process, and the tests run side by side.
    async fn serving_store(&self) -> Store {
        let data = self.path("data");
        let face = data.join("clickhouse/face.json");
        for _ in 0..400 {
            if let Ok(text) = std::fs::read(&face)
                && let Ok(face) = serde_json::from_slice::<serde_json::Value>(&text)
            {
                let of = |key: &str| face[key].as_str().unwrap_or_default().to_owned();
                let config = StoreConfig {
                    url: Some(of("url")),
                    user: of("user"),
                    password: Some(of("password")),
                    ..StoreConfig::embedded(&data)
                };
                if let Ok(store) = Store::open(&config).await {
                    return store;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nothing serves {}", data.display());
    }
}

/// A background process, ended with the test.
pub(crate) struct Running {
    pub(crate) child: Child,
    said: tempfile::NamedTempFile,
}

impl Running {
    /// What it has said until now.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.said.path()).unwrap_or_default()).into_owned()
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        // SIGTERM first: an engine that is closed in order reopens faster, and the next query needs it.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let ended = wait_until(Duration::from_secs(20), || self.child.try_wait().ok().flatten());
        if ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A field of JSON.
pub(crate) fn field<T: DeserializeOwned>(value: &serde_json::Value, pointer: &str) -> T {
    let found = value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {value}"));
    serde_json::from_value(found.clone()).unwrap_or_else(|error| panic!("{pointer}: {error} in {found}"))
}
