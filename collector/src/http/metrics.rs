//! What ingest over HTTP counts.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

/// Its metrics; events by verdict are in the collector's own.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    /// Requests, by status code.
    pub requests: IntCounterVec,
    /// Time from a judged request to its durability.
    pub ack_seconds: Histogram,
    /// Requests in work.
    pub in_flight: IntGauge,
    /// Open connections.
    pub connections: IntGauge,
}

impl HttpMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        // A sync takes from 0.1 ms to some tens, Kafka's acknowledgement from 5 ms to some seconds.
        let buckets =
            vec![0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
        let metrics = HttpMetrics {
            requests: IntCounterVec::new(
                Opts::new("rentroll_collector_http_requests_total", "Requests answered, by status code"),
                &["code"],
            )?,
            ack_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "rentroll_collector_http_ack_seconds",
                    "From a request that is read to its events being durable",
                )
                .buckets(buckets),
            )?,
            in_flight: IntGauge::new("rentroll_collector_http_requests_in_flight", "Requests in work")?,
            connections: IntGauge::new("rentroll_collector_http_connections", "Open connections")?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.ack_seconds.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        Ok(metrics)
    }
}
