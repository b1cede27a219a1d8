//! The writer thread: a bounded queue, whole lines, nothing lost in silence.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::Event;
use crate::metrics::Metrics;

/// What happens to a request whose record cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It goes on; the loss is counted (`egret_audit_dropped_total`).
    BestEffort,
    /// It is refused: no record, no request. Files are synchronised to disk (`fdatasync`) for each batch.
    Required,
}

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkKind {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to, opened again when it was rotated or removed.
    File(PathBuf),
}

/// A record was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Unrecorded {
    /// The queue is full.
    #[error("the audit queue is full")]
    Full,
    /// A sink failed.
    #[error("an audit sink failed")]
    Failed,
    /// The sinks did not answer in time.
    #[error("the audit sinks did not answer in time")]
    Late,
}

/// Lines that may wait for the writer. Where records are required, decisions stop here and so do requests; what is
/// written after a decision, or about a refusal, may wait in as much room again.
const QUEUE: usize = 16_384;
/// Lines written at once.
const BATCH: usize = 512;
/// How long lines gather before they are written, where nobody waits for it.
const GATHER: Duration = Duration::from_millis(2);
/// How often a file is compared with its path, where records are not required.
const LOOK_AT_PATH: Duration = Duration::from_millis(500);
/// How often a failed sink is tried while no record comes: readiness may depend on it, and requests on readiness.
const RETRY: Duration = Duration::from_millis(500);
/// So much goes into a pipe whole or not at all (`PIPE_BUF` of Linux).
const PIPE_WHOLE: usize = 4096;
/// How long a required record may take.
const PATIENCE: Duration = Duration::from_secs(2);

struct Job {
    line: Vec<u8>,
    done: Option<oneshot::Sender<bool>>,
}

/// Hands lines to the writer thread.
#[derive(Debug)]
pub struct Writer {
    sender: mpsc::Sender<Job>,
    waiting: Arc<AtomicUsize>,
    healthy: Arc<AtomicBool>,
    durability: Durability,
    metrics: Arc<Metrics>,
    /// The number of the next record; the thread writes records of its own.
    sequence: Arc<AtomicU64>,
}

impl Writer {
    /// Opens the sinks and starts the thread.
    ///
    /// # Errors
    /// When a file cannot be opened and records are required.
    pub fn start(kinds: &[SinkKind], durability: Durability, metrics: Arc<Metrics>) -> io::Result<Self> {
        let mut sinks = Vec::new();
        for kind in kinds {
            let mut sink = Sink::new(kind);
            if let Err(error) = sink.ready(durability)
                && durability == Durability::Required
            {
                return Err(error);
            }
            sinks.push(sink);
        }
        let (sender, jobs) = mpsc::channel::<Job>();
        let waiting = Arc::new(AtomicUsize::new(0));
        let healthy = Arc::new(AtomicBool::new(true));
        let sequence = Arc::new(AtomicU64::new(1));
        let sinks = Sinks { all: sinks, durability, healthy: healthy.clone(), sequence: sequence.clone() };
        let state = (waiting.clone(), metrics.clone());
        thread::Builder::new()
            .name("egret-audit".into())
            .spawn(move || run(&jobs, sinks, &state.0, &state.1))?;
        Ok(Self { sender, waiting, healthy, durability, metrics, sequence })
    }

    /// Whether the last batch was written.
    pub fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// A number for a record.
    pub(super) fn number(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Queues a line. A full queue loses it, and counts it.
    pub(super) fn write(&self, line: Vec<u8>) {
        let room = match self.durability {
            Durability::BestEffort => QUEUE,
            Durability::Required => 2 * QUEUE,
        };
        if self.waiting.load(Ordering::Relaxed) >= room {
            self.metrics.audit_dropped();
            return;
        }
        self.send(Job { line, done: None });
    }

    /// Queues a decision. With `required` waits until it is written.
    pub(super) async fn record(&self, line: Vec<u8>) -> Result<(), Unrecorded> {
        if self.durability == Durability::BestEffort {
            self.write(line);
            return Ok(());
        }
        if self.waiting.load(Ordering::Relaxed) >= QUEUE {
            return Err(Unrecorded::Full);
        }
        let (done, answer) = oneshot::channel();
        self.send(Job { line, done: Some(done) });
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(true)) => Ok(()),
            Ok(_) => Err(Unrecorded::Failed),
            Err(_) => Err(Unrecorded::Late),
        }
    }

    fn send(&self, job: Job) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.sender.send(job).is_err() {
            self.metrics.audit_dropped();
        }
    }

    /// Writes out the queue, waiting at most a few seconds.
    pub(super) fn close(&self) {
        let patience = Instant::now() + PATIENCE;
        while self.waiting.load(Ordering::Acquire) > 0 && Instant::now() < patience {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn run(jobs: &mpsc::Receiver<Job>, mut sinks: Sinks, waiting: &AtomicUsize, metrics: &Metrics) {
    let mut batch = Vec::new();
    let mut text = Vec::new();
    loop {
        let first = if sinks.healthy() {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            jobs.recv_timeout(RETRY)
        };
        match first {
            Ok(first) => batch.push(first),
            Err(RecvTimeoutError::Timeout) => {
                sinks.retry();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if sinks.durability == Durability::BestEffort {
            // Lines gather while it sleeps: otherwise each would wake this thread and be a write of its own.
            thread::sleep(GATHER);
        }
        batch.extend(jobs.try_iter().take(BATCH));
        for job in &batch {
            text.extend_from_slice(&job.line);
        }
        let written = sinks.write(&text, batch.len() as u64);
        for job in batch.drain(..) {
            if !written {
                metrics.audit_dropped();
            }
            if let Some(done) = job.done {
                let _ = done.send(written);
            }
            waiting.fetch_sub(1, Ordering::Release);
        }
        text.clear();
        text.shrink_to(1 << 20);
    }
}

/// All sinks, and whether they work.
struct Sinks {
    all: Vec<Sink>,
    durability: Durability,
    healthy: Arc<AtomicBool>,
    sequence: Arc<AtomicU64>,
}

impl Sinks {
    fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// Writes `records` lines to every sink; says whether all of them took all.
    fn write(&mut self, text: &[u8], records: u64) -> bool {
        let mut written = true;
        for sink in &mut self.all {
            if let Err(error) = sink.write(text, records, self.durability, &self.sequence) {
                written = false;
                if self.healthy.swap(false, Ordering::AcqRel) {
                    tracing::error!(sink = %sink.kind.name(), %error, "audit sink failed");
                }
            }
        }
        if written && !self.healthy.swap(true, Ordering::AcqRel) {
            tracing::info!("audit sinks work again");
        }
        written
    }

    /// Tells the sinks that failed what they missed; if all take it, all is well again.
    fn retry(&mut self) {
        self.write(&[], 0);
    }
}

impl SinkKind {
    fn name(&self) -> String {
        match self {
            Self::Stdout => "stdout".into(),
            Self::Stderr => "stderr".into(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// One open sink.
struct Sink {
    kind: SinkKind,
    file: Option<File>,
    looked: Instant,
    /// Records that it did not take since it last took one. It is told so first.
    missed: u64,
}

impl Sink {
    fn new(kind: &SinkKind) -> Self {
        Self { kind: kind.clone(), file: None, looked: Instant::now(), missed: 0 }
    }

    fn write(
        &mut self,
        text: &[u8],
        records: u64,
        durability: Durability,
        sequence: &AtomicU64,
    ) -> io::Result<()> {
        let result = match self.missed {
            0 => self.put(text, durability),
            dropped => {
                let number = sequence.fetch_add(1, Ordering::Relaxed);
                let mut all = Event::AuditResumed { dropped }.line(number);
                all.extend_from_slice(text);
                self.put(&all, durability)
            }
        };
        match result {
            Ok(()) => self.missed = 0,
            Err(_) => self.missed += records,
        }
        result
    }

    fn put(&mut self, text: &[u8], durability: Durability) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        match &self.kind {
            SinkKind::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(text)?;
                out.flush()
            }
            SinkKind::Stderr => io::stderr().lock().write_all(text),
            SinkKind::File(_) => {
                let result = self.put_into_file(text, durability);
                if result.is_err() {
                    self.file = None;
                }
                result
            }
        }
    }

    fn put_into_file(&mut self, text: &[u8], durability: Durability) -> io::Result<()> {
        self.ready(durability)?;
        let Some(file) = &mut self.file else { return Err(io::Error::other("the sink is closed")) };
        let before = file.metadata()?;
        if !before.is_file() {
            return lines(text, PIPE_WHOLE).try_for_each(|piece| file.write_all(piece));
        }
        if let Err(error) = file.write_all(text) {
            // A half line would spoil the next one.
            let _ = file.set_len(before.len());
            return Err(error);
        }
        if durability == Durability::Required {
            file.sync_data()?;
        }
        Ok(())
    }

    /// Opens the file, again when its path names another one by now.
    fn ready(&mut self, durability: Durability) -> io::Result<()> {
        let SinkKind::File(path) = &self.kind else { return Ok(()) };
        // A required record must not go into a file that nobody can find any more.
        if let Some(file) = &self.file
            && (durability == Durability::Required || self.looked.elapsed() >= LOOK_AT_PATH)
        {
            self.looked = Instant::now();
            if !same_file(file, path) {
                tracing::warn!(path = %path.display(), "audit file was moved or removed, opening it again");
                self.file = None;
            }
        }
        if self.file.is_none() {
            // Not blocking: a FIFO without a reader must not hang the writer.
            let opened = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o640)
                .custom_flags(O_NONBLOCK)
                .open(path)?;
            self.file = Some(opened);
            self.looked = Instant::now();
        }
        Ok(())
    }
}

/// `O_NONBLOCK` of Linux; the same value on every Linux architecture that Rust's tier 1 and 2 name, but MIPS and SPARC.
#[cfg(target_os = "linux")]
const O_NONBLOCK: i32 = 0o4000;
#[cfg(not(target_os = "linux"))]
const O_NONBLOCK: i32 = 0x0004;

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() == named.ino() && open.dev() == named.dev(),
        _ => false,
    }
}

/// Whole lines together, as many as fit into `most` bytes; a longer line alone.
fn lines(mut text: &[u8], most: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let end_of_line = |text: &[u8]| text.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let fitting = text.get(..most.min(text.len())).unwrap_or_default();
        let end = fitting
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map(|at| at + 1)
            .or_else(|| end_of_line(text))
            .unwrap_or(text.len());
        let (piece, rest) = text.split_at(end);
        text = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_into_a_pipe_whole() {
        let cut = |text: &str, most| -> Vec<String> {
            lines(text.as_bytes(), most).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
        };
        assert_eq!(cut("aa\nbb\ncc\n", 6), ["aa\nbb\n", "cc\n"]);
        assert_eq!(cut("aa\nbb\ncc\n", 5), ["aa\n", "bb\n", "cc\n"]);
        assert_eq!(cut("a long line\nb\n", 4), ["a long line\n", "b\n"]);
        assert_eq!(cut("", 4), [""; 0]);
    }
}
