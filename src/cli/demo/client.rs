//! The demo's agent: an HTTP/1.1 client that knows two ways through a proxy.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::tls::Trust;

/// An agent with its token.
pub(super) struct Client {
    pub(super) proxy: SocketAddr,
    pub(super) token: String,
    pub(super) authority: CertificateDer<'static>,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Client {
    /// Sends a request: `http://` in absolute form, `https://` through `CONNECT`.
    pub(super) async fn send(&self, method: &str, url: &str) -> io::Result<Answer> {
        let (scheme, rest) = url.split_once("://").ok_or(io::ErrorKind::InvalidInput)?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        #[expect(clippy::disallowed_methods, reason = "this is the agent, not the proxy: it dials the proxy")]
        let mut stream = TcpStream::connect(self.proxy).await?;
        // What a careless agent sends along: its own key.
        let own = "authorization: Bearer agents-own-key\r\naccept: application/json\r\nconnection: close\r\n";
        let identity = format!("proxy-authorization: Bearer {}\r\nx-agent-id: triage-bot\r\n", self.token);
        if scheme == "http" {
            stream
                .write_all(
                    format!("{method} {url} HTTP/1.1\r\nhost: {host}\r\n{identity}{own}\r\n").as_bytes(),
                )
                .await?;
            return answer(stream).await;
        }
        stream
            .write_all(
                format!("CONNECT {host}:443 HTTP/1.1\r\nhost: {host}:443\r\n{identity}\r\n").as_bytes(),
            )
            .await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        if !head.starts_with(b"HTTP/1.1 200") {
            return parse(&head);
        }
        let trust = Trust::only(self.authority.clone()).map_err(io::Error::other)?;
        let config = trust.client().config(true).ok_or(io::ErrorKind::Unsupported)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await?;
        stream
            .write_all(
                format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nx-agent-id: triage-bot\r\n{own}\r\n")
                    .as_bytes(),
            )
            .await?;
        answer(stream).await
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    // A peer that closes without a TLS goodbye after a whole answer is fine here.
    match stream.read_to_end(&mut bytes).await {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => parse(&bytes),
    }
}

fn parse(bytes: &[u8]) -> io::Result<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|l| l.split(' ').nth(1))
        .and_then(|s| s.parse().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    let headers: BTreeMap<String, String> = lines
        .filter_map(|l| l.split_once(": "))
        .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
        .collect();
    let body = if headers.get("transfer-encoding").is_some_and(|t| t == "chunked") {
        unchunk(body)
    } else {
        body.to_owned()
    };
    Ok(Answer { status, headers, body })
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        let Some(chunk) = after.get(..size).filter(|c| !c.is_empty()) else { break };
        body.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    body
}
