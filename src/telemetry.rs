//! Diagnostics on standard error. Decisions go to the decision log, not here.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::{
    Layer as _,
    filter::{Targets, filter_fn},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Starts diagnostics with this filter: a level, or targets with levels (`info`, `warn,egret=debug`).
///
/// Libraries are held at `info` whatever the filter says: at `trace` they print what passes through them.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(filter: &str) -> Result<(), String> {
    let filter: Targets = filter.parse().map_err(|e| format!("log: {e}"))?;
    let ours_or_calm = filter_fn(|meta| meta.target().starts_with("egret") || *meta.level() <= Level::INFO);
    let tty = std::io::stderr().is_terminal();
    let colour = tty && std::env::var_os("NO_COLOR").is_none();
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colour).with_target(false);
    // A second start, as in tests, keeps the first.
    let _ = tracing_subscriber::registry().with(lines.with_filter(ours_or_calm)).with(filter).try_init();
    Ok(())
}
