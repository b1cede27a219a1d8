//! What whole-program tests are made of: the real binary on ports chosen by the system, real upstreams that
//! remember what they read, an issuer, and clients that write exactly the bytes they are told to.
#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]
#![allow(clippy::disallowed_methods, reason = "tests are the clients and the upstreams")]

pub mod egret;
pub mod live;
pub mod raw;
pub mod upstream;

pub use egret::{Egret, House};
pub use live::Live;
pub use raw::{Answer, Raw};
pub use upstream::{Seen, Upstream};

use std::time::Duration;

use ::egret::{
    context::{AgentId, TenantId, UserId},
    identify::{DevIssuer, Mint},
};

/// How long anything may take before a test gives up. Never slept for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Mints a token for `tenant/agent` with more claims.
#[expect(clippy::needless_pass_by_value, reason = "`json!` reads well at the call")]
pub fn token_with(issuer: &DevIssuer, who: &str, user: Option<&str>, extra: serde_json::Value) -> String {
    let (tenant, agent) = who.split_once('/').unwrap_or((who, ""));
    let mint = Mint {
        tenant: TenantId::parse(tenant).unwrap(),
        agent: (!agent.is_empty()).then(|| AgentId::parse(agent).unwrap()),
        user: user.map(|u| UserId::parse(u).unwrap()),
        audience: "egret".into(),
        lifetime: Duration::from_secs(600),
        scopes: vec![],
        extra: extra.as_object().cloned().unwrap_or_default(),
    };
    issuer.mint(&mint).unwrap()
}
