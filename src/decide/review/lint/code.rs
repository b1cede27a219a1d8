//! The codes of lints.

use std::fmt;

use serde::{Serialize, Serializer};

/// A kind of lint. `docs/lints.md` has a section for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// Something can be deleted, and no guard looks at it.
    UnguardedDelete,
    /// A line for methods and paths grants every GraphQL mutation.
    GraphqlPost,
    /// A wildcard below a name where strangers register theirs.
    PublicSuffix,
    /// An agent reaches one host through two integrations.
    TwoIntegrations,
    /// A role that nobody has.
    UnusedRole,
    /// A service that no tenant is connected to.
    UnusedService,
    /// An integration that no agent may use.
    UnusedIntegration,
    /// A guard that can never hold.
    UnusedGuard,
    /// An agent that may do nothing.
    EmptyAgent,
    /// A tenant without agents.
    EmptyTenant,
    /// A secret that is not where the policy says.
    UnresolvedSecret,
    /// A password that stands in the policy itself.
    ConstantPassword,
    /// A provider that is neither described nor known.
    UnknownProvider,
    /// A host that two services have.
    OverlappingService,
    /// A line that grants nothing beyond another one.
    RedundantLine,
    /// A line that changes nothing wherever it stands.
    NeverMatches,
    /// A policy that promises nothing.
    NoTests,
    /// What is only written down.
    ShadowMode,
}

/// How much a lint counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know.
    Info,
    /// Probably a mistake: a finding under `--strict`.
    Warning,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::UnguardedDelete,
        Self::GraphqlPost,
        Self::PublicSuffix,
        Self::TwoIntegrations,
        Self::UnusedRole,
        Self::UnusedService,
        Self::UnusedIntegration,
        Self::UnusedGuard,
        Self::EmptyAgent,
        Self::EmptyTenant,
        Self::UnresolvedSecret,
        Self::ConstantPassword,
        Self::UnknownProvider,
        Self::OverlappingService,
        Self::RedundantLine,
        Self::NeverMatches,
        Self::NoTests,
        Self::ShadowMode,
    ];

    /// As it is written, also in `# egret: allow CODE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnguardedDelete => "unguarded-delete",
            Self::GraphqlPost => "graphql-post",
            Self::PublicSuffix => "public-suffix",
            Self::TwoIntegrations => "two-integrations",
            Self::UnusedRole => "unused-role",
            Self::UnusedService => "unused-service",
            Self::UnusedIntegration => "unused-integration",
            Self::UnusedGuard => "unused-guard",
            Self::EmptyAgent => "empty-agent",
            Self::EmptyTenant => "empty-tenant",
            Self::UnresolvedSecret => "unresolved-secret",
            Self::ConstantPassword => "constant-password",
            Self::UnknownProvider => "unknown-provider",
            Self::OverlappingService => "overlapping-service",
            Self::RedundantLine => "redundant-line",
            Self::NeverMatches => "never-matches",
            Self::NoTests => "no-tests",
            Self::ShadowMode => "shadow-mode",
        }
    }

    /// The code of this name.
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }

    /// How much it counts, where nothing speaks for less.
    pub fn level(self) -> Level {
        match self {
            Self::NoTests | Self::ShadowMode => Level::Info,
            _ => Level::Warning,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Level {
    /// `info` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
        }
    }
}
