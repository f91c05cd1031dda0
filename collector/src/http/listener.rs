//! Accepting connections, and cutting those that are idle or slow.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Shared;
use super::handler;
use super::tls::Certified;

/// What a connection past the limit is told; it is not worth a parser.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
/// What a connection may hold of a request that is not read yet, its head among it: 64 MiB for 1,024 connections.
/// Smaller, and a body of a hundred events comes in many pieces.
const BUFFER_BYTES: usize = 64 << 10;
/// How long to wait after an accept that failed, as for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Accepts until `stop` says so; then waits until the requests in work are answered.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let limit = shared.config.connections_max;
    let places = Arc::new(Semaphore::new(limit));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(connection(stream, shared.clone(), place, stop.clone()));
            }
            Err(_) => {
                shared.metrics.requests.with_label_values(&["503"]).inc();
                tokio::spawn(turn_away(stream));
            }
        }
    }
    drop(listener);
    // All places are free when the last connection is gone.
    let all = u32::try_from(limit).unwrap_or(u32::MAX);
    let _ = places.acquire_many(all).await;
}

async fn turn_away(mut stream: TcpStream) {
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(FULL)).await;
}

async fn connection(
    stream: TcpStream,
    shared: Arc<Shared>,
    _place: OwnedSemaphorePermit,
    stop: watch::Receiver<bool>,
) {
    // An answer is one small segment: waiting for company costs 40 ms.
    let _ = stream.set_nodelay(true);
    shared.metrics.connections.inc();
    match &shared.tls {
        None => serve(stream, &shared, Certified::Nobody, stop).await,
        Some(tls) => {
            let head = Duration::from_millis(shared.config.head_timeout_ms);
            match tokio::time::timeout(head, tls.acceptor().accept(stream)).await {
                Ok(Ok(stream)) => {
                    let certified = tls.certified(stream.get_ref().1);
                    serve(stream, &shared, certified, stop).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        }
    }
    shared.metrics.connections.dec();
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    shared: &Arc<Shared>,
    certified: Certified,
    mut stop: watch::Receiver<bool>,
) {
    let config = &shared.config;
    let pace = Arc::new(Pace::new(config.head_timeout_ms, config.idle_timeout_ms));
    let service = {
        let (pace, shared) = (pace.clone(), shared.clone());
        service_fn(move |request| {
            pace.request();
            let (pace, shared, certified) = (pace.clone(), shared.clone(), certified.clone());
            async move {
                let answer = handler::handle(&shared, request, certified).await;
                pace.idle();
                Ok::<_, std::convert::Infallible>(answer)
            }
        })
    };
    let mut builder = http1::Builder::new();
    // Its own timeout of the head would count the time between requests too.
    builder.header_read_timeout(None).half_close(false).max_buf_size(BUFFER_BYTES);
    let connection = builder.serve_connection(TokioIo::new(Paced { stream, pace: pace.clone() }), service);
    tokio::pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            // A client that breaks off is no news.
            _ = &mut connection => return,
            () = tokio::time::sleep(pace.look_again()) => {
                if pace.is_over() {
                    return;
                }
            }
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// What a connection is at, and until when it may be.
struct Pace {
    begun: Instant,
    state: AtomicU8,
    /// Milliseconds after `begun`.
    deadline_ms: AtomicU64,
    head_ms: u64,
    idle_ms: u64,
}

/// Between requests.
const IDLE: u8 = 0;
/// A request's head has begun.
const HEAD: u8 = 1;
/// In work: bodies have timeouts of their own.
const REQUEST: u8 = 2;

impl Pace {
    fn new(head_ms: u64, idle_ms: u64) -> Self {
        let begun = Instant::now();
        Pace { begun, state: AtomicU8::new(HEAD), deadline_ms: AtomicU64::new(head_ms), head_ms, idle_ms }
    }

    fn set(&self, state: u8, in_ms: u64) {
        self.deadline_ms.store(self.now_ms().saturating_add(in_ms), Ordering::Relaxed);
        self.state.store(state, Ordering::Relaxed);
    }

    fn received(&self) {
        if self.state.load(Ordering::Relaxed) == IDLE {
            self.set(HEAD, self.head_ms);
        }
    }

    fn request(&self) {
        self.set(REQUEST, u64::MAX);
    }

    fn idle(&self) {
        self.set(IDLE, self.idle_ms);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_over(&self) -> bool {
        self.now_ms() >= self.deadline_ms.load(Ordering::Relaxed)
    }

    /// A deadline can come nearer while nobody looks, by no more than the shorter of the two timeouts.
    fn look_again(&self) -> Duration {
        let left = self.deadline_ms.load(Ordering::Relaxed).saturating_sub(self.now_ms());
        Duration::from_millis(left.min(self.head_ms.min(self.idle_ms)).max(1))
    }
}

/// Tells the pace when a request begins to come.
struct Paced<S> {
    stream: S,
    pace: Arc<Pace>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pace.received();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
