//! Reading a body: within its size, within its time, within the memory that all bodies share; then
//! decompressing it, within its size again.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::Instant;

use super::config::HttpConfig;

/// The largest window that a zstd body may ask for, as a power of two: RFC 8878 advises 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Reserved at once for a body that does not say how long it is.
const GUESS_BYTES: usize = 16 << 10;

/// Why a body was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// As it was sent.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// After decompression.
    #[error("the body is larger than {limit} bytes after decompression")]
    DecodedTooLarge {
        /// The limit.
        limit: usize,
    },
    /// Too slow.
    #[error("the body came too slowly: {received} bytes in {seconds} s")]
    TooSlow {
        /// What came.
        received: usize,
        /// In which time.
        seconds: u64,
    },
    /// Other requests' bodies fill the memory.
    #[error("bodies of other requests are in work, {limit} bytes at most")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// The client broke off.
    #[error("the body broke off after {received} bytes: {reason}")]
    BrokenOff {
        /// What came.
        received: usize,
        /// What the connection said.
        reason: String,
    },
    /// Not what `content-encoding` says.
    #[error("not {encoding}: {reason}")]
    Undecodable {
        /// The encoding.
        encoding: &'static str,
        /// What the decoder said.
        reason: String,
    },
}

/// `content-encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// Reads the header's value; `None` if it is not supported.
    pub fn of(value: &str) -> Option<Self> {
        match value.trim() {
            "" => Some(Encoding::Identity),
            value if value.eq_ignore_ascii_case("identity") => Some(Encoding::Identity),
            value if value.eq_ignore_ascii_case("gzip") || value.eq_ignore_ascii_case("x-gzip") => {
                Some(Encoding::Gzip)
            }
            value if value.eq_ignore_ascii_case("zstd") => Some(Encoding::Zstd),
            _ => None,
        }
    }
}

/// Memory that all requests share: for their bodies, for what is made of them until it is durable, and for their
/// answers until they are sent.
#[derive(Debug)]
pub struct Memory {
    taken: AtomicUsize,
    limit: usize,
}

impl Memory {
    /// At most `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Memory { taken: AtomicUsize::new(0), limit })
    }

    /// Nothing yet.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { memory: self.clone(), bytes: 0 }
    }
}

/// A request's part of it, given back with the request.
#[derive(Debug)]
pub struct Share {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Share {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// [`BodyError::Busy`], if others hold memory too. A request that is alone may go past the limit, by what the
    /// other limits leave it: else one that needs more than all of the memory would be told to come again for ever.
    pub fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        let before = self.memory.taken.fetch_add(bytes, Ordering::Relaxed);
        let is_alone = before == self.bytes;
        self.bytes += bytes;
        if before + bytes > self.memory.limit && !is_alone {
            return Err(BodyError::Busy { limit: self.memory.limit });
        }
        Ok(())
    }

    /// Gives back all but `bytes`, of which the request has taken no less.
    pub fn shrink_to(&mut self, bytes: usize) {
        let given_back = self.bytes.saturating_sub(bytes);
        self.memory.taken.fetch_sub(given_back, Ordering::Relaxed);
        self.bytes -= given_back;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Reads all of `body`.
///
/// # Errors
/// [`BodyError`].
pub async fn read<B>(body: &mut B, config: &HttpConfig, share: &mut Share) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    let limit = config.body_bytes_max;
    let stated = body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if stated.is_some_and(|length| length > limit) {
        return Err(BodyError::TooLarge { limit });
    }
    share.grow(stated.unwrap_or(GUESS_BYTES))?;
    let mut reserved = stated.unwrap_or(GUESS_BYTES);
    let begun = Instant::now();
    let mut received = 0;
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let earned = received as u64 * 1000 / config.body_bytes_per_second_min;
        let deadline = begun + Duration::from_millis(config.body_timeout_ms + earned);
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(BodyError::TooSlow { received, seconds: begun.elapsed().as_secs() }),
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(BodyError::BrokenOff { received, reason: error.to_string() }),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        received += data.len();
        if received > limit {
            return Err(BodyError::TooLarge { limit });
        }
        if received > reserved {
            share.grow(received - reserved)?;
            reserved = received;
        }
        // A body of one frame, the commonest, is not copied.
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.reserve(stated.unwrap_or(2 * received));
            all.extend_from_slice(&first);
            first = Bytes::new();
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Decompresses `body`, to at most `limit` bytes.
///
/// # Errors
/// [`BodyError`].
pub fn decode(encoding: Encoding, body: Bytes, limit: usize, share: &mut Share) -> Result<Bytes, BodyError> {
    let undecodable = |encoding| {
        move |error: std::io::Error| BodyError::Undecodable { encoding, reason: error.to_string() }
    };
    match encoding {
        Encoding::Identity if body.len() > limit => Err(BodyError::DecodedTooLarge { limit }),
        Encoding::Identity => Ok(body),
        Encoding::Gzip => {
            let decoder = flate2::read::MultiGzDecoder::new(&body[..]);
            inflate(decoder, body.len(), limit, share, undecodable("gzip"))
        }
        Encoding::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(&body[..]).map_err(undecodable("zstd"))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(undecodable("zstd"))?;
            inflate(decoder, body.len(), limit, share, undecodable("zstd"))
        }
    }
}

fn inflate(
    mut decoder: impl std::io::Read,
    packed: usize,
    limit: usize,
    share: &mut Share,
    error: impl Fn(std::io::Error) -> BodyError,
) -> Result<Bytes, BodyError> {
    let mut out = Vec::new();
    // JSON shrinks to a fifth or less; each further step doubles.
    let mut step = (packed * 6).clamp(4 << 10, limit.max(4 << 10));
    loop {
        share.grow(step)?;
        out.reserve_exact(step);
        let before = out.len();
        decoder.by_ref().take(step as u64).read_to_end(&mut out).map_err(&error)?;
        if out.len() > limit {
            return Err(BodyError::DecodedTooLarge { limit });
        }
        if out.len() - before < step {
            return Ok(out.into());
        }
        step = out.len();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn what_was_packed_is_unpacked_and_a_bomb_is_cut() {
        let memory = Memory::new(64 << 20);
        let text = "usage ".repeat(50_000);
        let pack = |bytes: &[u8]| {
            [
                (Encoding::Identity, Bytes::copy_from_slice(bytes)),
                (Encoding::Gzip, gzip(bytes)),
                (Encoding::Zstd, zstd::encode_all(bytes, 3).unwrap().into()),
            ]
        };
        for (encoding, body) in pack(text.as_bytes()) {
            let limit = text.len();
            assert_eq!(decode(encoding, body.clone(), limit, &mut memory.share()).unwrap(), text.as_bytes());
            let error = decode(encoding, body, limit - 1, &mut memory.share()).unwrap_err();
            assert_eq!(error, BodyError::DecodedTooLarge { limit: limit - 1 });
        }
        for (encoding, bomb) in pack(&vec![0; 256 << 20]).into_iter().skip(1) {
            let mut share = memory.share();
            let error = decode(encoding, bomb, 16 << 20, &mut share).unwrap_err();
            assert_eq!(error, BodyError::DecodedTooLarge { limit: 16 << 20 });
            assert!(share.bytes <= 33 << 20, "{} bytes for 16 MiB", share.bytes);
        }
        assert_eq!(memory.taken.load(Ordering::Relaxed), 0, "given back");
    }

    #[test]
    fn what_is_not_packed_is_refused_and_so_is_half_of_it() {
        let memory = Memory::new(1 << 20);
        let whole = gzip(&[7; 1000]);
        for (encoding, body) in [
            (Encoding::Gzip, Bytes::from_static(b"[]")),
            (Encoding::Zstd, Bytes::from_static(b"[]")),
            (Encoding::Gzip, whole.slice(..whole.len() - 9)),
        ] {
            let error = decode(encoding, body, 1 << 20, &mut memory.share()).unwrap_err();
            assert!(matches!(error, BodyError::Undecodable { .. }), "{error}");
        }
    }

    #[test]
    fn memory_is_shared() {
        let memory = Memory::new(100);
        let mut one = memory.share();
        one.grow(80).unwrap();
        assert_eq!(memory.share().grow(30), Err(BodyError::Busy { limit: 100 }));
        one.shrink_to(70);
        memory.share().grow(30).unwrap();
        drop(one);
        let mut alone = memory.share();
        alone.grow(60).unwrap();
        alone.grow(60).unwrap();
        assert_eq!(memory.share().grow(1), Err(BodyError::Busy { limit: 100 }));
        drop(alone);
        assert_eq!(memory.taken.load(Ordering::Relaxed), 0, "given back");
    }
}
