//! What a 2xx promises beyond kill -9: the bytes were synced before it, and a sync that fails is no 2xx.
//!
//! A power cut cannot be had in a test. What it would find out can: a library between the process and the system holds
//! each `fsync` and `fdatasync` back, or lets it fail, while files of these names are there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rentroll_testing::http::{self, Answer};
use rentroll_testing::{free_port, wait_until};

use crate::rig::{Rig, Running};

const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int there(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("SYNC_GATE"), name);
    return access(path, F_OK) == 0;
}

static int pass(void) {
    if (there("hold")) {
        char path[4096];
        snprintf(path, sizeof path, "%s/held", getenv("SYNC_GATE"));
        close(open(path, O_CREAT | O_WRONLY, 0600));
        while (there("hold")) usleep(5000);
    }
    return !there("fail");
}

#define GATED(name) \
    int name(int fd) { \
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name); \
        if (pass()) return real(fd); \
        errno = EIO; \
        return -1; \
    }
GATED(fsync)
GATED(fdatasync)
"#;

/// A collector whose syncs go through the gate.
struct Gated {
    rig: Rig,
    address: SocketAddr,
    secret: String,
    library: PathBuf,
}

impl Gated {
    fn new() -> Gated {
        let (rig, address) = Rig::receiving("");
        let (source, library) = (rig.path("gate.c"), rig.path("gate.so"));
        std::fs::write(&source, LIBRARY).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
        assert!(compiler.status().unwrap().success(), "the C compiler failed");
        let secret = rig.ok(&["tokens", "create", "--tenant", "acme"]).trim().to_owned();
        Gated { rig, address, secret, library }
    }

    fn collect(&self) -> Running {
        let mut command = self.rig.command(&["collect"]);
        command.env("LD_PRELOAD", &self.library).env("SYNC_GATE", self.rig.dir.path());
        let running = self.rig.start(command);
        let listens = wait_until(Duration::from_secs(60), || std::net::TcpStream::connect(self.address).ok());
        assert!(listens.is_some(), "it does not listen: {}", running.said());
        running
    }

    fn post(&self, id: &str) -> std::io::Result<Answer> {
        let bearer = format!("Bearer {}", self.secret);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let body = format!(r#"{{"id":"{id}","source":"app","type":"http.request","data":{{"bytes":1}}}}"#);
        http::post(self.address, "/v1/events", &headers, body.as_bytes())
    }

    fn set(&self, name: &str) {
        std::fs::write(self.rig.path(name), "").unwrap();
    }

    fn unset(&self, name: &str) {
        std::fs::remove_file(self.rig.path(name)).unwrap();
    }

    fn nothing_is_promised_before_it_is_synced(&self) {
        let running = self.collect();
        assert_eq!(self.post("1").unwrap().status, 204);
        self.set("hold");
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| self.post("2"));
            let held = wait_until(Duration::from_secs(30), || self.rig.path("held").exists().then_some(()));
            assert!(held.is_some(), "nothing was synced for the second event");
            // Long enough for an answer that does not wait for it.
            std::thread::sleep(Duration::from_secs(1));
            let waits = !sending.is_finished();
            self.unset("hold");
            assert!(waits, "answered before the sync: {:?}", sending.join());
            assert_eq!(sending.join().unwrap().unwrap().status, 204);
        });
        // What the system could not put on the disk is not acknowledged, then or later: after a failed sync nobody knows
        // which of the pages before it are there.
        self.set("fail");
        assert_eq!(self.post("3").unwrap().status, 503);
        self.unset("fail");
        assert_eq!(self.post("4").unwrap().status, 503);
        running.kill();
        let running = self.collect();
        for id in ["3", "4"] {
            assert_eq!(self.post(id).unwrap().status, 204);
        }
        running.kill();
    }
}

#[test]
fn an_event_in_the_log_is_synced_before_it_is_acknowledged() {
    let gated = Gated::new();
    gated.nothing_is_promised_before_it_is_synced();
    gated.rig.ok(&["up", "--once"]);
    let stored: (u64, u64) = gated.rig.query("SELECT count(), uniqExact(id) FROM events");
    assert_eq!(stored, (4, 4));
}

#[test]
fn an_event_in_the_spool_is_synced_before_it_is_acknowledged() {
    let mut gated = Gated::new();
    gated.rig.set("log.kind", "kafka");
    gated.rig.set("log.kafka.brokers", &format!("127.0.0.1:{}", free_port().unwrap()));
    gated.rig.set("collector.http.ack", "spool");
    gated.nothing_is_promised_before_it_is_synced();
}
