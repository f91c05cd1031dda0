//! A client that says exactly what it is told to, for tests of servers.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any answer that a test waits for.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The value of that header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Takes an answer apart.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &[u8]) -> io::Result<Self> {
        let text = String::from_utf8_lossy(text);
        let wrong = || io::Error::other(format!("not an answer: {text:?}"));
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(wrong)?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(wrong)?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Ok(Answer { status, headers: lines.filter_map(header).collect(), body: body.to_owned() })
    }
}

/// A request whose connection is closed after it.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n").into_bytes();
    for (name, value) in headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out
}

/// Sends `request` as it is, and reads the answer to its end.
///
/// # Errors
/// The connection's, or that there was no answer.
pub fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // A server may answer before it has all; what counts is the answer.
    let _ = stream.write_all(request);
    finish(&mut stream)
}

/// Reads the answer to its end.
///
/// # Errors
/// The connection's, or that there was no answer.
pub fn finish(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Err(error) if text.is_empty() => Err(error),
        _ => Answer::parse(&text),
    }
}

/// `POST`s `body`.
///
/// # Errors
/// The connection's, or that there was no answer.
pub fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
    exchange(address, &request("POST", path, headers, body))
}

/// `GET`s `path`.
///
/// # Errors
/// The connection's, or that there was no answer.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    exchange(address, &request("GET", path, &[], b""))
}
