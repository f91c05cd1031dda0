//! Which faults, when, for how long: decided by the seed alone, before anything runs.

use serde::Serialize;

use super::dice::Dice;

/// What is done to the system. The names are those of the tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// kill -9 of the collector; with the embedded log, of the process that holds everything but the store.
    KillCollector,
    /// kill -9 of one of the two aggregators.
    KillAggregator,
    /// kill -9 of the process that holds the ClickHouse engine.
    KillEngine,
    /// SIGTERM to an aggregator, which leaves its group in mid-batch and comes back later.
    Rebalance,
    /// SIGSTOP of an aggregator for longer than its session: it wakes after its partitions have moved.
    Zombie,
    /// SIGSTOP of the engine: a ClickHouse that takes its time.
    SlowEngine,
    /// kill -9 of a broker.
    KillBroker,
    /// SIGTERM to a broker.
    RestartBroker,
    /// Connections between one client and the brokers are reset, new ones refused.
    CutBroker,
    /// Nothing passes between one client and the brokers; connections stay.
    StallBroker,
    /// One client's requests reach the brokers, their answers do not reach it; then the connections go.
    HalfOpenBroker,
    /// Connections between the clients and the collector are reset, or their answers lost.
    CutClients,
    /// Connections between one aggregator and ClickHouse are reset, new ones refused.
    CutStore,
    /// Nothing passes between one aggregator and ClickHouse; connections stay.
    StallStore,
    /// ClickHouse hears one aggregator, which does not hear it; then the connections go.
    HalfOpenStore,
    /// ClickHouse answers inserts with an error of the moment.
    StoreRefuses,
    /// The connection closes before an insert gets to ClickHouse.
    StoreCloses,
    /// The connection closes in the middle of an insert.
    StoreBreaksOff,
    /// ClickHouse has stored an insert, and its answer is lost.
    StoreAnswerLost,
    /// The disk of the engine is full.
    FullDiskStore,
    /// The disk of a broker, or of the embedded log, is full.
    FullDiskLog,
    /// A process's clock steps by more than an hour, one way or the other, and back.
    ClockStep,
    /// All aggregators go, and the committed positions are set back to 0.
    Replay,
}

/// With which event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LogSide {
    /// Real brokers, a collector and two aggregators.
    Kafka,
    /// The log on disk: collector and aggregator in one process.
    Embedded,
}

impl Kind {
    const ALL: [Kind; 23] = [
        Kind::KillCollector,
        Kind::KillAggregator,
        Kind::KillEngine,
        Kind::Rebalance,
        Kind::Zombie,
        Kind::SlowEngine,
        Kind::KillBroker,
        Kind::RestartBroker,
        Kind::CutBroker,
        Kind::StallBroker,
        Kind::HalfOpenBroker,
        Kind::CutClients,
        Kind::CutStore,
        Kind::StallStore,
        Kind::HalfOpenStore,
        Kind::StoreRefuses,
        Kind::StoreCloses,
        Kind::StoreBreaksOff,
        Kind::StoreAnswerLost,
        Kind::FullDiskStore,
        Kind::FullDiskLog,
        Kind::ClockStep,
        Kind::Replay,
    ];

    /// The kinds that make sense with that log.
    pub(super) fn of(log: LogSide) -> Vec<Kind> {
        let needs_kafka = |kind: &Kind| {
            use Kind::{
                CutBroker, HalfOpenBroker, KillAggregator, KillBroker, Rebalance, RestartBroker, StallBroker,
                Zombie,
            };
            matches!(
                kind,
                KillAggregator
                    | Rebalance
                    | Zombie
                    | KillBroker
                    | RestartBroker
                    | CutBroker
                    | StallBroker
                    | HalfOpenBroker
            )
        };
        Kind::ALL.into_iter().filter(|kind| log == LogSide::Kafka || !needs_kafka(kind)).collect()
    }

    /// From and to how many milliseconds it lasts. A zombie sleeps through its session, which is 3 s here.
    fn holds_ms(self) -> (u64, u64) {
        match self {
            Kind::KillCollector | Kind::KillAggregator | Kind::KillEngine | Kind::Rebalance => (20, 900),
            Kind::Zombie => (4_000, 5_500),
            Kind::SlowEngine | Kind::StallStore | Kind::StallBroker => (500, 4_000),
            Kind::KillBroker | Kind::RestartBroker => (50, 1_500),
            Kind::CutBroker
            | Kind::CutStore
            | Kind::HalfOpenBroker
            | Kind::HalfOpenStore
            | Kind::CutClients => (200, 3_000),
            Kind::StoreRefuses | Kind::StoreCloses | Kind::StoreBreaksOff | Kind::StoreAnswerLost => {
                (2_000, 2_001)
            }
            Kind::FullDiskStore | Kind::FullDiskLog => (800, 2_500),
            Kind::ClockStep => (1_500, 3_500),
            Kind::Replay => (0, 1),
        }
    }

    /// What it keeps busy; two faults at once must not want the same.
    fn claims(self, target: usize) -> Vec<String> {
        match self {
            Kind::KillCollector => vec!["process 0".into()],
            Kind::KillAggregator | Kind::Rebalance | Kind::Zombie => vec![format!("process {}", 1 + target)],
            Kind::KillEngine | Kind::SlowEngine => vec!["engine".into()],
            Kind::FullDiskStore => vec!["engine".into(), "disk".into()],
            Kind::KillBroker | Kind::RestartBroker => vec!["brokers".into()],
            Kind::FullDiskLog => vec!["brokers".into(), "disk".into()],
            Kind::CutBroker | Kind::StallBroker | Kind::HalfOpenBroker => vec![format!("door {target}")],
            Kind::CutStore | Kind::StallStore | Kind::HalfOpenStore => vec![format!("store {target}")],
            Kind::StoreRefuses | Kind::StoreCloses | Kind::StoreBreaksOff | Kind::StoreAnswerLost => {
                vec![format!("store {target}")]
            }
            Kind::CutClients => vec!["clients".into()],
            Kind::ClockStep => vec![format!("clock {target}")],
            Kind::Replay => {
                ["process 0", "process 1", "process 2", "engine", "brokers"].map(str::to_owned).into()
            }
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    /// What.
    pub(super) kind: Kind,
    /// Whom: the aggregator, the broker, the client; as far as the kind has a choice.
    pub(super) target: usize,
    /// How long.
    pub(super) hold_ms: u64,
    /// What else the kind wants decided: a table, a count, a direction.
    pub(super) detail: u64,
}

/// One or two faults that come together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    /// So many items are sent after the step before has begun.
    pub(super) after_items: u64,
    /// What happens.
    pub(super) faults: Vec<Fault>,
    /// The next step does not wait until the system has recovered from this one.
    pub(super) is_hasty: bool,
}

/// What there is to hurt.
#[derive(Clone, Debug)]
pub(super) struct Targets {
    /// Kinds that can be done here.
    pub(super) kinds: Vec<Kind>,
    /// Aggregators, each with a connection to the store.
    pub(super) aggregators: usize,
    /// Brokers.
    pub(super) brokers: usize,
    /// Clients of the brokers, and processes with a clock of their own.
    pub(super) clients: usize,
}

/// A schedule of `faults` faults. Every kind comes once before one comes twice.
pub(super) fn schedule(seed: u64, faults: usize, targets: &Targets) -> Vec<Step> {
    let mut dice = Dice::new(seed, 1);
    let mut deck: Vec<Kind> = Vec::new();
    let mut steps = Vec::new();
    let mut left = faults;
    while left > 0 && !targets.kinds.is_empty() {
        let mut step = Step {
            after_items: dice.between(20, 400),
            faults: vec![draw(&mut dice, &mut deck, targets)],
            is_hasty: dice.chance(25),
        };
        left -= 1;
        if left > 0 && dice.chance(30) {
            let second = draw(&mut dice, &mut deck, targets);
            let taken = step.faults[0].kind.claims(step.faults[0].target);
            if second.kind.claims(second.target).iter().any(|claim| taken.contains(claim)) {
                deck.push(second.kind);
            } else {
                step.faults.push(second);
                left -= 1;
            }
        }
        steps.push(step);
    }
    steps
}

fn draw(dice: &mut Dice, deck: &mut Vec<Kind>, targets: &Targets) -> Fault {
    if deck.is_empty() {
        deck.extend(&targets.kinds);
        dice.shuffle(deck);
    }
    // The deck has just been filled, from kinds that are not empty.
    let kind = deck.pop().unwrap_or(Kind::KillCollector);
    let choices = match kind {
        Kind::KillBroker | Kind::RestartBroker | Kind::FullDiskLog => targets.brokers,
        Kind::CutBroker | Kind::StallBroker | Kind::HalfOpenBroker | Kind::ClockStep => targets.clients,
        _ => targets.aggregators,
    };
    let (least, most) = kind.holds_ms();
    Fault {
        kind,
        target: dice.below(choices as u64) as usize,
        hold_ms: dice.between(least, most),
        detail: dice.any() >> 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(log: LogSide) -> Targets {
        Targets { kinds: Kind::of(log), aggregators: 2, brokers: 3, clients: 3 }
    }

    #[test]
    fn a_seed_gives_the_same_schedule_and_another_seed_another() {
        let of = |seed| schedule(seed, 100, &targets(LogSide::Kafka));
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        assert_eq!(of(7).iter().map(|step| step.faults.len()).sum::<usize>(), 100);
        // A longer run begins as a shorter one does: a failure can be looked for with fewer faults.
        let short = schedule(7, 50, &targets(LogSide::Kafka));
        assert_eq!(short[..short.len() - 1], of(7)[..short.len() - 1]);
    }

    #[test]
    fn every_kind_comes_before_one_comes_twice_too_often() {
        for log in [LogSide::Kafka, LogSide::Embedded] {
            let kinds = Kind::of(log);
            let steps = schedule(3, kinds.len() * 4, &targets(log));
            for kind in kinds {
                let count = steps.iter().flat_map(|step| &step.faults).filter(|f| f.kind == kind).count();
                assert!((3..=5).contains(&count), "{kind:?} {count} times in four rounds");
            }
        }
    }

    #[test]
    fn faults_of_one_step_do_not_fight_over_a_target() {
        for step in schedule(11, 400, &targets(LogSide::Kafka)) {
            if let [a, b] = &step.faults[..] {
                let taken = a.kind.claims(a.target);
                assert!(b.kind.claims(b.target).iter().all(|claim| !taken.contains(claim)), "{step:?}");
            }
        }
    }
}
