//! From claims to a caller: agents, tenants, people, delegation, and the client's own words.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Lab, NOW, Signer, claims};
use crate::{
    context::{AgentId, AgentSource, Channel, Identity, TenantId},
    identify::{AgentClaim, ClaimMap, Delegation, DevIssuer, Hints, Mint},
    listen::{Presented, UnverifiedToken},
    refusal::Reason,
};

/// Verifies these claims while the client names `agent`.
async fn named(
    lab: &Lab,
    signer: &Signer,
    change: Value,
    agent: Option<&str>,
) -> Result<Arc<Identity>, Reason> {
    let agent = agent.map(|a| AgentId::parse(a).unwrap());
    let hints = Hints { agent: agent.as_ref(), tenant: None };
    let token = UnverifiedToken::new(&signer.token(&claims(change)));
    lab.verifier.check(Channel::ProxyBasic, &token, hints).await
}

fn code(result: &Result<Arc<Identity>, Reason>) -> &'static str {
    result.as_ref().map_or_else(|reason| reason.facts().code, |_| "ok")
}

fn chain(identity: &Identity) -> Vec<(&str, &str)> {
    identity.delegation.iter().map(|actor| (&*actor.sub, actor.kind)).collect()
}

#[tokio::test]
async fn a_client_may_narrow_its_token_and_never_widen_it() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let list = json!({ "agent_id": ["triage-bot", "release-bot"] });
    let organisation = json!({ "agent_id": null, "sub": "t_acme" });
    for (change, agent, expected) in [
        (json!({}), None, "ok"),
        (json!({}), Some("triage-bot"), "ok"),
        (json!({}), Some("release-bot"), "agent_mismatch"),
        (json!({}), Some("Triage-bot"), "agent_mismatch"),
        (list.clone(), Some("release-bot"), "ok"),
        (list.clone(), Some("other-bot"), "agent_mismatch"),
        (list, None, "agent_unknown"),
        (organisation.clone(), Some("any-bot"), "ok"),
        (organisation, None, "agent_unknown"),
        (json!({ "agent_id": [] }), Some("triage-bot"), "token_invalid"),
        (json!({ "agent_id": 7 }), None, "token_invalid"),
        (json!({ "agent_id": "a b" }), None, "token_invalid"),
    ] {
        assert_eq!(code(&named(&lab, &signer, change.clone(), agent).await), expected, "{change} {agent:?}");
    }
}

#[tokio::test]
async fn the_source_of_the_agent_is_told() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    for (agent_id, source) in [
        (json!("triage-bot"), AgentSource::Token),
        (json!(["triage-bot"]), AgentSource::Token),
        (json!(["triage-bot", "x"]), AgentSource::Client),
        (Value::Null, AgentSource::Client),
    ] {
        let identity =
            named(&lab, &signer, json!({ "agent_id": agent_id }), Some("triage-bot")).await.unwrap();
        assert_eq!(identity.agent_source, source, "{agent_id}");
        assert_eq!(identity.agent_id.as_str(), "triage-bot");
    }
    let strict = Lab::inline(&[&signer], |config| config.agent_claim = AgentClaim::Required);
    assert_eq!(code(&named(&strict, &signer, json!({ "agent_id": null }), Some("a")).await), "token_invalid");
}

#[tokio::test]
async fn a_tenant_is_the_tokens_own() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    for (change, expected) in [
        (json!({ "tenant_id": null, "org_id": "t_acme" }), "ok"),
        (json!({ "tenant_id": null }), "token_invalid"),
        (json!({ "tenant_id": "../t_zeta" }), "token_invalid"),
        (json!({ "tenant_id": "" }), "token_invalid"),
        (json!({ "tenant_id": ["t_acme"] }), "token_invalid"),
    ] {
        assert_eq!(code(&named(&lab, &signer, change.clone(), None).await), expected, "{change}");
    }
    let token = UnverifiedToken::new(&signer.token(&claims(json!({}))));
    for (tenant, same) in [("t_acme", true), ("t_zeta", false), ("T_ACME", false)] {
        let tenant = TenantId::parse(tenant).unwrap();
        let hints = Hints { agent: None, tenant: Some(&tenant) };
        assert_eq!(lab.verifier.check(Channel::ProxyBearer, &token, hints).await.is_ok(), same, "{tenant}");
    }
}

#[tokio::test]
async fn a_dotted_path_goes_into_objects_and_around_dotted_names() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |config| {
        config.claims = ClaimMap {
            tenant: vec!["kubernetes.io.namespace".into()],
            agent: vec!["https://acme.example/agent".into(), "kubernetes.io.serviceaccount.name".into()],
            user: vec!["act.sub".into()],
        };
    });
    let kubernetes = json!({ "namespace": "acme", "serviceaccount": { "name": "triage" } });
    let identity = named(&lab, &signer, json!({ "kubernetes.io": kubernetes }), None).await.unwrap();
    assert_eq!((identity.tenant_id.as_str(), identity.agent_id.as_str()), ("acme", "triage"));
    let change = json!({ "kubernetes.io": kubernetes, "https://acme.example/agent": "named" });
    assert_eq!(named(&lab, &signer, change, None).await.unwrap().agent_id.as_str(), "named");
    let literal = json!({ "kubernetes.io.namespace": "literal", "kubernetes.io": kubernetes });
    assert_eq!(named(&lab, &signer, literal, None).await.unwrap().tenant_id.as_str(), "literal");
}

#[tokio::test]
async fn delegation_is_told_from_the_principal_to_the_agent_that_acts() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let acted =
        json!({ "agent_id": null, "act": { "sub": "triage-bot", "act": { "sub": "orchestrator-2" } } });
    let identity = named(&lab, &signer, acted, None).await.unwrap();
    assert_eq!(identity.agent_id.as_str(), "triage-bot");
    assert_eq!(identity.user_id.as_ref().unwrap().as_str(), "u_81f3");
    let expected = [("u_81f3", "user"), ("orchestrator-2", "agent"), ("triage-bot", "agent")];
    assert_eq!(chain(&identity), expected);

    let alone = named(&lab, &signer, json!({ "sub": "triage-bot" }), None).await.unwrap();
    assert!(alone.user_id.is_none(), "an agent is no person behind itself");
    assert_eq!(chain(&alone), [("triage-bot", "agent")]);

    let organisation =
        named(&lab, &signer, json!({ "sub": "t_acme", "agent_id": null }), Some("any-bot")).await.unwrap();
    assert!(organisation.user_id.is_none(), "nor is an organisation");
    assert_eq!(chain(&organisation), [("any-bot", "agent")]);

    let client = named(&lab, &signer, json!({ "agent_id": null, "client_id": "app-1" }), None).await.unwrap();
    assert_eq!(chain(&client), [("u_81f3", "user"), ("app-1", "agent")]);
}

#[tokio::test]
async fn an_issuer_may_say_it_the_other_way_round() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |config| {
        config.delegation = Delegation::AgentSubject;
        config.claims = ClaimMap::of(Delegation::AgentSubject);
    });
    let change = json!({ "agent_id": null, "sub": "triage-bot", "act": { "sub": "u_81f3" } });
    let identity = named(&lab, &signer, change, None).await.unwrap();
    assert_eq!(identity.agent_id.as_str(), "triage-bot");
    assert_eq!(identity.user_id.as_ref().unwrap().as_str(), "u_81f3");
    assert_eq!(chain(&identity), [("u_81f3", "user"), ("triage-bot", "agent")]);
}

#[tokio::test]
async fn a_delegation_chain_is_bounded() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let nested = |depth: usize| {
        (0..depth).fold(Value::Null, |inner, at| {
            let mut act = json!({ "sub": format!("a{at}") });
            if !inner.is_null() {
                act["act"] = inner;
            }
            act
        })
    };
    for (act, expected) in [
        (nested(8), "ok"),
        (nested(9), "token_invalid"),
        (nested(50), "token_invalid"),
        (json!("triage-bot"), "token_invalid"),
        (json!({}), "token_invalid"),
        (json!({ "sub": 1 }), "token_invalid"),
        (json!({ "sub": "a", "act": [] }), "token_invalid"),
    ] {
        assert_eq!(code(&named(&lab, &signer, json!({ "act": act }), None).await), expected, "{act:.60}");
    }
}

#[tokio::test]
async fn scopes_are_sorted_and_bounded() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let many = |count: usize| (0..count).map(|i| format!("s{i}")).collect::<Vec<_>>().join(" ");
    for change in [json!({ "scope": "b  a b" }), json!({ "scp": ["b", "a"] }), json!({ "scp": "b a" })] {
        let identity = named(&lab, &signer, change.clone(), None).await.unwrap();
        assert_eq!(identity.scopes.iter().map(|s| &**s).collect::<Vec<_>>(), ["a", "b"], "{change}");
    }
    for (scope, expected) in [
        (json!(many(256)), "ok"),
        (json!(many(257)), "token_invalid"),
        (json!(1), "token_invalid"),
        (json!(["a", 1]), "token_invalid"),
    ] {
        assert_eq!(code(&named(&lab, &signer, json!({ "scope": scope }), None).await), expected);
    }
}

#[tokio::test]
async fn facts_of_the_token_travel_with_the_identity() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let change = json!({ "oauth_subject": "auth0|81f3", "jti": "4711" });
    let identity = named(&lab, &signer, change, None).await.unwrap();
    assert_eq!(identity.oauth_subject.as_deref(), Some("auth0|81f3"));
    let hash = format!("sha256:{}", crate::secret::sha256_hex(b"4711"));
    assert_eq!(identity.jti_hash.as_deref(), Some(hash.as_str()));
    assert_eq!((&*identity.issuer, identity.expires_at), (super::ISSUER, NOW + 600));
    assert_eq!(identity.channel, Channel::ProxyBasic);
}

#[tokio::test]
async fn a_repeated_request_shares_its_identity() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let token = UnverifiedToken::new(&signer.token(&claims(json!({ "agent_id": ["a", "b"] }))));
    let (a, b) = (AgentId::parse("a").unwrap(), AgentId::parse("b").unwrap());
    let ask =
        |channel, agent| lab.verifier.check(channel, &token, Hints { agent: Some(agent), tenant: None });
    let first = ask(Channel::ProxyBearer, &a).await.unwrap();
    assert!(Arc::ptr_eq(&first, &ask(Channel::ProxyBearer, &a).await.unwrap()));
    assert_eq!(ask(Channel::ProxyBearer, &b).await.unwrap().agent_id, b);
    assert_eq!(ask(Channel::AgentHeader, &a).await.unwrap().channel, Channel::AgentHeader);
}

fn presented(tokens: &[&str]) -> Presented {
    let channels = [Channel::ProxyBearer, Channel::AgentHeader];
    let tokens = channels.into_iter().zip(tokens.iter().map(|t| Arc::new(UnverifiedToken::new(t)))).collect();
    Presented { tokens, ..Presented::default() }
}

#[tokio::test]
async fn several_tokens_must_name_one_caller() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let token = |change| signer.token(&claims(change));
    let first = token(json!({}));
    for (second, expected) in [
        (token(json!({ "jti": "2" })), "ok"),
        (token(json!({ "tenant_id": "t_zeta" })), "agent_mismatch"),
        (token(json!({ "agent_id": "other" })), "agent_mismatch"),
        (token(json!({ "sub": "u_2" })), "agent_mismatch"),
        (token(json!({ "exp": NOW - 100 })), "token_expired"),
        ("x".to_owned(), "token_invalid"),
    ] {
        assert_eq!(code(&lab.verifier.identify(&presented(&[&first, &second])).await), expected);
        assert_eq!(code(&lab.verifier.identify(&presented(&[&second, &first])).await), expected);
    }
    let both = lab.verifier.identify(&presented(&[&first, &first])).await.unwrap();
    assert_eq!(both.channel, Channel::ProxyBearer, "the preferred channel is the one on record");
    assert_eq!(code(&lab.verifier.identify(&presented(&[])).await), "identity_missing");
}

#[tokio::test]
async fn a_tunnel_keeps_its_caller() {
    let signer = Signer::new("k1");
    let lab = Lab::inline(&[&signer], |_| {});
    let token = |change| signer.token(&claims(change));
    let organisation = token(json!({ "agent_id": null, "sub": "t_acme" }));
    let mut opened = presented(&[&organisation]);
    opened.agent = Some(AgentId::parse("triage-bot").unwrap());
    let tunnel = lab.verifier.identify(&opened).await.unwrap();

    let inside = |tokens: &[&str]| Presented { tunnel: Some(tunnel.clone()), ..presented(tokens) };
    // The agent was named when the tunnel was opened, and need not be named again.
    assert_eq!(code(&lab.verifier.identify(&inside(&[&organisation])).await), "ok");
    let other_user = token(json!({}));
    assert_eq!(code(&lab.verifier.identify(&inside(&[&other_user])).await), "agent_mismatch");
    let other_agent = token(json!({ "agent_id": "other", "sub": "t_acme" }));
    assert_eq!(code(&lab.verifier.identify(&inside(&[&other_agent])).await), "agent_mismatch");
    let other_tenant = token(json!({ "tenant_id": "t_zeta", "sub": "t_zeta" }));
    assert_eq!(code(&lab.verifier.identify(&inside(&[&other_tenant])).await), "agent_mismatch");
    let mut renamed = inside(&[&organisation]);
    renamed.agent = Some(AgentId::parse("other").unwrap());
    assert_eq!(code(&lab.verifier.identify(&renamed).await), "agent_mismatch");

    // Without a token of its own: the tunnel's caller, as long as the tunnel's token lasts.
    assert_eq!(code(&lab.verifier.identify(&inside(&[])).await), "ok");
    let mut renamed = inside(&[]);
    renamed.agent = Some(AgentId::parse("other").unwrap());
    assert_eq!(code(&lab.verifier.identify(&renamed).await), "agent_mismatch");
    lab.clock.advance(std::time::Duration::from_secs(630));
    assert_eq!(code(&lab.verifier.identify(&inside(&[])).await), "token_expired");
    assert_eq!(code(&lab.verifier.identify(&inside(&[&organisation])).await), "token_expired");
}

#[tokio::test]
async fn a_minted_token_is_accepted() {
    let issuer = DevIssuer::ephemeral().unwrap();
    let lab = Lab::build(vec![issuer.config("egret")], super::Network::with(Err("no network"))).unwrap();
    let mint = Mint {
        tenant: TenantId::parse("t_acme").unwrap(),
        agent: Some(AgentId::parse("triage-bot").unwrap()),
        user: Some(crate::context::UserId::parse("u_81f3").unwrap()),
        audience: "egret".into(),
        lifetime: std::time::Duration::from_secs(900),
        scopes: vec!["repo".into()],
        extra: serde_json::Map::new(),
    };
    let identity = lab.check(&issuer.mint_at(&mint, NOW).unwrap()).await.unwrap();
    assert_eq!(chain(&identity), [("u_81f3", "user"), ("triage-bot", "agent")]);
    assert_eq!(&*identity.scopes[0], "repo");
    let agent_only = Mint { user: None, ..mint.clone() };
    assert!(lab.check(&issuer.mint_at(&agent_only, NOW).unwrap()).await.unwrap().user_id.is_none());
    let organisation = Mint { agent: None, user: None, ..mint };
    assert_eq!(lab.code(&issuer.mint_at(&organisation, NOW).unwrap()).await, "agent_unknown");
}
