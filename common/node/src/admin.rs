//! The HTTP listener for operators and the machines that watch the node.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 while the process runs |
//! | `/readyz` | 200 when the node takes traffic, else 503; the checks as JSON |
//! | `/metrics` | OpenMetrics text |
//! | `/version` | program, version, node and role as JSON |
//! | `/config` | the configuration in force as commented TOML, secrets hidden |
//!
//! Errors are JSON: `{"error":{"code":"not_found","message":"…"}}`. Other crates add their routes with
//! [`Admin::merge`]. There is no authentication: bind it to a loopback or a management network.
//!
//! Bounds: 256 connections at a time ([`MAX_CONNECTIONS`]), a connection without traffic is closed after two minutes.

mod listener;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::address::{AddressError, ListenAddress, bind_tcp};
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::readiness::Readiness;

/// The HTTP library, for the routes of other crates.
pub use axum;
pub use axum::Router;

crate::section! {
    /// The HTTP listener for health checks, metrics and operators. It asks for no password.
    pub struct AdminSection {
        /// Where to listen. Give probes and the metrics collector a way in, and nobody else.
        pub listen: ListenAddress = ListenAddress::Socket(SocketAddr::from(([127, 0, 0, 1], 9935))),
    }
}

/// How many connections may be open at a time; more wait in the backlog.
pub const MAX_CONNECTIONS: usize = 256;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 128;

/// How long answers in flight get once the listener stops.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// What the listener shows.
#[derive(Clone, Debug)]
pub struct AdminParts {
    /// The name of the node.
    pub node: String,
    /// Its role.
    pub role: String,
    /// The metrics.
    pub metrics: Metrics,
    /// The checks.
    pub readiness: Readiness,
    /// The configuration in force, from [`print_commented`](crate::config::print_commented).
    pub config: String,
}

/// A bound listener that does not answer yet.
#[derive(Debug)]
pub struct Admin {
    listener: tokio::net::TcpListener,
    local: SocketAddr,
    router: Router,
}

impl Admin {
    /// Binds the listener. Call it inside the tokio runtime.
    ///
    /// # Errors
    /// The address is in use or cannot be bound.
    pub fn bind(address: &ListenAddress, parts: AdminParts) -> Result<Self, AddressError> {
        const KEY: &str = "admin.listen";
        let failed = |error: std::io::Error| AddressError::Bind {
            key: KEY.to_owned(),
            address: address.to_string(),
            message: error.to_string(),
        };
        let listener = bind_tcp(address, KEY, false, BACKLOG)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            local,
            router: routes(parts),
        })
    }

    /// The address that it listens on, with the port that was chosen for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Adds routes.
    ///
    /// # Panics
    /// Two routes have the same path and method, which is a mistake in the program.
    #[must_use]
    pub fn merge(mut self, routes: Router) -> Self {
        self.router = self.router.merge(routes);
        self
    }

    /// Answers until `stop`, then gives answers in flight a moment.
    ///
    /// Stop it last: probes want an answer while the node drains.
    pub async fn serve(self, stop: CancellationToken) {
        let router = self
            .router
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed);
        let listener = listener::Bounded::new(self.listener, self.local, MAX_CONNECTIONS);
        let serving =
            axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let cut = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_DEADLINE).await;
        };
        tokio::select! {
            result = serving.into_future() => {
                if let Err(error) = result {
                    tracing::error!(%error, "the admin listener ended");
                }
            }
            () = cut => tracing::debug!("admin connections cut"),
        }
    }
}

/// An error answer as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    /// `code` is for programs (`not_found`), `message` for people.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (
            self.status,
            Json(json!({ "error": { "code": self.code, "message": self.message } })),
        )
            .into_response()
    }
}

fn routes(parts: AdminParts) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .route("/config", get(config))
        .with_state(Arc::new(parts))
}

async fn healthz() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

async fn readyz(State(parts): State<Arc<AdminParts>>) -> Response {
    let report = parts.readiness.report();
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}

async fn metrics(State(parts): State<Arc<AdminParts>>) -> Response {
    // Reads /proc and may take milliseconds: not on a thread that serves connections.
    match tokio::task::spawn_blocking(move || parts.metrics.encode()).await {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "metrics could not be written",
            )
            .into_response()
        }
    }
}

async fn version(State(parts): State<Arc<AdminParts>>) -> Response {
    Json(json!({ "name": "headwater", "version": crate::VERSION, "node": parts.node, "role": parts.role })).into_response()
}

async fn config(State(parts): State<Arc<AdminParts>>) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        parts.config.clone(),
    )
        .into_response()
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("there is nothing at {}", uri.path()),
    )
}

async fn method_not_allowed(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{} does not take this method", uri.path()),
    )
}

#[cfg(test)]
mod tests;
