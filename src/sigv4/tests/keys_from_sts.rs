//! Questions to STS, and its answers.

use http::StatusCode;

use super::*;
use crate::sigv4::sts::{BadSessionName, Fault, Role, SessionName, answer};

const XML: &str = r#"<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>amzn1.account.X</SubjectFromWebIdentityToken>
    <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/R/app1</Arn><AssumedRoleId>AROA:app1</AssumedRoleId></AssumedRoleUser>
    <Credentials>
      <SessionToken>AQoDYXdz&#43;EE0TKNsQ==</SessionToken>
      <SecretAccessKey>wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY</SecretAccessKey>
      <Expiration>2014-10-24T23:00:23Z</Expiration>
      <AccessKeyId>ASgeIAIOSFODNN7EXAMPLE</AccessKeyId>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata><RequestId>ad4156e9-bce1-11e2-82e6-6b6efEXAMPLE</RequestId></ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>"#;

const JSON: &str = r#"{"AssumeRoleResponse":{"AssumeRoleResult":{"Credentials":{
  "AccessKeyId":"ASgeIAIOSFODNN7EXAMPLE","SecretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY",
  "SessionToken":"AQoDYXdz+EE0TKNsQ==","Expiration":1.414191623E9}},"ResponseMetadata":{"RequestId":"x"}}}"#;

fn session() -> SessionName {
    SessionName::parse("agent@acme").unwrap()
}

#[test]
fn keys_are_read_from_xml_and_from_json() {
    let iso = JSON.replace("1.414191623E9", "\"2014-10-24T23:00:23Z\"");
    for text in [XML, JSON, &iso] {
        let session = answer(StatusCode::OK, text.as_bytes()).map_err(|fault| fault.code).ok().unwrap();
        assert_eq!(session.keys.access_key_id, "ASgeIAIOSFODNN7EXAMPLE");
        assert!(session.keys.secret_access_key.matches(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY"));
        assert!(session.keys.session_token.is_some_and(|token| token.matches(b"AQoDYXdz+EE0TKNsQ==")));
        assert_eq!(session.expires, SystemTime::UNIX_EPOCH + Duration::from_secs(1_414_191_623));
    }
}

fn fault(status: u16, body: &str) -> Fault {
    answer(StatusCode::from_u16(status).unwrap(), body.as_bytes()).err().unwrap()
}

#[test]
fn a_refusal_says_whether_to_ask_again() {
    for (status, code, is_transient) in [
        (400, "ExpiredTokenException", false),
        (400, "InvalidIdentityToken", false),
        (403, "IDPRejectedClaim", false),
        (400, "IDPCommunicationError", true),
        (403, "RegionDisabledException", false),
        (400, "PackedPolicyTooLarge", false),
        (403, "AccessDenied", false),
        (400, "Throttling", true),
        (400, "ThrottlingException", true),
        (400, "ThrottledException", true),
        (429, "Unheard", true),
        (503, "ServiceUnavailable", true),
        (500, "Unheard", true),
    ] {
        let xml = format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code><Message>eyJ.token</Message></Error><RequestId>x</RequestId></ErrorResponse>"
        );
        let json = format!(
            r#"{{"Error":{{"Code":"{code}","Message":"eyJ.token","Type":"Sender"}},"RequestId":"x"}}"#
        );
        for text in [xml, json] {
            let fault = fault(status, &text);
            assert_eq!(fault, Fault { code: code.to_owned(), is_transient });
            assert!(!format!("{fault} {fault:?}").contains("eyJ"), "its message may hold a token");
        }
    }
}

#[test]
fn what_sts_did_not_say_is_no_answer() {
    let bomb = XML.replace(
        "<AssumeRoleWithWebIdentityResponse",
        "<!DOCTYPE x [<!ENTITY a \"b\">]><AssumeRoleWithWebIdentityResponse",
    );
    let many = XML.replace("<ResponseMetadata>", &format!("{}<ResponseMetadata>", "<b/>".repeat(1000)));
    let deep = "<a>".repeat(100_000);
    for (status, body, is_transient) in [
        (200, "", true),
        (200, "<html>Log in to the network</html>", true),
        (200, "{}", true),
        (200, &XML[..XML.len() - 3], true),
        (200, &bomb, true),
        (200, &many, true),
        (200, &deep, true),
        (200, &XML.replace("Expiration>", "Expiry>"), true),
        (200, &XML.replace("2014-10-24T23:00:23Z", "soon"), true),
        (200, &XML.replace("SessionToken>", "Token>"), true),
        (200, &JSON.replace("1.414191623E9", "1e300"), true),
        (200, &JSON.replace("1.414191623E9", "-1"), true),
        (200, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>", true),
        (400, "<html>Bad Request</html>", false),
        (400, "<ErrorResponse><Error><Code>Bad\nCode</Code></Error></ErrorResponse>", false),
        (403, XML, false),
        (502, "<html>Bad Gateway</html>", true),
    ] {
        let expected = Fault { code: Fault::UNREADABLE.to_owned(), is_transient };
        assert_eq!(fault(status, body), expected, "{status} {:?}", body.get(..60));
    }
}

#[test]
fn the_forms_ask_for_what_the_role_says() {
    let session = session();
    let mut role = Role { arn: "arn:aws:iam::1:role/R", session: &session, policy: None, duration: None };
    let common = "Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2FR&RoleSessionName=agent%40acme";
    assert_eq!(role.assume(None), format!("Action=AssumeRole&{common}"));
    role.policy = Some(r#"{"Version":"2012-10-17"}"#);
    role.duration = Some(Duration::from_secs(900));
    let narrow = "Policy=%7B%22Version%22%3A%222012-10-17%22%7D&DurationSeconds=900";
    assert_eq!(
        role.assume(Some("a b&c")),
        format!("Action=AssumeRole&{common}&{narrow}&ExternalId=a%20b%26c")
    );
    let form = role.assume_with_web_identity(&Secret::new(b"eyJ.a+b/c=".to_vec()));
    let expected =
        format!("Action=AssumeRoleWithWebIdentity&{common}&{narrow}&WebIdentityToken=eyJ.a%2Bb%2Fc%3D");
    assert!(form.matches(expected.as_bytes()));
}

#[test]
fn a_session_has_a_name_that_sts_takes() {
    let longest = "a".repeat(64);
    for good in ["ab", "a_+=,.@-1", &longest] {
        assert_eq!(SessionName::parse(good).map(|name| name.as_str().to_owned()), Ok(good.to_owned()));
    }
    let longer = "a".repeat(65);
    for bad in ["", "a", "a b", "a/b", "a:b", "é", "aé", "a\n", &longer] {
        assert_eq!(SessionName::parse(bad), Err(BadSessionName), "{bad:?}");
    }
}
