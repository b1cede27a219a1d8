"""What moto holds: a user who may read one secret and take one role, a role that may use one bucket, a second user
who may nothing; then moto checks every signature.  moto_setup.py URL REGION: prints what it made."""

import json
import secrets
import sys
import urllib.request

import boto3

BUCKET = "herd"
ACCOUNT = "123456789012"


def main(url: str, region: str) -> None:
    client = lambda name: boto3.client(
        name, endpoint_url=url, region_name=region, aws_access_key_id="first", aws_secret_access_key="first"
    )
    iam, vault = client("iam"), client("secretsmanager")
    role = f"arn:aws:iam::{ACCOUNT}:role/storage"
    value = secrets.token_urlsafe(24)
    stored = vault.create_secret(Name="egret/api-key", SecretString=value)["ARN"]
    client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": region})
    iam.create_user(UserName="egret")
    # For the secret moto does not say which resource it is.
    may = [allow("sts:AssumeRole", role), allow("secretsmanager:GetSecretValue"), allow("sts:GetCallerIdentity")]
    iam.put_user_policy(UserName="egret", PolicyName="may", PolicyDocument=policy(may))
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/egret"}, "Action": "sts:AssumeRole"}
    iam.create_role(RoleName="storage", AssumeRolePolicyDocument=policy([trust]))
    bucket = f"arn:aws:s3:::{BUCKET}"
    may = [allow("s3:*", bucket), allow("s3:*", f"{bucket}/*"), allow("sts:GetCallerIdentity")]
    iam.put_role_policy(RoleName="storage", PolicyName="may", PolicyDocument=policy(may))
    iam.create_user(UserName="nobody")
    made = {
        "user": keys(iam, "egret"), "powerless": keys(iam, "nobody"), "role_arn": role, "bucket": BUCKET,
        "secret": {"arn": stored, "name": "egret/api-key", "value": value},
    }  # fmt: skip
    check_signatures(url)
    print(json.dumps(made))


def keys(iam, user: str) -> dict:
    made = iam.create_access_key(UserName=user)["AccessKey"]
    return {"access_key_id": made["AccessKeyId"], "secret_access_key": made["SecretAccessKey"]}


def allow(action: str, resource: str = "*") -> dict:
    return {"Effect": "Allow", "Action": action, "Resource": resource}


def policy(statements: list[dict]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def check_signatures(url: str) -> None:
    """From the next request on. It wants the count as plain text, and answers a form with 500."""
    asked = urllib.request.Request(f"{url}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"})
    urllib.request.urlopen(asked).close()


if __name__ == "__main__":
    main(*sys.argv[1:])
