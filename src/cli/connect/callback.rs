//! Where the browser comes back to: a page on this machine's loopback address (RFC 8252 §7.3), open for one answer.

use std::{convert::Infallible, net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    credential::{Question, Reply},
    fetch::FetchUrl,
    serve::StartError,
};

/// Where it waits.
pub(super) struct Callback {
    listener: TcpListener,
    uri: String,
    path: String,
}

impl Callback {
    /// Opens it at this URL, or at a free port.
    pub(super) async fn open(redirect_uri: Option<&str>) -> Result<Self, StartError> {
        let (port, path) = match redirect_uri {
            None => (0, "/callback".to_owned()),
            Some(text) => {
                let url = FetchUrl::parse(text).ok().filter(|url| url.is_loopback() && !url.tls);
                let url = url.ok_or_else(|| {
                    StartError::Configuration(
                        "`--redirect-uri` is a URL on this machine, such as `http://localhost:8976/callback`"
                            .to_owned(),
                    )
                })?;
                (url.authority.port, url.path.to_string())
            }
        };
        let unavailable = |error: std::io::Error| StartError::Unavailable(format!("the callback: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(unavailable)?;
        let port = listener.local_addr().map_err(unavailable)?.port();
        let uri = redirect_uri.map_or_else(|| format!("http://127.0.0.1:{port}{path}"), ToOwned::to_owned);
        Ok(Self { listener, uri, path })
    }

    /// Its URL, as the provider is told.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Waits for the answer to this question. Others are told so, and waited past.
    pub(super) async fn answer(self, question: &Question) -> Result<String, String> {
        let (found, mut answers) = mpsc::channel::<Reply>(8);
        let path: Arc<str> = self.path.into();
        let accepting = async {
            loop {
                let Ok((stream, _)) = self.listener.accept().await else { continue };
                let (found, path) = (found.clone(), path.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        let answered = answer(&request, &path, &found);
                        async move { Ok::<_, Infallible>(answered) }
                    });
                    // A browser that goes away is nobody's fault.
                    let _ = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .keep_alive(false)
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        };
        let waiting = async {
            while let Some(reply) = answers.recv().await {
                match reply {
                    Reply::Code { state, code } if question.state.matches(state.as_bytes()) => {
                        return Ok(code);
                    }
                    Reply::Refused { state, error } if question.state.matches(state.as_bytes()) => {
                        return Err(format!("the provider answered `{error}`"));
                    }
                    // Somebody else's: another window, or somebody who guesses.
                    Reply::Code { .. } | Reply::Refused { .. } => {}
                }
            }
            Err("nobody answered".to_owned())
        };
        tokio::select! {
            answer = waiting => answer,
            () = accepting => Err("nobody answered".to_owned()),
        }
    }
}

fn answer(request: &Request<Incoming>, path: &str, found: &mpsc::Sender<Reply>) -> Response<Full<Bytes>> {
    let reply = request.uri().query().and_then(Reply::read);
    let (status, text) = match reply {
        Some(reply) if request.method() == Method::GET && request.uri().path() == path => {
            let text = match &reply {
                Reply::Code { .. } => "egret has the answer. You can close this page.\n",
                Reply::Refused { .. } => "The provider did not agree. You can close this page.\n",
            };
            // More than a few answers are somebody's play.
            let _ = found.try_send(reply);
            (StatusCode::OK, text)
        }
        _ => {
            (StatusCode::NOT_FOUND, "egret waits here for the answer of a provider, and for nothing else.\n")
        }
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
