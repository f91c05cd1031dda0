//! What the API counts.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// The API's metrics.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    /// Requests by route, method and status.
    pub requests: IntCounterVec,
    /// How long they took, by route.
    pub seconds: HistogramVec,
    /// Rows in answers, over all their pages, by route.
    pub rows: IntCounterVec,
    /// Queries that were refused, by the kind of problem.
    pub refused: IntCounterVec,
    /// Queries now: in work, and waiting for their turn.
    pub queries: IntGaugeVec,
}

impl ApiMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters =
            |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        // From a millisecond to a minute.
        let buckets = prometheus::exponential_buckets(0.001, 2.0, 17)?;
        let seconds = HistogramOpts::new("rentroll_api_request_duration_seconds", "Duration of requests");
        let metrics = ApiMetrics {
            requests: counters(
                "rentroll_api_requests_total",
                "Requests by route, method and status",
                &["route", "method", "status"],
            )?,
            seconds: HistogramVec::new(seconds.buckets(buckets), &["route"])?,
            rows: counters("rentroll_api_rows_total", "Rows in answers, over all their pages", &["route"])?,
            refused: counters("rentroll_api_refused_total", "Queries that were refused", &["reason"])?,
            queries: IntGaugeVec::new(
                Opts::new("rentroll_api_queries", "Queries in work, and waiting for their turn"),
                &["state"],
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.rows.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.queries.clone()))?;
        Ok(metrics)
    }
}
