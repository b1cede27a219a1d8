"""A second provider of tokens, which shares no code with the first and is terser where it refuses."""

import base64
import hashlib
import secrets
from urllib.parse import parse_qs, urlsplit

from . import SERVERS, check, get, post, proof

OP = SERVERS["glewlwyd"]
CLIENT = (OP["client"]["id"], OP["client"]["secret"])


def token(grant: str, auth: tuple = CLIENT, **form):
    return post(OP["token_url"], data={"grant_type": grant, **form}, auth=auth)


def session() -> dict:
    login = {"username": OP["user"]["name"], "password": OP["user"]["password"]}
    cookie = post(OP["login_url"], json=login).headers["Set-Cookie"].partition(";")[0]
    return {"Cookie": cookie}


def code() -> dict:
    """The form that a code is good for: the user has said yes when all was set up."""
    verifier, state = secrets.token_urlsafe(40), secrets.token_hex(8)
    digest = hashlib.sha256(verifier.encode()).digest()
    asked = {
        "client_id": CLIENT[0], "redirect_uri": OP["client"]["redirect_uri"], "response_type": "code", "state": state,
        "scope": "openid read", "nonce": secrets.token_hex(8), "code_challenge_method": "S256", "g_continue": "",
        "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
    }  # fmt: skip
    answer = get(OP["authorization_url"], params=asked, headers=session())
    assert answer.status_code == 302, answer.text
    told = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert told.get("state") == [state], answer.headers["Location"]
    return {"code": told["code"][0], "redirect_uri": asked["redirect_uri"], "code_verifier": verifier}


@proof
def a_client_gets_a_token_of_its_own():
    got = check(token("client_credentials", scope="read"), 200, token_type="bearer", expires_in=300, scope="read")
    assert got["access_token"].count(".") == 2
    refused = token("client_credentials", (CLIENT[0], "wrong"), scope="read")
    assert (refused.status_code, refused.text) == (403, ""), refused.text
    check(post(OP["introspection_url"], data={"token": got["access_token"]}, auth=CLIENT), 200, active=True)


@proof
def a_refresh_token_is_good_once_and_its_second_use_ends_the_family():
    password = {"username": OP["user"]["name"], "password": OP["user"]["password"], "scope": "read"}
    first = check(token("password", **password), 200)
    second = check(token("refresh_token", refresh_token=first["refresh_token"]), 200)
    assert first["refresh_token"] != second["refresh_token"]
    for dead in (first, second):
        refused = token("refresh_token", refresh_token=dead["refresh_token"])
        # Nothing says why.
        assert (refused.status_code, refused.text) == (400, ""), (refused.status_code, refused.text)


@proof
def a_code_becomes_tokens_with_the_verifier_and_once():
    form = code()
    check(token("authorization_code", **form | {"code_verifier": "0" * 43}), 403, error="invalid_code")
    form = code()
    got = check(token("authorization_code", **form), 200)
    assert {"access_token", "refresh_token", "id_token"} <= got.keys(), got.keys()
    check(token("refresh_token", refresh_token=got["refresh_token"]), 200)
    check(token("authorization_code", **form), 403, error="invalid_code")


@proof
def a_token_is_revoked():
    password = {"username": OP["user"]["name"], "password": OP["user"]["password"], "scope": "read"}
    got = check(token("password", **password), 200)
    assert post(OP["revocation_url"], data={"token": got["refresh_token"]}, auth=CLIENT).status_code == 200
    assert token("refresh_token", refresh_token=got["refresh_token"]).status_code == 400
