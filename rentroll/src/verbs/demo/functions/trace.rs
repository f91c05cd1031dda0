//! The trace: who owns which function, how often it ran in each minute, how long and in how much memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use rentroll_schemas::Quantity;

use super::columns::{File, Row};

/// Minutes of a day: the columns of counts are numbered by them.
const MINUTES_OF_DAY: usize = 1_440;
/// More invocations of a function in a minute would not find a microsecond each.
const PER_MINUTE_MAX: u32 = 60_000_000;
/// What identifies a function: owner, app, function.
type Key<'a> = [&'a str; 3];

/// The three files, joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The functions, in the order of `invocations.csv`.
    pub functions: Vec<Function>,
    /// The minute of the day in which the counts begin.
    pub first_minute: usize,
    /// How many minutes are counted.
    pub minutes: usize,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Whose app it is.
    pub owner: String,
    /// The app that it is part of.
    pub app: String,
    /// Its own hash.
    pub function: String,
    /// What starts it: `http`, `timer`, `queue`, …
    pub trigger: String,
    /// How long it runs on average.
    pub duration_ms: Quantity,
    /// Memory × time of an average run.
    pub gb_seconds: Quantity,
    /// Invocations in each minute.
    pub counts: Vec<u32>,
}

/// What the trace adds up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Functions.
    pub functions: usize,
    /// Distinct apps: tenants.
    pub apps: usize,
    /// Distinct owners: organisations.
    pub owners: usize,
    /// Invocations: events.
    pub invocations: u64,
    /// Σ `duration_ms` over the invocations.
    pub duration_ms: Quantity,
    /// Σ `gb_seconds` over the invocations.
    pub gb_seconds: Quantity,
}

impl Function {
    /// How often it ran.
    pub fn invocations(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }
}

impl Trace {
    /// Reads `invocations.csv`, `durations.csv` and `memory.csv` in `folder`.
    ///
    /// # Errors
    /// Names file, line and what is wrong: a function that one of the files lacks or has twice, an app with two
    /// owners, a count that is not a number.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let invocations = File::read(folder.join("invocations.csv"))?;
        let durations = File::read(folder.join("durations.csv"))?;
        let memory = File::read(folder.join("memory.csv"))?;
        let average_ms = by_function(&durations, "Average")?;
        let average_mb = by_function(&memory, "AverageAllocatedMb")?;

        let key = key_columns(&invocations)?;
        let trigger = invocations.column("Trigger")?;
        let (first_column, first_minute, minutes) = counted(&invocations)?;
        let mut functions = Vec::new();
        let (mut owner_of, mut ids) = (BTreeMap::new(), BTreeSet::new());
        for row in invocations.rows() {
            let row = row?;
            let [owner, app, function] = key_of(&row, key)?;
            let of = |averages: &BTreeMap<Key<'_>, Decimals>, file: &str| {
                let found = averages.get(&[owner, app, function]).copied();
                found.with_context(|| format!("{}: the function is not in {file}", row.place()))
            };
            let (ms, mb) = (of(&average_ms, "durations.csv")?, of(&average_mb, "memory.csv")?);
            let too_precise = || format!("{}: an average that cannot be kept exactly", row.place());
            if *owner_of.entry(app).or_insert(owner) != owner {
                bail!("{}: the app has another owner further up", row.place());
            }
            if !ids.insert((app, short_id(function))) {
                bail!("{}: a function of this app has the same first digits", row.place());
            }
            let counts = (first_column..first_column + minutes).map(|column| count(&row, column));
            functions.push(Function {
                owner: owner.to_owned(),
                app: app.to_owned(),
                function: function.to_owned(),
                trigger: row.text(trigger).to_owned(),
                duration_ms: ms.quantity().with_context(too_precise)?,
                gb_seconds: gb_seconds(ms, mb).with_context(too_precise)?,
                counts: counts.collect::<anyhow::Result<_>>()?,
            });
        }
        Ok(Trace { functions, first_minute, minutes })
    }

    /// What it adds up to.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            functions: self.functions.len(),
            apps: self.functions.iter().map(|function| &function.app).collect::<BTreeSet<_>>().len(),
            owners: self.functions.iter().map(|function| &function.owner).collect::<BTreeSet<_>>().len(),
            invocations: 0,
            duration_ms: Quantity::ZERO,
            gb_seconds: Quantity::ZERO,
        };
        for function in &self.functions {
            let times = function.invocations();
            let all = |each: Quantity| Quantity::from_nanos(each.nanos() * i128::from(times));
            totals.invocations += times;
            // Far from 38 digits: the averages have 18 at most, and a count per minute 8.
            totals.duration_ms =
                totals.duration_ms.checked_add(all(function.duration_ms)).unwrap_or_default();
            totals.gb_seconds = totals.gb_seconds.checked_add(all(function.gb_seconds)).unwrap_or_default();
        }
        totals
    }

    /// The owners of these apps.
    pub fn owners_of<'a>(&self, apps: impl Iterator<Item = &'a str>) -> BTreeSet<&str> {
        let owner_of: BTreeMap<&str, &str> =
            self.functions.iter().map(|function| (function.app.as_str(), function.owner.as_str())).collect();
        apps.filter_map(|app| owner_of.get(app).copied()).collect()
    }
}

/// The digits of a function's hash that go into the ids of its events: unique within its app, as reading makes sure.
pub(super) fn short_id(function: &str) -> &str {
    function.get(..16).unwrap_or(function)
}

fn key_columns(file: &File) -> anyhow::Result<[usize; 3]> {
    Ok([file.column("HashOwner")?, file.column("HashApp")?, file.column("HashFunction")?])
}

fn key_of<'a>(row: &Row<'a>, columns: [usize; 3]) -> anyhow::Result<Key<'a>> {
    let [owner, app, function] = columns;
    Ok([row.hash(owner)?, row.hash(app)?, row.hash(function)?])
}

/// A column of averages, by function.
fn by_function<'a>(file: &'a File, column: &str) -> anyhow::Result<BTreeMap<Key<'a>, Decimals>> {
    let (key, value) = (key_columns(file)?, file.column(column)?);
    let mut averages = BTreeMap::new();
    for row in file.rows() {
        let row = row?;
        let average = Decimals::read(row.text(value))
            .with_context(|| format!("{}: `{}` is not an average", row.place(), row.text(value)))?;
        if averages.insert(key_of(&row, key)?, average).is_some() {
            bail!("{}: the function is there twice", row.place());
        }
    }
    Ok(averages)
}

/// The columns of counts: (the first, its minute, how many).
fn counted(file: &File) -> anyhow::Result<(usize, usize, usize)> {
    let names = file.names();
    let minute_of = |name: &str| name.parse().ok().filter(|minute| *minute < MINUTES_OF_DAY);
    let first = names.iter().position(|name| minute_of(name).is_some());
    let first = first.context("invocations.csv has no column of a minute")?;
    let first_minute = minute_of(names[first]).unwrap_or_default();
    for (index, name) in names[first..].iter().enumerate() {
        ensure!(
            minute_of(name) == Some(first_minute + index),
            "invocations.csv: the column `{name}` is not the minute {}",
            first_minute + index
        );
    }
    Ok((first, first_minute, names.len() - first))
}

fn count(row: &Row<'_>, column: usize) -> anyhow::Result<u32> {
    let text = row.text(column);
    let count = text.parse().ok().filter(|count| *count <= PER_MINUTE_MAX);
    count.with_context(|| {
        format!("{}, field {}: `{text}` is not a count of a minute", row.place(), column + 1)
    })
}

/// A number of the trace, exactly: `digits` × 10^-`scale`. Some have more than nine decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decimals {
    digits: i128,
    scale: u32,
}

impl Decimals {
    fn read(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = format!("{whole}{fraction}");
        let is_plain = !whole.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // Two of them are multiplied, and by 10^9: more would not fit.
        let fits = digits.len() <= 24 && fraction.len() <= 18;
        let digits = digits.parse().ok().filter(|_| is_plain && fits)?;
        Some(Decimals { digits, scale: fraction.len() as u32 })
    }

    fn quantity(self) -> Option<Quantity> {
        let up = 10_i128.checked_pow(rentroll_schemas::quantity::SCALE.checked_sub(self.scale)?)?;
        self.digits.checked_mul(up).map(Quantity::from_nanos)
    }
}

/// `ms / 1000 × MB / 1024`, rounded once, half away from zero, at nine decimals. Neither is negative.
fn gb_seconds(ms: Decimals, mb: Decimals) -> Option<Quantity> {
    let nanos = ms.digits.checked_mul(mb.digits)?.checked_mul(1_000_000_000)?;
    let divisor = 10_i128.checked_pow(ms.scale + mb.scale)?.checked_mul(1_000 * 1_024)?;
    let doubled = nanos.checked_mul(2)?.checked_add(divisor)?;
    Some(Quantity::from_nanos(doubled / divisor.checked_mul(2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Trace {
        Trace::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/functions"))).unwrap()
    }

    #[test]
    fn the_example_adds_up_to_what_its_readme_says() {
        let trace = example();
        assert_eq!(
            trace.totals(),
            Totals {
                functions: 500,
                apps: 476,
                owners: 428,
                invocations: 3_037_902,
                duration_ms: Quantity::from_int(1_532_484_093),
                gb_seconds: "93474.266938908".parse().unwrap(),
            }
        );
        assert_eq!((trace.first_minute, trace.minutes), (480, 480));
        let cells = trace.functions.iter().flat_map(|function| &function.counts).filter(|count| **count > 0);
        assert_eq!(cells.count(), 58_121);
    }

    #[test]
    fn gb_seconds_are_rounded_once_and_half_away_from_zero() {
        let of = |ms: &str, mb: &str| {
            gb_seconds(Decimals::read(ms).unwrap(), Decimals::read(mb).unwrap()).unwrap().to_string()
        };
        assert_eq!(of("1000", "1024"), "1");
        assert_eq!(of("3", "198.0"), "0.000580078"); // 0.000580078125
        assert_eq!(of("0", "170"), "0");
        assert_eq!(of("1", "0.000512"), "0.000000001"); // 5 × 10^-10, the half
        assert_eq!(of("1", "0.000511"), "0");
        assert_eq!(of("5", "9.416666666666666"), "0.00004598");
    }

    #[test]
    fn a_fault_is_told_by_file_and_line() {
        let hash = |digit: &str| digit.repeat(64);
        let key = [hash("a"), hash("b"), hash("c")].join(",");
        let names = "HashOwner,HashApp,HashFunction";
        let read = |invocations: &str, durations: &str| {
            let folder = tempfile::tempdir().unwrap();
            let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
            write("invocations.csv", invocations);
            write("durations.csv", durations);
            write("memory.csv", &format!("{names},AverageAllocatedMb\n{key},128.5\n"));
            Trace::read(folder.path())
        };
        let invocations = format!("{names},Trigger,480,481\n{key},http,0,2\n");
        let durations = format!("{names},Average\n{key},3\n");
        assert_eq!(read(&invocations, &durations).unwrap().totals().invocations, 2);
        for (invocations, durations, named) in [
            (invocations.replace(",2\n", ",two\n"), durations.clone(), "line 2, field 6"),
            (invocations.replace(",2\n", "\n"), durations.clone(), "line 2: not 6 plain fields"),
            (invocations.replace("481", "482"), durations.clone(), "`482` is not the minute 481"),
            (invocations.replace("Trigger", "Started"), durations.clone(), "no column `Trigger`"),
            (invocations.replace("aaa", "AAA"), durations.clone(), "line 2, field 1"),
            (invocations.clone(), durations.replace(",3\n", ",-3\n"), "durations.csv, line 2"),
            (invocations.clone(), format!("{durations}{key},4\n"), "durations.csv, line 3: the function is"),
            (
                invocations.clone(),
                format!("{names},Average\n"),
                "line 2: the function is not in durations.csv",
            ),
        ] {
            let said = format!("{:#}", read(&invocations, &durations).unwrap_err());
            assert!(said.contains(named), "{said}");
        }
    }
}
