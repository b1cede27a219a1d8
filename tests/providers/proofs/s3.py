"""Storage that checks SigV4 in another implementation than AWS's."""

from . import SERVERS, get, proof
from .aws import client, refused

S3 = SERVERS["s3"]
BUCKET = S3["bucket"]


def storage(keys: dict = S3):
    return client("s3", keys, S3["region"], S3["url"])


@proof
def objects_of_any_name_come_back():
    for key in ("plain", "with space", "ünïcode/日本", "a+b%20c", "tilde~(star*)'quote"):
        storage().put_object(Bucket=BUCKET, Key=key, Body=key.encode() * 1000)
        assert storage().get_object(Bucket=BUCKET, Key=key)["Body"].read() == key.encode() * 1000, key
    assert storage().list_objects_v2(Bucket=BUCKET, Prefix="with ")["KeyCount"] == 1


@proof
def a_wrong_signature_is_refused():
    storage().put_object(Bucket=BUCKET, Key="nest", Body=b"egg")
    wrong = S3 | {"secret_access_key": "wrong"}
    refused("SignatureDoesNotMatch", storage(wrong).get_object, Bucket=BUCKET, Key="nest")
    unknown = S3 | {"access_key_id": "unknown"}
    refused("NotSignedUp", storage(unknown).get_object, Bucket=BUCKET, Key="nest")
    assert get(f"{S3['url']}/{BUCKET}/nest").status_code == 403


@proof
def a_presigned_url_is_good_as_it_is_only():
    storage().put_object(Bucket=BUCKET, Key="nest", Body=b"egg")
    url = storage().generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "nest"}, ExpiresIn=60)
    assert get(url).content == b"egg"
    assert get(url.replace("nest", "nost")).status_code == 403
