//! Programs that print a secret, as kubectl's credential plugins do.
//!
//! One runs without a shell, in a process group of its own, with a few variables and nothing to read. What it says on
//! standard error goes nowhere: it may repeat what it logged in with. An operator runs it by hand to see it.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    time::SystemTime,
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
};
use zeroize::Zeroizing;

use crate::{
    json,
    secret::Secret,
    settings::{Program, Span},
};

/// The largest output, in bytes.
const LARGEST: usize = 64 * 1024;
/// How deep JSON may be.
const DEPTH: usize = 8;
/// Variables that every program gets.
const ALWAYS: [&str; 2] = ["PATH", "HOME"];

/// What a program handed out.
pub struct Handed {
    /// The secret, without blanks around it.
    pub secret: Secret,
    /// Its end, where it says so.
    pub expires: Option<SystemTime>,
}

/// Why a program handed out nothing. Goes after what the program is called: `exec:NAME`. Holds nothing that it printed.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It is not there, or may not be run.
    #[error("cannot be started: {0}")]
    Start(io::Error),
    /// What it prints cannot be read.
    #[error("cannot be listened to: {0}")]
    Broken(io::Error),
    /// It took too long.
    #[error("did not end within {0}, and was killed with all that it started")]
    Timeout(Span),
    /// It printed more than any secret is long.
    #[error("printed more than {LARGEST} bytes, and was killed with all that it started")]
    TooLarge,
    /// It failed.
    #[error("ended with code {0}; run its command by hand to see what it says")]
    Code(i32),
    /// It was ended.
    #[error("was ended by signal {0}")]
    Signal(i32),
    /// It printed nothing.
    #[error("printed nothing")]
    Empty,
    /// It printed JSON that is meant for egret, and is wrong.
    #[error("printed JSON of its kind, but {0}")]
    Malformed(&'static str),
    /// What it printed is of no use any more.
    #[error("printed a secret whose time is over")]
    Over,
}

impl ExecError {
    /// Whether it may pass by itself.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Timeout(_) | Self::Code(_) | Self::Signal(_) | Self::Over => true,
            // Else the machine has no room for another process just now.
            Self::Start(error) => {
                !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
            }
            Self::TooLarge | Self::Empty | Self::Malformed(_) => false,
        }
    }
}

/// Runs a program and takes what it prints. Dropped, the program is killed with all that it started.
///
/// # Errors
/// When it fails, takes too long, or prints no secret.
pub async fn run(program: &Program) -> Result<Handed, ExecError> {
    let mut running = Running::start(program)?;
    let printed = tokio::time::timeout(program.timeout, running.finish())
        .await
        .map_err(|_| ExecError::Timeout(Span(program.timeout)))??;
    understand(&printed, SystemTime::now())
}

/// A program that runs. Its group is killed when this is dropped, unless it ended by itself.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    fn start(program: &Program) -> Result<Self, ExecError> {
        let (path, arguments) = program.command.split_first().ok_or_else(|| {
            ExecError::Start(io::Error::new(io::ErrorKind::NotFound, "the settings name no program"))
        })?;
        let inherited = ALWAYS.into_iter().chain(program.inherit.iter().map(String::as_str));
        let inherited = inherited.filter_map(|name| Some((name, std::env::var_os(name)?)));
        let child = Command::new(path)
            .args(arguments)
            .env_clear()
            .envs(inherited)
            .envs(&program.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(ExecError::Start)?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { child, group })
    }

    /// What it prints until it ends well.
    async fn finish(&mut self) -> Result<Zeroizing<Vec<u8>>, ExecError> {
        // As large as it may get: what is moved to a larger place leaves a copy behind.
        let mut printed = Zeroizing::new(Vec::with_capacity(LARGEST + 64));
        if let Some(stdout) = self.child.stdout.take() {
            let mut stdout = stdout.take(LARGEST as u64 + 1);
            stdout.read_to_end(&mut printed).await.map_err(ExecError::Broken)?;
        }
        if printed.len() > LARGEST {
            return Err(ExecError::TooLarge);
        }
        // Not waited for before: until then its number, which is the group's, belongs to nobody else.
        let status = self.child.wait().await.map_err(ExecError::Broken)?;
        self.group = None;
        check(status)?;
        Ok(printed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended just now, and everything of its group.
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn check(status: ExitStatus) -> Result<(), ExecError> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(ExecError::Code(code)),
        (None, signal) => Err(ExecError::Signal(signal.unwrap_or_default())),
    }
}

/// A bare secret, kubectl's `ExecCredential`, or `{"secret": …, "expires_at": …}`. Other JSON is a bare secret, such as
/// the key file of a service account.
fn understand(printed: &[u8], now: SystemTime) -> Result<Handed, ExecError> {
    let printed = printed.trim_ascii();
    let members = if printed.first() == Some(&b'{') { json::object(printed, DEPTH) } else { None };
    let (secret, end) = match &members {
        Some(members) if members.get("kind").and_then(Value::as_str) == Some("ExecCredential") => {
            let version = members.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
            if !version.starts_with("client.authentication.k8s.io/") {
                return Err(ExecError::Malformed(
                    "its `apiVersion` is not of `client.authentication.k8s.io`",
                ));
            }
            let status = members.get("status");
            let token = status.and_then(|status| status.get("token")).and_then(Value::as_str);
            let token = token.ok_or(ExecError::Malformed("`status.token` is no text"))?;
            (token.as_bytes(), status.and_then(|status| status.get("expirationTimestamp")))
        }
        Some(members)
            if members.contains_key("secret")
                && members.keys().all(|key| matches!(key.as_str(), "secret" | "expires_at")) =>
        {
            let secret = members.get("secret").and_then(Value::as_str);
            let secret = secret.ok_or(ExecError::Malformed("`secret` is no text"))?;
            (secret.as_bytes(), members.get("expires_at"))
        }
        _ => (printed, None),
    };
    let secret = secret.trim_ascii();
    if secret.is_empty() {
        return Err(ExecError::Empty);
    }
    let expires = match end {
        None | Some(Value::Null) => None,
        Some(end) => {
            let end = end.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
            Some(SystemTime::from(end.ok_or(ExecError::Malformed("its end is no time (RFC 3339)"))?))
        }
    };
    if expires.is_some_and(|end| end <= now) {
        return Err(ExecError::Over);
    }
    Ok(Handed { secret: Secret::new(secret.to_vec()), expires })
}

#[cfg(test)]
mod tests;
