//! What both logs promise.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rentroll_engines::log::{LogError, Record};
use rentroll_schemas::Identity;
use rentroll_schemas::topics::Topic;

use crate::common::{Joined, PARTITIONS, PATIENCE, Side, World, by_partition, record, record_in, records};

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[test] fn $name() { super::$name(crate::common::Side::Embedded); })*
        }
        mod kafka {
            $(#[test] fn $name() { super::$name(crate::common::Side::Kafka); })*
        }
    };
}

on_both! {
    records_come_back_whole_in_order_and_in_their_partition,
    what_was_acked_survives_a_crash,
    reading_begins_where_it_is_told_to,
    a_group_resumes_where_it_committed,
    groups_do_not_see_each_other,
    odd_records_come_back_as_they_were,
    an_append_of_nothing_is_done_at_once,
    a_record_that_is_too_large_is_refused,
    lag_tells_how_far_a_group_is,
    the_arrival_of_what_waits_is_told,
    a_waiting_reader_wakes_when_records_come,
    lanes_are_apart,
    appends_from_many_tasks_are_all_kept,
    a_read_gives_no_more_than_asked_for,
    a_reader_of_a_member_that_left_can_do_nothing,
    a_position_behind_the_end_does_not_exist,
}

fn records_come_back_whole_in_order_and_in_their_partition(side: Side) {
    let world = World::new(side);
    for start in (0..500).step_by(100) {
        world.append(Topic::Usage, start..start + 100);
    }
    let read = world.all(Topic::Usage, 500);
    assert_eq!(records(&read), by_partition((0..500).map(record)));
    assert_eq!(read.len(), PARTITIONS as usize, "500 identities spread over all partitions");
    for positioned in read.values() {
        assert!(positioned.is_sorted_by(|a, b| a.position < b.position));
    }
}

fn what_was_acked_survives_a_crash(side: Side) {
    let mut world = World::that_may_crash(side);
    world.append(Topic::Usage, 0..300);
    world.crash();
    let before = world.all(Topic::Usage, 300);
    assert_eq!(records(&before), by_partition((0..300).map(record)));
    world.append(Topic::Usage, 300..600);
    let after = world.all(Topic::Usage, 600);
    assert_eq!(records(&after), by_partition((0..600).map(record)));
    for (partition, positioned) in before {
        assert_eq!(after[&partition][..positioned.len()], positioned, "positions did not change");
    }
}

fn reading_begins_where_it_is_told_to(side: Side) {
    let world = World::new(side);
    world.append(Topic::Usage, 0..4000);
    let mut joined = world.join("reader", &[Topic::Usage]);
    let all = joined.read_all(4000)[&1].clone();
    let reader = joined.reader(Topic::Usage, 1);
    for start in [0, all.len() / 2, all.len() - 1, 3, 0] {
        reader.seek(all[start].position).unwrap();
        // Leaves read-ahead records behind, which the next seek must get rid of.
        let read = reader.read(7, PATIENCE).unwrap();
        assert!(!read.is_empty());
        assert_eq!(read, all[start..start + read.len()]);
    }
    let end = all.last().unwrap().position + 1;
    reader.seek(end).unwrap();
    assert_eq!(reader.read(10, Duration::from_millis(300)).unwrap(), []);
    let late = record_in(1, 5);
    world.try_append(Topic::Usage, vec![late.clone()]).unwrap();
    let read = reader.read(10, PATIENCE).unwrap();
    assert_eq!(read.iter().map(|one| &one.record).collect::<Vec<_>>(), [&late]);
    assert!(read[0].position >= end);
}

fn a_group_resumes_where_it_committed(side: Side) {
    let world = World::new(side);
    world.append(Topic::Usage, 0..400);
    let mut first = world.join("group", &[Topic::Usage]);
    let all = first.read_all(400);
    for reader in &mut first.readers {
        let done = &all[&reader.partition()];
        reader.commit(done[done.len() / 2].position).unwrap();
    }
    drop(first);
    let left = all.values().map(|positioned| positioned.len() - positioned.len() / 2).sum();
    let mut second = world.join("group", &[Topic::Usage]);
    for (partition, read) in second.read_all(left) {
        let done = &all[&partition];
        assert_eq!(read, done[done.len() / 2..]);
    }
}

fn groups_do_not_see_each_other(side: Side) {
    let world = World::new(side);
    world.append(Topic::Usage, 0..100);
    let mut one = world.join("one", &[Topic::Usage]);
    let all = one.read_all(100);
    for reader in &mut one.readers {
        let end = all[&reader.partition()].last().unwrap().position + 1;
        reader.commit(end).unwrap();
        assert_eq!(reader.committed().unwrap(), end);
    }
    assert_eq!(world.join("two", &[Topic::Usage]).read_all(100), all);
}

fn odd_records_come_back_as_they_were(side: Side) {
    let world = World::new(side);
    let odd = |number: u64, headers: &[(&str, &str)], value: Vec<u8>| Record {
        headers: headers.iter().copied().collect(),
        value: Bytes::from(value),
        ..record(number)
    };
    let odd = [
        odd(1, &[], Vec::new()),
        odd(2, &[("tenant", "")], (0..=255).collect()),
        odd(3, &[("tenant", "Übermieter ☃ 家賃"), ("größe", "1\n2\0")], b"\r\n\r\n".to_vec()),
        odd(4, &[("tenant", "a"), ("tenant", "b")], vec![0; 200_000]),
        Record { key: Identity([0xff; 16]), ..odd(5, &[("x", "y")], vec![0xff; 3]) },
    ];
    world.try_append(Topic::Rejects, odd.to_vec()).unwrap();
    assert_eq!(records(&world.all(Topic::Rejects, odd.len())), by_partition(odd));
}

fn an_append_of_nothing_is_done_at_once(side: Side) {
    let world = World::new(side);
    world.try_append(Topic::Usage, Vec::new()).unwrap();
    assert!(world.log().lag("group", Topic::Usage).unwrap().iter().all(|lag| lag.end == 0));
}

fn a_record_that_is_too_large_is_refused(side: Side) {
    let world = World::new(side);
    let large = Record { value: Bytes::from(vec![7; 64 << 20]), ..record(1) };
    let error = world.try_append(Topic::Usage, vec![record(0), large]).unwrap_err();
    let LogError::TooLarge { bytes, limit } = error else { panic!("{error}") };
    assert!(bytes >= 64 << 20 && limit < bytes);
    // Nothing of that append is kept, and the log goes on.
    world.append(Topic::Usage, 10..20);
    assert_eq!(records(&world.all(Topic::Usage, 10)), by_partition((10..20).map(record)));
}

fn lag_tells_how_far_a_group_is(side: Side) {
    let world = World::new(side);
    let lag = || world.log().lag("group", Topic::Usage).unwrap();
    assert_eq!(
        lag().iter().map(|lag| lag.partition).collect::<Vec<_>>(),
        (0..PARTITIONS).collect::<Vec<_>>()
    );
    assert!(lag().iter().all(|lag| (lag.committed, lag.end) == (0, 0)));
    world.append(Topic::Usage, 0..200);
    let mut joined = world.join("group", &[Topic::Usage]);
    let all = joined.read_all(200);
    for lag in lag() {
        assert_eq!((lag.committed, lag.end), (0, all[&lag.partition].last().unwrap().position + 1));
    }
    let done = all[&2][9].position;
    joined.reader(Topic::Usage, 2).commit(done).unwrap();
    assert_eq!(lag()[2].committed, done);
    assert_eq!(lag()[3].committed, 0);
    assert!(world.log().lag("other", Topic::Usage).unwrap().iter().all(|lag| lag.committed == 0));
}

fn the_arrival_of_what_waits_is_told(side: Side) {
    let world = World::new(side);
    let arrivals = |places: &[(u32, u64)]| world.log().arrivals("group", Topic::Usage, places).unwrap();
    assert_eq!(arrivals(&[]), []);
    for start in (0..4000).step_by(1000) {
        world.append(Topic::Usage, start..start + 1000);
    }
    let all = world.all(Topic::Usage, 4000);
    let one = |partition: u32, index: usize| {
        let positioned = &all[&partition][index];
        ((partition, positioned.position), Some(positioned.record.arrived_at_ms))
    };
    // Forwards, within what was appended at once and beyond it; then back to the first.
    for index in [0, 1, 7, 300, 301, 900, 0] {
        let (places, expected): (Vec<_>, Vec<_>) =
            (0..PARTITIONS).map(|partition| one(partition, index)).unzip();
        assert_eq!(arrivals(&places), expected, "record {index} of each partition");
    }
    // Nothing waits at the end, until something comes.
    let last = all[&1].last().unwrap().position;
    assert_eq!(arrivals(&[(1, last)]), [one(1, all[&1].len() - 1).1]);
    assert_eq!(arrivals(&[(1, last + 1)]), [None]);
    let late = record_in(1, 5);
    world.try_append(Topic::Usage, vec![late.clone()]).unwrap();
    assert_eq!(arrivals(&[(1, last + 1)]), [Some(late.arrived_at_ms)]);
}

fn a_waiting_reader_wakes_when_records_come(side: Side) {
    let world = World::new(side);
    let mut joined = world.join("group", &[Topic::Usage]);
    let reader = joined.reader(Topic::Usage, 2);
    let began = Instant::now();
    assert_eq!(reader.read(10, Duration::from_millis(400)).unwrap(), []);
    assert!(began.elapsed() >= Duration::from_millis(390), "it waited {:?}", began.elapsed());
    let log = world.shared_log();
    let runtime = world.runtime().handle().clone();
    let appender = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        runtime.block_on(log.append(Topic::Usage, vec![record_in(2, 1)])).unwrap();
        Instant::now()
    });
    let read = reader.read(10, PATIENCE).unwrap();
    let woken = Instant::now();
    assert_eq!(read.len(), 1);
    let late = woken.saturating_duration_since(appender.join().unwrap());
    assert!(late < Duration::from_secs(2), "woken {late:?} after the append");
}

fn lanes_are_apart(side: Side) {
    let world = World::new(side);
    world.append(Topic::Usage, 0..40);
    world.append(Topic::Overflow, 40..100);
    let mut joined = world.join("group", &[Topic::Usage, Topic::Overflow]);
    let mut held: Vec<_> = joined.readers.iter().map(|reader| (reader.topic(), reader.partition())).collect();
    held.sort_unstable();
    let lane = |topic| (0..PARTITIONS).map(move |partition| (topic, partition));
    assert_eq!(held, lane(Topic::Usage).chain(lane(Topic::Overflow)).collect::<Vec<_>>());
    joined.readers.retain(|reader| reader.topic() == Topic::Overflow);
    assert_eq!(records(&joined.read_all(60)), by_partition((40..100).map(record)));
}

fn appends_from_many_tasks_are_all_kept(side: Side) {
    let world = World::new(side);
    let tasks: Vec<_> = (0..50_u64)
        .map(|task| {
            let log = world.shared_log();
            world.runtime().spawn(async move {
                for append in 0..4 {
                    let start = task * 100 + append * 25;
                    log.append(Topic::Usage, (start..start + 25).map(record).collect()).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        world.runtime().block_on(task).unwrap();
    }
    let mut read: Vec<Record> = records(&world.all(Topic::Usage, 5000)).into_values().flatten().collect();
    read.sort_by_key(|record| record.arrived_at_ms);
    assert_eq!(read, (0..5000).map(record).collect::<Vec<_>>());
}

fn a_read_gives_no_more_than_asked_for(side: Side) {
    let world = World::new(side);
    world.try_append(Topic::Usage, (0..50).map(|number| record_in(0, number)).collect()).unwrap();
    let mut joined = world.join("group", &[Topic::Usage]);
    let reader = joined.reader(Topic::Usage, 0);
    let mut read = Vec::new();
    while read.len() < 50 {
        let some = reader.read(8, PATIENCE).unwrap();
        assert!((1..=8).contains(&some.len()));
        read.extend(some);
    }
    assert!(read.is_sorted_by(|a, b| a.position < b.position));
}

fn a_reader_of_a_member_that_left_can_do_nothing(side: Side) {
    let world = World::new(side);
    world.append(Topic::Usage, 0..400);
    let Joined { subscription, mut readers } = world.join("group", &[Topic::Usage]);
    for reader in &mut readers {
        assert!(!reader.read(1000, PATIENCE).unwrap().is_empty());
    }
    // One of them waits while its member leaves, and is told at once.
    let mut waiting = readers.pop().unwrap();
    let waiter = std::thread::spawn(move || {
        loop {
            match waiting.read(1000, Duration::from_secs(600)) {
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    });
    std::thread::sleep(Duration::from_millis(200));
    drop(subscription);
    let told = waiter.join().unwrap();
    assert!(matches!(told, LogError::Revoked { .. }), "{told}");
    for reader in &mut readers {
        let results = [
            reader.read(1, Duration::ZERO).err(),
            reader.seek(0).err(),
            reader.commit(1).err(),
            reader.committed().err(),
        ];
        for result in results {
            assert!(matches!(result, Some(LogError::Revoked { .. })), "{result:?}");
        }
    }
    // Its place is free again, and nothing was committed.
    assert_eq!(world.join("group", &[Topic::Usage]).read_all(400).values().map(Vec::len).sum::<usize>(), 400);
}

fn a_position_behind_the_end_does_not_exist(side: Side) {
    let world = World::new(side);
    world.append(Topic::Usage, 0..40);
    let mut joined = world.join("group", &[Topic::Usage]);
    let reader = joined.reader(Topic::Usage, 0);
    let error = reader.seek(1_000_000).unwrap_err();
    assert!(matches!(&error, LogError::Topics(reason) if reason.contains("1000000")), "{error}");
    // The reader is where it was.
    assert!(!reader.read(10, PATIENCE).unwrap().is_empty());
}
