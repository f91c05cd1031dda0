//! The way in for requests that another server of this process has received: the same judgement, limits, metrics and
//! answers as on the listener, without a connection of our own.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use hyper::Request;
use hyper::body::Body;

use super::answer::{self, Answer, Problem};
use super::tls::Certified;
use super::{Shared, handler};

/// Takes requests as long as its [`Ingest`](super::Ingest) runs. It keeps nothing alive: after
/// [`stop`](super::Ingest::stop) the log can be closed, whoever still has a door.
#[derive(Clone)]
pub struct IngestDoor(Weak<Shared>);

impl IngestDoor {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        IngestDoor(Arc::downgrade(shared))
    }

    /// Answers a POST of `/v1/events` or `/api/v1/events`; any other path is a 404, any other method a 405. A token is
    /// needed: there is no client certificate here. Bodies are read within the limits of `[collector.http]`, their
    /// times among them.
    ///
    /// As many requests may be here at the same time as the listener has connections; past that, and once the
    /// collector stops, the answer is a 503.
    pub async fn handle<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes, Error: std::fmt::Display>,
    {
        let Some(shared) = self.0.upgrade() else { return turned_away("the collector has stopped") };
        let Ok(_place) = shared.doors.try_acquire() else {
            shared.metrics.requests.with_label_values(&["503"]).inc();
            return turned_away("too many requests are here, or the collector stops");
        };
        handler::handle(&shared, request, Certified::Nobody).await
    }
}

fn turned_away(why: &str) -> Answer {
    answer::problem(&handler::request_id(), &Problem::unavailable(why))
}
