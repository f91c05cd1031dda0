//! The log on a disk that fails: flipped bits anywhere, no room in the middle of a write.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::process::Command;

use proptest::prelude::*;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::tests::{append, config, read_all, record};
use super::*;
use crate::log::Positioned;

/// Every segment of the usage topic, with its bytes.
fn segments(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for partition in 0..2 {
        for entry in fs::read_dir(dir.join("usage").join(partition.to_string())).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            all.push((path, bytes));
        }
    }
    all.sort();
    all
}

/// Where each record's frame lies in a segment: (first byte, byte after the last, position).
fn frames(bytes: &[u8]) -> Vec<(usize, usize, u64)> {
    let content = bytes::Bytes::copy_from_slice(bytes);
    let (mut at, mut found) = (partition::SEGMENT_HEAD_BYTES as usize, Vec::new());
    while let frame::Decoded::Frame(read, length) = frame::decode(&content.slice(at..)) {
        found.push((at, at + length, read.position));
        at += length;
    }
    assert_eq!(at, bytes.len(), "a log that was closed has whole frames");
    found
}

/// In the head of some frame, whose length tells where the next one is; or anywhere.
fn flip_of() -> impl Strategy<Value = Option<prop::sample::Index>> {
    proptest::option::weighted(0.7, any::<prop::sample::Index>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A flipped bit costs the record that it is in, and no other; what is read is what was written; and what is
    /// written afterwards is read too.
    #[test]
    fn a_flipped_bit_costs_one_record(
        appends in proptest::collection::vec(proptest::collection::vec(0_usize..700, 1..8), 1..12),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), flip_of()), 1..4),
        committed in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(config(dir.path())).unwrap();
        let mut counter = 0;
        for sizes in appends {
            append(&log, sizes.iter().map(|size| { counter += 1; record(counter, *size) }).collect()).unwrap();
        }
        let written = read_all(&log, "before");
        let mut ends = BTreeMap::new();
        if committed {
            // A group that keeps every segment, and has passed every record.
            let mut member = log.subscribe("done", &[Topic::Usage]).unwrap();
            let mut keeper = log.subscribe("keeper", &[Topic::Usage]).unwrap();
            for mut reader in keeper.gained(Duration::ZERO).unwrap() {
                reader.commit(0).unwrap();
            }
            for mut reader in member.gained(Duration::ZERO).unwrap() {
                let end = written[&reader.partition()].len() as u64;
                reader.commit(end).unwrap();
                ends.insert(reader.partition(), end);
            }
        }
        drop(log);

        let all = segments(dir.path());
        let mut hit: BTreeSet<(u32, u64)> = BTreeSet::new();
        for (segment, bit, at_head) in flips {
            let (path, bytes) = segment.get(&all);
            let bit = match (at_head, frames(bytes)) {
                (Some(frame), frames) if !frames.is_empty() => {
                    frame.get(&frames).0 * 8 + bit.index(frame::HEAD_BYTES * 8)
                }
                _ => bit.index(bytes.len() * 8),
            };
            let partition = path.parent().unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap();
            // From the file, as it may have been hit before.
            let mut byte = [0];
            let file = File::options().read(true).write(true).open(path).unwrap();
            file.read_exact_at(&mut byte, bit as u64 / 8).unwrap();
            file.write_all_at(&[byte[0] ^ (1 << (bit % 8))], bit as u64 / 8).unwrap();
            let within = frames(bytes).into_iter().find(|(from, until, _)| (from * 8..until * 8).contains(&bit));
            hit.extend(within.map(|(_, _, position)| (partition, position)));
        }

        let log = EmbeddedLog::open(config(dir.path())).unwrap();
        for (partition, read) in read_all(&log, "after") {
            // The same bit flipped twice is no damage: such a record may be there.
            let certain: Vec<&Positioned> =
                written[&partition].iter().filter(|one| !hit.contains(&(partition, one.position))).collect();
            let read_certain: Vec<&Positioned> =
                read.iter().filter(|one| !hit.contains(&(partition, one.position))).collect();
            prop_assert_eq!(read_certain, certain);
            for one in &read {
                prop_assert!(written[&partition].contains(one), "position {} is not as written", one.position);
            }
        }
        append(&log, (0..20).map(|n| record(10_000 + n, 50)).collect()).unwrap();
        let mut late = 0;
        for (partition, read) in read_all(&log, "later") {
            for one in read.iter().filter(|one| one.record.arrived_at_ms >= 10_000) {
                late += 1;
                let end = ends.get(&partition).copied().unwrap_or_default();
                prop_assert!(one.position >= end, "position {} was given before", one.position);
            }
        }
        prop_assert_eq!(late, 20);
    }
}

#[test]
fn no_room_in_the_middle_of_a_write_takes_nothing_back_that_was_acked() {
    // Ignoring the signal is inherited: without it the system ends a process that writes past its limit.
    let status = Command::new("/bin/sh")
        .args([
            "-c",
            r#"trap '' XFSZ; exec "$0" --exact log::embedded::faults::child_with_small_files --ignored"#,
        ])
        .arg(std::env::current_exe().unwrap())
        .status()
        .unwrap();
    assert!(status.success());
}

/// How large this process's files may grow.
fn limit_files(bytes: Option<u64>) {
    setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

#[test]
#[ignore = "run by the other test, as a process of its own"]
fn child_with_small_files() {
    let dir = tempfile::tempdir().unwrap();
    let of_test = EmbeddedConfig { segment_bytes_max: 6_000, ..config(dir.path()) };
    let mut log = Some(EmbeddedLog::open(of_test.clone()).unwrap());
    let mut model: BTreeMap<u32, Vec<Record>> = (0..2).map(|partition| (partition, Vec::new())).collect();
    let (mut counter, mut refused, mut taken) = (0, 0, 0);
    // Not random: every offset into a frame, a head and a group is met in 600 rounds.
    for round in 0..600_u64 {
        let limit = if round % 3 == 0 { None } else { Some(round * 37 % 7_000) };
        let records: Vec<Record> = (0..1 + round % 5)
            .map(|n| {
                counter += 1;
                record(counter, (round * 53 + n * 211) as usize % 900)
            })
            .collect();
        limit_files(limit);
        let outcome = append(log.as_ref().unwrap(), records.clone());
        limit_files(None);
        match outcome {
            Ok(()) => {
                taken += 1;
                for record in records {
                    model.get_mut(&record.key.partition(2)).unwrap().push(record);
                }
            }
            Err(error) => {
                assert!(limit.is_some(), "refused with room enough: {error}");
                assert!(matches!(error, LogError::Io { .. }), "{error}");
                refused += 1;
            }
        }
        if round % 7 == 0 {
            drop(log.take());
            log = Some(EmbeddedLog::open(of_test.clone()).unwrap());
        }
        if round % 10 == 0 || round == 599 {
            for (partition, read) in read_all(log.as_ref().unwrap(), "g") {
                assert_eq!(
                    read.iter().map(|one| &one.record).collect::<Vec<_>>(),
                    model[&partition].iter().collect::<Vec<_>>()
                );
                assert!(read.iter().enumerate().all(|(index, one)| one.position == index as u64));
            }
        }
    }
    assert!(refused > 50 && taken > 200, "{refused} refused, {taken} taken");
}
