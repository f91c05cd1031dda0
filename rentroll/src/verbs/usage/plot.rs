//! Usage as a picture in the terminal: a bar for each window, or a line for each group.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use rentroll_aggregator::usage::{Answer, Group, Row, Window};
use rentroll_schemas::Quantity;
use rentroll_schemas::text::grouped;

use super::rows;
use crate::output::{self, Sheet};

/// Longest bar, in columns.
const WIDTH: u32 = 40;
const EIGHTHS: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Prints it.
///
/// # Errors
/// If stdout is closed.
pub(super) fn print(answer: &Answer, by: &[Group], zone: Tz) -> anyhow::Result<()> {
    match by.is_empty() || answer.window == Window::Whole {
        true => bars(answer, by, zone),
        false => lines(answer, by),
    }
}

fn bars(answer: &Answer, by: &[Group], zone: Tz) -> anyhow::Result<()> {
    let most = answer.rows.iter().filter_map(|row| row.quantity).max().unwrap_or_default();
    let header = rows::quantity_header(answer);
    let mut sheet = Sheet::new(&["", &format!(">{header}"), ""]);
    for row in &answer.rows {
        let label = match by.is_empty() {
            true => rows::local(row.from, answer.window, zone),
            false => labels(row, by),
        };
        let quantity = row.quantity.map_or_else(|| "–".to_owned(), |quantity| grouped(&quantity.to_string()));
        sheet.row(&[label, quantity, bar(row.quantity.unwrap_or_default(), most)]);
    }
    sheet.print()
}

/// One line for each group, the greatest sum first.
fn lines(answer: &Answer, by: &[Group]) -> anyhow::Result<()> {
    let mut windows: Vec<_> = answer.rows.iter().map(|row| row.to).collect();
    windows.sort_unstable();
    windows.dedup();
    let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for row in &answer.rows {
        groups.entry(labels(row, by)).or_default().push(row);
    }
    let greatest = |rows: &[&Row]| rows.iter().filter_map(|row| row.quantity).max().unwrap_or_default();
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, rows)| std::cmp::Reverse(greatest(rows)));
    let most = format!(">greatest {}", rows::quantity_header(answer));
    let mut sheet = Sheet::new(&["", "each on its own scale", &most]);
    for (label, rows) in groups {
        let most = greatest(&rows);
        let level = |window: &chrono::DateTime<chrono::Utc>| {
            let row = rows.iter().find(|row| row.to == *window);
            row.and_then(|row| row.quantity).map_or(' ', |quantity| step(quantity, most))
        };
        let line: String = windows.iter().map(level).collect();
        sheet.row(&[label, line, grouped(&most.to_string())]);
    }
    output::line("")?;
    sheet.print()
}

fn labels(row: &Row, by: &[Group]) -> String {
    let shown = |group: &Group| match rows::label(row, group) {
        "" => "(none)".to_owned(),
        label => label.to_owned(),
    };
    by.iter().map(shown).collect::<Vec<_>>().join(" · ")
}

/// A bar as long as the value is of the greatest, to an eighth of a column. Less than nothing has none.
fn bar(value: Quantity, most: Quantity) -> String {
    let eighths = part(value, most, u128::from(WIDTH) * 8);
    let (whole, rest) = (eighths / 8, eighths % 8);
    let mut bar: String = std::iter::repeat_n(EIGHTHS[8], whole).collect();
    if rest > 0 {
        bar.push(EIGHTHS[rest]);
    }
    bar
}

fn step(value: Quantity, most: Quantity) -> char {
    let levels = LEVELS.len() - 1;
    LEVELS[part(value, most, levels as u128).min(levels)]
}

/// `value` of `most`, in so many parts.
fn part(value: Quantity, most: Quantity, parts: u128) -> usize {
    let (value, most) = (value.nanos().max(0).unsigned_abs(), most.nanos().max(0).unsigned_abs());
    if most == 0 {
        return 0;
    }
    // A picture needs no more than some digits; 38 of them times the parts would be too many.
    let scale = (most / 1_000_000_000).max(1);
    let (value, most) = (value / scale, (most / scale).max(1));
    usize::try_from((value * parts).div_ceil(most).min(parts)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion() {
        let of = |value: i64, most: i64| bar(Quantity::from_int(value), Quantity::from_int(most));
        assert_eq!(of(10, 10).chars().count(), WIDTH as usize);
        assert_eq!(of(5, 10), "█".repeat(20));
        assert_eq!(of(0, 10), "");
        assert_eq!(of(-5, 10), "");
        assert_eq!(of(1, 1_000_000), "▏", "little is not nothing");
        assert_eq!(of(0, 0), "");
        assert_eq!(step(Quantity::from_int(10), Quantity::from_int(10)), '█');
        assert_eq!(step(Quantity::ZERO, Quantity::from_int(10)), '▁');
        let huge = Quantity::from_nanos(10_i128.pow(38) - 1);
        assert_eq!(bar(huge, huge).chars().count(), WIDTH as usize);
    }
}
