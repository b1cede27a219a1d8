//! Each lint: a policy that has it, at the lines that a comment `#<` marks; and the same policy, repaired.

use super::*;

fn lints(text: &str) -> Vec<Lint> {
    let sources = Sources::text("policy.yaml", text);
    match Policy::compile_with_outline(&sources) {
        Ok((policy, outline)) => {
            lint(&policy, outline, &sources, Around { kept: &kept, sources: &|| Ok(described()) })
        }
        Err(problems) => panic!("{}", problems.render(false)),
    }
}

/// A store with one secret.
fn kept() -> Kept {
    Kept::Names([("t".to_owned(), "kept".to_owned())].into())
}

/// Settings with a program.
fn described() -> crate::settings::SourceSettings {
    let program = crate::settings::Program {
        name: "helper".to_owned(),
        command: vec!["helper".to_owned()],
        env: std::collections::BTreeMap::new(),
        inherit: Vec::new(),
        timeout: std::time::Duration::from_secs(10),
        cache: std::time::Duration::from_secs(300),
    };
    let exec = [("helper".to_owned(), Arc::new(program))].into();
    crate::settings::SourceSettings { exec, ..Default::default() }
}

/// The lines at which a policy has a lint, and those that it marks.
fn check(code: Code, text: &str) {
    let found = lints(text);
    let mut lines: Vec<u32> =
        found.iter().filter(|lint| lint.code == code).map(|lint| lint.at.line).collect();
    lines.dedup();
    let marked: Vec<u32> =
        (1..).zip(text.lines()).filter(|(_, line)| line.ends_with("#<")).map(|(number, _)| number).collect();
    assert_eq!(lines, marked, "{code} in\n{text}\n{found:#?}");
}

/// A policy in which an agent of one tenant has `role` on `api`.
fn policy(service: &str, role: &str, rest: &str) -> String {
    format!(
        "version: 1\nservices:\n  api:\n{service}\ntenants:\n  t:\n    integrations:\n      api: {{credential: none}}\n    agents:\n      bot: {{api: {role}}}\n{rest}"
    )
}

fn http(lines: &str) -> String {
    format!("    hosts: [api.example]\n    roles:\n      user:\n{lines}")
}

fn mcp(lines: &str) -> String {
    format!("    mcp: https://mcp.example/mcp\n    roles:\n      user:\n{lines}")
}

#[test]
fn what_can_be_deleted_needs_a_guard_that_covers_it() {
    let deletes = http("        - DELETE /repos/** #<");
    let guarded = http("        - DELETE /repos/**");
    let guard = |text: &str| format!("guards:\n  - {{match: {text}, require: approval}}\n");
    for (service, rest) in [
        (deletes.clone(), String::new()),
        (http("        - ANY /repos/** #<"), String::new()),
        (http("        - GET /repos/**"), String::new()),
        (guarded.clone(), guard("DELETE **")),
        (guarded.clone(), guard("api DELETE /Repos/**")),
        // Elsewhere, in part, under a condition, in shadow mode.
        (deletes.clone(), guard("DELETE /orgs/**")),
        (deletes.clone(), guard("DELETE /repos/*/*/secrets/**")),
        (deletes.clone(), "guards:\n  - {match: DELETE **, require: approval, when: time.hour < 8}\n".into()),
        (deletes, "guards:\n  - {match: DELETE **, require: approval, shadow: true}\n".into()),
        (mcp("        - tool delete_* #<"), String::new()),
        (mcp("        - tool \"*\" #<").replace("\"*\"", "*"), String::new()),
        (mcp("        - tool list_*\n        - tool create_*\n        - tool issue_* #<"), String::new()),
        (mcp("        - tool delete_*"), guard("api tool delete_*")),
        (mcp("        - tool delete_*"), guard("api POST **")),
        (mcp("        - tool issueDelete #<"), guard("api tool delete_*")),
        (mcp("        - tool * #<"), guard("api tool delete_*")),
        (
            mcp("        - tool *"),
            "guards:\n  - {match: tool *delete*, deny: no}\n  - {match: tool *remove*, deny: no}\n  \
             - {match: tool *drop*, deny: no}\n  - {match: tool *destroy*, deny: no}\n  - {match: tool *purge*, deny: no}\n"
                .into(),
        ),
        (http("        - graphql query *\n        - graphql mutation issueDelete #<"), String::new()),
        (http("        - graphql mutation issueDelete"), guard("api graphql mutation")),
    ] {
        check(Code::UnguardedDelete, &policy(&service, "user", &rest));
    }
}

#[test]
fn a_partial_guard_is_another_message() {
    let rest = "guards:\n  - {match: \"DELETE /repos/*/*/secrets/**\", require: approval}\n";
    let found = lints(&policy(&http("        - DELETE /repos/**"), "user", rest));
    let lint = found.iter().find(|lint| lint.code == Code::UnguardedDelete).unwrap();
    assert_eq!(
        lint.message,
        "`DELETE /repos/**` of `api` grants DELETE, and the guard `DELETE /repos/*/*/secrets/**` looks only at a part of it"
    );
    assert_eq!(lint.hint.as_deref(), Some("widen the guard to `api DELETE /repos/**`"));
}

#[test]
fn a_role_of_the_catalogue_is_reported_where_it_is_given() {
    let text = "version: 1\ntenants:\n  t:\n    integrations:\n      github: {credential: none}\n    agents:\n      bot: {github: admin} #<\n      other: {github: admin}\n";
    check(Code::UnguardedDelete, text);
}

#[test]
fn a_path_that_is_graphql_grants_every_mutation() {
    for service in [
        http("        - POST /graphql #<"),
        http("        - ANY /** #<"),
        http("        - POST /**  #<"),
        http("        - GET /**\n        - POST /repos/**\n        - graphql query *"),
        http("        - POST /x/** #<").replace("    roles", "    graphql: /x/*/gql\n    roles"),
    ] {
        check(Code::GraphqlPost, &policy(&service, "user", ""));
    }
    let guarded = policy(
        &http("        - POST /graphql"),
        "user",
        "guards:\n  - {match: api graphql mutation, require: approval}\n",
    );
    check(Code::GraphqlPost, &guarded);
}

#[test]
fn a_wildcard_below_a_place_of_many_owners() {
    let service =
        |host: &str| format!("    hosts: [\n      {host}\n    ]\n    roles:\n      user: [GET /**]");
    check(Code::PublicSuffix, &policy(&service("x.example, \"*.onrender.com\" #<"), "user", ""));
    check(Code::PublicSuffix, &policy(&service("x.example, \"*.acme.onrender.com\""), "user", ""));
    check(Code::PublicSuffix, &policy(&service("\"*.example.com\""), "user", ""));
}

#[test]
fn two_integrations_of_one_agent_at_one_host() {
    let text = |second: &str, agents: &str| {
        format!(
            "version: 1\ntenants:\n  t:\n    integrations:\n      one: {{service: openai, credential: none}}\n      two: {{service: {second}, credential: none}}\n    agents:\n{agents}"
        )
    };
    let both = "      bot:\n        one: caller\n        two: caller #<\n";
    check(Code::TwoIntegrations, &text("openai", both));
    check(Code::TwoIntegrations, &text("anthropic", &both.replace(" #<", "")));
    check(Code::TwoIntegrations, &text("openai, disabled: true", &both.replace(" #<", "")));
    check(Code::TwoIntegrations, &text("openai", "      bot: {one: caller}\n      other: {two: caller}\n"));
    let inherited = "      \"*\": {one: caller}\n      bot: {two: caller} #<\n";
    check(Code::TwoIntegrations, &text("openai", inherited));
}

#[test]
fn two_servers_behind_one_host_are_no_conflict() {
    let text = |path: &str| {
        let service =
            |path: &str| format!("{{mcp: \"https://mcp.example{path}\", roles: {{user: [tool get_*]}}}}");
        format!(
            "version: 1\nservices:\n  one: {}\n  two: {}\ntenants:\n  t:\n    integrations: {{one: {{credential: none}}, two: {{credential: none}}}}\n    agents:\n      bot: {{one: user, two: user}}",
            service("/one"),
            service(path)
        )
    };
    check(Code::TwoIntegrations, &text("/two"));
    check(Code::TwoIntegrations, &format!("{} #<", text("/one")));
    check(Code::OverlappingService, &text("/two"));
}

#[test]
fn what_nobody_uses() {
    let service = "    hosts: [api.example]\n    roles:\n      user: [GET /a]\n      more: [GET /b] #<";
    check(Code::UnusedRole, &policy(service, "user", ""));
    let included =
        "    hosts: [api.example]\n    roles:\n      user: [GET /a]\n      more: [include: user, GET /b]";
    check(Code::UnusedRole, &policy(included, "more", ""));

    let unused = "    hosts: [api.example]\n    roles: {user: [GET /a]}\n  other: #<\n    hosts: [other.example]\n    roles: {user: [GET /a]}";
    check(Code::UnusedService, &policy(unused, "user", ""));
    check(Code::UnusedRole, &policy(unused, "user", "").replace(" #<", ""));
    check(Code::UnusedService, &policy(&http("        - GET /a"), "user", ""));

    let tenant = |agents: &str| {
        format!(
            "version: 1\ntenants:\n  t:\n    integrations:\n      openai: {{credential: none}}\n      slack: {{credential: none}} #<\n    agents: {agents}\n"
        )
    };
    check(Code::UnusedIntegration, &tenant("{bot: {openai: caller}}"));
    check(
        Code::UnusedIntegration,
        &tenant("{bot: {openai: caller}, \"*\": {slack: reader}}").replace(" #<", ""),
    );
}

#[test]
fn a_guard_that_cannot_hold() {
    let rest = |text: &str| format!("guards:\n  - match: {text}\n    deny: no\n");
    for guard in [
        "GET /repos/x/**",
        "api ANY **",
        "github POST /repos/** #<",
        "api GET /orgs/** #<",
        "api GET /repo/** #<",
        "DELETE ** #<",
        "tool delete_* #<",
    ] {
        check(Code::UnusedGuard, &policy(&http("        - GET /repos/**"), "user", &rest(guard)));
    }
    let found = lints(&policy(&http("        - GET /repos/**"), "user", &rest("DELETE **")));
    let lint = found.iter().find(|lint| lint.code == Code::UnusedGuard).unwrap();
    assert_eq!(lint.level, Level::Info, "a guard for every service may stand there for roles to come");
}

#[test]
fn an_agent_or_a_tenant_with_nothing() {
    let text = |agents: &str| {
        format!("version: 1\ntenants:\n  t:\n    integrations: {{openai: {{credential: none}}}}\n{agents}")
    };
    check(Code::EmptyAgent, &text("    agents:\n      bot: {openai: caller}\n      idle: {} #<\n"));
    check(
        Code::EmptyAgent,
        &text("    agents:\n      bot: {openai: caller}\n      idle: {disabled: true}\n"),
    );
    check(Code::EmptyAgent, &text("    agents:\n      \"*\": {openai: caller}\n      idle: {}\n"));
    check(
        Code::EmptyTenant,
        "version: 1\ntenants:\n  t: #<\n    integrations: {openai: {credential: none}}\n",
    );
    check(Code::EmptyTenant, &text("    agents: {bot: {openai: caller}}"));
}

#[test]
fn a_secret_that_is_not_there() {
    let text = |credential: &str| {
        format!(
            "version: 1\ntenants:\n  t:\n    integrations:\n      openai:\n        credential:\n          static:\n{credential}\n    agents: {{bot: {{openai: caller}}}}\n"
        )
    };
    check(Code::UnresolvedSecret, &text("            bearer: \"env:EGRET_TEST_NOT_SET\" #<"));
    check(Code::UnresolvedSecret, &text("            bearer: \"env:PATH\""));
    check(Code::UnresolvedSecret, &text("            header: {X-Key: \"Token env:EGRET_TEST_NOT_SET\"} #<"));
    check(Code::UnresolvedSecret, &text("            bearer: \"file:no/such/file\" #<"));
    check(Code::UnresolvedSecret, &text("            bearer: \"file:src\" #<"));
    check(Code::UnresolvedSecret, &text("            bearer: \"file:Cargo.toml\""));
    check(Code::UnresolvedSecret, &text("            bearer: \"secret:kept\""));
    check(Code::UnresolvedSecret, &text("            bearer: \"secret:other\" #<"));
    let others = text("            bearer: \"secret:kept\" #<").replace("  t:", "  u:");
    check(Code::UnresolvedSecret, &others);
    check(Code::UnresolvedSecret, &text("            bearer: \"exec:helper\""));
    check(Code::UnresolvedSecret, &text("            bearer: \"exec:other\" #<"));
    check(Code::UnresolvedSecret, &text("            bearer: \"vault:kv/a#b\" #<"));
    check(Code::UnresolvedSecret, &text("            bearer: \"aws-sm:a\" #<"));
    check(Code::UnresolvedSecret, &text("            bearer: \"remote:a\" #<"));
    check(
        Code::UnresolvedSecret,
        &text("            basic:\n              user: x\n              password: \"file:no/such/file\" #<"),
    );
}

#[test]
fn a_provider_that_nobody_describes() {
    let text = |credential: &str, described: &str| {
        format!(
            "version: 1\n{described}tenants:\n  t:\n    integrations:\n      openai:\n        credential:\n{credential}\n    agents: {{bot: {{openai: caller}}}}\n"
        )
    };
    let described = "providers: {initech: {token_url: \"https://id.initech.example/token\"}}\n";
    for credential in [
        "          oauth:\n            provider: initech",
        "          token_exchange:\n            idp: initech",
        "          client_credentials:\n            client_id: a\n            provider: initech",
    ] {
        check(Code::UnknownProvider, &text(&format!("{credential} #<"), ""));
        check(Code::UnknownProvider, &text(credential, described));
    }
    check(Code::UnknownProvider, &text("          oauth:\n            provider: linear", ""));
}

#[test]
fn a_host_of_two_services() {
    let text = |hosts: &str| {
        policy(
            &format!(
                "    hosts: [api.example.com]\n    roles: {{user: [GET /a]}}\n  other:\n    hosts:\n{hosts}\n    roles: {{user: [GET /a]}}"
            ),
            "user",
            "",
        )
    };
    check(Code::OverlappingService, &text("      - API.example.com #<"));
    check(Code::OverlappingService, &text("      - \"*.example.com\" #<"));
    check(Code::OverlappingService, &text("      - x.example.com\n      - api.example.com:80 #<"));
    check(Code::OverlappingService, &text("      - api.example.com:8443"));
    check(Code::OverlappingService, &text("      - other.example.com"));
}

#[test]
fn a_host_that_a_service_of_the_catalogue_has_too() {
    let text = |integrations: &str, host: &str| {
        format!(
            "version: 1\nservices:\n  own:\n    hosts:\n      - {host}\n    roles: {{user: [GET /a]}}\ntenants:\n  t:\n    integrations: {{{integrations}}}\n    agents:\n      bot: {{own: user}}\n"
        )
    };
    let used = "own: {credential: none}, openai: {credential: none}";
    check(Code::OverlappingService, &text(used, "api.openai.com #<"));
    check(Code::OverlappingService, &text(used, "\"*.openai.com\" #<"));
    check(Code::OverlappingService, &text(used, "api.example.com"));
    // What nobody is connected to is in nobody's way.
    check(Code::OverlappingService, &text("own: {credential: none}", "api.openai.com"));
}

#[test]
fn what_is_unused_says_how_it_is_allowed() {
    let service = "    hosts: [api.example]\n    roles:\n      user: [GET /a]\n      more: [GET /b]";
    let found = lints(&policy(service, "user", ""));
    let lint = found.iter().find(|lint| lint.code == Code::UnusedRole).unwrap();
    let hint = "leave it out, or write `# egret: allow unused-role` and why it stays";
    assert_eq!(lint.hint.as_deref(), Some(hint));
}

#[test]
fn a_line_that_another_line_covers() {
    for lines in [
        "        - GET /repos/**\n        - GET /repos/*/* #<",
        "        - GET /repos/*/* #<\n        - ANY /repos/**",
        "        - GET /user\n        - GET /user #<",
        "        - GET /repos/*\n        - POST /repos/**",
        "        - GET|DELETE /repos/*\n        - GET /repos/**",
    ] {
        check(Code::RedundantLine, &policy(&http(lines), "user", ""));
    }
    let tools = "        - tool *\n        - tool list_* #<\n        - prompt list_*";
    check(Code::RedundantLine, &policy(&mcp(tools), "user", ""));
    let included = "        - GET /repos/**\n      more:\n        - include: user\n        - GET /repos/x #<";
    check(Code::RedundantLine, &policy(&http(included), "more", ""));
    let wider = "        - GET /repos/x\n      more:\n        - include: user\n        - GET /repos/**";
    check(Code::RedundantLine, &policy(&http(wider), "more", ""));
}

#[test]
fn an_include_that_stands_twice() {
    let lines = |second: &str| {
        http(&format!("        - GET /a\n      more:\n        - include: user\n        - GET /b\n{second}"))
    };
    check(Code::NeverMatches, &policy(&lines("        - include: user #<"), "more", ""));
    check(Code::NeverMatches, &policy(&lines("        - GET /c"), "more", ""));
}

#[test]
fn a_policy_that_promises_nothing_or_enforces_nothing() {
    let tests = "tests:\n  - {as: t/bot, allow: [GET https://api.example/a]}\n";
    let plain = policy(&http("        - GET /a"), "user", "");
    check(Code::NoTests, &plain.replace("version: 1", "version: 1 #<"));
    check(Code::NoTests, &format!("{plain}{tests}"));
    check(Code::NoTests, "version: 1\n");
    check(Code::ShadowMode, &plain.replace("version: 1\n", "version: 1\nmode: shadow #<\n"));
    check(Code::ShadowMode, &plain.replace("version: 1\n", "version: 1\nmode: enforce\n"));
    check(Code::ShadowMode, &plain.replace("  t:\n", "  t:\n    mode: shadow #<\n"));
    check(Code::ShadowMode, &format!("{plain}guards:\n  - {{match: GET **, deny: no, shadow: true}} #<\n"));
    assert!(lints(&plain).iter().all(|lint| lint.level == Level::Info), "{:?}", lints(&plain));
}

#[test]
fn a_password_does_not_stand_in_the_policy() {
    let text = |basic: &str| {
        let text = policy(&http("        - GET /a"), "user", "");
        text.replace("{credential: none}", &format!("\n        credential: {{static: {{basic: {basic}}}}}"))
    };
    check(
        Code::ConstantPassword,
        &text("{user: \"env:A\", password: hunter2}").replace("hunter2}}}", "hunter2}}} #<"),
    );
    for fine in ["{user: \"env:A\", password: x}", "{user: \"env:A\"}", "{user: me, password: \"env:A\"}"] {
        check(Code::ConstantPassword, &text(fine));
    }
    let service = "    hosts: [api.example]\n    attach: {basic: {user: \"{key}\", password: hunter2}} #<\n    roles: {user: [GET /a]}";
    let text = policy(service, "user", "").replace("credential: none", "credential: \"env:A\"");
    check(Code::ConstantPassword, &text);
    assert!(lints(&text).iter().all(|lint| !format!("{lint:?}").contains("hunter2")));
}

#[test]
fn a_comment_says_that_it_is_meant() {
    for line in [
        "        - DELETE /a # egret: allow unguarded-delete",
        "        # People asked for it.\n        # egret: allow unguarded-delete\n        - DELETE /a",
        "        # egret: allow unguarded-delete, redundant-line\n        # People asked for it.\n        - DELETE /a",
        "        # egret: allow redundant-line\n        - DELETE /a #<",
        "        # egret: allow unguarded-delete\n\n        - DELETE /a #<",
        "        - GET /b # egret: allow unguarded-delete\n        - DELETE /a #<",
    ] {
        check(Code::UnguardedDelete, &policy(&http(line), "user", ""));
    }
}

#[test]
fn ten_thousand_tenants_are_looked_at_in_a_moment() {
    use std::fmt::Write as _;
    let mut text = "version: 1\ntenants:\n".to_owned();
    for number in 0..10_000 {
        let _ = writeln!(
            text,
            "  t{number}:\n    integrations: {{openai: {{credential: {{static: {{bearer: \"env:EGRET_NO_{number}\"}}}}}}, github: {{credential: none}}, slack: {{credential: none}}}}\n    agents: {{bot: {{openai: caller, github: admin}}, idle: {{}}}}"
        );
    }
    let sources = Sources::text("policy.yaml", &text);
    let (policy, outline) = Policy::compile_with_outline(&sources).unwrap();
    let started = std::time::Instant::now();
    let found = lint(&policy, outline, &sources, Around { kept: &kept, sources: &|| Ok(described()) });
    let others = found.iter().filter(|lint| lint.code != Code::UnguardedDelete).count();
    assert_eq!(others, 30_000 + 1, "{:?}", found.iter().take(3).collect::<Vec<_>>());
    assert!(
        (1..10).contains(&(found.len() - others)),
        "a role of the catalogue is reported where it is given first"
    );
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
