//! `egret explain` and `egret schema`.

use clap::Args;

use super::{SettingsArgs, data, exit, token::Who};
use crate::{
    decide::{self, Examined, Inquiry},
    serve::{StartError, verification},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  egret explain \"DELETE https://api.github.com/repos/acme/app\" --as acme/triage-bot
  egret explain \"GET https://gmail.googleapis.com/gmail/v1/users/me/messages\" --as acme/inbox --user alice@acme.example
  egret explain \"tool delete_issue @ https://mcp.linear.app/mcp\" --as acme/triage-bot

Exit codes: 0 allowed, 1 refused, 78 the policy is not valid.")]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The request: `METHOD URL`, `tool NAME @ URL` or `graphql mutation FIELD @ URL`
    request: String,
    /// Who asks
    #[arg(long = "as", value_name = "TENANT/AGENT")]
    who: Who,
    /// The person behind the agent
    #[arg(long)]
    user: Option<String>,
    /// When it is asked, such as 2026-11-28T22:00:00Z, for conditions that ask for the time; now when not given
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<std::time::SystemTime>,
    /// The integration, as `X-Agent-Integration` names it
    #[arg(long)]
    integration: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// A moment (RFC 3339).
fn moment(text: &str) -> Result<std::time::SystemTime, String> {
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .map(Into::into)
        .map_err(|_| "a moment is written as 2026-11-28T22:00:00Z".to_owned())
}

pub(super) fn schema() -> Result<u8, StartError> {
    data(
        serde_json::to_string_pretty(&decide::schema())
            .map_err(|e| StartError::Unavailable(e.to_string()))?,
    );
    Ok(exit::OK)
}

pub(super) fn explain(args: &ExplainArgs) -> Result<u8, StartError> {
    let (settings, _) = args.settings.load()?;
    let examined = Examined::load(&settings.policy, verification(&settings)?.as_ref())
        .map_err(|problems| StartError::Configuration(problems.render(false)))?;
    let inquiry = Inquiry {
        tenant: args.who.tenant.as_str(),
        agent: args.who.agent.as_str(),
        user: args.user.as_deref(),
        request: &args.request,
        at: args.at,
        integration: args.integration.as_deref(),
    };
    let explanation = examined.explain(&inquiry).map_err(StartError::Configuration)?;
    if args.json {
        data(serde_json::to_string_pretty(&explanation).map_err(|e| StartError::Unavailable(e.to_string()))?);
    } else {
        data(explanation.to_string().trim_end());
    }
    Ok(if explanation.allowed { exit::OK } else { exit::FINDINGS })
}
