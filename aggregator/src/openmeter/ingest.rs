//! `POST /api/v1/events`: the collector's door, with numbers as it takes them.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use http_body::Frame;

use super::Face;
use super::numbers::Rounding;
use crate::api::params::Params;
use crate::api::problem::{Kind, Problem};

/// Where the door takes events.
const PATH: &str = "/api/v1/events";

/// The token is looked at behind the door, and so are limits: the body goes there as it comes.
pub(super) async fn receive(State(face): State<Face>, request: Request) -> Result<Response, Problem> {
    let gate = face.api.gate();
    let headers = request.headers().clone();
    if let Err(problem) = Params::of_address(request.uri(), &["clientId"]) {
        gate.speaker(&headers)?;
        return Err(problem);
    }
    let Some(answer) = face.api.events_door().and_then(|door| door(exact(request))) else {
        gate.speaker(&headers)?;
        let detail = "no events are received here: send them to a collector (collector.http.listen)";
        return Err(Problem::new(Kind::Unavailable, detail).again_after(60));
    };
    let answer = answer.await;
    match answer.status() {
        StatusCode::TOO_MANY_REQUESTS => {
            let detail =
                "as many requests with events are in work as may be; nothing was taken, send it again";
            Err(Problem::new(Kind::Unavailable, detail).again_after(1))
        }
        _ => Ok(answer),
    }
}

/// The same request for the door, with numbers rounded as they come by.
fn exact(request: Request) -> Request {
    let (mut head, body) = request.into_parts();
    head.uri = Uri::from_static(PATH);
    // What is packed is not looked into.
    if is_packed(&head.headers) {
        return Request::from_parts(head, body);
    }
    // It may become another.
    head.headers.remove(CONTENT_LENGTH);
    Request::from_parts(head, Body::new(Exact { inner: body, rounding: Some(Rounding::default()) }))
}

fn is_packed(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// A body with its numbers rounded.
struct Exact {
    inner: Body,
    /// `None` once it has ended.
    rounding: Option<Rounding>,
}

impl http_body::Body for Exact {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            let frame = match Pin::new(&mut self.inner).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(frame) => frame,
            };
            let mut out = Vec::new();
            match frame {
                Some(Ok(frame)) => match (frame.into_data(), &mut self.rounding) {
                    (Ok(data), Some(rounding)) => {
                        out.reserve(data.len());
                        rounding.push(&data, &mut out);
                    }
                    // Trailers say nothing to the door.
                    _ => continue,
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => match self.rounding.take() {
                    Some(mut rounding) => rounding.finish(&mut out),
                    None => return Poll::Ready(None),
                },
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
    }
}
