//! One request: who speaks, what came, a verdict on each event, durable, answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Method, Request};
use rentroll_engines::log::{LogError, Record};
use rentroll_schemas::reject::reason;
use rentroll_schemas::token::{self, Grant, Sends};
use rentroll_schemas::topics::Topic;

use super::Shared;
use super::answer::{self, Answer, Problem};
use super::auth::Speaker;
use super::body::{self, BodyError, Encoding, Share};
use super::judge::{self, Refused, Rules};
use super::media::{self, Form};
use super::split;
use super::tls::Certified;
use crate::format::Refusal;
use crate::outgoing::{self, Load};

/// Bodies up to this are judged where they are; larger ones on a thread that may be kept busy. At 3 µs an event
/// this is about a millisecond.
const INLINE_BYTES: usize = 128 << 10;
/// So much of a body is read before a refusal is answered: a client that is still sending when the connection is
/// closed sees the closing, and not the answer.
const DISCARD_BYTES: usize = 1 << 20;
/// And for so long.
const DISCARD_WAIT: Duration = Duration::from_secs(2);

/// Answers `request`. `certified` is who the client's certificate names.
pub(super) async fn handle<B>(shared: &Arc<Shared>, request: Request<B>, certified: Certified) -> Answer
where
    B: Body<Data = Bytes, Error: std::fmt::Display>,
{
    let request_id = request_id();
    let _counted = Counted::new(shared);
    let (head, incoming) = request.into_parts();
    let mut incoming = std::pin::pin!(incoming);
    let answer = match serve(shared, &request_id, &head, &mut incoming, certified).await {
        Ok(answer) => answer,
        Err(problem) => {
            tracing::debug!(request_id, ?problem, "a request was refused");
            if problem.discard {
                let _ = tokio::time::timeout(DISCARD_WAIT, discard(incoming)).await;
            }
            answer::problem(&request_id, &problem)
        }
    };
    shared.metrics.requests.with_label_values(&[answer.status().as_str()]).inc();
    answer
}

/// What a request is called in its answer and in rejects.
pub(super) fn request_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// A request in work, in the gauge.
struct Counted<'a>(&'a Shared);

impl<'a> Counted<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.metrics.in_flight.inc();
        Counted(shared)
    }
}

impl Drop for Counted<'_> {
    /// Also of a request whose client went away.
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

async fn discard(mut body: impl Body<Data = Bytes> + Unpin) {
    let mut left = DISCARD_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

async fn serve<B>(
    shared: &Arc<Shared>,
    request_id: &str,
    head: &hyper::http::request::Parts,
    incoming: &mut B,
    certified: Certified,
) -> Result<Answer, Problem>
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    if !matches!(head.uri.path(), "/v1/events" | "/api/v1/events") {
        return Err(Problem::not_found());
    }
    if head.method != Method::POST {
        return Err(Problem::method());
    }
    let speaker = speaker(shared, &head.headers, certified)?;
    may_send(&speaker)?;
    let requests_max = shared.config.requests_max;
    let _in_work = shared.requests.try_acquire().map_err(|_| Problem::too_many(requests_max))?;
    let (form, encoding) = media::of(&head.headers)?;
    let mut share = shared.memory.share();
    let body = body::read(incoming, &shared.config, &mut share).await?;
    let now = Utc::now();

    let job = Job { shared: shared.clone(), request_id: request_id.to_owned(), speaker, form, encoding, now };
    let judged = match encoding == Encoding::Identity && body.len() <= INLINE_BYTES {
        true => job.judge(body, share, &head.headers),
        false => {
            let headers = if form == Form::Binary { head.headers.clone() } else { HeaderMap::new() };
            match tokio::task::spawn_blocking(move || job.judge(body, share, &headers)).await {
                Ok(judged) => judged,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
    }?;
    // The share stays: while the log is slow, what waits for it is what fills the memory.
    let Judged { load, accepted, refused, source, share } = judged;
    take(shared, load).await?;
    let counts = [(accepted, "accepted"), (refused.len(), "rejected")];
    for (count, verdict) in counts.into_iter().filter(|(count, _)| *count > 0) {
        shared.records.with_label_values(&[&source, verdict]).inc_by(count as u64);
    }
    Ok(match refused.is_empty() {
        true => answer::taken(request_id),
        false => answer::refused(request_id, accepted, &refused, share),
    })
}

fn speaker(shared: &Shared, headers: &HeaderMap, certified: Certified) -> Result<Speaker, Problem> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return match certified {
            Certified::Source(speaker) => Ok(speaker),
            Certified::Unlisted(name) => Err(Problem::unauthorized(format!(
                "the certificate is for `{name}`, which is not among collector.http.tls.sources"
            ))),
            Certified::Nobody => Err(Problem::unauthorized(
                "no token: send `authorization: Bearer rr_…`; `rentroll tokens create` makes one",
            )),
        };
    };
    let secret = value.to_str().ok().and_then(token::bearer);
    let secret = secret.ok_or_else(|| Problem::unauthorized("`authorization` is not `Bearer rr_…`"))?;
    shared.keys.speaker(secret, Utc::now()).map_err(|refused| Problem::unauthorized(refused.to_string()))
}

fn may_send(speaker: &Speaker) -> Result<(), Problem> {
    if speaker.grant.sends() != Sends::Nothing {
        return Ok(());
    }
    let id = &speaker.id;
    Err(Problem::forbidden(match &*speaker.grant {
        Grant::Portal { .. } => {
            format!("token `{id}` is a portal's: it reads usage, and sends no events")
        }
        grant => format!(
            "token `{id}` ({grant}) has no source, and sends no events; `rentroll tokens create --{grant} --source NAME` \
             makes one that sends them under that name"
        ),
    }))
}

/// Makes it durable.
async fn take(shared: &Shared, load: Load) -> Result<(), Problem> {
    let timer = shared.metrics.ack_seconds.start_timer();
    let taken = shared.intake.take(load).await;
    timer.observe_duration();
    match taken {
        Ok(()) => {
            if shared.failed_at_ms.swap(0, Ordering::Relaxed) != 0 {
                shared.part.idle();
            }
            Ok(())
        }
        Err(error @ LogError::TooLarge { .. }) => Err(Problem::too_large(error.to_string())),
        Err(error) => {
            tracing::warn!(%error, "events were turned away");
            shared.failed_at_ms.store(Utc::now().timestamp_millis(), Ordering::Relaxed);
            shared.part.failing(format!("events are turned away: {error}"));
            Err(Problem::unavailable(error))
        }
    }
}

/// What judging needs, apart from the body.
struct Job {
    shared: Arc<Shared>,
    request_id: String,
    speaker: Speaker,
    form: Form,
    encoding: Encoding,
    now: DateTime<Utc>,
}

/// What became of a request's events.
struct Judged {
    load: Load,
    accepted: usize,
    refused: Vec<Refused>,
    /// For the metrics.
    source: String,
    /// The memory of `load` and `refused`.
    share: Share,
}

/// Records of refused events, and what they and the refusals hold in memory.
struct Rejects {
    records: Vec<Record>,
    bytes: usize,
}

impl Job {
    /// A body that cannot be read is one refused event: kept, and answered, like any.
    fn judge(&self, body: Bytes, mut share: Share, headers: &HeaderMap) -> Result<Judged, Problem> {
        let config = &self.shared.config;
        let decoded = match body::decode(self.encoding, body.clone(), config.decoded_bytes_max, &mut share) {
            Ok(decoded) => decoded,
            Err(error @ BodyError::Undecodable { .. }) => {
                return self.unreadable(&body, error.to_string(), share);
            }
            Err(error) => return Err(error.into()),
        };
        let structured;
        let elements = match self.form {
            Form::Binary => {
                structured = super::binary::structured(headers, &decoded);
                Ok(vec![&structured[..]])
            }
            Form::Structured => Ok(vec![decoded.trim_ascii()]),
            Form::Plain if split::first(&decoded) != Some(b'[') => Ok(vec![decoded.trim_ascii()]),
            Form::Plain | Form::Batch => split::elements(&decoded),
        };
        let elements = match elements {
            Ok(elements) => elements,
            Err(error) => return self.unreadable(&decoded, error.to_string(), share),
        };
        if elements.len() > config.batch_events_max {
            return Err(Problem::too_many_events(elements.len(), config.batch_events_max));
        }
        let reserved = self.shared.keys.reserved();
        let rules = self.rules(&reserved);
        let (events, refused) = judge::judge(&elements, &rules);
        let accepted = events.len();
        let arrived_at_ms = self.now.timestamp_millis();
        let backfill = self.speaker.backfill();
        let mut load = self.shared.packer.load(&events, arrived_at_ms, backfill);
        let mut held: usize = load.iter().map(|(_, records)| outgoing::bytes_of(records)).sum();
        share.grow(held)?;
        if !refused.is_empty() {
            let rejects = self.rejects(&refused, &elements, &rules, &mut share)?;
            held += rejects.bytes;
            load.push((Topic::Rejects, rejects.records));
        }
        // The body goes, and what was made of it stays.
        share.shrink_to(held);
        Ok(Judged { load, accepted, refused, source: self.speaker.source().to_owned(), share })
    }

    /// A reject is larger than its event, the smallest a hundred times: each is taken account of when it is made.
    fn rejects(
        &self,
        refused: &[Refused],
        elements: &[&[u8]],
        rules: &Rules<'_>,
        share: &mut Share,
    ) -> Result<Rejects, BodyError> {
        let mut rejects = Rejects { records: Vec::with_capacity(refused.len()), bytes: 0 };
        for one in refused {
            let reject = judge::reject(one, elements[one.index], &self.request_id, rules);
            let record = outgoing::reject(&reject);
            let bytes = outgoing::bytes_of(std::slice::from_ref(&record)) + one.bytes();
            share.grow(bytes)?;
            rejects.bytes += bytes;
            rejects.records.push(record);
        }
        Ok(rejects)
    }

    fn rules<'a>(&'a self, reserved: &'a super::auth::Reserved) -> Rules<'a> {
        Rules {
            speaker: &self.speaker,
            reserved,
            plain: self.form == Form::Plain,
            event_bytes_max: self.shared.config.event_bytes_max,
            now: self.now,
        }
    }

    fn unreadable(&self, bytes: &[u8], detail: String, mut share: Share) -> Result<Judged, Problem> {
        let refusal = Refusal { reason: reason::UNREADABLE, field: "body".to_owned(), detail };
        let refused = vec![Refused { index: 0, refusal }];
        let reserved = self.shared.keys.reserved();
        let rejects = self.rejects(&refused, &[bytes], &self.rules(&reserved), &mut share)?;
        share.shrink_to(rejects.bytes);
        Ok(Judged {
            load: vec![(Topic::Rejects, rejects.records)],
            accepted: 0,
            refused,
            source: self.speaker.source().to_owned(),
            share,
        })
    }
}
