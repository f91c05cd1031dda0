//! The log against a model: a list per partition that forgets nothing it acked.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use rentroll_schemas::Identity;

use super::*;
use crate::log::Positioned;

pub(super) fn record(n: u64, size: usize) -> Record {
    Record {
        key: Identity::of("t", "s", &n.to_string()),
        headers: [("tenant", format!("tenant-{n}"))].into_iter().collect(),
        value: vec![n as u8; size].into(),
        arrived_at_ms: n as i64,
    }
}

pub(super) fn config(dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig { partitions: 2, segment_bytes_max: 2_000, ..EmbeddedConfig::new(dir) }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

pub(super) fn append(log: &EmbeddedLog, records: Vec<Record>) -> Result<()> {
    runtime().block_on(log.append(Topic::Usage, records))
}

pub(super) fn read_all(log: &EmbeddedLog, group: &str) -> BTreeMap<u32, Vec<Positioned>> {
    let mut member = log.subscribe(group, &[Topic::Usage]).unwrap();
    let mut all = BTreeMap::new();
    for mut reader in member.gained(Duration::ZERO).unwrap() {
        let from = reader.committed().unwrap();
        reader.seek(from).unwrap();
        let mut records = Vec::new();
        loop {
            let some = reader.read(7, Duration::ZERO).unwrap();
            if some.is_empty() {
                break;
            }
            records.extend(some);
        }
        all.insert(reader.partition(), records);
    }
    all
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Reopen,
    /// A crash in the middle of a write: some bytes of a frame behind the durable end.
    Torn(usize),
    Commit(u32, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => proptest::collection::vec(0_usize..700, 0..12).prop_map(Step::Append),
        1 => Just(Step::Reopen),
        1 => (1_usize..600).prop_map(Step::Torn),
        1 => (0_u32..2, any::<u8>()).prop_map(|(partition, share)| Step::Commit(partition, share)),
    ];
    proptest::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn keeps_what_it_acked_in_order(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Some(EmbeddedLog::open(config(dir.path())).unwrap());
        let mut model: BTreeMap<u32, Vec<Record>> = (0..2).map(|partition| (partition, Vec::new())).collect();
        let mut committed = BTreeMap::from([(0_u32, 0_u64), (1, 0)]);
        let mut counter = 0;
        for step in steps {
            let open = log.as_ref().unwrap();
            match step {
                Step::Append(sizes) => {
                    let records: Vec<Record> = sizes.iter().map(|size| { counter += 1; record(counter, *size) }).collect();
                    append(open, records.clone()).unwrap();
                    for record in records {
                        model.get_mut(&record.key.partition(2)).unwrap().push(record);
                    }
                }
                Step::Reopen => {
                    drop(log.take());
                    log = Some(EmbeddedLog::open(config(dir.path())).unwrap());
                }
                Step::Torn(bytes) => {
                    let segment = open.shared.partition(Topic::Usage, 0).last_segment();
                    drop(log.take());
                    if let Some(segment) = segment {
                        let mut frame = bytes::BytesMut::new();
                        frame::encode(&mut frame, 1 << 40, &record(0, 600));
                        let file = File::options().write(true).open(&segment.path).unwrap();
                        let end = file.metadata().unwrap().len();
                        file.write_all_at(&frame[..bytes.min(frame.len() - 1)], end).unwrap();
                    }
                    log = Some(EmbeddedLog::open(config(dir.path())).unwrap());
                }
                Step::Commit(partition, share) => {
                    let mut member = open.subscribe("g", &[Topic::Usage]).unwrap();
                    let position = model[&partition].len() as u64 * u64::from(share) / 255;
                    let position = position.max(committed[&partition]);
                    for mut reader in member.gained(Duration::ZERO).unwrap() {
                        if reader.partition() == partition {
                            reader.commit(position).unwrap();
                        }
                    }
                    committed.insert(partition, position);
                }
            }
            let open = log.as_ref().unwrap();
            for (partition, records) in read_all(open, "g") {
                let from = committed[&partition] as usize;
                let expected: Vec<&Record> = model[&partition][from..].iter().collect();
                let got: Vec<&Record> = records.iter().map(|read| &read.record).collect();
                prop_assert_eq!(got, expected);
                for (offset, read) in records.iter().enumerate() {
                    prop_assert_eq!(read.position, (from + offset) as u64);
                }
            }
        }
    }

    #[test]
    fn a_frame_survives_the_trip_and_any_flipped_bit_is_noticed(size in 0_usize..300, bit in any::<prop::sample::Index>()) {
        let record = record(9, size);
        let mut bytes = bytes::BytesMut::new();
        frame::encode(&mut bytes, 9, &record);
        prop_assert_eq!(bytes.len(), frame::encoded_len(&record));
        let whole = bytes.clone().freeze();
        prop_assert_eq!(frame::decode(&whole), frame::Decoded::Frame(Positioned { position: 9, record }, whole.len()));
        let at = bit.index(bytes.len() * 8);
        bytes[at / 8] ^= 1 << (at % 8);
        let decoded = frame::decode(&bytes.freeze());
        prop_assert!(!matches!(decoded, frame::Decoded::Frame(..)), "bit {} unnoticed", at);
    }
}

#[test]
fn a_damaged_frame_costs_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig { partitions: 1, ..EmbeddedConfig::new(dir.path()) };
    let log = EmbeddedLog::open(config.clone()).unwrap();
    for n in 0..10 {
        append(&log, vec![record(n, 100)]).unwrap();
    }
    let segment = log.shared.partition(Topic::Usage, 0).last_segment().unwrap();
    drop(log);
    let length = frame::encoded_len(&record(0, 100)) as u64;
    let file = File::options().write(true).open(&segment.path).unwrap();
    // The length of frame 3: the reader must find frame 4 without it.
    file.write_all_at(&[0xff; 4], partition::SEGMENT_HEAD_BYTES + 3 * length + 4).unwrap();
    let log = EmbeddedLog::open(config).unwrap();
    assert_eq!(log.damaged_frames(), 1);
    let positions: Vec<u64> = read_all(&log, "g")[&0].iter().map(|read| read.position).collect();
    assert_eq!(positions, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    append(&log, vec![record(10, 5)]).unwrap();
    assert_eq!(read_all(&log, "g")[&0].last().unwrap().position, 10);
}

#[test]
fn a_second_process_is_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let _log = EmbeddedLog::open(config(dir.path())).unwrap();
    let message = EmbeddedLog::open(config(dir.path())).err().unwrap().to_string();
    assert!(message.contains(&std::process::id().to_string()), "{message}");
}

#[test]
fn another_number_of_partitions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(EmbeddedLog::open(config(dir.path())).unwrap());
    let other = EmbeddedConfig { partitions: 8, ..config(dir.path()) };
    let message = EmbeddedLog::open(other).err().unwrap().to_string();
    assert!(message.contains("made with 2 partitions") && message.contains("log.partitions"), "{message}");
}

#[test]
fn over_its_limit_it_refuses_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(EmbeddedConfig { bytes_max: 3_000, ..config(dir.path()) }).unwrap();
    append(&log, vec![record(1, 1_000)]).unwrap();
    let refused = append(&log, vec![record(2, 2_500)]).unwrap_err();
    assert!(matches!(refused, LogError::Unavailable(_)), "{refused}");
    assert_eq!(read_all(&log, "g").values().map(Vec::len).sum::<usize>(), 1);
}

#[test]
fn committed_segments_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(EmbeddedConfig { partitions: 1, ..config(dir.path()) }).unwrap();
    for n in 0..50 {
        append(&log, vec![record(n, 500)]).unwrap();
    }
    let before = log.bytes();
    let mut member = log.subscribe("g", &[Topic::Usage]).unwrap();
    member.gained(Duration::ZERO).unwrap()[0].commit(50).unwrap();
    assert!(log.bytes() < before / 5, "{} of {before}", log.bytes());
    assert_eq!(log.lag("g", Topic::Usage).unwrap()[0], Lag { partition: 0, committed: 50, end: 50 });
}
