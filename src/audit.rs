//! The decision log: who asked for what, what was decided and why, and how it ended.
//!
//! An [`Entry`] is opened with the request, travels inside it, and writes itself on every way out, also when
//! it is dropped half way. One `decision` line goes out before anything leaves; one `outcome` line after.
//! Never in a line: a token, a header value, a query value, a body.

mod entry;
mod event;
mod line;
mod sink;

pub(crate) use entry::chain;
pub use entry::{Arrived, Credential, Entry, Granted, LimitState, Rpc, Upstream};
pub use event::Event;
pub use sink::{Durability, SinkKind, Unrecorded, Writer};

use std::sync::Arc;

use crate::metrics::Metrics;

/// Opens entries and takes records. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    writer: Writer,
    metrics: Arc<Metrics>,
    nobody: Arc<str>,
}

impl Audit {
    /// An audit that writes to `writer`.
    pub fn new(writer: Writer, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Shared { writer, metrics, nobody: "".into() }))
    }

    /// Opens the entry of one request.
    pub fn open(&self, arrived: Arrived) -> Entry {
        Entry::open(self.clone(), arrived)
    }

    /// Writes a management event: `policy_loaded`, `policy_rejected`, `jwks_stale`, …
    pub fn event(&self, event: &Event<'_>) {
        self.0.writer.write(event.line(self.next()));
    }

    /// Whether the sinks take records.
    pub fn healthy(&self) -> bool {
        self.0.writer.healthy()
    }

    /// Writes out what is queued and ends the writer. Blocks until it is done.
    pub fn close(&self) {
        self.0.writer.close();
    }

    fn next(&self) -> u64 {
        self.0.writer.number()
    }
}
