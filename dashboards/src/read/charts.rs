//! Usage over time: one chart per meter, the largest tenants apart from the rest.

use chrono::{DateTime, Utc};
use rentroll_schemas::meter::Meter;

use super::{BUCKET_IN_WINDOW, ReadError, Reader, quantity, rollup_function, time_s, with_window};
use crate::address::Address;
use crate::html::chart::{Chart, SERIES_MAX, Series};
use crate::html::timeline::{Grain, Timeline};
use crate::model::MeterColumn;
use crate::text;
use crate::window::{Rollup, Window};

/// Where in the window there is usage at all.
#[derive(Clone, Copy, Debug)]
struct Extent {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Reader {
    /// A chart per meter. With a tenant, its usage alone; without, everybody's, the largest apart.
    pub async fn charts(&self, window: &Window, tenant: Option<&str>) -> Result<Vec<Chart>, ReadError> {
        let Some(extent) = self.extent(window, tenant).await? else { return Ok(Vec::new()) };
        let span = Span::of(window, &extent);
        let mut charts = Vec::new();
        for meter in &self.meters.meters {
            charts.push(self.chart(window, &span, meter, tenant).await?);
        }
        Ok(charts)
    }

    async fn extent(&self, window: &Window, tenant: Option<&str>) -> Result<Option<Extent>, ReadError> {
        let table = window.rollup().min(Rollup::Hour).table();
        let whose = if tenant.is_some() { "tenant = {tenant:String}" } else { "1" };
        let sql = format!(
            "SELECT toUnixTimestamp(min(bucket)), toUnixTimestamp(max(bucket)), count() FROM {table} \
             WHERE {BUCKET_IN_WINDOW} AND {whose}"
        );
        let query = with_window(self.query(&sql), window);
        let query = match tenant {
            Some(tenant) => query.param("tenant", tenant),
            None => query,
        };
        let (first, last, count): (u32, u32, u64) = query.fetch_one().await?;
        Ok((count > 0)
            .then(|| Extent { from: time_s(first), to: Grain::Hour.next(Grain::Hour.floor(time_s(last))) }))
    }

    async fn chart(
        &self,
        window: &Window,
        span: &Span,
        meter: &Meter,
        tenant: Option<&str>,
    ) -> Result<Chart, ReadError> {
        let column = MeterColumn::from(meter);
        let top = match tenant {
            Some(_) => Vec::new(),
            None if column.additive => self.top_of(window, meter).await?,
            None => Vec::new(),
        };
        let (function, value) = rollup_function(meter);
        let bucket = match span.grain {
            Grain::Minute => "bucket",
            Grain::Hour => "toStartOfHour(bucket)",
            Grain::Day => "toStartOfDay(bucket)",
            Grain::Month => "toDateTime(toStartOfMonth(bucket), 'UTC')",
        };
        let whose = if tenant.is_some() { "tenant = {tenant:String}" } else { "1" };
        // Series are counted from 1; 0 is everybody else.
        let sql = format!(
            "SELECT toUnixTimestamp({bucket}) AS start, toUInt32(indexOf({{top:Array(String)}}, tenant)) AS series, \
             toString({function}({value})) FROM {table} \
             WHERE meter = {{meter:String}} AND {BUCKET_IN_WINDOW} AND {whose} GROUP BY start, series ORDER BY start, series",
            table = span.table.table(),
        );
        let query = with_window(self.query(&sql), window).param("meter", &meter.name).param("top", &top);
        let query = match tenant {
            Some(tenant) => query.param("tenant", tenant),
            None => query,
        };
        let rows: Vec<(u32, u32, String)> = query.fetch_all().await?;
        let mut points = Vec::with_capacity(rows.len());
        for (start, series, value) in rows {
            let index = if series == 0 { top.len() } else { series as usize - 1 };
            points.push((time_s(start), index, quantity(&value)?));
        }
        let others = points.iter().any(|(_, series, _)| *series == top.len());
        let series = series(&top, others, tenant, window);
        let timeline = Timeline::new(span.grain, (span.from, span.to), series.len(), points);
        Ok(Chart {
            id: format!("chart-{}", meter.name),
            title: column.title,
            subtitle: span.subtitle(window),
            unit: column.unit,
            series,
            timeline,
        })
    }

    /// The tenants with the most of one meter: one less than there are tints, which leaves room for the rest.
    async fn top_of(&self, window: &Window, meter: &Meter) -> Result<Vec<String>, ReadError> {
        let sql = format!(
            "SELECT tenant FROM {table} WHERE meter = {{meter:String}} AND {BUCKET_IN_WINDOW} \
             GROUP BY tenant ORDER BY sum(total) DESC, tenant LIMIT {{limit:UInt32}}",
            table = window.rollup().table(),
        );
        let query = with_window(self.query(&sql), window).param("meter", &meter.name);
        Ok(query.param("limit", SERIES_MAX as u32 - 1).fetch_all().await?)
    }
}

fn series(top: &[String], others: bool, tenant: Option<&str>, window: &Window) -> Vec<Series> {
    let mut series: Vec<Series> = top
        .iter()
        .map(|tenant| Series {
            label: tenant.clone(),
            href: Some(Address::tenant(tenant).with_all(&window.params()).to_string()),
            rest: false,
        })
        .collect();
    match (tenant, others) {
        (Some(tenant), _) => series.push(Series { label: tenant.to_owned(), href: None, rest: false }),
        (None, true) => {
            let label = if top.is_empty() { "all tenants" } else { "everybody else" };
            series.push(Series { label: label.to_owned(), href: None, rest: !top.is_empty() });
        }
        (None, false) => {}
    }
    series
}

/// What a chart shows of a window: all of it, or the part with usage if that is short enough to show finer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    grain: Grain,
    table: Rollup,
    zoomed: bool,
}

impl Span {
    fn of(window: &Window, extent: &Extent) -> Self {
        let whole = Grain::for_span(window.from, window.to);
        let used = Grain::for_span(extent.from, extent.to);
        let zoomed = whole.length_rank() > used.length_rank();
        let (from, to, grain) = match zoomed {
            true => (extent.from.max(window.from), extent.to.min(window.to), used),
            false => (window.from, window.to, whole),
        };
        let needed = match grain {
            Grain::Minute => Rollup::Minute,
            Grain::Hour => Rollup::Hour,
            Grain::Day | Grain::Month => Rollup::Day,
        };
        Span { from, to, grain, table: needed.min(window.rollup()), zoomed }
    }

    fn subtitle(&self, window: &Window) -> String {
        let per = format!("per {}, UTC", self.grain.word());
        if !self.zoomed {
            return per;
        }
        format!(
            "{per}: {} to {}; the rest of {} has no usage",
            text::tick(self.from),
            text::tick(self.to),
            window.title()
        )
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;

    fn window(from: &str, to: &str) -> Window {
        Window::parse(None, Some(from), Some(to), Tz::UTC).unwrap().unwrap()
    }

    #[test]
    fn a_month_with_usage_on_four_days_is_shown_by_the_hour() {
        let may = Window::parse(Some("2015-05"), None, None, Tz::UTC).unwrap().unwrap();
        let used = window("2015-05-17T10:00", "2015-05-20T22:00");
        let span = Span::of(&may, &Extent { from: used.from, to: used.to });
        assert_eq!(
            (span.from, span.to, span.grain, span.table),
            (used.from, used.to, Grain::Hour, Rollup::Hour)
        );
        assert_eq!(
            span.subtitle(&may),
            "per hour, UTC: 17 May 10:00 to 20 May 22:00; the rest of May 2015 has no usage"
        );
    }

    #[test]
    fn a_full_month_is_shown_by_the_day_and_a_cut_window_from_finer_rows() {
        let may = Window::parse(Some("2015-05"), None, None, Tz::UTC).unwrap().unwrap();
        let span = Span::of(&may, &Extent { from: may.from, to: may.to });
        assert_eq!((span.grain, span.table, span.zoomed), (Grain::Day, Rollup::Day, false));
        let cut = window("2015-05-01T06:00", "2015-05-30T18:00");
        let span = Span::of(&cut, &Extent { from: cut.from, to: cut.to });
        assert_eq!((span.grain, span.table), (Grain::Day, Rollup::Hour));
    }
}
