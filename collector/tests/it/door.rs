//! Requests that another server of the process hands over.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame};
use hyper::{Request, Response, StatusCode};
use rentroll_collector::http::config::HttpConfig;
use rentroll_collector::http::door::IngestDoor;
use rentroll_schemas::token::Grant;
use rentroll_schemas::topics::Topic;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::rig::{Rig, event, events};

fn request<B>(path: &str, secret: &str, body: B) -> Request<B> {
    let builder = Request::post(path).header("authorization", format!("Bearer {secret}"));
    builder.header("content-type", "application/cloudevents+json").body(body).unwrap()
}

fn whole(id: &str) -> Full<Bytes> {
    Full::from(event("api", id, "acme").replacen('{', r#"{"specversion":"1.0","#, 1))
}

/// By way of a task, as a server does it: the future must be one that a task can hold.
fn send<B>(rig: &Rig, door: &IngestDoor, request: Request<B>) -> Response<Bytes>
where
    B: Body<Data = Bytes, Error: std::fmt::Display + Send> + Send + 'static,
{
    let door = door.clone();
    let handled = rig.runtime().spawn(async move {
        let (head, body) = door.handle(request).await.into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    });
    rig.runtime().block_on(handled).unwrap()
}

fn text(answer: &Response<Bytes>) -> &str {
    std::str::from_utf8(answer.body()).unwrap()
}

/// A body in pieces, which may break off.
struct Pieces(VecDeque<Result<&'static str, &'static str>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.0.pop_front();
        Poll::Ready(piece.map(|piece| piece.map(|text| Frame::data(Bytes::from_static(text.as_bytes())))))
    }
}

/// A body that comes when the test says so.
struct Later(mpsc::Receiver<Bytes>);

impl Body for Later {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A request that is inside, and has the beginning of its event; it goes on when more is sent.
fn hang(rig: &Rig, secret: &str) -> (mpsc::Sender<Bytes>, JoinHandle<StatusCode>) {
    let (sender, receiver) = mpsc::channel(1);
    let (door, request) = (rig.door(), request("/v1/events", secret, Later(receiver)));
    let inside = rig.runtime().spawn(async move { door.handle(request).await.status() });
    let first = br#"{"specversion":"1.0","id":"1","source":"api","#;
    rig.runtime().block_on(async {
        sender.send(Bytes::from_static(first)).await.unwrap();
        // Until it is taken from the channel.
        while sender.capacity() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    (sender, inside)
}

#[test]
fn what_comes_by_the_door_is_judged_as_what_comes_by_the_listener() {
    let mut rig = Rig::new(HttpConfig { body_bytes_max: 1 << 18, ..HttpConfig::default() });
    let secret = rig.tenant("acme");
    let portal = rig.token(Grant::Portal { tenant: "acme".into(), meters: vec![] }, None);
    let door = rig.door();
    for path in ["/v1/events", "/api/v1/events"] {
        let answer = send(&rig, &door, request(path, &secret, whole(path)));
        assert_eq!((answer.status().as_u16(), text(&answer)), (204, ""));
        assert_eq!(answer.headers()["x-request-id"].len(), 16);
    }
    let pieces = [Ok(r#"{"specversion":"1.0","id":"3","source":"a"#), Ok("pi"), Ok(r#"","type":"t"}"#)];
    assert_eq!(send(&rig, &door, request("/v1/events", &secret, Pieces(pieces.into()))).status(), 204);
    // Larger than what is judged in place.
    let many = Full::from(events("api", "acme", 100..1900));
    let mut large = request("/v1/events", &secret, many);
    large.headers_mut().insert("content-type", "application/json".parse().unwrap());
    assert_eq!(send(&rig, &door, large).status(), 204);
    assert_eq!(rig.read(Topic::Usage).len(), 1803);

    for (request, status, said) in [
        (request("/events", &secret, whole("x")), 404, "POST /v1/events"),
        (request("/v1/events", "rr_no", whole("x")), 401, "not known"),
        (request("/v1/events", &portal, whole("x")), 403, "sends no events"),
        (request("/v1/events", &secret, Full::from(vec![b' '; 1 << 19])), 413, "larger than"),
        (request("/v1/events", &secret, Full::from(event("web", 1, "acme"))), 400, "\"rejected\":1"),
    ] {
        let answer = send(&rig, &door, request);
        assert_eq!((answer.status().as_u16(), text(&answer).contains(said)), (status, true), "{answer:?}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    let mut get = request("/v1/events", &secret, whole("x"));
    *get.method_mut() = hyper::Method::GET;
    assert_eq!(send(&rig, &door, get).status(), 405);
    let broken = Pieces([Ok("{"), Err("the other side is gone")].into());
    let answer = send(&rig, &door, request("/v1/events", &secret, broken));
    assert_eq!(answer.status(), 400);
    assert!(text(&answer).contains("broke off after 1 bytes: the other side is gone"), "{answer:?}");
    assert_eq!((rig.read(Topic::Usage).len(), rig.read(Topic::Rejects).len()), (1803, 1));
}

#[test]
fn when_the_collector_stops_the_door_is_shut_and_who_is_inside_is_answered() {
    let mut rig = Rig::new(HttpConfig::default());
    let secret = rig.tenant("acme");
    let door = rig.door();
    let (sender, inside) = hang(&rig, &secret);
    let ingest = rig.take();
    let stopping = rig.runtime().spawn(ingest.stop());
    let begun = Instant::now();
    while send(&rig, &door, request("/v1/events", &secret, whole("2"))).status() != 503 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the door is still open");
    }
    let before = rig.read(Topic::Usage).len();
    std::thread::sleep(Duration::from_millis(200));
    assert!(!stopping.is_finished(), "it did not wait for who is inside");
    rig.runtime().block_on(async {
        sender.send(Bytes::from_static(br#""type":"t"}"#)).await.unwrap();
        drop(sender);
        assert_eq!(inside.await.unwrap(), 204);
        stopping.await.unwrap();
    });
    assert_eq!(rig.read(Topic::Usage).len(), before + 1);
    let answer = send(&rig, &door, request("/v1/events", &secret, whole("3")));
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"5".parse().unwrap()));
    assert!(text(&answer).contains("has stopped"), "{answer:?}");
    assert_eq!(Arc::strong_count(&rig.log), 1, "the door keeps the log open");
}

#[test]
fn as_many_are_inside_as_the_listener_has_connections() {
    let mut rig = Rig::new(HttpConfig { connections_max: 1, ..HttpConfig::default() });
    let secret = rig.tenant("acme");
    let door = rig.door();
    let (sender, inside) = hang(&rig, &secret);
    assert_eq!(send(&rig, &door, request("/v1/events", &secret, whole("2"))).status(), 503);
    drop(sender);
    assert_eq!(rig.runtime().block_on(inside).unwrap(), 400);
    assert_eq!(send(&rig, &door, request("/v1/events", &secret, whole("3"))).status(), 204);
}
