use serde_json::Value;

use super::{Edit, Examined, Explanation, Inquiry, Op};

const POLICY: &str = r#"
version: 1
services:
  a:
    hosts: [a.example.com]
    roles:
      r: [GET /x, GET /repos/**]
      w: [{include: r}, POST /x, DELETE /x]
  a8:
    hosts: ["p.example.com:8443"]
    roles: {r: [GET /x]}
  wild:
    hosts: ["*.wild.example.com"]
    roles: {r: [GET /x]}
  m:
    mcp: https://m.example.com/mcp
    roles:
      r: [tool get_*]
      w: [{include: r}, tool set_*, tool delete_x]
  g:
    hosts: [g.example.com]
    roles:
      r: [graphql query *, GET /v1/x]
      w: [{include: r}, graphql mutation issue*]
  gr:
    hosts: [gr.example.com]
    roles: {r: [grpc /p.S/Get]}
  tun:
    hosts: [tun.example.com]
    intercept: never
    roles: {r: [connect]}
  git:
    hosts: [git.example.com]
    roles:
      r: ["GET /*/*/info/refs", "POST /*/*/git-upload-pack"]
      w: [{include: r}, "POST /*/*/git-receive-pack"]
  plain:
    hosts: ["plain.example.com:8080"]
    scheme: http
    roles: {r: [GET /x]}
  mail:
    hosts: ["{sub}.mail.example.com"]
    roles: {r: [GET /x]}
guards:
  - match: a DELETE /x
    deny: no deletes
  - match: m tool delete_x
    require: approval
  - match: a POST /x
    when: time.hour < 0 || "s" in token.scopes
    deny: no posts
  - match: a ANY /repos/secret/**
    deny: secret
  - match: a GET /repos/secret/**
    deny: second
  - match: g graphql mutation issueDrop
    deny: no drops
tenants:
  t:
    integrations:
      a: {credential: none}
      au: {service: g, tier: USER, credential: none}
      a8: {credential: none}
      wild: {credential: none}
      m: {credential: none}
      gr: {credential: none}
      tun: {credential: none}
      plain: {credential: none}
      mail: {credential: none, vars: {sub: acme}}
      off: {service: git, disabled: true, credential: none}
      github: {credential: "env:GH"}
    agents:
      "*": {tun: r}
      b: {a: r, a8: r, wild: r, m: r, gr: r, github: reader, plain: r}
      au: {au: r}
      dis: {a: r, disabled: true}
  dead:
    disabled: true
    integrations: {a: {credential: none}}
    agents: {b: {a: r}}
  shut:
    integrations: {a: {credential: none}}
    agents: {"*": {a: r, disabled: true}}
  two:
    integrations: {a: {credential: none}, a2: {service: a, credential: none}}
    agents: {b: {a: r, a2: w}}
  bare: {}
tests:
  - as: t/b
    deny: [GET https://a.example.com/y]
"#;

const REQUESTS: &[&str] = &[
    "POST https://a.example.com/x",
    "DELETE https://a.example.com/x",
    "GET https://a.example.com/repos/secret/x",
    "GET https://a.example.com/y",
    "GET http://a.example.com/y",
    "GET https://a.example.com/x/",
    "HEAD https://a.example.com/y?q=1",
    "GET https://a.example.com/a*b",
    "GET https://a.example.com/**",
    "GET https://a.example.com/a/**/b",
    "GET https://a.example.com/a**b/c",
    "GET https://a.example.com/%2A",
    "GET https://a.example.com/a,b'c:d{e}",
    "GET https://a.example.com/%3F",
    "GET https://g.example.com/v1/x",
    "GET https://g.example.com/v2/x",
    "GET https://g.example.com/graphql?query=%7Bviewer%7D",
    "graphql query x @ https://g.example.com/graphql",
    "graphql mutation issueX @ https://g.example.com/graphql",
    "graphql mutation issueDrop @ https://g.example.com/graphql",
    "graphql mutation other @ https://g.example.com/graphql",
    "graphql mutation other @ https://g.example.com/graphql/",
    "graphql mutation other @ https://g.example.com/api/graphql",
    "graphql query a-b @ https://g.example.com/graphql",
    "graphql query x @ https://a.example.com/graphql",
    "graphql query x @ https://a.example.com/api/graphql",
    "graphql query x @ https://new.example.com/api/graphql",
    "POST https://g.example.com/graphql",
    "tool set_x @ https://m.example.com/mcp",
    "tool delete_x @ https://m.example.com/mcp",
    "tool other @ https://m.example.com/mcp",
    "resource i:///1 @ https://m.example.com/mcp",
    "resource i:///../x @ https://m.example.com/mcp",
    "resource file:///a/%2e%2e/b @ https://m.example.com/mcp",
    "prompt p @ https://m.example.com/mcp",
    "method tasks/list @ https://m.example.com/mcp",
    "method prompts/list @ https://m.example.com/mcp",
    "method tools/call @ https://m.example.com/mcp",
    "method initialize @ https://m.example.com/mcp",
    "GET https://m.example.com/.well-known/x",
    "GET https://m.example.com/mcp",
    "POST https://m.example.com/mcp",
    "PUT https://m.example.com/mcp",
    "tool get_a @ https://m.example.com/other",
    "tool get_a @ https://m.example.com/MCP/",
    "tool get_a @ https://a.example.com/x",
    "tool get_a @ https://new.example.com/mcp",
    "tool get_a @ https://mcp.linear.app/mcp",
    "grpc /p.S/Set @ https://gr.example.com",
    "GET https://tun.example.com/x",
    "CONNECT tun.example.com:443",
    "CONNECT a.example.com:443",
    "CONNECT new.example.com:443",
    "CONNECT a.example.com:8443",
    "GET https://p.example.com/x",
    "GET https://p.example.com:8443/y",
    "GET https://a.example.com:8443/x",
    "GET https://one.wild.example.com/y",
    "GET https://a.b.wild.example.com/x",
    "GET https://one.wild.example.com:8443/x",
    "GET https://git.example.com/o/r/info/refs?service=git-receive-pack",
    "GET https://git.example.com/o/r/s/info/refs?service=git-receive-pack",
    "POST https://git.example.com/z",
    "GET http://plain.example.com:8080/y",
    "GET https://plain.example.com/x",
    "GET https://acme.mail.example.com/y",
    "GET https://other.mail.example.com/y",
    "POST https://api.github.com/graphql",
    "DELETE https://api.github.com/repos/a/b",
    "PUT https://api.github.com/nowhere",
    "graphql mutation createIssue @ https://api.github.com/graphql",
    "POST https://api.openai.com/v1/responses",
    "POST https://api.openai.com/nowhere",
    "GET http://10.0.0.1:8080/x",
    "GET https://[::1]/x",
    "GET https://localhost/x",
    "GET https://disabled/x",
];

const WHO: &[&str] = &[
    "t/b",
    "t/au",
    "t/dis",
    "t/zed",
    "t/k8s/ns/x~1",
    "dead/b",
    "dead/zed",
    "nope/b",
    "shut/x",
    "two/b",
    "two/zed",
    "bare/x",
];

fn ask(examined: &Examined, who: &str, request: &str, integration: Option<&str>) -> Explanation {
    let (tenant, agent) = who.split_once('/').unwrap();
    let user = Some("alice@acme.example");
    examined.explain(&Inquiry { tenant, agent, user, request, at: None, integration }).unwrap()
}

/// Applies a patch as any reader of RFC 6902 does.
fn apply(document: &mut Value, edit: &Edit) {
    let (around, last) = edit.path.rsplit_once('/').unwrap();
    let last = last.replace("~1", "/").replace("~0", "~");
    match (document.pointer_mut(around).expect(&edit.path), edit.op) {
        (Value::Object(entries), Op::Add) => _ = entries.insert(last, edit.value.clone().unwrap()),
        (Value::Object(entries), Op::Remove) => _ = entries.remove(&last).expect(&edit.path),
        (Value::Array(items), Op::Add) if last == "-" => items.push(edit.value.clone().unwrap()),
        (Value::Array(items), Op::Remove) => _ = items.remove(last.parse().unwrap()),
        (other, _) => panic!("{} in {other}", edit.path),
    }
}

/// Who is refused what, and for which reason there is no change.
const NEVER: &[&str] = &[
    "no change of the policy allows it: ",
    "choose one with `X-Agent-Integration`",
    "choose another",
    "the policy allows it, ",
];

#[test]
fn what_is_said_to_allow_a_request_allows_it() {
    let text = POLICY.trim_start();
    let examined = Examined::from_text("policy.yaml", text).unwrap_or_else(|p| panic!("{}", p.render(false)));
    let mut wrong = Vec::new();
    let (mut patched, mut never) = (0, Vec::new());
    let all = WHO
        .iter()
        .enumerate()
        .flat_map(|(a, who)| REQUESTS.iter().enumerate().map(move |(b, request)| (a, b, who, request)));
    // All requests of some, and of the others each time other ones: every change is a policy to compile.
    let asked = all.filter(|(a, b, who, _)| matches!(**who, "t/b" | "t/zed") || (a + b) % 6 == 0);
    for (_, _, who, request) in asked {
        for integration in [None, Some("a"), Some("fresh")] {
            if integration.is_some() && *who != "t/b" {
                continue;
            }
            let explanation = ask(&examined, who, request, integration);
            let Some(change) = explanation.change else {
                assert!(explanation.allowed, "{who} {request}");
                continue;
            };
            let what = format!("{who} {request} {integration:?}: {}", change.say);
            if change.patch.is_empty() {
                if !NEVER.iter().any(|words| change.say.contains(words)) {
                    wrong.push(what.clone());
                }
                never.push(what);
                continue;
            }
            let mut document: Value = serde_yaml::from_str(text).unwrap();
            for edit in &change.patch {
                apply(&mut document, edit);
            }
            document.as_object_mut().unwrap().remove("tests");
            if document["guards"].as_array().is_some_and(Vec::is_empty) {
                document.as_object_mut().unwrap().remove("guards");
            }
            match Examined::from_text("changed.yaml", &document.to_string()) {
                Err(problems) => wrong.push(format!("{what}: {}", problems.render(false))),
                Ok(changed) => {
                    let after = ask(&changed, who, request, integration);
                    let waits =
                        after.change.as_ref().is_some_and(|c| c.say.starts_with("the policy allows it"));
                    if !after.allowed && !waits {
                        wrong.push(format!("{what}: still {:?}", after.code));
                    }
                }
            }
            patched += 1;
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
    assert!(patched > 150, "{patched}, and {} without a change:\n{}", never.len(), never.join("\n"));
}

#[test]
fn a_change_is_told_in_words_and_as_a_patch_with_its_place() {
    let examined = Examined::from_text("policy.yaml", POLICY.trim_start()).unwrap();
    for (who, request, say, at) in [
        ("t/b", "GET https://a.example.com/z", "add `GET /z` to services.a.roles.r", "policy.yaml:6:7"),
        (
            "t/b",
            "GET https://a.example.com/y",
            "add `GET /y` to services.a.roles.r, change the line of `tests` that promises otherwise",
            "policy.yaml:6:7",
        ),
        ("t/zed", "GET https://a.example.com/x", "write `a: r` in tenants.t.agents.zed", ""),
    ] {
        let change = ask(&examined, who, request, None).change.unwrap();
        assert_eq!(change.say, say);
        let shown = change.patch[0].at.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(shown.starts_with(at), "{shown}");
    }
}

#[test]
fn what_the_client_has_to_change_is_told_beside_what_the_policy_has_to() {
    let examined = Examined::from_text("policy.yaml", POLICY.trim_start()).unwrap();
    let (request, user) = ("GET https://g.example.com/v1/x", None);
    let inquiry = Inquiry { tenant: "t", agent: "b", user, request, at: None, integration: None };
    let change = examined.explain(&inquiry).unwrap().change.unwrap();
    assert_eq!(change.say, "write `au: r` in tenants.t.agents.b, and use a token that names a user");
    assert!(change.patch.is_empty());
}

const SOON: &str = "
version: 1
services:
  s: {hosts: [s.example.com], roles: {r: [GET /**]}}
guards:
  - {match: GET /asked, require: approval}
tenants:
  t:
    integrations:
      s: {credential: CREDENTIAL}
    agents: {b: {s: r}}
";

#[test]
fn what_comes_later_is_refused_now() {
    for (credential, code) in [
        ("none", None),
        ("{static: {bearer: \"env:X\"}}", None),
        ("{static: {bearer: \"file:x\"}}", None),
        ("{static: {bearer: \"secret:x\"}}", None),
        ("{static: {header: {X-Key: \"vault:a#b\"}}}", None),
        ("{static: {bearer: \"exec:x\"}}", None),
        ("{static: {bearer: \"aws-sm:x\"}}", None),
        ("{static: {bearer: \"remote:x\"}}", None),
        ("{oauth: {provider: not-described}}", Some("credential_missing")),
        ("{oauth: {provider: google}}", None),
        ("{byok: {}}", None),
    ] {
        for mode in ["enforce", "shadow"] {
            let text = format!("{}mode: {mode}\n", SOON.trim_start().replace("CREDENTIAL", credential));
            let examined = Examined::from_text("policy.yaml", &text).unwrap();
            let explanation = ask(&examined, "t/b", "GET https://s.example.com/x", None);
            assert_eq!(explanation.code, code, "{credential}");
            assert_eq!(explanation.allowed, code.is_none(), "{credential}");
        }
    }
    let examined =
        Examined::from_text("policy.yaml", &SOON.trim_start().replace("CREDENTIAL", "none")).unwrap();
    let text = ask(&examined, "t/b", "GET https://s.example.com/asked", None).to_string();
    assert!(text.starts_with("refused: approval_required\n"), "{text}");
    assert!(text.ends_with("the policy allows it, once a human agrees; nobody can be asked yet"), "{text}");
}

#[test]
fn shadow_mode_lets_out_without_a_credential_what_has_no_role() {
    let text =
        format!("{}mode: shadow\n", SOON.trim_start().replace("CREDENTIAL", "{static: {bearer: \"env:X\"}}"));
    let examined = Examined::from_text("policy.yaml", &text).unwrap();
    let shown = ask(&examined, "t/other", "GET https://s.example.com/x", None).to_string();
    assert!(shown.starts_with("allowed in shadow, enforcing would refuse it: agent_unknown\n"), "{shown}");
    assert!(shown.contains("credential  none: ") && !shown.contains("env:X"), "{shown}");
    let shown = ask(&examined, "t/b", "GET https://s.example.com/x", None).to_string();
    assert!(shown.starts_with("allowed\n") && shown.contains("from env:X"), "{shown}");
}

#[test]
fn what_the_proxy_does_not_read_is_not_said_to_be_allowed() {
    let examined = Examined::from_text(
        "policy.yaml",
        POLICY.trim_start().replace("tool get_*", "tool *, resource *").as_str(),
    );
    let examined = examined.unwrap();
    for (request, code) in [
        ("resource file:///a/../b @ https://m.example.com/mcp", Some("request_malformed")),
        ("resource file:///a/%2e%2e/b @ https://m.example.com/mcp", Some("request_malformed")),
        ("resource file:///a/%00 @ https://m.example.com/mcp", Some("request_malformed")),
        ("tool a\u{200b}b @ https://m.example.com/mcp", Some("request_malformed")),
        ("POST https://m.example.com/mcp", Some("request_malformed")),
        ("method tools/call @ https://m.example.com/mcp", Some("request_malformed")),
        ("resource file:///a/b @ https://m.example.com/mcp", None),
        ("method initialize @ https://m.example.com/mcp", None),
        ("method tools/list @ https://m.example.com/mcp", None),
    ] {
        assert_eq!(ask(&examined, "t/b", request, None).code, code, "{request}");
    }
    for (request, code) in [
        ("graphql query x @ https://g.example.com/graphql", None),
        ("graphql query x @ https://g.example.com/GraphQL/", Some("action_denied")),
        ("graphql query x-y @ https://g.example.com/graphql", Some("action_denied")),
        ("GET https://g.example.com/graphql?query=%7Bviewer%7D", None),
        ("GET https://g.example.com/graphql?query=mutation%7Bx%7D", Some("action_denied")),
    ] {
        assert_eq!(ask(&examined, "t/au", request, None).code, code, "{request}");
    }
}
