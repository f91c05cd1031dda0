//! One handler per address: what is asked, the queries, the page.

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use chrono::Utc;
use futures_util::Stream;
use maud::Markup;

use super::params::Params;
use super::{Failure, PageState};
use crate::address::Address;
use crate::html::shell::{Frame, Section, WindowBar, page};
use crate::html::table::Direction;
use crate::model::{CheckState, HealthCheck};
use crate::pages::tenant_table::Sorting;
use crate::pages::{costs, health, invoice, invoices, overview, rejects, tenant, tenants};
use crate::read::invoices::InvoiceSelection;
use crate::read::tenants::{Selection, Who};
use crate::read::{ReadError, Reader};
use crate::window::Window;

type Asked = Result<Query<Params>, QueryRejection>;
type Named = Result<Path<String>, PathRejection>;

/// Tenants on the overview.
const TOP_TENANTS: u64 = 10;

fn asked(query: Asked) -> Result<Params, Failure> {
    query.map(|Query(params)| params).map_err(|error| Failure::Asked(error.body_text()))
}

fn named(path: Named) -> Result<String, Failure> {
    path.map(|Path(name)| name).map_err(|error| Failure::Asked(error.body_text()))
}

fn show(frame: &Frame, title: &str, body: &Markup) -> Response {
    Html(page(frame, title, body).into_string()).into_response()
}

/// The window that is asked for, or the newest month with usage (the tenant's, on its page), and the shell
/// around it. `None` where nothing is asked for and nothing was ever used.
async fn framed(
    reader: &Reader,
    params: &Params,
    section: Section,
    address: Address,
    tenant: Option<&str>,
) -> Result<Option<(Frame, Window)>, Failure> {
    let wanted = params.window(reader.zone())?;
    let (months, data_as_of) = tokio::try_join!(reader.months(tenant), reader.data_as_of())?;
    let Some(window) = wanted.or_else(|| months.first().copied().map(Window::of)) else { return Ok(None) };
    let open = window.is_open(Utc::now());
    let frame = Frame { section, window: Some(WindowBar { window, months, address, open }), data_as_of };
    Ok(Some((frame, window)))
}

/// A page that needs usage to say anything, before there is any.
fn empty(section: Section, title: &str) -> Response {
    show(&Frame::bare(section), title, &overview::render_empty(title))
}

fn slice(page: u64, rows: u64) -> (u64, u64) {
    ((page - 1) * rows, rows)
}

pub(super) async fn overview(State(state): State<PageState>, query: Asked) -> Result<Response, Failure> {
    let (reader, params) = (&state.reader, asked(query)?);
    let Some((frame, window)) = framed(reader, &params, Section::Overview, Address::new("/"), None).await?
    else {
        return Ok(empty(Section::Overview, "Overview"));
    };
    let month = reader.month_state(&window).await?;
    let selection = Selection { window: &window, month: month.as_ref(), who: Who::All };
    let sorting = Params::default().sorting(reader)?;
    let run = month.as_ref().and_then(|month| month.allocation.as_ref());
    let pools = async {
        match run {
            Some(run) => reader.pools(&window, run).await,
            None => Ok(Vec::new()),
        }
    };
    let (totals, charts, top, pools, books, rejects, newest_event) = tokio::try_join!(
        reader.tenant_totals(&selection),
        reader.charts(&window, None),
        reader.tenant_rows(&selection, &sorting, (0, TOP_TENANTS)),
        pools,
        reader.books(),
        reader.reject_count(),
        reader.newest_usage(),
    )?;
    let meters = reader.meter_columns();
    let view =
        overview::View { frame, meters, totals, charts, top, month, pools, books, rejects, newest_event };
    Ok(show(&view.frame, "Overview", &overview::render(&view)))
}

pub(super) async fn tenants(State(state): State<PageState>, query: Asked) -> Result<Response, Failure> {
    let (reader, params) = (&state.reader, asked(query)?);
    let (search, who, page, sorting) =
        (params.search()?, params.who()?, params.page()?, params.sorting(reader)?);
    let mut address =
        Address::new("/tenants").with("sort", &sorting.by).with("order", sorting.direction.word());
    if !search.is_empty() {
        address = address.with("q", &search);
    }
    let Some((frame, window)) = framed(reader, &params, Section::Tenants, address, None).await? else {
        return Ok(empty(Section::Tenants, "Tenants"));
    };
    let month = reader.month_state(&window).await?;
    let selection = Selection { window: &window, month: month.as_ref(), who };
    let (totals, rows) = tokio::try_join!(
        reader.tenant_totals(&selection),
        reader.tenant_rows(&selection, &sorting, slice(page, tenants::ROWS_PER_PAGE)),
    )?;
    let meters = reader.meter_columns();
    let view = tenants::View { frame, meters, month, search, sorting, page, rows, totals };
    Ok(show(&view.frame, "Tenants", &tenants::render(&view)))
}

pub(super) async fn tenants_csv(State(state): State<PageState>, query: Asked) -> Result<Response, Failure> {
    let (reader, params) = (&state.reader, asked(query)?);
    let (who, sorting) = (params.who()?, params.sorting(reader)?);
    let window = export_window(reader, &params).await?;
    let month = reader.month_state(&window).await?;
    let selection = Selection { window: &window, month: month.as_ref(), who };
    let lines = reader.tenants_csv(&selection, &sorting).await?;
    Ok(csv(&format!("tenants-{}", file_label(&window)), lines))
}

pub(super) async fn tenant(
    State(state): State<PageState>,
    path: Named,
    query: Asked,
) -> Result<Response, Failure> {
    show_tenant(&state.reader, &asked(query)?, named(path)?).await
}

/// The names `.` and `..`, which no path can hold.
pub(super) async fn tenant_by_name(
    State(state): State<PageState>,
    query: Asked,
) -> Result<Response, Failure> {
    let params = asked(query)?;
    let Some(name) = Params::filter(&params.name).map(str::to_owned) else {
        return Err(Failure::Asked("name: which tenant?".to_owned()));
    };
    show_tenant(&state.reader, &params, name).await
}

async fn show_tenant(reader: &Reader, params: &Params, name: String) -> Result<Response, Failure> {
    let framed = framed(reader, params, Section::Tenants, Address::tenant(&name), Some(&name)).await?;
    let Some((frame, window)) = framed else {
        if reader.months(None).await?.is_empty() {
            return Ok(empty(Section::Tenants, &name));
        }
        return Err(Failure::Missing("No tenant of that name ever used anything.".to_owned()));
    };
    let month = reader.month_state(&window).await?;
    let selection = Selection { window: &window, month: month.as_ref(), who: Who::Exactly(name.clone()) };
    let by_name = Sorting { by: "tenant".to_owned(), direction: Direction::Ascending };
    let mut rows = reader.tenant_rows(&selection, &by_name, (0, 1)).await?;
    let row = rows.pop().unwrap_or_else(|| reader.no_row(name.clone()));
    let of_tenant = InvoiceSelection::of(&window, reader.zone(), Who::Exactly(name.clone()));
    let run = month.as_ref().and_then(|month| month.allocation.as_ref());
    let pools = async {
        match run {
            Some(run) => reader.pool_shares(&window, run, &name).await,
            None => Ok(Vec::new()),
        }
    };
    let (usage, charts, invoices, corrected, pools) = tokio::try_join!(
        reader.meter_usage(&window, &row),
        reader.charts(&window, Some(&name)),
        reader.invoice_rows(&of_tenant, (0, invoices::ROWS_PER_PAGE)),
        reader.corrected(&window, &name),
        pools,
    )?;
    let view = tenant::View { frame, row, usage, charts, month, invoices, pools, corrected };
    // A tenant that never was may be a mistyped name; the page says so, and so does the status.
    let ever = view.frame.window.as_ref().is_some_and(|bar| !bar.months.is_empty());
    let status = if view.is_empty() && !ever { StatusCode::NOT_FOUND } else { StatusCode::OK };
    Ok((status, show(&view.frame, &name, &tenant::render(&view))).into_response())
}

pub(super) async fn invoices(State(state): State<PageState>, query: Asked) -> Result<Response, Failure> {
    let (reader, params) = (&state.reader, asked(query)?);
    let (search, who, page) = (params.search()?, params.who()?, params.page()?);
    let mut address = Address::new("/invoices");
    if !search.is_empty() {
        address = address.with("q", &search);
    }
    let Some((frame, window)) = framed(reader, &params, Section::Invoices, address, None).await? else {
        return Ok(empty(Section::Invoices, "Invoices"));
    };
    let all = InvoiceSelection::of(&window, reader.zone(), Who::All);
    let matching = InvoiceSelection { who, ..all.clone() };
    let ((billed, _), (count, total), rows) = tokio::try_join!(
        reader.invoice_totals(&all),
        reader.invoice_totals(&matching),
        reader.invoice_rows(&matching, slice(page, invoices::ROWS_PER_PAGE)),
    )?;
    let view = invoices::View { frame, search, page, rows, count, total, billed: billed > 0 };
    Ok(show(&view.frame, "Invoices", &invoices::render(&view)))
}

pub(super) async fn invoice(State(state): State<PageState>, path: Named) -> Result<Response, Failure> {
    let number = named(path)?;
    let Some(stored) = state.reader.invoice(&number).await? else {
        return Err(Failure::Missing(format!("There is no invoice with the number {number}.")));
    };
    let frame = Frame::bare(Section::Invoices);
    let view = invoice::View { frame, invoice: stored.invoice, digest: stored.digest, intact: stored.intact };
    Ok(show(&view.frame, &format!("Invoice {number}"), &invoice::render(&view)))
}

pub(super) async fn costs(State(state): State<PageState>, query: Asked) -> Result<Response, Failure> {
    let (reader, params) = (&state.reader, asked(query)?);
    let pool = Params::filter(&params.pool);
    let mut address = Address::new("/costs");
    if let Some(pool) = pool {
        address = address.with("pool", pool);
    }
    let Some((frame, window)) = framed(reader, &params, Section::Costs, address, None).await? else {
        return Ok(empty(Section::Costs, "Costs"));
    };
    let month = reader.month_state(&window).await?;
    let split = match &month {
        Some(month) => reader.split(&window, month, pool).await?,
        None => None,
    };
    let allocated = month.is_some_and(|month| month.allocation.is_some());
    if let (None, true, Some(pool)) = (&split, allocated, pool) {
        return Err(Failure::Missing(format!("This month's allocation has no pool `{pool}`.")));
    }
    let view = costs::View { frame, split };
    Ok(show(&view.frame, "Costs", &costs::render(&view)))
}

pub(super) async fn costs_csv(State(state): State<PageState>, query: Asked) -> Result<Response, Failure> {
    let (reader, params) = (&state.reader, asked(query)?);
    let window = export_window(reader, &params).await?;
    let month = reader.month_state(&window).await?;
    let Some((month, run)) = month.as_ref().and_then(|month| Some((month, month.allocation.as_ref()?)))
    else {
        return Err(Failure::Missing("No cost has been allocated for this window.".to_owned()));
    };
    let lines = reader.costs_csv(&window, month, run, Params::filter(&params.pool)).await?;
    Ok(csv(&format!("costs-{}", file_label(&window)), lines))
}

pub(super) async fn rejects(State(state): State<PageState>, query: Asked) -> Result<Response, Failure> {
    let (reader, params) = (&state.reader, asked(query)?);
    let (reason, page) = (Params::filter(&params.reason), params.page()?);
    let (reasons, rows, data_as_of) = tokio::try_join!(
        reader.reject_reasons(),
        reader.reject_rows(reason, slice(page, rejects::ROWS_PER_PAGE)),
        reader.data_as_of(),
    )?;
    let frame = Frame { data_as_of, ..Frame::bare(Section::Rejects) };
    let view = rejects::View { frame, reasons, reason: reason.map(str::to_owned), page, rows };
    Ok(show(&view.frame, "Rejects", &rejects::render(&view)))
}

/// The one page that is there even without the store: then it says that.
pub(super) async fn health(State(state): State<PageState>) -> Response {
    let mut checks = state.probe.as_ref().map(|probe| probe()).unwrap_or_default();
    let read = store_health(&state.reader, &mut checks).await;
    // The page is for people and was read, whatever it says; machines ask `/readyz`.
    let status = if read.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let (sources, data_as_of) = read.unwrap_or_else(|error| {
        tracing::error!(%error, "the store could not be asked for its health");
        checks.push(HealthCheck {
            name: "Store".to_owned(),
            state: CheckState::Fail,
            detail: error.kind().to_owned(),
            remedy: "Run rentroll doctor.".to_owned(),
        });
        (Vec::new(), None)
    });
    checks.sort_by_key(|check| match check.state {
        CheckState::Fail => 0,
        CheckState::Warn => 1,
        CheckState::Ok => 2,
    });
    let frame = Frame { data_as_of, ..Frame::bare(Section::Health) };
    let view = health::View { frame, checks, sources };
    (status, show(&view.frame, "Health", &health::render(&view))).into_response()
}

async fn store_health(
    reader: &Reader,
    checks: &mut Vec<HealthCheck>,
) -> Result<(Vec<health::SourceBooks>, Option<chrono::DateTime<Utc>>), ReadError> {
    let sources = reader.source_books().await?;
    checks.extend(reader.store_checks(&sources).await?);
    Ok((sources, reader.data_as_of().await?))
}

pub(super) async fn not_found(uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(80).collect();
    Failure::Missing(format!("There is no page at {path}."))
}

/// The window of an export: as on the page that links to it.
async fn export_window(reader: &Reader, params: &Params) -> Result<Window, Failure> {
    if let Some(window) = params.window(reader.zone())? {
        return Ok(window);
    }
    let newest = reader.months(None).await?.first().copied();
    newest.map(Window::of).ok_or_else(|| Failure::Missing("Nothing has been used yet.".to_owned()))
}

fn file_label(window: &Window) -> String {
    match window.period {
        Some(period) => period.to_string(),
        None => format!("{}-{}", window.from.format("%Y%m%dT%H%MZ"), window.to.format("%Y%m%dT%H%MZ")),
    }
}

fn csv(name: &str, lines: impl Stream<Item = Result<String, ReadError>> + Send + 'static) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.csv\"")),
    ];
    (headers, Body::from_stream(lines)).into_response()
}
