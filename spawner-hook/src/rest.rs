//! The HTTP face: who calls is settled before the body is read, and every answer is the patch or a problem.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::routing::post;
use http::{StatusCode, header};

use crate::observe::Observations;
use crate::patch::PodPatch;
use crate::problem::SpawnError;
use crate::request::SpawnRequest;
use crate::spawn::Spawner;

/// Names, paths and one JWT.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Less than the hub waits, so that it hears why.
const SPAWN_DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct Service {
    spawner: Arc<Spawner>,
    observations: Arc<Observations>,
}

/// The routes for hubs.
pub fn router(spawner: Arc<Spawner>, observations: Arc<Observations>) -> Router {
    Router::new()
        .route("/v1/spawn", post(spawn))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Service {
            spawner,
            observations,
        })
}

async fn spawn(State(service): State<Service>, request: Request) -> Result<Json<PodPatch>, SpawnError> {
    let start = Instant::now();
    let answer = tokio::time::timeout(SPAWN_DEADLINE, answer(&service.spawner, request))
        .await
        .unwrap_or(Err(SpawnError::Deadline));
    let code = answer.as_ref().map_or_else(|error| error.code().0, |_| "ok");
    service.observations.spawn(code, start.elapsed());
    if let Err(error) = &answer {
        tracing::warn!(code, %error, "spawn refused");
    }
    answer.map(Json)
}

async fn answer(spawner: &Spawner, request: Request) -> Result<PodPatch, SpawnError> {
    let token = bearer(&request).ok_or(SpawnError::Unauthenticated)?;
    spawner.authorise(token).await?;
    let is_json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value
                .split(';')
                .next()
                .is_some_and(|kind| kind.trim() == "application/json")
        });
    if !is_json {
        return Err(SpawnError::Malformed(
            "expected content-type application/json".to_owned(),
        ));
    }
    let body = <Bytes as axum::extract::FromRequest<()>>::from_request(request, &())
        .await
        .map_err(|rejection| {
            SpawnError::Malformed(match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => format!("it is larger than {MAX_BODY_BYTES} bytes"),
                _ => "it could not be read".to_owned(),
            })
        })?;
    let request: SpawnRequest =
        serde_json::from_slice(&body).map_err(|error| SpawnError::Malformed(without_values(&error)))?;
    spawner.spawn(request).await
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let token = value.strip_prefix("Bearer ")?;
    (!token.is_empty()).then_some(token)
}

/// A JSON error may quote a value, and one of the values is a token.
fn without_values(error: &serde_json::Error) -> String {
    let said = error.to_string();
    if said.starts_with("missing field")
        || said.starts_with("unknown field")
        || error.is_syntax()
        || error.is_eof()
    {
        said
    } else {
        format!(
            "a value of the wrong type at line {} column {}",
            error.line(),
            error.column()
        )
    }
}
