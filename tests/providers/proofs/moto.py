"""AWS as moto plays it: signatures, policies, roles, a secret."""

from . import SERVERS, proof
from .aws import client, refused

MOTO = SERVERS["moto"]
REGION, USER = MOTO["region"], MOTO["user"]
NAMED = {"Bucket": MOTO["bucket"], "Key": "nest"}


def role() -> dict:
    taken = client("sts", USER, REGION).assume_role(RoleArn=MOTO["role_arn"], RoleSessionName="smoke")["Credentials"]
    return {
        "access_key_id": taken["AccessKeyId"], "secret_access_key": taken["SecretAccessKey"],
        "session_token": taken["SessionToken"],
    }  # fmt: skip


@proof
def the_secret_is_read_by_who_may():
    found = client("secretsmanager", USER, REGION).get_secret_value(SecretId=MOTO["secret"]["name"])
    assert found["SecretString"] == MOTO["secret"]["value"]
    by_url = client("secretsmanager", USER, REGION, MOTO["url"])
    assert by_url.get_secret_value(SecretId=MOTO["secret"]["arn"])["SecretString"] == MOTO["secret"]["value"]
    powerless = client("secretsmanager", MOTO["powerless"], REGION)
    # In XML, which no client of this service expects; the status is all that is left of it.
    refused("403", powerless.get_secret_value, SecretId=MOTO["secret"]["name"])


@proof
def a_wrong_signature_is_refused():
    wrong = USER | {"secret_access_key": "wrong"}
    refused("SignatureDoesNotMatch", client("sts", wrong, REGION).get_caller_identity)
    refused("SignatureDoesNotMatch", client("s3", wrong, REGION).get_object, **NAMED)
    unknown = USER | {"access_key_id": "AKIAUNKNOWN000000000"}
    refused("InvalidClientTokenId", client("sts", unknown, REGION).get_caller_identity)


@proof
def a_role_may_what_its_user_may_not():
    refused("AccessDenied", client("s3", USER, REGION).put_object, **NAMED, Body=b"egg")
    taken = role()
    assert client("sts", taken, REGION).get_caller_identity()["Arn"].endswith("assumed-role/storage/smoke")
    storage = client("s3", taken, REGION)
    storage.put_object(**NAMED, Body=b"egg")
    assert storage.get_object(**NAMED)["Body"].read() == b"egg"
    refused("InvalidToken", client("s3", taken | {"session_token": "wrong"}, REGION).get_object, **NAMED)
