//! One engine for all tests of this process, and HTTP without a library between: what is on the wire is what
//! is judged.

use std::path::PathBuf;
use std::sync::OnceLock;

use rentroll_engines::store::{Store, StoreConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An empty folder of that name, for the data of one engine.
pub fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if let Err(error) = std::fs::remove_dir_all(&path) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    }
    path
}

/// The configuration of the shared engine, with a database of that name.
pub fn config(database: &str) -> StoreConfig {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let data_dir = PATH.get_or_init(|| folder("store"));
    StoreConfig { database: format!("test_{database}"), ..StoreConfig::embedded(data_dir) }
}

/// The shared engine, with an empty database of that name.
pub async fn store(database: &str) -> Store {
    // Keeps the engine open between tests.
    static FIRST: tokio::sync::OnceCell<Store> = tokio::sync::OnceCell::const_new();
    FIRST.get_or_init(|| async { Store::open(&config("first")).await.unwrap() }).await;
    let store = Store::open(&config(database)).await.unwrap();
    assert!(store.is_embedded_here());
    store.migrate(&[]).await.unwrap();
    store
}

/// A number that a query gives.
pub async fn number(store: &Store, sql: &str) -> u64 {
    store.client().query_raw(sql).fetch_one().await.unwrap()
}

/// An HTTP answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
    /// Whether the body came to its end, by its length or its last chunk.
    pub is_whole: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request whose answer is not read yet.
pub struct Asked {
    pub stream: TcpStream,
}

/// Sends a request with the store's credential.
pub async fn send(store: &Store, target: &str, headers: &str, body: &[u8]) -> Asked {
    let credential =
        format!("X-ClickHouse-User: {}\r\nX-ClickHouse-Key: {}\r\n{headers}", store.user(), store.password());
    send_with(store.url(), target, &credential, body).await
}

/// Sends a request with these headers only. Without a body it is a GET.
pub async fn send_with(url: &str, target: &str, headers: &str, body: &[u8]) -> Asked {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    let method = if body.is_empty() { "GET" } else { "POST" };
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    Asked { stream }
}

impl Asked {
    pub async fn answer(mut self) -> Answer {
        let mut bytes = Vec::new();
        // A connection that is broken off may end with a reset.
        let _ = self.stream.read_to_end(&mut bytes).await;
        let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let rest = &bytes[head_end..];
        let mut answer = Answer { status, head, body: Vec::new(), is_whole: false };
        match answer.header("content-length").map(|length| length.parse::<usize>().unwrap()) {
            Some(length) => {
                answer.body = rest.to_vec();
                answer.is_whole = rest.len() == length;
            }
            None => (answer.body, answer.is_whole) = unchunk(rest),
        }
        answer
    }
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        rest = &rest[line + 2..];
        if length == 0 {
            return (body, true);
        }
        body.extend_from_slice(&rest[..length.min(rest.len())]);
        rest = rest.get(length + 2..).unwrap_or_default();
    }
    (body, false)
}

/// `text` as the value of a URL's parameter.
pub fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
