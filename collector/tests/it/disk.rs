//! A disk that is soon full.

use std::path::Path;
use std::process::Command;

/// A file system of one megabyte, gone with the test.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn mount() -> SmallDisk {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(mounted.success());
        SmallDisk(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Whether this process may mount one: root may. Others may in a user namespace of their own, in which the test of
/// that name is run again, and has passed when this returns.
pub(crate) fn may_mount(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let status = Command::new("unshare")
        .args(["--mount", "--map-root-user"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .status()
        .unwrap();
    assert!(status.success());
    false
}
