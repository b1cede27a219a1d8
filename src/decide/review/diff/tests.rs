//! What a difference says, and what it costs, where there are many tenants.

use std::{fmt::Write as _, fs};

use super::*;

fn differ(old: &str, new: &str) -> Diff {
    let directory = tempfile::tempdir().unwrap();
    let [old, new] = [("old", old), ("new", new)].map(|(name, text)| {
        let path = directory.path().join(format!("{name}.yaml"));
        fs::write(&path, text).unwrap();
        path
    });
    match diff(&old, &new) {
        Ok(diff) => diff,
        Err(problems) => panic!("{}", problems.render(false)),
    }
}

fn compiled(text: &str) -> (Policy, Outline) {
    let (policy, outline) = Policy::compile_with_outline(&Sources::text("policy.yaml", text)).unwrap();
    (policy, outline)
}

fn side((policy, outline): &(Policy, Outline)) -> Side<'_> {
    Side { policy, outline, root: "/".into() }
}

/// A policy of many tenants, each with the same five integrations and two agents.
fn many(tenants: usize, lines: &str, credential: impl Fn(usize) -> String) -> String {
    let mut text = format!(
        "version: 1\nservices:\n  api:\n    hosts: [api.example]\n    roles:\n      user: [{lines}]\ntenants:\n"
    );
    for number in 0..tenants {
        let credential = credential(number);
        let _ = writeln!(
            text,
            "  t{number:05}:\n    integrations: {{api: {credential}, openai: {credential}, github: {credential}, slack: {credential}, stripe: {credential}}}\n    agents: {{bot: {{api: user, openai: caller, github: reader}}, other: {{api: user, slack: reader, stripe: reader}}}}"
        );
    }
    text
}

fn none(_: usize) -> String {
    "{credential: none}".to_owned()
}

fn own(number: usize) -> String {
    format!("{{credential: {{static: {{bearer: \"env:KEY_{number}\"}}}}}}")
}

#[test]
fn many_equal_changes_are_one_sentence_and_all_of_them_in_json() {
    let found = differ(&many(200, "GET /a", none), &many(200, "GET /a, POST /b", none));
    assert_eq!(
        found.to_string(),
        "+ WRITE 400 agents of 200 tenants may POST /b on api.example via api (APP, no credential) \
         (t00000/bot, t00000/other, t00001/bot, …)\n"
    );
    let json = found.to_json();
    assert_eq!(json["changes"].as_array().unwrap().len(), 400);
    assert_eq!(json["changes"][1]["agent"], "other");
    assert_eq!(json["changes"][1]["write"], true);
    assert_eq!(
        json["changes"][1]["sentence"],
        "+ WRITE t00000/other may POST /b on api.example via api (APP, no credential)"
    );

    let found = differ(&many(200, "GET /a", own), &many(200, "GET /a, POST /b", own));
    assert_eq!(
        found.to_string(),
        "+ WRITE 400 agents of 200 tenants may POST /b on api.example, each via its own integration \
         (t00000/bot, t00000/other, t00001/bot, …)\n"
    );
    let found = differ(&many(200, "GET /a", none), &many(200, "GET /a", own));
    assert_eq!(
        found.to_string(),
        "~ each of 200 tenants attaches another credential, in its own way (t00000, t00001, t00002, …)\n"
    );
}

#[test]
fn few_equal_changes_are_told_one_by_one() {
    let found = differ(&many(1, "GET /a", none), &many(1, "GET /a, GET /b", none));
    assert_eq!(
        found.to_string(),
        "+ t00000/bot may GET /b on api.example via api (APP, no credential)\n\
         + t00000/other may GET /b on api.example via api (APP, no credential)\n"
    );
}

#[test]
fn ten_thousand_tenants_are_compared_in_a_moment() {
    let (old, new) = (many(10_000, "GET /a", own), many(10_000, "GET /a, POST /b", own));
    let [old, new] = [old, new].map(|text| compiled(&text));
    let started = std::time::Instant::now();
    let diff = compare(&side(&old), &side(&new));
    assert_eq!(diff.changes.len(), 20_000);
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}

mod judged {
    //! The difference agrees with what is decided: no request changes its answer and is not spoken of.

    use proptest::prelude::*;

    use super::*;
    use crate::{
        context::{AgentId, Selection, TenantId},
        decide::{judge::Question, parts::promise::Request},
    };

    fn line() -> BoxedStrategy<String> {
        let methods = prop::sample::select(vec!["GET", "HEAD", "POST", "DELETE", "GET|POST", "ANY"]);
        let paths = ["/**", "/a", "/a/", "/a/*", "/a/**", "/a/b", "/*/b", "/a*/b", "/*b/**", "/A/**"];
        (methods, prop::sample::select(paths.to_vec()))
            .prop_map(|(methods, path)| format!("{methods} {path}"))
            .boxed()
    }

    fn guard() -> BoxedStrategy<String> {
        let does = [
            "require: approval",
            "deny: no",
            "require: approval, shadow: true",
            "deny: no, when: request.path == \"/a/b\"",
        ];
        (line(), prop::sample::select(does.to_vec()))
            .prop_map(|(line, does)| format!("  - {{match: {line}, {does}}}\n"))
            .boxed()
    }

    fn field() -> BoxedStrategy<String> {
        let fields = ["query *", "query a", "mutation *", "mutation x", "mutation y*"];
        prop::sample::select(fields.to_vec()).prop_map(|field| format!("graphql {field}")).boxed()
    }

    fn field_guard() -> BoxedStrategy<String> {
        let does = prop::sample::select(vec!["require: approval", "deny: no"]);
        let what = prop_oneof![field(), Just("POST /graphql".to_owned()), Just("GET|POST /**".to_owned())];
        (what, does).prop_map(|(what, does)| format!("  - {{match: \"api {what}\", {does}}}\n")).boxed()
    }

    fn tools() -> BoxedStrategy<String> {
        let names = ["*", "get_*", "*_x", "get_x", "delete_x", "delete_*", "g*x"];
        let kinds = ["tool", "prompt"];
        (prop::sample::select(kinds.to_vec()), prop::sample::select(names.to_vec()))
            .prop_map(|(kind, name)| format!("{kind} {name}"))
            .boxed()
    }

    fn tool_guard() -> BoxedStrategy<String> {
        let does = prop::sample::select(vec!["require: approval", "deny: no"]);
        let what = prop_oneof![tools(), Just("POST /mcp".to_owned()), Just("POST /x/**".to_owned())];
        (what, does).prop_map(|(what, does)| format!("  - {{match: \"mcp {what}\", {does}}}\n")).boxed()
    }

    /// A policy with these lines and guards.
    fn written() -> impl Strategy<Value = String> {
        let some = prop::collection::vec::<BoxedStrategy<String>>;
        let roles = (some(line(), 1..3), some(field(), 0..3), some(tools(), 1..3));
        let guards = (some(guard(), 0..2), some(tool_guard(), 0..2), some(field_guard(), 0..2));
        (roles, guards).prop_map(|((lines, fields, tools), (guards, of_tools, of_fields))| {
            let mut text = format!(
                "version: 1\nservices:\n  api: {{hosts: [api.example], roles: {{user: [{}]}}}}\n  mcp: {{mcp: \"https://mcp.example/mcp\", roles: {{user: [{}]}}}}\ntenants:\n  t:\n    integrations: {{api: {{credential: none}}, mcp: {{credential: none}}}}\n    agents: {{bot: {{api: user, mcp: user}}}}\n",
                [lines, fields].concat().join(", "),
                tools.join(", "),
            );
            let guards = [guards, of_tools, of_fields].concat();
            if !guards.is_empty() {
                text.push_str("guards:\n");
            }
            text.push_str(&guards.concat());
            text
        })
    }

    /// Whether a policy allows a request, and whether somebody has to agree.
    fn answer(policy: &Policy, request: &Request) -> Option<bool> {
        let (tenant, agent) = (TenantId::parse("t").unwrap(), AgentId::parse("bot").unwrap());
        let selection = Selection { integration: None, tier: None };
        let question = Question {
            tenant: &tenant,
            agent: &agent,
            user: None,
            ask: request.ask,
            method: request.method,
            target: &request.target,
            seen: &request.seen,
            selection: &selection,
            token: None,
            at: None,
        };
        policy.judge(&question).permit().ok().map(|permit| permit.approval.is_some())
    }

    fn requests() -> Vec<Request> {
        let mut lines = Vec::new();
        for method in ["GET", "HEAD", "POST", "DELETE", "PUT"] {
            for path in ["/", "/a", "/a/", "/A/x", "/a/b", "/a/c", "/ax/b", "/x/b", "/xb/c", "/a/b/c", "/q"] {
                lines.push(format!("{method} https://api.example{path}"));
            }
        }
        for field in ["query a", "query b", "mutation x", "mutation yy"] {
            lines.push(format!("graphql {field} @ https://api.example/graphql"));
        }
        for kind in ["tool", "prompt"] {
            for name in ["get_x", "get_y", "delete_x", "delete_y", "x", "gx"] {
                lines.push(format!("{kind} {name} @ https://mcp.example/mcp"));
            }
        }
        lines.iter().map(|line| Request::read(line).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn no_answer_changes_without_a_word(old in written(), new in written()) {
            let (old_policy, new_policy) = (compiled(&old), compiled(&new));
            let diff = compare(&side(&old_policy), &side(&new_policy));
            for request in requests() {
                let host = request.target.authority.host.to_string();
                let says = |kinds: &[Kind]| {
                    let mut changes = diff.changes.iter();
                    changes.any(|change| kinds.contains(&change.kind) && change.what.contains(&host))
                };
                let answers = (answer(&old_policy.0, &request), answer(&new_policy.0, &request));
                let told = match answers {
                    (before, now) if before == now => true,
                    (None, Some(_)) | (Some(true), Some(false)) => says(&[Kind::Gain, Kind::Weaker]),
                    _ => says(&[Kind::Loss, Kind::Stricter]),
                };
                prop_assert!(told, "{:?} {:?}\n{old}\n{new}\n{diff}", answers, request);
            }
        }

        #[test]
        fn what_stays_as_it_is_is_not_spoken_of(text in written()) {
            let policy = compiled(&text);
            prop_assert_eq!(compare(&side(&policy), &side(&policy)).to_string(), "no change in reach\n");
        }
    }
}
