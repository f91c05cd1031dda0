//! A listener of its own for each test, over an embedded log in a folder of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus::Registry;
use rentroll_collector::http::config::HttpConfig;
use rentroll_collector::http::door::IngestDoor;
use rentroll_collector::http::metrics::HttpMetrics;
use rentroll_collector::http::{Ingest, Setup};
use rentroll_collector::metrics::Metrics;
use rentroll_collector::outgoing::{Encoding, Packer};
use rentroll_collector::overflow::{Lanes, OverflowConfig};
use rentroll_collector::spool::Spool;
use rentroll_collector::spool::intake::{Ack, Intake};
use rentroll_engines::health::Health;
use rentroll_engines::log::embedded::{EmbeddedConfig, EmbeddedLog};
use rentroll_engines::log::{Record, SharedLog};
use rentroll_schemas::token::{Grant, Token, Tokens};
use rentroll_schemas::topics::Topic;
use rentroll_testing::http::{self, Answer};

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) log: SharedLog,
    pub(crate) address: SocketAddr,
    pub(crate) health: Health,
    ingest: Option<Ingest>,
    runtime: tokio::runtime::Runtime,
    tokens: Tokens,
}

impl Rig {
    pub(crate) fn new(config: HttpConfig) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let log = open_log(&dir.path().join("log"));
        Rig::with(dir, config, log, None)
    }

    /// On `log`, and a spool if there is one.
    pub(crate) fn with(
        dir: tempfile::TempDir,
        config: HttpConfig,
        log: SharedLog,
        spool: Option<(Arc<Spool>, Ack)>,
    ) -> Rig {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
        let (registry, health) = (Registry::new(), Health::default());
        let metrics = Metrics::register(&registry).unwrap();
        let (spool, ack) = spool.map_or((None, Ack::Log), |(spool, ack)| (Some(spool), ack));
        let setup = Setup {
            config: HttpConfig { listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))), ..config },
            tokens: dir.path().join("tokens.toml"),
            sources: vec!["web".into()],
            intake: Intake::new(log.clone(), spool, ack, Duration::from_millis(300)),
            packer: Packer {
                lanes: Lanes::new(
                    &OverflowConfig { enabled: false, ..OverflowConfig::default() },
                    metrics.overflow.clone(),
                ),
                encoding: Encoding::Json,
                partitions: log.partitions(),
            },
            metrics: HttpMetrics::register(&registry).unwrap(),
            records: metrics.records.clone(),
            health: health.clone(),
        };
        let ingest = runtime.block_on(Ingest::start(setup)).unwrap();
        let address = ingest.address();
        Rig { dir, log, address, health, ingest: Some(ingest), runtime, tokens: Tokens::default() }
    }

    /// A new token's secret; in force when it returns.
    pub(crate) fn token(&mut self, grant: Grant, expires_at: Option<DateTime<Utc>>) -> String {
        let number = self.tokens.tokens.len();
        let (token, secret) = Token::make(
            format!("t{number}"),
            &[number as u8; 32],
            grant,
            String::new(),
            Utc::now(),
            expires_at,
        );
        self.tokens.tokens.push(token);
        self.write_tokens();
        // Nobody is let in before the file is read again.
        let known = rentroll_testing::wait_until(Duration::from_secs(5), || {
            let answer = self.post(&secret, &[("content-type", "text/none")], b"");
            (matches!(answer.status, 403 | 415) || answer.body.contains("expired")).then_some(())
        });
        assert!(known.is_some(), "the new token was never read");
        secret
    }

    pub(crate) fn tenant(&mut self, tenant: &str) -> String {
        self.token(Grant::Tenant { tenant: tenant.into() }, None)
    }

    pub(crate) fn source(&mut self, source: &str) -> String {
        self.token(Grant::Source { source: source.into(), backfill: false }, None)
    }

    pub(crate) fn revoke(&mut self, secret: &str) {
        let id = rentroll_schemas::token::id_of(secret).unwrap();
        let token = self.tokens.tokens.iter_mut().find(|token| token.id == id).unwrap();
        token.revoked_at = Some(Utc::now());
        self.write_tokens();
    }

    fn write_tokens(&self) {
        let path = self.dir.path().join("tokens.toml");
        let temporary = path.with_extension("tmp");
        std::fs::write(&temporary, self.tokens.to_toml().unwrap()).unwrap();
        std::fs::rename(temporary, path).unwrap();
    }

    pub(crate) fn post(&self, secret: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let bearer = format!("Bearer {secret}");
        let headers: Vec<(&str, &str)> =
            [("authorization", bearer.as_str())].into_iter().chain(headers.iter().copied()).collect();
        http::post(self.address, "/v1/events", &headers, body).unwrap()
    }

    pub(crate) fn door(&self) -> IngestDoor {
        self.ingest.as_ref().unwrap().door()
    }

    /// The listener, for the test to stop.
    pub(crate) fn take(&mut self) -> Ingest {
        self.ingest.take().unwrap()
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// What the log holds of a topic.
    pub(crate) fn read(&self, topic: Topic) -> Vec<Record> {
        read(&self.log, topic)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(ingest) = self.ingest.take() {
            self.runtime.block_on(ingest.stop());
        }
    }
}

pub(crate) fn open_log(dir: &Path) -> SharedLog {
    Arc::new(EmbeddedLog::open(EmbeddedConfig { partitions: 2, ..EmbeddedConfig::new(dir) }).unwrap())
}

/// All of a topic, from its beginning; nothing is committed.
pub(crate) fn read(log: &SharedLog, topic: Topic) -> Vec<Record> {
    let mut member = log.subscribe("test", &[topic]).unwrap();
    let mut all = Vec::new();
    for mut reader in member.gained(Duration::ZERO).unwrap() {
        reader.seek(0).unwrap();
        loop {
            let some = reader.read(1000, Duration::ZERO).unwrap();
            if some.is_empty() {
                break;
            }
            all.extend(some.into_iter().map(|positioned| positioned.record));
        }
    }
    all
}

/// A plain event, as JSON.
pub(crate) fn event(source: &str, id: impl std::fmt::Display, subject: &str) -> String {
    format!(
        r#"{{"id":"{id}","source":"{source}","type":"db.read","subject":"{subject}","data":{{"rows":7}}}}"#
    )
}

pub(crate) fn events(source: &str, subject: &str, ids: std::ops::Range<u64>) -> String {
    let all: Vec<String> = ids.map(|id| event(source, id, subject)).collect();
    format!("[{}]", all.join(","))
}

/// The segments of the log in `dir`, oldest first.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}
