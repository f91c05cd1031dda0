//! The answer on its way out: encoded, bounded, and broken off loudly when the query fails on the way.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::write::GzEncoder;
use futures_util::Stream;
use tokio::sync::mpsc;

use super::block;
use super::cancel::CancelGuard;
use super::fault::Fault;

/// Pieces of an answer that wait for a slow client. A piece is at most a block of rows.
pub(super) const PIECES_MAX: usize = 4;
/// What is held in memory of an answer that is kept back until its query has ended; the rest goes to a file.
const HELD_BYTES_MAX: usize = 32 << 20;
/// Most bytes of an answer that are kept back: what is larger must be streamed, or it could fill the disk on which
/// the store itself stands.
const HELD_FILE_BYTES_MAX: u64 = 4 << 30;
/// Longest piece handed to the connection at once.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// Between the text of an error in mid-answer and the break of the connection: time for the text to leave.
const BREAK_DELAY: Duration = Duration::from_millis(50);

/// How the answer is encoded.
pub(super) enum Encoder {
    Plain,
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Frames,
}

impl Encoder {
    pub(super) fn new(gzip: bool, frames: bool) -> Encoder {
        match (gzip, frames) {
            (true, _) => Encoder::Gzip(Box::new(GzEncoder::new(Vec::new(), flate2::Compression::fast()))),
            (false, true) => Encoder::Frames,
            (false, false) => Encoder::Plain,
        }
    }

    /// The value of `Content-Encoding`.
    pub(super) fn name(&self) -> Option<&'static str> {
        matches!(self, Encoder::Gzip(_)).then_some("gzip")
    }

    /// Encodes a piece; what comes out may be empty, and may hold what went in before.
    pub(super) fn push(&mut self, piece: Bytes) -> Bytes {
        match self {
            Encoder::Plain => piece,
            Encoder::Gzip(encoder) => {
                // Writing to a vector cannot fail.
                let _ = encoder.write_all(&piece);
                std::mem::take(encoder.get_mut()).into()
            }
            Encoder::Frames if piece.is_empty() => piece,
            Encoder::Frames => {
                let mut out = BytesMut::new();
                for part in piece.chunks(PIECE_BYTES_MAX) {
                    out.extend_from_slice(&block::compress(part));
                }
                out.freeze()
            }
        }
    }

    /// What is left at the end.
    pub(super) fn finish(self) -> Bytes {
        match self {
            Encoder::Gzip(encoder) => encoder.finish().unwrap_or_default().into(),
            Encoder::Plain | Encoder::Frames => Bytes::new(),
        }
    }
}

/// What goes to the connection.
pub(super) enum Part {
    /// Some bytes of the answer.
    Data(Bytes),
    /// The answer is complete. A channel that closes without it, because its thread gave up or panicked, breaks
    /// the connection.
    End,
    /// The answer cannot be completed: the connection is broken, so that no client takes it for whole.
    Break(String),
}

/// The error block that ends a 200 answer whose query failed: ClickHouse's form since 25.11.
pub(super) fn exception_block(tag: &str, fault: &Fault) -> Bytes {
    let text = format!("{}\n", fault.text);
    let length = text.len();
    format!("\r\n__exception__\r\n{tag}\r\n{text}{length} {tag}\r\n__exception__\r\n").into()
}

/// The body of an answer. Dropped before its end (the client has gone), it cancels the query.
pub(super) struct Outlet {
    parts: mpsc::Receiver<Part>,
    breaking: Option<(Pin<Box<tokio::time::Sleep>>, String)>,
    guard: Option<CancelGuard>,
}

impl Outlet {
    pub(super) fn new(parts: mpsc::Receiver<Part>, guard: CancelGuard) -> Outlet {
        Outlet { parts, breaking: None, guard: Some(guard) }
    }
}

impl Stream for Outlet {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.breaking.is_none() {
            match self.parts.poll_recv(context) {
                Poll::Ready(Some(Part::Data(bytes))) => return Poll::Ready(Some(Ok(bytes))),
                Poll::Ready(Some(Part::Break(reason))) => {
                    self.breaking = Some((Box::pin(tokio::time::sleep(BREAK_DELAY)), reason));
                }
                Poll::Ready(Some(Part::End)) => {
                    if let Some(guard) = self.guard.take() {
                        guard.disarm();
                    }
                    return Poll::Ready(None);
                }
                Poll::Ready(None) => {
                    return Poll::Ready(Some(Err(io::Error::other("the answer was given up"))));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        let Some((delay, _)) = &mut self.breaking else {
            return Poll::Pending;
        };
        match delay.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let reason = self.breaking.take().map(|(_, reason)| reason).unwrap_or_default();
                Poll::Ready(Some(Err(io::Error::other(reason))))
            }
        }
    }
}

/// An answer kept back until its query has ended: in memory, then in a file without a name.
pub(super) struct Held {
    folder: PathBuf,
    memory: Vec<Bytes>,
    memory_bytes: usize,
    file: Option<File>,
    file_bytes: u64,
}

impl Held {
    pub(super) fn new(folder: &Path) -> Held {
        Held { folder: folder.to_owned(), memory: Vec::new(), memory_bytes: 0, file: None, file_bytes: 0 }
    }

    pub(super) fn push(&mut self, piece: Bytes) -> io::Result<()> {
        if self.file.is_none() && self.memory_bytes + piece.len() <= HELD_BYTES_MAX {
            self.memory_bytes += piece.len();
            self.memory.push(piece);
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile_in(&self.folder)?),
        };
        self.file_bytes += piece.len() as u64;
        if self.file_bytes > HELD_FILE_BYTES_MAX {
            let limit = HELD_FILE_BYTES_MAX >> 30;
            return Err(io::Error::other(format!(
                "it is larger than {limit} GiB; leave out wait_end_of_query"
            )));
        }
        file.write_all(&piece)
    }

    /// Gives all that was held, piece by piece, until `take` wants no more.
    pub(super) fn drain(self, mut take: impl FnMut(Bytes) -> bool) -> io::Result<()> {
        for piece in self.memory {
            if !take(piece) {
                return Ok(());
            }
        }
        let Some(mut file) = self.file else { return Ok(()) };
        file.rewind()?;
        loop {
            let mut piece = Vec::with_capacity(PIECE_BYTES_MAX);
            if (&mut file).take(PIECE_BYTES_MAX as u64).read_to_end(&mut piece)? == 0 || !take(piece.into()) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut held = Held::new(folder.path());
        let pieces: Vec<Bytes> = (0_u8..5).map(|index| vec![index; 10 << 20].into()).collect();
        for piece in &pieces {
            held.push(piece.clone()).unwrap();
        }
        assert!(held.file.is_some() && held.memory_bytes <= HELD_BYTES_MAX);
        let mut all = Vec::new();
        held.drain(|piece| {
            all.extend_from_slice(&piece);
            true
        })
        .unwrap();
        assert!(all == pieces.concat());
    }

    #[tokio::test]
    async fn only_an_explicit_end_is_one() {
        use futures_util::StreamExt as _;
        let (sender, parts) = mpsc::channel(4);
        let mut outlet = Outlet { parts, breaking: None, guard: None };
        for part in [Part::Data("a".into()), Part::End] {
            sender.try_send(part).ok().unwrap();
        }
        assert_eq!(outlet.next().await.unwrap().unwrap(), "a");
        assert!(outlet.next().await.is_none());
        let (sender, parts) = mpsc::channel(4);
        let mut outlet = Outlet { parts, breaking: None, guard: None };
        sender.try_send(Part::Data("a".into())).ok().unwrap();
        drop(sender);
        assert_eq!(outlet.next().await.unwrap().unwrap(), "a");
        assert!(outlet.next().await.unwrap().is_err());
    }

    #[test]
    fn the_exception_block_states_its_length() {
        let fault = Fault { code: 1, text: "Code: 1. DB::Exception: x".to_owned() };
        let block = exception_block("abcdefghijklmnop", &fault);
        let text = "\r\n__exception__\r\nabcdefghijklmnop\r\nCode: 1. DB::Exception: x\n26 abcdefghijklmnop\r\n__exception__\r\n";
        assert_eq!(block, text.as_bytes());
    }
}
