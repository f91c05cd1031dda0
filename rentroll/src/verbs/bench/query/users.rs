//! People with a dashboard open, over HTTP, while events come in at half of what the machine takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{TimeDelta, Utc};
use rentroll_engines::store::{Store, StoreConfig};
use rentroll_schemas::token::Grant;
use rentroll_schemas::token::file::{self, Wanted};
use rentroll_testing::free_port;
use serde::Serialize;
use tokio::sync::Mutex;

use super::Args;
use super::ask::percentile;
use super::fill::{Month, served_meters};
use crate::verbs::bench::events::{Random, tenant_name};
use crate::verbs::bench::process::Watched;
use crate::verbs::bench::this_binary;
use crate::verbs::bench::writer::{Load, Writer};

/// How long the server may take to start.
const START_WAIT: Duration = Duration::from_secs(120);
/// Lines that are written at once, to see how fast they come in: as many as take some twenty seconds, so that the store has to merge
/// what it takes.
const BURST_LINES: u64 = 1_500_000;
/// How fast the file that they are taken from is written, before: no faster than a thread can.
const BURST_WRITTEN_PER_SECOND: u64 = 200_000;
/// How often it is looked whether they have: a look takes what is measured.
const BURST_LOOK: Duration = Duration::from_millis(250);
/// How long they may take.
const BURST_WAIT: Duration = Duration::from_secs(300);
/// Before answers count: connections are made, the engine is warm.
const WARM: Duration = Duration::from_secs(10);
/// A browser asks so many panels at once of one server.
const AT_ONCE: usize = 6;

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct Crowd {
    pub(super) users: u32,
    pub(super) refresh_seconds: u64,
    pub(super) events_per_second_max: u64,
    pub(super) events_per_second: u64,
    pub(super) answers: u64,
    pub(super) failed: u64,
    pub(super) p50_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) most_ms: f64,
    pub(super) panels: Vec<Panel>,
}

/// One of the questions of a dashboard.
#[derive(Debug, Serialize)]
pub(super) struct Panel {
    pub(super) name: &'static str,
    pub(super) answers: usize,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

pub(super) async fn run(args: &Args, folder: &Path, month: &Month) -> anyhow::Result<Crowd> {
    let port = free_port()?;
    let config = configure(folder, port)?;
    let wanted =
        Wanted { grant: Grant::Service { source: None }, name: "bench".to_owned(), expires_at: None };
    let tokens = folder.join("tokens.toml");
    let _ = std::fs::remove_file(&tokens);
    let (_, secret) = file::create(&tokens, wanted, Utc::now()).context("cannot make a token")?;
    let (log, burst) = (folder.join("steady.log"), folder.join("burst.log"));
    for path in [&log, &burst] {
        std::fs::write(path, "")?;
    }
    let mut command = this_binary()?;
    command.arg("--config").arg(&config).arg("up");
    let mut server = Watched::spawn(&mut command)?;
    let store = serving(folder, port, &mut server).await?;
    let address = format!("127.0.0.1:{port}");

    eprintln!("how fast events come in…");
    let most = burst_rate(&store, &burst, month).await?;
    let load = Load { per_second: (most / 2).max(1), tenants: month.tenants, zipf: month.zipf, hot: None };
    eprintln!("{} dashboards while {} events a second come in…", args.users, load.per_second);
    let writer = Writer::start(&log, load)?;
    let crowd = Watching {
        address,
        authorization: format!("Bearer {secret}"),
        month: *month,
        stop: Arc::new(AtomicBool::new(false)),
        failed: Arc::new(AtomicU64::new(0)),
        times: Arc::default(),
        counts_from: Instant::now() + WARM,
    };
    let refresh = Duration::from_secs(args.refresh);
    let users: Vec<_> = (0..args.users)
        .map(|number| {
            let begins = refresh * number / args.users.max(1);
            tokio::spawn(crowd.clone().user(number, begins, refresh))
        })
        .collect();
    tokio::time::sleep(WARM).await;
    let (started, before) = (Instant::now(), hits(&store).await?);
    while started.elapsed() < Duration::from_secs(args.seconds) {
        anyhow::ensure!(!server.has_ended()?, "the server ended by itself");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // What is stored and rolled up, not what is written to the log.
    let stored = hits(&store).await? - before;
    let rate = stored as f64 / started.elapsed().as_secs_f64();
    crowd.stop.store(true, Ordering::Relaxed);
    for user in users {
        user.await?;
    }
    writer.finish()?;
    drop(store);
    let by_panel = std::mem::take(&mut *crowd.times.lock().await);
    let mut times: Vec<f64> = by_panel.values().flatten().copied().collect();
    anyhow::ensure!(!times.is_empty(), "nobody was answered");
    let panels = by_panel.into_iter().map(|(name, mut times)| Panel {
        name,
        answers: times.len(),
        p50_ms: percentile(&mut times, 50),
        p99_ms: percentile(&mut times, 99),
    });
    Ok(Crowd {
        users: args.users,
        refresh_seconds: args.refresh,
        events_per_second_max: most,
        events_per_second: rate as u64,
        answers: times.len() as u64,
        failed: crowd.failed.load(Ordering::Relaxed),
        p50_ms: percentile(&mut times, 50),
        p95_ms: percentile(&mut times, 95),
        p99_ms: percentile(&mut times, 99),
        most_ms: percentile(&mut times, 100),
        panels: panels.collect(),
    })
}

fn configure(folder: &Path, port: u16) -> anyhow::Result<PathBuf> {
    // JSON is YAML.
    std::fs::write(folder.join("meters.yaml"), serde_json::to_string(&served_meters()?)?)?;
    let text = format!(
        "[data]\ndir = \"data\"\n[store]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n\
         [collector.http]\nlisten = \"127.0.0.1:0\"\n\
         [[collector.sources]]\nname = \"steady\"\nkind = \"log\"\npaths = [\"steady.log\"]\n\
         [[collector.sources]]\nname = \"burst\"\nkind = \"log\"\npaths = [\"burst.log\"]\n",
    );
    let config = folder.join("rentroll.toml");
    std::fs::write(&config, text)?;
    Ok(config)
}

/// The store that the server has, once it answers.
async fn serving(folder: &Path, port: u16, server: &mut Watched) -> anyhow::Result<Store> {
    let until = Instant::now() + START_WAIT;
    let data = folder.join("data");
    let ready = || {
        data.join("clickhouse").join("face.json").exists()
            && data.join("collector").join("burst.files.json").exists()
    };
    while !ready() || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        anyhow::ensure!(!server.has_ended()?, "the server ended by itself");
        anyhow::ensure!(Instant::now() < until, "the server did not start in {} s", START_WAIT.as_secs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Store::open(&StoreConfig::embedded(&data)).await.context("cannot reach the server's store")
}

/// Events a second, from lines that are all there at once.
async fn burst_rate(store: &Store, path: &Path, month: &Month) -> anyhow::Result<u64> {
    let before = hits(store).await?;
    let load =
        Load { per_second: BURST_WRITTEN_PER_SECOND, tenants: month.tenants, zipf: month.zipf, hot: None };
    let side = path.with_extension("side");
    let writer = Writer::start(&side, load)?;
    while writer.written() < BURST_LINES {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let lines = writer.finish()?;
    let text = std::fs::read(&side)?;
    let started = Instant::now();
    std::io::Write::write_all(&mut std::fs::OpenOptions::new().append(true).open(path)?, &text)?;
    while hits(store).await? - before < lines {
        anyhow::ensure!(started.elapsed() < BURST_WAIT, "{lines} lines did not come in");
        tokio::time::sleep(BURST_LOOK).await;
    }
    std::fs::remove_file(side)?;
    Ok((lines as f64 / started.elapsed().as_secs_f64()) as u64)
}

async fn hits(store: &Store) -> anyhow::Result<u64> {
    let sql = "SELECT toUInt64(sum(events)) FROM usage_day WHERE meter = 'hits'";
    Ok(store.client().query(sql).fetch_one().await.map_err(|error| store.error(error))?)
}

#[derive(Clone)]
struct Watching {
    address: String,
    authorization: String,
    month: Month,
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    /// Of each panel.
    times: Arc<Mutex<BTreeMap<&'static str, Vec<f64>>>>,
    counts_from: Instant,
}

impl Watching {
    /// One who looks at a dashboard: its panels are asked together, some at once, at each refresh.
    async fn user(self, number: u32, begins: Duration, refresh: Duration) {
        tokio::time::sleep(begins).await;
        let mut random = Random(u64::from(number) + 1);
        while !self.stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            let panels = self.panels(&mut random);
            let gate = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
            let asked: Vec<_> = panels
                .into_iter()
                .map(|(panel, path)| {
                    let (watching, gate) = (self.clone(), gate.clone());
                    tokio::spawn(async move {
                        // A semaphore that is never closed.
                        let _one = gate.acquire_owned().await;
                        watching.ask(panel, &path).await;
                    })
                })
                .collect();
            for one in asked {
                let _ = one.await;
            }
            tokio::time::sleep(refresh.saturating_sub(started.elapsed())).await;
        }
    }

    /// The panels of a tenant's dashboard; tenants are looked at as often as they are busy.
    fn panels(&self, random: &mut Random) -> Vec<(&'static str, String)> {
        let most = f64::from(self.month.tenants);
        let uniform = random.below(1 << 30) as f64 / f64::from(1 << 30);
        let tenant = tenant_name(most.powf(uniform) as u32 - 1);
        let day = |days: i64| (self.month.from + TimeDelta::days(days)).format("%Y-%m-%d").to_string();
        let (first, last) = (day(0), day(self.month.days()));
        let before = day(self.month.days() - 1);
        let now = Utc::now();
        let minute = |time: chrono::DateTime<Utc>| time.format("%Y-%m-%dT%H:%MZ").to_string();
        let (hour_ago, until) = (minute(now - TimeDelta::hours(1)), minute(now));
        let usage = |rest: String| format!("/api/v1/usage?{rest}&tenant={tenant}");
        let month = format!("from={first}&to={last}");
        let day = format!("from={before}&to={last}");
        vec![
            ("bytes of the month by day", usage(format!("meter=bytes_out&{month}&window=day"))),
            ("requests of the month by day", usage(format!("meter=requests&{month}&window=day"))),
            ("calls of the month by method", usage(format!("meter=calls&{month}&group_by=method"))),
            ("compute of a day by the hour", usage(format!("meter=compute_ms&{day}&window=hour"))),
            (
                "rows of a day by the hour, in Berlin",
                usage(format!("meter=rows_read&{day}&window=hour&zone=Europe/Berlin")),
            ),
            (
                "everybody's last hour by the minute",
                format!("/api/v1/usage?meter=hits&from={hour_ago}&to={until}&window=minute"),
            ),
            ("top 20 of a day", format!("/api/v1/usage/top?meter=requests&{day}&by=tenant&limit=20")),
            ("newest 20 events", format!("/api/v1/events?tenant={tenant}&{day}&limit=20")),
        ]
    }

    async fn ask(&self, panel: &'static str, path: &str) {
        let started = Instant::now();
        let answer = get(&self.address, path, &self.authorization).await;
        let took = started.elapsed().as_secs_f64() * 1e3;
        if started < self.counts_from {
            return;
        }
        match answer {
            Ok(200) => self.times.lock().await.entry(panel).or_default().push(took),
            other => {
                tracing::debug!(?other, path, "a panel was not answered");
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The status of an answer that was read to its end.
async fn get(address: &str, path: &str, authorization: &str) -> anyhow::Result<u16> {
    use http_body_util::{BodyExt as _, Empty};
    let stream = tokio::net::TcpStream::connect(address).await?;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", address).header("authorization", authorization);
    let answer = sender.send_request(request.body(Empty::<bytes::Bytes>::new())?).await?;
    let status = answer.status().as_u16();
    answer.into_body().collect().await?;
    Ok(status)
}
