//! Where time is cut. Pure.
//!
//! A cut is a list of edges, in seconds since the epoch: windows are half-open, contiguous and in order. Those of minutes, hours,
//! days, weeks and months lie on a grid, which is a zone's; the first and the last window of a span may be parts.
//!
//! | | begins |
//! |---|---|
//! | minute | with the minute |
//! | hour | when the zone's clocks show a full hour, or are set over one |
//! | day | at its first instant, as [`start_of_day`] has it |
//! | week | with its Monday |
//! | month | with its first day |
//!
//! A day that a zone left out has no window, and one that clocks show a part of twice is longer.

use chrono::{DateTime, Datelike as _, Days, Months, NaiveDate, Offset as _, TimeZone as _, Utc};
use chrono_tz::Tz;
use rentroll_schemas::period::start_of_day;

use super::ask::Params;
use super::{UsageError, Window};

/// Most windows of an answer, so that a list of all edges is short beside the rows.
pub const WINDOWS_MAX: usize = 10_000;

/// A span, cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Edges of the steps that are read, one more than there are.
    pub(super) edges: Vec<i64>,
    /// How many steps each window of the answer has: one, unless it is rolling.
    pub(super) steps: usize,
}

impl Cut {
    /// A single window.
    pub(super) fn whole(from: i64, to: i64) -> Cut {
        Cut { edges: vec![from, to], steps: 1 }
    }

    /// First second that is read.
    pub(super) fn from(&self) -> i64 {
        self.edges[0]
    }

    /// First second after it.
    pub(super) fn to(&self) -> i64 {
        self.edges[self.edges.len() - 1]
    }

    /// How many windows the answer has.
    pub(super) fn windows(&self) -> usize {
        self.edges.len() - self.steps
    }

    /// From when to when the `nth` window of the answer is.
    pub(super) fn window(&self, nth: usize) -> (i64, i64) {
        (self.edges[nth], self.edges[nth + self.steps])
    }

    /// The expression of an instant of the step that a time is in, by which [`Cut::step`] finds it. `at` is a name, of seconds as
    /// Int64 that are in the span.
    pub(super) fn step_sql(&self, at: &str, params: &mut Params) -> String {
        match (self.edges.len(), self.uniform()) {
            (..=2, _) => params.number(self.from()),
            (_, Some((edge, seconds))) => {
                // What the sign of a remainder is need not be known: the span begins at most one step before `edge`.
                let before = params.number(edge - seconds);
                format!("{at} - ({at} - {before}) % {}", params.number(seconds))
            }
            (_, None) => format!("roundDown({at}, {})", params.numbers(self.edges.clone())),
        }
    }

    /// The expression of the places of all windows that hold a time, of a cut that rolls: as many rows. `at` as in
    /// [`Cut::step_sql`].
    pub(super) fn windows_sql(&self, at: &str, params: &mut Params) -> String {
        let edges = params.numbers(self.edges.clone());
        let places = params.numbers((0..self.edges.len() as i64).collect());
        let step = format!("transform(roundDown({at}, {edges}), {edges}, {places}, toInt64(0))");
        let back = params.number(self.steps as i64 - 1);
        let end = params.number(self.windows() as i64);
        format!("arrayJoin(range(greatest(toInt64(0), {step} - {back}), least({step} + 1, {end})))")
    }

    /// An edge and the length of the steps, if all are as long but for the parts at the ends.
    fn uniform(&self) -> Option<(i64, i64)> {
        let (edge, seconds) = match self.edges.as_slice() {
            [from, edge, to] => (*edge, (edge - from).max(to - edge)),
            [_, edge, next, ..] => (*edge, next - edge),
            _ => return None,
        };
        let inner = self.edges[1..self.edges.len() - 1].windows(2);
        let is_uniform = inner.map(|pair| pair[1] - pair[0]).all(|length| length == seconds)
            && edge - self.from() <= seconds
            && self.to() - self.edges[self.edges.len() - 2] <= seconds;
        is_uniform.then_some((edge, seconds))
    }

    /// Whether each step has so many seconds.
    pub(super) fn is_of(&self, seconds: i64) -> bool {
        self.edges.windows(2).all(|pair| pair[1] - pair[0] == seconds)
    }

    /// The step that an instant is in.
    pub(super) fn step(&self, at: i64) -> usize {
        self.edges.partition_point(|edge| *edge <= at).saturating_sub(1).min(self.edges.len() - 2)
    }
}

/// How a span is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cutting {
    pub(super) window: Window,
    pub(super) zone: Tz,
    /// How many windows of the grid each window of the answer has; `None` for those that do not roll.
    pub(super) rolling: Option<usize>,
}

impl Cutting {
    /// Cuts [from, to).
    ///
    /// # Errors
    /// [`UsageError::TooLarge`] past [`WINDOWS_MAX`].
    pub(super) fn cut(&self, from: i64, to: i64) -> Result<Cut, UsageError> {
        let Some(grid) = Grid::of(self.window, self.zone) else { return Ok(Cut::whole(from, to)) };
        let steps = self.rolling.unwrap_or(1);
        if steps > WINDOWS_MAX {
            return Err(self.too_many());
        }
        // Whoever looks back looks at whole windows.
        let mut first = from;
        if self.rolling.is_some() {
            first = grid.start(from);
            for _ in 1..steps {
                first = grid.start(first - 1);
            }
        }
        let mut edges = vec![first];
        let mut edge = grid.next(first);
        while edge < to {
            edges.push(edge);
            if edges.len() > WINDOWS_MAX {
                return Err(self.too_many());
            }
            edge = grid.next(edge);
        }
        edges.push(to);
        Ok(Cut { edges, steps })
    }

    fn too_many(&self) -> UsageError {
        let coarser = match self.window {
            Window::Whole => "a shorter span",
            Window::Minute => "`hour`",
            Window::Hour => "`day`",
            Window::Day => "`week` or `month`",
            Window::Week => "`month`",
            Window::Month | Window::BillingPeriod => "`whole`",
        };
        UsageError::TooLarge {
            what: "the number of windows".to_owned(),
            limit: WINDOWS_MAX as u64,
            narrow: format!("ask for a shorter span, or take {coarser} as the window"),
        }
    }
}

/// The edges of all windows of a kind in a zone.
#[derive(Clone, Copy, Debug)]
struct Grid {
    unit: Unit,
    zone: Tz,
}

#[derive(Clone, Copy, Debug)]
enum Unit {
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

impl Grid {
    fn of(window: Window, zone: Tz) -> Option<Grid> {
        let unit = match window {
            Window::Whole => return None,
            Window::Minute => Unit::Minute,
            Window::Hour => Unit::Hour,
            Window::Day => Unit::Day,
            Window::Week => Unit::Week,
            Window::Month | Window::BillingPeriod => Unit::Month,
        };
        Some(Grid { unit, zone })
    }

    /// The last edge that is not after `at`.
    fn start(&self, at: i64) -> i64 {
        match self.unit {
            Unit::Minute => at - at.rem_euclid(60),
            Unit::Hour => {
                let mut edge = Grid { unit: Unit::Day, ..*self }.start(at);
                loop {
                    let next = self.next_hour(edge);
                    if next > at {
                        return edge;
                    }
                    edge = next;
                }
            }
            Unit::Day | Unit::Week | Unit::Month => {
                let before = self.dates(at, -2).rfind(|edge| *edge <= at);
                // Some date of the four begins before it: times are those that a DateTime of the store holds.
                before.unwrap_or(at)
            }
        }
    }

    /// The first edge after `at`.
    fn next(&self, at: i64) -> i64 {
        match self.unit {
            Unit::Minute => at - at.rem_euclid(60) + 60,
            Unit::Hour => self.next_hour(at),
            // As above.
            Unit::Day | Unit::Week | Unit::Month => {
                self.dates(at, -1).find(|edge| *edge > at).unwrap_or(i64::MAX)
            }
        }
    }

    /// The first instant after `at` at which clocks show a full hour, or are set to another one.
    fn next_hour(&self, mut at: i64) -> i64 {
        loop {
            let offset = offset(self.zone, at);
            let full = at + 3_600 - (at + offset).rem_euclid(3_600);
            if offset == self::offset(self.zone, full - 1) {
                return full;
            }
            let set = self.clocks_set(at, full - 1);
            let (before, after) = (set + offset, set + self::offset(self.zone, set));
            if after.rem_euclid(3_600) == 0 || before.div_euclid(3_600) != after.div_euclid(3_600) {
                return set;
            }
            at = set;
        }
    }

    /// The first second of another offset than that of `low`, which `high` has.
    fn clocks_set(&self, mut low: i64, mut high: i64) -> i64 {
        let before = offset(self.zone, low);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match offset(self.zone, middle) == before {
                true => low = middle,
                false => high = middle,
            }
        }
        high
    }

    /// The edges around `at`, from that which is `first` places after the one of its date.
    fn dates(&self, at: i64, first: i32) -> impl DoubleEndedIterator<Item = i64> {
        let date = local(self.zone, at).date();
        let (zone, unit) = (self.zone, self.unit);
        let date = match unit {
            Unit::Week => date - Days::new(u64::from(date.weekday().num_days_from_monday())),
            Unit::Month => date.with_day(1).unwrap_or(date),
            Unit::Minute | Unit::Hour | Unit::Day => date,
        };
        (first..first + 5).filter_map(move |places| {
            let date = moved(date, unit, places)?;
            Some(start_of_day(date, zone)?.timestamp())
        })
    }
}

fn moved(date: NaiveDate, unit: Unit, places: i32) -> Option<NaiveDate> {
    let count = places.unsigned_abs();
    let days = if matches!(unit, Unit::Week) { 7 } else { 1 };
    match (unit, places < 0) {
        (Unit::Month, true) => date.checked_sub_months(Months::new(count)),
        (Unit::Month, false) => date.checked_add_months(Months::new(count)),
        (_, true) => date.checked_sub_days(Days::new(u64::from(count) * days)),
        (_, false) => date.checked_add_days(Days::new(u64::from(count) * days)),
    }
}

/// What a time is on a zone's clocks.
fn local(zone: Tz, at: i64) -> chrono::NaiveDateTime {
    let utc = DateTime::<Utc>::from_timestamp(at, 0).unwrap_or_default().naive_utc();
    utc + zone.offset_from_utc_datetime(&utc).fix()
}

/// Seconds that a zone's clocks are ahead.
fn offset(zone: Tz, at: i64) -> i64 {
    let utc = DateTime::<Utc>::from_timestamp(at, 0).unwrap_or_default().naive_utc();
    i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
}

#[cfg(test)]
mod tests {
    use chrono::Timelike as _;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<DateTime<Utc>>().unwrap().timestamp()
    }

    fn cut(window: Window, zone: Tz, from: &str, to: &str) -> Vec<i64> {
        Cutting { window, zone, rolling: None }.cut(at(from), at(to)).unwrap().edges
    }

    fn lengths(edges: &[i64]) -> Vec<i64> {
        edges.windows(2).map(|pair| (pair[1] - pair[0]) / 60).collect()
    }

    const GRIDS: [Window; 4] = [Window::Hour, Window::Day, Window::Week, Window::Month];

    #[test]
    fn days_around_a_change_of_clocks_are_23_and_25_hours() {
        let spring = cut(Window::Day, Tz::Europe__Berlin, "2026-03-28T23:00:00Z", "2026-03-30T22:00:00Z");
        assert_eq!(lengths(&spring), [23 * 60, 24 * 60]);
        let autumn = cut(Window::Day, Tz::America__New_York, "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z");
        assert_eq!(lengths(&autumn), [25 * 60]);
        // Its ends are parts.
        let parts = cut(Window::Day, Tz::Asia__Kolkata, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        assert_eq!(lengths(&parts), [18 * 60 + 30, 5 * 60 + 30]);
    }

    #[test]
    fn hours_are_those_of_the_clocks() {
        let kolkata = cut(Window::Hour, Tz::Asia__Kolkata, "2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z");
        assert_eq!(lengths(&kolkata), [30, 60, 30]);
        // Clocks are set back from two to half past one: the half hour is there twice.
        let back =
            cut(Window::Hour, Tz::Australia__Lord_Howe, "2026-04-04T14:00:00Z", "2026-04-04T16:30:00Z");
        assert_eq!(lengths(&back), [60, 30, 60]);
        // And forward from two to half past two.
        let forward =
            cut(Window::Hour, Tz::Australia__Lord_Howe, "2026-10-03T14:30:00Z", "2026-10-03T17:00:00Z");
        assert_eq!(lengths(&forward), [60, 30, 60]);
        // An hour that is there twice is two.
        let berlin = cut(Window::Hour, Tz::Europe__Berlin, "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z");
        assert_eq!(lengths(&berlin), [60; 4]);
    }

    #[test]
    fn weeks_begin_on_monday_and_months_with_the_first() {
        let weeks = cut(Window::Week, Tz::Europe__Berlin, "2026-03-25T00:00:00Z", "2026-04-08T00:00:00Z");
        assert_eq!(weeks[1..3], [at("2026-03-29T22:00:00Z"), at("2026-04-05T22:00:00Z")]);
        let months =
            cut(Window::Month, Tz::America__New_York, "2026-01-01T05:00:00Z", "2026-04-01T04:00:00Z");
        assert_eq!(lengths(&months), [31 * 1440, 28 * 1440, 31 * 1440 - 60]);
    }

    #[test]
    fn a_day_that_was_left_out_has_no_window() {
        // Samoa went from the 29th of December 2011 to the 31st.
        let days = cut(Window::Day, Tz::Pacific__Apia, "2011-12-29T10:00:00Z", "2011-12-31T10:00:00Z");
        assert_eq!(lengths(&days), [1440, 1440]);
    }

    #[test]
    fn rolling_windows_are_whole_but_for_the_last() {
        let cutting = Cutting { window: Window::Day, zone: Tz::Europe__Berlin, rolling: Some(3) };
        let cut = cutting.cut(at("2026-03-30T05:00:00Z"), at("2026-04-01T00:00:00Z")).unwrap();
        assert_eq!((cut.steps, cut.windows()), (3, 3));
        assert_eq!(cut.window(0), (at("2026-03-27T23:00:00Z"), at("2026-03-30T22:00:00Z")));
        assert_eq!(cut.window(2), (at("2026-03-29T22:00:00Z"), at("2026-04-01T00:00:00Z")));
    }

    #[test]
    fn too_many_windows_name_a_coarser_one() {
        let cutting = Cutting { window: Window::Minute, zone: Tz::UTC, rolling: None };
        assert_eq!(cutting.cut(0, 600_000).unwrap().windows(), WINDOWS_MAX);
        let error = cutting.cut(0, 600_060).unwrap_err().to_string();
        assert!(error.contains("10000") && error.contains("`hour`"), "{error}");
    }

    /// Instants around which some zone's clocks were set.
    fn around_changes() -> impl Strategy<Value = i64> {
        prop_oneof![
            Just("1993-08-21T00:00:00Z"),
            Just("2011-12-30T10:00:00Z"),
            Just("2026-03-08T07:00:00Z"),
            Just("2026-03-29T01:00:00Z"),
            Just("2026-04-04T15:00:00Z"),
            Just("2026-10-03T15:30:00Z"),
            Just("2026-10-25T01:00:00Z"),
            Just("2026-11-01T06:00:00Z"),
            Just("1971-05-01T00:00:00Z"),
        ]
        .prop_flat_map(|text| (-5 * 1440..5 * 1440_i64).prop_map(move |minutes| at(text) + minutes * 60))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

        #[test]
        fn windows_of_every_zone_are_contiguous_and_begin_where_they_should(
            from in prop_oneof![around_changes(), (0..4_000_000_000_i64 / 60).prop_map(|minutes| minutes * 60)],
            minutes in 1..6_000_i64,
        ) {
            let to = from + minutes * 60;
            for zone in chrono_tz::TZ_VARIANTS {
                for window in GRIDS {
                    let edges = Cutting { window, zone, rolling: None }.cut(from, to).unwrap().edges;
                    prop_assert_eq!((edges[0], edges[edges.len() - 1]), (from, to));
                    prop_assert!(edges.windows(2).all(|pair| pair[0] < pair[1]), "{} {:?}", zone, window);
                    for edge in &edges[1..edges.len() - 1] {
                        let (before, now) = (local(zone, edge - 1), local(zone, *edge));
                        let is_edge = match window {
                            Window::Hour => {
                                (now.minute(), now.second()) == (0, 0)
                                    || offset(zone, *edge) != offset(zone, edge - 1)
                            }
                            _ => {
                                let of_window = match window {
                                    Window::Week => now.iso_week() != before.iso_week(),
                                    Window::Month => now.month() != before.month(),
                                    _ => true,
                                };
                                let starts = start_of_day(now.date(), zone).unwrap().timestamp();
                                starts == *edge && of_window
                            }
                        };
                        prop_assert!(is_edge, "{zone} {window:?} {now}");
                    }
                    // None is left out: each instant's window begins where the grid says, and ends where the next one begins.
                    let grid = Grid::of(window, zone).unwrap();
                    for pair in edges.windows(2).take(3) {
                        let (start, next) = (grid.start(pair[1] - 1), grid.next(pair[0]));
                        prop_assert!(start <= pair[0] && next >= pair[1], "{zone} {window:?}");
                    }
                }
            }
        }

        #[test]
        fn hours_and_days_are_of_a_usual_length(from in 946_684_800..4_000_000_000_i64, hours in 1..400_i64) {
            let from = from - from.rem_euclid(60);
            for zone in chrono_tz::TZ_VARIANTS {
                let hourly = Cutting { window: Window::Hour, zone, rolling: None }.cut(from, from + hours * 3_600);
                prop_assert!(lengths(&hourly.unwrap().edges).iter().all(|minutes| (1..=60).contains(minutes)), "{zone}");
            }
        }
    }
}
