//! The embedded log's bytes on disk.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rentroll_engines::log::embedded::frame::{self, Decoded};
use rentroll_engines::log::embedded::{EmbeddedConfig, EmbeddedLog};
use rentroll_engines::log::{EventLog as _, Headers, Positioned, Record};
use rentroll_schemas::Identity;
use rentroll_schemas::topics::Topic;

/// `body` as a frame with the checksum that a mutation cannot guess.
fn sealed(position: u64, body: &[u8]) -> Vec<u8> {
    let mut guarded = position.to_le_bytes().to_vec();
    guarded.extend_from_slice(body);
    let length = u32::try_from(body.len()).unwrap();
    let head = [frame::MAGIC, length, crc32c::crc32c(&guarded)];
    [head.map(u32::to_le_bytes).concat(), guarded].concat()
}

/// One frame.
pub fn log_frame(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    for bytes in [bytes.clone(), sealed(7, data).into()] {
        if let Decoded::Frame(read, length) = frame::decode(&bytes) {
            let mut written = BytesMut::new();
            frame::encode(&mut written, read.position, &read.record);
            assert_eq!(&written[..], &bytes[..length], "what is read is written the same");
        }
    }
    // And whatever bytes are in a frame, it is read as it was written.
    let headers: Headers = [("name", String::from_utf8_lossy(data))].into_iter().collect();
    let record = Record { key: Identity([7; 16]), headers, value: bytes, arrived_at_ms: -1 };
    let mut written = BytesMut::new();
    frame::encode(&mut written, 9, &record);
    let written = written.freeze();
    assert_eq!(frame::decode(&written), Decoded::Frame(Positioned { position: 9, record }, written.len()));
}

/// A segment of pieces: the first byte tells whether there is a good head; each piece has a byte of kind, one of
/// length, and bytes, which are put in a good frame or left as they are.
fn segment(data: &[u8]) -> Vec<u8> {
    let Some((first, mut rest)) = data.split_first() else { return Vec::new() };
    let mut out = Vec::new();
    if first & 1 == 1 {
        out.extend_from_slice(b"RENTLOG\x01");
        out.extend_from_slice(&0_u64.to_le_bytes());
    }
    let mut position = 0;
    while let [kind, length, behind @ ..] = rest {
        let (piece, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        match kind & 3 {
            0 => out.extend_from_slice(piece),
            gap => {
                position += u64::from(gap);
                let fixed = [&[0; 24][..], &[0; 4], piece].concat();
                out.extend_from_slice(&sealed(position - 1, &fixed));
            }
        }
        rest = behind;
    }
    out
}

/// A whole segment, as a crash or a bad disk may leave it. It is opened, read, written to, and opened again.
pub fn log_segment(data: &[u8]) {
    let data = &segment(data)[..];
    let dir = tempfile::tempdir().unwrap();
    let partition = dir.path().join("usage/0");
    fs::create_dir_all(&partition).unwrap();
    fs::write(partition.join("00000000000000000000.seg"), data).unwrap();
    let first = read(dir.path(), None);
    let late = Record {
        key: Identity([1; 16]),
        headers: Headers::default(),
        value: Bytes::from_static(b"late"),
        arrived_at_ms: 5,
    };
    let second = read(dir.path(), Some(late.clone()));
    let third = read(dir.path(), None);
    assert_eq!(second, third, "what was mended once needs no mending");
    assert_eq!(&second[..first.len()], &first[..], "writing on changes nothing of what was there");
    assert_eq!(second.len(), first.len() + 1);
    assert_eq!(second.last().map(|one| &one.record), Some(&late));
    assert!(second.is_sorted_by(|a, b| a.position < b.position), "positions grow");
}

fn read(dir: &Path, append: Option<Record>) -> Vec<Positioned> {
    let config = EmbeddedConfig { partitions: 1, ..EmbeddedConfig::new(dir) };
    let log = EmbeddedLog::open(config).expect("a damaged segment keeps no log from opening");
    if let Some(record) = append {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(log.append(Topic::Usage, vec![record])).unwrap();
    }
    let mut member = log.subscribe("group", &[Topic::Usage]).unwrap();
    let mut reader = member.gained(Duration::ZERO).unwrap().remove(0);
    reader.seek(0).unwrap();
    let mut all = Vec::new();
    loop {
        let some = reader.read(100, Duration::ZERO).unwrap();
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}
