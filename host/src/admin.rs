//! `admin.listen`: is the process alive, is it ready, what did it do; and what operators ask of it.
//!
//! Started by [`crate::app`], asked by service managers, monitoring and the commands of operators. It reads
//! [`Board`] and [`Audit`], and hands what shall be changed to [`Control`]: it changes nothing itself. A client that
//! is slow or evil costs one of a few connections for a few seconds, and a lane never.

mod api;
mod connection;
mod guard;
mod page;
mod report;
mod token;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    middleware::{from_fn_with_state, map_response},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::{sync::Semaphore, task::AbortHandle};

pub use self::token::read_token;

use self::{
    api::Refusal,
    connection::{Bounded, Life},
};
use crate::{audit::Audit, control::Control, status::Board, version};

/// How long a connection may last that only asks, and how long a request may take to come.
const MAX_LIFE: Duration = Duration::from_secs(2);

/// Requests for changes at once; those who watch have as many connections for themselves.
const MAX_CHANGES: usize = 32;

/// An address that is taken, not served yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
}

/// What is served.
#[derive(Debug, Clone)]
pub struct Served {
    /// Where it stands what there is to know.
    pub board: Arc<Board>,
    /// What was changed.
    pub audit: Arc<Audit>,
    /// Where changes are asked for.
    pub control: Control,
    /// The file with the token that /v1 asks for.
    pub token_file: Option<PathBuf>,
}

/// What all handlers share.
#[derive(Debug)]
struct Shared {
    served: Served,
    started: Instant,
    /// Whether only this machine can ask.
    loopback: bool,
    /// Places for requests whose answers take long.
    changes: Semaphore,
}

impl Admin {
    /// Takes the address, so that one in use is known before any work begins.
    ///
    /// # Errors
    /// The address cannot be had; the text says what to do.
    pub fn bind(listen: SocketAddr) -> io::Result<Self> {
        let bound = TcpListener::bind(listen).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(Self { listener })
        });
        bound.map_err(|error| {
            let text =
                format!("admin.listen: cannot listen on {listen}: {error}; choose another port or end what uses it");
            io::Error::new(error.kind(), text)
        })
    }

    /// Answers until it is aborted; must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system refuses.
    pub fn serve(self, served: Served) -> io::Result<AbortHandle> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let address = listener.local_addr()?;
        tracing::info!(listen = %address, "answering /healthz, /readyz, /metrics and /v1");
        served.token_file.iter().for_each(|file| token::warn_of_readers(file));
        let loopback = address.ip().to_canonical().is_loopback();
        let changes = Semaphore::new(MAX_CHANGES);
        let router = router(Arc::new(Shared { served, started: Instant::now(), loopback, changes }));
        let service = router.into_make_service_with_connect_info::<Life>();
        let serving = axum::serve(Bounded::new(listener), service);
        Ok(tokio::spawn(async move { serving.await }).abort_handle())
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .merge(api::router().route_layer(from_fn_with_state(shared.clone(), guard::admit)))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .layer(map_response(last_of_its_connection))
        .with_state(shared)
}

async fn last_of_its_connection(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn nothing_here() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "there is nothing here: /v1/openapi.json tells what there is".to_owned())
}

async fn not_so() -> Refusal {
    Refusal(StatusCode::METHOD_NOT_ALLOWED, "changes are asked for by POST, all else by GET".to_owned())
}

async fn healthz() -> impl IntoResponse {
    Json(json!({"status": "alive", "version": version::STOMPBOX, "wasmtime": version::WASMTIME}))
}

async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let missing = shared.served.board.now().missing();
    let code = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({"ready": missing.is_empty(), "missing": missing})))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match page::render(&shared.served) {
        Ok(page) => ([(header::CONTENT_TYPE, TYPE)], page).into_response(),
        Err(std::fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
