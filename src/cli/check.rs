//! `egret check`.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};

use super::{SettingsArgs, data, exit, message, secret};
use crate::{
    decide::{self, Around, Kept, Level, Lint, LintCode, Report, Strictness},
    serve::{StartError, verification},
    store::Store,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  egret check policies --strict --format github           in a workflow: problems and lints at their lines
  egret check policies --strict --allow unresolved-secret where the secrets are elsewhere

A comment `# egret: allow CODE` at the end of a line, or above it, allows a lint there.")]
pub(super) struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The policy: a directory or a file; `policy.dir` when not given
    path: Option<PathBuf>,
    /// Warnings are findings too
    #[arg(long)]
    strict: bool,
    /// As JSON, which is `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// How it is written
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Leave lints of these kinds out
    #[arg(long, value_name = "CODE", value_delimiter = ',', value_parser = code)]
    allow: Vec<LintCode>,
}

/// How findings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// Workflow commands of GitHub Actions
    Github,
    /// For programs
    Json,
}

fn code(text: &str) -> Result<LintCode, String> {
    LintCode::named(text).ok_or_else(|| {
        let known: Vec<&str> = LintCode::ALL.into_iter().map(LintCode::as_str).collect();
        format!("there is no such lint; there are {}", known.join(", "))
    })
}

pub(super) fn check(args: &CheckArgs) -> Result<u8, StartError> {
    // A path that is given is looked at as it is, before somebody signs it; the policy of the settings as `serve`
    // would take it.
    let kept = || kept(&args.settings);
    let sources =
        || args.settings.load().map(|(settings, _)| settings.sources).map_err(|error| error.to_string());
    let around = Around { kept: &kept, sources: &sources };
    let mut report = if let Some(path) = &args.path {
        decide::check(path, None, around)
    } else {
        let settings = args.settings.load()?.0;
        decide::check(&settings.policy, verification(&settings)?.as_ref(), around)
    };
    report.allow(&args.allow);
    let strictness = if args.strict { Strictness::Warnings } else { Strictness::Problems };
    match args.format {
        _ if args.json => data(report.to_json(strictness)),
        Format::Json => data(report.to_json(strictness)),
        Format::Github => github(&report, strictness),
        Format::Text => text(&report),
    }
    Ok(if report.is_ok(strictness) { exit::OK } else { exit::FINDINGS })
}

/// What the store of this machine keeps.
fn kept(settings: &SettingsArgs) -> Kept {
    let names = settings.load().and_then(|(settings, _)| {
        secret::with_store(async { Store::open(&settings.store).await?.secret_names().await })
    });
    names.map_or_else(
        |error| Kept::Unknown(error.to_string()),
        |names| Kept::Names(names.into_iter().collect()),
    )
}

fn text(report: &Report) {
    if let Some(problems) = &report.problems {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        message(problems.render(colour).trim_end());
        let count = problems.count();
        message(format_args!("{count} {}", if count == 1 { "problem" } else { "problems" }));
        return;
    }
    for lint in &report.lints {
        message(format_args!("{}: {}[{}]: {}", lint.at, lint.level.as_str(), lint.code, lint.message));
        if let Some(hint) = &lint.hint {
            message(format_args!("  hint: {hint}"));
        }
    }
    data(summary(report));
}

fn summary(report: &Report) -> String {
    let counts = report.counts;
    let of = |level: Level| report.lints.iter().filter(|lint| lint.level == level).count();
    format!(
        "ok: {} files, {} services, {} guards, {} tenants, {} integrations, {} promises kept, {} warnings, {} infos",
        counts.files,
        counts.services,
        counts.guards,
        counts.tenants,
        counts.integrations,
        counts.tests,
        of(Level::Warning),
        of(Level::Info),
    )
}

/// Workflow commands, which a runner shows at the lines of a change.
fn github(report: &Report, strictness: Strictness) {
    for problem in report.problems.iter().flat_map(decide::Problems::iter) {
        let place = Place { file: &problem.file, line: problem.line, column: problem.column };
        data(command("error", &place, "policy", &problem.message, problem.hint.as_deref()));
    }
    for lint in &report.lints {
        let Lint { code, at, message, hint, .. } = lint;
        let level = match (lint.level, strictness) {
            (Level::Warning, Strictness::Warnings) => "error",
            (Level::Warning, Strictness::Problems) => "warning",
            (Level::Info, _) => "notice",
        };
        let place = Place { file: &at.file, line: at.line, column: at.column };
        data(command(level, &place, code.as_str(), message, hint.as_deref()));
    }
    if report.problems.is_none() {
        data(summary(report));
    }
}

struct Place<'p> {
    file: &'p str,
    line: u32,
    column: u32,
}

/// One workflow command: `::error file=…,line=…,col=…,title=…::message`.
fn command(level: &str, place: &Place<'_>, title: &str, message: &str, hint: Option<&str>) -> String {
    let file = property(&relative(place.file));
    let line =
        if place.line == 0 { String::new() } else { format!(",line={},col={}", place.line, place.column) };
    let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    let text = escape(&format!("{message}{hint}"));
    format!("::{level} file={file}{line},title={}::{text}", property(&format!("egret: {title}")))
}

/// A file as a checkout knows it.
fn relative(file: &str) -> String {
    let here = std::env::current_dir().ok();
    let path = Path::new(file);
    let path = here.as_deref().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path);
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    escape(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workflow_command_escapes_what_would_end_it() {
        let place = Place { file: "./a:b,c%.yaml", line: 3, column: 5 };
        assert_eq!(
            command("error", &place, "policy", "100% of: this,\r\nthat", Some("hint")),
            "::error file=a%3Ab%2Cc%25.yaml,line=3,col=5,title=egret%3A policy::100%25 of: this,%0D%0Athat%0Ahint: hint"
        );
    }
}
