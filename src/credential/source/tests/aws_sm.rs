use serde_json::json;

use super::*;
use crate::{
    fetch::FetchUrl,
    settings::{AccessKeyId, AwsSmKeys, AwsSmSettings, SecretSource},
};

fn house(keys: AwsSmKeys) -> House {
    let url = FetchUrl::parse("https://secretsmanager.eu-west-1.amazonaws.com/").unwrap();
    let aws = AwsSmSettings { region: "eu-west-1".into(), url, keys };
    House::new(&SourceSettings { aws_sm: Some(aws), ..Default::default() })
}

fn given(dir: &Path) -> AwsSmKeys {
    AwsSmKeys::Given {
        id: AccessKeyId::Text("AKIDEXAMPLE".into()),
        secret: SecretSource::File(put(dir, "secret", "wJalrXUtnFEMI\n")),
        session: Some(SecretSource::File(put(dir, "session", "session-1"))),
    }
}

fn aws(name: &str, field: Option<&str>) -> SecretRef {
    SecretRef::AwsSecretsManager { name: name.into(), field: field.map(Into::into) }
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_asked_for_with_a_signature_and_kept_for_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(given(dir.path()));
    house.provider.tells(&json!({"SecretString": "{\"user\": \"u\", \"key\": \"k\"}"}));
    assert_eq!(house.read(&aws("app/db", Some("key"))).await.unwrap(), "k");
    assert_eq!(house.read(&aws("app/db", Some("user"))).await.unwrap(), "u");
    assert_eq!(house.read(&aws("app/db", None)).await.unwrap(), "{\"user\": \"u\", \"key\": \"k\"}");
    advance(Duration::from_secs(59)).await;
    assert_eq!(house.read(&aws("app/db", Some("key"))).await.unwrap(), "k");
    let why = "`aws-sm:app/db#x` has no field `x`".to_owned();
    assert_eq!(house.refused(&aws("app/db", Some("x"))).await, (why, false));
    let asked = house.asked();
    assert_eq!((asked.len(), asked[0].url.as_str()), (1, "https://secretsmanager.eu-west-1.amazonaws.com/"));
    assert_eq!(asked[0].json(), json!({"SecretId": "app/db", "VersionStage": "AWSCURRENT"}));
    let header = |name: &str| asked[0].headers[name].to_str().unwrap();
    assert_eq!(header("x-amz-target"), "secretsmanager.GetSecretValue");
    assert_eq!(header("content-type"), "application/x-amz-json-1.1");
    assert_eq!(header("x-amz-security-token"), "session-1");
    let signature = header("authorization");
    assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{signature}");
    assert!(
        signature
            .contains("/eu-west-1/secretsmanager/aws4_request, SignedHeaders=content-type;host;x-amz-date"),
        "{signature}"
    );

    house.provider.tells(&json!({"SecretBinary": "c2stMg=="}));
    advance(Duration::from_secs(2)).await;
    assert_eq!(house.read(&aws("app/db", None)).await.unwrap(), "sk-2");
    let why = "`aws-sm:app/db#key` has no fields: it is no JSON object".to_owned();
    assert_eq!(house.refused(&aws("app/db", Some("key"))).await, (why, false));
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_from_silence() {
    let dir = tempfile::tempdir().unwrap();
    for (status, kind, why, is_transient) in [
        (
            400,
            "ResourceNotFoundException",
            "is not given: AWS Secrets Manager answered 400 `ResourceNotFoundException`",
            false,
        ),
        (
            400,
            "InvalidRequestException",
            "is not given: AWS Secrets Manager answered 400 `InvalidRequestException`",
            false,
        ),
        (
            400,
            "DecryptionFailure",
            "is not given: AWS Secrets Manager answered 400 `DecryptionFailure`",
            false,
        ),
        (
            400,
            "com.amazon#AccessDeniedException",
            "is not given: AWS Secrets Manager answered 400 `AccessDeniedException`",
            false,
        ),
        (403, "", "is not given: AWS Secrets Manager answered 403", false),
        (400, "ThrottlingException", "cannot be read: AWS Secrets Manager answered 400", true),
        (500, "InternalServiceError", "cannot be read: AWS Secrets Manager answered 500", true),
    ] {
        let house = house(given(dir.path()));
        house.provider.refuses(status, &json!({"__type": kind, "message": "wJalrXUtnFEMI"}));
        assert_eq!(house.refused(&aws("a", None)).await, (format!("`aws-sm:a` {why}"), is_transient));
    }
}

#[tokio::test(start_paused = true)]
async fn a_role_is_assumed_once_with_the_token_of_the_pod() {
    let dir = tempfile::tempdir().unwrap();
    let token_file = put(dir.path(), "token", "pod-1\n");
    let sts = FetchUrl::parse("https://sts.eu-west-1.amazonaws.com/").unwrap();
    let house = house(AwsSmKeys::Role { arn: "arn:aws:iam::1:role/egret".into(), token_file, sts });
    let keys = |id: &str| {
        Act::Answer(
            200,
            vec![],
            format!(
                "<R><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                 <SessionToken>session</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></R>"
            ),
        )
    };
    house
        .provider
        .will(keys("ASIA1"))
        .tells(&json!({"SecretString": "1"}))
        .tells(&json!({"SecretString": "2"}));
    assert_eq!(house.read(&aws("a", None)).await.unwrap(), "1");
    assert_eq!(house.read(&aws("b", None)).await.unwrap(), "2");
    let asked = house.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0].url, "https://sts.eu-west-1.amazonaws.com/");
    assert_eq!(asked[0].form("Action").as_deref(), Some("AssumeRoleWithWebIdentity"));
    assert_eq!(asked[0].form("WebIdentityToken").as_deref(), Some("pod-1"));
    assert!(asked[1].headers["authorization"].to_str().unwrap().contains("Credential=ASIA1/"));
    // Keys that AWS does not take any more are replaced.
    house.provider.refuses(400, &json!({"__type": "ExpiredTokenException"}));
    assert!(house.refused(&aws("c", None)).await.1);
    advance(Duration::from_secs(3)).await;
    house.provider.will(keys("ASIA2")).tells(&json!({"SecretString": "3"}));
    assert_eq!(house.read(&aws("c", None)).await.unwrap(), "3");
    assert!(house.asked()[2].headers["authorization"].to_str().unwrap().contains("Credential=ASIA2/"));
}
