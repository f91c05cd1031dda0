//! What an event log needs, of our segments and of fjall (a well-kept LSM store): one sync for many appends,
//! reading on in order, and dropping what is done.
//!
//! `cargo run --release --manifest-path benches/log-peer/Cargo.toml` — both sides in one run, same folder's disk,
//! same records, same group size, one partition.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use rentroll_engines::log::embedded::{EmbeddedConfig, EmbeddedLog};
use rentroll_engines::log::{EventLog, Record};
use rentroll_schemas::Identity;
use rentroll_schemas::topics::Topic;

const RECORDS: u64 = 1_000_000;
const GROUP: u64 = 1_000;
const VALUE_BYTES: usize = 300;

struct Measured {
    append: Duration,
    read: Duration,
    drop: Duration,
    bytes: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir_in(".")?;
    let ours = segments(&dir.path().join("segments"))?;
    let theirs = lsm(&dir.path().join("fjall"))?;
    println!("{RECORDS} records of {VALUE_BYTES} bytes, {GROUP} per synced append");
    println!("{:<10} {:>16} {:>16} {:>12} {:>10}", "log", "append records/s", "read records/s", "drop ms", "MB on disk");
    for (name, measured) in [("segments", &ours), ("fjall", &theirs)] {
        let rate = |time: Duration| (RECORDS as f64 / time.as_secs_f64()) as u64;
        println!(
            "{name:<10} {:>16} {:>16} {:>12} {:>10}",
            rate(measured.append),
            rate(measured.read),
            measured.drop.as_millis(),
            measured.bytes >> 20
        );
    }
    Ok(())
}

fn value(n: u64) -> Vec<u8> {
    // Not all alike, or the peer's compression would have too easy a time.
    let mut word = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..VALUE_BYTES)
        .map(|_| {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            b'a' + (word % 16) as u8
        })
        .collect()
}

fn segments(dir: &Path) -> Result<Measured, Box<dyn Error>> {
    let log = EmbeddedLog::open(EmbeddedConfig { partitions: 1, ..EmbeddedConfig::new(dir) })?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let groups: Vec<Vec<Record>> = (0..RECORDS / GROUP)
        .map(|group| {
            (group * GROUP..(group + 1) * GROUP)
                .map(|n| Record {
                    key: Identity::of("t", "s", &n.to_string()),
                    headers: Vec::new(),
                    value: value(n).into(),
                    arrived_at_ms: 0,
                })
                .collect()
        })
        .collect();
    let started = Instant::now();
    for group in groups {
        runtime.block_on(log.append(Topic::Usage, group))?;
    }
    let append = started.elapsed();
    let bytes = log.bytes();
    let started = Instant::now();
    let mut member = log.subscribe("bench", &[Topic::Usage])?;
    let mut reader = member.gained(Duration::ZERO)?.remove(0);
    reader.seek(0)?;
    let mut read_records = 0;
    while read_records < RECORDS {
        read_records += reader.read(8_192, Duration::ZERO)?.len() as u64;
    }
    let read = started.elapsed();
    let started = Instant::now();
    reader.commit(RECORDS)?;
    Ok(Measured { append, read, drop: started.elapsed(), bytes })
}

fn lsm(dir: &Path) -> Result<Measured, Box<dyn Error>> {
    let database = Database::builder(dir).open()?;
    let log = database.keyspace("log", KeyspaceCreateOptions::default)?;
    let values: Vec<Vec<u8>> = (0..RECORDS).map(value).collect();
    let started = Instant::now();
    let mut position = 0_u64;
    for group in values.chunks(GROUP as usize) {
        let mut batch = database.batch();
        for value in group {
            batch.insert(&log, position.to_be_bytes(), value.as_slice());
            position += 1;
        }
        batch.commit()?;
        database.persist(PersistMode::SyncData)?;
    }
    let append = started.elapsed();
    let bytes = size_of(dir)?;
    let started = Instant::now();
    let mut read_bytes = 0;
    for guard in log.iter() {
        let (_, value) = guard.into_inner()?;
        read_bytes += value.len();
    }
    let read = started.elapsed();
    assert_eq!(read_bytes as u64, RECORDS * VALUE_BYTES as u64);
    let started = Instant::now();
    for position in 0..RECORDS {
        log.remove(position.to_be_bytes())?;
    }
    database.persist(PersistMode::SyncData)?;
    Ok(Measured { append, read, drop: started.elapsed(), bytes })
}

fn size_of(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size_of(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
