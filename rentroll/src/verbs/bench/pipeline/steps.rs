//! What each step takes inside the running aggregator, from its own metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The metric that has them.
const METRIC: &str = "rentroll_aggregator_step_cpu_seconds_total{step=\"";

/// CPU seconds by step.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct Steps(pub(super) BTreeMap<String, f64>);

impl Steps {
    /// Asks a running aggregator.
    pub(super) async fn read(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream =
            tokio::net::TcpStream::connect(address).await.context("cannot ask for the metrics")?;
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.context("cannot read the metrics")?;
        Ok(Steps::parse(&answer))
    }

    /// Of that step.
    pub(super) fn of(&self, step: &str) -> f64 {
        self.0.get(step).copied().unwrap_or_default()
    }

    fn parse(metrics: &str) -> Self {
        let step = |line: &str| {
            let (step, value) = line.strip_prefix(METRIC)?.split_once("\"} ")?;
            Some((step.to_owned(), value.trim().parse().ok()?))
        };
        Steps(metrics.lines().filter_map(step).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_metric_among_others() {
        let text = "# HELP x\nrentroll_aggregator_step_cpu_seconds_total{step=\"judge\"} 1.5\nother{step=\"judge\"} 2\n";
        assert_eq!(Steps::parse(text).0, [("judge".to_owned(), 1.5)].into());
    }
}
