//! /v1: what operators see, and what they can ask for. `admin/openapi.json` describes it.
//!
//! Called through [`super::guard`]. What shall be changed goes to [`crate::control::Control`], and the answer waits until it is done.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        ConnectInfo, DefaultBodyLimit, Path, RawQuery, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::{task::spawn_blocking, time::timeout};

use super::{MAX_LIFE, Shared, connection::Life, report};
use crate::{
    audit::MAX_KEPT,
    control::{ControlError, Request},
    sandbox::nearest,
};

/// The longest body.
const MAX_BODY: usize = 4_096;
/// How long a change may take before its answer comes without it: components may be compiled for it.
const MAX_CHANGE: Duration = Duration::from_secs(300);
/// Entries of the audit log where no number is given.
const LAST: usize = 100;

type Host = State<Arc<Shared>>;
type Connection = ConnectInfo<Life>;
type Body = Result<Bytes, BytesRejection>;
type Name = Result<Path<String>, PathRejection>;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/openapi.json", get(openapi))
        .route("/v1/status", get(status))
        .route("/v1/audit", get(audit))
        .route("/v1/processors/{name}", get(processor))
        .route("/v1/processors/{name}/pause", post(pause))
        .route("/v1/processors/{name}/resume", post(resume))
        .route("/v1/processors/{name}/reload", post(reload))
        .route("/v1/processors/{name}/rollback", post(roll_back))
        .route("/v1/reload", post(reload_all))
        .route("/v1/drain", post(drain))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

/// Why there is no other answer: `{"error": "..."}`.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.0, Json(json!({"error": self.1}))).into_response();
        if self.0 == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        let code = match &error {
            ControlError::Unknown(_) => StatusCode::NOT_FOUND,
            ControlError::Refused(_) => StatusCode::CONFLICT,
            ControlError::Busy | ControlError::Ending => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(code, error.to_string())
    }
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json"))
}

/// Off the threads of the connections: a host may have a thousand processors.
async fn status(State(shared): Host) -> Result<Response, Refusal> {
    json_of(move || serde_json::to_vec(&report::host(&shared))).await
}

async fn processor(State(shared): Host, name: Name) -> Result<Response, Refusal> {
    let name = name_of(name)?;
    let status = shared.served.board.now();
    let processors = &status.processors;
    let Some(found) = processors.iter().find(|processor| *processor.name == *name).cloned() else {
        let near = nearest(&name, processors.iter().map(|processor| processor.name.as_ref()));
        let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        return Err(Refusal(StatusCode::NOT_FOUND, format!("there is no processor {name:?}{hint}")));
    };
    json_of(move || serde_json::to_vec(&report::processor(&found))).await
}

async fn json_of(make: impl FnOnce() -> serde_json::Result<Vec<u8>> + Send + 'static) -> Result<Response, Refusal> {
    let broken = |text: String| Refusal(StatusCode::INTERNAL_SERVER_ERROR, text);
    let bytes = spawn_blocking(make).await.map_err(|error| broken(error.to_string()))?;
    let bytes = bytes.map_err(|error| broken(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

async fn audit(State(shared): Host, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let count = match query.as_deref().unwrap_or_default() {
        "" => Some(LAST),
        query => query.strip_prefix("last=").and_then(|count| count.parse().ok()),
    };
    match count {
        Some(count) => Ok(Json(json!({"entries": shared.served.audit.last(count)})).into_response()),
        None => Err(Refusal(StatusCode::BAD_REQUEST, format!("ask for ?last=N, N from 0 to {MAX_KEPT}"))),
    }
}

/// A body that says nothing.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Where a rollback goes.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RollBack {
    to: Option<u64>,
}

async fn pause(State(shared): Host, life: Connection, name: Name, body: Body) -> Result<Response, Refusal> {
    let processor = name_of(name)?;
    change(&shared, life, body, |_: Nothing| Request::Pause { processor }).await
}

async fn resume(State(shared): Host, life: Connection, name: Name, body: Body) -> Result<Response, Refusal> {
    let processor = name_of(name)?;
    change(&shared, life, body, |_: Nothing| Request::Resume { processor }).await
}

async fn reload(State(shared): Host, life: Connection, name: Name, body: Body) -> Result<Response, Refusal> {
    let processor = Some(name_of(name)?);
    change(&shared, life, body, |_: Nothing| Request::Reload { processor }).await
}

async fn roll_back(State(shared): Host, life: Connection, name: Name, body: Body) -> Result<Response, Refusal> {
    let processor = name_of(name)?;
    change(&shared, life, body, |body: RollBack| Request::RollBack { processor, to: body.to }).await
}

async fn reload_all(State(shared): Host, life: Connection, body: Body) -> Result<Response, Refusal> {
    change(&shared, life, body, |_: Nothing| Request::Reload { processor: None }).await
}

async fn drain(State(shared): Host, life: Connection, body: Body) -> Result<Response, Refusal> {
    change(&shared, life, body, |_: Nothing| Request::Drain).await
}

fn name_of(name: Name) -> Result<String, Refusal> {
    name.map(|Path(name)| name).map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.body_text()))
}

/// Asks for a change. The request has come whole: from here on its connection may last until it is done.
async fn change<T: DeserializeOwned + Default>(
    shared: &Shared,
    ConnectInfo(life): Connection,
    body: Body,
    request: impl FnOnce(T) -> Request,
) -> Result<Response, Refusal> {
    let body = body.map_err(|error| Refusal(error.status(), error.body_text()))?;
    let wanted = if body.is_empty() { Ok(T::default()) } else { serde_json::from_slice(&body) };
    let wanted = wanted.map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("the body: {error}")))?;
    let _place = shared.changes.try_acquire().map_err(|_| ControlError::Busy)?;
    life.last(MAX_CHANGE + MAX_LIFE);
    let done = timeout(MAX_CHANGE, shared.served.control.ask("admin", request(wanted))).await;
    life.last(MAX_LIFE);
    match done {
        Ok(changes) => Ok(Json(json!({"changes": changes?})).into_response()),
        Err(_) => {
            let text = "it takes long and goes on: /v1/audit tells what comes of it";
            Err(Refusal(StatusCode::GATEWAY_TIMEOUT, text.to_owned()))
        }
    }
}
