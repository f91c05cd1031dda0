//! A server that a test started must not outlive the test, even if the test is killed.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Ends a process and removes a folder as soon as this process is gone, however it went.
///
/// A shell that waits for the end of its input: the kernel closes the pipe when its only writer, this
/// process, ends. (A parent-death signal would not do: it fires when the *thread* that started the server
/// ends, and every test is a thread.)
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    /// Guards process `pid`, whose files are in `folder`.
    pub(crate) fn over(pid: u32, folder: &Path) -> io::Result<Self> {
        let child = Command::new("/bin/sh")
            .args(["-c", r#"cat >/dev/null; kill -9 "$1"; sleep 0.2; rm -rf "$2""#, "guard"])
            .arg(pid.to_string())
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Guard(child))
    }
}

impl Drop for Guard {
    /// The process has ended in an orderly way: nothing is left to guard.
    fn drop(&mut self) {
        // Killed before its input is closed, or it would do its work.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
