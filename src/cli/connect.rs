//! `egret connect` and `egret connections`.

use std::{sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    SettingsArgs, data, exit, message,
    secret::{read_secret, tenant_id, with_store},
    serve::runtime,
};
use crate::{
    context::{IntegrationId, UserId},
    credential::{Connected, Consents, Look, NotConnected, Origins},
    decide::Policy,
    fetch::Calls,
    plan::{Connectable, How},
    serve::{StartError, verification, web_fetch},
    settings::Settings,
    store::{ConnectionKey, Listed, Owner, Store},
};

mod callback;

use callback::Callback;

/// How long a person may take in the browser.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  egret connect gmail --tenant acme --user ann@acme.example            in a browser on this machine
  egret connect github --tenant acme --user ann@acme.example --device  with a code, on any other device
  egret connect weather --tenant acme --user ann < key.txt             a key that its owner deposits (`byok`)")]
pub(super) struct ConnectArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// With a code that is entered on another device (RFC 8628)
    #[arg(long)]
    device: bool,
    /// Where the browser comes back to, on this machine; what the provider knows of, where it knows only some
    #[arg(long, value_name = "URL", conflicts_with = "device")]
    redirect_uri: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ConnectionArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The integration
    integration: String,
    /// Whose it is
    #[arg(long, value_name = "TENANT")]
    tenant: String,
    /// The person, as tokens name them; for integrations of the USER tier
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConnectionsCommand {
    /// List connections: whose they are, how they are, when they end; never a token
    List {
        #[command(flatten)]
        settings: SettingsArgs,
        /// Only this tenant's
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// As JSON, one object for each line
        #[arg(long)]
        json: bool,
    },
    /// Take a connection back, here and at the provider; running egrets stop using it within a second
    Revoke(ConnectionArgs),
}

impl ConnectionArgs {
    fn key(&self) -> Result<ConnectionKey, StartError> {
        let wrong = |problem: &dyn std::fmt::Display| StartError::Configuration(problem.to_string());
        let owner = match &self.user {
            None => Owner::App,
            Some(user) => Owner::User(UserId::parse(user).map_err(|problem| wrong(&problem))?),
        };
        let integration = IntegrationId::parse(&self.integration).map_err(|problem| wrong(&problem))?;
        Ok(ConnectionKey { tenant: tenant_id(&self.tenant)?, integration, owner })
    }

    /// What the policy says of it.
    fn what(&self, settings: &Settings, key: &ConnectionKey) -> Result<Connectable, StartError> {
        let policy = Policy::load_verified(&settings.policy, verification(settings)?.as_ref());
        let policy = policy.map_err(|problems| StartError::Configuration(problems.to_string()))?;
        let what = policy.connectable(&key.tenant, &self.integration).map_err(StartError::Configuration)?;
        match (what.is_users, &key.owner) {
            (true, Owner::App) => Err(StartError::Configuration(format!(
                "`{}` acts for one person: say whom with `--user`, as tokens name them",
                self.integration
            ))),
            (false, Owner::User(_)) => Err(StartError::Configuration(format!(
                "`{}` acts for the organisation (`tier: APP`): leave `--user` out",
                self.integration
            ))),
            _ => Ok(what),
        }
    }
}

pub(super) fn connect(args: &ConnectArgs) -> Result<u8, StartError> {
    let settings = args.connection.settings.load()?.0;
    let key = args.connection.key()?;
    let what = args.connection.what(&settings, &key)?;
    let deposited = match what.credential.how {
        How::Deposited => Some(read_secret(None)?),
        _ => None,
    };
    let connected = runtime(1)?.block_on(async {
        let consents = consents(&settings)?;
        let connected = match deposited {
            Some(secret) => consents.deposit(&key, &what, secret).await,
            None if args.device => on_device(&consents, &key, &what).await,
            None => return in_browser(&consents, &key, &what, args.redirect_uri.as_deref()).await,
        };
        connected.map_err(not_connected)
    })?;
    report(&key, &connected);
    Ok(exit::OK)
}

fn consents(settings: &Settings) -> Result<Consents, StartError> {
    let calls: Arc<dyn Calls> = Arc::new(web_fetch(settings)?);
    let origins = Origins::of(settings, &calls);
    Ok(Consents::standalone(calls, origins, Arc::default()))
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to `map_err`")]
fn not_connected(error: NotConnected) -> StartError {
    StartError::Unavailable(format!("not connected: {error}"))
}

async fn in_browser(
    consents: &Consents,
    key: &ConnectionKey,
    what: &Connectable,
    redirect_uri: Option<&str>,
) -> Result<Connected, StartError> {
    let callback = Callback::open(redirect_uri).await?;
    let question = consents.ask(key, what, callback.uri()).await.map_err(not_connected)?;
    message(format_args!("open this in a browser, and agree there as {}:", key.owner));
    data(&question.url);
    let code = tokio::time::timeout(PATIENCE, callback.answer(&question)).await;
    let code =
        code.map_err(|_| StartError::Unavailable("not connected: nobody agreed in time".to_owned()))?;
    let code = code.map_err(|refused| StartError::Unavailable(format!("not connected: {refused}")))?;
    consents.redeem(key, what, question, &code).await.map_err(not_connected)
}

async fn on_device(
    consents: &Consents,
    key: &ConnectionKey,
    what: &Connectable,
) -> Result<Connected, NotConnected> {
    let code = consents.ask_device(key, what).await?;
    message(format_args!("open {} and enter the code {}", code.verification_uri, code.user_code));
    data(code.verification_uri_complete.as_ref().unwrap_or(&code.verification_uri));
    let mut interval = code.interval;
    // It ends with the code: the provider says so.
    loop {
        tokio::time::sleep(interval).await;
        match consents.look(key, what, &code).await? {
            Look::Connected(connected) => return Ok(connected),
            Look::Pending => {}
            // Five seconds more each time (RFC 8628 §3.5).
            Look::SlowDown => interval += Duration::from_secs(5),
        }
    }
}

fn report(key: &ConnectionKey, connected: &Connected) {
    let ConnectionKey { tenant, integration, owner } = key;
    message(format_args!("connected `{integration}` of tenant `{tenant}` for {owner}"));
    if let Some(scopes) = &connected.scopes {
        message(format_args!("granted: {scopes}"));
    }
    if !connected.renews {
        message(match connected.lifetime {
            Some(_) => "the provider gave nothing to renew it with: it must be connected again when it ends",
            None => "running egrets use it from now on",
        });
    }
}

pub(super) fn connections(command: &ConnectionsCommand) -> Result<u8, StartError> {
    match command {
        ConnectionsCommand::List { settings, tenant, json } => {
            let tenant = tenant.as_deref().map(tenant_id).transpose()?;
            let settings = settings.load()?.0.store;
            let all = with_store(async { Store::open(&settings).await?.connections(tenant.as_ref()).await })?;
            for listed in &all {
                show(listed, *json);
            }
            Ok(exit::OK)
        }
        ConnectionsCommand::Revoke(args) => {
            let settings = args.settings.load()?.0;
            let key = args.key()?;
            // An integration that is gone from the policy can be taken back here, too.
            let what = args.what(&settings, &key);
            if let Err(problem) = &what {
                message(format_args!("the provider is not told: {problem}"));
            }
            let told = runtime(1)?.block_on(async {
                consents(&settings)?
                    .revoke(&key, what.as_ref().ok())
                    .await
                    .map_err(|error| StartError::Unavailable(error.to_string()))
            })?;
            let provider = if told {
                "the provider says so, too"
            } else {
                "the provider was not told, or did not agree"
            };
            message(format_args!(
                "revoked {} of `{}`, tenant `{}`; {provider}",
                key.owner, key.integration, key.tenant
            ));
            Ok(exit::OK)
        }
    }
}

fn show(listed: &Listed, as_json: bool) {
    let date = |at: i64| OffsetDateTime::from_unix_timestamp(at).ok().and_then(|at| at.format(&Rfc3339).ok());
    let ConnectionKey { tenant, integration, owner } = &listed.key;
    let user = match owner {
        Owner::App => None,
        Owner::User(user) => Some(user.as_str()),
    };
    let ends = listed.facts.expires_at.and_then(date);
    if as_json {
        data(json!({
            "tenant_id": tenant.as_str(),
            "integration_id": integration.as_str(),
            "user_id": user,
            "status": listed.status.as_str(),
            "scopes": listed.facts.scopes,
            "expires_at": ends,
            "changed_at": date(listed.changed_at),
        }));
    } else {
        data(format_args!(
            "{:<16} {:<24} {:<28} {:<8} {:<20} {}",
            tenant.as_str(),
            integration.as_str(),
            user.unwrap_or("-"),
            listed.status.as_str(),
            ends.as_deref().unwrap_or("-"),
            listed.facts.scopes
        ));
    }
}
