//! `admin.listen`: is the process alive, is it ready, what did it do.
//!
//! Started by [`crate::app`], asked by service managers and monitoring. It reads [`Status`] and changes
//! nothing. A client that is slow or evil costs one of a few connections for a few seconds, and a lane
//! never.

mod page;

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::{Sleep, sleep},
};

use crate::{status::Status, version};

/// Connections at once; more wait in the kernel.
const MAX_CONNECTIONS: usize = 64;
/// How long one may last: each answers one request.
const MAX_LIFE: Duration = Duration::from_secs(2);

/// An address that is taken, not served yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
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
    pub fn serve(self, status: Arc<Status>) -> io::Result<AbortHandle> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        tracing::info!(listen = %listener.local_addr()?, "answering /healthz, /readyz and /metrics");
        let listener = Bounded { listener, slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)) };
        let serving = axum::serve(listener, router(status));
        Ok(tokio::spawn(async move { serving.await }).abort_handle())
    }
}

fn router(status: Arc<Status>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .layer(map_response(last_of_its_connection))
        .with_state(status)
}

async fn last_of_its_connection(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn healthz() -> impl IntoResponse {
    Json(json!({"status": "alive", "version": version::STOMPBOX, "wasmtime": version::WASMTIME}))
}

async fn readyz(State(status): State<Arc<Status>>) -> impl IntoResponse {
    let missing = status.missing();
    let code = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({"ready": missing.is_empty(), "missing": missing})))
}

async fn metrics(State(status): State<Arc<Status>>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match page::render(&status) {
        Ok(page) => ([(header::CONTENT_TYPE, TYPE)], page).into_response(),
        Err(std::fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Takes a few connections, each for a while.
struct Bounded {
    listener: tokio::net::TcpListener,
    slots: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Brief;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Brief, SocketAddr) {
        let slot = self.slots.clone().acquire_owned().await.ok();
        let (stream, peer) = axum::serve::Listener::accept(&mut self.listener).await;
        (Brief { stream, end: Box::pin(sleep(MAX_LIFE)), _slot: slot }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends in time, whatever its peer does.
struct Brief {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Brief {
    /// The stream, while there is time.
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Brief {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Brief {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(cx)?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_shutdown(cx)
    }
}
