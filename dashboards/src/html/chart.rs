//! Bars over time, drawn on the server as SVG, each in a figure with its data table.
//!
//! Across, everything is in percent and nothing is scaled, so that bars fill any width while text keeps its
//! size. Geometry is in floats; the numbers that are shown never are.

use maud::{Markup, html};
use rentroll_schemas::Quantity;

use super::timeline::{Bucket, Grain, Timeline};
use crate::text;

/// Height of the plot in pixels, and of the strip with the time axis below it.
const PLOT: f64 = 190.0;
const AXIS: f64 = 26.0;
/// Room above the highest gridline, for its label.
const TOP: f64 = 12.0;
/// Most labels along the time axis that stay readable on a wide screen; a phone hides every second one.
const TICKS_MAX: usize = 9;

/// A chart to draw.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Unique on its page.
    pub id: String,
    /// What is drawn: `Requests`.
    pub title: String,
    /// What of it: `per hour, 17 to 20 May 2015, UTC`.
    pub subtitle: String,
    /// Unit of the values, plural.
    pub unit: String,
    /// Series from the baseline up, at most [`SERIES_MAX`].
    pub series: Vec<Series>,
    /// Their values.
    pub timeline: Timeline,
}

/// One stacked series.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub label: String,
    /// Where its name leads.
    pub href: Option<String>,
    /// Drawn in neutral grey: what is left over.
    pub rest: bool,
}

/// As many tints of the one accent colour as can be told apart.
pub const SERIES_MAX: usize = 5;

/// The figure.
pub fn figure(chart: &Chart) -> Markup {
    let label = format!("Bar chart: {} {} in {}", chart.title, chart.subtitle, chart.unit);
    html! {
        figure.chart id=(chart.id) {
            figcaption {
                span.chart-title { (chart.title) }
                span.chart-subtitle { (chart.subtitle) @if text::names_another_unit(&chart.title, &chart.unit) { ", in " (chart.unit) } }
            }
            @if chart.timeline.is_empty() {
                p.quiet { "No usage in this window." }
            } @else {
                div.plot role="img" aria-label=(label) { (plot(chart)) }
                (legend(&chart.series))
                (data_table(chart))
            }
        }
    }
}

fn plot(chart: &Chart) -> Markup {
    let highest = chart.timeline.buckets.iter().map(height_of).fold(0.0, f64::max);
    let step = step(highest);
    let ceiling = (highest / step).ceil().max(1.0) * step;
    let y = |value: f64| TOP + PLOT - PLOT * (value / ceiling).clamp(0.0, 1.0);
    let lines: Vec<f64> =
        (0..).map(|n| f64::from(n) * step).take_while(|line| *line <= ceiling * 1.0001).collect();
    let height = TOP + PLOT + AXIS;
    html! {
        svg.y-axis width="56" height=(height) aria-hidden="true" {
            @for line in &lines {
                text.tick-label x="48" y=(px(y(*line) + 4.0)) text-anchor="end" { (axis_number(*line)) }
            }
        }
        svg.bars height=(height) aria-hidden="true" {
            @for line in &lines {
                line.grid.base[*line == 0.0] x1="0" x2="100%" y1=(px(y(*line))) y2=(px(y(*line))) {}
            }
            (ticks(&chart.timeline))
            (bars(chart, &y))
        }
    }
}

fn bars(chart: &Chart, y: &dyn Fn(f64) -> f64) -> Markup {
    let slot = 100.0 / chart.timeline.buckets.len() as f64;
    let width = (slot * 0.82).min(9.0);
    html! {
        @for (index, bucket) in chart.timeline.buckets.iter().enumerate() {
            @if let Some(total) = bucket.total() {
                @let left = slot * (index as f64 + 0.5) - width / 2.0;
                g.bar {
                    title { (bucket_label(bucket, chart.timeline.grain)) " · " (text::quantity(total)) " " (chart.unit) }
                    rect.hit x=(pc(slot * index as f64)) width=(pc(slot)) y=(TOP) height=(PLOT) {}
                    @for (series, base, value) in stack(bucket) {
                        @let (top, bottom) = (y(base + value), y(base));
                        // A value that is there is never drawn as nothing: half a pixel at least.
                        rect class=(class_of(series, &chart.series)) x=(pc(left)) width=(pc(width))
                            y=(px(top.min(bottom - 0.5))) height=(px((bottom - top).max(0.5))) {}
                    }
                }
            }
        }
    }
}

/// (series, height below it, own height); a negative value, which only a correction makes, has no height.
fn stack(bucket: &Bucket) -> Vec<(usize, f64, f64)> {
    let mut base = 0.0;
    let mut out = Vec::new();
    for (series, value) in bucket.values.iter().enumerate() {
        let height = value.map_or(0.0, as_height);
        if height > 0.0 {
            out.push((series, base, height));
            base += height;
        }
    }
    out
}

fn ticks(timeline: &Timeline) -> Markup {
    let count = timeline.buckets.len();
    let slot = 100.0 / count as f64;
    html! {
        @for (nth, index) in tick_indices(timeline).into_iter().enumerate() {
            @let x = slot * (index as f64 + if timeline.grain == Grain::Hour { 0.0 } else { 0.5 });
            g.tick.alternate[is_alternate(nth, &timeline.buckets[index], timeline.grain)] {
                line.tick-mark x1=(pc(x)) x2=(pc(x)) y1=(TOP + PLOT) y2=(TOP + PLOT + 5.0) {}
                // Near the right edge a centred label would be cut.
                text.tick-label x=(pc(x)) y=(TOP + PLOT + 19.0) text-anchor=(if x > 95.0 { "end" } else if x < 2.0 { "start" } else { "middle" }) {
                    (tick_label(&timeline.buckets[index], timeline.grain))
                }
            }
        }
    }
}

/// Whether a label makes room on a narrow screen: noon does for midnight, and else every second one.
fn is_alternate(nth: usize, bucket: &Bucket, grain: Grain) -> bool {
    use chrono::Timelike;
    match grain {
        Grain::Hour => bucket.start.hour() != 0,
        _ => nth % 2 == 1,
    }
}

/// Which buckets get a label: round times where there are some, evenly spread otherwise.
fn tick_indices(timeline: &Timeline) -> Vec<usize> {
    use chrono::{Datelike, Timelike};
    let all = || timeline.buckets.iter().enumerate();
    let round: Vec<usize> = match timeline.grain {
        Grain::Hour => {
            let midnights: Vec<usize> = all().filter(|(_, b)| b.start.hour() == 0).map(|(i, _)| i).collect();
            match midnights.len() {
                0 | 1 => all().filter(|(_, b)| b.start.hour() % 6 == 0).map(|(i, _)| i).collect(),
                2..=4 => all().filter(|(_, b)| b.start.hour() % 12 == 0).map(|(i, _)| i).collect(),
                _ => midnights,
            }
        }
        Grain::Day if timeline.buckets.len() > 40 => {
            all().filter(|(_, b)| b.start.day() == 1).map(|(i, _)| i).collect()
        }
        Grain::Day if timeline.buckets.len() > 14 => all()
            .filter(|(_, b)| b.start.day() == 1 || b.start.day() % 5 == 0 && b.start.day() < 30)
            .map(|(i, _)| i)
            .collect(),
        _ => all().map(|(i, _)| i).collect(),
    };
    let every = round.len().div_ceil(TICKS_MAX).max(1);
    round.into_iter().step_by(every).collect()
}

fn tick_label(bucket: &Bucket, grain: Grain) -> String {
    use chrono::Timelike;
    match grain {
        Grain::Month => bucket.start.format("%b %Y").to_string(),
        Grain::Day => bucket.start.format("%-d %b").to_string(),
        Grain::Hour if bucket.start.hour() == 0 => bucket.start.format("%-d %b").to_string(),
        Grain::Hour | Grain::Minute => bucket.start.format("%H:%M").to_string(),
    }
}

fn bucket_label(bucket: &Bucket, grain: Grain) -> String {
    match grain {
        Grain::Month => bucket.start.format("%B %Y").to_string(),
        Grain::Day => bucket.start.format("%a %-d %b %Y").to_string(),
        Grain::Hour | Grain::Minute => bucket.start.format("%a %-d %b %Y, %H:%M UTC").to_string(),
    }
}

fn legend(series: &[Series]) -> Markup {
    html! {
        @if series.len() > 1 {
            ul.legend {
                @for (index, one) in series.iter().enumerate() {
                    li {
                        svg.swatch width="10" height="10" aria-hidden="true" {
                            rect class=(class_of(index, series)) width="10" height="10" {}
                        }
                        @if let Some(href) = &one.href { a href=(href) { bdi { (one.label) } } } @else { span { (one.label) } }
                    }
                }
            }
        }
    }
}

fn data_table(chart: &Chart) -> Markup {
    let several = chart.series.len() > 1;
    html! {
        details.data {
            summary { "Data" }
            div.table-wrap tabindex="0" role="region" aria-label=(format!("{} data", chart.title)) {
                table {
                    thead { tr {
                        th scope="col" { (text::title_case(chart.timeline.grain.word())) " starting, UTC" }
                        @for series in &chart.series { th.number scope="col" { bdi { (series.label) } @if !several { ", " (chart.unit) } } }
                        @if several { th.number scope="col" { "Total, " (chart.unit) } }
                    } }
                    tbody {
                        @for bucket in chart.timeline.buckets.iter().filter(|bucket| bucket.total().is_some()) {
                            tr {
                                th scope="row" { (bucket.start.format("%Y-%m-%d %H:%M")) }
                                @for value in &bucket.values { td.number { (value.map_or_else(String::new, text::quantity)) } }
                                @if several { td.number { (bucket.total().map_or_else(String::new, text::quantity)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn class_of(index: usize, series: &[Series]) -> &'static str {
    const TINTS: [&str; SERIES_MAX] = ["s0", "s1", "s2", "s3", "s4"];
    match series.get(index) {
        Some(series) if series.rest => "rest",
        _ => TINTS[index.min(SERIES_MAX - 1)],
    }
}

fn height_of(bucket: &Bucket) -> f64 {
    bucket.values.iter().flatten().copied().map(as_height).sum()
}

fn as_height(value: Quantity) -> f64 {
    (value.nanos() as f64 / 1e9).max(0.0)
}

/// A round distance between gridlines, so that three to six of them reach `highest`.
fn step(highest: f64) -> f64 {
    if highest <= 0.0 || !highest.is_finite() {
        return 1.0;
    }
    let raw = highest / 4.0;
    let magnitude = 10_f64.powf(raw.log10().floor());
    let leading = raw / magnitude;
    let round = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|round| leading <= *round + 1e-9).unwrap_or(10.0);
    round * magnitude
}

/// A gridline's number. It is round by construction, so nothing is lost in shortening it.
fn axis_number(value: f64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let (mut value, mut unit) = (value, 0);
    while value >= 1_000.0 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    let digits = format!("{value:.3}");
    format!("{}{}", digits.trim_end_matches('0').trim_end_matches('.'), UNITS[unit])
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}

fn pc(value: f64) -> String {
    format!("{value:.3}%")
}

/// A small horizontal bar for a table's cell: `value` beside the `largest` of its column.
pub fn cell_bar(value: f64, largest: f64) -> Markup {
    let share = if largest > 0.0 { (value / largest).clamp(0.0, 1.0) * 100.0 } else { 0.0 };
    html! {
        svg.cell-bar height="3" aria-hidden="true" {
            @if share > 0.0 { rect.s1 x=(pc(100.0 - share.max(1.0))) width=(pc(share.max(1.0))) height="3" {} }
        }
    }
}

/// A horizontal bar cut into named parts, which together are the whole.
pub fn split_bar(title: &str, parts: &[(String, f64, &'static str)]) -> Markup {
    let whole: f64 = parts.iter().map(|(_, value, _)| value.max(0.0)).sum();
    let mut left = 0.0;
    let mut pieces = Vec::new();
    for (label, value, class) in parts.iter().filter(|(_, value, _)| *value > 0.0) {
        let width = value / whole * 100.0;
        pieces.push((label, class, left, width));
        left += width;
    }
    html! {
        svg.split height="14" role="img" aria-label=(title) {
            @for (label, class, left, width) in pieces {
                rect class=(class) x=(pc(left)) width=(pc(width)) height="14" { title { (label) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;

    use super::*;

    fn chart(values: &[i64]) -> Chart {
        let start: DateTime<Utc> = "2015-05-17T00:00:00Z".parse().unwrap();
        let end = start + chrono::Duration::hours(values.len() as i64);
        let points = values.iter().enumerate().map(|(hour, value)| {
            (start + chrono::Duration::hours(hour as i64), 0, Quantity::from_int(*value))
        });
        Chart {
            id: "c".into(),
            title: "Requests".into(),
            subtitle: "per hour".into(),
            unit: "requests".into(),
            series: vec![Series { label: "all".into(), href: None, rest: false }],
            timeline: Timeline::new(Grain::Hour, (start, end), 1, points),
        }
    }

    #[test]
    fn gridlines_are_round() {
        for (highest, expected) in
            [(84.0, 25.0), (10_000.0, 2_500.0), (3.0, 1.0), (0.7, 0.2), (0.0, 1.0), (1.0, 0.25)]
        {
            assert_eq!(step(highest), expected, "{highest}");
        }
        assert_eq!(axis_number(2_500.0), "2.5k");
        assert_eq!(axis_number(0.2), "0.2");
        assert_eq!(axis_number(400e6), "400M");
    }

    #[test]
    fn a_figure_has_a_title_an_image_role_and_its_table() {
        let markup = figure(&chart(&[1, 0, 1234])).into_string();
        assert!(markup.contains("role=\"img\""), "{markup}");
        assert!(markup.contains("Sun 17 May 2015, 02:00 UTC · 1,234 requests"), "{markup}");
        assert!(
            markup.contains("<th scope=\"row\">2015-05-17 02:00</th><td class=\"number\">1,234</td>"),
            "{markup}"
        );
        assert!(!markup.contains("style="), "the policy forbids style attributes");
    }

    #[test]
    fn a_label_is_text() {
        let mut chart = chart(&[1]);
        chart.series.push(Series { label: "<script>".into(), href: None, rest: true });
        let markup = figure(&chart).into_string();
        assert!(markup.contains("&lt;script&gt;") && !markup.contains("<script>"), "{markup}");
    }

    proptest! {
        #[test]
        fn bars_stay_inside_the_plot(values in proptest::collection::vec(-5_i64..1_000_000_000_000, 1..190)) {
            let markup = figure(&chart(&values)).into_string();
            for piece in markup.split(" y=\"").skip(1) {
                let y: f64 = piece.split('"').next().unwrap().parse().unwrap();
                prop_assert!((0.0..=TOP + PLOT + AXIS).contains(&y), "{}", y);
            }
            prop_assert!(!markup.contains("NaN") && !markup.contains("inf"));
        }
    }
}
