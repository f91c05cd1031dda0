//! The books for people: totals per source, then only what somebody has to look at.

use std::collections::BTreeMap;

use rentroll_aggregator::books::{Books, Hour};

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
pub(super) fn print(books: &Books, all: bool) -> anyhow::Result<()> {
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
    let word = if books.hold() { "yes" } else { "NO" };
    eprintln!("accepted = stored + duplicate + rejected, stored = found, no position missing: {word}");
    Ok(())
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

/// Missing positions and batches that were never finished, if there are any.
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
        for gap in &chain.gaps {
            let what =
                format!("missing: no batch has them; seen at {}", gap.seen_at.format("%Y-%m-%d %H:%M:%S"));
            row(&chain.topic, chain.partition, gap.from, gap.to, gap.to - gap.from, what);
        }
        for batch in &chain.short {
            let what = format!("{} records expected", grouped(&(batch.next - batch.first).to_string()));
            row(&chain.topic, chain.partition, batch.first, batch.next, batch.records, what);
        }
    }
    for batch in &books.unfinished {
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
