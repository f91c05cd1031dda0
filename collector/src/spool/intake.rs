//! The one way in for events that came over a network: durable when it returns.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rentroll_engines::log::{LogError, Record, SharedLog};
use rentroll_schemas::topics::Topic;
use serde::{Deserialize, Serialize};

use super::Spool;
use crate::outgoing::Load;

/// What a success answered to a sender rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// The event log has it: Kafka with acks=all, or the embedded log's fsync.
    #[default]
    Log,
    /// The spool has it, fsynced; the log gets it a moment later.
    Spool,
}

/// Takes records durably.
pub struct Intake {
    log: SharedLog,
    spool: Option<Arc<Spool>>,
    ack: Ack,
    takeover: Duration,
}

impl Intake {
    /// `ack` is [`Ack::Log`] where there is no spool. `takeover` is how long the log may take before the spool
    /// does.
    pub fn new(log: SharedLog, spool: Option<Arc<Spool>>, ack: Ack, takeover: Duration) -> Self {
        let ack = if spool.is_some() { ack } else { Ack::Log };
        Intake { log, spool, ack, takeover }
    }

    /// Returns when all of `load` is durable, in the log or in the spool.
    ///
    /// # Errors
    /// Neither takes it now. Some of it may have been taken: to send it again is harmless.
    pub async fn take(&self, load: Load) -> Result<(), LogError> {
        let Some(spool) = &self.spool else {
            return to_log(&self.log, load).await;
        };
        if self.ack == Ack::Spool || spool.has_taken_over() {
            return to_spool(spool, load).await;
        }
        // Values are shared, not copied.
        let kept = load.clone();
        let reason = match tokio::time::timeout(self.takeover, to_log(&self.log, load)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error @ LogError::TooLarge { .. })) => return Err(error),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no acknowledgement within {} ms", self.takeover.as_millis()),
        };
        if !spool.log_is_away.swap(true, Ordering::AcqRel) {
            tracing::warn!(reason, "the event log takes nothing; the spool takes over");
        }
        to_spool(spool, kept).await
    }
}

async fn to_log(log: &SharedLog, load: Load) -> Result<(), LogError> {
    all(load, |topic, records| log.append(topic, records)).await
}

async fn to_spool(spool: &Spool, load: Load) -> Result<(), LogError> {
    all(load, |topic, records| spool.append(topic, records)).await
}

/// Appends to all topics at the same time; nearly always there is one.
async fn all<F: Future<Output = Result<(), LogError>>>(
    load: Load,
    append: impl Fn(Topic, Vec<Record>) -> F,
) -> Result<(), LogError> {
    let mut load = load.into_iter();
    match (load.next(), load.len()) {
        (None, _) => Ok(()),
        (Some((topic, records)), 0) => append(topic, records).await,
        (Some((topic, records)), _) => {
            let first = append(topic, records);
            let rest = async {
                for (topic, records) in load {
                    append(topic, records).await?;
                }
                Ok(())
            };
            let (first, rest) = tokio::join!(first, rest);
            first.and(rest)
        }
    }
}
