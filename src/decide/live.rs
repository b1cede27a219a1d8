//! The policy in force, and the room's door.

use std::{path::Path, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;

use super::{
    files::{
        bundle::{Origin, Verification},
        problem::Problems,
    },
    grant::{Asked, Granted, Permitted, Shown, withdrawn},
    judge::{Ask, Inspection, Judgement, Question, Way, inspect},
    parts::{
        act::Seen,
        protocol::Look,
        tenant::{Integration, Tenant, TierKind},
    },
    policy::Policy,
    reload::Tried,
};
use crate::{
    audit,
    context::{Identity, IntegrationId, Selection, Tier},
    identify::{Caller, Identified},
    mcp,
    message::{Message, Room},
    refusal::{Door, Reason, Refusal},
    standing::{Standing, Withdrawn},
    target::{Authority, Host, Target},
};

/// Decides by the policy in force. Cheap to clone; all clones see the same policy.
#[derive(Debug, Clone)]
pub struct Policies(pub(super) Arc<Live>);

/// The policy in force and how it is replaced.
#[derive(Debug)]
pub(super) struct Live {
    /// Where it comes from; none for a policy that is a text.
    pub(super) source: Option<Origin>,
    pub(super) policy: ArcSwap<Policy>,
    /// Ticks at every change.
    pub(super) changes: watch::Sender<u64>,
    /// What the last reload met, so that the same is not reported again and again.
    pub(super) tried: std::sync::Mutex<Tried>,
    /// Streams of MCP sessions in which refusals are told.
    pub(super) sessions: Arc<mcp::Sessions>,
    /// For bodies that are looked into.
    pub(super) room: Room,
    /// Why the files as they are now are not in force.
    pub(super) last_error: ArcSwapOption<String>,
}

impl Live {
    pub(super) fn current(&self) -> arc_swap::Guard<Arc<Policy>> {
        self.policy.load()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// What becomes of a `CONNECT`.
#[derive(Debug)]
pub enum TunnelWay {
    /// The tunnel is opened: the proof for it, and the message back.
    Intercept(Box<Message>, Interception),
    /// The tunnel is passed on closed, without a credential, to exactly the granted authority.
    Opaque(Box<Granted>),
}

/// Proof that a tunnel to this name may be opened, and so a certificate for it minted.
///
/// Cannot be made outside this room: certificates exist only for names that the policy covers.
#[derive(Debug, Clone)]
pub struct Interception {
    authority: Authority,
    identity: Arc<Identity>,
    asked: Asked,
}

impl Interception {
    /// The host, for which a certificate may be minted.
    pub fn host(&self) -> &Host {
        &self.authority.host
    }

    /// Host and port as the client asked for them.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Asks again whether the tunnel may be open, for as long as it is.
    pub fn standing(&self) -> Standing {
        let mut changes = self.asked.live.subscribe();
        // The policy may have changed since the decision: the first look comes at once.
        changes.mark_changed();
        let asked = self.asked.clone();
        let stands = move || {
            let policy = asked.live.current();
            match policy.way(&asked.question()) {
                Ok(Way::Intercept) => Ok(()),
                Ok(Way::Opaque) => Err(Withdrawn {
                    code: "destination_not_allowed",
                    detail: "it is not opened any more".to_owned(),
                    revision: policy.revision().clone(),
                }),
                Err(reason) => Err(withdrawn(&reason, policy.revision().clone())),
            }
        };
        Standing::new(changes, Arc::new(stands))
    }

    /// Who opened the tunnel.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }
}

impl Policies {
    /// Loads the policy from a file or a directory.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn load(source: &Path) -> Result<Self, Problems> {
        Self::load_verified(source, None)
    }

    /// As [`Policies::load`]; now and later, verified where that is demanded.
    ///
    /// # Errors
    /// As [`Policy::load_verified`].
    pub fn load_verified(source: &Path, verification: Option<Verification>) -> Result<Self, Problems> {
        let origin = Origin::new(source, verification);
        let policy = origin.load()?;
        Ok(Self::of(Some(origin), policy))
    }

    /// A policy that stays as it is, such as the one of a demonstration.
    pub fn fixed(policy: Policy) -> Self {
        Self::of(None, policy)
    }

    fn of(source: Option<Origin>, policy: Policy) -> Self {
        let tried = std::sync::Mutex::new(Tried::Content(policy.identity().clone()));
        let policy = ArcSwap::from_pointee(policy);
        let (changes, _) = watch::channel(0);
        let (sessions, last_error) = (Arc::default(), ArcSwapOption::empty());
        let room = Room::new(inspect::ROOM);
        Self(Arc::new(Live { source, policy, changes, tried, sessions, room, last_error }))
    }

    /// The policy in force.
    pub fn current(&self) -> Arc<Policy> {
        self.0.policy.load_full()
    }

    /// Ticks at every change of the policy.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    /// Why the files as they are now are not in force, when they are not.
    pub fn last_error(&self) -> Option<Arc<String>> {
        self.0.last_error.load_full()
    }

    /// Decides about one request.
    ///
    /// # Errors
    /// The refusal, when the policy does not allow it.
    pub async fn decide(&self, identified: Identified) -> Result<Granted, Refusal> {
        let (mut message, caller, mut selection) = identified.into_parts();
        if message.manner.door == Door::Gateway {
            let policy = self.0.current();
            message.entry.under_policy(policy.revision().clone(), policy.hash().clone());
            match gateway_target(&policy, caller.identity(), &message.target, &selection) {
                Ok((integration_id, target)) => {
                    message.entry.asked(message.method, message.method.as_str(), Some(&target));
                    message.target = target;
                    selection.integration = Some(integration_id);
                }
                Err(reason) => return Err(message.refuse(reason)),
            }
        }
        let (mut looked, mut seen) = (Look::Nothing, Seen::nothing());
        loop {
            let policy = self.0.policy.load_full();
            let identity = caller.identity();
            let asked = question(&message, identity, &selection, (Ask::Request, &seen));
            let Inspection { look, limit, integration } = policy.look_for(&asked);
            // What takes time to read may be asked of another policy than told to read it.
            if look == looked {
                return self.grant(&policy, message, caller, selection, (Ask::Request, seen));
            }
            let owner = integration.map(|integration| owner(identity, &integration.id));
            let mailbox = owner.and_then(|owner| self.0.sessions.of(owner, &message.target));
            let place = (&self.0.room, &**identity);
            seen = match inspect::look(&mut message, look, limit, mailbox, place).await {
                Ok(seen) => Arc::new(seen),
                Err(reason) => {
                    message.entry.under_policy(policy.revision().clone(), policy.hash().clone());
                    return Err(message.refuse(reason));
                }
            };
            looked = look;
        }
    }

    /// Decides what becomes of a `CONNECT`. What the agent may do inside is answered inside, request by request.
    ///
    /// # Errors
    /// The refusal, when no integration of the tenant covers the destination, or when the tunnel would stay
    /// closed and the agent's role has no `connect`.
    pub fn tunnel(&self, identified: Identified) -> Result<TunnelWay, Refusal> {
        let (mut message, caller, selection) = identified.into_parts();
        let policy = self.0.policy.load_full();
        let way = {
            let asked = (Ask::Tunnel, Seen::NOTHING);
            policy.way(&question(&message, caller.identity(), &selection, asked))
        };
        match way {
            Ok(Way::Opaque) => {
                let asked = (Ask::Tunnel, Seen::nothing());
                let granted = self.grant(&policy, message, caller, selection, asked);
                granted.map(|granted| TunnelWay::Opaque(Box::new(granted)))
            }
            Ok(Way::Intercept) => {
                message.entry.under_policy(policy.revision().clone(), policy.hash().clone());
                let (authority, identity) = (message.target.authority.clone(), caller.identity().clone());
                let asked = Asked {
                    live: self.0.clone(),
                    identity: identity.clone(),
                    ask: Ask::Tunnel,
                    method: message.method,
                    target: message.target.clone(),
                    seen: Seen::nothing(),
                    selection,
                };
                let interception = Interception { authority, identity, asked };
                Ok(TunnelWay::Intercept(Box::new(message), interception))
            }
            Err(reason) => {
                message.entry.under_policy(policy.revision().clone(), policy.hash().clone());
                Err(message.refuse(reason))
            }
        }
    }

    fn grant(
        &self,
        policy: &Arc<Policy>,
        mut message: Message,
        caller: Caller,
        selection: Selection,
        (ask, mut seen): (Ask, Arc<Seen>),
    ) -> Result<Granted, Refusal> {
        message.entry.under_policy(policy.revision().clone(), policy.hash().clone());
        let judgement = policy.judge(&question(&message, caller.identity(), &selection, (ask, &seen)));
        note(&mut message.entry, &judgement, caller.identity(), &message.target);
        let enforced = judgement.enforced();
        let lists_for = judgement.lists_for();
        if lists_for.is_some() {
            message.upgrade = None;
        }
        let shown = lists_for.filter(|_| enforced).map(|role| Shown {
            policy: Arc::downgrade(policy),
            role: role.clone(),
            in_a_stream: judgement.answers_in_a_stream(),
        });
        match judgement.into_outcome() {
            Ok(permit) => {
                if let Some(seen) = Arc::get_mut(&mut seen) {
                    seen.keep_little();
                }
                let permitted = Permitted { permit, shown, enforced };
                Ok(Granted::new(message, caller, selection, (self.0.clone(), ask, seen), permitted))
            }
            Err(reason) => Err(message.refuse(reason)),
        }
    }
}

/// Whose a session of an MCP server is.
pub(super) fn owner(identity: &Identity, integration: &IntegrationId) -> mcp::Owner {
    mcp::Owner {
        tenant: identity.tenant_id.clone(),
        integration: integration.clone(),
        agent: identity.agent_id.clone(),
        user: identity.user_id.clone(),
    }
}

fn question<'q>(
    message: &'q Message,
    identity: &'q Identity,
    selection: &'q Selection,
    (ask, seen): (Ask, &'q Seen),
) -> Question<'q> {
    Question {
        tenant: &identity.tenant_id,
        agent: &identity.agent_id,
        user: identity.user_id.as_ref(),
        ask,
        method: message.method,
        target: &message.target,
        seen,
        selection,
        token: Some(identity),
        at: None,
    }
}

/// Writes down what was found, also on the way to a refusal: log and body then name the integration.
fn note(entry: &mut audit::Entry, judgement: &Judgement<'_>, identity: &Identity, target: &Target) {
    let shown = |integration: &Integration| integration.plan.shown_path(target.path.as_str());
    if let Some(path) = judgement.integration().and_then(shown) {
        entry.shown_path(path);
    }
    if let Some(granted) = granted(judgement, identity) {
        entry.granted(granted);
    }
    for guard in judgement.guards() {
        entry.guarded(guard.label.clone());
    }
    if let (Some(objection), Ok(_)) = (judgement.objection(), judgement.permit()) {
        entry.shadowed(objection);
    }
}

fn granted(judgement: &Judgement<'_>, identity: &Identity) -> Option<audit::Granted> {
    let integration = judgement.integration()?;
    let tier = match integration.tier {
        TierKind::App => Tier::App,
        // Without a user there is no one as whom it could have been granted.
        TierKind::User => Tier::User(identity.user_id.clone()?),
    };
    Some(audit::Granted {
        integration_id: integration.id.clone(),
        service: integration.service.plan.id.clone(),
        upstream_scheme: integration.service.plan.scheme,
        role: judgement.grant().map(|grant| grant.role.id.clone()),
        tier,
        rule: judgement.line().map(|line| line.rule.clone()),
        grant: judgement.grant().map(|grant| grant.label.clone()),
        route: judgement.line().map(|line| line.route.clone()),
    })
}

/// Turns `/<integration>/<rest>` into the target behind it.
fn gateway_target(
    policy: &Policy,
    identity: &Identity,
    asked: &Target,
    selection: &Selection,
) -> Result<(IntegrationId, Target), Reason> {
    let tenant = policy.tenant(&identity.tenant_id).ok_or(Reason::TenantUnknown)?;
    let path = asked.path.as_str().strip_prefix('/').unwrap_or_default();
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    let unknown = || Reason::DestinationNotAllowed { host: name.chars().take(64).collect(), port: false };
    let integration = tenant.integration(name).filter(|i| !i.disabled).ok_or_else(unknown)?;
    if selection.integration.as_ref().is_some_and(|selected| *selected != integration.id) {
        return Err(Reason::ActionDenied {
            detail: "the path and `X-Agent-Integration` name two integrations".to_owned(),
            needed_role: None,
            granted_role: None,
        });
    }
    let authority = Tenant::first_host(integration).ok_or_else(unknown)?;
    let path = crate::target::Path::parse(&format!("/{rest}")).map_err(|bad| Reason::RequestMalformed {
        what: bad.0,
        token: "malformed-target",
        status: 400,
    })?;
    let scheme = integration.service.plan.scheme;
    Ok((integration.id.clone(), Target { scheme, authority, path, query: asked.query.clone() }))
}
