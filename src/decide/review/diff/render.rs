//! A difference as sentences, and as JSON.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use super::{Access, Change, Diff, Kind};

/// Up to so many equal sentences stand on their own.
const ALONE: usize = 3;

impl Kind {
    /// What a program asks first.
    fn change(self) -> &'static str {
        match self {
            Self::Gain | Self::Weaker => "gained",
            Self::Loss | Self::Stricter => "lost",
            Self::Changed => "changed",
        }
    }

    fn sign(self) -> char {
        match self {
            Self::Gain | Self::Weaker => '+',
            Self::Loss | Self::Stricter => '-',
            Self::Changed => '~',
        }
    }
}

impl Change {
    /// `t_acme/triage-bot`.
    fn who(&self) -> String {
        match (&self.tenant, &self.agent) {
            (Some(tenant), Some(agent)) => format!("{tenant}/{agent}"),
            (Some(tenant), None) => tenant.to_string(),
            _ => String::new(),
        }
    }

    /// What stands before the name.
    fn beginning(&self) -> String {
        let write = if self.writes() && self.kind.sign() == '+' { " WRITE" } else { "" };
        format!("{}{write}", self.kind.sign())
    }

    /// What stands between a name and the rest.
    fn joint(&self) -> &'static str {
        match (self.kind, &self.agent) {
            (Kind::Weaker | Kind::Stricter, Some(_)) => ": ",
            _ => " ",
        }
    }
}

/// The whole sentence.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.who();
        let joint = if who.is_empty() { "" } else { self.joint() };
        write!(f, "{} {who}{joint}{}{}{}", self.beginning(), self.what, self.with, self.note)
    }
}

/// What changes that are told together have in common: kind, access, tier, whether it is enforced and of an agent, and
/// what is said.
type Alike<'c> = (Kind, Option<Access>, Option<&'static str>, bool, bool, &'c str, &'c str);

/// A line for each difference; equal ones of many tenants are one line.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return writeln!(f, "no change in reach");
        }
        let mut places: HashMap<Alike<'_>, usize> = HashMap::new();
        let mut groups: Vec<Vec<&Change>> = Vec::new();
        for change in &self.changes {
            let key = (
                change.kind,
                change.access,
                change.credential.as_ref().map(|credential| credential.tier),
                change.enforced,
                change.agent.is_some(),
                &*change.what,
                &*change.note,
            );
            let place = *places.entry(key).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.push(change),
                None => groups.push(vec![change]),
            }
        }
        for group in groups {
            match group.as_slice() {
                [first, _, _, _, ..] if first.tenant.is_some() => many(first, &group, f)?,
                few => few.iter().try_for_each(|change| writeln!(f, "{change}"))?,
            }
        }
        Ok(())
    }
}

/// One line for many equal changes.
fn many(first: &Change, group: &[&Change], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let whos: BTreeSet<String> = group.iter().map(|change| change.who()).collect();
    let tenants: BTreeSet<&str> = group.iter().filter_map(|change| change.tenant.as_deref()).collect();
    let tenants = match tenants.len() {
        1 => "1 tenant".to_owned(),
        count => format!("{count} tenants"),
    };
    let agents = first.agent.is_some();
    let who =
        if agents { format!("{} agents of {tenants}", whos.len()) } else { format!("each of {tenants}") };
    let withs: BTreeSet<&str> = group.iter().map(|change| &*change.with).collect();
    let with = if withs.len() == 1 || (agents && withs.len() <= ALONE) {
        withs.into_iter().collect::<Vec<_>>().join(" or")
    } else if agents {
        ", each via its own integration".to_owned()
    } else {
        ", in its own way".to_owned()
    };
    let names: Vec<&str> = whos.iter().take(ALONE).map(String::as_str).collect();
    let more = if whos.len() > ALONE { ", …" } else { "" };
    let Change { what, note, .. } = first;
    let (beginning, joint) = (first.beginning(), first.joint());
    writeln!(f, "{beginning} {who}{joint}{what}{with}{note} ({}{more})", names.join(", "))
}

impl Diff {
    /// Everything as JSON, nothing grouped.
    pub fn to_json(&self) -> serde_json::Value {
        let changes = self.changes.iter().map(|change| {
            let mut value = serde_json::json!(change);
            if let Some(members) = value.as_object_mut() {
                members.insert("change".to_owned(), change.kind.change().into());
                members.insert("sentence".to_owned(), change.to_string().into());
            }
            value
        });
        serde_json::json!({
            "changed": !self.changes.is_empty(),
            "changes": changes.collect::<Vec<_>>(),
        })
    }
}
