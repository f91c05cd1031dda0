//! The checks, in the order in which a set-up is built: files, disk, ports, log, store, sources, data.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rentroll_aggregator::books;
use rentroll_collector::collect;
use rentroll_engines::log::LogError;
use rentroll_engines::store::Store;
use rentroll_schemas::meter::UNMATCHED;
use rentroll_schemas::migrations::MIGRATIONS;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::Finding;
use crate::cli::said;
use crate::config::Config;
use crate::context::{self, Context};

/// Below this much free disk the embedded engine's merges begin to fail.
const FREE_BYTES_LOW: u64 = 2 << 30;

/// Runs every check that can be run.
pub(super) async fn all(context: &Context) -> Vec<Finding> {
    let config = match context.config() {
        Ok(config) => config,
        Err(error) => {
            return vec![Finding::fail(
                "configuration",
                error.to_string(),
                "mend it; `rentroll config init` writes a commented one",
            )];
        }
    };
    let mut findings = vec![Finding::ok("configuration", "readable")];
    findings.extend(files(&config));
    findings.push(disk(&config));
    findings.push(running(&config).await);
    findings.push(log(&config).await);
    findings.extend(store(&config).await);
    findings.extend(sources(&config));
    findings.extend(super::ingest::all(&config));
    findings
}

fn files(config: &Config) -> Vec<Finding> {
    let meters = match context::meters(config) {
        Ok(meters) => meters,
        Err(error) => {
            return vec![Finding::fail("meters", said(&error), "mend the file, or set files.meters")];
        }
    };
    let mut findings = vec![Finding::ok("meters", format!("{} meters", meters.meters.len()))];
    findings.push(match context::catalogue(config, &meters) {
        Ok(catalogue) => Finding::ok("catalogue", format!("{} versions", catalogue.versions.len())),
        Err(error) => Finding::fail(
            "catalogue",
            said(&error),
            "mend the file, or set files.catalogue; without it there are no invoices",
        ),
    });
    findings.push(match context::costs(config, &meters) {
        Ok(costs) => Finding::ok("costs", format!("{} cost pools", costs.pools.len())),
        Err(error) => Finding::warn(
            "costs",
            said(&error),
            "mend the file, or set files.costs; without it no cost is allocated",
        ),
    });
    findings
}

fn disk(config: &Config) -> Finding {
    let dir = config.data_dir();
    let nearest = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    if dir.exists() {
        let probe = dir.join(".doctor");
        if let Err(error) = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)) {
            return Finding::fail(
                "data folder",
                format!("cannot write to {}: {error}", dir.display()),
                "give this user the folder, or set data.dir",
            );
        }
    }
    match rustix::fs::statvfs(nearest) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let detail = format!("{}, {} MiB free", dir.display(), free >> 20);
            match free < FREE_BYTES_LOW {
                true => Finding::warn(
                    "data folder",
                    detail,
                    "make room: when it is full, senders are told to wait",
                ),
                false => Finding::ok("data folder", detail),
            }
        }
        Err(error) => Finding::fail("data folder", format!("{}: {error}", nearest.display()), "set data.dir"),
    }
}

/// Whether a `rentroll` answers on http.listen, and is ready.
async fn running(config: &Config) -> Finding {
    let address = config.http.listen;
    let answer = tokio::time::timeout(Duration::from_secs(3), get(address, "/readyz")).await;
    match answer {
        Ok(Ok(answer)) if answer.contains("\"ready\":true") => {
            Finding::ok("running parts", format!("ready at http://{address}"))
        }
        Ok(Ok(answer)) if answer.contains("\"ready\":false") => {
            let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
            Finding::fail(
                "running parts",
                format!("not ready: {body}"),
                "the part's detail says what it waits for",
            )
        }
        Ok(Ok(_)) => Finding::fail(
            "running parts",
            format!("something else answers on {address}"),
            "stop it, or set http.listen",
        ),
        Ok(Err(_)) => match TcpListener::bind(address).await {
            Ok(_) => Finding::ok("running parts", format!("nothing runs; {address} is free")),
            Err(error) => Finding::fail(
                "running parts",
                format!("cannot listen on {address}: {error}"),
                "stop what uses the port, or set http.listen",
            ),
        },
        Err(_) => Finding::fail(
            "running parts",
            format!("{address} does not answer within 3 s"),
            "stop what uses the port, or set http.listen",
        ),
    }
}

async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn log(config: &Config) -> Finding {
    let config = config.clone();
    let opened =
        tokio::task::spawn_blocking(move || context::event_log(&config).map(|log| log.partitions())).await;
    match opened {
        Ok(Ok(partitions)) => Finding::ok("event log", format!("opens, {partitions} partitions")),
        Ok(Err(error)) => match error.downcast_ref::<LogError>() {
            Some(LogError::InUse { owner, .. }) => Finding::ok("event log", format!("held by {owner}")),
            Some(LogError::Topics(_)) => Finding::fail(
                "event log",
                said(&error),
                "run `rentroll topics create`, or set log.partitions",
            ),
            Some(LogError::Unavailable(_)) => {
                Finding::fail("event log", said(&error), "start Kafka, or set log.kafka.brokers")
            }
            _ => Finding::fail("event log", said(&error), "see the reason given"),
        },
        Err(error) => Finding::fail("event log", error.to_string(), "report this"),
    }
}

async fn store(config: &Config) -> Vec<Finding> {
    let store = match Store::open(&context::store_config(config)).await {
        Ok(store) => store,
        Err(error) => return vec![Finding::fail("store", error.to_string(), "see the reason given")],
    };
    let whose = if store.is_embedded_here() { "embedded engine" } else { "answers" };
    let mut findings = vec![Finding::ok("store", format!("{}, {whose}", store.url()))];
    match store.check_schema(MIGRATIONS).await {
        Ok(version) => {
            findings.push(Finding::ok("schema", format!("version {version}")));
            findings.push(match store.check_settings().await {
                Ok(()) => Finding::ok("table settings", "as exactly-once storage needs them"),
                Err(error) => Finding::fail("table settings", error.to_string(), "run the statement given"),
            });
            findings.push(match books::read(&store, &books::Selection::default()).await {
                Ok(books) if books.hold() => {
                    Finding::ok("books", format!("{} source-hours balance", books.hours.len()))
                }
                Ok(_) => Finding::fail("books", "do not balance", "`rentroll books` shows where"),
                Err(error) => Finding::fail("books", error.to_string(), "see the reason given"),
            });
            findings.extend(data(&store).await);
        }
        Err(error) => findings.push(Finding::warn(
            "schema",
            error.to_string(),
            "`rentroll up` and `rentroll migrate` bring it up to date",
        )),
    }
    store.close().await;
    findings
}

/// Rejects of the last day and events that no meter counts: taken, but not as the sender meant it.
async fn data(store: &Store) -> Vec<Finding> {
    let count = |sql: String| async move {
        store.client().query(&sql).fetch_one::<u64>().await.map_err(|error| store.error(error))
    };
    let mut findings = Vec::new();
    let rejects = "SELECT count() FROM rejects FINAL WHERE rejected_at >= now() - INTERVAL 1 DAY";
    match count(rejects.to_owned()).await {
        Ok(0) => findings.push(Finding::ok("rejects", "none in the last day")),
        Ok(rejects) => findings.push(Finding::warn(
            "rejects",
            format!("{rejects} in the last day"),
            "`rentroll rejects list` shows them with their reasons",
        )),
        Err(error) => findings.push(Finding::fail("rejects", error.to_string(), "see the reason given")),
    }
    // As the rollups have them, which follow the meters that are in force.
    let unmatched =
        format!("SELECT toUInt64(greatest(sum(events), 0)) FROM usage_day WHERE meter = '{UNMATCHED}'");
    match count(unmatched).await {
        Ok(0) => findings.push(Finding::ok("unmatched", "every stored event matches a meter")),
        Ok(unmatched) => findings.push(Finding::warn(
            "unmatched",
            format!("{unmatched} stored events match no meter"),
            "`rentroll meters` lists their types: add a meter for them to files.meters",
        )),
        Err(error) => findings.push(Finding::fail("unmatched", error.to_string(), "see the reason given")),
    }
    findings
}

fn sources(config: &Config) -> Vec<Finding> {
    if config.collector.sources.is_empty() {
        return vec![Finding::warn(
            "sources",
            "none configured",
            "add a [[collector.sources]] to follow a log",
        )];
    }
    let mut findings = Vec::new();
    for source in &config.collector.sources {
        let files = match collect::files(&config.base, source) {
            Ok(files) => files,
            Err(error) => {
                findings.push(Finding::fail("source", error.to_string(), "correct the configuration"));
                continue;
            }
        };
        for (path, opened) in files {
            findings.push(match opened {
                Ok(bytes) => {
                    Finding::ok("source", format!("{}: {}, {bytes} bytes", source.name, path.display()))
                }
                Err(error) => Finding::fail(
                    "source",
                    format!("{}: cannot read {}: {error}", source.name, path.display()),
                    "correct the path, or give this user the right to read it",
                ),
            });
        }
    }
    findings
}
