//! Health, metrics, the console and the API.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus::{Encoder as _, GaugeVec, Opts, Registry, TextEncoder};
use rentroll_aggregator::api::{self, EventsDoor};
use rentroll_aggregator::openmeter;
use rentroll_aggregator::usage::Usage;
use rentroll_collector::http::door::IngestDoor;
use rentroll_dashboards::ConsoleState;
use rentroll_dashboards::model::{CheckState, HealthCheck};
use rentroll_engines::health::{Health, PartHealth};
use rentroll_engines::store::Store;
use rentroll_schemas::catalogue::Catalogue;
use rentroll_schemas::meter::LiveMeters;
use tokio::net::TcpListener;

use crate::config::Config;

/// Listens on `address`, the value of `key`.
///
/// # Errors
/// Says which key to change if the port is taken.
pub async fn listen(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| anyhow::anyhow!("cannot listen on {address} ({key}): {error}"))
}

/// The console over `store`, with what the parts of this process say of themselves.
pub fn console(
    store: &Store,
    meters: &LiveMeters,
    catalogue: Option<Arc<Catalogue>>,
    health: &Health,
) -> Router {
    let health = health.clone();
    let probe = move || health.report().into_iter().map(show).collect();
    let state = ConsoleState::new(store.client().clone(), meters.clone(), catalogue);
    rentroll_dashboards::router(state.with_health(Arc::new(probe)))
}

/// The API over `store`, and OpenMeter's beside it; events go through the door that `door` gives, if any.
///
/// # Errors
/// The tokens' file.
pub fn api(
    config: &Config,
    store: &Store,
    meters: &LiveMeters,
    catalogue: Option<Arc<Catalogue>>,
    door: impl Fn() -> Option<IngestDoor> + Send + Sync + 'static,
    registry: &Registry,
) -> anyhow::Result<Router> {
    let zone = catalogue.as_ref().map_or(chrono_tz::Tz::UTC, |catalogue| catalogue.time_zone);
    let events: EventsDoor = Arc::new(move |request| {
        let door = door()?;
        Some(Box::pin(async move { door.handle(request).await.map(Body::new) }))
    });
    let setup = api::Setup {
        config: config.api.clone(),
        usage: Usage::new(store.clone(), meters.clone(), zone, config.api.limits()),
        store: store.clone(),
        tokens: config.path(&config.files.tokens),
        events: Some(events),
    };
    let api = api::open(setup, registry)?;
    Ok(api::router(api.clone()).merge(openmeter::router(api, catalogue)))
}

fn show(part: PartHealth) -> HealthCheck {
    let remedy =
        if part.ready { "" } else { "the detail says what it waits for; `rentroll doctor` looks further" };
    HealthCheck {
        name: part.part,
        state: if part.ready { CheckState::Ok } else { CheckState::Fail },
        detail: part.detail,
        remedy: remedy.to_owned(),
    }
}

struct Served {
    registry: Registry,
    health: Health,
    ready: GaugeVec,
}

/// Serves until `stop` is notified; `alone` is what has a listener of its own.
///
/// # Errors
/// A listener's.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    health: Health,
    console: Option<Router>,
    alone: Option<(TcpListener, Router)>,
    stop: Arc<tokio::sync::Notify>,
) -> std::io::Result<()> {
    let ready = GaugeVec::new(Opts::new("rentroll_ready", "1 if the part makes progress"), &["part"])
        .map_err(std::io::Error::other)?;
    let build =
        GaugeVec::new(Opts::new("rentroll_build_info", "1, with the version as a label"), &["version"])
            .map_err(std::io::Error::other)?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    registry.register(Box::new(ready.clone())).map_err(std::io::Error::other)?;
    registry.register(Box::new(build)).map_err(std::io::Error::other)?;
    let served = Arc::new(Served { registry, health, ready });
    let own = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(served);
    let router = match console {
        Some(console) => own.merge(console),
        None => own,
    };
    let (stops, mut stopped) = tokio::sync::watch::channel(());
    let main = axum::serve(listener, router).with_graceful_shutdown(async move {
        stop.notified().await;
        drop(stops);
    });
    let Some((listener, router)) = alone else { return main.await };
    let router = router.route("/healthz", get(healthz));
    let alone = axum::serve(listener, router).with_graceful_shutdown(async move {
        // An error when the other side is dropped, which is the sign.
        let _ = stopped.changed().await;
    });
    tokio::try_join!(async { main.await }, async { alone.await }).map(|_| ())
}

/// The process is there and answers; whether it gets anything done is `/readyz`.
async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 if every part makes progress, else 503; either way what each part does, and the lag by topic.
async fn readyz(State(served): State<Arc<Served>>) -> Response {
    let parts = served.health.report();
    let ready = parts.iter().all(|part| part.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(serde_json::json!({ "ready": ready, "parts": parts, "lag": served.health.lag() })))
        .into_response()
}

async fn metrics(State(served): State<Arc<Served>>) -> Response {
    served.ready.reset();
    for part in served.health.report() {
        served.ready.with_label_values(&[&part.part]).set(f64::from(u8::from(part.ready)));
    }
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&served.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
