//! A real `rentroll demo` or `rentroll up`, left running, for the steps that look at it from outside.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::cache;
use crate::process::{Run, say};
use crate::workspace;

/// Ten thousand lines through an unoptimised binary take seconds; a machine busy with a build takes longer.
const START_WAIT_MAX: Duration = Duration::from_secs(180);
/// An orderly end closes the engine; past this it is killed.
const STOP_WAIT_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// A demo whose page answers. Ended when dropped.
pub(crate) struct Chain {
    child: Child,
    /// The page's address, as printed.
    pub(crate) page: String,
    /// Address, user and password of its store.
    pub(crate) store: StoreAccess,
}

/// How to reach a store over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreAccess {
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl StoreAccess {
    /// From the JSON object that a face writes or prints.
    pub(crate) fn from_json(json: &str) -> Result<Self> {
        let text = |key: &str| {
            json_text(json, key).with_context(|| format!("no text `{key}` in the face's description"))
        };
        Ok(StoreAccess { url: text("url")?, user: text("user")?, password: text("password")? })
    }

    /// The environment by which the foreign clients and the dashboards' checks find it.
    pub(crate) fn add_to(&self, run: Run) -> Run {
        run.env("RENTROLL_STORE_URL", &self.url)
            .env("RENTROLL_STORE_USER", &self.user)
            .env("RENTROLL_STORE_PASSWORD", &self.password)
    }
}

impl Chain {
    /// Starts the demo of the development build on an empty data folder, and waits for its page.
    pub(crate) fn start(chdb_library: &Path) -> Result<Self> {
        let scratch = workspace::target().join("xtask/chain");
        cache::remove(&scratch)?;
        fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        let data = scratch.join("data");
        let log_path = scratch.join("demo.log");
        let log = File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
        say(format_args!("starting rentroll demo; its output goes to {}", log_path.display()));
        let child = rentroll()
            .args(["demo", "--data"])
            .arg(&data)
            .env("RENTROLL_HTTP__LISTEN", "127.0.0.1:0")
            .env("RENTROLL_STORE__LISTEN", "127.0.0.1:0")
            .env("RENTROLL_CHDB_LIBRARY", chdb_library)
            .into_inner()
            .stdout(log.try_clone().context("cannot share the demo's log")?)
            .stderr(log)
            .spawn()
            .context("cannot start target/debug/rentroll demo")?;
        let mut waiting = Waiting { child: Some(child), log_path };
        let page = waiting.until_said("the demo", "page", page_in)?;
        let face = data.join("clickhouse/face.json");
        let described =
            fs::read_to_string(&face).with_context(|| format!("cannot read {}", face.display()))?;
        let store = StoreAccess::from_json(&described)?;
        let child = waiting.child.take().context("the demo is gone")?;
        say(format_args!("its page is {page}"));
        Ok(Chain { child, page, store })
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// A server on a fresh folder, that takes events and has the API. Ended when dropped.
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
    /// Its address, as printed.
    pub(crate) url: String,
}

impl Server {
    /// Starts `rentroll up` of the development build on an empty folder, and waits until it listens.
    pub(crate) fn start(name: &str, chdb_library: &Path) -> Result<Self> {
        let folder = workspace::target().join("xtask").join(name);
        cache::remove(&folder)?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let meters = folder.join("meters.yaml");
        fs::write(&meters, METERS).with_context(|| format!("cannot write {}", meters.display()))?;
        let log_path = folder.join("up.log");
        let log = File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
        say(format_args!("starting rentroll up; its output goes to {}", log_path.display()));
        let child = rentroll()
            .arg("up")
            .dir(&folder)
            .env("RENTROLL_HTTP__LISTEN", "127.0.0.1:0")
            .env("RENTROLL_STORE__LISTEN", "127.0.0.1:0")
            .env("RENTROLL_COLLECTOR__HTTP__LISTEN", "127.0.0.1:0")
            .env("RENTROLL_CHDB_LIBRARY", chdb_library)
            .into_inner()
            .stdout(log.try_clone().context("cannot share the server's log")?)
            .stderr(log)
            .spawn()
            .context("cannot start target/debug/rentroll up")?;
        let mut waiting = Waiting { child: Some(child), log_path };
        let url = waiting.until_said("the server", "address", http_in)?;
        let child = waiting.child.take().context("the server is gone")?;
        Ok(Server { child, folder, url })
    }

    /// The secret of a new token: `--admin`, `--source edge`.
    pub(crate) fn token(&self, holder: &[&str]) -> Result<String> {
        let said = rentroll().args(["tokens", "create"]).args(holder).dir(&self.folder).output()?;
        Ok(said.trim().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// A server needs a file of meters; those of a test are made through the API.
const METERS: &str = "\
meters:
- name: requests
  unit: request
  event_type: http.request
  aggregation: count
";

/// The command of the development build.
fn rentroll() -> Run {
    Run::new(workspace::target().join("debug/rentroll"))
}

/// One that has not yet said where it is; ended if that never comes.
struct Waiting {
    child: Option<Child>,
    log_path: PathBuf,
}

impl Waiting {
    /// What `find` finds in its output; `who` and `what` are for messages.
    fn until_said(&mut self, who: &str, what: &str, find: impl Fn(&str) -> Option<String>) -> Result<String> {
        let child = self.child.as_mut().with_context(|| format!("{who} is gone"))?;
        let deadline = Instant::now() + START_WAIT_MAX;
        loop {
            let said = fs::read_to_string(&self.log_path).unwrap_or_default();
            if let Some(found) = find(&said) {
                return Ok(found);
            }
            let ended = child.try_wait().with_context(|| format!("cannot ask for the state of {who}"))?;
            if let Some(status) = ended {
                bail!("{who} ended by itself ({status}):\n{said}");
            }
            if Instant::now() > deadline {
                bail!("{who} printed no {what} within {} s:\n{said}", START_WAIT_MAX.as_secs());
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            stop(child);
        }
    }
}

fn stop(child: &mut Child) {
    Run::new("kill").args(["-INT", &child.id().to_string()]).succeeds();
    let deadline = Instant::now() + STOP_WAIT_MAX;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(POLL);
    }
    say("it did not end on SIGINT; killing it");
    // Nothing can be done, or needs to be, about a process that is gone already.
    let _ = child.kill();
    let _ = child.wait();
}

/// A scratch face of the store: the engine alone, without the chain. Ended when dropped.
pub(crate) struct Face {
    child: Child,
    /// How to reach it.
    pub(crate) store: StoreAccess,
}

impl Face {
    /// Starts the example `face`, which serves until its stdin closes.
    pub(crate) fn start(chdb_library: &Path) -> Result<Self> {
        use std::io::{BufRead as _, BufReader};
        let mut child = Run::new(workspace::target().join("debug/examples/face"))
            .env("RENTROLL_CHDB_LIBRARY", chdb_library)
            .into_inner()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start target/debug/examples/face")?;
        let mut line = String::new();
        let outcome = match child.stdout.take() {
            Some(stdout) => {
                BufReader::new(stdout).read_line(&mut line).context("cannot read what the face says")
            }
            None => bail!("the face has no stdout"),
        };
        let store = outcome.and_then(|_| StoreAccess::from_json(&line));
        match store {
            Ok(store) => Ok(Face { child, store }),
            Err(error) => {
                stop(&mut child);
                Err(error)
            }
        }
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        stop(&mut self.child);
    }
}

/// The page's address: the last word of the demo's output that is an HTTP address.
fn page_in(said: &str) -> Option<String> {
    address_in(said.lines().find(|line| line.to_ascii_lowercase().contains("ctrl-c"))?)
}

/// The address of the main listener in the output of `rentroll up`. A line that is not yet whole is none.
fn http_in(said: &str) -> Option<String> {
    let whole = &said[..said.rfind('\n')?];
    address_in(whole.lines().find(|line| line.starts_with("http:"))?)
}

fn address_in(line: &str) -> Option<String> {
    let start = line.find("http://")?;
    let address = line[start..].split_whitespace().next()?;
    Some(address.trim_end_matches(['.', ',', ')', '/']).to_owned())
}

/// The text value of a key of a flat JSON object, as long as it needs no escapes.
fn json_text(json: &str, key: &str) -> Option<String> {
    let after_key = json.split_once(&format!("\"{key}\""))?.1;
    let value = after_key.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let (text, _) = value.split_once('"')?;
    (!text.contains('\\')).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_face_is_read_whatever_its_spacing() {
        let expected = StoreAccess {
            url: "http://127.0.0.1:8401".into(),
            user: "rentroll".into(),
            password: "ab12".into(),
        };
        for json in [
            r#"{"url":"http://127.0.0.1:8401","user":"rentroll","password":"ab12","pid":7}"#,
            "{\n  \"pid\": 7, \"password\": \"ab12\",\n  \"user\": \"rentroll\", \"url\" : \"http://127.0.0.1:8401\"\n}",
        ] {
            assert_eq!(StoreAccess::from_json(json).unwrap(), expected);
        }
        let error = StoreAccess::from_json(r#"{"url":"http://x"}"#).unwrap_err().to_string();
        assert_eq!(error, "no text `user` in the face's description");
    }

    #[test]
    fn the_page_is_the_address_beside_ctrl_c() {
        let said = "store at http://127.0.0.1:8401\n\nOpen http://127.0.0.1:8400/ (Ctrl-C ends it)\n";
        assert_eq!(page_in(said).as_deref(), Some("http://127.0.0.1:8400"));
        assert_eq!(page_in("store at http://127.0.0.1:8401\n"), None);
    }

    #[test]
    fn the_server_is_at_the_address_beside_http() {
        let said = "store:      http://127.0.0.1:8401 (ClickHouse, user r)\nhttp:       http://127.0.0.1:8400/ (console)";
        assert_eq!(http_in(said), None, "the line may go on");
        assert_eq!(http_in(&format!("{said}\n")).as_deref(), Some("http://127.0.0.1:8400"));
    }
}
