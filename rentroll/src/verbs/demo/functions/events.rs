//! From counts to events: an invocation's id, its time, and the file of them all.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use rentroll_schemas::Event;

use super::trace::{Function, Trace, short_id};
use crate::services::progress;

/// The type of the events.
pub const EVENT_TYPE: &str = "function.invocation";
/// The trace does not name its day, only its month: a Monday of it, UTC.
pub const DAY: NaiveDate = NaiveDate::from_ymd_opt(2019, 7, 15).expect("a day of the calendar");
const MINUTE_US: u64 = 60_000_000;
/// Bytes between the encoder and the file.
const BUFFER_BYTES: usize = 1 << 20;

/// One invocation of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Invocation {
    /// Microseconds since its minute began.
    offset_us: u64,
    /// The function's place in the trace.
    function: usize,
    /// Its number among those of the function in this minute.
    number: u32,
}

/// Calls `take` with every event of the trace, in the order of their times. `source` is who says so.
///
/// The invocations of a function in a minute are spread evenly over it, at distinct microseconds, from a beginning
/// that is the function's own: were it the minute's for all, every minute would begin with a peak that nobody had.
///
/// # Errors
/// What `take` says; nothing is made after it.
pub fn each<E>(
    trace: &Trace,
    source: &str,
    mut take: impl FnMut(&Event<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let midnight = DAY.and_time(chrono::NaiveTime::MIN).and_utc();
    let mut invocations = Vec::new();
    for index in 0..trace.minutes {
        let minute = trace.first_minute + index;
        invocations.clear();
        for (place, function) in trace.functions.iter().enumerate() {
            let count = function.counts[index];
            let phase_us = phase_us(function, count);
            invocations.extend((0..count).map(|number| Invocation {
                offset_us: u64::from(number) * MINUTE_US / u64::from(count) + phase_us,
                function: place,
                number,
            }));
        }
        invocations.sort_unstable();
        let begin = midnight + TimeDelta::minutes(minute as i64);
        for invocation in &invocations {
            let function = &trace.functions[invocation.function];
            let time = begin + TimeDelta::microseconds(invocation.offset_us as i64);
            let id = format!("{}-{minute}-{}", short_id(&function.function), invocation.number);
            take(&event(function, source, id, time))?;
        }
    }
    Ok(())
}

/// Where a function's invocations begin within a minute: below the distance between two of them.
fn phase_us(function: &Function, count: u32) -> u64 {
    let digits = function.function.get(..8).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    digits.unwrap_or_default() % (MINUTE_US / u64::from(count.max(1)))
}

fn event<'a>(function: &'a Function, source: &'a str, id: String, time: DateTime<Utc>) -> Event<'a> {
    Event {
        id: id.into(),
        source: source.into(),
        kind: EVENT_TYPE.into(),
        tenant: function.app.as_str().into(),
        time,
        measures: vec![
            ("duration_ms".into(), function.duration_ms),
            ("gb_seconds".into(), function.gb_seconds),
        ],
        dimensions: vec![
            ("function".into(), function.function.as_str().into()),
            ("trigger".into(), function.trigger.as_str().into()),
        ],
        correction: None,
    }
}

/// Writes the events to `path`, a line of JSON each, compressed, and syncs it; returns the file's length. Until it is
/// whole it has another name: what `path` names is all of it.
///
/// # Errors
/// What the system says.
pub(super) fn write_file(trace: &Trace, source: &str, path: &Path) -> std::io::Result<u64> {
    let unfinished = path.with_extension("unfinished");
    let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(&unfinished)?);
    let mut encoder = GzEncoder::new(file, Compression::fast());
    let bar = progress::rows_bar(trace.totals().invocations);
    each(trace, source, |event| {
        bar.inc(1);
        encoder.write_all(&event.to_json())?;
        encoder.write_all(b"\n")
    })?;
    bar.finish_and_clear();
    let file = encoder.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    Ok(file.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rentroll_schemas::Quantity;

    fn function(hash: &str, counts: &[u32]) -> Function {
        Function {
            owner: "f".repeat(64),
            app: "a".repeat(64),
            function: hash.repeat(64 / hash.len()),
            trigger: "http".to_owned(),
            duration_ms: Quantity::from_int(3),
            gb_seconds: "0.5".parse().unwrap(),
            counts: counts.to_vec(),
        }
    }

    fn made(functions: Vec<Function>) -> Vec<(String, DateTime<Utc>)> {
        let minutes = functions[0].counts.len();
        let trace = Trace { functions, first_minute: 480, minutes };
        let mut made = Vec::new();
        let _: Result<(), ()> = each(&trace, "functions", |event| {
            made.push((event.id.to_string(), event.time));
            Ok(())
        });
        made
    }

    #[test]
    fn invocations_stand_evenly_in_their_minute_and_in_order() {
        let events = made(vec![function("12345678", &[3, 0, 1]), function("9abcdef0", &[5_030, 7, 0])]);
        assert_eq!(events.len(), 3 + 1 + 5_030 + 7);
        assert!(events.is_sorted_by_key(|(_, time)| time));
        let minute = |minute: i64| DAY.and_hms_opt(8, 0, 0).unwrap().and_utc() + TimeDelta::minutes(minute);
        for (id, time) in &events {
            let of: i64 = id.split('-').nth(1).unwrap().parse().unwrap();
            assert!((minute(of - 480)..minute(of - 479)).contains(time), "{id} at {time}");
        }
        for (function, minute, count) in
            [("1234567812345678", 480, 3), ("9abcdef09abcdef0", 480, 5_030), ("9abcdef09abcdef0", 481, 7)]
        {
            let times: Vec<_> = events
                .iter()
                .filter(|(id, _)| id.starts_with(&format!("{function}-{minute}-")))
                .map(|(_, time)| time.timestamp_micros())
                .collect();
            assert_eq!(times.len(), count);
            let apart = 60_000_000 / count as i64;
            assert!(times.windows(2).all(|pair| (apart..=apart + 1).contains(&(pair[1] - pair[0]))));
        }
    }

    #[test]
    fn a_line_is_pinned() {
        let trace = Trace { functions: vec![function("0000000a", &[1])], first_minute: 480, minutes: 1 };
        let mut lines = Vec::new();
        let _: Result<(), ()> = each(&trace, "functions", |event| {
            lines.push(String::from_utf8(event.to_json()).unwrap());
            Ok(())
        });
        let (app, function) = ("a".repeat(64), "0000000a".repeat(8));
        assert_eq!(
            lines,
            [format!(
                r#"{{"specversion":"1.0","id":"0000000a0000000a-480-0","source":"functions","type":"function.invocation","subject":"{app}","time":"2019-07-15T08:00:00.000010Z","datacontenttype":"application/json","data":{{"duration_ms":3,"gb_seconds":0.5,"function":"{function}","trigger":"http"}}}}"#
            )]
        );
    }
}
