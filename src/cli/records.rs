//! Decisions, read back from a log as it was written: line by line, and never more in memory than one line.

mod said;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _, Read as _},
    path::PathBuf,
};

use clap::Args;
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{message, route::template};
use crate::{
    context::{AgentId, CorrelationId, IntegrationId, RoleId, ServiceId, TenantId},
    serve::StartError,
    settings::parse_span,
    target::{Authority, Host, Path, Scheme},
};
pub(super) use said::Said;

/// The longest line that is read; egret writes none of this length.
const LONGEST: u64 = 1 << 20;
/// Where the log cuts a path.
const CUT: usize = 1024;

/// Which log is read.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// Decision logs, as egret wrote them; standard input when not given, or `-`
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only what was decided since then: `24h`, `7d`, or a time such as `2026-11-24T10:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<OffsetDateTime>,
}

/// A request that left egret: one that was allowed, or one that shadow mode let through.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) at: String,
    pub(super) id: String,
    pub(super) correlation_id: Option<CorrelationId>,
    pub(super) tenant: TenantId,
    pub(super) agent: AgentId,
    /// What enforcing would have said; none where it was allowed.
    pub(super) objection: Option<Objection>,
    pub(super) integration: Option<IntegrationId>,
    pub(super) service: Option<ServiceId>,
    /// How the service is reached; TLS where there is none.
    pub(super) scheme: Scheme,
    pub(super) role: Option<RoleId>,
    /// Kind and reference of what was attached.
    pub(super) credential: Option<String>,
    pub(super) method: String,
    pub(super) place: Place,
    pub(super) path: Path,
    /// Whether the path goes on.
    pub(super) cut: bool,
    /// What its body asked for, where egret looked.
    pub(super) said: Said,
}

/// Why a request would have been refused.
#[derive(Debug)]
pub(super) struct Objection {
    pub(super) code: String,
    pub(super) reason: String,
    pub(super) guards: Vec<String>,
}

/// A host and its port, as a service writes them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) host: Host,
    /// None where it goes without saying: 80 and 443.
    pub(super) port: Option<u16>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Lines in all.
    pub(super) lines: u64,
    /// Lines that are no record.
    pub(super) broken: u64,
    /// Requests that left egret.
    pub(super) decisions: u64,
    /// The first and the last of them.
    pub(super) span: Option<(String, String)>,
}

impl Decision {
    /// The path by its shape; what the log cut off is `**`.
    pub(super) fn route(&self) -> String {
        let template = template(&self.path);
        if self.cut { format!("{}/**", template.trim_end_matches('/')) } else { template }
    }
}

impl LogArgs {
    /// Hands every request that left egret to `take`. Lines that are no records are counted and said.
    pub(super) fn read(&self, mut take: impl FnMut(Decision)) -> Result<Tally, StartError> {
        let mut tally = Tally::default();
        let standard = [PathBuf::from("-")];
        let files = if self.files.is_empty() { &standard[..] } else { &self.files };
        for file in files {
            let failed = |error: io::Error| StartError::Unavailable(format!("{}: {error}", file.display()));
            if file.as_os_str() == "-" {
                if io::stdin().is_terminal() {
                    message("reading the decision log from standard input");
                }
                self.lines(&mut io::stdin().lock(), &mut tally, &mut take).map_err(failed)?;
            } else {
                let mut reader = BufReader::new(File::open(file).map_err(failed)?);
                self.lines(&mut reader, &mut tally, &mut take).map_err(failed)?;
            }
        }
        if tally.broken > 0 {
            message(format_args!("{} of {} lines are no records", tally.broken, tally.lines));
        }
        Ok(tally)
    }

    fn lines(
        &self,
        reader: &mut impl BufRead,
        tally: &mut Tally,
        take: &mut impl FnMut(Decision),
    ) -> io::Result<()> {
        let mut line = Vec::new();
        while next_line(reader, &mut line)? {
            if line.trim_ascii().is_empty() {
                continue;
            }
            tally.lines += 1;
            match parse(&line) {
                Some(Line::Left(at, decision)) => {
                    if self.since.is_none_or(|since| at >= since) {
                        tally.count(&decision.at);
                        take(*decision);
                    }
                }
                Some(Line::Other) => {}
                None => tally.broken += 1,
            }
        }
        Ok(())
    }
}

impl Tally {
    fn count(&mut self, at: &str) {
        self.decisions += 1;
        let (first, last) = self.span.get_or_insert_with(|| (at.to_owned(), at.to_owned()));
        // All of them are in UTC and of one length, so they sort as texts.
        if at < first.as_str() {
            at.clone_into(first);
        }
        if at > last.as_str() {
            at.clone_into(last);
        }
    }
}

/// Reads a line; what is over the limit is skipped, and what is left of it is no record. False at the end.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let read = reader.by_ref().take(LONGEST).read_until(b'\n', line)?;
    let mut whole = line.ends_with(b"\n") || (read as u64) < LONGEST;
    while !whole {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        whole = end.is_some() || buffer.is_empty();
        let skipped = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(skipped);
    }
    Ok(read > 0)
}

enum Line {
    /// A request that left egret, and when.
    Left(OffsetDateTime, Box<Decision>),
    /// A record of something else.
    Other,
}

/// As far as it is needed here; everything else is ignored.
#[derive(Deserialize)]
struct Record {
    event: String,
    #[serde(default)]
    ts: String,
    #[serde(default)]
    decision_id: String,
    correlation_id: Option<String>,
    tenant_id: Option<String>,
    agent_id: Option<String>,
    #[serde(default)]
    decision: String,
    #[serde(default = "yes")]
    enforced: bool,
    code: Option<String>,
    reason: Option<String>,
    policy: Option<RecordedPolicy>,
    integration_id: Option<String>,
    service: Option<String>,
    upstream_scheme: Option<String>,
    role: Option<String>,
    credential: Option<RecordedCredential>,
    http: Option<RecordedRequest>,
    mcp: Option<said::Rpc>,
    #[serde(default)]
    graphql: Vec<String>,
}

#[derive(Deserialize)]
struct RecordedPolicy {
    #[serde(default)]
    guards: Vec<String>,
}

#[derive(Deserialize)]
struct RecordedCredential {
    kind: String,
    #[serde(rename = "ref")]
    reference: String,
}

#[derive(Deserialize)]
struct RecordedRequest {
    request_method: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<String>,
    response_status_code: Option<u16>,
}

fn yes() -> bool {
    true
}

/// Understands a line. None where it is no record of egret's: anybody may have written into the log, so everything
/// is parsed again as it was when it first came in.
fn parse(line: &[u8]) -> Option<Line> {
    let record: Record = serde_json::from_slice(line).ok()?;
    let Some(http) = record.http.filter(|_| record.event == "decision") else { return Some(Line::Other) };
    let shadowed = record.decision == "deny" && !record.enforced;
    // A status in a decision is a refusal's: the upstream has not answered yet.
    if http.response_status_code.is_some() || !(record.decision == "allow" || shadowed) {
        return Some(Line::Other);
    }
    let at = OffsetDateTime::parse(&record.ts, &Rfc3339).ok()?;
    let objection = if shadowed {
        Some(Objection {
            code: word(record.code?, 64)?,
            reason: plain(&record.reason.unwrap_or_default()),
            guards: record
                .policy
                .map_or_else(Vec::new, |policy| policy.guards.iter().take(16).map(|g| plain(g)).collect()),
        })
    } else {
        None
    };
    let port = http.port.filter(|port| !matches!(port, 0 | 80 | 443));
    // Read again with the port: a host that holds one is no host.
    let host = Authority::parse(&http.host?, Some(443)).ok().filter(|to| to.port == 443)?.host;
    let (path, cut) = path(&http.path?)?;
    Some(Line::Left(
        at,
        Box::new(Decision {
            at: utc(at)?,
            id: word(record.decision_id, 64)?,
            correlation_id: record.correlation_id.as_deref().map(CorrelationId::parse).transpose().ok()?,
            tenant: TenantId::parse(&record.tenant_id?).ok()?,
            agent: AgentId::parse(&record.agent_id?).ok()?,
            objection,
            integration: record.integration_id.as_deref().map(IntegrationId::parse).transpose().ok()?,
            service: record.service.as_deref().map(ServiceId::parse).transpose().ok()?,
            scheme: match record.upstream_scheme.as_deref() {
                Some("http") => Scheme::Http,
                Some("https") | None => Scheme::Https,
                Some(_) => return None,
            },
            role: record.role.as_deref().map(RoleId::parse).transpose().ok()?,
            credential: record.credential.map(|c| plain(&format!("{} {}", c.kind, c.reference))),
            method: word(http.request_method?, 32)?,
            place: Place { host, port },
            path,
            cut,
            said: Said::read(record.mcp, &record.graphql)?,
        }),
    ))
}

/// A path of which the log has the beginning ends before its last segment: that one may be half.
fn path(text: &str) -> Option<(Path, bool)> {
    if text.contains(['?', '#']) {
        return None;
    }
    if text.len() < CUT {
        return Path::parse(text).ok().map(|path| (path, false));
    }
    let whole = text.rsplit_once('/').map(|(whole, _)| whole).filter(|whole| !whole.is_empty());
    Path::parse(whole.unwrap_or("/")).ok().map(|path| (path, true))
}

/// A short text of visible characters: safe to show.
fn word(text: String, longest: usize) -> Option<String> {
    let fits = (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then_some(text)
}

/// A text without what would move a terminal's cursor or end a comment.
fn plain(text: &str) -> String {
    let shown = text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}'));
    shown.take(400).collect::<String>().trim().to_owned()
}

/// In UTC and whole seconds.
fn utc(at: OffsetDateTime) -> Option<String> {
    let at = at.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).ok()?;
    at.format(&Rfc3339).ok()
}

fn since(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(at);
    }
    let span = parse_span(text)
        .map_err(|_| "a span such as `24h` or `7d`, or a time such as `2026-11-24T10:00:00Z`".to_owned())?;
    Ok(OffsetDateTime::now_utc() - span)
}

/// Reads a log that is a text.
#[cfg(test)]
pub(super) fn read_text(text: &str, mut take: impl FnMut(Decision)) -> Tally {
    let mut tally = Tally::default();
    let log = LogArgs { files: Vec::new(), since: None };
    log.lines(&mut text.as_bytes(), &mut tally, &mut take).unwrap();
    tally
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut record = json!({
            "v": 1, "ts": "2026-11-24T10:05:13.774398Z", "event": "decision", "decision_id": "01M86G",
            "correlation_id": "run-1", "tenant_id": "acme", "agent_id": "bot", "decision": "deny",
            "enforced": false, "code": "destination_not_allowed", "reason": "x",
            "policy": {"revision": "r", "hash": "h", "rule": null, "grant": null, "guards": []},
            "http": {"request_method": "GET", "scheme": "https", "host": "api.x.example", "port": 443,
                     "path": "/a", "response_status_code": null},
        });
        change(&mut record);
        record.to_string().into_bytes()
    }

    fn left(line: &[u8]) -> Option<Decision> {
        match parse(line) {
            Some(Line::Left(_, decision)) => Some(*decision),
            _ => None,
        }
    }

    #[test]
    fn what_left_is_told_from_what_did_not() {
        let decision = left(&record(|_| {})).unwrap();
        assert_eq!(decision.at, "2026-11-24T10:05:13Z");
        assert_eq!(decision.objection.unwrap().code, "destination_not_allowed");
        let allowed = left(&record(|r| {
            r["decision"] = json!("allow");
            r["enforced"] = json!(true);
        }));
        assert!(allowed.unwrap().objection.is_none());
        let changes: [fn(&mut Value); 6] = [
            |r| r["event"] = json!("outcome"),
            |r| r["event"] = json!("policy_loaded"),
            |r| r["enforced"] = json!(true),
            |r| r["decision"] = json!("fail"),
            |r| r["http"]["response_status_code"] = json!(403),
            |r| drop(r.as_object_mut().unwrap().remove("http")),
        ];
        for change in changes {
            let line = record(change);
            assert!(matches!(parse(&line), Some(Line::Other)), "{}", String::from_utf8_lossy(&line));
        }
    }

    #[test]
    fn what_egret_would_not_write_is_no_record() {
        let changes: [fn(&mut Value); 15] = [
            |r| r["ts"] = json!("yesterday"),
            |r| r["tenant_id"] = json!("../x"),
            |r| r["agent_id"] = json!("a b"),
            |r| r["agent_id"] = Value::Null,
            |r| r["code"] = json!("a\u{1b}[31m"),
            |r| r["http"]["host"] = json!("x y"),
            |r| r["http"]["host"] = json!("x.example:8443"),
            |r| r["http"]["path"] = json!("/a/../b"),
            |r| r["http"]["path"] = json!("/a?b=c"),
            |r| r["http"]["path"] = json!("/a#b"),
            |r| r["http"]["request_method"] = json!("G ET"),
            |r| r["correlation_id"] = json!("a\nb"),
            |r| r["upstream_scheme"] = json!("ftp"),
            |r| r["mcp"] = json!({"method": "tools/call", "messages": 1}),
            |r| r["graphql"] = json!(["viewer"]),
        ];
        for change in changes {
            let line = record(change);
            assert!(parse(&line).is_none(), "{}", String::from_utf8_lossy(&line));
        }
        for text in ["", "{", "[]", "null", "{}", "\u{fffd}"] {
            assert!(parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_cut_path_ends_before_its_half_segment() {
        let long = format!("/a/b/{}%4", "x".repeat(1017));
        assert_eq!(long.len(), 1024);
        let decision = left(&record(|r| r["http"]["path"] = json!(long))).unwrap();
        assert_eq!((decision.path.as_str(), decision.cut), ("/a/b", true));
        assert_eq!(decision.route(), "/a/b/**");
        let first = left(&record(|r| r["http"]["path"] = json!(format!("/{}", "x".repeat(1023)))));
        assert_eq!(first.unwrap().route(), "/**");
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_and_the_next_one_read() {
        let longest = usize::try_from(LONGEST).unwrap();
        let mut text = vec![b'x'; longest + 100];
        text.extend_from_slice(b"\nnext\nlast");
        let mut reader = BufReader::with_capacity(64, text.as_slice());
        let (mut line, mut lines) = (Vec::new(), Vec::new());
        while next_line(&mut reader, &mut line).unwrap() {
            lines.push(line.len());
        }
        assert_eq!(lines, [longest, 5, 4]);
    }

    #[test]
    fn since_is_a_span_or_a_time() {
        assert_eq!(since("2026-11-24T10:00:00Z").unwrap().unix_timestamp(), 1_795_514_400);
        let then = since("24h").unwrap();
        let day = OffsetDateTime::now_utc() - then;
        assert_eq!(day.whole_hours(), 24);
        assert!(since("yesterday").is_err());
    }
}
