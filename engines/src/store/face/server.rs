//! The listening side of the face.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use axum::serve::ListenerExt as _;
use subtle::ConstantTimeEq as _;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::store::chdb::{Engine, EngineError};

use super::cancel::{CancelGuard, Kills, Progress};
use super::fault::{Fault, code};
use super::intake::pump;
use super::outlet::{Outlet, PIECES_MAX};
use super::request::{Ask, Credential, QUERY_BYTES_MAX};
use super::run::{Head, Work};

/// Requests that run at once. Each has a thread here and some in the engine; the machines that this is for have
/// few cores, and what waits costs only a connection.
const REQUESTS_MAX: usize = 32;
/// How long a request waits for its turn before it is told to come back.
const TURN_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long the threads may go on that end queries of clients that have gone, when the face closes.
const KILL_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long requests in flight may go on when the face closes.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(10);

/// What the face needs to know.
pub(crate) struct FaceConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) user: String,
    pub(crate) password: String,
    /// For answers that are kept back until their query ends.
    pub(crate) scratch: PathBuf,
}

/// A running face; dropping it closes it, and with it its hold on the engine.
pub(crate) struct Face {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    engine: Arc<Engine>,
    kills: Arc<Kills>,
    user: String,
    password: String,
    scratch: PathBuf,
    turns: Semaphore,
    version: Arc<str>,
    timezone: HeaderValue,
    display_name: HeaderValue,
}

impl Face {
    /// Begins to serve `engine`. The face has threads of its own: it outlives the runtime of whoever opened it.
    pub(crate) fn start(engine: Arc<Engine>, config: FaceConfig) -> Result<Face, FaceError> {
        let listener = TcpListener::bind(config.listen)
            .map_err(|source| FaceError::Listen { address: config.listen, source })?;
        let address = listener.local_addr().map_err(FaceError::Start)?;
        listener.set_nonblocking(true).map_err(FaceError::Start)?;
        let about = engine.connect()?.query(b"SELECT version(), timezone(), hostName()", "TSV", &[])?;
        let about = String::from_utf8_lossy(about.as_ref()).into_owned();
        let mut about = about.trim_end().split('\t');
        let mut next = || about.next().unwrap_or_default();
        let value = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
        let kills = Arc::<Kills>::default();
        let shared = Arc::new(Shared {
            kills: Arc::clone(&kills),
            version: next().into(),
            timezone: value(next()),
            display_name: value(next()),
            engine,
            user: config.user,
            password: config.password,
            scratch: config.scratch,
            turns: Semaphore::new(REQUESTS_MAX),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(REQUESTS_MAX + 8)
            .thread_name("rentroll-face")
            .enable_all()
            .build()
            .map_err(FaceError::Start)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("rentroll-face".to_owned())
            .spawn(move || {
                runtime.block_on(serve(listener, shared, stopped));
                // What still runs holds the engine open; it ends with the process at the latest.
                runtime.shutdown_timeout(Duration::from_secs(1));
                kills.wait(KILL_WAIT_MAX);
            })
            .map_err(FaceError::Start)?;
        Ok(Face { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        // The thread has gone already if the receiver has.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the store's HTTP face panicked");
        }
    }
}

/// Why the face could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FaceError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot start the HTTP face: {0}")]
    Start(io::Error),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener.tap_io(|stream| {
            // Without it each small answer waits for the peer's delayed acknowledgement, some 40 ms.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
        }),
        Err(error) => {
            tracing::error!(%error, "the store's HTTP face cannot listen");
            return;
        }
    };
    let router =
        Router::new().fallback(handle).layer(DefaultBodyLimit::max(QUERY_BYTES_MAX)).with_state(shared);
    let (closing, closed) = oneshot::channel::<()>();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        let _ = stopped.await;
        let _ = closing.send(());
    });
    let deadline = async {
        let _ = closed.await;
        tokio::time::sleep(CLOSE_WAIT_MAX).await;
    };
    tokio::select! {
        result = server => {
            if let Err(error) = result {
                tracing::error!(%error, "the store's HTTP face ended");
            }
        }
        () = deadline => tracing::warn!("requests were still running when the store closed; they are broken off"),
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    if matches!(path, "/ping" | "/replicas_status") {
        return text(StatusCode::OK, "Ok.\n");
    }
    if path != "/" {
        let message =
            format!("There is no handle {path}\n\nUse / or /ping for health checks, POST / for queries.\n");
        return text(StatusCode::NOT_FOUND, &message);
    }
    let is_bare = request.uri().query().is_none_or(|query| !query.contains("query="));
    if is_bare && matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::OK, "Ok.\n");
    }
    if let Err(fault) = shared.authenticate(&Credential::of(&request)) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        return shared.refuse(fault, "");
    }
    let (ask, body) = match Ask::read(request).await {
        Ok(read) => read,
        Err(fault) => return shared.refuse(fault, ""),
    };
    let query_id = ask.query_id.clone().unwrap_or_else(random_id);
    match shared.answer(ask, body).await {
        Ok((head, tag, outlet)) => shared.respond(&head, &tag, &query_id, outlet),
        Err(fault) => shared.refuse(fault, &query_id),
    }
}

impl Shared {
    /// Compares in a time that does not tell how much was right.
    fn authenticate(&self, credential: &Credential) -> Result<(), Fault> {
        if credential.user.is_none() && credential.password.is_none() {
            let message =
                "a user and a password are required: X-ClickHouse-User and X-ClickHouse-Key, or HTTP Basic";
            return Err(Fault::new(code::REQUIRED_PASSWORD, "REQUIRED_PASSWORD", message));
        }
        let user = credential.user.as_deref().unwrap_or("default");
        let password = credential.password.as_deref().unwrap_or_default();
        let is_user = user.as_bytes().ct_eq(self.user.as_bytes());
        let is_password = password.as_bytes().ct_eq(self.password.as_bytes());
        if (is_user & is_password).into() {
            return Ok(());
        }
        let message = format!(
            "{user}: Authentication failed: password is incorrect, or there is no user with such name"
        );
        Err(Fault::new(code::AUTHENTICATION_FAILED, "AUTHENTICATION_FAILED", message))
    }

    async fn answer(self: &Arc<Self>, ask: Ask, body: Body) -> Result<(Head, String, Outlet), Fault> {
        let turn = tokio::time::timeout(TURN_WAIT_MAX, self.turns.acquire());
        // The semaphore is never closed: only the time can run out.
        let Ok(Ok(permit)) = turn.await else {
            let message = format!(
                "too many requests: {REQUESTS_MAX} were running for {} s; try again later",
                TURN_WAIT_MAX.as_secs()
            );
            let name = "TOO_MANY_SIMULTANEOUS_QUERIES";
            return Err(Fault::new(code::TOO_MANY_SIMULTANEOUS_QUERIES, name, message));
        };
        permit.forget();
        let turn = Turn(Arc::clone(self));
        let progress = Arc::new(Progress::default());
        let mark = format!("rentroll-request-{}", random_id());
        let guard = CancelGuard::new(
            Arc::clone(&self.engine),
            Arc::clone(&self.kills),
            Arc::clone(&progress),
            mark.clone(),
        );
        let (head_sender, head) = oneshot::channel();
        let (parts_sender, parts) = mpsc::channel(PIECES_MAX);
        let tag: String =
            std::iter::repeat_with(|| char::from(rand::random_range(b'a'..=b'z'))).take(16).collect();
        let work = Work {
            engine: Arc::clone(&self.engine),
            pieces: pump(body),
            ask,
            mark,
            tag: tag.clone(),
            version: Arc::clone(&self.version),
            progress,
            head: head_sender,
            parts: parts_sender,
        };
        tokio::task::spawn_blocking(move || {
            work.run(&turn.0.scratch);
            drop(turn);
        });
        match head.await {
            Ok(Ok(head)) => Ok((head, tag, Outlet::new(parts, guard))),
            Ok(Err(fault)) => {
                guard.disarm();
                Err(fault)
            }
            // The thread panicked: the guard kills what may still run.
            Err(_) => Err(Fault::new(code::SYSTEM_ERROR, "SYSTEM_ERROR", "the request's thread failed")),
        }
    }

    fn respond(&self, head: &Head, tag: &str, query_id: &str, outlet: Outlet) -> Response<Body> {
        let mut response = Response::new(Body::from_stream(outlet));
        let headers = response.headers_mut();
        let content_type = HeaderValue::from_static(super::format::content_type(&head.format));
        headers.insert(header::CONTENT_TYPE, content_type);
        if let Some(encoding) = head.encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        let summary = head.summary;
        let summary = format!(
            r#"{{"read_rows":"{}","read_bytes":"{}","written_rows":"{}","written_bytes":"{}","total_rows_to_read":"0","result_rows":"0","result_bytes":"0"}}"#,
            summary.rows_read, summary.bytes_read, summary.rows_written, summary.bytes_written
        );
        insert(headers, "x-clickhouse-summary", &summary);
        insert(headers, "x-clickhouse-format", &head.format);
        insert(headers, "x-clickhouse-exception-tag", tag);
        self.finish(response, query_id)
    }

    fn refuse(&self, fault: Fault, query_id: &str) -> Response<Body> {
        let fault = fault.with_version(&self.version);
        tracing::debug!(code = fault.code, text = fault.text, "request to the embedded store failed");
        let mut response = text(fault.status(), &format!("{}\n", fault.text));
        let headers = response.headers_mut();
        insert(headers, "x-clickhouse-exception-code", &fault.code.to_string());
        if fault.code == code::REQUIRED_PASSWORD {
            let challenge = HeaderValue::from_static("Basic realm=\"ClickHouse\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if fault.code == code::TOO_MANY_SIMULTANEOUS_QUERIES {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        self.finish(response, query_id)
    }

    fn finish(&self, mut response: Response<Body>, query_id: &str) -> Response<Body> {
        let headers = response.headers_mut();
        insert(headers, "x-clickhouse-query-id", query_id);
        headers.insert("x-clickhouse-timezone", self.timezone.clone());
        headers.insert("x-clickhouse-server-display-name", self.display_name.clone());
        response
    }
}

/// One of the requests that run at once; given back when its thread has ended.
struct Turn(Arc<Shared>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.turns.add_permits(1);
    }
}

fn insert(headers: &mut axum::http::HeaderMap, name: &'static str, value: &str) {
    // What a client chose may not fit into a header; then it does without.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn text(status: StatusCode, body: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_owned()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// 128 random bits, written as a UUID.
fn random_id() -> String {
    let hex = format!("{:032x}", rand::random::<u128>());
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
