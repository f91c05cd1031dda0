//! `rentroll send`: events from a file or stdin to a collector.
//!
//! A batch is repeated until it is answered with a verdict: what may have been taken before is recognised as the
//! same events.

use std::io::{BufReader, IsTerminal as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use hyper::StatusCode;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::cli::{Exit, WrongUse};
use crate::context::Context;
use crate::output;

pub mod client;
pub mod input;

use client::{Certificates, Client, Reply};
use input::{Input, Item};

/// Most bytes of a batch, below the collector's default limit of a body.
const BATCH_BYTES_MAX: usize = 3 << 20;
/// Waits between tries, doubled each time.
const TRY_AGAIN: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(10);
/// Verdicts printed one by one; the rest is counted.
const SHOWN_MAX: usize = 50;

/// Arguments of `rentroll send`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll send events.ndjson --token \"$TOKEN\"
  generate | rentroll send - --url https://collect.example.com/v1/events --ca roots.pem
  echo '{\"id\":\"1\",\"source\":\"api\",\"type\":\"db.read\",\"data\":{\"rows\":7}}' | RENTROLL_TOKEN=rr_… rentroll send

Exit codes: 0 all accepted, 1 not all could be sent, 3 some were rejected.")]
pub struct Args {
    /// A file of events, one JSON object a line or a JSON array; `-` is stdin.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// The collector; without it the one of this configuration.
    #[arg(long, env = "RENTROLL_COLLECTOR_URL")]
    url: Option<String>,
    /// The token's secret.
    #[arg(long, env = "RENTROLL_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Events in a request.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    /// Give up on a batch after this many seconds of trying.
    #[arg(long, default_value_t = 120)]
    give_up_after: u64,
    /// Seconds to wait for an answer.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Root certificates to trust instead of the system's, PEM.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The client's own certificate, PEM.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// Counts and verdicts as JSON.
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    accepted: u64,
    rejected: u64,
    /// Requests that had to be repeated.
    repeated: u64,
    rejects: Vec<Rejected>,
}

#[derive(Debug, Serialize)]
struct Rejected {
    /// Line, or place in the array, from 1.
    number: u64,
    reason: String,
    field: String,
    detail: String,
}

/// The collector's answer where something was rejected.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    accepted: Option<u64>,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<Verdict>,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    index: usize,
    reason: String,
    #[serde(default)]
    field: String,
    detail: String,
}

/// Runs it.
///
/// # Errors
/// The input cannot be read, or the collector does not take it.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let url = match &args.url {
        Some(url) => url.clone(),
        None => url_of(&context.config()?),
    };
    let certificates =
        Certificates { ca: args.ca.as_deref(), own: args.cert.as_deref().zip(args.key.as_deref()) };
    if args.token.is_none() && args.cert.is_none() {
        return Err(WrongUse(
            "--token (or RENTROLL_TOKEN) is missing: `rentroll tokens create` makes one".into(),
        )
        .into());
    }
    let mut client =
        Client::new(&url, args.token.as_deref(), &certificates, Duration::from_secs(args.timeout))?;
    let reader: Box<dyn std::io::BufRead + Send> = match args.file.to_str() {
        Some("-") => Box::new(BufReader::new(std::io::stdin())),
        _ => {
            let file = std::fs::File::open(&args.file);
            Box::new(BufReader::new(file.with_context(|| format!("cannot read {}", args.file.display()))?))
        }
    };
    let mut input = Input::open(reader)?;
    let shown = progress();
    let mut outcome = Outcome::default();
    let mut next = input.event()?;
    let started = Instant::now();
    while let Some(first) = next.take() {
        let mut bytes = first.bytes.len();
        let mut batch = vec![first];
        loop {
            next = input.event()?;
            match next.take() {
                Some(item)
                    if batch.len() < args.batch as usize && bytes + item.bytes.len() < BATCH_BYTES_MAX =>
                {
                    bytes += item.bytes.len() + 1;
                    batch.push(item);
                }
                rest => {
                    next = rest;
                    break;
                }
            }
        }
        deliver(&mut client, batch, &args, &mut outcome).await.with_context(|| {
            format!(
                "{url}: {} events were accepted and {} rejected before",
                outcome.accepted, outcome.rejected
            )
        })?;
        shown.set_position(outcome.accepted + outcome.rejected);
    }
    shown.finish_and_clear();
    report(&outcome, started.elapsed(), args.json)?;
    Ok(if outcome.rejected == 0 { Exit::Done } else { Exit::DoesNotHold })
}

fn url_of(config: &crate::config::Config) -> String {
    let http = &config.collector.http;
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    let listen = http.listen.unwrap_or(rentroll_collector::http::config::LISTEN);
    format!("{scheme}://{listen}/v1/events")
}

fn progress() -> ProgressBar {
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} events, {per_sec}") {
        bar.set_style(style);
    }
    bar
}

/// Sends one batch until there is a verdict on it. What is no JSON is not sent: it would cost its batch.
async fn deliver(
    client: &mut Client,
    batch: Vec<Item>,
    args: &Args,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let mut good = Vec::with_capacity(batch.len());
    for item in batch {
        match serde_json::from_slice::<&serde_json::value::RawValue>(&item.bytes) {
            Ok(_) => good.push(item),
            Err(error) => outcome.reject(item.number, "unreadable", "body", format!("not JSON: {error}")),
        }
    }
    // Halves of a batch that was too large.
    let mut parts = vec![good];
    while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
        let reply = until_answered(client, &part, args, outcome).await?;
        match reply.status {
            status if status.is_success() => outcome.accepted += part.len() as u64,
            StatusCode::PAYLOAD_TOO_LARGE if part.len() > 1 => {
                let mut part = part;
                let second = part.split_off(part.len() / 2);
                parts.push(second);
                parts.push(part);
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                outcome.reject(part[0].number, "too_large", "", detail(&reply));
            }
            _ => outcome.verdicts(&part, &reply)?,
        }
    }
    Ok(())
}

/// Repeats while the collector is away or has no room.
async fn until_answered(
    client: &mut Client,
    part: &[Item],
    args: &Args,
    outcome: &mut Outcome,
) -> anyhow::Result<Reply> {
    let mut body = Vec::with_capacity(part.iter().map(|item| item.bytes.len() + 1).sum::<usize>() + 1);
    for item in part {
        body.push(if body.is_empty() { b'[' } else { b',' });
        body.extend_from_slice(&item.bytes);
    }
    body.push(b']');
    let body = Bytes::from(body);
    let give_up_at = Instant::now() + Duration::from_secs(args.give_up_after);
    let mut wait = *TRY_AGAIN.start();
    loop {
        let (why, at_least) = match client.send(body.clone()).await {
            Ok(reply) if is_passing(reply.status) => {
                (anyhow::anyhow!("{}: {}", reply.status, detail(&reply)), reply.retry_after)
            }
            Ok(reply) => return Ok(reply),
            Err(error) => (error, None),
        };
        // Half to all of it, so that many who were turned away together do not come back together.
        let spread = wait.mul_f64(0.5 + 0.5 * rand::random::<f64>());
        let pause = spread.max(at_least.unwrap_or_default());
        if Instant::now() + pause > give_up_at {
            return Err(why.context(format!("gave up after {} s", args.give_up_after)));
        }
        tracing::warn!("not taken, trying again in {:.1} s: {why:#}", pause.as_secs_f64());
        outcome.repeated += 1;
        tokio::time::sleep(pause).await;
        wait = (wait * 2).min(*TRY_AGAIN.end());
    }
}

fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

fn detail(reply: &Reply) -> String {
    match serde_json::from_slice::<Document>(&reply.body) {
        Ok(document) => document.detail,
        Err(_) => String::from_utf8_lossy(&reply.body).chars().take(300).collect(),
    }
}

impl Outcome {
    fn reject(&mut self, number: u64, reason: &str, field: &str, detail: String) {
        self.rejected += 1;
        self.rejects.push(Rejected { number, reason: reason.to_owned(), field: field.to_owned(), detail });
    }

    /// Reads the verdicts of a 4xx; one without any is an error of the request itself.
    fn verdicts(&mut self, part: &[Item], reply: &Reply) -> anyhow::Result<()> {
        let document = serde_json::from_slice::<Document>(&reply.body).ok();
        let Some(Document { accepted: Some(accepted), errors, .. }) = document else {
            anyhow::bail!("{}: {}", reply.status, detail(reply));
        };
        self.accepted += accepted;
        for verdict in errors {
            let number = part.get(verdict.index).map_or(0, |item| item.number);
            self.reject(number, &verdict.reason, &verdict.field, verdict.detail);
        }
        Ok(())
    }
}

fn report(outcome: &Outcome, took: Duration, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(outcome);
    }
    for one in outcome.rejects.iter().take(SHOWN_MAX) {
        let field = if one.field.is_empty() { String::new() } else { format!("{}: ", one.field) };
        output::line(&format!("event {}: {field}{} ({})", one.number, one.detail, one.reason))?;
    }
    if outcome.rejects.len() > SHOWN_MAX {
        output::line(&format!("and {} more; --json has all of them", outcome.rejects.len() - SHOWN_MAX))?;
    }
    let (accepted, rejected) =
        (output::grouped(&outcome.accepted.to_string()), output::grouped(&outcome.rejected.to_string()));
    eprintln!("{accepted} accepted, {rejected} rejected in {:.1} s", took.as_secs_f64());
    Ok(())
}
