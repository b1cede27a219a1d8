//! What outlives a request: upgraded connections and opaque tunnels.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use crate::{audit::Entry, decide::Grant, standing::Withdrawn};

/// Copy buffers of a tunnel, in bytes: smaller ones cost three times the CPU per byte.
const BUFFER: usize = 64 * 1024;

/// An opaque tunnel whose upstream is connected.
pub struct OpenTunnel {
    pub(super) stream: TcpStream,
    pub(super) entry: Entry,
    pub(super) grant: Grant,
    pub(super) idle: Duration,
    pub(super) drain: CancellationToken,
}

impl OpenTunnel {
    /// Copies both ways until either side ends, nothing moves for too long, the grant is lost, or egret stops.
    pub async fn splice(self, client: Upgraded) {
        let Self { stream, mut entry, mut grant, idle, drain } = self;
        run(TokioIo::new(client), stream, &mut entry, &mut grant, idle, &drain).await;
    }
}

/// Joins both halves of an accepted upgrade (RFC 9110 §7.8).
pub(super) async fn upgraded(
    client: OnUpgrade,
    upstream: OnUpgrade,
    mut entry: Entry,
    mut grant: Grant,
    idle: Duration,
    drain: CancellationToken,
) {
    match tokio::try_join!(client, upstream) {
        Ok((client, upstream)) => {
            run(TokioIo::new(client), TokioIo::new(upstream), &mut entry, &mut grant, idle, &drain).await;
        }
        Err(error) => entry.broke(&error),
    }
}

async fn run<C, U>(
    client: C,
    upstream: U,
    entry: &mut Entry,
    grant: &mut Grant,
    idle: Duration,
    drain: &CancellationToken,
) where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let sent = entry.request_bytes();
    let received = Arc::new(AtomicU64::new(0));
    let mut client = Counted { inner: client, read: sent.clone() };
    let mut upstream = Counted { inner: upstream, read: received.clone() };
    let mut copied =
        std::pin::pin!(copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER));
    let mut lost = std::pin::pin!(grant.standing().lost());
    let mut seen = 0;
    let ended = loop {
        tokio::select! {
            ended = &mut copied => break ended.map(|_| ()),
            withdrawn = &mut lost => break Err(io::Error::other(withdrawn)),
            () = drain.cancelled() => break Err(io::Error::other("egret is stopping")),
            () = tokio::time::sleep(idle) => {
                let now = sent.load(Ordering::Relaxed) + received.load(Ordering::Relaxed);
                if now == seen {
                    break Err(io::Error::new(io::ErrorKind::TimedOut, "nothing moved for too long"));
                }
                seen = now;
            }
        }
    };
    entry.sent(usize::try_from(received.load(Ordering::Relaxed)).unwrap_or(usize::MAX));
    match ended {
        Ok(()) => entry.complete(),
        Err(error) => entry.broke(&error),
    }
}

/// Counts what is read through it.
struct Counted<T> {
    inner: T,
    read: Arc<AtomicU64>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.read.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Ends when the grant is lost.
pub(super) fn lost(mut grant: Grant) -> Pin<Box<dyn Future<Output = Withdrawn> + Send>> {
    Box::pin(async move { grant.standing().lost().await })
}
