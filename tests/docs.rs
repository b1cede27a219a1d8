//! The pages hold what the program does: `docs/refusals.md` every code, its statuses and its words, `docs/catalog.md`
//! every service, `docs/lints.md` every lint.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on fails"
)]

use std::{collections::BTreeSet, time::Duration};

use egret::{
    decide::{self, LintCode, Listing, Policy},
    refusal::{Door, Reason},
};

const PAGE: &str = include_str!("../docs/refusals.md");

#[test]
fn every_code_has_its_section_and_every_section_its_code() {
    let codes: BTreeSet<&str> = every_reason().iter().map(|reason| reason.facts().code).collect();
    let sections: BTreeSet<&str> =
        PAGE.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    assert_eq!(sections, codes, "the sections of docs/refusals.md (left) are the codes of `Reason` (right)");
}

#[test]
fn every_lint_has_its_section_and_every_section_its_lint() {
    let page = include_str!("../docs/lints.md");
    let codes: BTreeSet<&str> = LintCode::ALL.into_iter().map(LintCode::as_str).collect();
    let sections: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    assert_eq!(sections, codes, "the sections of docs/lints.md (left) are the codes of `LintCode` (right)");
}

#[test]
fn what_the_page_shows_of_a_difference_is_what_is_said() {
    let page = include_str!("../docs/policy.md");
    for said in [
        include_str!("policies/diff/01-a-reader-becomes-a-writer/expected.txt"),
        include_str!("policies/diff/05-mistake-9-guard-removed/expected.txt"),
    ] {
        assert!(page.contains(&format!("```text\n{said}```")), "docs/policy.md lacks\n{said}");
    }
}

#[test]
fn the_table_says_what_the_program_answers() {
    let expected: BTreeSet<String> = every_reason().iter().map(row).collect();
    let written: BTreeSet<String> =
        PAGE.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect();
    let missing: Vec<_> = expected.difference(&written).collect();
    let wrong: Vec<_> = written.difference(&expected).collect();
    assert!(missing.is_empty() && wrong.is_empty(), "docs/refusals.md lacks {missing:#?} and has {wrong:#?}");
}

/// A refusal as its row in the table.
fn row(reason: &Reason) -> String {
    let facts = reason.facts();
    let [connect, absolute, tunnel, gateway] =
        [Door::Connect, Door::Absolute, Door::Tunnel, Door::Gateway].map(|door| reason.status(door).as_u16());
    let retry = if facts.retryable { "yes" } else { "no" };
    format!(
        "| `{}` | {connect} | {absolute} | {tunnel} | {gateway} | `{}` | `{}` | {retry} |",
        facts.code, facts.error, facts.token
    )
}

/// One of each kind; several where facts depend on the data.
fn every_reason() -> Vec<Reason> {
    let text = String::new;
    let mut all = vec![
        Reason::IdentityMissing,
        Reason::TokenExpired { expired_at: 0 },
        Reason::TokenAudienceMismatch { expected: "egret".into() },
        Reason::TokenInvalid { check: text() },
        Reason::IdentityUnavailable { what: text() },
        Reason::TenantUnknown,
        Reason::AgentUnknown,
        Reason::AgentMismatch,
        Reason::DestinationIpProhibited { address: text() },
        Reason::ActionDenied { detail: text(), needed_role: None, granted_role: None },
        Reason::ApprovalRequired { guard: "".into(), action: text() },
        Reason::RateLimited { policy: text(), quota: 1, window: 1, retry_after: Duration::ZERO },
        Reason::CredentialMissing { what: text(), connect: None },
        Reason::CredentialUnavailable { what: text() },
        Reason::CredentialRejected { code: None },
        Reason::AuthRevoked { code: None, connect: None },
        Reason::TokenRefreshFailed { code: None, retry_after: Duration::ZERO, error: text() },
        Reason::UserMissing,
        Reason::IntegrationAmbiguous { candidates: Vec::new() },
        Reason::UpstreamUnscrubbable { what: "" },
        Reason::UpstreamTimeout { connecting: true, idempotent: true },
        Reason::UpstreamTimeout { connecting: false, idempotent: true },
        Reason::UpstreamTimeout { connecting: false, idempotent: false },
        Reason::UpstreamUnreachable { terminated: false, idempotent: true, error: text() },
        Reason::LoopDetected,
        Reason::BodyTooLarge { limit: 1 },
        Reason::NotRecorded { error: text() },
        Reason::InternalError { error: text() },
    ];
    for yes in [true, false] {
        all.push(Reason::DestinationNotAllowed { host: text(), port: yes });
        all.push(Reason::UpstreamDnsFailed { timeout: yes, error: text() });
        all.push(Reason::UpstreamUnreachable { terminated: true, idempotent: yes, error: text() });
        all.push(Reason::UpstreamTlsFailed { certificate: yes, error: text() });
    }
    for (token, status) in [
        ("malformed-target", 400),
        ("authority-mismatch", 400),
        ("malformed-identity", 400),
        ("mcp-header-mismatch", 400),
        ("malformed-body", 400),
        ("uri-too-long", 400),
        ("expectation", 417),
    ] {
        all.push(Reason::RequestMalformed { what: "", token, status });
    }
    for reason in &all {
        is_listed(reason);
    }
    all
}

/// A new kind of refusal does not compile until it is here, and then in the list above.
fn is_listed(reason: &Reason) {
    match reason {
        Reason::IdentityMissing
        | Reason::TokenExpired { .. }
        | Reason::TokenAudienceMismatch { .. }
        | Reason::TokenInvalid { .. }
        | Reason::IdentityUnavailable { .. }
        | Reason::TenantUnknown
        | Reason::AgentUnknown
        | Reason::AgentMismatch
        | Reason::DestinationNotAllowed { .. }
        | Reason::DestinationIpProhibited { .. }
        | Reason::ActionDenied { .. }
        | Reason::ApprovalRequired { .. }
        | Reason::RateLimited { .. }
        | Reason::CredentialMissing { .. }
        | Reason::CredentialUnavailable { .. }
        | Reason::CredentialRejected { .. }
        | Reason::AuthRevoked { .. }
        | Reason::TokenRefreshFailed { .. }
        | Reason::UserMissing
        | Reason::IntegrationAmbiguous { .. }
        | Reason::UpstreamDnsFailed { .. }
        | Reason::UpstreamUnreachable { .. }
        | Reason::UpstreamTimeout { .. }
        | Reason::UpstreamTlsFailed { .. }
        | Reason::UpstreamUnscrubbable { .. }
        | Reason::LoopDetected
        | Reason::BodyTooLarge { .. }
        | Reason::RequestMalformed { .. }
        | Reason::NotRecorded { .. }
        | Reason::InternalError { .. } => {}
    }
}

const CATALOGUE: &str = "docs/catalog.md";

#[test]
fn the_page_has_every_provider_and_the_services_it_goes_with() {
    let page = std::fs::read_to_string(CATALOGUE).unwrap();
    let (start, end) = (page.find("## Providers").unwrap(), page.find("## The services").unwrap());
    let rows = page[start..end].lines().filter_map(|line| line.strip_prefix("| `"));
    let services: BTreeSet<&str> = decide::catalogue().iter().map(|listing| listing.name).collect();
    let mut written = Vec::new();
    for row in rows {
        let (name, rest) = row.split_once("` |").unwrap();
        let cell = rest.split('|').next().unwrap();
        for service in cell.split(',').map(|service| service.trim().trim_matches('`')) {
            assert!(services.contains(service), "{name} goes with no `{service}`");
        }
        written.push(name);
    }
    assert_eq!(written, decide::providers().collect::<Vec<_>>());
}

/// The examples of docs/policy.md that stand alone, as whole policies: parts of a policy, and credentials.
#[test]
fn what_the_page_shows_of_services_providers_and_credentials_loads() {
    const PAGE: &str = include_str!("../docs/policy.md");
    let schema = decide::schema();
    let kinds = schema
        .pointer("/properties/tenants/additionalProperties/properties/integrations/additionalProperties/properties/credential/anyOf/1/properties")
        .unwrap();
    let mut missing: BTreeSet<&str> = kinds.as_object().unwrap().keys().map(String::as_str).collect();
    for attached_as_it_is in ["secrets", "static"] {
        assert!(missing.remove(attached_as_it_is));
    }
    let examples = PAGE.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    for example in examples {
        let policy = if example.starts_with("services:") || example.starts_with("providers:") {
            format!("version: 1\n{example}")
        } else if let Some(credential) = example.strip_prefix("credential:\n  ") {
            missing.remove(credential.split(':').next().unwrap());
            let indented = format!("        {}\n", example.replace('\n', "\n        "));
            format!("version: 1\ntenants:\n  acme:\n    integrations:\n      openai:\n{indented}")
        } else {
            continue;
        };
        if let Err(problems) = Policy::from_text("docs/policy.md", &policy) {
            panic!("{policy}\n{}", problems.render(false));
        }
    }
    assert!(missing.is_empty(), "docs/policy.md has no example of {missing:?}");
}

/// `EGRET_BLESS=1` writes the table anew.
#[test]
fn the_catalogue_is_the_table_of_its_page() {
    let page = std::fs::read_to_string(CATALOGUE).unwrap();
    let border = page.find("## The services").unwrap();
    let head: String = page[border..].split_inclusive('\n').take(4).collect();
    let rows: String = decide::catalogue().iter().map(service).collect();
    let expected = page[..border].to_owned() + &head + &rows;
    if std::env::var_os("EGRET_BLESS").is_some() {
        std::fs::write(CATALOGUE, &expected).unwrap();
    }
    assert!(
        std::fs::read_to_string(CATALOGUE).unwrap() == expected,
        "EGRET_BLESS=1 writes docs/catalog.md anew"
    );
}

/// A service as its row in the table.
fn service(listing: &Listing) -> String {
    let code = |words: &[String]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let roles: Vec<String> = listing.roles.iter().map(|role| role.name.clone()).collect();
    let secret = |name: &String| {
        if listing.users.contains(name) { format!("*{name}*") } else { format!("`{name}`") }
    };
    let secrets: Vec<String> = listing.secrets.iter().map(secret).collect();
    let (name, about, hosts, roles) = (listing.name, listing.about, code(&listing.hosts), code(&roles));
    let secrets = if secrets.is_empty() { "`aws_sigv4`".to_owned() } else { secrets.join(", ") };
    format!("| `{name}` | {about} | {hosts} | {roles} | {secrets} |\n")
}

#[test]
fn every_policy_of_the_page_loads() {
    let page = std::fs::read_to_string(CATALOGUE).unwrap();
    let policies: Vec<&str> =
        page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(policies.len(), 2);
    for policy in policies {
        if let Err(problems) = Policy::from_text(CATALOGUE, policy) {
            panic!("{}", problems.render(false));
        }
    }
}
