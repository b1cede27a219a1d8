"""The double of Vault: the real client takes it for one."""

import time

import hvac
from hvac import exceptions

from . import SERVERS, check, get, post, proof, signed

VAULT = SERVERS["vault"]
ROLES = VAULT["roles"]
STORED = {(namespace, path): data for namespace, path, data in VAULT["secrets"]}


def control(**asked) -> dict:
    return check(post(f"{VAULT['control']}/control", json=asked), 200)


def client(token: str | None = None, namespace: str | None = None) -> hvac.Client:
    return hvac.Client(VAULT["url"], token=token, namespace=namespace, verify=SERVERS["ca"])


def account(**claims) -> str:
    role = ROLES["kubernetes"]
    return signed(VAULT["jwt_key"], {"sub": role["subject"], "aud": [role["audience"]]} | claims)


def logged_in(namespace: str | None = None) -> hvac.Client:
    """Takes the token along."""
    vault, role = client(namespace=namespace), ROLES["approle"]
    vault.auth.approle.login(role["role_id"], role["secret_id"])
    return vault


def read(vault: hvac.Client, path: str = "egret/api", **more) -> dict:
    return vault.secrets.kv.v2.read_secret_version(path, raise_on_deleted_version=True, **more)["data"]


def refused(kind: type, call, *arguments, **more) -> str:
    try:
        call(*arguments, **more)
    except kind as error:
        return str(error)
    raise AssertionError("it was not refused")


@proof
def a_role_logs_in_in_three_ways():
    control(reset=True)
    vault = client()
    for login in (vault.auth.kubernetes.login, vault.auth.jwt.jwt_login):
        got = login("egret", account())["auth"]
        assert got["renewable"] and got["lease_duration"] == 600, got
        assert read(client(got["client_token"]))["data"] == STORED["", "egret/api"]
    assert read(logged_in())["data"] == STORED["", "egret/api"]


@proof
def a_login_that_is_not_good_is_refused():
    vault, role = client(), ROLES["approle"]
    for wrong in ({"aud": "other"}, {"exp": 1}):
        refused(exceptions.Forbidden, vault.auth.kubernetes.login, "egret", account(**wrong))
        refused(exceptions.InvalidRequest, vault.auth.jwt.jwt_login, "egret", account(**wrong))
    other = account(sub="system:serviceaccount:agents:other")
    assert "not authorized" in refused(exceptions.Forbidden, vault.auth.kubernetes.login, "egret", other)
    tampered = account().rpartition(".")[0] + "." + account().rpartition(".")[2]
    refused(exceptions.InvalidRequest, vault.auth.jwt.jwt_login, "egret", tampered)
    refused(exceptions.InvalidRequest, vault.auth.jwt.jwt_login, "other", account())
    refused(exceptions.InvalidRequest, vault.auth.approle.login, role["role_id"], "wrong")


@proof
def a_secret_has_versions():
    control(reset=True, write=[{"path": "egret/api", "data": {"token": "second"}}])
    vault = logged_in()
    found = read(vault)
    assert (found["data"], found["metadata"]["version"]) == ({"token": "second"}, 2), found
    assert read(vault, version=1)["data"] == STORED["", "egret/api"]
    refused(exceptions.InvalidPath, read, vault, version=3)
    control(delete=[{"path": "egret/api"}])
    refused(exceptions.InvalidPath, read, vault)
    gone = vault.secrets.kv.v2.read_secret_version("egret/api", raise_on_deleted_version=False)["data"]
    assert gone["data"] is None and gone["metadata"]["deletion_time"], gone
    root = client(VAULT["root_token"])
    root.secrets.kv.v2.create_or_update_secret("egret/api", {"token": "third"}, cas=2)
    refused(exceptions.InvalidRequest, root.secrets.kv.v2.create_or_update_secret, "egret/api", {}, cas=2)
    root.secrets.kv.v2.destroy_secret_versions("egret/api", [1])
    refused(exceptions.InvalidPath, read, vault, version=1)
    assert read(vault)["data"] == {"token": "third"}


@proof
def forbidden_and_absent_are_two_things():
    vault = logged_in()
    refused(exceptions.Forbidden, read, vault, "other/api")
    refused(exceptions.InvalidPath, read, vault, "egret/none")
    refused(exceptions.Forbidden, read, client("hvs.wrong"))
    refused(exceptions.Forbidden, vault.secrets.kv.v2.create_or_update_secret, "egret/api", {})


@proof
def a_token_is_renewed_up_to_its_end_and_revoked():
    control(reset=True, token_ttl=60, token_max_ttl=100)
    vault = logged_in()
    assert vault.auth.token.renew_self(increment="80s")["auth"]["lease_duration"] == 80
    assert vault.auth.token.renew_self(increment=5000)["auth"]["lease_duration"] in (99, 100)
    assert vault.auth.token.lookup_self()["data"]["ttl"] > 60
    vault.auth.token.revoke_self()
    refused(exceptions.Forbidden, read, vault)
    control(token_ttl=1)
    vault, deadline = logged_in(), time.monotonic() + 5
    while vault.is_authenticated():
        assert time.monotonic() < deadline, "it does not end"
        time.sleep(0.05)
    refused(exceptions.Forbidden, vault.auth.token.renew_self)
    vault = logged_in()
    control(reset=True, revoke_tokens=True)
    refused(exceptions.Forbidden, read, vault)


@proof
def dynamic_credentials_have_a_lease():
    control(reset=True, lease_ttl=60, lease_max_ttl=100)
    vault = logged_in()
    got, other = (vault.secrets.database.generate_credentials("readonly") for _ in range(2))
    assert got["data"]["username"] != other["data"]["username"]
    assert (got["renewable"], got["lease_duration"]) == (True, 60), got
    assert vault.sys.renew_lease(got["lease_id"], increment=5000)["lease_duration"] in (99, 100)
    vault.sys.revoke_lease(got["lease_id"])
    refused(exceptions.InvalidRequest, vault.sys.renew_lease, got["lease_id"])
    vault.auth.token.revoke_self()
    refused(exceptions.InvalidRequest, logged_in().sys.renew_lease, other["lease_id"])


@proof
def a_sealed_vault_answers_nothing():
    vault = logged_in()
    control(sealed=True)
    refused(exceptions.VaultDown, read, vault)
    assert vault.sys.read_health_status(method="GET").status_code == 503
    assert vault.sys.is_sealed()
    control(sealed=False)
    assert read(vault)["data"]


@proof
def a_namespace_is_a_vault_of_its_own():
    control(reset=True)
    team = logged_in("team")
    assert read(team)["data"] == STORED["team", "egret/api"]
    refused(exceptions.Forbidden, read, client(team.token))
    url = f"{VAULT['url']}/v1/team/secret/data/egret/api"
    found = check(get(url, headers={"X-Vault-Token": team.token}), 200)
    assert found["data"]["data"] == STORED["team", "egret/api"], found
    refused(exceptions.InvalidPath, logged_in, "unknown")
    counted = get(f"{VAULT['control']}/counts").json()["requests"]
    assert counted["POST auth/approle/login"] == 1, counted
