//! Clients that send over HTTP and, when they get no verdict, send the same again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::sync::Mutex;

use super::dice::Dice;
use super::model::Sent;
use crate::verbs::send::client::{Certificates, Client};

/// A client waits this long for a verdict. Shorter than a stalled log: requests are given up while they are in
/// work, and come again.
const ANSWER_WAIT: Duration = Duration::from_millis(2_500);
/// Between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(150);
/// Most events of a request.
const REQUEST_ITEMS_MAX: u64 = 120;

/// Sends batches of a stream that it shares with others, about `rate` items a second.
///
/// # Errors
/// If a request is refused as a whole: it is one that a correct client may send.
pub(super) async fn send(
    url: String,
    token: String,
    sent: Arc<Sent>,
    gate: Arc<Mutex<()>>,
    rate: u64,
    mut dice: Dice,
) -> anyhow::Result<()> {
    let mut client = Client::new(&url, Some(&token), &Certificates::default(), ANSWER_WAIT)?;
    loop {
        // Lone events and batches; a round of the whole range keeps the rate.
        let count = if dice.chance(30) { 1 } else { dice.between(1, REQUEST_ITEMS_MAX) };
        let held = gate.lock().await;
        let first = sent.hand_over(count);
        let items: Vec<String> = (first..first + count).map(|n| sent.stream.json(n)).collect();
        let body = Bytes::from(format!("[{}]", items.join(",")));
        while !is_judged(&mut client, body.clone()).await? {
            tokio::time::sleep(TRY_AGAIN).await;
        }
        sent.acked(first, count);
        drop(held);
        tokio::time::sleep(Duration::from_secs_f64(count as f64 / rate as f64)).await;
    }
}

/// Whether there is a verdict on every event of the request.
async fn is_judged(client: &mut Client, body: Bytes) -> anyhow::Result<bool> {
    let Ok(reply) = client.send(body).await else { return Ok(false) };
    let may_pass = reply.status.is_server_error()
        || matches!(reply.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    if may_pass {
        return Ok(false);
    }
    let document: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if reply.status.is_success() || document["accepted"].is_u64() {
        return Ok(true);
    }
    anyhow::bail!(
        "a collector answered a good request with {}: {}",
        reply.status,
        String::from_utf8_lossy(&reply.body)
    )
}
