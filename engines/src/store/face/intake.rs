//! The body of a request, as bytes that a blocking thread can pull.

use std::io::{self, Read};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::block::FrameReader;
use super::fault::{Fault, code};
use super::request::Encoding;

/// Pieces of a body in flight: enough to keep the reading thread busy, few enough to bound memory (hyper's
/// pieces are at most some hundred kilobytes).
const PIECES_MAX: usize = 8;
/// A client that sends nothing for so long has gone.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// How much of a body is still read after its request has failed, so that a client that only reads once it has
/// written everything gets to see why.
const DRAIN_BYTES_MAX: usize = 256 << 20;
/// What is decoded at a time.
const DECODED_PIECE_BYTES: usize = 1 << 20;

/// What comes of a body. `None` is its end: a channel that closes without it, because its task was dropped with the
/// runtime, is a body that broke off. An insert would else store a part under the token of the whole.
type Piece = Result<Option<Bytes>, String>;
/// What [`pump`] gives: the body as it came.
pub(super) type Pieces = mpsc::Receiver<Piece>;

/// Pumps `body` into a channel, on a task of its own. A body that breaks off is an error, never an end.
pub(super) fn pump(body: Body) -> Pieces {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        let mut pieces = body.into_data_stream();
        let mut drained = 0;
        loop {
            let piece = match tokio::time::timeout(SILENCE_MAX, pieces.next()).await {
                Ok(Some(Ok(piece))) => Ok(Some(piece)),
                Ok(Some(Err(error))) => Err(format!("the request's body broke off: {error}")),
                Ok(None) => Ok(None),
                Err(_) => Err(format!("the client sent nothing for {} s", SILENCE_MAX.as_secs())),
            };
            let is_last = !matches!(piece, Ok(Some(_)));
            let length = piece.as_ref().ok().and_then(Option::as_ref).map_or(0, Bytes::len);
            if sender.send(piece).await.is_err() {
                drained += length;
            }
            if is_last || drained > DRAIN_BYTES_MAX {
                return;
            }
        }
    });
    receiver
}

/// Pieces of the body, decoded. Blocking.
pub(super) struct Intake {
    source: Source,
    /// Handed back by the one who looked for the statement's end.
    first: Option<Bytes>,
}

enum Source {
    Plain(Channel),
    Decoded(Box<dyn Read + Send>),
}

impl Intake {
    /// Blocks: some decoders read a header at once.
    pub(super) fn new(pieces: Pieces, encoding: Encoding, decompress: bool) -> Intake {
        let pieces = Channel { channel: pieces, rest: Bytes::new(), has_ended: false };
        let source = match (encoding, decompress) {
            (Encoding::Plain, false) => Source::Plain(pieces),
            (Encoding::Plain, true) => Source::Decoded(Box::new(FrameReader::new(pieces))),
            (encoding, decompress) => {
                let decoder: Box<dyn Read + Send> = match encoding {
                    Encoding::Plain | Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(pieces)),
                    Encoding::Deflate => Box::new(flate2::read::ZlibDecoder::new(pieces)),
                    Encoding::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(pieces)),
                };
                Source::Decoded(if decompress { Box::new(FrameReader::new(decoder)) } else { decoder })
            }
        };
        Intake { source, first: None }
    }

    /// The next piece; `None` at the end of the body.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match &mut self.source {
            Source::Plain(pieces) => pieces.next().map_err(cut_off),
            Source::Decoded(reader) => {
                let mut piece = Vec::with_capacity(DECODED_PIECE_BYTES);
                reader.by_ref().take(DECODED_PIECE_BYTES as u64).read_to_end(&mut piece).map_err(
                    |error| match error.kind() {
                        io::ErrorKind::InvalidData => Fault::new(
                            code::CHECKSUM_DOESNT_MATCH,
                            "CHECKSUM_DOESNT_MATCH",
                            error.to_string(),
                        ),
                        _ => cut_off(error),
                    },
                )?;
                Ok((!piece.is_empty()).then(|| piece.into()))
            }
        }
    }

    /// Gives `rest` back: it is what [`Intake::next`] returns next.
    pub(super) fn push_back(&mut self, rest: Bytes) {
        debug_assert!(self.first.is_none());
        self.first = (!rest.is_empty()).then_some(rest);
    }
}

fn cut_off(error: io::Error) -> Fault {
    Fault::new(code::CANNOT_READ_ALL_DATA, "CANNOT_READ_ALL_DATA", error.to_string())
}

/// The channel as a blocking reader.
struct Channel {
    channel: Pieces,
    rest: Bytes,
    has_ended: bool,
}

impl Channel {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.channel.blocking_recv() {
                Some(Ok(Some(piece))) if piece.is_empty() => {}
                Some(Ok(Some(piece))) => return Ok(Some(piece)),
                Some(Ok(None)) => {
                    self.has_ended = true;
                    return Ok(None);
                }
                Some(Err(error)) => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, error)),
                None if self.has_ended => return Ok(None),
                None => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the request was given up"));
                }
            }
        }
    }
}

impl Read for Channel {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            match self.next()? {
                Some(piece) => self.rest = piece,
                None => return Ok(0),
            }
        }
        let length = out.len().min(self.rest.len());
        out[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn decode(pieces: Vec<Piece>, encoding: Encoding, decompress: bool) -> Result<Vec<u8>, Fault> {
        let (sender, receiver) = mpsc::channel(16);
        for piece in pieces {
            sender.try_send(piece).unwrap();
        }
        drop(sender);
        let mut intake = Intake::new(receiver, encoding, decompress);
        let mut all = Vec::new();
        while let Some(piece) = intake.next()? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn decodes_what_clients_send() {
        let data = vec![7; 3 << 20];
        let halves = |bytes: &[u8]| {
            let (a, b) = bytes.split_at(bytes.len() / 2);
            vec![Ok(Some(Bytes::copy_from_slice(a))), Ok(Some(Bytes::copy_from_slice(b))), Ok(None)]
        };
        assert_eq!(decode(halves(&data), Encoding::Plain, false).unwrap(), data);
        assert_eq!(decode(halves(&gzip(&data)), Encoding::Gzip, false).unwrap(), data);
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&data).unwrap();
        assert_eq!(decode(halves(&lz4.finish().unwrap()), Encoding::Lz4, false).unwrap(), data);
        let framed = super::super::block::compress(&data);
        assert_eq!(decode(halves(&framed), Encoding::Plain, true).unwrap(), data);
        assert_eq!(decode(halves(&gzip(&framed)), Encoding::Gzip, true).unwrap(), data);
    }

    #[test]
    fn a_body_that_breaks_off_is_an_error() {
        let piece = |bytes: &[u8]| Ok(Some(Bytes::copy_from_slice(bytes)));
        let code_of = |pieces, encoding| decode(pieces, encoding, false).unwrap_err().code;
        let told = vec![piece(b"ab"), Err("gone".to_owned())];
        assert_eq!(code_of(told, Encoding::Plain), code::CANNOT_READ_ALL_DATA);
        // The pump was dropped before it could tell.
        assert_eq!(code_of(vec![piece(b"ab")], Encoding::Plain), code::CANNOT_READ_ALL_DATA);
        assert_eq!(code_of(vec![piece(&gzip(b"some data"))], Encoding::Gzip), code::CANNOT_READ_ALL_DATA);
        let cut = gzip(b"some data");
        assert!(decode(vec![piece(&cut[..cut.len() - 4]), Ok(None)], Encoding::Gzip, false).is_err());
    }
}
