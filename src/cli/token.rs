//! `egret token`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::{SettingsArgs, data, exit};
use crate::{
    context::{AgentId, TenantId, UserId},
    identify::Mint,
    serve::{DEVELOPMENT_AUDIENCE, StartError, development_issuer},
    settings::parse_span,
};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Mint a token of the development issuer; never for production
    Mint(MintArgs),
}

#[derive(Debug, Args)]
pub(super) struct MintArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Who the token speaks for
    #[arg(long = "as", value_name = "TENANT/AGENT")]
    who: Who,
    /// The person behind the agent
    #[arg(long)]
    user: Option<String>,
    /// How long it lives, at most 1h
    #[arg(long, default_value = "15m", value_parser = lifetime)]
    lifetime: Duration,
    /// The audience
    #[arg(long, default_value = DEVELOPMENT_AUDIENCE)]
    audience: String,
    /// Scopes, separated by spaces
    #[arg(long, default_value = "")]
    scope: String,
    /// The development issuer's directory; `identity.development` when not given
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// `tenant/agent`.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) tenant: TenantId,
    pub(super) agent: AgentId,
}

impl std::str::FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tenant, agent) = text.split_once('/').ok_or("TENANT/AGENT, such as `acme/triage-bot`")?;
        Ok(Self {
            tenant: TenantId::parse(tenant).map_err(|e| e.to_string())?,
            agent: AgentId::parse(agent).map_err(|e| e.to_string())?,
        })
    }
}

/// Longer-lived tokens would be refused by egret itself.
fn lifetime(text: &str) -> Result<Duration, String> {
    match parse_span(text)? {
        span if span > Duration::from_secs(3600) => Err("a token lives for an hour at most".into()),
        span => Ok(span),
    }
}

pub(super) fn token(TokenCommand::Mint(args): &TokenCommand) -> Result<u8, StartError> {
    let (settings, _) = args.settings.load()?;
    let dir = args.dir.clone().or(settings.development).ok_or_else(|| {
        StartError::Configuration(
            "no development issuer: set `identity.development` to a directory in egret.yaml, or pass `--dir`"
                .into(),
        )
    })?;
    let user = args
        .user
        .as_deref()
        .map(UserId::parse)
        .transpose()
        .map_err(|e| StartError::Configuration(e.to_string()))?;
    let mint = Mint {
        tenant: args.who.tenant.clone(),
        agent: Some(args.who.agent.clone()),
        user,
        audience: args.audience.clone(),
        lifetime: args.lifetime,
        scopes: args.scope.split_whitespace().map(str::to_owned).collect(),
        extra: serde_json::Map::new(),
    };
    let token =
        development_issuer(&dir)?.mint(&mint).map_err(|e| StartError::Configuration(e.to_string()))?;
    data(token);
    Ok(exit::OK)
}
