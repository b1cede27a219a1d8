//! What speaks for and against a question, once it is known which integration would serve it.

use super::{Ask, Grounds, Mode, Question, push};
use crate::{
    context::Tier,
    decide::{
        grant::Approval,
        parts::{
            act::{self, Act, Seen},
            guard::Effect,
            protocol::Protocol,
            role::{Role, RoleLine},
            service::Service,
            tenant::{Grant, Integration, TierKind},
            when::Patience,
        },
    },
    mcp,
    refusal::Reason,
    target::{Method, Path},
};

/// Weighs what the agent's role says.
pub(super) fn weigh_role<'p>(
    question: &Question<'_>,
    integration: &'p Integration,
    grant: &'p Grant,
    grounds: &mut Grounds<'p>,
) -> Result<(), Reason> {
    match line_for(&grant.role, question, &integration.service) {
        Ok(line) => {
            grounds.line = line;
            Ok(())
        }
        Err(act) => grounds.object(beyond_role(question, integration, Some(grant), &act.act())),
    }
}

/// An act that a role does not allow; the path of one may be made up.
pub(super) enum Beyond<'q> {
    Act(Act<'q>),
    Push(Path),
}

impl Beyond<'_> {
    fn act(&self) -> Act<'_> {
        match self {
            Self::Act(act) => *act,
            Self::Push(path) => Act::Http(Method::Post, path),
        }
    }
}

/// The line of a role that allows everything that is asked, or what it does not allow. None for a tunnel that
/// egret opens: it shows its requests later, and each of them is judged.
pub(super) fn line_for<'p, 'q>(
    role: &'p Role,
    question: &Question<'q>,
    service: &Service,
) -> Result<Option<&'p RoleLine>, Beyond<'q>> {
    let asked = Act::Http(question.method, &question.target.path);
    if question.ask == Ask::Tunnel {
        let line = role.find(&Act::Tunnel);
        return if line.is_some() || !service.is_opaque() { Ok(line) } else { Err(Beyond::Act(Act::Tunnel)) };
    }
    match (&service.protocol, question.seen) {
        (Protocol::Mcp(endpoint), seen) if endpoint.takes(question.method, &question.target.path) => {
            let Seen::Mcp(body) = seen else {
                // A stream to listen on, or the end of a session.
                let quiet = question.method != Method::Post;
                let line = role.find(&Act::Plumbing).filter(|_| quiet);
                return line.map(Some).ok_or(Beyond::Act(asked));
            };
            let acts = body.items().iter().map(Act::from);
            all(role, acts).map_err(Beyond::Act)
        }
        (Protocol::Mcp(_), _) => Err(Beyond::Act(asked)),
        (Protocol::Http(_), seen) => {
            let line = role.find(&asked);
            if let Some(push) = push::announced(question.target) {
                let push_line = role.find(&Act::Http(Method::Post, &push));
                return line.and(push_line).map(Some).ok_or(Beyond::Push(push));
            }
            match (line, seen) {
                (Some(line), _) => Ok(Some(line)),
                (None, Seen::GraphQl(operations))
                    if service.is_graphql(question.method, &question.target.path) =>
                {
                    all(role, act::fields(operations)).map_err(Beyond::Act)
                }
                (None, Seen::Unclear(what)) => Err(Beyond::Act(Act::Unreadable(what))),
                (None, _) => Err(Beyond::Act(asked)),
            }
        }
    }
}

/// The line for the first act, where a role allows all of them; otherwise the first that it does not.
fn all<'p, 'q>(role: &'p Role, acts: impl Iterator<Item = Act<'q>>) -> Result<Option<&'p RoleLine>, Act<'q>> {
    let mut first = None;
    for act in acts {
        let line = role.find(&act).ok_or(act)?;
        first.get_or_insert(line);
    }
    Ok(first)
}

/// What stands for a request in a refusal.
pub(super) fn first_act<'q>(question: &Question<'q>, service: &Service) -> Act<'q> {
    let asked = Act::Http(question.method, &question.target.path);
    match (question.ask, &service.protocol, question.seen) {
        (Ask::Tunnel, ..) => Act::Tunnel,
        (_, Protocol::Mcp(_), Seen::Mcp(body)) => body.items().first().map_or(asked, Act::from),
        _ => asked,
    }
}

/// Weighs what guards take away.
pub(super) fn weigh_guards<'p>(
    question: &Question<'_>,
    service: &'p Service,
    grant: &Grant,
    grounds: &mut Grounds<'p>,
) -> Result<(), Reason> {
    // Guards match methods and paths; of a tunnel there are none to see.
    if question.ask == Ask::Tunnel || service.guards.is_empty() {
        return Ok(());
    }
    let push = push::announced(question.target);
    let mut acts = vec![Act::Http(question.method, &question.target.path)];
    acts.extend(push.as_ref().map(|push| Act::Http(Method::Post, push)));
    match question.seen {
        Seen::Nothing => {}
        Seen::Mcp(body) => acts.extend(body.items().iter().map(Act::from)),
        Seen::GraphQl(operations) => acts.extend(act::fields(operations)),
        Seen::Unclear(what) => acts.push(Act::Unreadable(what)),
    }
    // A guard also sees what the URI of a resource stands for, however it is written.
    let uris: Vec<String> = acts.iter().filter_map(Act::resource).map(mcp::canonical_uri).collect();
    let resource = |uri| Act::Named { kind: mcp::Named::Resource, name: uri, arguments: None };
    let written: Vec<&str> = acts.iter().filter_map(Act::resource).collect();
    acts.extend(uris.iter().map(String::as_str).filter(|uri| !written.contains(uri)).map(resource));
    // Ending a session deletes nothing at the server but the session.
    if matches!(service.protocol, Protocol::Mcp(_)) && question.method == Method::Delete {
        acts.clear();
    }
    let patience = Patience::default();
    for guard in &service.guards {
        let held: Vec<&Act<'_>> = acts.iter().filter(|act| guard.holds(act, question, &patience)).collect();
        if held.is_empty() {
            continue;
        }
        grounds.guards.push(guard);
        let reason = match &guard.effect {
            Effect::Deny(sentence) => Reason::ActionDenied {
                detail: sentence.to_string(),
                needed_role: None,
                granted_role: Some(grant.role.id.shared()),
            },
            Effect::Approval => {
                Reason::ApprovalRequired { guard: guard.label.clone(), action: all_of(&held) }
            }
        };
        if guard.shadow {
            grounds.objection.get_or_insert(reason);
        } else if guard.effect == Effect::Approval && grounds.mode == Mode::Enforce {
            // A denial by a later guard comes before the question to a human.
            let action = all_of(&held);
            grounds.approval.get_or_insert_with(|| Approval { guard: guard.label.clone(), action });
        } else {
            grounds.object(reason)?;
        }
    }
    Ok(())
}

/// What a human is asked for: each act, the first few by name.
fn all_of(acts: &[&Act<'_>]) -> String {
    const NAMED: usize = 5;
    let mut names: Vec<String> = acts.iter().take(NAMED).map(ToString::to_string).collect();
    if acts.len() > NAMED {
        names.push(format!("{} more", acts.len() - NAMED));
    }
    names.join(", ")
}

/// Weighs as whom the request goes out.
pub(super) fn weigh_tier(question: &Question<'_>, integration: &Integration) -> Result<Tier, Reason> {
    let own = integration.tier.as_str();
    if let Some(wanted) = question.selection.tier.filter(|wanted| *wanted != own) {
        return Err(Reason::ActionDenied {
            detail: format!("{} acts as {own}, the request asks for {wanted}", integration.id),
            needed_role: None,
            granted_role: None,
        });
    }
    match integration.tier {
        TierKind::App => Ok(Tier::App),
        TierKind::User => question.user.cloned().map(Tier::User).ok_or(Reason::UserMissing),
    }
}

/// The refusal of what a role does not cover, with the role that would.
pub(super) fn beyond_role(
    question: &Question<'_>,
    integration: &Integration,
    grant: Option<&Grant>,
    act: &Act<'_>,
) -> Reason {
    let service = &integration.service;
    let needed = service.roles.iter().find(|role| line_for(role, question, service).is_ok());
    let has = match grant {
        Some(grant) => format!("may use {} as {}", integration.id, grant.role.id),
        None => format!("has no role on {}", integration.id),
    };
    let shown = match act {
        Act::Http(method, path) if *method != Method::Other => {
            let path = integration.plan.shown_path(path.as_str()).unwrap_or_else(|| path.as_str().to_owned());
            let path: String = path.chars().take(200).collect();
            format!("{} {path}", method.as_str())
        }
        act => act.to_string(),
    };
    let needs = match needed {
        Some(role) => format!("{shown} needs {}", role.id),
        None => format!("no role of {} covers {shown}", service.plan.id),
    };
    Reason::ActionDenied {
        detail: format!("{} ({}) {has}; {needs}", question.agent, question.tenant),
        needed_role: needed.map(|role| role.id.shared()),
        granted_role: grant.map(|grant| grant.role.id.shared()),
    }
}
