//! The books for people: totals per source, then only what somebody has to look at.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rentroll_aggregator::books::{Arrivals, Books, Hour, Selection};

use crate::output::{Sheet, grouped};

const HEADERS: [&str; 9] =
    ["source", ">accepted", ">stored", ">duplicate", ">conflict", ">rejected", ">found", ">hours", ""];
const HOUR_HEADERS: [&str; 9] = [
    "source",
    "hour of arrival (UTC)",
    ">accepted",
    ">stored",
    ">duplicate",
    ">conflict",
    ">rejected",
    ">found",
    "",
];

#[derive(Clone, Copy, Default)]
struct Total {
    numbers: [u64; 6],
    hours: u64,
    off: u64,
}

impl Total {
    fn add(&mut self, hour: &Hour) {
        for (sum, number) in self.numbers.iter_mut().zip(numbers(hour)) {
            *sum += number;
        }
        self.hours += 1;
        self.off += u64::from(!hour.balances());
    }

    fn row(&self, name: &str) -> Vec<String> {
        let mut cells = vec![name.to_owned()];
        cells.extend(self.numbers.iter().map(|number| grouped(&number.to_string())));
        cells.push(grouped(&self.hours.to_string()));
        cells.push(match self.off {
            0 => String::new(),
            1 => "1 hour does not balance".to_owned(),
            off => format!("{off} hours do not balance"),
        });
        cells
    }
}

/// Accepted, stored, duplicate, conflict, rejected, found. What is past its retention counts as found: it was.
fn numbers(hour: &Hour) -> [u64; 6] {
    let tally = hour.tally;
    let found = hour.found.unwrap_or(tally.stored);
    [tally.accepted, tally.stored, tally.duplicate, tally.conflict, tally.rejected, found]
}

/// Prints them.
///
/// # Errors
/// If stdout is closed.
pub(super) fn print(books: &Books, selection: &Selection, all: bool) -> anyhow::Result<()> {
    let mut totals: BTreeMap<&str, Total> = BTreeMap::new();
    let mut overall = Total::default();
    for hour in &books.hours {
        totals.entry(&hour.source).or_default().add(hour);
        overall.add(hour);
    }
    let shown: Vec<&Hour> = books.hours.iter().filter(|hour| all || !hour.balances()).collect();
    if !shown.is_empty() {
        hours(&shown)?;
    }
    let mut sheet = Sheet::new(&HEADERS);
    for (source, total) in &totals {
        sheet.row(&total.row(source));
    }
    sheet.row(&overall.row("total"));
    sheet.print()?;
    chains(books)?;
    let is_part = *selection != Selection::default();
    if is_part && books.hours.is_empty() {
        eprintln!("nothing of what was selected arrived");
    }
    if let Some(elsewhere) = elsewhere(books) {
        eprintln!("elsewhere: {elsewhere}; run without --from, --to and --source to see it");
    }
    let word = if books.hold() { "yes" } else { "NO" };
    let whose = if is_part { " (of what was selected)" } else { "" };
    eprintln!("accepted = stored + duplicate + rejected, stored = found, no position missing: {word}{whose}");
    Ok(())
}

/// What is amiss in the chains and cannot be of what was selected.
fn elsewhere(books: &Books) -> Option<String> {
    let gaps = books.chains.iter().flat_map(|chain| &chain.gaps).filter(|gap| gap.elsewhere);
    let positions: u64 = gaps.map(|gap| gap.to - gap.from).sum();
    let short = books.chains.iter().flat_map(|chain| &chain.short).filter(|batch| batch.elsewhere).count();
    let never = books.unfinished.iter().filter(|batch| batch.elsewhere && batch.passed_over).count();
    let told: Vec<String> = [
        (positions, "positions missing"),
        (short as u64, "batches with fewer records than positions"),
        (never as u64, "batches planned and never done"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{what}: {}", grouped(&count.to_string())))
    .collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// When what is missing may have arrived.
fn span(arrived: Arrivals) -> String {
    let form = |time: Option<DateTime<Utc>>| time.map(|time| time.format("%Y-%m-%d %H:%M").to_string());
    match (form(arrived.from), form(arrived.before)) {
        (Some(from), Some(before)) => format!("arrived from {from} to {before}"),
        (None, Some(before)) => format!("arrived before {before}"),
        (Some(from), None) => format!("arrived from {from} on"),
        (None, None) => "nobody knows when they arrived".to_owned(),
    }
}

fn hours(shown: &[&Hour]) -> anyhow::Result<()> {
    let mut sheet = Sheet::new(&HOUR_HEADERS);
    for hour in shown {
        let mut cells = vec![hour.source.clone(), hour.hour.format("%Y-%m-%d %H:%M").to_string()];
        cells.extend(numbers(hour).iter().map(|number| grouped(&number.to_string())));
        if hour.found.is_none() {
            cells[7] = "expired".to_owned();
        }
        cells.push(match (hour.balances(), hour.in_motion) {
            (true, false) => String::new(),
            (true, true) => "being written".to_owned(),
            (false, _) => hour.faults.join("; "),
        });
        sheet.row(&cells);
    }
    sheet.print()?;
    println_blank()
}

/// Missing positions and batches that were never finished, if there are any that may be of what was selected.
fn chains(books: &Books) -> anyhow::Result<()> {
    let mut sheet = Sheet::new(&["topic", ">partition", ">from position", ">to before", ">records", "what"]);
    let mut count = 0;
    let mut row = |topic: &str, partition: u16, from: u64, to: u64, records: u64, what: String| {
        count += 1;
        sheet.row(&[
            topic.to_owned(),
            partition.to_string(),
            grouped(&from.to_string()),
            grouped(&to.to_string()),
            grouped(&records.to_string()),
            what,
        ]);
    };
    for chain in &books.chains {
        for gap in chain.gaps.iter().filter(|gap| !gap.elsewhere) {
            let (arrived, seen_at) = (span(gap.arrived), gap.seen_at.format("%Y-%m-%d %H:%M:%S"));
            let what = format!("missing: no batch has them; {arrived}, seen at {seen_at}");
            row(&chain.topic, chain.partition, gap.from, gap.to, gap.to - gap.from, what);
        }
        for batch in chain.short.iter().filter(|batch| !batch.elsewhere) {
            let expected = grouped(&(batch.next - batch.first).to_string());
            let what = format!("{expected} records expected; {}", span(batch.arrived));
            row(&chain.topic, chain.partition, batch.first, batch.next, batch.records, what);
        }
    }
    for batch in books.unfinished.iter().filter(|batch| !batch.elsewhere) {
        let since = batch.planned_at.format("%Y-%m-%d %H:%M:%S");
        let what = match batch.passed_over {
            true => format!("planned at {since} and never done, although later ones are"),
            false => format!("planned at {since}, not done yet"),
        };
        row(&batch.topic, batch.partition, batch.first, batch.next, batch.next - batch.first, what);
    }
    if count > 0 {
        println_blank()?;
        sheet.print()?;
    }
    Ok(())
}

fn println_blank() -> anyhow::Result<()> {
    crate::output::line("")
}
