//! Requests signed for AWS: with keys, or with those of a role.

use super::Keys;
use crate::plan::{AwsKeys, AwsRole, AwsSigV4, How, WebIdentity};

impl Keys<'_, '_> {
    pub(super) fn aws_sigv4(&mut self) -> Option<How> {
        let (id, key) = (self.half("access_key_id"), self.reference("secret_access_key"));
        let (session_token, arn) = (self.reference("session_token"), self.text("role_arn"));
        let (region, service) = (self.text("region"), self.text("service"));
        let (session_name, duration) = (self.text("session_name"), self.duration("duration"));
        let (policy, external_id) = (self.text("policy"), self.text("external_id"));
        let (web_identity, sts) = (self.reference("web_identity"), self.text("sts_url"));
        let keys =
            ["access_key_id", "secret_access_key", "session_token"].into_iter().any(|key| self.has(key));
        let complete = self.has("access_key_id") && self.has("secret_access_key");
        if keys && !complete || !keys && !self.has("role_arn") {
            self.findings
                .report(self.node.span, "`aws_sigv4` has `access_key_id` and `secret_access_key`, or `role_arn`, or all of them")
                .hint("for example `{access_key_id: \"env:AWS_ACCESS_KEY_ID\", secret_access_key: \"env:AWS_SECRET_ACCESS_KEY\"}`");
            return None;
        }
        if keys && self.has("web_identity") {
            self.findings
                .report(self.node.span, "a role is assumed with keys or with a token, not with both");
        }
        for key in [
            "web_identity",
            "session_name",
            "duration",
            "policy",
            "external_id",
            "sts_url",
            "allow_private_addresses",
        ] {
            if self.has(key) && !self.has("role_arn") {
                self.findings
                    .report(self.node.span, format!("`{key}` belongs to `role_arn`, which is not there"));
            }
        }
        let role = match arn {
            None => None,
            Some(arn) => {
                let usual = region.as_deref().map_or_else(
                    || "https://sts.amazonaws.com/".to_owned(),
                    |region| format!("https://sts.{region}.amazonaws.com/"),
                );
                let url = self.parse_url(&sts.unwrap_or(usual), self.node.span, "sts_url")?;
                let private = self.private();
                let web_identity = match web_identity {
                    Some(reference) => Some(WebIdentity::Read(reference)),
                    None => (!keys).then_some(WebIdentity::Caller),
                };
                Some(AwsRole {
                    arn: arn.into(),
                    url,
                    private,
                    web_identity,
                    session_name: session_name.map(Into::into),
                    duration,
                    policy: policy.map(Into::into),
                    external_id: external_id.map(Into::into),
                })
            }
        };
        let keys = match (keys, id, key) {
            (false, ..) => None,
            (true, id, key) => Some(AwsKeys { access_key_id: id?, secret_access_key: key?, session_token }),
        };
        let (region, service) = (region.map(Into::into), service.map(Into::into));
        Some(How::Aws(Box::new(AwsSigV4 { keys, role, region, service })))
    }
}
