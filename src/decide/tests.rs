//! What policies decide, question by question.

mod bodies;
mod conditions;

use super::{
    judge::{Ask, Question, Way},
    parts::{promise::Request, tenant::Tenant},
    policy::Policy,
};
use crate::{
    context::{AgentId, IntegrationId, Selection, TenantId, UserId},
    plan::{Half, LimitScope, Placement, PrivateReach, SecretRef},
    refusal::Reason,
    target::{Method, Scheme},
};

fn policy(text: &str) -> Policy {
    match Policy::from_text("policy.yaml", text) {
        Ok(policy) => policy,
        Err(problems) => panic!("{}", problems.render(false)),
    }
}

/// Asks as `tenant/agent[+user][@integration]`.
struct Caller {
    tenant: TenantId,
    agent: AgentId,
    user: Option<UserId>,
    selection: Selection,
}

impl Caller {
    fn parse(text: &str) -> Self {
        let (text, integration) = text.split_once('@').map_or((text, None), |(t, i)| (t, Some(i)));
        let (text, user) = text.split_once('+').map_or((text, None), |(t, u)| (t, Some(u)));
        let (tenant, agent) = text.split_once('/').unwrap();
        Self {
            tenant: TenantId::parse(tenant).unwrap(),
            agent: AgentId::parse(agent).unwrap(),
            user: user.map(|u| UserId::parse(u).unwrap()),
            selection: Selection {
                integration: integration.map(|i| IntegrationId::parse(i).unwrap()),
                tier: None,
            },
        }
    }

    fn question<'q>(&'q self, request: &'q Request) -> Question<'q> {
        Question {
            tenant: &self.tenant,
            agent: &self.agent,
            user: self.user.as_ref(),
            ask: request.ask,
            method: request.method,
            target: &request.target,
            seen: &request.seen,
            selection: &self.selection,
            token: None,
            at: None,
        }
    }
}

fn request(line: &str) -> Request {
    Request::read(line).unwrap()
}

/// The answer in a word: `INTEGRATION scheme://host:port`, or the code of the refusal; `(code)` what shadow mode
/// would have refused.
fn answer(policy: &Policy, who: &str, line: &str) -> String {
    let caller = Caller::parse(who);
    let request = request(line);
    let judgement = policy.judge(&caller.question(&request));
    let shadowed = judgement.objection().map(|r| format!(" ({})", r.facts().code)).unwrap_or_default();
    match judgement.permit() {
        Ok(permit) => {
            let (scheme, authority) = &permit.upstream;
            let name = permit.integration.map_or("-", |i| i.id.as_str());
            format!("{name} {}://{authority}{shadowed}", scheme.as_str())
        }
        Err(reason) => reason.facts().code.to_owned(),
    }
}

fn check(policy: &Policy, table: &[(&str, &str, &str)]) {
    for (who, line, expected) in table {
        assert_eq!(answer(policy, who, line), *expected, "{who}: {line}");
    }
}

fn reason(policy: &Policy, who: &str, line: &str) -> Reason {
    let caller = Caller::parse(who);
    let request = request(line);
    policy.judge(&caller.question(&request)).into_outcome().unwrap_err()
}

const TWO: &str = r#"
version: 1
services:
  api:
    hosts: [api.example.com, "*.wild.example.com", "api.example.com:8443"]
    roles:
      reader: [GET /v1/**]
      writer: [{include: reader}, POST|DELETE /v1/**]
  special:
    hosts: [special.wild.example.com]
    scheme: http
    roles: {reader: [GET /**]}
guards:
  - {match: "api DELETE /v1/keep/**", deny: keep means keep}
tenants:
  t_one:
    integrations:
      api: {credential: {static: {bearer: "env:A"}}}
      api-two: {service: api, tier: USER, credential: {static: {bearer: "env:B"}}}
      off: {service: special, disabled: true, credential: none}
    agents:
      "*": {api: reader}
      writer: {api: writer}
      both: {api: writer, api-two: reader}
      person: {api-two: writer}
      retired: {disabled: true, api: reader}
  t_two:
    integrations:
      special: {credential: none}
      api: {credential: none}
    agents:
      bot: {special: reader, api: reader}
      plain: {}
  t_off:
    disabled: true
    integrations: {api: {credential: none}}
    agents: {"*": {api: reader}}
"#;

#[test]
fn the_tenant_picks_the_integration_and_the_role_the_action() {
    let policy = policy(TWO);
    check(
        &policy,
        &[
            ("t_one/writer", "POST https://api.example.com/v1/x", "api https://api.example.com:443"),
            ("t_one/writer", "POST http://API.example.com./v1/x", "api https://api.example.com:443"),
            ("t_one/writer", "GET https://api.example.com:8443/v1/x", "api https://api.example.com:8443"),
            ("t_one/writer", "GET https://api.example.com:9443/v1/x", "destination_not_allowed"),
            ("t_one/anyone", "GET https://api.example.com/v1/x", "api https://api.example.com:443"),
            ("t_one/anyone", "HEAD https://api.example.com/v1/x", "api https://api.example.com:443"),
            ("t_one/anyone", "POST https://api.example.com/v1/x", "action_denied"),
            ("t_one/writer", "GET https://api.example.com/v2/x", "action_denied"),
            ("t_two/bot", "GET https://api.example.com/v1/x", "api https://api.example.com:443"),
            ("t_two/plain", "GET https://api.example.com/v1/x", "action_denied"),
            ("t_two/stranger", "GET https://api.example.com/v1/x", "agent_unknown"),
            ("t_two/stranger", "GET https://evil.example/v1/x", "destination_not_allowed"),
            ("t_three/bot", "GET https://api.example.com/v1/x", "tenant_unknown"),
            ("t_off/bot", "GET https://api.example.com/v1/x", "tenant_unknown"),
            ("t_one/retired", "GET https://api.example.com/v1/x", "agent_unknown"),
        ],
    );
}

#[test]
fn a_wildcard_is_one_label_and_an_exact_host_beats_it() {
    check(
        &policy(TWO),
        &[
            ("t_two/bot", "GET https://a.wild.example.com/v1/x", "api https://a.wild.example.com:443"),
            ("t_two/bot", "GET https://a.b.wild.example.com/v1/x", "destination_not_allowed"),
            ("t_two/bot", "GET https://wild.example.com/v1/x", "destination_not_allowed"),
            ("t_two/bot", "GET https://evilwild.example.com/v1/x", "destination_not_allowed"),
            (
                "t_two/bot",
                "GET https://special.wild.example.com/x",
                "special http://special.wild.example.com:80",
            ),
            // The exact service is switched off in this tenant: its hosts do not fall back to the wildcard.
            ("t_one/writer", "GET https://special.wild.example.com/v1/x", "destination_not_allowed"),
        ],
    );
}

#[test]
fn several_integrations_need_a_choice_among_the_agents_own() {
    check(
        &policy(TWO),
        &[
            ("t_one/both", "GET https://api.example.com/v1/x", "integration_ambiguous"),
            ("t_one/both@api", "GET https://api.example.com/v1/x", "api https://api.example.com:443"),
            (
                "t_one/both+ann@api-two",
                "GET https://api.example.com/v1/x",
                "api-two https://api.example.com:443",
            ),
            ("t_one/both@api-two", "GET https://api.example.com/v1/x", "user_missing"),
            ("t_one/both+ann@api-two", "POST https://api.example.com/v1/x", "action_denied"),
            // What does not exist, what is switched off, what is another tenant's: one answer.
            ("t_one/both@nothing", "GET https://api.example.com/v1/x", "destination_not_allowed"),
            ("t_one/both@off", "GET https://api.example.com/v1/x", "destination_not_allowed"),
            ("t_one/both@special", "GET https://api.example.com/v1/x", "destination_not_allowed"),
        ],
    );
    let Reason::IntegrationAmbiguous { candidates } =
        reason(&policy(TWO), "t_one/both", "GET https://api.example.com/v1/")
    else {
        panic!()
    };
    assert_eq!(candidates.len(), 2);
}

#[test]
fn an_agents_own_role_wins_over_that_of_everyone() {
    let policy = policy(TWO);
    let Reason::ActionDenied { detail, needed_role, granted_role } =
        reason(&policy, "t_one/anyone", "POST https://api.example.com/v1/x")
    else {
        panic!()
    };
    assert_eq!(detail, "anyone (t_one) may use api as reader; POST /v1/x needs writer");
    assert_eq!((needed_role.as_deref(), granted_role.as_deref()), (Some("writer"), Some("reader")));
    let Reason::ActionDenied { detail, needed_role, .. } =
        reason(&policy, "t_one/writer", "PUT https://api.example.com/v1/x")
    else {
        panic!()
    };
    assert_eq!(detail, "writer (t_one) may use api as writer; no role of api covers PUT /v1/x");
    assert_eq!(needed_role, None);
    assert!(matches!(
        reason(&policy, "t_one/writer", "GET https://api.example.com:9443/v1/x"),
        Reason::DestinationNotAllowed { port: true, .. }
    ));
}

#[test]
fn a_guard_takes_away_and_says_why() {
    let policy = policy(TWO);
    check(
        &policy,
        &[
            ("t_one/writer", "DELETE https://api.example.com/v1/drop", "api https://api.example.com:443"),
            ("t_one/writer", "DELETE https://api.example.com/v1/keep/x", "action_denied"),
            ("t_one/writer", "DELETE https://api.example.com/v1/keep/", "action_denied"),
            ("t_one/writer", "DELETE https://api.example.com/v1/KEEP/x", "action_denied"),
        ],
    );
    let Reason::ActionDenied { detail, .. } =
        reason(&policy, "t_one/writer", "DELETE https://api.example.com/v1/keep/x")
    else {
        panic!()
    };
    assert_eq!(detail, "keep means keep");
}

#[test]
fn a_tier_that_contradicts_the_integrations_is_refused() {
    let policy = policy(TWO);
    let mut caller = Caller::parse("t_one/writer");
    let request = request("GET https://api.example.com/v1/x");
    caller.selection.tier = Some("USER");
    let refused = policy.judge(&caller.question(&request)).into_outcome().unwrap_err();
    assert_eq!(refused.detail(), "api acts as APP, the request asks for USER");
    caller.selection.tier = Some("APP");
    assert!(policy.judge_strictly(&caller.question(&request)).permit().is_ok());
}

#[test]
fn a_method_without_a_name_is_never_granted() {
    let policy = policy(TWO);
    let caller = Caller::parse("t_one/writer");
    let mut request = request("GET https://api.example.com/v1/x");
    request.method = Method::Other;
    assert!(policy.judge_strictly(&caller.question(&request)).permit().is_err());
}

#[test]
fn shadow_mode_writes_down_what_rules_refuse_and_refuses_what_cannot_be_answered() {
    let policy = policy(&TWO.replace("version: 1", "version: 1\nmode: shadow"));
    check(
        &policy,
        &[
            ("t_one/writer", "POST https://api.example.com/v1/x", "api https://api.example.com:443"),
            (
                "t_one/anyone",
                "POST https://api.example.com/v1/x",
                "api https://api.example.com:443 (action_denied)",
            ),
            (
                "t_one/writer",
                "DELETE https://api.example.com/v1/keep/x",
                "api https://api.example.com:443 (action_denied)",
            ),
            (
                "t_two/plain",
                "GET https://api.example.com/v1/x",
                "- https://api.example.com:443 (action_denied)",
            ),
            (
                "t_two/stranger",
                "GET https://api.example.com/v1/x",
                "- https://api.example.com:443 (agent_unknown)",
            ),
            ("t_two/bot", "GET http://evil.example/", "- https://evil.example:443 (destination_not_allowed)"),
            (
                "t_two/bot",
                "GET https://evil.example:8443/",
                "- https://evil.example:8443 (destination_not_allowed)",
            ),
            ("t_one/both", "GET https://api.example.com/v1/x", "integration_ambiguous"),
            ("t_one/both@api-two", "GET https://api.example.com/v1/x", "user_missing"),
            ("t_one/retired", "GET https://api.example.com/v1/x", "agent_unknown"),
            ("t_one/writer", "GET https://special.wild.example.com/", "destination_not_allowed"),
            ("t_off/bot", "GET https://api.example.com/v1/x", "tenant_unknown"),
        ],
    );
}

#[test]
fn a_guard_in_shadow_only_writes_down() {
    let policy = policy(&TWO.replace("deny: keep means keep", "deny: keep means keep, shadow: true"));
    check(
        &policy,
        &[(
            "t_one/writer",
            "DELETE https://api.example.com/v1/keep/x",
            "api https://api.example.com:443 (action_denied)",
        )],
    );
}

#[test]
fn the_shortest_policy_of_the_readme_loads_by_the_catalogue() {
    let policy = policy(include_str!("../../policies/minimal.yaml"));
    check(
        &policy,
        &[
            (
                "acme/triage-bot",
                "POST http://api.openai.com/v1/responses",
                "openai https://api.openai.com:443",
            ),
            ("acme/triage-bot", "DELETE https://api.openai.com/v1/models/x", "action_denied"),
        ],
    );
    let caller = Caller::parse("acme/triage-bot");
    let request = request("POST https://api.openai.com/v1/responses");
    let judgement = policy.judge_strictly(&caller.question(&request));
    let line = judgement.line().unwrap();
    assert_eq!((&*line.rule, &*line.route), ("services.openai.roles.caller[2]", "/v1/responses"));
    assert_eq!(&*judgement.grant().unwrap().label, "tenants.acme.agents.triage-bot.openai");
    let plan = &judgement.integration().unwrap().plan;
    assert_eq!(plan.limits.len(), 1);
    assert_eq!((&*plan.limits[0].name, plan.limits[0].scope), ("tenant-openai", LimitScope::Integration));
    let placements = plan.credential.as_ref().unwrap().placements();
    assert_eq!(placements, &[Placement::Bearer(SecretRef::Env("OPENAI_API_KEY".into()))]);
}

#[test]
fn a_service_says_how_it_is_reached_and_an_integration_what_it_attaches() {
    let policy = policy(
        r#"
version: 1
services:
  all:
    hosts: ["[::1]:8443", 192.0.2.7]
    allow_private_addresses: [10.0.0.0/8]
    strip: {headers: [X-Tenant], query: [Debug]}
    keep: {request_headers: [cookie], query: [key], response_headers: [set-cookie], trailers: [x-sum]}
    max_body: 10MiB
    via: false
    response_timeout: 10m
    roles: {any: [ANY /**]}
tenants:
  t:
    limit: 10/s
    integrations:
      all:
        credential:
          static:
            basic: {password: "env:P"}
            header: {X-Key: "env:K", X-Token: "Token env:T", X-Third: {prefix: "v1 ", secret: "file:/run/s"}}
            headers: {X-Version: "2"}
            query: {appid: "env:Q"}
            path: {"/v1/bot*.json": "env:B"}
        limit: [{rate: 5/min}, {rate: 3/h, per: agent}, {rate: 2/d, per: user}]
    agents: {bot: {all: any}}
"#,
    );
    let caller = Caller::parse("t/bot");
    let request = request("PATCH https://[::1]:8443/anything");
    let judgement = policy.judge_strictly(&caller.question(&request));
    let plan = &judgement.integration().unwrap().plan;
    let scopes: Vec<_> = plan.limits.iter().map(|l| (l.scope, &*l.name)).collect();
    assert_eq!(
        scopes,
        [
            (LimitScope::User, "user-all"),
            (LimitScope::Agent, "agent-all"),
            (LimitScope::Integration, "tenant-all"),
            (LimitScope::Tenant, "tenant"),
        ]
    );
    let service = &plan.service;
    assert_eq!(service.scheme, Scheme::Https);
    assert_eq!(service.private, PrivateReach::Within(vec!["10.0.0.0/8".parse().unwrap()]));
    assert_eq!((service.max_body, service.via), (Some(10 << 20), false));
    assert_eq!(service.response_timeout, Some(std::time::Duration::from_secs(600)));
    assert_eq!((service.strip.headers[0].as_str(), service.strip.query[0].as_str()), ("x-tenant", "debug"));
    assert_eq!(service.keep.trailers[0], "x-sum");
    let env = |name: &str| SecretRef::Env(name.into());
    let header = |name: &'static str, prefix: &str, secret| Placement::Header {
        name: http::HeaderName::from_static(name),
        prefix: prefix.into(),
        secret,
    };
    assert_eq!(
        plan.credential.as_ref().unwrap().placements(),
        [
            Placement::Basic { user: Half::Constant(String::new()), password: Half::Secret(env("P")) },
            header("x-key", "", env("K")),
            header("x-token", "Token ", env("T")),
            header("x-third", "v1 ", SecretRef::File("/run/s".into())),
            Placement::Constant {
                name: http::HeaderName::from_static("x-version"),
                value: http::HeaderValue::from_static("2"),
            },
            Placement::Query { name: "appid".into(), secret: env("Q") },
            Placement::Path {
                before: vec!["v1".into()],
                prefix: "bot".into(),
                suffix: ".json".into(),
                secret: env("B")
            },
        ]
    );
}

#[test]
fn a_tunnel_is_opened_where_the_tenant_reaches_and_stays_closed_only_where_a_role_connects() {
    let text = r"
version: 1
services:
  opened: {hosts: [a.example.com], roles: {reader: [GET /**]}}
  closed: {hosts: [b.example.com], intercept: never, roles: {user: [connect]}}
tenants:
  t:
    integrations: {opened: {credential: none}, closed: {}}
    agents: {bot: {closed: user}, other: {}}
";
    let way = |policy: &Policy, who: &str, to: &str| {
        let (caller, request) = (Caller::parse(who), request(&format!("CONNECT {to}")));
        policy.way(&caller.question(&request)).map_err(|reason| reason.facts().code)
    };
    let enforced = policy(text);
    for (who, to, expected) in [
        ("t/other", "a.example.com:443", Ok(Way::Intercept)),
        ("t/stranger", "a.example.com:443", Ok(Way::Intercept)),
        ("t/bot", "b.example.com:443", Ok(Way::Opaque)),
        ("t/other", "b.example.com:443", Ok(Way::Opaque)),
        ("t/bot", "b.example.com:22", Err("destination_not_allowed")),
        ("t/bot", "evil.example:443", Err("destination_not_allowed")),
        ("t_none/bot", "a.example.com:443", Err("tenant_unknown")),
    ] {
        assert_eq!(way(&enforced, who, to), expected, "{who} {to}");
    }
    check(
        &enforced,
        &[
            ("t/bot", "CONNECT b.example.com:443", "closed https://b.example.com:443"),
            ("t/other", "CONNECT b.example.com:443", "action_denied"),
            // What is not opened cannot be judged: a request that egret does see is in no role.
            ("t/bot", "GET http://b.example.com/", "action_denied"),
        ],
    );
    let shadow = policy(&text.replace("version: 1", "version: 1\nmode: shadow"));
    assert_eq!(way(&shadow, "t/bot", "evil.example:443"), Ok(Way::Intercept));
    assert_eq!(Ask::Tunnel, request("CONNECT a.example.com:443").ask);
}

#[test]
fn a_relative_file_reference_starts_at_the_policys_directory() {
    let dir = tempfile::tempdir().unwrap();
    let text = "version: 1\ntenants: {t: {integrations: {openai: {credential: {static: {bearer: \"file:k\"}}}}, agents: {b: {openai: caller}}}}\n";
    std::fs::write(dir.path().join("p.yaml"), text).unwrap();
    let policy = Policy::load(dir.path()).unwrap();
    let caller = Caller::parse("t/b");
    let request = request("POST https://api.openai.com/v1/responses");
    let judgement = policy.judge_strictly(&caller.question(&request));
    let placements = judgement.integration().unwrap().plan.credential.as_ref().unwrap().placements();
    assert_eq!(placements, &[Placement::Bearer(SecretRef::File(dir.path().join("k")))]);
}

#[test]
fn what_is_not_looked_into_is_no_policy() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policy.yaml"), "version: 1\n").unwrap();
    let guard = "guards: [{deny: {match: ANY /**}}]\n";
    let deep = dir.path().join("1/2/3/4/5/6/7/8/9");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("guards.yaml"), guard).unwrap();
    let said = |dir: &std::path::Path| Policy::load(dir).unwrap_err().to_string();
    assert!(said(dir.path()).ends_with("/9: policy files stand at most 8 directories deep"));

    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("guards.yaml"), guard).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policy.yaml"), "version: 1\n").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("guards")).unwrap();
    assert!(
        said(dir.path()).ends_with("/guards: it is a link to a directory: links are followed to files alone")
    );
    std::fs::rename(dir.path().join("guards"), dir.path().join(".guards")).unwrap();
    assert!(Policy::load(dir.path()).is_ok());
}

#[test]
fn ten_thousand_tenants_load() {
    use std::fmt::Write as _;
    let mut text = "version: 1\ntenants:\n".to_owned();
    for number in 0..10_000 {
        let _ = writeln!(
            text,
            "  t{number}: {{limit: 9/s, integrations: {{openai: {{credential: {{static: {{bearer: \"env:K{number}\"}}}}}}, github: {{credential: none}}}}, agents: {{bot: {{openai: caller, github: reader}}, \"*\": {{github: reader}}}}}}"
        );
    }
    let policy = policy(&text);
    check(
        &policy,
        &[("t9999/bot", "POST https://api.openai.com/v1/responses", "openai https://api.openai.com:443")],
    );
}

#[test]
fn an_explanation_names_lines_and_the_smallest_change() {
    use super::{Examined, Inquiry};
    let examined = Examined::from_text("policy.yaml", TWO).unwrap();
    let ask = |agent, method: &str, url: &str| {
        let request = format!("{method} {url}");
        let inquiry =
            Inquiry { tenant: "t_one", agent, user: None, request: &request, at: None, integration: None };
        examined.explain(&inquiry).unwrap().to_string()
    };
    assert_eq!(
        ask("writer", "GET", "https://api.example.com/v1/x"),
        "allowed\n  \
         token       tenant t_one, agent writer, no user\n  \
         tenant      t_one  [policy.yaml:16:3]\n  \
         agent       writer  [policy.yaml:23:7]\n  \
         integration api, APP to api  [policy.yaml:18:7]\n  \
         service     api  [policy.yaml:4:3]\n  \
         role        writer  [policy.yaml:23:21]\n  \
         line        /v1/** (services.api.roles.reader[0])  [policy.yaml:7:16]\n  \
         tier        APP: the organisation's credential  [policy.yaml:18:7]\n  \
         credential  `Authorization: Bearer` from env:A  [policy.yaml:18:7]\n  \
         upstream    https://api.example.com:443  [policy.yaml:4:3]"
    );
    for (agent, method, url, change) in [
        (
            "anyone",
            "POST",
            "https://api.example.com/v1/x",
            "write `api: writer` in tenants.t_one.agents.anyone",
        ),
        ("writer", "PUT", "https://api.example.com/v1/x", "add `PUT /v1/x` to services.api.roles.writer"),
        (
            "writer",
            "DELETE",
            "https://api.example.com/v1/keep/x",
            "take guards[0] away: it denies this to everybody",
        ),
        (
            "writer",
            "GET",
            "https://api.example.com:1/",
            "add `api.example.com:1` to services.api.hosts, add `GET /` to services.api.roles.writer",
        ),
        (
            "retired",
            "GET",
            "https://api.example.com/v1/x",
            "take `disabled` from tenants.t_one.agents.retired",
        ),
        ("person", "GET", "https://api.example.com/v1/x", "choose one with `X-Agent-Integration`: `api`"),
    ] {
        let text = ask(agent, method, url);
        assert!(text.ends_with(&format!("to allow it: {change}")), "{text}");
    }
    let inquiry =
        Inquiry { tenant: "t", agent: "b", user: None, request: "GET ftp://x/", at: None, integration: None };
    assert!(examined.explain(&inquiry).is_err());
}

mod broken {
    use proptest::prelude::*;

    use crate::decide::Policy;

    const TEXT: &str = include_str!("../../policies/advanced.yaml");

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Whatever an editor's accident makes of a policy: it loads, or its problems can be shown.
        #[test]
        fn no_text_breaks_the_loader(from in 0..TEXT.len(), cut in 0..40usize, put in "[ -~\u{e9}\u{1f600}\n\t]{0,12}") {
            let mut text = TEXT.to_owned();
            let until = (from + cut).min(text.len());
            text.replace_range(from..until, &put);
            if let Err(problems) = Policy::from_text("policy.yaml", &text) {
                prop_assert!(problems.count() > 0);
                prop_assert!(!problems.render(false).is_empty());
                prop_assert!(!problems.to_string().is_empty());
            }
        }
    }
}

#[test]
fn a_push_is_judged_when_it_is_announced() {
    let text = r#"
version: 1
guards:
  - {match: "github-git POST /acme/sealed/git-receive-pack", deny: sealed means sealed}
tenants:
  t:
    integrations: {github-git: {credential: none}}
    agents: {reads: {github-git: reader}, writes: {github-git: writer}}
"#;
    let policy = policy(text);
    let fetch = "GET https://github.com/acme/app/info/refs?service=git-upload-pack";
    let push = "GET https://github.com/acme/app/info/refs?service=git-receive-pack";
    let allowed = "github-git https://github.com:443";
    check(
        &policy,
        &[
            ("t/reads", fetch, allowed),
            ("t/reads", push, "action_denied"),
            (
                "t/reads",
                "GET https://github.com/acme/app/info/refs?service=git%2Dreceive-pack",
                "action_denied",
            ),
            (
                "t/reads",
                "GET https://github.com/acme/app/info/refs?s%65rvice=git-receive-pack",
                "action_denied",
            ),
            ("t/reads", &format!("{fetch}&service=git-receive-pack"), "action_denied"),
            ("t/reads", &format!("{push}&service=git-upload-pack"), "action_denied"),
            ("t/writes", push, allowed),
            ("t/writes", "GET https://github.com/acme/sealed/info/refs?service=git-upload-pack", allowed),
            (
                "t/writes",
                "GET https://github.com/acme/sealed/info/refs?service=git-receive-pack",
                "action_denied",
            ),
        ],
    );
    match reason(&policy, "t/reads", push) {
        Reason::ActionDenied { detail, needed_role, .. } => {
            assert!(detail.ends_with("POST /acme/app/git-receive-pack needs writer"), "{detail}");
            assert_eq!(needed_role.as_deref(), Some("writer"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_policy_names_the_variables_that_hold_its_secrets() {
    let text = r#"
version: 1
tenants:
  on:
    integrations:
      openai: {credential: {static: {bearer: "env:ONE", headers: {OpenAI-Organization: org}}}}
      github: {credential: {static: {basic: {user: "env:TWO", password: "env:THREE"}}}}
      slack: {credential: {static: {header: {X-Token: "env:FOUR"}, query: {token: "env:FIVE"}}}}
      stripe: {credential: {static: {bearer: "file:six"}}}
      app: {service: github, credential: {github_app: {app_id: 1, installation_id: 2, private_key: "env:EIGHT"}}}
    agents: {a: {openai: caller}}
  off:
    disabled: true
    integrations: {openai: {disabled: true, credential: {static: {bearer: "env:SEVEN"}}}}
    agents: {a: {openai: caller}}
"#;
    let policy = policy(text);
    let names: Vec<&str> = policy.secret_variables().into_iter().collect();
    assert_eq!(names, ["EIGHT", "FIVE", "FOUR", "ONE", "SEVEN", "THREE", "TWO"]);
}

#[test]
fn every_kind_of_credential_has_a_shape() {
    let kinds = [
        (
            "oauth",
            "{provider: google, scopes: [gmail.readonly]}",
            "secret:google-client-id secret:google-client-secret",
        ),
        ("oauth", "{provider: google, client_id: me, client_secret: \"env:S\"}", "env:S"),
        (
            "oauth",
            "{provider: google, client_id: me, private_key: \"env:K\", client_auth: private_key_jwt, algorithm: ES256}",
            "env:K",
        ),
        (
            "github_app",
            "{app_id: 1, installation_id: 2, private_key: \"secret:app\", repositories: [a], permissions: {contents: read}}",
            "secret:app",
        ),
        (
            "token_exchange",
            "{idp: acme, audience: billing, scopes: [x], resource: \"https://b.example\"}",
            "",
        ),
        (
            "jwt_bearer",
            "{token_url: \"https://a.example/token\", issuer: me, private_key: \"vault:kv/a#pem\"}",
            "vault:kv/a#pem",
        ),
        (
            "client_credentials",
            "{token_url: \"https://a.example/token\", client_id: \"env:ID\", client_secret: \"exec:s\", client_auth: post}",
            "env:ID exec:s",
        ),
        (
            "aws_sigv4",
            "{access_key_id: AKIA, secret_access_key: \"aws-sm:keys#secret\", region: eu-west-1}",
            "aws-sm:keys#secret",
        ),
        ("aws_sigv4", "{role_arn: \"arn:aws:iam::1:role/x\", service: s3}", ""),
        ("service_account", "{key: \"file:/k.json\", subject: ann@acme.example}", "file:/k.json"),
        // Nothing is known of what is not described.
        ("service_account", "{key: \"file:/k.json\", provider: initech}", ""),
        ("jwt_bearer", "{provider: initech, assertion: \"file:/t\"}", ""),
        ("byok", "{}", ""),
        ("jwt", "{secret: \"env:S\", secret_form: hex, key_id: k, claims: {scope: a}}", "env:S"),
        (
            "workload_identity",
            "{audience: //iam.googleapis.com/x, token: \"file:/t\", service_account: a@b.example}",
            "file:/t",
        ),
        (
            "login",
            "{secrets: {user: me, password: \"env:P\"}, steps: [{url: \"https://a.example/login\", json: {user: \"{user}\", password: \"{password}\"}, response: {access_token: data.token, keep: {region: data.host}}}], attach: {header: {X-Token: \"{token}\", X-Host: \"{region}\"}}}",
            "env:P",
        ),
        (
            "signature",
            "{secrets: {key: \"env:K\", id: abc}, let: {date: \"{now('rfc2822')}\"}, headers: {Date: \"{date}\", X-Sig: \"{base64(hmac_sha1(key, date '\\\\n' method '\\\\n' path))}\"}}",
            "env:K",
        ),
    ];
    for (kind, value, secrets) in kinds {
        let policy = policy(&format!(
            "version: 1\ntenants: {{t: {{integrations: {{openai: {{credential: {{{kind}: {value}}}}}}}, agents: {{b: {{openai: caller}}}}}}}}\n"
        ));
        let caller = Caller::parse("t/b");
        let request = request("POST https://api.openai.com/v1/responses");
        let judgement = policy.judge_strictly(&caller.question(&request));
        let spec = judgement.integration().unwrap().plan.credential.as_ref().unwrap();
        assert_eq!((spec.kind(), spec.placements().len()), (kind, 0));
        let references: Vec<String> =
            policy.secret_references().map(|(_, _, secret)| secret.to_string()).collect();
        assert_eq!(references.join(" "), secrets, "{kind}");
    }
}

const OWN_HOSTS: &str = r#"
version: 1
services:
  desk:
    hosts: ["{subdomain}.desk.example", files.desk.example]
    attach:
      basic: {user: "{email}", password: "{token}"}
      header: {X-Desk: "Token token={token}", X-Key: {prefix: "k ", secret: "{email}"}}
    roles: {reader: [GET /**, {scopes: [read, write]}], writer: [{include: reader}, {scopes: [write, all]}]}
  post: {hosts: [post.example], attach: {basic: {user: "{account}", password: "{key}"}}, roles: {reader: [GET /**]}}
  code: {hosts: ["{host}"], attach: {bearer: "{secret}"}, roles: {reader: [GET /**]}}
tenants:
  one:
    integrations:
      desk: {vars: {subdomain: Acme}, credential: {secrets: {token: "env:TOKEN", email: "env:MAIL"}}}
      code: {vars: {host: "git.one.example:8443"}, credential: "file:/run/code"}
    agents: {bot: {desk: reader, code: reader}}
  two:
    integrations:
      desk: {vars: {subdomain: globex}, credential: none}
      desk-files: {service: desk, vars: {subdomain: files}, credential: none}
      post: {credential: {secrets: {account: acme@post.example, key: "env:POST"}}}
      code: {vars: {host: gitlab.com}, credential: {static: {header: {PRIVATE-TOKEN: "env:T"}}}}
    agents: {bot: {desk: reader, code: reader}, filer: {desk-files: reader}}
"#;

#[test]
fn a_credential_goes_to_the_tenants_own_host() {
    check(
        &policy(OWN_HOSTS),
        &[
            ("one/bot", "GET https://acme.desk.example/x", "desk https://acme.desk.example:443"),
            ("one/bot", "GET https://globex.desk.example/x", "destination_not_allowed"),
            ("two/bot", "GET https://globex.desk.example/x", "desk https://globex.desk.example:443"),
            ("two/bot", "GET https://files.desk.example/x", "desk https://files.desk.example:443"),
            ("two/bot", "GET https://x.desk.example/x", "destination_not_allowed"),
            ("two/filer", "GET https://files.desk.example/x", "desk-files https://files.desk.example:443"),
            ("one/bot", "GET https://git.one.example:8443/x", "code https://git.one.example:8443"),
            ("one/bot", "GET https://gitlab.com/x", "destination_not_allowed"),
            ("two/bot", "GET https://gitlab.com/x", "code https://gitlab.com:443"),
        ],
    );
    let policy = policy(OWN_HOSTS);
    let tenant = policy.tenant(&TenantId::parse("one").unwrap()).unwrap();
    let first = |name: &str| Tenant::first_host(tenant.integration(name).unwrap()).unwrap().to_string();
    assert_eq!(
        (first("desk").as_str(), first("code").as_str()),
        ("acme.desk.example:443", "git.one.example:8443")
    );
}

#[test]
fn a_service_says_where_secrets_go_and_an_integration_where_they_are_read() {
    let policy = policy(OWN_HOSTS);
    let placements = |tenant: &str, name: &str| {
        let tenant = policy.tenant(&TenantId::parse(tenant).unwrap()).unwrap();
        tenant.integration(name).unwrap().plan.credential.as_ref().unwrap().placements().to_vec()
    };
    let env = |name: &str| SecretRef::Env(name.into());
    let header = |name: &'static str, prefix: &str, secret| Placement::Header {
        name: http::HeaderName::from_static(name),
        prefix: prefix.into(),
        secret,
    };
    assert_eq!(
        placements("one", "desk"),
        [
            Placement::Basic { user: Half::Secret(env("MAIL")), password: Half::Secret(env("TOKEN")) },
            header("x-desk", "Token token=", env("TOKEN")),
            header("x-key", "k ", env("MAIL")),
        ]
    );
    assert_eq!(placements("one", "code"), [Placement::Bearer(SecretRef::File("/run/code".into()))]);
    // A user beside a secret password is no secret.
    let user = Half::Constant("acme@post.example".into());
    assert_eq!(placements("two", "post"), [Placement::Basic { user, password: Half::Secret(env("POST")) }]);
    // What an integration says itself wins.
    assert_eq!(placements("two", "code"), [header("private-token", "", env("T"))]);
}

#[test]
fn a_role_has_the_scopes_of_those_that_it_includes() {
    let policy = policy(OWN_HOSTS);
    let tenant = policy.tenant(&TenantId::parse("one").unwrap()).unwrap();
    let role = tenant.integration("desk").unwrap().service.role("writer").unwrap();
    let mut scopes: Vec<&str> = role.scopes.iter().map(AsRef::as_ref).collect();
    scopes.sort_unstable();
    assert_eq!(scopes, ["all", "read", "write"]);
}
