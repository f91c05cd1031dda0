//! The run itself: faults by the schedule, and comparisons in between.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::act::{act, wake_brokers};
use super::check::{Found, compare};
use super::model::Expected;
use super::progress::Progress;
use super::report::Report;
use super::scene::Scene;
use super::schedule::{Fault, Step};
use super::traffic::Traffic;
use super::watch::Watch;

/// Comparisons come after so many faults: each reads all that is stored.
const COMPARE_EVERY: usize = 40;
/// After a fault something must be stored again within this, or the system stands still. Far beyond the longest
/// timeouts of all parts together, since an overloaded machine stretches them.
const RECOVERY_MAX: Duration = Duration::from_secs(180);
/// After the last item everything must be stored within this.
const DRAIN_MAX: Duration = Duration::from_secs(240);
/// Nothing more is coming when nothing came for this long.
const QUIET: Duration = Duration::from_millis(1_500);
/// What is found to differ may still be on its way to being repaired, as long as there are hours to check and one is
/// checked within this: each takes some statements and waits for deletions, minutes on an overloaded machine…
const REPAIR_STEP_MAX: Duration = RECOVERY_MAX;
/// …and no longer than this in all.
const REPAIR_MAX: Duration = Duration::from_secs(900);
/// Between two looks while it is.
const REPAIR_LOOK: Duration = Duration::from_secs(1);

/// Carries the schedule out. What does not hold is in `report`.
///
/// # Errors
/// What has nothing to do with the system under test.
pub(super) async fn play(
    scene: &Scene,
    traffic: &mut Traffic,
    steps: &[Step],
    report: &mut Report,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let watch = Watch::begin(scene.client.clone());
    let mut since_comparison = 0;
    let mut begun_at = traffic.sent();
    if !recovered(scene, &watch, Instant::now()).await? {
        report.complaints.push("nothing was ever stored".to_owned());
        return Ok(());
    }
    if !both_followed(scene).await? {
        report.complaints.push("of one of the logs nothing was ever stored".to_owned());
        return Ok(());
    }
    traffic.rotate();
    for (index, step) in steps.iter().enumerate() {
        while traffic.sent() < begun_at + step.after_items {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        traffic.check().await?;
        begun_at = traffic.sent();
        watch.take_longest();
        scene.note(&format!("step {index}: {:?}", step.faults));
        let done = inject(scene, &step.faults).await;
        let healed = Instant::now();
        scene.note(&format!("step {index}: healed, {done:?}"));
        let survived = match (&done, step.is_hasty) {
            (Err(_), _) | (_, true) => true,
            (Ok(_), false) => recovered(scene, &watch, healed).await?,
        };
        let done = done?;
        let silence = watch.take_longest();
        scene.note(&format!("step {index}: survived: {survived}, silence {} ms", silence.as_millis()));
        for (fault, was_done) in step.faults.iter().zip(done) {
            report.count(fault.kind, was_done, survived, silence);
        }
        since_comparison += step.faults.len();
        progress.step(step.faults.len() as u64, traffic.sent(), watch.events());
        if !survived {
            let what = format!("nothing was stored for {} s after {:?}", RECOVERY_MAX.as_secs(), step.faults);
            report.complaints.push(what);
        }
        let is_last = index + 1 == steps.len();
        if since_comparison >= COMPARE_EVERY || is_last || !survived {
            since_comparison = 0;
            progress.say("comparing");
            scene.note("comparing");
            let held = traffic.hold().await;
            hold_up(scene, traffic, &watch, report).await?;
            if report.found.differing > 0 || !report.complaints.is_empty() {
                return Ok(());
            }
            traffic.take_old_logs_away()?;
            watch.excuse();
            begun_at = traffic.sent();
            drop(held);
        }
    }
    Ok(())
}

async fn inject(scene: &Scene, faults: &[Fault]) -> anyhow::Result<Vec<bool>> {
    match faults {
        [a, b] => {
            let (a, b) = tokio::join!(act(scene, a), act(scene, b));
            Ok(vec![a?, b?])
        }
        _ => {
            let mut done = Vec::new();
            for fault in faults {
                done.push(act(scene, fault).await.with_context(|| format!("cannot do {fault:?}"))?);
            }
            Ok(done)
        }
    }
}

/// Waits until something is stored; false if that takes too long.
async fn recovered(scene: &Scene, watch: &Watch, since: Instant) -> anyhow::Result<bool> {
    while !watch.has_grown_since(since) {
        if since.elapsed() > RECOVERY_MAX {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        wake_brokers(scene).await?;
    }
    Ok(true)
}

/// Waits until lines of both logs are stored; false if that takes too long.
async fn both_followed(scene: &Scene) -> anyhow::Result<bool> {
    let sources = format!("'{}', '{}'", super::traffic::LOG_SOURCE, super::lines::SOURCE);
    let sql = format!("SELECT uniqExact(source) FROM events WHERE source IN ({sources})");
    let begun = Instant::now();
    while scene.client.query(&sql).fetch_one::<u64>().await? < 2 {
        if begun.elapsed() > RECOVERY_MAX {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(true)
}

/// Lets everything come to rest, and holds the store against the model and the books against themselves.
async fn hold_up(scene: &Scene, traffic: &Traffic, watch: &Watch, report: &mut Report) -> anyhow::Result<()> {
    let Expected { events, lines, .. } = expected(traffic);
    let deadline = Instant::now() + DRAIN_MAX;
    while watch.events() < events + lines && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
        wake_brokers(scene).await?;
    }
    at_rest(scene, deadline).await?;
    scene.note("at rest");
    let deadline = Instant::now() + REPAIR_MAX;
    loop {
        report.found = read(scene, traffic).await?;
        if report.found.differing == 0 || !is_repaired_further(scene, deadline).await? {
            break;
        }
    }
    scene.note(&format!("compared, {} differences", report.found.differing));
    report.comparisons += 1;
    report.expected = expected(traffic);
    report.rotations = traffic.rotations();
    let (code, printed, said) = scene.run(&["books", "--json"]).await?;
    if code != Some(0) {
        report.complaints.push(format!("`rentroll books` ended with {code:?}: {printed}{said}"));
    }
    let books: serde_json::Value = serde_json::from_str(&printed).unwrap_or_default();
    let hours = books["hours"].as_array().cloned().unwrap_or_default();
    report.duplicates = hours.iter().filter_map(|hour| hour["duplicate"].as_u64()).sum();
    let repairs = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'repairs'";
    if scene.client.query(repairs).fetch_one::<u64>().await? > 0 {
        report.repairs = scene.client.query("SELECT count() FROM repairs").fetch_one().await?;
    }
    Ok(())
}

/// What must be stored, of all that was sent.
fn expected(traffic: &Traffic) -> Expected {
    let mut sum = Expected { lines: traffic.written.lines(), ..Expected::default() };
    for one in traffic.all().iter().map(|sent| sent.expected()) {
        sum.sent += one.sent;
        sum.acked += one.acked;
        sum.events += one.events;
        sum.rejects += one.rejects;
    }
    sum
}

/// Waits until all hours that were marked are checked; false if none was to be, or if it does not come to that.
async fn is_repaired_further(scene: &Scene, deadline: Instant) -> anyhow::Result<bool> {
    const OPEN: &str = "SELECT uniqExact(hour) FROM dirty_hours FINAL WHERE state = 0";
    const PENDING: &str = "SELECT count() FROM events WHERE identity IN (SELECT corrects FROM events \
        WHERE correction != 'none' AND identity NOT IN (SELECT identity FROM corrections_applied))";
    // A mark that a repair leaves for the next pass keeps an hour open, and hours that are checked together stay open
    // until all of them are: that something was checked, or put right, is progress all the same.
    const CHECKED: &str = "SELECT assumeNotNull((SELECT count() FROM rollup_checks)) + assumeNotNull((SELECT count() FROM repairs))";
    let ask = async |sql: &str| scene.client.query(sql).fetch_one::<u64>().await;
    let look = async || Ok::<_, clickhouse::error::Error>((ask(OPEN).await?, ask(PENDING).await?));
    let (mut left, mut checked, mut since) = (look().await?, ask(CHECKED).await?, Instant::now());
    let had_work = left != (0, 0);
    while had_work && Instant::now() < deadline && since.elapsed() < REPAIR_STEP_MAX {
        tokio::time::sleep(REPAIR_LOOK).await;
        let now = (look().await?, ask(CHECKED).await?);
        if now.0 == (0, 0) {
            return Ok(true);
        }
        if now != (left, checked) {
            scene.note(&format!("to repair: {} hours, {} events", now.0.0, now.0.1));
            ((left, checked), since) = (now, Instant::now());
        }
    }
    Ok(false)
}

async fn read(scene: &Scene, traffic: &Traffic) -> anyhow::Result<Found> {
    compare(&scene.client, &traffic.all(), &traffic.written)
        .await
        .context("cannot read the store for the comparison")
}

/// Waits until no batch has been written for a while and, with Kafka, every record is taken.
async fn at_rest(scene: &Scene, deadline: Instant) -> anyhow::Result<()> {
    const WRITTEN: &str = "SELECT count(), toInt64(max(toUnixTimestamp64Milli(written_at))) FROM batches";
    let mut before = None;
    let mut quiet_since = Instant::now();
    while Instant::now() < deadline {
        let written = scene.client.query(WRITTEN).fetch_one::<(u64, i64)>().await.ok();
        if written != before || written.is_none() {
            (before, quiet_since) = (written, Instant::now());
        }
        if quiet_since.elapsed() >= QUIET && is_drained(scene).await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn is_drained(scene: &Scene) -> bool {
    let Some(cluster) = &scene.cluster else { return true };
    let cluster = cluster.lock().await;
    let topics: Vec<&str> = rentroll_schemas::topics::Topic::ALL.iter().map(|topic| topic.name()).collect();
    let lag = tokio::task::block_in_place(|| {
        cluster.lag(super::act::GROUP, &topics, scene.partitions, Duration::from_secs(5))
    });
    lag.is_ok_and(|lag| lag == 0)
}
