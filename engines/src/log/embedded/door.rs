//! A door into an embedded log for other processes of the same user: append, and nothing else.
//!
//! One process holds the log. A command that has something to append (a reject to replay) while that process runs
//! goes through a socket in a folder that only its user may enter: that is the credential.
//!
//! ```text
//! request: u8 topic   u32 length   frames (see [`frame`]), their positions 0
//! answer:  u8 0 = durable, 1 = refused   u32 length   why
//! ```
//! All little-endian. An answer comes when the append is as durable as any other.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rentroll_schemas::topics::Topic;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::frame::{self, Decoded};
use super::io_error;
use crate::log::{LogError, Record, Result, SharedLog};

/// Largest request: bounds what a connection can make this process hold.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// A connection that sends nothing for this long is closed.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How long an append may take: the log may have to wait for a sync.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

fn socket_path(dir: &Path) -> PathBuf {
    dir.join("door").join("socket")
}

/// Opens the door of `log`, whose folder is `dir`. It is open until the future is dropped.
///
/// # Errors
/// If the socket cannot be made; the path of a socket has at most 107 bytes.
pub async fn serve(log: SharedLog, dir: &Path) -> Result<()> {
    let path = socket_path(dir);
    let folder = dir.join("door");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|source| io_error("create folder", &folder, source))?;
    // Left by a process that was killed: whoever holds the log may take it away.
    if let Err(source) = fs::remove_file(&path)
        && source.kind() != io::ErrorKind::NotFound
    {
        return Err(io_error("remove", &path, source));
    }
    let listener = UnixListener::bind(&path).map_err(|source| io_error("listen on", &path, source))?;
    let _closes = Closes { path: path.clone() };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let log = log.clone();
                tokio::spawn(async move {
                    if let Err(error) = answer(&log, stream).await {
                        tracing::debug!(%error, "a client of the log's door went away");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a client at the log's door");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Takes the socket away with the one who listens, so that its being there says that somebody does.
struct Closes {
    path: PathBuf,
}

impl Drop for Closes {
    fn drop(&mut self) {
        // At worst it is left behind, as after a kill, and the next one takes it away.
        let _ = fs::remove_file(&self.path);
    }
}

async fn answer(log: &SharedLog, mut stream: UnixStream) -> io::Result<()> {
    loop {
        let topic = match tokio::time::timeout(IDLE_MAX, stream.read_u8()).await {
            Ok(Ok(topic)) => topic,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let length = stream.read_u32_le().await? as usize;
        let result = if length > REQUEST_BYTES_MAX {
            Err(format!("{length} bytes in one request, more than {REQUEST_BYTES_MAX}"))
        } else {
            let mut request = vec![0; length];
            stream.read_exact(&mut request).await?;
            append(log, topic, request.into()).await
        };
        let is_refused = result.is_err();
        let reason = result.err().unwrap_or_default();
        stream.write_u8(u8::from(is_refused)).await?;
        stream.write_u32_le(reason.len() as u32).await?;
        stream.write_all(reason.as_bytes()).await?;
        stream.flush().await?;
        if is_refused {
            return Ok(());
        }
    }
}

async fn append(log: &SharedLog, topic: u8, mut request: Bytes) -> std::result::Result<(), String> {
    let topic = Topic::ALL.get(usize::from(topic)).ok_or_else(|| format!("there is no topic {topic}"))?;
    let mut records = Vec::new();
    while !request.is_empty() {
        let Decoded::Frame(positioned, length) = frame::decode(&request) else {
            return Err("the request is damaged".to_owned());
        };
        records.push(positioned.record);
        request = request.slice(length..);
    }
    log.append(*topic, records).await.map_err(|error| error.to_string())
}

/// The door of a log that another process holds, from outside.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
}

impl Door {
    /// The door of the log in `dir`; whether anybody is behind it shows when it is used.
    pub fn of(dir: &Path) -> Self {
        Door { path: socket_path(dir) }
    }

    /// Appends all of `records`; when it returns `Ok` they are durable.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] if nobody answers or the log takes nothing. Some of the records may be in then:
    /// append them again, dedup is by identity.
    pub async fn append(&self, topic: Topic, records: &[Record]) -> Result<()> {
        let mut request = BytesMut::new();
        for record in records {
            let bytes = frame::encoded_len(record);
            if !frame::fits(record) {
                return Err(LogError::TooLarge { bytes, limit: frame::BODY_BYTES_MAX });
            }
            if request.len() + bytes > REQUEST_BYTES_MAX {
                self.send(topic, request.split().freeze()).await?;
            }
            frame::encode(&mut request, 0, record);
        }
        self.send(topic, request.freeze()).await
    }

    async fn send(&self, topic: Topic, request: Bytes) -> Result<()> {
        let index = Topic::ALL.iter().position(|one| *one == topic).unwrap_or_default() as u8;
        let exchange = async {
            let mut stream = UnixStream::connect(&self.path).await?;
            stream.write_u8(index).await?;
            stream.write_u32_le(request.len() as u32).await?;
            stream.write_all(&request).await?;
            stream.flush().await?;
            let is_refused = stream.read_u8().await? != 0;
            let mut reason = vec![0; (stream.read_u32_le().await? as usize).min(1 << 16)];
            stream.read_exact(&mut reason).await?;
            io::Result::Ok(is_refused.then(|| String::from_utf8_lossy(&reason).into_owned()))
        };
        let path = self.path.display();
        match tokio::time::timeout(ANSWER_WAIT, exchange).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(reason))) => Err(LogError::Unavailable(reason)),
            Ok(Err(error)) => Err(LogError::Unavailable(format!(
                "the process that holds the log does not answer at {path}: {error}"
            ))),
            Err(_) => {
                Err(LogError::Unavailable(format!("no answer at {path} within {} s", ANSWER_WAIT.as_secs())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rentroll_schemas::Identity;

    use super::super::{EmbeddedConfig, EmbeddedLog};
    use super::*;
    use crate::log::Headers;

    fn record(number: u64, bytes: usize) -> Record {
        Record {
            key: Identity::of("acme", "test", &number.to_string()),
            headers: Headers::default(),
            value: vec![7; bytes].into(),
            arrived_at_ms: number as i64,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_goes_through_the_door_is_in_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let door = Door::of(dir.path());
        let error = door.append(Topic::Usage, &[record(0, 1)]).await.unwrap_err().to_string();
        assert!(error.contains("does not answer"), "{error}");
        let log: SharedLog = Arc::new(EmbeddedLog::open(EmbeddedConfig::new(dir.path())).unwrap());
        let served = (log.clone(), dir.path().to_owned());
        let serving = tokio::spawn(async move { serve(served.0, &served.1).await });
        while !socket_path(dir.path()).exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // More than one request's worth.
        let records: Vec<Record> = (0..30).map(|number| record(number, 1 << 20)).collect();
        door.append(Topic::Rejects, &records).await.unwrap();
        let ends: u64 = log.lag("x", Topic::Rejects).unwrap().iter().map(|lag| lag.end).sum();
        assert_eq!(ends, 30);
        let large = door.append(Topic::Usage, &[record(1, 9 << 20)]).await.unwrap_err();
        assert!(matches!(large, LogError::TooLarge { .. }), "{large}");
        serving.abort();
        let _ = serving.await;
        assert!(!socket_path(dir.path()).exists());
    }
}
