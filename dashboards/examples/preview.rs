//! Serves every page with sample values, to look at them without a store:
//! `cargo run -p rentroll-dashboards --example preview`, then open the printed address.

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use maud::Markup;
use rentroll_dashboards::html::shell::{Frame, Section, page};
use rentroll_dashboards::{assets, pages};

#[path = "../tests/support/sample.rs"]
mod sample;

fn shown(frame: &Frame, title: &str, body: &Markup) -> Html<String> {
    Html(page(frame, title, body).into_string())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let router = Router::new()
        .route("/assets/{name}", get(assets::serve))
        .route(
            "/",
            get(async || {
                let v = sample::overview();
                shown(&v.frame, "Overview", &pages::overview::render(&v))
            }),
        )
        .route(
            "/empty",
            get(async || {
                shown(&Frame::bare(Section::Overview), "Overview", &pages::overview::render_empty("Overview"))
            }),
        )
        .route(
            "/tenants",
            get(async || {
                let v = sample::tenants();
                shown(&v.frame, "Tenants", &pages::tenants::render(&v))
            }),
        )
        .route(
            "/tenants/{tenant}",
            get(async || {
                let v = sample::tenant();
                shown(&v.frame, "Tenant", &pages::tenant::render(&v))
            }),
        )
        .route(
            "/invoices",
            get(async || {
                let v = sample::invoices();
                shown(&v.frame, "Invoices", &pages::invoices::render(&v))
            }),
        )
        .route(
            "/invoices/{number}",
            get(async || {
                let v = sample::invoice();
                shown(&v.frame, "Invoice", &pages::invoice::render(&v))
            }),
        )
        .route(
            "/costs",
            get(async || {
                let v = sample::costs();
                shown(&v.frame, "Costs", &pages::costs::render(&v))
            }),
        )
        .route(
            "/rejects",
            get(async || {
                let v = sample::rejects();
                shown(&v.frame, "Rejects", &pages::rejects::render(&v))
            }),
        )
        .route(
            "/health",
            get(async || {
                let v = sample::health();
                shown(&v.frame, "Health", &pages::health::render(&v))
            }),
        )
        .route(
            "/failed",
            get(async || {
                shown(&Frame::bare(Section::Overview), "Failed", &pages::failed::render(&sample::failed()))
            }),
        );
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, router).await
}
