//! What the disk does to a spool: torn tails, flipped bits, no room. Over real files.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use proptest::prelude::*;
use rentroll_collector::spool::Spool;
use rentroll_collector::spool::drain::Drain;
use rentroll_engines::health::Health;
use rentroll_engines::log::{LogError, Record, SharedLog};
use rentroll_schemas::Identity;
use rentroll_schemas::topics::Topic;

use crate::disk::{SmallDisk, may_mount};
use crate::rig::{open_log, read, segments};

/// No limit of its own before the disk's.
const BYTES_MAX: u64 = 64 << 20;

fn record(number: u64, bytes: usize) -> Record {
    Record {
        key: Identity::of("t", "s", &number.to_string()),
        headers: [("tenant", format!("tenant-{number}"))].into_iter().collect(),
        value: vec![number as u8; bytes].into(),
        arrived_at_ms: 1_700_000_000_000 + number as i64,
    }
}

fn append(runtime: &tokio::runtime::Runtime, spool: &Spool, records: Vec<Record>) -> Result<(), LogError> {
    runtime.block_on(spool.append(Topic::Usage, records))
}

fn drain(runtime: &tokio::runtime::Runtime, spool: &Arc<Spool>, log: &SharedLog) {
    let mut drain = {
        let _within = runtime.enter();
        Drain::start(spool.clone(), log.clone(), &Health::default()).unwrap()
    };
    runtime.block_on(drain.finish()).unwrap();
    runtime.block_on(drain.stop()).unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Drain,
    /// A crash.
    Reopen,
    /// A crash in the middle of a write: so many bytes of what was being written.
    Torn(Vec<u8>),
    /// A bit of some segment changes while the process is down: (segment, place in it, or in its head).
    Flip(prop::sample::Index, prop::sample::Index, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => proptest::collection::vec(0_usize..20_000, 1..12).prop_map(Step::Append),
        1 => Just(Step::Drain),
        1 => Just(Step::Reopen),
        2 => proptest::collection::vec(any::<u8>(), 1..400).prop_map(Step::Torn),
        2 => (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(segment, place, head)| Step::Flip(segment, place, head)),
    ];
    proptest::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn nothing_acked_is_lost_but_what_the_disk_changed_and_nothing_is_invented(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let log = open_log(&dir.path().join("log"));
        let path = dir.path().join("spool");
        let files = path.join("usage/0");
        // Segments are 64 KiB then: a few of these records each.
        let open = || Spool::open(path.clone(), 1 << 20).unwrap();
        let mut spool = Some(open());
        let (mut taken, mut flips) = (BTreeMap::new(), 0);
        for step in steps {
            match step {
                Step::Append(sizes) => {
                    let first = taken.len() as u64;
                    let records: Vec<Record> = (first..).zip(&sizes).map(|(number, bytes)| record(number, *bytes)).collect();
                    match append(&runtime, spool.as_ref().unwrap(), records.clone()) {
                        Ok(()) => taken.extend(records.into_iter().map(|record| (record.key, record))),
                        Err(error) => prop_assert!(error.to_string().contains("collector.spool.bytes_max"), "{}", error),
                    }
                }
                Step::Drain => drain(&runtime, spool.as_ref().unwrap(), &log),
                Step::Reopen => {
                    drop(spool.take());
                    spool = Some(open());
                }
                Step::Torn(bytes) => {
                    drop(spool.take());
                    if let Some(last) = segments(&files).last() {
                        let file = std::fs::File::options().write(true).open(last).unwrap();
                        file.write_all_at(&bytes, file.metadata().unwrap().len()).unwrap();
                    }
                    spool = Some(open());
                }
                Step::Flip(segment, place, in_head) => {
                    drop(spool.take());
                    let segments = segments(&files);
                    if !segments.is_empty() {
                        let file = std::fs::File::options().read(true).write(true).open(segment.get(&segments)).unwrap();
                        let length = file.metadata().unwrap().len() as usize;
                        let at = place.index(if in_head { length.min(40) } else { length }) as u64;
                        let mut byte = [0];
                        file.read_exact_at(&mut byte, at).unwrap();
                        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
                        flips += 1;
                    }
                    spool = Some(open());
                }
            }
        }
        drain(&runtime, spool.as_ref().unwrap(), &log);
        let found = read(&log, Topic::Usage);
        let mut distinct = BTreeMap::new();
        for record in found {
            prop_assert_eq!(taken.get(&record.key), Some(&record), "not what was taken");
            distinct.insert(record.key, record);
        }
        let lost = taken.len() - distinct.len();
        prop_assert!(lost <= flips, "{} lost by {} flipped bits", lost, flips);
    }
}

#[test]
fn a_full_disk_refuses_and_keeps_what_was_taken() {
    if !may_mount("spool::a_full_disk_refuses_and_keeps_what_was_taken") {
        return;
    }
    let disk = SmallDisk::mount();
    let elsewhere = tempfile::tempdir().unwrap();
    let log = open_log(elsewhere.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let spool = Spool::open(disk.path().join("spool"), BYTES_MAX).unwrap();
    let mut taken = 0;
    let error = loop {
        match append(&runtime, &spool, (taken..taken + 10).map(|number| record(number, 3_000)).collect()) {
            Ok(()) => taken += 10,
            Err(error) => break error,
        }
        assert!(taken < 1_000, "1 MiB never filled");
    };
    assert!(matches!(&error, LogError::Io { source, .. } if source.raw_os_error() == Some(28)), "{error}");
    // Again, with other sizes; then as another process would find it.
    for bytes in [1, 100, 5_000] {
        while append(&runtime, &spool, vec![record(taken, bytes)]).is_ok() {
            taken += 1;
            assert!(taken < 50_000, "1 MiB never filled");
        }
    }
    drop(spool);
    let spool = Spool::open(disk.path().join("spool"), BYTES_MAX).unwrap();
    assert_eq!(spool.waiting().unwrap(), taken);
    // The disk is full still.
    drain(&runtime, &spool, &log);
    let found = read(&log, Topic::Usage);
    assert_eq!(found.len() as u64, taken);
    let distinct: std::collections::BTreeSet<Identity> = found.iter().map(|record| record.key).collect();
    assert_eq!(distinct, (0..taken).map(|number| record(number, 0).key).collect());
}
