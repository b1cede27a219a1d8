//! What is written down and has no effect, and what has less effect than it seems.

use std::collections::{HashMap, HashSet};

use super::{Code, Look, is_own};
use crate::decide::{
    files::outline::{entries, items, text},
    judge::Mode,
    parts::{
        covers::{Hold, Unit},
        role::Role,
        service::Service,
    },
};

pub(super) fn look(look: &mut Look<'_>) {
    services_and_roles(look);
    integrations_and_agents(look);
    guards(look);
    promises(look);
    shadow(look);
}

fn services_and_roles(look: &mut Look<'_>) {
    let used: HashSet<*const Service> = (look.policy.tenants())
        .flat_map(|tenant| &tenant.integrations)
        .map(|integration| std::ptr::from_ref(&*integration.service))
        .collect();
    let given: HashSet<*const Role> =
        look.roles.iter().map(|given| std::ptr::from_ref(&**given.role)).collect();
    let mut found = Vec::new();
    for (name, service) in look.policy.services().filter(|(_, service)| is_own(service.span)) {
        if !used.contains(&std::ptr::from_ref(&**service)) {
            found.push((Code::UnusedService, service.span, format!("no tenant is connected to `{name}`")));
            continue;
        }
        let mut live: Vec<&str> = (service.roles.iter())
            .filter(|role| given.contains(&std::ptr::from_ref(&***role)))
            .map(|role| role.id.as_str())
            .collect();
        let mut at = 0;
        while let Some(role) = live.get(at).copied() {
            at += 1;
            let lines = look.outline.find(&["services", name, "roles", role]).map(items).unwrap_or_default();
            let included = lines.iter().flat_map(entries).filter_map(|(_, included)| text(included));
            let new: Vec<&str> = included.filter(|role| !live.contains(role)).collect();
            live.extend(new);
        }
        for role in service.roles.iter().filter(|role| !live.contains(&role.id.as_str())) {
            let at = look.outline.key(&["services", name, "roles", role.id.as_str()]);
            let message = format!("nobody has the role `{}` of `{name}`", role.id);
            found.push((Code::UnusedRole, at.unwrap_or(service.span), message));
        }
    }
    for (code, at, message) in found {
        look.report(code, at, message)
            .hint(format!("leave it out, or write `# egret: allow {code}` and why it stays"));
    }
}

fn integrations_and_agents(look: &mut Look<'_>) {
    let policy = look.policy;
    for (id, tenant) in policy.named_tenants() {
        let mut used = HashSet::new();
        let mut agents = 0;
        for (name, agent) in tenant.agents() {
            agents += 1;
            used.extend(agent.grants().map(|(number, _)| number));
            if agent.disabled || agent.grants().next().is_some() {
                continue;
            }
            let name = name.map_or("*", |name| name.as_str());
            let at = look.outline.key(&["tenants", id.as_str(), "agents", name]).unwrap_or(tenant.span);
            look.report(Code::EmptyAgent, at, format!("`{name}` of `{id}` has no role on any integration"))
                .hint("give it a role, or write `disabled: true` to switch it off");
        }
        if agents == 0 {
            let message = format!("the tenant `{id}` has no agents: nobody can use what it has");
            look.report(Code::EmptyTenant, tenant.span, message).hint("list its agents, or leave it out");
            continue;
        }
        for (number, integration) in tenant.integrations.iter().enumerate() {
            if !used.contains(&number) {
                let message = format!("no agent of `{id}` has a role on `{}`", integration.id);
                look.report(Code::UnusedIntegration, integration.span, message)
                    .hint("give an agent a role on it, or leave it out with its credential");
            }
        }
    }
}

fn guards(look: &mut Look<'_>) {
    let mut connected: HashSet<String> = HashSet::new();
    for integration in look.policy.tenants().flat_map(|tenant| &tenant.integrations) {
        connected.insert(integration.service.plan.id.to_string());
    }
    let mut units: HashMap<*const Role, Vec<Unit>> = HashMap::new();
    for given in &look.roles {
        let all = given.role.lines.iter().flat_map(|line| Unit::of(&line.grants));
        units.insert(std::ptr::from_ref(&**given.role), all.collect());
    }
    let mut found = Vec::new();
    for guard in look.policy.guards() {
        if let Some(name) = guard.service.as_ref().filter(|name| !connected.contains(*name)) {
            let message = format!("`{}` guards nothing: no tenant is connected to `{name}`", guard.text);
            found.push((guard.span, message, false));
            continue;
        }
        let reaches = look.roles.iter().any(|given| {
            let named = guard.service.as_deref().is_none_or(|only| given.service.plan.id.as_str() == only);
            let units = units.get(&std::ptr::from_ref(&**given.role)).map(Vec::as_slice).unwrap_or_default();
            named && units.iter().any(|unit| guard.hold(unit, given.service) != Hold::None)
        });
        if !reaches {
            let message =
                format!("`{}` guards nothing: no role that somebody has covers any of it", guard.text);
            found.push((guard.span, message, guard.service.is_none()));
        }
    }
    for (at, message, for_the_future) in found {
        let found = look.report(Code::UnusedGuard, at, message);
        found.hint("look for a slip in the path or the name; a guard matches what roles grant");
        // A guard for every service may stand there for roles to come.
        if for_the_future {
            found.only_info();
        }
    }
}

fn promises(look: &mut Look<'_>) {
    if look.policy.promises() == 0 && !look.roles.is_empty() {
        let at = look.outline.start();
        look.report(Code::NoTests, at, "the policy grants something and promises nothing")
            .hint("write under `tests` what must stay allowed and what must stay refused");
    }
}

fn shadow(look: &mut Look<'_>) {
    let policy = look.policy;
    if policy.mode() == Mode::Shadow {
        let at = look.outline.all("mode").next().map_or_else(|| look.outline.start(), |node| node.span);
        look.report(Code::ShadowMode, at, "nothing is refused by rule: the policy is in shadow mode");
    }
    for (id, tenant) in policy.named_tenants() {
        if tenant.mode == Some(Mode::Shadow) {
            let at =
                look.outline.find(&["tenants", id.as_str(), "mode"]).map_or(tenant.span, |node| node.span);
            let message = format!("nothing is refused by rule for `{id}`: the tenant is in shadow mode");
            look.report(Code::ShadowMode, at, message);
        }
    }
    for guard in policy.guards().iter().filter(|guard| guard.shadow) {
        let message = format!("`{}` takes nothing away: the guard is in shadow mode", guard.text);
        look.report(Code::ShadowMode, guard.span, message);
    }
}
