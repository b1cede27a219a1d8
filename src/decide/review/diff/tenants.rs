//! Who may do what: tenant by tenant, agent by agent, integration by integration.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

use super::{
    About, Attached, Change, Kind, Side, choice, facts,
    hosts::{Hosts, Names, Reach},
    limits,
    lines::{self, Held, Lines},
    services,
    units::Part,
};
use crate::{
    context::{AgentId, TenantId},
    decide::{
        judge::Mode,
        parts::tenant::{Agent, Grant, Integration, Tenant},
    },
};

/// The roles and services that were compared, by their addresses.
type Compared = HashMap<[usize; 4], Rc<Lines>>;

/// Compares everything that belongs to a tenant.
pub(super) fn compare(old: &Side<'_>, new: &Side<'_>, changes: &mut Vec<Change>) {
    let of = |side: &Side<'_>| -> BTreeSet<String> {
        side.policy.named_tenants().map(|(id, _)| id.as_str().to_owned()).collect()
    };
    let mut walk = Walk { old, new, compared: HashMap::new(), services: HashSet::new(), changes };
    let names: BTreeSet<String> = of(old).union(&of(new)).cloned().collect();
    for name in names {
        if let Ok(id) = TenantId::parse(&name) {
            walk.tenant(&id, name.as_str().into());
        }
    }
}

struct Walk<'w, 'p> {
    old: &'w Side<'p>,
    new: &'w Side<'p>,
    compared: Compared,
    /// Pairs of services whose own facts were compared.
    services: HashSet<[usize; 2]>,
    changes: &'w mut Vec<Change>,
}

/// One tenant in both policies.
struct Both<'p> {
    name: Arc<str>,
    old: Option<&'p Tenant>,
    new: Option<&'p Tenant>,
    /// Whether the old policy let everything out, and whether the new one does.
    was_shadow: bool,
    is_shadow: bool,
}

/// An integration of a policy, and its number in its tenant.
#[derive(Clone, Copy)]
pub(super) struct Own<'p> {
    pub(super) number: usize,
    pub(super) integration: &'p Integration,
}

/// One integration in both policies.
pub(super) struct Pair<'p> {
    pub(super) old: Option<Own<'p>>,
    pub(super) new: Option<Own<'p>>,
    /// What is needed of it: where both reach, where only one of them is the agent's, the credentials.
    both: OnceCell<Hosts>,
    only_old: OnceCell<Hosts>,
    only_new: OnceCell<Hosts>,
    was_attached: OnceCell<Arc<Attached>>,
    is_attached: OnceCell<Arc<Attached>>,
}

/// An agent in both policies.
struct Who<'p> {
    name: Option<&'p AgentId>,
    old: Has<'p>,
    new: Has<'p>,
}

/// What an agent has in one policy, by the numbers of the integrations.
struct Has<'p> {
    grants: HashMap<usize, &'p Grant>,
    everyones: HashMap<usize, &'p Grant>,
    is_listed: bool,
    disabled: bool,
}

impl<'p> Has<'p> {
    fn of(listed: &BTreeMap<Option<&'p AgentId>, &'p Agent>, name: Option<&AgentId>) -> Self {
        let grants = |agent: Option<&&'p Agent>| -> HashMap<usize, &'p Grant> {
            agent.filter(|agent| !agent.disabled).into_iter().flat_map(|agent| agent.grants()).collect()
        };
        let own = listed.get(&name);
        let everyone = listed.get(&None);
        let agent = own.or(everyone);
        Self {
            grants: grants(agent),
            everyones: grants(everyone),
            is_listed: own.is_some(),
            disabled: agent.is_some_and(|agent| agent.disabled),
        }
    }

    fn on(&self, own: Option<Own<'p>>) -> Option<&'p Grant> {
        self.grants.get(&own?.number).copied()
    }

    /// Whether what it has there is what every agent has.
    fn is_common(&self, own: Option<Own<'p>>) -> bool {
        let everyones = own.and_then(|own| self.everyones.get(&own.number));
        !self.is_listed || self.on(own).map(|grant| &grant.label) == everyones.map(|grant| &grant.label)
    }
}

impl<'p> Walk<'_, 'p> {
    fn tenant(&mut self, id: &TenantId, name: Arc<str>) {
        let (old, new) = (self.old.policy.tenant(id), self.new.policy.tenant(id));
        let before = old.map(|_| self.old.policy.mode_of(id));
        let now = new.map(|_| self.new.policy.mode_of(id));
        let [was_shadow, is_shadow] = [before, now].map(|mode| mode == Some(Mode::Shadow));
        let both = Both { name, old, new, was_shadow, is_shadow };
        facts::of_modes(&both.name, before, now, self.changes);
        limits::of_tenants(&both.name, both.old, both.new, self.changes);
        let pairs = self.pairs(&both);
        for pair in &pairs {
            self.facts(&both, pair);
        }
        let listed = |tenant: Option<&'p Tenant>| -> BTreeMap<Option<&'p AgentId>, &'p Agent> {
            tenant.into_iter().flat_map(Tenant::agents).collect()
        };
        let (old_agents, new_agents) = (listed(both.old), listed(both.new));
        let choices = choice::Choices::of(&pairs);
        let names: BTreeSet<Option<&AgentId>> = old_agents.keys().chain(new_agents.keys()).copied().collect();
        for name in names {
            let who = Who { name, old: Has::of(&old_agents, name), new: Has::of(&new_agents, name) };
            for pair in &pairs {
                // What is everybody's is said once, of `*`.
                if name.is_none() || !who.old.is_common(pair.old) || !who.new.is_common(pair.new) {
                    self.reach(&both, &who, pair);
                }
            }
            let common = |pair: &Pair<'p>| who.old.is_common(pair.old) && who.new.is_common(pair.new);
            if name.is_none() || !pairs.iter().all(common) {
                let held = |pair: &Pair<'p>| (who.old.on(pair.old).is_some(), who.new.on(pair.new).is_some());
                let agent = name.map_or("*", |name| name.as_str());
                choices.compare(&both.name, agent, &pairs, held, self.changes);
            }
        }
    }

    /// What comes with an integration, whoever has a role on it.
    fn facts(&mut self, both: &Both<'p>, pair: &Pair<'p>) {
        match (pair.old, pair.new) {
            (Some(old), Some(new)) => {
                let (old, new) = (old.integration, new.integration);
                facts::of_integrations(&both.name, (self.old, old), (self.new, new), self.changes);
                limits::of_integrations(&both.name, old, new, self.changes);
                if self.services.insert([address(&*old.service), address(&*new.service)]) {
                    services::compare(&old.service, &new.service, self.changes);
                }
            }
            (None, Some(new)) => services::of_new(&both.name, new.integration, self.changes),
            (_, None) => {}
        }
    }

    /// The integrations of both policies that belong together: by name, or by what they reach with what.
    fn pairs(&mut self, both: &Both<'p>) -> Vec<Pair<'p>> {
        let of = |tenant: Option<&'p Tenant>| -> Vec<Own<'p>> {
            let all = tenant.map(|tenant| tenant.integrations.as_slice()).unwrap_or_default();
            let all = all.iter().enumerate().map(|(number, integration)| Own { number, integration });
            all.filter(|own| !own.integration.disabled).collect()
        };
        let (old, new) = (of(both.old), of(both.new));
        let name = |own: &Own<'p>| own.integration.id.as_str();
        let new_names: HashMap<&str, Own<'p>> = new.iter().map(|own| (name(own), *own)).collect();
        let old_names: HashSet<&str> = old.iter().map(name).collect();
        let alone = old.iter().any(|own| !new_names.contains_key(name(own)));
        let mut others: HashMap<String, Vec<Own<'p>>> = HashMap::new();
        for own in new.iter().rev().filter(|own| alone && !old_names.contains(name(own))) {
            others.entry(meaning(self.new, &both.name, own.integration)).or_default().push(*own);
        }
        let mut renamed = HashSet::new();
        let mut pairs: Vec<Pair<'p>> = Vec::new();
        for own in old {
            let found = new_names.get(name(&own)).copied().or_else(|| {
                let found = others.get_mut(&meaning(self.old, &both.name, own.integration))?.pop()?;
                renamed.insert(found.number);
                let what = format!("calls `{}` now `{}`", own.integration.id, found.integration.id);
                let with = "; agents name it in `X-Agent-Integration` and in the gateway's paths";
                let change = Change::of_tenant(&both.name, Kind::Changed, About::Name, &what, with);
                self.changes.push(change.on(found.integration));
                Some(found)
            });
            pairs.push(Pair::of(Some(own), found));
        }
        let rest = new.iter().filter(|own| !old_names.contains(name(own)) && !renamed.contains(&own.number));
        pairs.extend(rest.map(|own| Pair::of(None, Some(*own))));
        pairs
    }

    /// What changes for an agent on one integration.
    fn reach(&mut self, both: &Both<'p>, who: &Who<'p>, pair: &Pair<'p>) {
        let held = |own: Option<Own<'p>>, grant: Option<&'p Grant>| {
            Some(Held { role: &grant?.role, service: &own?.integration.service })
        };
        let (old, new) = (held(pair.old, who.old.on(pair.old)), held(pair.new, who.new.on(pair.new)));
        let hosts = match (old, new) {
            (None, None) => return,
            (Some(_), Some(_)) => pair.both(both),
            (Some(_), None) => pair.only_old(both),
            (None, Some(_)) => pair.only_new(both),
        };
        let key =
            |held: Option<Held<'p>>| held.map_or([0, 0], |held| [address(held.role), address(held.service)]);
        let ([a, b], [c, d]) = (key(old), key(new));
        let lines =
            self.compared.entry([a, b, c, d]).or_insert_with(|| lines::compare(old, new).into()).clone();
        let teller = Teller { both, who, pair, sides: (self.old, self.new) };
        let mut say = |kind: Kind, parts: &[Part], hosts: &Names| {
            for part in parts.iter().filter(|_| !hosts.all.is_empty()) {
                self.changes.push(teller.change(kind, part, hosts));
            }
        };
        let anything = [Part::anything()];
        match (both.was_shadow && old.is_some(), both.is_shadow && new.is_some()) {
            (false, true) => say(Kind::Gain, &anything, &pair.only_new(both).gained),
            (true, false) => say(Kind::Loss, &anything, &pair.only_old(both).lost),
            (true, true) => {
                say(Kind::Gain, &anything, &hosts.gained);
                say(Kind::Loss, &anything, &hosts.lost);
            }
            (false, false) => {}
        }
        say(Kind::Gain, &lines.after, &hosts.gained);
        say(Kind::Gain, &lines.gains, &hosts.common);
        say(Kind::Weaker, &lines.weaker, &hosts.common);
        say(Kind::Stricter, &lines.stricter, &hosts.common);
        say(Kind::Loss, &lines.losses, &hosts.common);
        say(Kind::Loss, &lines.before, &hosts.lost);
    }
}

/// What makes an integration the same under another name. Never shown.
fn meaning(side: &Side<'_>, tenant: &str, integration: &Integration) -> String {
    let hosts: BTreeSet<String> = integration.hosts().iter().map(ToString::to_string).collect();
    format!("{hosts:?} {:?} {}", integration.tier, facts::spec(side, tenant, integration))
}

impl<'p> Pair<'p> {
    fn of(old: Option<Own<'p>>, new: Option<Own<'p>>) -> Self {
        Self {
            old,
            new,
            both: OnceCell::new(),
            only_old: OnceCell::new(),
            only_new: OnceCell::new(),
            was_attached: OnceCell::new(),
            is_attached: OnceCell::new(),
        }
    }

    fn both(&self, both: &Both<'p>) -> &Hosts {
        self.both.get_or_init(|| Hosts::compare(&reach(self.old, both.old), &reach(self.new, both.new)))
    }

    fn only_old(&self, both: &Both<'p>) -> &Hosts {
        self.only_old.get_or_init(|| Hosts::compare(&reach(self.old, both.old), &Reach::default()))
    }

    fn only_new(&self, both: &Both<'p>) -> &Hosts {
        self.only_new.get_or_init(|| Hosts::compare(&Reach::default(), &reach(self.new, both.new)))
    }
}

fn reach<'p>(own: Option<Own<'p>>, tenant: Option<&'p Tenant>) -> Reach<'p> {
    own.map(|own| Reach::of(own.integration, tenant)).unwrap_or_default()
}

/// Tells of one agent on one integration.
struct Teller<'t, 'p> {
    both: &'t Both<'p>,
    who: &'t Who<'p>,
    pair: &'t Pair<'p>,
    sides: (&'t Side<'p>, &'t Side<'p>),
}

impl Teller<'_, '_> {
    fn change(&self, kind: Kind, part: &Part, hosts: &Names) -> Change {
        let (is_any, text) = (part.action.kind == "any", &hosts.text);
        let at = if is_any { "to" } else { "on" };
        let what = match kind {
            Kind::Gain => format!("may {} {at} {text}", part.text),
            Kind::Loss => format!("may no longer {} {at} {text}", part.text),
            Kind::Changed | Kind::Weaker | Kind::Stricter => format!("{} {at} {text}", part.text),
        };
        let own = if kind == Kind::Loss { self.pair.old } else { self.pair.new.or(self.pair.old) };
        let attached = self.attached(kind);
        let name = own.map(|own| own.integration.id.as_str()).unwrap_or_default();
        let enforced = is_any || self.is_enforced();
        let with = match &attached {
            Some(attached) if kind == Kind::Gain => {
                let text = if attached.kind == "none" { "no credential" } else { &attached.text };
                let shadow = if enforced { "" } else { "; not enforced" };
                format!(" via {name} ({}, {text}{shadow})", attached.tier)
            }
            _ => format!(" via {name}{}", if enforced { "" } else { " (not enforced)" }),
        };
        let note = match kind {
            Kind::Loss if is_any && self.is_enforced() => "",
            Kind::Loss if is_any => "; without its credential they go out still",
            _ => &part.remark.note,
        };
        let change = Change::of_tenant(&self.both.name, kind, About::Reach, &what, &with);
        Change {
            access: Some(part.access),
            enforced,
            agent: Some(self.who.name.map_or("*", |name| name.as_str()).into()),
            integration: Some(name.into()),
            service: own.map(|own| own.integration.service.plan.id.as_str().into()),
            action: Some(part.action.clone()),
            hosts: hosts.all.clone(),
            credential: attached,
            guards: part.remark.guards.clone(),
            note: note.into(),
            ..change
        }
    }

    /// The credential that it is about.
    fn attached(&self, kind: Kind) -> Option<Arc<Attached>> {
        let describe = |cell: &OnceCell<Arc<Attached>>, side: &Side<'_>, own: Option<Own<'_>>| {
            let integration = own?.integration;
            let attached = || side.attached(&self.both.name, integration).into();
            Some(cell.get_or_init(attached).clone())
        };
        let old = || describe(&self.pair.was_attached, self.sides.0, self.pair.old);
        let new = || describe(&self.pair.is_attached, self.sides.1, self.pair.new);
        if kind == Kind::Loss { old() } else { new().or_else(old) }
    }

    /// Whether the new policy enforces what it says. What an operator switched off is refused in any mode.
    fn is_enforced(&self) -> bool {
        let switched_off = |own: Own<'_>| {
            let tenant = self.both.new;
            let now = tenant.and_then(|tenant| tenant.integration(own.integration.id.as_str()));
            self.pair.new.is_none() && now.is_some_and(|now| now.disabled)
        };
        !self.both.is_shadow || self.who.new.disabled || self.pair.old.is_some_and(switched_off)
    }
}

fn address<T>(of: &T) -> usize {
    std::ptr::from_ref(of).addr()
}
