//! The schema that editors read: it takes every good policy, and draws a red line under slips of the pen.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

use std::{fs, path::Path};

use egret::decide;
use serde_json::{Value, json};

fn validator() -> jsonschema::Validator {
    jsonschema::draft7::new(&decide::schema()).unwrap()
}

/// YAML as an editor reads it.
fn read(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn every_policy_of_the_repository_fits() {
    let validator = validator();
    for path in ["policies/example.yaml", "policies/advanced.yaml", "policies/minimal.yaml"] {
        let policy = read(&fs::read_to_string(path).unwrap());
        let errors: Vec<String> =
            validator.iter_errors(&policy).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{path}: {errors:#?}");
    }
    for (directory, key) in
        [("src/decide/catalog", "services"), ("src/decide/catalog/providers", "providers")]
    {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                continue;
            }
            let known = read(&fs::read_to_string(&path).unwrap());
            let policy = json!({ "version": 1, key: { "known": known } });
            let errors: Vec<String> =
                validator.iter_errors(&policy).map(|e| format!("{}: {e}", e.instance_path())).collect();
            assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        }
    }
}

/// The mistakes of the design study that are slips of the pen; the others are references and meanings, and
/// `egret check` finds those.
#[test]
fn slips_of_the_pen_do_not_fit() {
    let validator = validator();
    for name in [
        "01-key-of-a-guard",
        "02-method-of-a-guard",
        "07-path-without-slash",
        "10-roles-misspelt",
        "14-plain-secret",
        "15-empty-lists",
        "16-limits",
        "21-role-lines",
        "31-mcp-services",
        "33-graphql-and-grpc",
        "34-approvals",
    ] {
        let path = Path::new("tests/policies/bad").join(name).with_extension("yaml");
        let policy = read(&fs::read_to_string(path).unwrap());
        assert!(!validator.is_valid(&policy), "{name} fits");
    }
}

#[test]
fn each_line_of_a_role_is_looked_at() {
    let validator = validator();
    let fits = |line: &str| {
        let policy = json!({ "version": 1, "services": { "s": { "hosts": ["a.example"], "roles": { "r": [line] } } } });
        validator.is_valid(&policy)
    };
    for good in [
        "GET /repos/**",
        "POST|PATCH /repos/*/*/issues/**",
        "ANY /**",
        "connect",
        "tool list_*",
        "resource file:///*",
        "prompt *",
        "method tasks/*",
        "graphql query *",
        "graphql mutation issueCreate",
        "graphql query",
        "grpc /a.b.C/*",
    ] {
        assert!(fits(good), "{good}");
    }
    for bad in [
        "GTE /repos/**",
        "get /repos/**",
        "GET repos/**",
        "GET",
        "GET /a?b=c",
        "GET|POSTT /a",
        "tol list_*",
        "tool",
        "graphql subscription *",
        "grpc C/M",
        "conect",
        "",
    ] {
        assert!(!fits(bad), "{bad}");
    }
}

#[test]
fn every_key_says_what_it_is_for() {
    fn look(schema: &Value, path: &str) {
        for (key, value) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{path}.{key}");
            let about = value["description"].as_str().unwrap_or_default();
            assert!(about.ends_with('.') && about.len() > 3, "{at}: {about:?}");
            look(value, &at);
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                look(&schema[inner], path);
            }
        }
    }
    look(&decide::schema(), "policy");
}

/// Where a value of the table stands in a policy that is sound without it.
#[derive(Debug, Clone, Copy)]
enum Place {
    Host,
    Network,
    Size,
    Timeout,
    Within,
    RolePath,
    RoleLine,
    McpLine,
    GraphQl,
    Mcp,
    Guard,
    Limit,
    Credential,
    Vault,
    TokenUrl,
    SecretPath,
    Tenant,
    Integration,
    Agent,
    Role,
    Var,
    Test,
    As,
    Version,
    AppId,
}

/// A policy with a value, as YAML, in a place.
fn policy_with(place: Place, value: &str) -> String {
    let service = |host: &str, more: &str, line: &str| {
        format!("version: 1\nservices: {{s: {{hosts: [{host}], {more} roles: {{r: [{line}]}}}}}}\n")
    };
    let of_service = |more: &str| service("a.example.com", more, "GET /**");
    let path = |value: &str| serde_json::to_string(&format!("GET {value}")).unwrap();
    let tenants = |tenant: &str,
                   integration: &str,
                   agent: &str,
                   role: &str,
                   credential: &str,
                   limit: &str| {
        format!(
            "version: 1\nservices: {{s: {{hosts: [a.example.com], roles: {{{role}: [GET /**]}}}}}}\n\
             tenants: {{{tenant}: {{integrations: {{{integration}: {{service: s, credential: {credential}{limit}}}}}, \
             agents: {{{agent}: {{{integration}: {role}}}}}}}}}\n"
        )
    };
    let usual = |credential: &str, limit: &str| tenants("t", "i", "a", "r", credential, limit);
    match place {
        Place::Host => service(value, "", "GET /**"),
        Place::Network => of_service(&format!("allow_private_addresses: [{value}],")),
        Place::Size => of_service(&format!("max_body: {value},")),
        Place::Timeout => of_service(&format!("response_timeout: {value},")),
        Place::Within => {
            format!("{}approvals: {{by: user:x, within: {value}}}\n", of_service(""))
        }
        Place::RolePath => service("a.example.com", "", &path(value)),
        Place::RoleLine => service("a.example.com", "", value),
        Place::McpLine => {
            format!(
                "version: 1\nservices: {{s: {{mcp: https://m.example.com/mcp, roles: {{r: [{value}]}}}}}}\n"
            )
        }
        Place::GraphQl => of_service(&format!("graphql: {value},")),
        Place::Mcp => format!("version: 1\nservices: {{s: {{mcp: {value}, roles: {{r: [tool x]}}}}}}\n"),
        Place::Guard => format!("{}guards: [{{match: {value}, deny: never}}]\n", of_service("")),
        Place::Limit => usual("none", &format!(", limit: {value}")),
        Place::Credential => usual(&format!("{{static: {{bearer: {value}}}}}"), ""),
        Place::Vault => usual(&format!("{{static: {{header: {{X-Key: {value}}}}}}}"), ""),
        Place::TokenUrl => usual(
            &format!(
                "{{client_credentials: {{token_url: {value}, client_id: c, client_secret: \"env:X\"}}}}"
            ),
            "",
        ),
        Place::SecretPath => usual(&format!("{{static: {{path: {{{value}: \"env:X\"}}}}}}"), ""),
        Place::Tenant => tenants(value, "i", "a", "r", "none", ""),
        Place::Integration => tenants("t", value, "a", "r", "none", ""),
        Place::Agent => tenants("t", "i", value, "r", "none", ""),
        Place::Role => tenants("t", "i", "a", value, "none", ""),
        Place::Var => format!(
            "version: 1\nservices: {{s: {{hosts: [\"{{{value}}}.example.com\"], roles: {{r: [GET /**]}}}}}}\n\
             tenants: {{t: {{integrations: {{s: {{credential: none, vars: {{{value}: x}}}}}}}}}}\n"
        ),
        Place::Test => format!("{}tests: [{{as: t/a, deny: [{value}]}}]\n", usual("none", "")),
        Place::As => format!("{}tests: [{{as: {value}, deny: [GET https://b.example/]}}]\n", of_service("")),
        Place::Version => of_service("").replace("version: 1", &format!("version: {value}")),
        Place::AppId => usual(
            &format!("{{github_app: {{app_id: {value}, installation_id: 1, private_key: \"env:X\"}}}}"),
            "",
        ),
    }
}

const LONG: &str = "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg";

/// What the loader takes, the schema takes; and of the other, whatever a regular expression can tell.
#[test]
fn the_schema_takes_what_the_loader_takes_and_refuses_what_it_refuses() {
    let validator = validator();
    let mut wrong = Vec::new();
    let mut check = |place: Place, value: &str, good: bool| {
        let text = policy_with(place, value);
        let loads = decide::Policy::from_text("policy.yaml", &text).is_ok();
        let fits = validator.is_valid(&read(&text));
        if (loads, fits) != (good, good) {
            wrong.push(format!("{place:?} {value}: loads: {loads}, fits: {fits}, should: {good}"));
        }
    };
    for (place, good, bad) in table() {
        for value in good {
            check(place, value, true);
        }
        for value in bad {
            check(place, value, false);
        }
    }
    for (place, longest) in [(Place::Tenant, 64), (Place::Role, 64), (Place::Agent, 128)] {
        let long = LONG.repeat(3);
        check(place, &long[..longest], true);
        check(place, &long[..=longest], false);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

type Row = (Place, &'static [&'static str], &'static [&'static str]);

#[rustfmt::skip]
fn table() -> Vec<Row> {
    vec![
        (
            Place::Host,
            &[
                "a.example.com", "API.Example.com.", "localhost", "localhost:8080", "a_b.example", "10.1.2.3",
                "10.1.2.3:80", "\"[::1]\"", "\"[fd00::7]:8443\"", "\"*.example.com\"", "\"*.x.co.uk\"",
                "\"*.example.com:65535\"", "xn--bcher-kva.example", "\"*.acme.github.io\"", "1password.com", "0x1.example",
            ],
            &[
                "\"*\"", "\"*.com\"", "\"*.com:8443\"", "\"*.co.uk\"", "\"*.github.io\"", "\"*.localhost\"", "\"api.*.x\"",
                "\"*foo.example.com\"", "\"*.*.example.com\"", "https://x.example", "x.example/v1", "\"*.192.0.2.1\"",
                "a..b", "a.example.com:0", "a.example.com:65536", "a.example.com:99999", "a.example.com:", "a.example.com:08",
                "user@x.example", "-a.example", "a-.example", "10.1.2", "10.1.2.300", "01.2.3.4", "10.1.2.3.", "a.0x1f",
                "bücher.example", "\"a b.example\"", ".example", "\"[10.1.2.3]\"", "\"::1\"", "\"{}.x.com\"", "\"{A}.x.com\"",
                "\"{a.x.com\"", "\"*.{a}.com\"", "\"{a}..com\"", "\"{a}/x\"", "\"x:{a}\"", "{}", "10",
            ],
        ),
        (
            Place::Network,
            &["10.0.0.0/8", "\"fd00::/8\"", "\"::1/128\"", "192.0.2.1/32"],
            &["10.0.0.0", "10.0.0.0/33", "\"fd00::/129\"", "\"fd00::\"", "\"yes\"", "example.com/8"],
        ),
        (Place::Size, &["1024", "1", "512KiB", "10MiB", "10 MiB", "1GiB", "7B", "007"], &["0", "0KiB", "-1", "10MB", "KiB", "1.5MiB", "true"]),
        (Place::Timeout, &["30s", "10m", "500ms", "1h", "2d", "010s"], &["30", "0s", "1.5h", "s", "30 s", "1w", "-1s"]),
        (Place::Within, &["15m"], &["15", "\"15\"", "0m", "15min"]),
        (
            Place::RolePath,
            &[
                "/", "/**", "/repos/**", "/repos/*/*", "/a*b", "/a.b", "/...", "/..a", "/a/", "/%20", "/%25", "/a:b@c",
                "/{x}", "/a,b'c", "/*/**", "/%C3%A9", "/~a", "/.well-known/x",
            ],
            &[
                "/a/../b", "/a/**/b", "/a**", "/**a", "/***", "/**/", "/./a", "/a/..", "/%2e%2e/a", "/%2E", "/a//b", "//",
                "/a;b", "/a\\b", "/a%2fb", "/a%5cb", "/a%3Bb", "/a%00", "/a%zz", "/a%2", "/a?b", "/a#b", "/é", "a", "**",
                "/a%252e", "/..%20/a", "/a b",
            ],
        ),
        (Place::RoleLine, &["grpc /a.b.C/*", "graphql query", "POST|PATCH /x", "ANY /**"], &["grpc /a", "grpc /a/**", "grpc /a/../b", "grpc //b", "12"]),
        (Place::McpLine, &["tool list_*", "method tasks/*", "resource file:///*", "tool é"], &["method tools/call", "method resources/read", "tool a b", "tool"]),
        (Place::GraphQl, &["/graphql", "/admin/api/*/graphql.json", "/"], &["/graphql/**", "graphql", "/a/../graphql", "/graphql?x", "\"**\""]),
        (
            Place::Mcp,
            &["https://m.example.com/mcp", "http://localhost:8080", "https://m.example.com", "\"https://[::1]:8443/a/b/\"", "https://m.example.com/"],
            &["m.example.com/mcp", "ftp://m.example.com/mcp", "https://m.example.com/mcp?x", "https://m.example.com/a/../b", "https://*.example.com/mcp", "https://m..example/mcp", "https://m.example.com:99999/mcp", "https://u@m.example.com/mcp", "https:///mcp"],
        ),
        (Place::Guard, &["DELETE **", "s DELETE /a/**", "GET|PUT /**", "\" s  DELETE  ** \"", "s graphql mutation", "s grpc /a.B/*"], &["DELETE", "DELETE /a/../b", "DELETE /a/**/b", "DELET **", "s DELETE a", "s t DELETE **", "DELETE ***", "s grpc /a", "s graphql subscription x"]),
        (Place::Limit, &["120/min", "1/s", "0120/h"], &["0/min", "120/minute", "120", "-1/min", "1.5/s", "/s"]),
        (Place::Credential, &["\"env:A_1\"", "\"file:/run/x y\"", "\"secret:a/b-c.d\"", "\"vault:kv/a#b\"", "\"aws-sm:arn:aws:x\"", "\"aws-sm:n#k\"", "\"exec:op\"", "\"remote:sts/a\""], &["\"env:A B\"", "\"env:\"", "\"env:1A\"", "\"file:\"", "\"vault:x\"", "\"vault:x#\"", "\"op://x\"", "ghp_plain", "\"secret:a b\"", "\"exec:a b\"", "\"remote:a b\"", "\"remote:\"", "\"aws-sm:a#b c\"", "12"]),
        (Place::Vault, &["\"Token env:A\"", "\"env:A\"", "{prefix: \"x \", secret: \"env:A\"}"], &["Token", "\"Token xenv:A\"", "{prefix: x}"]),
        (Place::TokenUrl, &["https://a.example/token", "https://a.example", "https://a.example:8443/x?y=1"], &["http://a.example/token", "a.example/token", "https://a..example/t", "https://a.example/../t", "https:///t"]),
        (Place::SecretPath, &["/bot*", "\"/a/*x\""], &["/bot", "/*/a", "/a**", "/*a*", "bot*", "\"/a//b*\""]),
        (Place::Tenant, &["acme", "t_acme", "Acme.eu", "7f3c-12", "1"], &["\"t globex\"", "-t", ".t", "a/b", "a~b", "a@b", "a:b"]),
        (Place::Integration, &["github-acme", "disabled2"], &["disabled", "a/b", "\"*\""]),
        (Place::Agent, &["bot", "k8s/ns/bot~1", "\"*\"", "a_b.c-d", "1"], &["\"tri age\"", "a@b", "a:b", "-a", "\"~a\"", "\"**\""]),
        (Place::Role, &["reader", "7", "\"true\""], &["\"a b\"", "a/b", "true"]),
        (Place::Var, &["subdomain", "a_1"], &["Sub", "1a", "a-b", "_a"]),
        (
            Place::Test,
            &["GET https://b.example/x", "CONNECT b.example:443", "tool a @ https://b.example/mcp", "graphql query a @ https://b.example/graphql", "\"GET  https://b.example/x  via  i\"", "grpc /a/B @ https://b.example"],
            &["GET b.example/", "FETCH https://b.example/", "ANY https://b.example/", "GET|PUT https://b.example/", "CONNECT b.example", "GET https://b.example/ via a/b", "tool a b @ https://b.example/", "graphql subscription x @ https://b.example/", "GET"],
        ),
        (Place::As, &["t/a", "t/k8s/ns/bot~1"], &["t", "/a", "t/", "t t/a", "t/a@b", "t:x/a"]),
        (Place::Version, &["1", "\"1\""], &["2", "\"one\"", "true"]),
        (Place::AppId, &["12345", "\"12345\""], &["x", "-1", "[1]", "1.5"]),
    ]
}

#[test]
fn a_choice_of_two_keys_is_one_of_them() {
    let validator = validator();
    for (text, good) in [
        ("guards: [{match: DELETE **, deny: never}]", true),
        ("guards: [{match: DELETE **, deny: never, require: approval}]", false),
        ("services: {s: {hosts: [a.example], mcp: https://a.example/mcp, roles: {r: [tool x]}}}", false),
        ("services: {s: {hosts: [a.example], roles: {}}}", false),
        ("tests: [{as: t/a, deny: [GET https://a.example/], approve: [GET https://b.example/]}]", true),
        ("tenants: {t: {agents: {a: {disabled: true}}}}", true),
        ("tenants: {t: {agents: {a: {disabled: maybe}}}}", false),
        ("tenants: {t: {agents: {a: {github: true}}}}", false),
    ] {
        assert_eq!(validator.is_valid(&read(&format!("version: 1\n{text}\n"))), good, "{text}");
    }
}
