"""What the proofs of the two servers that check SigV4 share."""

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from . import PATIENCE


def client(service: str, keys: dict, region: str, url: str | None = None):
    """A client with keys as in servers.json; without a URL it goes where the service would be."""
    return boto3.client(
        service, endpoint_url=url, region_name=region, aws_access_key_id=keys["access_key_id"],
        aws_secret_access_key=keys["secret_access_key"], aws_session_token=keys.get("session_token"),
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=PATIENCE, read_timeout=PATIENCE,
                      s3={"addressing_style": "path"}),
    )  # fmt: skip


def refused(code: str, call, **arguments) -> None:
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error.response
        return
    raise AssertionError("it was not refused")
