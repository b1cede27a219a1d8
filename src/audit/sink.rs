//! The writer thread: a bounded queue, whole lines, nothing lost in silence.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

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

/// Lines that may wait for the writer.
const QUEUE: usize = 16_384;
/// Lines written between two flushes.
const BATCH: usize = 512;
/// How often a file is compared with its path.
const LOOK_AT_PATH: Duration = Duration::from_millis(500);
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
            if let Err(error) = sink.ready()
                && durability == Durability::Required
            {
                return Err(error);
            }
            sinks.push(sink);
        }
        let (sender, jobs) = mpsc::channel::<Job>();
        let waiting = Arc::new(AtomicUsize::new(0));
        let healthy = Arc::new(AtomicBool::new(true));
        let state = (waiting.clone(), healthy.clone(), metrics.clone());
        thread::Builder::new()
            .name("egret-audit".into())
            .spawn(move || run(&jobs, &mut sinks, durability, &state.0, &state.1, &state.2))?;
        Ok(Self { sender, waiting, healthy, durability, metrics })
    }

    /// Whether the last batch was written.
    pub fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// Queues a line. In `best_effort` a full queue loses it, and counts it.
    pub(super) fn write(&self, line: Vec<u8>) {
        if self.durability == Durability::BestEffort && self.waiting.load(Ordering::Relaxed) >= QUEUE {
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

fn run(
    jobs: &mpsc::Receiver<Job>,
    sinks: &mut [Sink],
    durability: Durability,
    waiting: &AtomicUsize,
    healthy: &AtomicBool,
    metrics: &Metrics,
) {
    let mut batch = Vec::new();
    let mut text = Vec::new();
    while let Ok(first) = jobs.recv() {
        batch.push(first);
        batch.extend(jobs.try_iter().take(BATCH));
        for job in &batch {
            text.extend_from_slice(&job.line);
        }
        let mut written = true;
        for sink in sinks.iter_mut() {
            if let Err(error) = sink.write(&text, durability) {
                written = false;
                if healthy.swap(false, Ordering::AcqRel) {
                    tracing::error!(sink = %sink.kind.name(), %error, "audit sink failed");
                }
            }
        }
        if written && !healthy.swap(true, Ordering::AcqRel) {
            tracing::info!("audit sinks work again");
        }
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

impl SinkKind {
    fn name(&self) -> String {
        match self {
            Self::Stdout => "stdout".into(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// One open sink.
struct Sink {
    kind: SinkKind,
    file: Option<File>,
    looked: Instant,
}

impl Sink {
    fn new(kind: &SinkKind) -> Self {
        Self { kind: kind.clone(), file: None, looked: Instant::now() }
    }

    fn write(&mut self, text: &[u8], durability: Durability) -> io::Result<()> {
        let SinkKind::File(_) = &self.kind else {
            let mut out = io::stdout().lock();
            out.write_all(text)?;
            return out.flush();
        };
        let result = self.write_file(text, durability);
        if result.is_err() {
            self.file = None;
        }
        result
    }

    fn write_file(&mut self, text: &[u8], durability: Durability) -> io::Result<()> {
        self.ready()?;
        let Some(file) = &mut self.file else { return Err(io::Error::other("the sink is closed")) };
        let before = file.metadata().map(|m| (m.is_file(), m.len()))?;
        if let Err(error) = file.write_all(text) {
            // A half line would spoil the next one.
            if before.0 {
                let _ = file.set_len(before.1);
            }
            return Err(error);
        }
        if durability == Durability::Required && before.0 {
            file.sync_data()?;
        }
        Ok(())
    }

    /// Opens the file, again when its path names another one by now.
    fn ready(&mut self) -> io::Result<()> {
        let SinkKind::File(path) = &self.kind else { return Ok(()) };
        if let Some(file) = &self.file
            && self.looked.elapsed() >= LOOK_AT_PATH
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
