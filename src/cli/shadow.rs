//! `egret shadow report`: what enforcing would have refused.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    data, exit, message,
    records::{Decision, LogArgs, Objection, Place, Tally},
};
use crate::{
    context::{AgentId, IntegrationId, TenantId},
    serve::StartError,
};

/// The most groups that are kept apart.
const GROUPS: usize = 20_000;

#[derive(Debug, Subcommand)]
pub(super) enum ShadowCommand {
    /// Say what enforcing the policy would have refused
    Report(ReportArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  egret shadow report /var/log/egret/decisions.jsonl --since 24h
  egret shadow report --json < decisions.jsonl")]
pub(super) struct ReportArgs {
    #[command(flatten)]
    log: LogArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Requests that would be refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    tenant: TenantId,
    agent: AgentId,
    code: String,
    integration: Option<IntegrationId>,
    guards: Vec<String>,
    place: Place,
    /// What the body asked for, where egret looked: `tool delete_issue`.
    what: Option<String>,
    method: String,
    route: String,
}

/// What is known of them together.
#[derive(Debug)]
struct Group {
    count: u64,
    first: String,
    last: String,
    /// One of them.
    example: Decision,
    reason: String,
}

#[derive(Debug, Default)]
struct Report {
    groups: BTreeMap<Key, Group>,
    refused: u64,
    /// Requests beyond the most groups.
    apart: u64,
}

pub(super) fn shadow(ShadowCommand::Report(args): &ShadowCommand) -> Result<u8, StartError> {
    let mut report = Report::default();
    let tally = args.log.read(|decision| report.take(decision))?;
    if report.apart > 0 {
        message(format_args!("{} requests are in none of the first {GROUPS} groups", report.apart));
    }
    if args.json {
        data(report.to_json(&tally));
    } else {
        report.show(&tally);
    }
    Ok(exit::OK)
}

impl Report {
    fn take(&mut self, mut decision: Decision) {
        let Some(Objection { code, reason, guards }) = decision.objection.take() else { return };
        self.refused += 1;
        let key = Key {
            tenant: decision.tenant.clone(),
            agent: decision.agent.clone(),
            code,
            integration: decision.integration.clone(),
            guards,
            place: decision.place.clone(),
            what: decision.said.what(),
            method: decision.method.clone(),
            route: decision.route(),
        };
        if let Some(group) = self.groups.get_mut(&key) {
            group.count += 1;
            if decision.at < group.first {
                group.first = decision.at;
            } else if decision.at > group.last {
                group.last = decision.at;
            }
        } else if self.groups.len() < GROUPS {
            let (first, last) = (decision.at.clone(), decision.at.clone());
            self.groups.insert(key, Group { count: 1, first, last, example: decision, reason });
        } else {
            self.apart += 1;
        }
    }

    /// The most frequent first.
    fn sorted(&self) -> Vec<(&Key, &Group)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
        groups
    }

    fn to_json(&self, tally: &Tally) -> Value {
        let groups = self.sorted().into_iter().map(|(key, group)| {
            json!({
                "count": group.count,
                "tenant_id": key.tenant,
                "agent_id": key.agent,
                "code": key.code,
                "reason": group.reason,
                "guards": key.guards,
                "integration_id": key.integration,
                "service": group.example.service,
                "role": group.example.role,
                "what": key.what,
                "host": key.place.to_string(),
                "method": key.method,
                "path": key.route,
                "first": group.first,
                "last": group.last,
                "example": {
                    "decision_id": group.example.id,
                    "correlation_id": group.example.correlation_id,
                    "path": group.example.path.as_str(),
                },
            })
        });
        let (first, last) =
            tally.span.as_ref().map_or((None, None), |(first, last)| (Some(first), Some(last)));
        json!({
            "first": first,
            "last": last,
            "lines": tally.lines,
            "broken_lines": tally.broken,
            "requests": tally.decisions,
            "would_be_refused": self.refused,
            "groups": groups.collect::<Vec<_>>(),
        })
    }

    fn show(&self, tally: &Tally) {
        let Some((first, last)) = &tally.span else {
            data("no request left egret in this time");
            return;
        };
        data(format_args!(
            "enforcing would have refused {} of {} requests, {first} to {last}",
            self.refused, tally.decisions
        ));
        for (key, group) in self.sorted() {
            let Key { tenant, agent, code, what, method, place, route, .. } = key;
            let via = key.integration.as_ref().map_or_else(String::new, |via| format!(" via {via}"));
            data(format_args!("\n{:>7}  {tenant}/{agent}  {code}", group.count));
            match what {
                Some(what) => data(format_args!("         {what} @ {place}{route}{via}")),
                None => data(format_args!("         {method} {place}{route}{via}")),
            }
            let guards =
                if key.guards.is_empty() { String::new() } else { format!("{}: ", key.guards.join(", ")) };
            if !group.reason.is_empty() {
                data(format_args!("         {guards}{}", group.reason));
            }
            let step = group.example.correlation_id.as_ref().map_or("-", |id| id.as_str());
            data(format_args!(
                "         {} to {}, such as decision {} of step {step}",
                group.first, group.last, group.example.id
            ));
        }
    }
}
