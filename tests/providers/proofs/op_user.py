"""The OpenID provider with a user: the code, the device, and refresh tokens that are good once."""

import base64
import hashlib
import secrets
from urllib.parse import parse_qs, urlencode, urlsplit

from . import check, post, proof
from .op import CLIENTS, OP, Possession, basic, control, counts, echo, token

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


def authorize(client: dict, **more) -> tuple[dict, dict]:
    """Walks the consent; what the client is told, and the form that the code is good for."""
    verifier, state = secrets.token_urlsafe(40), secrets.token_hex(8)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        "client_id": client["id"], "redirect_uri": client["redirect_uri"], "response_type": "code", "state": state,
        "scope": "openid read", "code_challenge": challenge, "code_challenge_method": "S256", "prompt": "consent",
    } | more  # fmt: skip
    url = f"{OP['authorization_url']}?{urlencode(asked)}"
    location = check(post(f"{OP['control']}/login", json={"url": url}), 200)["location"]
    assert location.startswith(asked["redirect_uri"]), location
    told = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    assert (told["state"], told["iss"]) == (state, OP["url"]), told
    form = {"grant_type": "authorization_code", "redirect_uri": asked["redirect_uri"], "code_verifier": verifier}
    return told, form | {"code": told.get("code")}


def refresh(value: str) -> dict:
    return {"grant_type": "refresh_token", "refresh_token": value}


@proof
def a_code_becomes_tokens_with_the_verifier_and_once():
    client = CLIENTS["code"]
    _, form = authorize(client)
    check(token(form | {"code_verifier": "0" * 43}, headers=basic(client)), 400, error="invalid_grant")
    _, form = authorize(client)
    got = check(token(form, headers=basic(client)), 200, scope="openid read")
    assert {"id_token", "refresh_token", "access_token"} <= got.keys(), got.keys()
    assert check(echo(got["access_token"]), 200)["token"]["sub"] == OP["user"]
    check(token(form, headers=basic(client)), 400, error="invalid_grant")
    check(echo(got["access_token"]), 401, error="invalid_token")


@proof
def a_refresh_token_is_good_once_and_its_second_use_ends_the_family():
    client = CLIENTS["code"]
    _, form = authorize(client)
    first = check(token(form, headers=basic(client)), 200)
    second = check(token(refresh(first["refresh_token"]), headers=basic(client)), 200)
    assert first["refresh_token"] != second["refresh_token"]
    check(echo(second["access_token"]), 200)
    check(token(refresh(first["refresh_token"]), headers=basic(client)), 400, error="invalid_grant")
    check(token(refresh(second["refresh_token"]), headers=basic(client)), 400, error="invalid_grant")
    check(echo(second["access_token"]), 401, error="invalid_token")


@proof
def a_refresh_token_stays_when_the_control_says_so():
    client = CLIENTS["code"]
    control(rotate=False)
    _, form = authorize(client)
    first = check(token(form, headers=basic(client)), 200)
    check(token(refresh(first["refresh_token"]), headers=basic(client)), 200, refresh_token=first["refresh_token"])
    control(reset=True)


@proof
def a_revoked_connection_is_dead_to_the_client():
    client = CLIENTS["code"]
    _, form = authorize(client)
    got = check(token(form, headers=basic(client)), 200)
    control(revoke=client["id"])
    check(echo(got["access_token"]), 401, error="invalid_token")
    check(token(refresh(got["refresh_token"]), headers=basic(client)), 400, error="invalid_grant")
    _, form = authorize(client)
    got = check(token(form, headers=basic(client)), 200)
    check(post(OP["revocation_url"], data={"token": got["refresh_token"]}, headers=basic(client)), 200)
    check(echo(got["access_token"]), 401, error="invalid_token")


@proof
def a_redirect_is_compared_exactly():
    client = CLIENTS["public"]
    late = "http://127.0.0.1:7/callback"
    asked = {"client_id": client["id"], "redirect_uri": late, "response_type": "code", "scope": "read"}
    url = f"{OP['authorization_url']}?{urlencode(asked)}"
    check(post(f"{OP['control']}/login", json={"url": url}), 200, status=400)
    control(redirect_uris=[late])
    _, form = authorize(client, redirect_uri=late)
    check(token(form | {"client_id": client["id"]}), 200)
    control(reset=True)


@proof
def a_code_is_bound_to_the_key_that_it_was_asked_with():
    client, prove = CLIENTS["dpop"], Possession()
    _, form = authorize(client, dpop_jkt=prove.key.thumbprint())
    got = check(token(form, headers=basic(client) | prove("POST", OP["token_url"])), 200, token_type="DPoP")
    shown = prove("GET", OP["echo_url"], got["access_token"])
    check(echo(got["access_token"], "DPoP", headers=shown), 200)
    again = basic(client) | prove("POST", OP["token_url"])
    check(token(refresh(got["refresh_token"]), headers=again), 200, token_type="DPoP")


@proof
def a_code_for_a_resource_gives_a_jwt_on_each_refresh():
    client = CLIENTS["code"]
    _, form = authorize(client, resource=OP["resource"], scope="read write")
    got = check(token(form, headers=basic(client)), 200)
    assert check(echo(got["access_token"]), 200)["token"]["aud"] == OP["resource"]
    got = check(token(refresh(got["refresh_token"]), headers=basic(client)), 200)
    assert check(echo(got["access_token"], url=OP["write_url"]), 200)["token"]["format"] == "jwt"


@proof
def a_user_says_yes_to_a_device():
    client = {"client_id": CLIENTS["device"]["id"]}
    control(reset=True)
    begun = check(post(OP["device_authorization_url"], data=client | {"scope": "read"}), 200)
    form = client | {"grant_type": DEVICE, "device_code": begun["device_code"]}
    check(token(form), 400, error="authorization_pending")
    check(post(f"{OP['control']}/device", json={"user_code": begun["user_code"]}), 200, ok=True)
    got = check(token(form), 200)
    assert check(echo(got["access_token"]), 200)["token"]["sub"] == OP["user"]
    check(token(client | refresh(got["refresh_token"])), 200)
    assert counts()["token"][client["client_id"]] == {DEVICE: 2, "refresh_token": 1}, counts()
