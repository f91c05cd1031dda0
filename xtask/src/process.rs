//! Running other programs, with errors that name the whole command.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// A command about to run in the root of the clone.
pub(crate) struct Run(Command);

impl Run {
    /// Runs `program`, found on PATH or given by path.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.current_dir(workspace::root()).stdin(Stdio::null());
        Run(command)
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.0.args(arguments);
        self
    }

    /// Adds one argument.
    pub(crate) fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        self.args([argument])
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs elsewhere than in the root of the clone.
    pub(crate) fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.0.current_dir(dir);
        self
    }

    /// The command itself, for what is not covered here.
    pub(crate) fn into_inner(self) -> Command {
        self.0
    }

    /// Runs it with this terminal's output; an error unless it succeeds.
    pub(crate) fn run(mut self) -> Result<()> {
        let status = self.0.status().with_context(|| format!("cannot run `{}`", self.line()))?;
        if !status.success() {
            bail!("`{}` failed: {status}", self.line());
        }
        Ok(())
    }

    /// Runs it, its chatter on stderr: what install steps print is progress, never data.
    pub(crate) fn run_on_stderr(mut self) -> Result<()> {
        self.0.stdout(std::io::stderr());
        self.run()
    }

    /// Runs it and returns what it wrote to stdout; an error with all that it wrote unless it succeeds.
    pub(crate) fn output(mut self) -> Result<String> {
        let output = self.0.output().with_context(|| format!("cannot run `{}`", self.line()))?;
        if !output.status.success() {
            let [stdout, stderr] = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
            let said = format!("{}\n{}", stdout.trim(), stderr.trim());
            bail!("`{}` failed: {}\n{}", self.line(), output.status, said.trim());
        }
        String::from_utf8(output.stdout).with_context(|| format!("`{}` did not print UTF-8", self.line()))
    }

    /// Whether it runs and succeeds; what it prints is dropped.
    pub(crate) fn succeeds(mut self) -> bool {
        self.0.stdout(Stdio::null()).stderr(Stdio::null());
        self.0.status().is_ok_and(|status| status.success())
    }

    /// The command line, for messages.
    pub(crate) fn line(&self) -> String {
        let words = std::iter::once(self.0.get_program()).chain(self.0.get_args());
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }
}

/// Where `program` is on PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    find_in(&std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin")), program)
}

fn find_in(path: &OsStr, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|candidate| {
        candidate.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

/// Says what is being done, on stderr.
pub(crate) fn say(what: impl std::fmt::Display) {
    eprintln!("xtask: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error =
            Run::new("sh").args(["-c", "echo no such luck >&2; exit 7"]).output().unwrap_err().to_string();
        assert!(error.starts_with("`sh -c echo no such luck >&2; exit 7` failed: exit status: 7"), "{error}");
        assert!(error.ends_with("no such luck"), "{error}");
        let error = Run::new("no-such-program-here").run().unwrap_err().to_string();
        assert_eq!(error, "cannot run `no-such-program-here`");
    }

    #[test]
    fn only_an_executable_file_counts_as_found() {
        let dir = std::env::temp_dir().join(format!("xtask-find-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("folder")).unwrap();
        std::fs::write(dir.join("tool"), "").unwrap();
        assert_eq!(find_in(dir.as_os_str(), "tool"), None);
        assert_eq!(find_in(dir.as_os_str(), "folder"), None);
        std::fs::set_permissions(dir.join("tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_in(dir.as_os_str(), "tool"), Some(dir.join("tool")));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
