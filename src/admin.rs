//! Health, metrics and the pages on which people connect integrations, on a listener of their own that no proxied
//! request can reach.

mod connect;

pub use connect::{Connect, links};

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::{listen::Lifecycle, metrics::Metrics};

/// What is asked about readiness.
pub type Ask = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// How ready egret is.
#[derive(Debug, Default)]
pub struct Readiness {
    /// What is still missing: while something is, egret is not ready.
    pub pending: Vec<String>,
    /// What an operator should see to, although egret is ready.
    pub notes: Vec<String>,
}

/// Connections at the same time.
const CONNECTIONS: usize = 64;

/// The admin listener.
#[derive(Clone)]
pub struct Admin {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// How ready the rooms are.
    pub readiness: Ask,
    /// Where people connect integrations; none where that is off.
    pub connect: Option<Connect>,
    /// Whether egret is going down.
    pub life: Lifecycle,
}

impl Admin {
    /// Serves until egret stops; readiness ends when draining begins.
    pub async fn run(self, socket: TcpListener) {
        let free = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
        loop {
            let Ok(free) = free.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = self.life.stop.cancelled() => return,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let this = self.clone();
            tokio::spawn(async move {
                let _free = free;
                let service = service_fn(move |request| {
                    let this = this.clone();
                    async move { Ok::<_, Infallible>(this.answer(request).await) }
                });
                let timeout = std::time::Duration::from_secs(10);
                // A client that goes away is nobody's fault.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(timeout)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if let Some(connect) = &self.connect
            && request.uri().path().starts_with("/connect/")
        {
            return connect.answer(request).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into());
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok\n".into()),
            "/readyz" => self.ready(),
            "/metrics" => {
                let mut answer = text(StatusCode::OK, self.metrics.text());
                let kind =
                    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
                answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                answer
            }
            _ => text(StatusCode::NOT_FOUND, "/healthz, /readyz and /metrics are here\n".into()),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let Readiness { mut pending, notes } = (self.readiness)();
        if self.life.drain.is_cancelled() {
            pending.push("draining".into());
        }
        if pending.is_empty() {
            let notes: String = notes.iter().flat_map(|note| ["note: ", note, "\n"]).collect();
            return text(StatusCode::OK, format!("ready\n{notes}"));
        }
        text(StatusCode::SERVICE_UNAVAILABLE, format!("pending: {}\n", pending.join(", ")))
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admin(..)")
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
