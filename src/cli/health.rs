//! `egret health`: the probe of a container without a shell.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use clap::Args;

use super::{ListenArgs, exit, message};
use crate::serve::StartError;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    settings: ListenArgs,
    /// Ask whether it is ready for requests, not only whether it lives
    #[arg(long)]
    ready: bool,
}

pub(super) fn health(args: &HealthArgs) -> Result<u8, StartError> {
    let (settings, _) = args.settings.load()?;
    let address = settings.admin.ok_or_else(|| StartError::Configuration("listen.admin is off".into()))?;
    let path = if args.ready { "/readyz" } else { "/healthz" };
    match ask(reachable(address), path) {
        Ok((true, _)) => Ok(exit::OK),
        Ok((false, said)) => {
            message(said.trim_end());
            Ok(exit::FINDINGS)
        }
        Err(error) => Err(StartError::Unavailable(format!("{address}: {error}"))),
    }
}

/// An address that can be dialled, for one that is only bound.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

fn ask(address: SocketAddr, path: &str) -> std::io::Result<(bool, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(16 * 1024).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((head.split(' ').nth(1) == Some("200"), body.to_owned()))
}
