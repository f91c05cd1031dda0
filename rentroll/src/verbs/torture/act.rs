//! Does what a fault says, and undoes it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use super::proxy::{Proxy, Trap, Wire};
use super::scene::{CLIENTS, ENGINE, NODE, Room, Scene, set_room};
use super::schedule::{Fault, Kind, LogSide};

/// A clock steps by an hour and up to this much more, in seconds.
const STEP_MORE: u64 = 600;
/// From a disk's being nearly full to its being full, at least and at most.
const FILLING: Duration = Duration::from_millis(600);
const FILLING_MAX: Duration = Duration::from_secs(15);
/// How long a trap waits for an insert.
const TRAP_WAIT: Duration = Duration::from_secs(6);
/// How long a group may take to notice that its members are gone.
const EMPTY_WAIT: Duration = Duration::from_secs(90);
/// How long a broker may take to leave.
const BROKER_STOP_WAIT: Duration = Duration::from_secs(10);
/// The group of the aggregators, as configured by default.
pub(super) const GROUP: &str = "rentroll-aggregator";
/// Tables into which a batch goes, in the order in which it does, and the first again.
const TABLES: [&str; 7] =
    ["events", "batches", "rollup_minute", "rollup_hour", "rollup_day", "rejects", "events"];

/// Injects `fault`, waits, heals. False if it found nothing to hurt.
///
/// # Errors
/// What kept it from being done or undone.
pub(super) async fn act(scene: &Scene, fault: &Fault) -> anyhow::Result<bool> {
    let hold = Duration::from_millis(fault.hold_ms);
    let fleet = &scene.fleet;
    match fault.kind {
        Kind::KillCollector => kill(scene, scene.collector(), hold).await?,
        Kind::KillAggregator => kill(scene, scene.aggregator(fault.target), hold).await?,
        Kind::KillEngine => kill(scene, ENGINE, hold).await?,
        Kind::Rebalance => {
            let name = scene.aggregator(fault.target);
            fleet.stop(name).await;
            tokio::time::sleep(hold).await;
            fleet.start(name)?;
        }
        Kind::Zombie => pause(scene, scene.aggregator(fault.target), hold).await,
        Kind::SlowEngine => pause(scene, ENGINE, hold).await,
        Kind::KillBroker | Kind::RestartBroker => broker(scene, fault, hold).await?,
        Kind::CutBroker => wires(doors(scene, fault), Wire::Cut, hold).await,
        Kind::StallBroker => wires(doors(scene, fault), Wire::Stalled, hold).await,
        Kind::HalfOpenBroker => wires(doors(scene, fault), Wire::HalfOpen, hold).await,
        Kind::CutClients => {
            let wire = if fault.detail.is_multiple_of(2) { Wire::Cut } else { Wire::HalfOpen };
            wires(vec![&scene.ingest], wire, hold).await;
        }
        Kind::CutStore => wires(vec![store(scene, fault)], Wire::Cut, hold).await,
        Kind::StallStore => wires(vec![store(scene, fault)], Wire::Stalled, hold).await,
        Kind::HalfOpenStore => wires(vec![store(scene, fault)], Wire::HalfOpen, hold).await,
        Kind::StoreRefuses => return Ok(trap(store(scene, fault), Trap::Refuse, fault).await),
        Kind::StoreCloses => return Ok(trap(store(scene, fault), Trap::Close, fault).await),
        Kind::StoreBreaksOff => return Ok(trap(store(scene, fault), Trap::BreakOff, fault).await),
        Kind::StoreAnswerLost => return Ok(trap(store(scene, fault), Trap::LoseAnswer, fault).await),
        Kind::FullDiskStore => full_disk(scene, "store", hold).await?,
        Kind::FullDiskLog => full_disk(scene, "log", hold).await?,
        Kind::ClockStep => {
            let name = scene.clocked(fault.target);
            let step = 3_600 + (fault.detail % STEP_MORE) as i64;
            fleet.set_clock(name, if (fault.detail / STEP_MORE).is_multiple_of(2) { step } else { -step })?;
            tokio::time::sleep(hold).await;
            fleet.set_clock(name, 0)?;
        }
        Kind::Replay => replay(scene, fault).await?,
    }
    Ok(true)
}

async fn kill(scene: &Scene, name: &str, hold: Duration) -> anyhow::Result<()> {
    scene.fleet.kill(name);
    tokio::time::sleep(hold).await;
    scene.fleet.start(name)
}

async fn pause(scene: &Scene, name: &str, hold: Duration) {
    scene.fleet.signal(name, Signal::STOP);
    tokio::time::sleep(hold).await;
    scene.fleet.signal(name, Signal::CONT);
}

/// One client's wires: to all brokers, or to one of them.
fn doors<'a>(scene: &'a Scene, fault: &Fault) -> Vec<&'a Proxy> {
    let doors = &scene.doors[fault.target % scene.doors.len()];
    match fault.detail % 2 {
        0 => doors.iter().collect(),
        _ => vec![&doors[(fault.detail / 2) as usize % doors.len()]],
    }
}

fn store<'a>(scene: &'a Scene, fault: &Fault) -> &'a Proxy {
    &scene.stores[fault.target % scene.stores.len()]
}

async fn wires(wires: Vec<&Proxy>, to: Wire, hold: Duration) {
    for wire in &wires {
        wire.set(to);
    }
    tokio::time::sleep(hold).await;
    if to == Wire::HalfOpen {
        // Whoever was left waiting is told at last.
        for wire in &wires {
            wire.set(Wire::Cut);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for wire in wires {
        wire.set(Wire::Open);
    }
}

async fn trap(store: &Proxy, trap: Trap, fault: &Fault) -> bool {
    let table = TABLES[fault.detail as usize % TABLES.len()];
    let times = 1 + fault.detail / 16 % 3;
    store.set_trap(trap, table, times);
    let deadline = Instant::now() + TRAP_WAIT;
    while !store.is_spent() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.clear_trap() > 0
}

async fn full_disk(scene: &Scene, name: &str, hold: Duration) -> anyhow::Result<()> {
    let disk = scene.folder.join(name);
    // Disks fill over some time: whoever looks at the room before writing gets to see it, and has what was begun
    // before written by then.
    set_room(&disk, Room::Filling)?;
    let deadline = Instant::now() + FILLING_MAX;
    tokio::time::sleep(FILLING).await;
    while scene.is_engine_writing().await && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    set_room(&disk, Room::Full)?;
    tokio::time::sleep(hold).await;
    set_room(&disk, Room::Ample)?;
    wake_brokers(scene).await
}

/// Starts the brokers that have ended, as one does whose disk is full.
pub(super) async fn wake_brokers(scene: &Scene) -> anyhow::Result<()> {
    if let Some(cluster) = &scene.cluster {
        let mut cluster = cluster.lock().await;
        for node in 0..cluster.len() {
            cluster.start(node)?;
        }
    }
    Ok(())
}

async fn broker(scene: &Scene, fault: &Fault, hold: Duration) -> anyhow::Result<()> {
    let Some(cluster) = &scene.cluster else { return Ok(()) };
    let mut cluster = cluster.lock().await;
    let node = fault.target % cluster.len();
    if fault.kind == Kind::RestartBroker
        && let Some(pid) = cluster.pid(node).and_then(|pid| Pid::from_raw(pid as i32))
    {
        // It may have ended a moment ago.
        let _ = kill_process(pid, Signal::TERM);
        let deadline = Instant::now() + BROKER_STOP_WAIT;
        while cluster.is_running(node) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    cluster.kill(node);
    tokio::time::sleep(hold).await;
    cluster.start(node)?;
    Ok(())
}

/// Everybody who reads goes, the positions go back to the first record, and they come again.
async fn replay(scene: &Scene, fault: &Fault) -> anyhow::Result<()> {
    let readers: &[&str] = match scene.log {
        LogSide::Kafka => &CLIENTS[1..],
        LogSide::Embedded => &[NODE],
    };
    for name in readers {
        match fault.detail % 2 {
            0 => scene.fleet.kill(name),
            _ => scene.fleet.stop(name).await,
        }
    }
    match &scene.cluster {
        None => {
            let groups = scene.folder.join("log/log/groups");
            std::fs::remove_dir_all(&groups)
                .with_context(|| format!("cannot remove {}", groups.display()))?;
        }
        Some(cluster) => {
            let topics: Vec<&str> =
                rentroll_schemas::topics::Topic::ALL.iter().map(|topic| topic.name()).collect();
            let deadline = Instant::now() + EMPTY_WAIT;
            loop {
                // One whose disk was full a moment ago may end only now.
                wake_brokers(scene).await?;
                let cluster = cluster.lock().await;
                let reset =
                    tokio::task::block_in_place(|| cluster.commit(GROUP, &topics, scene.partitions, 0));
                match reset {
                    Ok(()) => break,
                    Err(error) if Instant::now() > deadline => {
                        return Err(error).context("cannot set the group's positions back");
                    }
                    // Members that were killed are missed only when their sessions end.
                    Err(_) => {}
                }
                drop(cluster);
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
    for name in readers {
        scene.fleet.start(name)?;
    }
    Ok(())
}
