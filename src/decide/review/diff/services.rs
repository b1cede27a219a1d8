//! How a service is reached.

use std::{fmt::Debug, sync::Arc, time::Duration};

use super::{About, Change, Kind};
use crate::{
    decide::parts::{
        protocol::{Endpoint, Protocol},
        service::Service,
        tenant::Integration,
    },
    plan::{self, Intercept, PrivateReach},
    target::Scheme,
};

/// What stands in clear on the way.
const IN_CLEAR: &str = "is reached by http: requests and any credential go out in clear";

/// What is different between two services.
pub(super) fn compare(old: &Service, new: &Service, changes: &mut Vec<Change>) {
    let (was, is) = (&old.plan, &new.plan);
    let name = if was.id == is.id {
        format!("service {}", is.id)
    } else {
        format!("service {}, in place of {}", is.id, was.id)
    };
    let mut say = |what: String| {
        let change = Change::of_policy(Kind::Changed, About::Service, &format!("{name}: {what}"));
        changes.push(Change { service: Some(is.id.as_str().into()), ..change });
    };
    if was.scheme != is.scheme {
        say(match is.scheme {
            Scheme::Http => IN_CLEAR.to_owned(),
            Scheme::Https => "is reached by https".to_owned(),
        });
    }
    if was.intercept != is.intercept {
        say(match is.intercept {
            Intercept::Never => {
                "its tunnels stay closed (`intercept: never`): no request is judged, no credential attached"
                    .to_owned()
            }
            Intercept::Always => "its tunnels are opened, each request is judged".to_owned(),
        });
    }
    if was.private != is.private {
        say(format!("may resolve to {}, was {}", private(&is.private), private(&was.private)));
    }
    of_protocols(old, new, &mut say);
    let stripped = [
        ("strips the headers", texts(&was.strip.headers), texts(&is.strip.headers)),
        ("strips the query keys", texts(&was.strip.query), texts(&is.strip.query)),
    ];
    let kept = kept(was).into_iter().zip(kept(is)).map(|((words, was), (_, is))| (words, was, is));
    for (words, was, is) in stripped.into_iter().chain(kept).filter(|(_, was, is)| was != is) {
        let shown = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        say(format!("{words} {}, was {}", shown(&is), shown(&was)));
    }
    if was.max_body != is.max_body {
        let size =
            |size: Option<u64>| size.map_or("the usual one".to_owned(), |size| format!("{size} bytes"));
        say(format!("the largest body is {}, was {}", size(is.max_body), size(was.max_body)));
    }
    if was.response_timeout != is.response_timeout {
        let time = |time: Option<Duration>| time.map_or("the usual time".to_owned(), |t| format!("{t:?}"));
        let (is, was) = (time(is.response_timeout), time(was.response_timeout));
        say(format!("the head of an answer may take {is}, was {was}"));
    }
    if was.via != is.via {
        say(format!("`Via` is {}", if is.via { "sent" } else { "not sent" }));
    }
}

/// What is not as usual with the service of a new integration, and lets more out or in.
pub(super) fn of_new(tenant: &Arc<str>, integration: &Integration, changes: &mut Vec<Change>) {
    let plan = &integration.service.plan;
    let mut facts: Vec<String> = Vec::new();
    if plan.scheme == Scheme::Http {
        facts.push(IN_CLEAR.to_owned());
    }
    if plan.private != PrivateReach::Nowhere {
        facts.push(format!("may resolve to {}", private(&plan.private)));
    }
    let kept = kept(plan).into_iter().filter(|(_, list)| !list.is_empty());
    facts.extend(kept.map(|(words, list)| format!("{words} {}", list.join(", "))));
    if !facts.is_empty() {
        let what = format!("has a new integration that {}", facts.join("; that "));
        let with = format!(" ({})", integration.id);
        let change = Change::of_tenant(tenant, Kind::Gain, About::Service, &what, &with);
        changes.push(change.on(integration));
    }
}

fn kept(plan: &plan::Service) -> [(&'static str, Vec<String>); 4] {
    let keep = &plan.keep;
    [
        ("lets through the request headers", texts(&keep.request_headers)),
        ("lets through the query keys", texts(&keep.query)),
        ("lets through the response headers", texts(&keep.response_headers)),
        ("lets through the trailers", texts(&keep.trailers)),
    ]
}

fn of_protocols(old: &Service, new: &Service, say: &mut impl FnMut(String)) {
    match (&old.protocol, &new.protocol) {
        (Protocol::Mcp(was), Protocol::Mcp(is)) => of_endpoints(was, is, say),
        (Protocol::Http(_), Protocol::Mcp(_)) => say("is an MCP server now".to_owned()),
        (Protocol::Mcp(_), Protocol::Http(_)) => say("is an MCP server no longer".to_owned()),
        (Protocol::Http(Some(was)), Protocol::Http(Some(is))) if was != is => {
            say(format!("its GraphQL is at {is}, was {was}"));
        }
        _ => {}
    }
}

fn of_endpoints(was: &Endpoint, is: &Endpoint, say: &mut impl FnMut(String)) {
    if was.path() != is.path() {
        say(format!("its MCP endpoint is {}, was {}", is.path().as_str(), was.path().as_str()));
    }
    match (was.answers_in_a_stream(), is.answers_in_a_stream()) {
        (false, true) => {
            let posts = is.posts_to().as_str();
            say(format!("is spoken to by HTTP with SSE (`transport: sse`), with messages to {posts}"));
        }
        (true, false) => say("is spoken to by Streamable HTTP, was HTTP with SSE".to_owned()),
        (true, true) if was.posts_to() != is.posts_to() => {
            let (is, was) = (is.posts_to().as_str(), was.posts_to().as_str());
            say(format!("its messages go to {is}, was {was}"));
        }
        _ => {}
    }
}

fn private(reach: &PrivateReach) -> String {
    match reach {
        PrivateReach::Nowhere => "public addresses only".to_owned(),
        PrivateReach::Anywhere => "any private address".to_owned(),
        PrivateReach::Within(networks) => format!("private addresses in {}", texts(networks).join(", ")),
    }
}

fn texts<T: ToString + Debug>(list: &[T]) -> Vec<String> {
    let mut texts: Vec<String> = list.iter().map(ToString::to_string).collect();
    texts.sort();
    texts
}
