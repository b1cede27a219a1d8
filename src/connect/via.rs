//! A corporate proxy between egret and the world: every connection goes through its `CONNECT`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::DialError;
use crate::{
    secret::Secret,
    target::{Authority, Host},
};

/// Longest head of the proxy's answer, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;

/// The proxy that egret itself goes through. Set by the operator only, never taken from the environment: a
/// sidecar may inherit an `HTTPS_PROXY` that points at itself.
#[derive(Debug)]
pub struct CorporateProxy {
    /// Where it listens.
    pub address: Authority,
    /// `user:password`, when it wants one.
    pub credentials: Option<Secret>,
    /// Hosts that are dialled directly: exact names, or `.suffix` for a domain and what is below it.
    pub except: Vec<String>,
}

impl CorporateProxy {
    /// Whether connections to this host go through the proxy.
    pub(super) fn serves(&self, host: &Host) -> bool {
        let Some(name) = host.name() else { return true };
        !self.except.iter().any(|except| match except.strip_prefix('.') {
            Some(domain) => name == domain || name.ends_with(except.as_str()),
            None => name == except,
        })
    }

    /// Asks the proxy on `stream` to connect to `to` (RFC 9110 §9.3.6).
    pub(super) async fn connect(&self, stream: &mut TcpStream, to: &Authority) -> Result<(), DialError> {
        let mut head = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if let Some(credentials) = &self.credentials {
            #[expect(
                clippy::disallowed_methods,
                reason = "the corporate proxy's own credential, written to that proxy only"
            )]
            let encoded = STANDARD.encode(credentials.expose());
            head.push_str("Proxy-Authorization: Basic ");
            head.push_str(&encoded);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        let broken = |error: std::io::Error| DialError::Unreachable(format!("the upstream proxy: {error}"));
        stream.write_all(head.as_bytes()).await.map_err(broken)?;
        // One byte at a time: what follows the head belongs to the tunnel.
        let mut answer = Vec::with_capacity(256);
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= LONGEST_HEAD {
                return Err(DialError::Unreachable("the upstream proxy: its answer is too long".into()));
            }
            answer.push(stream.read_u8().await.map_err(broken)?);
        }
        let status = answer.split(|b| *b == b' ').nth(1).and_then(|s| std::str::from_utf8(s).ok());
        match status {
            Some(status) if status.len() == 3 && status.starts_with('2') => Ok(()),
            Some(status) if status.bytes().all(|b| b.is_ascii_digit()) => {
                Err(DialError::Unreachable(format!("the upstream proxy answered {status}")))
            }
            _ => Err(DialError::Unreachable("the upstream proxy: its answer is not HTTP".into())),
        }
    }
}
