"""The scripted provider: it says what it is told to, as often as it is told, and keeps what it was asked."""

from . import SERVERS, check, get, post, proof

MOCK = SERVERS["mock"]
FORM = {"grant_type": "client_credentials", "scope": "read"}


def script(*lines: dict) -> None:
    check(post(f"{MOCK['control']}/reset"), 200)
    assert post(f"{MOCK['control']}/script", json=lines).status_code == 200


def token(form: dict = FORM):
    return post(MOCK["token_url"], data=form)


@proof
def without_a_script_it_is_the_server_that_it_wraps():
    script()
    assert check(token(), 200, token_type="Bearer", expires_in=3600)["access_token"].count(".") == 2
    assert check(token({"grant_type": "password", "username": "a", "password": "b"}), 200)["refresh_token"]
    check(post(MOCK["token_url"], json=FORM), 200)
    check(token({"grant_type": "unknown"}), 400, error="invalid_grant")
    assert get(f"{MOCK['url']}/jwks").json()["keys"]


@proof
def slack_says_200_when_it_means_no():
    script({"body": {"ok": False, "error": "token_expired"}})
    check(token(), 200, ok=False, error="token_expired")
    check(token(), 200, token_type="Bearer")


@proof
def a_member_can_be_missing_added_or_another():
    script({"drop": ["expires_in"], "merge": {"token_type": "bot", "instance_url": "https://eu.mock.test"}})
    got = check(token(), 200, token_type="bot", instance_url="https://eu.mock.test")
    assert "expires_in" not in got and got["access_token"], got


@proof
def a_body_can_be_of_any_shape():
    script(
        {"body": {"data": {"accessToken": "nested", "expiresIn": "60"}}},
        {"body": "access_token=form&scope=read", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"status": 400, "body": ""},
        {"status": 502, "body": "<html>bad gateway</html>", "headers": {"Content-Type": "text/html"}, "times": 2},
    )
    check(token(), 200, data={"accessToken": "nested", "expiresIn": "60"})
    answer = token()
    assert (answer.text, answer.headers["Content-Type"]) == (
        "access_token=form&scope=read", "application/x-www-form-urlencoded"
    )  # fmt: skip
    answer = token()
    assert (answer.status_code, answer.text) == (400, ""), answer.text
    assert [token().status_code for _ in range(3)] == [502, 502, 200]


@proof
def any_path_can_be_scripted_and_all_requests_are_kept():
    always = {"path": "/oauth/v2/access", "body": {"access_token": "other"}, "times": 0}
    script(always, {"path": "/api/me", "status": 401})
    for _ in range(3):
        check(post(f"{MOCK['url']}/oauth/v2/access", data=FORM), 200, access_token="other")
    headers = {"Authorization": "Bearer other"}
    assert get(f"{MOCK['api_url']}me?a=b", headers=headers).status_code == 401
    check(get(f"{MOCK['api_url']}me", headers=headers), 200, ok=True)
    kept = get(f"{MOCK['control']}/requests").json()
    assert [one["target"] for one in kept] == ["/oauth/v2/access"] * 3 + ["/api/me?a=b", "/api/me"], kept
    assert kept[3]["headers"]["authorization"] == "Bearer other", kept[3]
    assert kept[0]["body"] == "grant_type=client_credentials&scope=read", kept[0]
    assert get(f"{MOCK['control']}/requests").json() == []
    script()
