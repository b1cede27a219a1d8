"""The OpenID provider: clients that authenticate in every way, tokens that are bound, and what they open."""

import base64
import hashlib
import secrets
import time
from urllib.parse import quote_plus

from joserfc import jwk, jwt

from . import SERVERS, check, get, post, proof, signed

OP = SERVERS["op"]
CLIENTS = OP["clients"]
MACHINE = {"grant_type": "client_credentials", "scope": "read"}
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TYPE = "urn:ietf:params:oauth:token-type:"


def control(**asked) -> dict:
    return check(post(f"{OP['control']}/control", json=asked), 200)


def counts() -> dict:
    return check(get(f"{OP['control']}/counts"), 200)


def basic(client: dict) -> dict:
    """RFC 6749 §2.3.1: encoded as in a form, then Basic."""
    pair = f"{quote_plus(client['id'])}:{quote_plus(client['secret'])}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def token(form: dict, **more):
    return post(OP["token_url"], data=form, **more)


def echo(value: str, scheme: str = "Bearer", url: str = OP["echo_url"], **more):
    headers = {"Authorization": f"{scheme} {value}"} | more.pop("headers", {})
    return get(url, headers=headers, **more)


def client_assertion(client: dict, **claims) -> dict:
    claims = {"iss": client["id"], "sub": client["id"], "aud": OP["url"]} | claims
    return {"client_assertion_type": ASSERTION, "client_assertion": signed(client, claims)}


def workload(**claims) -> str:
    trusted = OP["trusted"]
    return signed(trusted, {"iss": trusted["issuer"], "sub": "robin", "aud": OP["token_url"]} | claims)


class Possession:
    """A key and its proofs, RFC 9449."""

    def __init__(self):
        self.key = jwk.ECKey.generate_key("P-256")

    def __call__(self, method: str, url: str, value: str | None = None, **claims) -> dict:
        claims = {"htm": method, "htu": url, "iat": int(time.time()), "jti": secrets.token_hex(8)} | claims
        if value is not None:
            digest = hashlib.sha256(value.encode()).digest()
            claims["ath"] = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        header = {"alg": "ES256", "typ": "dpop+jwt", "jwk": self.key.as_dict(private=False)}
        return {"DPoP": jwt.encode(header, claims, self.key)}


@proof
def a_secret_in_basic_is_encoded_as_in_a_form():
    client = CLIENTS["basic"]
    control(reset=True)
    got = check(token(MACHINE, headers=basic(client)), 200, token_type="Bearer", scope="read", expires_in=300)
    raw = base64.b64encode(f"{client['id']}:{client['secret']}".encode()).decode()
    check(token(MACHINE, headers={"Authorization": f"Basic {raw}"}), 400, error="invalid_request")
    check(token(MACHINE, headers=basic({**client, "secret": "wrong"})), 401, error="invalid_client")
    assert counts()["token"] == {client["id"]: {"client_credentials": 3}}, counts()
    assert counts()["answers"] == {"200": 1, "400": 1, "401": 1}, counts()
    seen = check(echo(got["access_token"]), 200, scheme="Bearer")
    assert seen["token"]["client_id"] == client["id"], seen
    assert got["access_token"] not in str(seen)
    assert counts()["api"] == {"200": 1}, counts()


@proof
def a_secret_in_the_form_is_for_the_client_that_posts_it():
    client = CLIENTS["post"]
    check(token({**MACHINE, "client_id": client["id"], "client_secret": client["secret"]}), 200)
    check(token({**MACHINE, "client_id": client["id"], "client_secret": "wrong"}), 401, error="invalid_client")
    check(token(MACHINE), 400, error="invalid_request")


@proof
def an_assertion_of_a_client_is_good_once():
    for name in ("es256", "ps256"):
        assertion = client_assertion(CLIENTS[name])
        check(token({**MACHINE, **assertion}), 200)
        check(token({**MACHINE, **assertion}), 401, error="invalid_client")
        check(token({**MACHINE, **client_assertion(CLIENTS[name], aud=OP["token_url"])}), 200)
        check(token({**MACHINE, **client_assertion(CLIENTS[name], aud="https://other.test")}), 401)
        check(token({**MACHINE, **client_assertion(CLIENTS[name], exp=1)}), 401)
    other = CLIENTS["es256"] | {"id": CLIENTS["ps256"]["id"]}
    check(token({**MACHINE, **client_assertion(other)}), 401)


@proof
def a_certificate_is_the_client_and_the_token_is_bound_to_it():
    client = CLIENTS["mtls"]
    certificate = (client["certificate"], client["key"])
    form = {**MACHINE, "client_id": client["id"]}
    check(token(form), 401, error="invalid_client")
    value = check(token(form, cert=certificate), 200)["access_token"]
    seen = check(echo(value, cert=certificate), 200)
    assert seen["token"]["cnf"]["x5t#S256"], seen
    check(echo(value), 401, error="invalid_token")


@proof
def a_token_with_proof_of_possession_opens_nothing_without_the_proof():
    client, prove = CLIENTS["dpop"], Possession()
    check(token(MACHINE, headers=basic(client)), 400, error="invalid_grant")
    headers = basic(client) | prove("POST", OP["token_url"])
    value = check(token(MACHINE, headers=headers), 200, token_type="DPoP")["access_token"]
    shown = prove("GET", OP["echo_url"], value)
    check(echo(value, "DPoP", headers=shown), 200, scheme="DPoP")
    check(echo(value, "DPoP", headers=shown), 401, error="invalid_dpop_proof")
    check(echo(value), 401, error="invalid_token")
    check(echo(value, "DPoP", headers=Possession()("GET", OP["echo_url"], value)), 401, error="invalid_dpop_proof")
    check(echo(value, "DPoP", headers=prove("POST", OP["echo_url"], value)), 401, error="invalid_dpop_proof")
    check(echo(value, "DPoP", headers=prove("GET", OP["write_url"], value)), 401, error="invalid_dpop_proof")


@proof
def a_nonce_is_asked_for_when_the_control_says_so():
    client, prove = CLIENTS["dpop"], Possession()
    control(dpop_nonce=True)
    refused = token(MACHINE, headers=basic(client) | prove("POST", OP["token_url"]))
    check(refused, 400, error="use_dpop_nonce")
    with_nonce = prove("POST", OP["token_url"], nonce=refused.headers["DPoP-Nonce"])
    value = check(token(MACHINE, headers=basic(client) | with_nonce), 200)["access_token"]
    refused = echo(value, "DPoP", headers=prove("GET", OP["echo_url"], value))
    check(refused, 401, error="use_dpop_nonce")
    with_nonce = prove("GET", OP["echo_url"], value, nonce=refused.headers["DPoP-Nonce"])
    check(echo(value, "DPoP", headers=with_nonce), 200)
    control(reset=True)


@proof
def a_token_for_a_resource_is_a_jwt():
    form = {**MACHINE, "resource": OP["resource"]}
    value = check(token(form, headers=basic(CLIENTS["basic"])), 200)["access_token"]
    seen = check(echo(value), 200)["token"]
    assert (seen["format"], seen["aud"]) == ("jwt", OP["resource"]), seen
    check(echo(value[:-4] + "AAAA"), 401, error="invalid_token")
    form["resource"] = "https://other.test"
    check(token(form, headers=basic(CLIENTS["basic"])), 400, error="invalid_target")


@proof
def the_api_tells_missing_from_dead_and_from_too_narrow():
    value = check(token(MACHINE, headers=basic(CLIENTS["basic"])), 200)["access_token"]
    refused = get(OP["echo_url"])
    check(refused, 401)
    assert refused.headers["WWW-Authenticate"] == "Bearer", refused.headers
    refused = echo("no-such-token")
    assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"], refused.headers
    refused = echo(value, url=OP["write_url"])
    check(refused, 403, error="insufficient_scope")
    assert 'scope="write"' in refused.headers["WWW-Authenticate"], refused.headers


@proof
def a_token_lives_as_long_as_the_control_says():
    control(access_token_ttl=1)
    value = check(token(MACHINE, headers=basic(CLIENTS["basic"])), 200, expires_in=1)["access_token"]
    deadline = time.monotonic() + 5
    while echo(value).status_code == 200:
        assert time.monotonic() < deadline, "it does not end"
        time.sleep(0.1)
    control(reset=True)


@proof
def a_token_is_introspected_and_revoked():
    headers = basic(CLIENTS["basic"])
    value = check(token(MACHINE, headers=headers), 200)["access_token"]
    check(post(OP["introspection_url"], data={"token": value}, headers=headers), 200, active=True, scope="read")
    check(post(OP["revocation_url"], data={"token": value}, headers=headers), 200)
    check(post(OP["introspection_url"], data={"token": value}, headers=headers), 200, active=False)
    check(echo(value), 401, error="invalid_token")


@proof
def a_trusted_token_is_exchanged():
    form = {"grant_type": EXCHANGE, "subject_token": workload(), "subject_token_type": f"{TYPE}jwt", "scope": "read"}
    headers = basic(CLIENTS["exchange"])
    got = check(token(form, headers=headers), 200, issued_token_type=f"{TYPE}access_token")
    assert check(echo(got["access_token"]), 200)["token"]["sub"] == "robin"
    form |= {"audience": OP["resource"], "actor_token": workload(sub="agent"), "actor_token_type": f"{TYPE}jwt"}
    seen = check(echo(check(token(form, headers=headers), 200)["access_token"]), 200)["token"]
    assert (seen["format"], seen["sub"], seen["act"]["sub"]) == ("jwt", "robin", "agent"), seen
    again = form | {"subject_token": got["access_token"], "subject_token_type": f"{TYPE}access_token"}
    check(token(again, headers=headers), 200)
    for wrong in (workload(aud="https://other.test"), workload(exp=1), workload(iss="https://other.test"), "rubbish"):
        check(token(form | {"subject_token": wrong}, headers=headers), 400, error="invalid_grant")


@proof
def an_assertion_is_a_grant_once_and_not_for_long():
    form = {"grant_type": BEARER, "assertion": workload(), "scope": "read"}
    got = check(token(form), 200, scope="read")
    assert check(echo(got["access_token"]), 200)["token"]["client_id"] == CLIENTS["federated"]["id"]
    check(token(form), 400, error="invalid_grant")
    now = int(time.time())
    for wrong in (workload(exp=now - 10), workload(aud="https://other.test"), workload(exp=now + 7200)):
        check(token(form | {"assertion": wrong}), 400, error="invalid_grant")
    check(post(OP["json_token_url"], json=form | {"assertion": workload()}), 200)
    behalf = workload(aud=CLIENTS["exchange"]["id"])
    form |= {"assertion": behalf, "requested_token_use": "on_behalf_of"}
    check(token(form, headers=basic(CLIENTS["exchange"])), 200)
    check(token(form), 400, error="invalid_grant")


@proof
def another_issuer_is_trusted_when_the_control_says_so():
    key = jwk.ECKey.generate_key("P-256", {"kid": "late", "alg": "ES256"})
    issuer, now = "https://late.test", int(time.time())
    claims = {"iss": issuer, "sub": "late", "aud": OP["token_url"], "iat": now, "exp": now + 60}
    form = {"grant_type": BEARER, "assertion": jwt.encode({"alg": "ES256", "kid": "late"}, claims, key)}
    check(token(form), 400, error="invalid_grant")
    control(trust=[{"issuer": issuer, "jwks": {"keys": [key.as_dict(private=False)]}}])
    check(token(form), 200)
    control(reset=True)
