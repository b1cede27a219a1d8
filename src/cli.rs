//! The command line: data on standard output, messages on standard error, exit codes that mean something.

mod bundle;
mod ca;
mod catalog;
mod check;
mod config;
mod connect;
mod demo;
mod diff;
mod env;
mod fmt;
mod health;
mod learn;
mod policy;
mod records;
mod rollout;
mod route;
mod run;
mod secret;
mod serve;
mod shadow;
mod token;

use std::{collections::BTreeMap, io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::{
    serve::StartError,
    settings::{BadSettings, Given, Settings, Shown},
};

/// Exit codes, after `sysexits.h`.
pub(crate) mod exit {
    /// All is well.
    pub(crate) const OK: u8 = 0;
    /// There are findings.
    pub(crate) const FINDINGS: u8 = 1;
    /// A dependency is not available (`EX_UNAVAILABLE`).
    pub(crate) const UNAVAILABLE: u8 = 69;
    /// The system does not permit it (`EX_NOPERM`).
    pub(crate) const NOT_PERMITTED: u8 = 77;
    /// The configuration is not valid (`EX_CONFIG`).
    pub(crate) const CONFIGURATION: u8 = 78;
}

#[derive(Debug, Parser)]
#[command(
    name = "egret",
    version,
    about = "The egress proxy that keeps the secret",
    max_term_width = 100,
    after_help = "\
Examples:
  egret demo                                     see it work, with nothing else installed
  egret check policies                           check policy files, in CI
  egret diff policies.main policies              what a change of them means
  egret serve                                    run the proxy
  egret run --as acme/triage-bot -- ./agent.py   run an agent through it

Exit codes: 0 ok, 1 findings, 2 usage, 69 dependency unavailable, 77 not permitted, 78 configuration invalid."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy in the foreground; decisions go to standard output, messages to standard error
    Serve(ListenArgs),
    /// Run a command with all its traffic through a private proxy; ends with the command's exit code
    Run(run::RunArgs),
    /// Print the environment variables that send a program through the proxy
    Env(env::EnvArgs),
    /// Show it all on this machine: a real upstream, an issuer and the proxy, in one process
    Demo,
    /// Check policy files: shape, references, the promises in `tests`, and what may not be meant
    Check(check::CheckArgs),
    /// What changes in reach between two policies: who gains or loses what, where, with whose credential
    Diff(diff::DiffArgs),
    /// Format policy files, and keep every comment
    Fmt(fmt::FmtArgs),
    /// Print the JSON Schema of policy files, for editors
    Schema,
    /// Explain what the policy says to one request, step by step
    Explain(policy::ExplainArgs),
    /// Show the services that egret knows, or one of them with a policy to start from
    Catalog(catalog::CatalogArgs),
    /// What shadow mode let through
    #[command(subcommand)]
    Shadow(shadow::ShadowCommand),
    /// Draft a policy from a shadow log, and sign policies
    #[command(subcommand)]
    Policy(rollout::PolicyCommand),
    /// Secrets in the store, for `secret:NAME` in policies
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Connect an integration: a person agrees in a browser or on a device, or deposits a key
    Connect(connect::ConnectArgs),
    /// What was connected
    #[command(subcommand)]
    Connections(connect::ConnectionsCommand),
    /// The store itself, and its key
    #[command(subcommand)]
    Store(secret::StoreCommand),
    /// Tokens for development
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// The local certificate authority
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Ask a running proxy whether it is well
    Health(health::HealthArgs),
    /// The settings in force
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Where settings come from.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct SettingsArgs {
    /// Read this file instead of ./egret.yaml and the usual places
    #[arg(long, value_name = "FILE", env = "EGRET_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The policy: a directory or a file
    #[arg(long, value_name = "PATH")]
    pub(crate) policy: Option<String>,
    /// Any other key, such as `audit.durability=required`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Settings of a proxy that listens.
#[derive(Debug, Args, Clone)]
pub(crate) struct ListenArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Where the proxy listens, or `off`
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where the gateway listens, or `off`
    #[arg(long, value_name = "ADDRESS:PORT")]
    gateway: Option<String>,
    /// Where health and metrics are served, or `off`
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
}

impl ListenArgs {
    /// Reads the settings.
    pub(crate) fn load(&self) -> Result<(Settings, Vec<Shown>), StartError> {
        self.settings.load_with([
            ("listen.proxy", &self.listen),
            ("listen.gateway", &self.gateway),
            ("listen.admin", &self.admin),
        ])
    }
}

impl SettingsArgs {
    fn given<const N: usize>(&self, more: [(&str, &Option<String>); N]) -> Result<Given, BadSettings> {
        let mut flags = BTreeMap::new();
        for (key, value) in more.into_iter().chain([("policy.dir", &self.policy)]) {
            if let Some(value) = value {
                flags.insert(key.to_owned(), value.clone());
            }
        }
        for pair in &self.set {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| BadSettings(vec!["--set takes KEY=VALUE".into()]))?;
            flags.insert(key.to_owned(), value.to_owned());
        }
        Ok(Given::by_process(self.config.clone(), flags))
    }

    /// Reads the settings.
    pub(crate) fn load(&self) -> Result<(Settings, Vec<Shown>), StartError> {
        self.load_with([])
    }

    fn load_with<const N: usize>(
        &self,
        more: [(&str, &Option<String>); N],
    ) -> Result<(Settings, Vec<Shown>), StartError> {
        let given = self.given(more).map_err(|e| StartError::Configuration(e.to_string()))?;
        Settings::load(&given).map_err(|e| StartError::Configuration(e.to_string()))
    }
}

/// How variables are written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Shell {
    /// `export NAME='value'`
    Sh,
    /// `set -gx NAME 'value'`
    Fish,
    /// `$env:NAME = 'value'`
    Powershell,
    /// `NAME="value"`
    Dotenv,
    /// `NAME=value`, for `docker run --env-file`
    Docker,
}

/// Runs the program.
pub fn main() -> ExitCode {
    crate::tls::install();
    // A panic ends its connection; its text may hold anything, so only its place is told.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        tracing::error!(place, "BUG: egret panicked; please report it");
    }));
    let code = match Cli::parse().command {
        Command::Serve(args) => serve::serve(&args),
        Command::Run(args) => run::run(&args),
        Command::Env(args) => env::env(&args),
        Command::Demo => demo::demo(),
        Command::Check(args) => check::check(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Fmt(args) => fmt::fmt(&args),
        Command::Schema => policy::schema(),
        Command::Explain(args) => policy::explain(&args),
        Command::Catalog(args) => catalog::catalog(&args),
        Command::Shadow(command) => shadow::shadow(&command),
        Command::Policy(command) => rollout::policy(&command),
        Command::Secret(command) => secret::secret(&command),
        Command::Connect(args) => connect::connect(&args),
        Command::Connections(command) => connect::connections(&command),
        Command::Store(command) => secret::store(&command),
        Command::Token(command) => token::token(&command),
        Command::Ca(command) => ca::ca(&command),
        Command::Health(args) => health::health(&args),
        Command::Config(command) => config::config(&command),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "egret", &mut std::io::stdout());
            Ok(exit::OK)
        }
    };
    ExitCode::from(code.unwrap_or_else(|error| {
        message(&error);
        match error {
            StartError::Configuration(_) => exit::CONFIGURATION,
            StartError::Unavailable(_) => exit::UNAVAILABLE,
            StartError::NotPermitted(_) => exit::NOT_PERMITTED,
        }
    }))
}

/// A line of data. Whoever stops reading (`| head`) has seen enough.
pub(crate) fn data(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line for people. A closed standard error ends no proxy.
pub(crate) fn message(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
